//! One that has just become usable gets its traffic bit by bit.

use std::time::Duration;

use buttress_balance::{Ramp, SlowStart};
use buttress_core::{EndpointId, Timestamp};
use proptest::prelude::*;

use crate::hashes;

const START: Timestamp = Timestamp::from_nanos(7);

fn share(slow_start: &SlowStart, after: Duration) -> f64 {
    slow_start.ramp(START, START + after).share()
}

#[test]
fn it_grows_evenly_from_a_tenth_over_half_a_minute() {
    let slow_start = SlowStart::default();
    let after = |seconds| share(&slow_start, Duration::from_secs_f64(seconds));

    for (seconds, expected) in
        [(0.0, 0.1), (1.0, 0.1), (3.0, 0.1), (6.0, 0.2), (15.0, 0.5), (29.0, 29.0 / 30.0), (30.0, 1.0)]
    {
        assert!((after(seconds) - expected).abs() < 1e-6, "{seconds} s: {}", after(seconds));
    }
}

#[test]
fn aggression_makes_it_grow_fast_at_first() {
    let slow_start = SlowStart::default().aggression(2.0).least_percent(0);

    assert!((share(&slow_start, Duration::from_secs_f64(7.5)) - 0.5).abs() < 1e-6, "the root of a quarter");
    assert_eq!(share(&slow_start, Duration::ZERO), 0.0);
    assert!(
        (share(&slow_start.aggression(0.5), Duration::from_secs(15)) - 0.25).abs() < 1e-6,
        "the square of a half"
    );
}

#[test]
fn what_always_was_usable_has_none_and_neither_has_anyone_where_it_is_off() {
    assert_eq!(SlowStart::default().ramp(Timestamp::ZERO, START), Ramp::FULL);
    assert_eq!(SlowStart::off().ramp(START, START), Ramp::FULL);
}

#[test]
fn a_clock_that_is_set_back_begins_it_anew() {
    let later = START + Duration::from_secs(100);

    assert!((SlowStart::default().ramp(later, START).share() - 0.1).abs() < 1e-6);
}

#[test]
fn endpoints_take_different_hashes_and_as_many_as_their_share() {
    let half = SlowStart::default().ramp(START, START + Duration::from_secs(15));
    let (one, other) = (EndpointId::new(1), EndpointId::new(u64::MAX / 3));

    let count = |takes: &dyn Fn(u64) -> bool| hashes(10_000).filter(|&hash| takes(hash)).count();
    assert!((4800..5200).contains(&count(&|hash| half.accepts(hash, one))));
    assert!((4800..5200).contains(&count(&|hash| half.accepts(hash, other))));
    assert!((2300..2700).contains(&count(&|hash| half.accepts(hash, one) && half.accepts(hash, other))));
}

#[test]
#[should_panic(expected = "aggression 0")]
fn no_aggression_is_refused() {
    let _ = SlowStart::default().aggression(0.0);
}

proptest! {
    #[test]
    fn a_hash_that_came_stays(
        hash in any::<u64>(), id in any::<u64>(), window in 1..u64::MAX, first in any::<u64>(), later in any::<u64>(),
        aggression in 0.1..10.0,
    ) {
        let slow_start = SlowStart::new(Duration::from_nanos(window)).aggression(aggression);
        let (first, later) = (first.min(later), first.max(later));
        let ramp = |after| slow_start.ramp(START, START + Duration::from_nanos(after));

        prop_assert!(ramp(first) <= ramp(later));
        let endpoint = EndpointId::new(id);
        prop_assert!(!ramp(first).accepts(hash, endpoint) || ramp(later).accepts(hash, endpoint));
        prop_assert!(Ramp::FULL.accepts(hash, endpoint));
    }
}
