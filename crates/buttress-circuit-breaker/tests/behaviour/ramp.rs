use super::*;

/// Past the probes, on the first step.
fn ramping(ramp: Ramp) -> Rig<CircuitBreaker<OnCall<Echo>>> {
    let rig = rig(CircuitBreakerLayer::failure_rate(0.5)
        .minimum_calls(2)
        .open_for(5 * SECOND, MINUTE)
        .jitter(0.0)
        .probes(1)
        .ramp(ramp));
    rig.fail(2);
    rig.time.advance(5 * SECOND);
    rig.succeed(1);
    assert_eq!(rig.state(), State::Ramping);
    rig
}

/// How many of a thousand calls pass, in percent.
fn share<S>(rig: &Rig<S>) -> u32
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    (0..1000).filter(|_| rig.passes()).count() as u32 / 10
}

#[test]
fn calls_come_back_in_steps_that_last_a_time() {
    let rig = ramping(Ramp::Time(10 * SECOND));

    // Chance decides: the bounds are ten standard deviations away.
    for (lets_through, bounds) in [(10, 1..21), (25, 11..39), (50, 34..66), (100, 100..101)] {
        assert_eq!(rig.handle.view().lets_through, lets_through);
        assert!(bounds.contains(&share(&rig)), "{lets_through} %");
        rig.time.advance(10 * SECOND);
    }

    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn or_until_so_many_calls_are_judged() {
    let rig = ramping(Ramp::Calls(20));

    for lets_through in [10, 25, 50, 100] {
        assert_eq!(rig.handle.view().lets_through, lets_through);
        let passed = std::iter::repeat_with(|| rig.passes()).take(10_000).filter(|passed| *passed);
        assert_eq!(passed.take(20).count(), 20);
    }

    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn a_share_that_is_held_back_may_be_tried_elsewhere() {
    let rig = ramping(Ramp::Time(10 * SECOND));

    let refusal = std::iter::repeat_with(|| rig.call(1)).find_map(Result::err).expect("one is held back");

    let refusal = refusal.rejection().expect("by the breaker");
    assert_eq!((refusal.kind, refusal.elsewhere), (RejectionKind::CircuitOpen, true));
    assert_eq!(rig.state(), State::Ramping, "and moves nothing");
}

#[test]
fn a_step_that_fails_opens_it_for_longer() {
    let rig = ramping(Ramp::Calls(4));

    while rig.state() == State::Ramping {
        rig.inner.fail("out of paper".into());
        let _ = rig.call(1);
    }

    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.refusal().retry_after, Some(10 * SECOND));
}
