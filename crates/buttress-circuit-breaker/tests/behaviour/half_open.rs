//! c. Half-open.

use super::*;

fn half_open(layer: CircuitBreakerLayer) -> Rig<CircuitBreaker<OnCall<Echo>>> {
    let rig = rig(layer);
    rig.fail(2);
    rig.time.advance(5 * SECOND);
    rig
}

#[test]
fn no_more_than_its_probes_are_under_way() {
    let rig = half_open(simple().probes(3));

    let probes = [rig.held(1), rig.held(2), rig.held(3)];
    assert_eq!(rig.handle.view().probes_in_flight, 3);
    for _ in 0..100 {
        assert!(!rig.passes());
    }

    drop(probes);
    let _again = [rig.held(1), rig.held(2), rig.held(3)];
    assert!(!rig.passes());
}

#[test]
fn no_more_than_its_probes_are_judged() {
    let rig = half_open(simple().probes(3));

    rig.succeed(2);
    let mut last = rig.held(3);
    assert!(!rig.passes(), "two are judged and one is under way");

    rig.inner.release();
    assert!(last.run().is_ready());
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn a_probe_that_fails_opens_it_for_longer() {
    let rig = half_open(simple());

    rig.fail(1);

    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.refusal().retry_after, Some(10 * SECOND));
}

#[test]
fn a_probe_that_hangs_does_not_keep_it_half_open() {
    let rig = half_open(simple().half_open_for(3 * SECOND));
    let mut hangs = rig.held(1);
    rig.time.advance(3 * SECOND - Duration::from_nanos(1));
    assert_eq!(rig.refusal().retry_after.map(|wait| wait < SECOND), Some(true));
    assert_eq!(rig.handle.view().half_open_for.map(|age| age.as_secs()), Some(2));

    rig.time.advance(Duration::from_nanos(1));

    assert_eq!(rig.state(), State::Open, "and the time is over without a call as well");
    assert_eq!(rig.refusal().retry_after, Some(10 * SECOND), "for longer than before");
    rig.inner.release();
    assert!(hangs.run().is_ready());
    assert_eq!((rig.state(), rig.handle.counts().stale), (State::Open, 1));
}

#[test]
fn by_default_its_time_is_the_open_time() {
    let rig = half_open(simple());
    let _hangs = rig.held(1);

    rig.time.advance(5 * SECOND - Duration::from_nanos(1));
    assert_eq!(rig.state(), State::HalfOpen);
    rig.time.advance(Duration::from_nanos(1));
    assert_eq!(rig.state(), State::Open);
}

#[test]
fn probes_that_come_rarely_still_close_it() {
    let layer = CircuitBreakerLayer::failure_rate(0.5).window(Window::time(SECOND)).minimum_calls(2);
    let rig = half_open(layer.probes(2).jitter(0.0).open_for(5 * SECOND, MINUTE));

    rig.succeed(1);
    rig.time.advance(4 * SECOND);
    rig.succeed(1);

    assert_eq!(rig.state(), State::Closed, "though the window is shorter than the time between them");
}

#[test]
fn a_call_comes_after_any_silence_and_is_a_probe() {
    let rig = half_open(simple());
    rig.time.advance(Duration::from_secs(30 * 24 * 3600));

    rig.succeed(1);

    assert_eq!(rig.state(), State::Closed);
}
