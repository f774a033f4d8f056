//! b. Calls that are dropped before they are judged.

use super::*;

#[test]
fn nothing_is_counted_and_a_probe_is_given_back() {
    let rig = rig(simple());
    rig.fail(2);
    rig.time.advance(5 * SECOND);

    for _ in 0..10 {
        drop(rig.held(1));
        assert_eq!(rig.handle.view().probes_in_flight, 0);
    }
    assert_eq!((rig.state(), rig.handle.counts().abandoned), (State::HalfOpen, 10));

    rig.inner.release();
    rig.succeed(1);
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn one_that_was_never_polled_is_given_back_too() {
    let mut rig = rig(simple());
    rig.fail(2);
    rig.time.advance(5 * SECOND);

    drop(rig.service.call(1));

    assert_eq!(rig.handle.view().probes_in_flight, 0);
    rig.succeed(1);
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn one_that_waits_for_the_service_is_given_back_too() {
    let rig = rig(simple());
    rig.fail(2);
    rig.time.advance(5 * SECOND);
    rig.inner.not_ready();
    let mut call = rig.start(1);
    assert!(call.run().is_pending());
    assert_eq!(rig.handle.view().probes_in_flight, 1);

    drop(call);

    assert_eq!((rig.handle.view().probes_in_flight, rig.inner.waiting()), (0, 0));
}

fn failing_when_slow() -> CircuitBreakerLayer {
    simple().slow_calls(SECOND, 1.0).on_drop(OnDrop::FailWhenSlow)
}

#[test]
fn by_option_one_that_was_slow_already_has_failed() {
    let rig = rig(failing_when_slow());

    for _ in 0..2 {
        let call = rig.held(1);
        rig.time.advance(SECOND);
        drop(call);
    }

    assert_eq!(rig.state(), State::Open);
    let counts = rig.handle.counts();
    assert_eq!((counts.failed, counts.slow, counts.abandoned), (2, 2, 0));
}

#[test]
fn and_one_that_was_not_is_given_back() {
    let rig = rig(failing_when_slow());

    for _ in 0..10 {
        let call = rig.held(1);
        rig.time.advance(SECOND - Duration::from_nanos(1));
        drop(call);
    }

    assert_eq!((rig.state(), rig.handle.counts().abandoned), (State::Closed, 10));
}
