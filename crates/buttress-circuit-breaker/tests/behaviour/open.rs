use super::*;

#[test]
fn the_service_is_left_alone() {
    let rig = rig(simple());
    rig.fail(2);
    let before = (rig.inner.polls(), rig.inner.calls());

    for _ in 0..100 {
        assert_eq!(rig.refusal().kind, RejectionKind::CircuitOpen);
    }

    assert_eq!((rig.inner.polls(), rig.inner.calls()), before);
    assert_eq!(rig.handle.counts().refused, 100);
}

#[test]
fn a_refusal_does_not_wait_for_the_service() {
    let rig = rig(simple());
    rig.fail(2);
    rig.inner.not_ready();

    assert_eq!(rig.refusal().kind, RejectionKind::CircuitOpen);
    assert_eq!(rig.inner.waiting(), 0);
}

#[test]
fn a_refusal_says_how_long_and_that_another_endpoint_may_help() {
    let rig = rig(simple().named("payments"));
    rig.fail(2);
    rig.time.advance(2 * SECOND);

    let refusal = rig.refusal();

    assert_eq!(refusal.policy.as_deref(), Some("payments"));
    assert_eq!(refusal.retry_after, Some(3 * SECOND));
    assert!(refusal.elsewhere);
}

#[test]
fn who_waits_as_told_is_let_in_and_a_microsecond_earlier_is_not() {
    let rig = rig(simple());
    rig.fail(2);
    let wait = rig.refusal().retry_after.expect("it will pass");

    rig.time.advance(wait - Duration::from_micros(1));
    assert!(!rig.passes());
    rig.time.advance(Duration::from_micros(1));
    assert!(rig.passes());
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn each_time_it_stays_open_for_longer_until_it_was_closed() {
    let rig = rig(simple());
    rig.fail(2);

    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(rig.refusal().retry_after, Some(seconds * SECOND));
        rig.time.advance(seconds * SECOND);
        rig.fail(1);
        assert_eq!(rig.state(), State::Open);
    }
    rig.time.advance(MINUTE);
    rig.succeed(1);

    rig.fail(2);
    assert_eq!(rig.refusal().retry_after, Some(5 * SECOND));
}

#[test]
fn jitter_makes_open_times_differ_and_never_longer() {
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let rig = rig(simple().jitter(0.5));
            rig.fail(2);
            rig.refusal().retry_after.expect("it will pass")
        })
        .collect();

    // Kept in microseconds.
    let (least, most) = (Duration::from_micros(2_499_999), 5 * SECOND);
    assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
}
