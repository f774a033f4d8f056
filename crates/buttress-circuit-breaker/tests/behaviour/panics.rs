//! d. Panics.

use super::*;

fn caught<T>(work: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(work)).err().expect("the panic goes on");
    payload.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())
}

#[test]
fn a_panic_in_the_services_call_is_a_failure_and_goes_on() {
    let rig = rig(simple());

    for _ in 0..2 {
        rig.inner.panic_in_call();
        assert!(caught(|| rig.call(1)).contains("panics in call"));
    }

    assert_eq!((rig.state(), rig.handle.counts().panicked), (State::Open, 2));
}

#[test]
fn a_panic_in_its_future_is_a_failure_at_once_and_goes_on() {
    let rig = rig(simple());

    for panicked in 1..=2 {
        let mut call = {
            rig.inner.panic_in_future();
            rig.start(1)
        };
        assert!(caught(|| call.run()).contains("panics in its future"));
        assert_eq!(rig.handle.counts().panicked, panicked, "though the future is still there");
    }

    assert_eq!(rig.state(), State::Open);
}

#[test]
fn a_panic_in_its_poll_ready_is_a_failure_too() {
    let rig = rig(simple());

    for _ in 0..2 {
        rig.inner.panic_in_ready();
        caught(|| rig.call(1));
    }

    assert_eq!(rig.state(), State::Open);
}

#[test]
fn a_panic_in_the_classifier_is_a_failure_and_goes_on() {
    let classify = |_: Result<&u32, &BoxError>| -> Outcome { panic!("no verdict") };
    let rig = rig_of(simple().classify(classify));

    for _ in 0..2 {
        assert_eq!(caught(|| rig.call(1)), "no verdict");
    }

    assert_eq!(rig.state(), State::Open);
}

#[test]
fn a_probe_that_panics_opens_it_and_its_permit_is_gone_with_the_state() {
    let rig = rig(simple());
    rig.fail(2);
    rig.time.advance(5 * SECOND);

    rig.inner.panic_in_call();
    caught(|| rig.call(1));

    assert_eq!(rig.state(), State::Open);
    rig.time.advance(10 * SECOND);
    rig.succeed(1);
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn a_call_that_someone_elses_unwinding_drops_was_only_dropped() {
    let rig = rig(simple());

    for _ in 0..10 {
        let call = rig.held(1);
        caught(move || {
            let _held = call;
            panic!("not the service's doing");
        });
    }

    let counts = rig.handle.counts();
    assert_eq!((rig.state(), counts.panicked, counts.abandoned), (State::Closed, 0, 10));
}

#[test]
fn an_observer_that_panics_loses_nothing() {
    let time = ManualClock::new();
    let layer = simple().clock(time.clock()).observe(|_| panic!("no one listens"));
    let (inner, watch) = Echo::new(|n| n);
    let (handle, service) = (layer.handle(), layer.layer(inner));
    let call = || Task::new(service.clone().oneshot(1)).run();

    watch.fail("first".into());
    assert!(call().is_ready());
    watch.fail("second".into());
    assert_eq!(caught(call), "no one listens");
    assert_eq!(handle.state(), State::Open);

    time.advance(5 * SECOND);
    assert_eq!(caught(call), "no one listens", "of the step to half-open");
    assert_eq!((handle.state(), handle.view().probes_in_flight), (State::HalfOpen, 0));
}

#[test]
fn an_observer_that_panics_over_a_late_panic_ends_no_process() {
    let layer = simple().observe(|_| panic!("no one listens"));
    let rig = rig(layer);
    let mut call = {
        rig.inner.hold();
        rig.inner.panic_in_future();
        rig.start(1)
    };
    assert!(call.run().is_pending(), "it is held");
    // The state of its admission is gone, so that its result is told as stale, while the thread unwinds.
    caught(|| rig.handle.reset());

    rig.inner.release();

    assert!(caught(|| call.run()).contains("panics in its future"));
    assert_eq!(rig.handle.counts().stale, 1);
}
