use buttress_rate_limit::{Limit, Policy, SlidingWindow};
use proptest::prelude::*;

use crate::oracle::{Grid, Weigh};
use crate::trace::{admitted, agree, all, calls, play};
use crate::{TEN_YEARS, at, cases, lengths, limits};

pub(crate) fn windows() -> impl Strategy<Value = SlidingWindow> {
    (limits(), lengths()).prop_map(|(limit, length)| SlidingWindow::new(limit, length))
}

fn model(window: &SlidingWindow) -> Grid {
    Grid::new(Weigh::Counter, window.limit(), window.window().as_nanos() as u64).most(u32::MAX)
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    #[test]
    fn equals_the_exact_model_step_by_step(window in windows(), start in 0..TEN_YEARS, steps in all()) {
        agree(&window, model(&window), start, TEN_YEARS, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(30, 10_000))]

    // In one word where it fits.
    #[test]
    fn equals_the_exact_model_as_a_limit_too(window in windows(), start in 0..TEN_YEARS, steps in all()) {
        agree(&Limit::from(window), model(&window), start, TEN_YEARS, steps)?;
    }

    #[test]
    fn never_admits_more_than_its_bound_in_any_interval(
        window in windows(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let calls = admitted(&window, start, TEN_YEARS, steps);
        let (limit, length) = (u128::from(window.limit()), window.window().as_nanos());
        for (first, &(from, _)) in calls.iter().enumerate() {
            let mut sum = 0;
            for &(to, cost) in calls[first..].iter().take_while(|call| u128::from(call.0 - from) < length) {
                sum += cost;
                prop_assert!(sum * length <= limit * (length + u128::from(to - from)));
                prop_assert!(sum < 2 * limit || to == from);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_admits_no_more_than_one_that_stands_still(
        window in windows(),
        times in prop::collection::vec(prop_oneof![0..TEN_YEARS, 0_u64..20_000_000_000], 100),
    ) {
        let (mut jumping, mut standing, mut latest) = (Default::default(), Default::default(), 0);
        let (mut passed, mut at_most) = (0, 0);
        for now in times {
            latest = latest.max(now);
            passed += u32::from(window.charge(&mut jumping, at(now), 1));
            at_most += u32::from(window.charge(&mut standing, at(latest), 1));
            prop_assert!(passed <= at_most);
        }
    }

    #[test]
    fn a_key_that_was_idle_for_two_windows_cannot_be_told_from_a_fresh_one(
        window in windows(), start in 0..TEN_YEARS, steps in calls(), cost: u32,
    ) {
        for call in play(&window, start, TEN_YEARS, steps) {
            let later = at(call.now) + 2 * window.window();
            let (mut old, mut fresh) = (call.after, Default::default());
            prop_assert_eq!(window.debt(&old, later), 0);
            prop_assert_eq!(window.decide(&mut old, later, cost), window.decide(&mut fresh, later, cost));
        }
    }

    #[test]
    fn any_time_is_answered_without_a_panic(
        window in windows(), times in prop::collection::vec((any::<u64>(), any::<u32>()), 10),
    ) {
        let (limit, mut state, mut wide) = (Limit::from(window), Default::default(), Default::default());
        for (now, cost) in times {
            let now = at(now);
            window.charge(&mut wide, now, cost);
            window.refund(&mut wide, now, now, cost / 2);
            window.force(&mut wide, now, cost);
            limit.charge(&mut state, now, cost);
            limit.refund(&mut state, now, now, cost / 2);
            limit.force(&mut state, now, cost);
            prop_assert_eq!(window.left(&wide, now), limit.left(&state, now));
            prop_assert_eq!(window.retry_after(&wide, now, cost), limit.retry_after(&state, now, cost));
        }
    }
}
