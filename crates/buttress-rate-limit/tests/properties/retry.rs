use std::cell::Cell;
use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{Limit, LimitState, Policy};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::trace::{Player, calls};
use crate::{TEN_YEARS, at, cases, full};
use crate::{fixed_window, leaky_bucket, sliding_log, sliding_strict, sliding_window, token_bucket};

/// Limits of every kind, and whether each is a queue.
pub(crate) fn kinds() -> impl Strategy<Value = (Limit, bool)> {
    let meters = prop_oneof![
        token_bucket::buckets().prop_map(Limit::from).boxed(),
        fixed_window::windows().prop_map(Limit::from).boxed(),
        sliding_log::logs().prop_map(Limit::from).boxed(),
        sliding_strict::windows().prop_map(Limit::from).boxed(),
        sliding_window::windows().prop_map(Limit::from).boxed(),
    ];
    let queues = leaky_bucket::shapers().prop_map(|(_, (shaper, ..))| Limit::from(shaper));
    prop_oneof![5 => meters.prop_map(|limit| (limit, false)), 1 => queues.prop_map(|limit| (limit, true))]
        .boxed()
}

pub(crate) fn limits() -> impl Strategy<Value = Limit> {
    kinds().prop_map(|(limit, _)| limit)
}

#[test]
fn a_lone_client_that_waits_the_whole_seconds_of_retry_after_always_passes() {
    let refused = Cell::new(0_u64);
    let trace = (limits(), any::<u64>(), 0..TEN_YEARS / 2, calls());
    let config = ProptestConfig { source_file: Some(file!()), ..cases(100, 60_000) };

    let result = TestRunner::new(config).run(&trace, |(limit, hash, start, steps)| {
        let mut player = Player::new(&limit, start, TEN_YEARS / 2);
        let mut state = LimitState::default();
        for step in steps {
            let (now, cost) = player.next(step);
            let local = at(now) + limit.shift(hash);
            let ruling = limit.decide(&mut state, local, cost);
            player.heard(&ruling);
            let Some(wait) = ruling.retry_after() else { continue };

            prop_assert!(!wait.is_zero());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let then = local + Duration::from_secs(seconds);
            // Nobody comes back after the ten years that the words are made for.
            if then < at(TEN_YEARS) {
                prop_assert!(limit.charge(&mut state.clone(), then, cost));
                refused.set(refused.get() + 1);
            }
        }
        Ok(())
    });

    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(!full() || refused.get() >= 1_000_000, "{} refusals", refused.get());
}
