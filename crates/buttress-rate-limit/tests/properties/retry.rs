use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{Limit, Policy};
use proptest::prelude::*;

use crate::trace::{Player, calls};
use crate::{TEN_YEARS, at, cases};
use crate::{fixed_window, leaky_bucket, sliding_log, sliding_strict, sliding_window, token_bucket};

/// Limits of every kind.
pub(crate) fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![
        token_bucket::buckets().prop_map(Limit::from).boxed(),
        leaky_bucket::shapers().prop_map(|(_, (shaper, ..))| Limit::from(shaper)).boxed(),
        fixed_window::windows().prop_map(Limit::from).boxed(),
        sliding_log::logs().prop_map(Limit::from).boxed(),
        sliding_strict::windows().prop_map(Limit::from).boxed(),
        sliding_window::windows().prop_map(Limit::from).boxed(),
    ]
}

proptest! {
    #![proptest_config(cases(100, 60_000))]

    // About a third of the calls are refused: more than 10⁶ in the full run.
    #[test]
    fn a_lone_client_that_waits_the_whole_seconds_of_retry_after_always_passes(
        limit in limits(), hash: u64, start in 0..TEN_YEARS / 2, steps in calls(),
    ) {
        let mut player = Player::new(&limit, start, TEN_YEARS / 2);
        let mut state = Default::default();
        for step in steps {
            let (now, cost) = player.next(step);
            let local = at(now) + limit.shift(hash);
            let ruling = limit.decide(&mut state, local, cost);
            player.heard(&ruling);
            if let Some(wait) = ruling.retry_after() {
                prop_assert!(!wait.is_zero());
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                // What a field can say: a hundred years and more are told, but nobody comes back.
                if local.as_nanos() + seconds * 1_000_000_000 < TEN_YEARS {
                    let then = local + Duration::from_secs(seconds);
                    prop_assert!(limit.charge(&mut state.clone(), then, cost));
                }
            }
        }
    }
}
