use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{FixedWindow, Limit, Policy};
use proptest::prelude::*;

use crate::oracle::{Grid, Weigh};
use crate::trace::{STEPS, admitted, agree, all, calls, most_in, play};
use crate::{TEN_YEARS, at, cases, lengths, limits};

pub(crate) fn windows() -> impl Strategy<Value = FixedWindow> {
    let phase = prop_oneof![Just(0_u64), any::<u64>()];
    (limits(), lengths(), phase).prop_filter_map("cannot work", |(limit, window, phase)| {
        Some(FixedWindow::try_new(limit, window).ok()?.phase(Duration::from_nanos(phase)))
    })
}

fn model(window: &FixedWindow) -> Grid {
    Grid::new(Weigh::Fixed, window.limit(), window.window().as_nanos() as u64)
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    #[test]
    fn equals_the_exact_model_step_by_step(window in windows(), start in 0..TEN_YEARS, steps in all()) {
        agree(&window, model(&window), start, TEN_YEARS, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(30, 2_000))]

    #[test]
    fn equals_the_exact_model_as_a_limit_too(window in windows(), start in 0..TEN_YEARS, steps in all()) {
        agree(&Limit::from(window), model(&window), start, TEN_YEARS, steps)?;
    }

    #[test]
    fn never_admits_more_than_twice_the_limit_in_an_interval_as_long_as_a_window(
        window in windows(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let calls = admitted(&window, start, TEN_YEARS, steps);
        prop_assert!(most_in(&calls, window.window()) <= 2 * u128::from(window.limit()));
    }

    #[test]
    fn a_clock_that_jumps_never_admits_more_than_the_limit_per_window_it_has_reached(
        window in windows(),
        times in prop::collection::vec(prop_oneof![0..TEN_YEARS, 0_u64..20_000_000_000], STEPS),
    ) {
        let (mut state, mut admitted, mut reached) = (0, 0_u128, std::collections::BTreeSet::new());
        let mut latest = 0;
        for now in times {
            latest = latest.max(u128::from(now) / window.window().as_nanos());
            reached.insert(latest);
            admitted += u128::from(window.charge(&mut state, at(now), 1));
        }
        prop_assert!(admitted <= reached.len() as u128 * u128::from(window.limit()));
    }

    #[test]
    fn a_key_that_was_idle_for_a_window_cannot_be_told_from_a_fresh_one(
        window in windows(), start in 0..TEN_YEARS, steps in calls(), cost: u32,
    ) {
        for call in play(&window, start, TEN_YEARS, steps) {
            let later = at(call.now) + call.ruling.reset();
            let (mut old, mut fresh) = (call.after, 0);
            prop_assert_eq!(window.debt(&old, later), 0);
            prop_assert_eq!(window.decide(&mut old, later, cost), window.decide(&mut fresh, later, cost));
        }
    }

    #[test]
    fn a_refund_at_the_same_moment_restores_an_equivalent_state(
        window in windows(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        for call in play(&window, start, TEN_YEARS, steps) {
            if call.ruling.admitted() {
                let (now, mut before, mut refunded) = (at(call.now), call.before, call.after);
                window.refund(&mut refunded, now, now, call.cost);
                prop_assert_eq!(window.debt(&refunded, now), window.debt(&before, now));
                prop_assert_eq!(window.decide(&mut refunded, now, 1), window.decide(&mut before, now, 1));
            }
        }
    }

    #[test]
    fn a_key_has_its_grid_within_one_window(limit in limits(), length in lengths(), hash: u64) {
        if let Ok(window) = FixedWindow::try_new(limit, length) {
            prop_assert!(window.shift(hash) < length);
        }
    }

    #[test]
    fn any_input_is_answered_without_a_panic(
        window in windows(), before: u64, charged: u64, now: u64, cost: u32,
    ) {
        let (mut state, now) = (before, at(now));
        let ruling = window.decide(&mut state, now, cost);
        prop_assert!(ruling.remaining() <= window.limit());
        prop_assert!(ruling.admitted() || state == before);
        window.refund(&mut state, at(charged), now, cost);
        window.force(&mut state, now, cost);
        let _ = (window.left(&state, now), window.retry_after(&state, now, cost), window.debt(&state, now));
    }
}
