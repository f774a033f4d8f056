use super::*;

#[test]
fn by_default_half_of_twenty_calls_have_to_fail() {
    let rig = rig(CircuitBreakerLayer::default());

    rig.succeed(10);
    rig.fail(9);
    assert_eq!(rig.state(), State::Closed);
    assert_eq!(rig.handle.view().failure_rate, None, "nineteen calls make no rate");

    rig.fail(1);
    assert_eq!(rig.state(), State::Open);
}

#[test]
fn a_window_of_calls_slides() {
    let rig = rig(CircuitBreakerLayer::failure_rate(0.5).window(Window::last(10)));

    rig.succeed(1000);
    rig.fail(4);
    assert_eq!(rig.state(), State::Closed);
    assert_eq!(rig.handle.view().failure_rate, Some(0.4));

    rig.fail(1);
    assert_eq!(rig.state(), State::Open, "five of the last ten");
}

#[test]
fn a_window_of_time_forgets() {
    let rig = rig(CircuitBreakerLayer::failure_rate(0.5).window(Window::time(10 * SECOND)).minimum_calls(10));

    rig.fail(9);
    rig.time.advance(11 * SECOND);
    rig.fail(1);
    assert_eq!(rig.state(), State::Closed, "the nine are forgotten");
    assert_eq!(rig.handle.view().sums.total, 1);

    rig.fail(9);
    assert_eq!(rig.state(), State::Open);
}

#[test]
fn failures_in_a_row_open_it_and_a_success_ends_the_row() {
    let rig = rig(CircuitBreakerLayer::failures_in_a_row(3));

    rig.fail(2);
    rig.succeed(1);
    rig.fail(2);
    assert_eq!(rig.state(), State::Closed);

    rig.fail(1);
    assert_eq!(rig.state(), State::Open);
}

#[test]
fn failures_in_a_row_may_stand_beside_a_rate() {
    let rig = rig(CircuitBreakerLayer::failure_rate(0.5).consecutive_failures(3));

    rig.succeed(1000);
    rig.fail(3);

    assert_eq!(rig.state(), State::Open);
}

#[test]
fn calls_that_are_slow_open_it() {
    let layer = CircuitBreakerLayer::failure_rate(1.0).slow_calls(2 * SECOND, 0.5).minimum_calls(4);
    let rig = rig(layer);

    for (n, took) in [1, 1, 2, 3].into_iter().enumerate() {
        assert_eq!(rig.state(), State::Closed, "before call {n}");
        let mut call = rig.held(7);
        rig.time.advance(took * SECOND);
        rig.inner.release();
        assert!(matches!(call.run(), Poll::Ready(Ok(7))), "a slow call is answered like any other");
    }

    assert_eq!(rig.state(), State::Open, "two of four took two seconds");
    assert_eq!(rig.handle.counts().slow, 2);
}

#[test]
fn what_is_soft_counts_towards_the_rate_and_not_as_a_failure_in_a_row() {
    let soft = |_: Result<&u32, &BoxError>| Outcome::soft();
    let row = rig_of(CircuitBreakerLayer::failures_in_a_row(2).classify(soft));
    row.succeed(100);
    assert_eq!(row.state(), State::Closed);

    let rate = rig_of(CircuitBreakerLayer::failure_rate(0.5).minimum_calls(10).classify(soft));
    rate.succeed(10);
    assert_eq!(rate.state(), State::Open);
    assert_eq!(rate.handle.counts().soft, 10);
}
