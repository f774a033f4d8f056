//! f. Outcomes.

use super::*;

fn by_number(result: Result<&u32, &BoxError>) -> Outcome {
    match result {
        Ok(0) => Outcome::ignored(),
        Ok(n @ 1..100) => Outcome::failure().with_retry_after(Duration::from_secs((*n).into())),
        Ok(503) => Outcome::failure().with_retry_after(Duration::ZERO),
        Ok(_) => Outcome::success(),
        Err(_) => Outcome::failure(),
    }
}

#[test]
fn what_is_ignored_gives_its_probe_back_and_counts_as_nothing() {
    let rig = rig_of(simple().classify(by_number));
    rig.fail(2);
    rig.time.advance(5 * SECOND);

    for _ in 0..10 {
        assert_eq!(rig.call(0).unwrap(), 0);
    }
    assert_eq!((rig.state(), rig.handle.view().probes_in_flight), (State::HalfOpen, 0));
    assert_eq!(rig.handle.counts().ignored, 10);

    assert_eq!(rig.call(200).unwrap(), 200);
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn by_option_an_answer_opens_it_for_as_long_as_it_says() {
    let rig = rig_of(simple().classify(by_number).open_when_asked());
    rig.call(200).unwrap();

    rig.call(30).unwrap();

    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.refusal().retry_after, Some(30 * SECOND));
}

#[test]
fn for_the_longest_open_time_at_most() {
    let rig = rig_of(simple().classify(by_number).open_when_asked());

    rig.call(99).unwrap();

    assert_eq!(rig.refusal().retry_after, Some(MINUTE));
}

#[test]
fn an_answer_that_asks_for_no_time_is_a_failure_like_any_other() {
    let rig = rig_of(simple().classify(by_number).open_when_asked());

    rig.call(503).unwrap();
    assert_eq!(rig.state(), State::Closed);
    rig.call(503).unwrap();
    assert_eq!(rig.refusal().retry_after, Some(5 * SECOND));
}

#[test]
fn without_the_option_it_is_a_failure_like_any_other() {
    let rig = rig_of(simple().classify(by_number));

    rig.call(30).unwrap();
    assert_eq!(rig.state(), State::Closed);
    rig.call(30).unwrap();
    assert_eq!(rig.refusal().retry_after, Some(5 * SECOND));
}

#[test]
fn a_refusal_of_ours_further_down_is_not_the_services_failure_but_a_timeout_is() {
    for (kind, state) in [
        (RejectionKind::RateLimited, State::Closed),
        (RejectionKind::CircuitOpen, State::Closed),
        (RejectionKind::Overloaded, State::Closed),
        (RejectionKind::Denied, State::Closed),
        (RejectionKind::Timeout, State::Open),
        (RejectionKind::DeadlineExceeded, State::Open),
    ] {
        let rig = rig(simple());

        for _ in 0..2 {
            rig.inner.fail(Box::new(Rejection::new(kind)));
            rig.call(1).unwrap_err();
        }

        assert_eq!(rig.state(), state, "{kind}");
    }
}
