//! The algorithms told as stories, and the inputs at the edge. No runtime is needed: the time is an argument.

mod bad_settings;
mod edges;
mod fixed_window;
mod leaky_bucket;
mod limit_change;
mod sliding_log;
mod sliding_strict;
mod sliding_window;
mod token_bucket;

use std::time::{Duration, SystemTime};

use buttress_core::{Decided, Timestamp};
use buttress_rate_limit::{
    CarryOver, FixedWindow, Gcra, LeakyBucket, Limit, LimitState, Policy, RateLimitLayer, Ruling, SlidingLog,
    SlidingStrict, SlidingWindow,
};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn at(time: Duration) -> Timestamp {
    Timestamp::ZERO + time
}

/// Calls of cost 1 that pass at `now`.
fn spend_all<P: Policy>(policy: &P, state: &mut P::State, now: Timestamp) -> u64 {
    let mut passed = 0;
    while policy.charge(state, now, 1) {
        passed += 1;
    }
    passed
}

/// Charges `state`, and gives the state that follows beside the outcome.
fn decide<P: Policy<State: Clone>>(
    policy: &P,
    state: &P::State,
    now: Timestamp,
    cost: u32,
) -> (P::State, Ruling) {
    let mut state = state.clone();
    let ruling = policy.decide(&mut state, now, cost);
    (state, ruling)
}

fn refund<P: Policy<State: Clone>>(
    policy: &P,
    state: &P::State,
    at: Timestamp,
    now: Timestamp,
    cost: u32,
) -> P::State {
    let mut state = state.clone();
    policy.refund(&mut state, at, now, cost);
    state
}

fn fresh<P: Policy>(_: &P) -> P::State {
    P::State::default()
}
