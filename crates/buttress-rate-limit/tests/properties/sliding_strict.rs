use buttress_rate_limit::{Limit, Policy, SlidingStrict, SlidingWindow};
use proptest::prelude::*;

use crate::oracle::{Grid, Weigh};
use crate::trace::{admitted, agree, all, calls, most_in, play};
use crate::{EONS, TEN_YEARS, at, cases, lengths, limits};

pub(crate) fn windows() -> impl Strategy<Value = SlidingStrict> {
    let parts = prop_oneof![4 => Just(1_u32), 8 => 1_u32..=6, 8 => 1_u32..=60, 1 => Just(1000)];
    (limits(), lengths(), parts).prop_filter_map("cannot work", |(limit, length, parts)| {
        SlidingWindow::try_strict(limit, length, parts).ok()
    })
}

fn model(window: &SlidingStrict) -> Grid {
    let part = window.part().as_nanos() as u64;
    Grid::new(Weigh::Strict(window.parts().into()), window.limit(), part).most(u32::MAX)
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    #[test]
    fn equals_the_exact_model_step_by_step(window in windows(), start in 0..EONS, steps in all()) {
        agree(&window, model(&window), start, EONS, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(30, 2_000))]

    #[test]
    fn equals_the_exact_model_as_a_limit_too(window in windows(), start in 0..EONS, steps in all()) {
        agree(&Limit::from(window), model(&window), start, EONS, steps)?;
    }

    #[test]
    fn the_parts_cover_the_window_and_little_more(window in windows()) {
        let covered = window.part() * window.parts();
        prop_assert!(covered >= window.window());
        prop_assert!(covered - window.part() < window.window());
    }

    #[test]
    fn never_admits_more_than_the_limit_in_any_interval_as_long_as_the_window(
        window in windows(), start in 0..EONS, steps in calls(),
    ) {
        let calls = admitted(&window, start, EONS, steps);
        prop_assert!(most_in(&calls, window.window()) <= u128::from(window.limit()));
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
    fn a_unit_is_held_no_longer_than_the_window_and_a_part(
        window in windows(), start in 0..EONS, steps in calls(),
    ) {
        for call in play(&window, start, EONS, steps) {
            let later = at(call.now) + window.part() * (window.parts() + 1);
            prop_assert_eq!(window.debt(&call.after, later), 0);
            prop_assert_eq!(window.left(&call.after, later).remaining, window.limit());
        }
    }

    #[test]
    fn any_time_is_answered_without_a_panic(
        window in windows(), times in prop::collection::vec((any::<u64>(), any::<u32>()), 10),
    ) {
        let mut state = Default::default();
        for (now, cost) in times {
            let now = at(now);
            window.charge(&mut state, now, cost);
            window.refund(&mut state, now, now, cost / 2);
            window.force(&mut state, now, cost);
            let _ = (window.left(&state, now), window.retry_after(&state, now, cost));
            prop_assert!(window.debt(&state, now) <= 2 * window.limit());
        }
    }
}
