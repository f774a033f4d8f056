//! a. Results that come too late.

use super::*;

/// An open breaker, and a call from before that is still under way.
macro_rules! opened_behind {
    ($rig:ident, $early:pat) => {
        let mut failing = [$rig.held_failure(), $rig.held_failure()];
        let $early = $rig.held(7);
        for call in &mut failing {
            $rig.inner.release_one();
            assert!(matches!(call.run(), Poll::Ready(Err(_))));
        }
        assert_eq!($rig.state(), State::Open);
    };
}

#[test]
fn a_success_from_before_does_not_close_it() {
    let rig = rig(simple());
    opened_behind!(rig, mut early);
    rig.time.advance(5 * SECOND);
    let mut probe = rig.held(8);
    assert_eq!(rig.state(), State::HalfOpen);

    rig.inner.release_one();
    assert!(matches!(early.run(), Poll::Ready(Ok(7))), "its caller has the answer");

    assert_eq!(rig.state(), State::HalfOpen, "only the probe tells");
    assert_eq!((rig.handle.counts().stale, rig.handle.view().stale), (1, 1));
    rig.inner.release();
    assert!(matches!(probe.run(), Poll::Ready(Ok(8))));
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn a_failure_from_before_does_not_open_it_again() {
    let rig = rig(simple());
    let mut old = [rig.held_failure(), rig.held_failure(), rig.held_failure(), rig.held_failure()];
    for call in &mut old[..2] {
        rig.inner.release_one();
        assert!(matches!(call.run(), Poll::Ready(Err(_))));
    }
    rig.time.advance(5 * SECOND);
    let mut probe = rig.start(1);
    assert!(probe.run().is_pending());
    rig.inner.release();
    assert!(matches!(probe.run(), Poll::Ready(Ok(1))));
    assert_eq!(rig.state(), State::Closed);

    for call in &mut old[2..] {
        assert!(matches!(call.run(), Poll::Ready(Err(_))));
    }

    assert_eq!(rig.state(), State::Closed);
    assert_eq!(rig.handle.counts().stale, 2);
    assert_eq!(rig.handle.view().sums.total, 0, "nothing of the old is counted");
}

#[test]
fn a_permit_from_before_is_not_given_back_to_later_probes() {
    let rig = rig(simple());
    opened_behind!(rig, early);
    rig.time.advance(5 * SECOND);
    let _probe = rig.held(8);

    drop(early);

    assert_eq!(rig.handle.view().probes_in_flight, 1);
    assert!(!rig.passes(), "one probe is all there is");
}

#[test]
fn results_from_before_a_reset_are_late_too() {
    let rig = rig(simple());
    let mut early = [rig.held_failure(), rig.held_failure()];

    rig.handle.reset();
    rig.inner.release();
    for call in &mut early {
        assert!(matches!(call.run(), Poll::Ready(Err(_))));
    }

    assert_eq!((rig.state(), rig.handle.counts().stale), (State::Closed, 2));
}
