use super::*;

#[test]
fn isolated_it_lets_no_call_pass_whatever_the_time_and_says_why() {
    let rig = rig(simple());

    rig.handle.isolate("maintenance");
    rig.time.advance(Duration::from_secs(30 * 24 * 3600));

    let refusal = rig.refusal();
    assert_eq!((refusal.kind, refusal.retry_after), (RejectionKind::CircuitOpen, None));
    assert_eq!(rig.state(), State::Isolated);
    assert_eq!(rig.handle.note().as_deref(), Some("maintenance"));
    rig.handle.reset();
    rig.succeed(1);
}

#[test]
fn forced_open_it_lets_no_call_pass() {
    let rig = rig(simple());

    rig.handle.force_open();
    rig.time.advance(MINUTE);

    assert!(!rig.passes());
    assert_eq!((rig.state(), rig.handle.note()), (State::ForcedOpen, None));
}

#[test]
fn disabled_it_lets_all_calls_pass_and_counts_nothing() {
    let rig = rig(simple());
    rig.fail(2);

    rig.handle.disable();
    rig.fail(100);

    assert_eq!((rig.state(), rig.handle.view().sums.total), (State::Disabled, 0));
    assert_eq!(rig.handle.counts().failed, 2);
    rig.handle.reset();
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn for_metrics_only_it_lets_all_calls_pass_and_counts_them() {
    let rig = rig(CircuitBreakerLayer::default().consecutive_failures(2));

    rig.handle.metrics_only();
    rig.fail(100);

    assert_eq!((rig.state(), rig.handle.view().failure_rate), (State::MetricsOnly, Some(1.0)));
    assert_eq!(rig.handle.counts().failed, 100);
}

#[test]
fn a_clone_of_the_handle_steers_the_same_breaker_and_counts_transitions() {
    let rig = rig(simple());

    let clone = rig.handle.clone();
    clone.open_for(3 * SECOND);
    assert_eq!(rig.refusal().retry_after, Some(3 * SECOND));
    rig.time.advance(3 * SECOND);
    rig.succeed(1);

    let transitions = |from, to| rig.handle.transitions(from, to);
    assert_eq!(transitions(State::Closed, State::Open), 1);
    assert_eq!(transitions(State::Open, State::HalfOpen), 1);
    assert_eq!(transitions(State::HalfOpen, State::Closed), 1);
    assert_eq!(transitions(State::Closed, State::HalfOpen), 0);
    assert_eq!(rig.handle.view().generation, 3);
}
