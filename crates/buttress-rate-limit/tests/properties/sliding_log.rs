use buttress_core::Decided;
use buttress_rate_limit::{Limit, Policy, SlidingLog};
use proptest::prelude::*;

use crate::oracle::Log;
use crate::trace::{admitted, agree, all, calls, jumpy_calls, most_in, play};
use crate::{EONS, at, cases, lengths};

pub(crate) fn logs() -> impl Strategy<Value = SlidingLog> {
    let limit = prop_oneof![4 => 1_u64..=5, 4 => 1_u64..=50, 1 => 1_u64..=1024];
    (limit, lengths()).prop_map(|(limit, window)| SlidingLog::new(limit, window))
}

fn model(log: &SlidingLog) -> Log {
    Log::new(log.limit(), log.window().as_nanos() as u64)
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    #[test]
    fn equals_the_exact_model_step_by_step(log in logs(), start in 0..EONS, steps in all()) {
        agree(&log, model(&log), start, EONS, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(30, 2_000))]

    #[test]
    fn equals_the_exact_model_as_a_limit_too(log in logs(), start in 0..EONS, steps in all()) {
        agree(&Limit::from(log), model(&log), start, EONS, steps)?;
    }

    // Whatever the clock does.
    #[test]
    fn never_admits_more_than_the_limit_in_any_interval_as_long_as_the_window(
        log in logs(), start in 0..EONS, steps in jumpy_calls(),
    ) {
        let calls = admitted(&log, start, EONS, steps);
        prop_assert!(most_in(&calls, log.window()) <= u128::from(log.limit()));
    }

    // The other half of exact: none is refused that would have fitted.
    #[test]
    fn a_refusal_means_that_the_window_is_full(log in logs(), start in 0..EONS, steps in calls()) {
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for call in play(&log, start, EONS, steps) {
            let (now, cost) = (call.now, u64::from(call.cost));
            if call.ruling.admitted() {
                passed.push((now, cost));
            } else {
                let inside = passed.iter().filter(|(time, _)| at(*time) + log.window() > at(now));
                prop_assert!(inside.map(|(_, cost)| cost).sum::<u64>() + cost > log.limit());
            }
        }
    }

    #[test]
    fn a_refund_at_the_same_moment_restores_an_equivalent_state(
        log in logs(), start in 0..EONS, steps in calls(), later in 0..EONS,
    ) {
        for call in play(&log, start, EONS, steps) {
            let (now, before, mut refunded) = (at(call.now), call.before, call.after);
            if call.ruling.admitted() {
                log.refund(&mut refunded, now, now, call.cost);
                for then in [now, now + log.window() / 2, at(call.now.saturating_add(later))] {
                    prop_assert_eq!(log.left(&refunded, then), log.left(&before, then));
                    prop_assert_eq!(log.debt(&refunded, then), log.debt(&before, then));
                }
            }
        }
    }

    #[test]
    fn any_time_is_answered_without_a_panic(
        log in logs(), times in prop::collection::vec((any::<u64>(), any::<u32>()), 10),
    ) {
        let mut state = Default::default();
        for (now, cost) in times {
            let (now, some) = (at(now), cost % 2048);
            log.charge(&mut state, now, some);
            log.refund(&mut state, now, now, cost / 2);
            log.force(&mut state, now, some);
            let _ = (log.left(&state, now), log.retry_after(&state, now, cost), log.debt(&state, now));
        }
    }
}
