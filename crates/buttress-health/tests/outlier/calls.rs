//! What a call says of its endpoint.

use super::*;
use buttress_core::{Rejection, RejectionKind};
use buttress_testkit::{StrictHandle, StrictService};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A service of `a` whose inner one is held until it is released, and fails as it is told.
fn held(
    rig: &Rig,
) -> (impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone, StrictHandle) {
    let (inner, handle) = StrictService::new(|n| n);
    (rig.outliers.layer(&rig.endpoint("a")).layer(inner), handle)
}

#[test]
fn a_call_that_was_begun_before_the_ejection_moves_nothing_after_it() {
    let rig = rig("a b", plain());
    let (mut service, inner) = held(&rig);
    inner.hold();
    let mut late: Vec<_> = (0..5)
        .map(|n| {
            inner.fail("out of paper".into());
            let mut call = Task::new(service.call(n));
            assert!(call.run().is_pending());
            call
        })
        .collect();

    rig.handle.eject("a").unwrap();
    rig.handle.uneject("a");
    inner.release();
    for call in &mut late {
        assert!(matches!(call.run(), Poll::Ready(Err(_))), "the caller gets its answer");
    }

    assert_eq!(rig.ejected(), "");
    let view = rig.view("a");
    assert_eq!((view.failures_in_a_row, view.failed, view.succeeded), (0, 0, 0));
    assert_eq!(rig.handle.counts().late, 5);
}

#[test]
fn what_is_sent_to_an_ejected_endpoint_all_the_same_moves_nothing() {
    let rig = rig("a b", plain());
    rig.handle.eject("a").unwrap();

    rig.calls("a", Failed, 10);
    rig.calls("a", Good, 10);

    assert_eq!(rig.ejected(), "a");
    assert_eq!(rig.handle.counts().late, 20);
    rig.handle.uneject("a");
    assert_eq!(rig.view("a").succeeded, 0);
}

#[test]
fn what_was_counted_before_the_ejection_does_not_count_after_it() {
    let rig = rig("a b", plain());
    rig.calls("a", Good, 7);
    rig.calls("a", Failed, 3);

    rig.handle.eject("a").unwrap();
    rig.handle.uneject("a");

    let view = rig.view("a");
    assert_eq!((view.succeeded, view.failed, view.failures_in_a_row), (0, 0, 0));
}

#[test]
fn what_is_soft_lowers_the_rate_and_is_no_failure_in_a_row() {
    let rig = rig("a b", plain());

    rig.calls("a", Soft, 100);
    assert_eq!(rig.ejected(), "");
    assert_eq!((rig.view("a").succeeded, rig.view("a").failed), (0, 100));

    rig.calls("a", Failed, 4);
    rig.call("a", Soft);
    assert_eq!(rig.view("a").failures_in_a_row, 4, "it ends no row either");
    rig.call("a", Failed);
    assert_eq!(rig.ejected(), "a");
}

#[test]
fn what_is_ignored_counts_as_nothing() {
    let rig = rig("a b", plain());

    rig.calls("a", Failed, 4);
    rig.calls("a", Ignored, 100);

    let view = rig.view("a");
    assert_eq!((view.failures_in_a_row, view.failed, view.succeeded), (4, 4, 0));
}

#[test]
fn a_gateway_failure_ejects_by_a_row_of_its_own_where_that_is_enforced() {
    let rule = EjectionReason::ConsecutiveGatewayFailure;
    let rig = rig("a b", plain().consecutive_gateway_failure(2).enforcing(rule, 100));

    rig.call("a", Gateway);
    rig.call("a", Failed);
    rig.call("a", Gateway);
    assert_eq!(rig.ejected(), "");

    rig.call("a", Nothing);
    assert_eq!(rig.told(), ["a ejected by consecutive_gateway_failure for 30s, the 1. time"]);
}

#[test]
fn calls_without_a_response_count_with_the_others_unless_they_are_split_off() {
    let mixed = [Nothing, Failed, Nothing, Failed, Nothing];
    let together = rig("a b", plain());
    mixed.into_iter().for_each(|reply| together.call("a", reply));
    assert_eq!(together.ejected(), "a");

    let split = rig("a b", plain().split_local_origin().consecutive_local_origin_failure(3));
    mixed.into_iter().for_each(|reply| split.call("a", reply));
    assert_eq!(split.ejected(), "");
    assert_eq!((split.view("a").failures_in_a_row, split.view("a").local_failures_in_a_row), (2, 1));
    split.calls("a", Nothing, 2);
    assert_eq!(split.told(), ["a ejected by consecutive_local_origin_failure for 30s, the 1. time"]);
}

#[test]
fn a_refusal_by_a_layer_below_says_nothing_of_the_endpoint_and_a_timeout_does() {
    let rig = rig("a b", plain());
    let (mut service, inner) = held(&rig);
    let mut refused = |kind| {
        inner.fail(Box::new(Rejection::new(kind)));
        assert!(matches!(Task::new(service.call(0)).run(), Poll::Ready(Err(_))));
    };

    refused(RejectionKind::RateLimited);
    refused(RejectionKind::CircuitOpen);
    assert_eq!(rig.view("a").failed, 0);

    refused(RejectionKind::Timeout);
    assert_eq!(rig.view("a").failures_in_a_row, 1);
}

#[test]
fn a_rejection_that_a_classifier_hands_on_counts_when_the_endpoint_was_too_slow() {
    let rig = rig("a b", plain());
    let layer = |kind| {
        let judge = move |_: Result<&Reply, &BoxError>| Outcome::rejected(Rejection::new(kind));
        rig.outliers.layer(&rig.endpoint("a")).classify(judge).layer(Asked)
    };

    for (kind, failures) in
        [(RejectionKind::Overloaded, 0), (RejectionKind::Timeout, 1), (RejectionKind::DeadlineExceeded, 2)]
    {
        assert!(Task::new(layer(kind).call(Good)).run().is_ready());
        assert_eq!(rig.view("a").failures_in_a_row, failures, "{kind}");
    }
}

#[test]
fn a_panic_is_a_failure_and_a_dropped_call_is_none() {
    let rig = rig("a b", plain());
    let (mut service, inner) = held(&rig);

    inner.panic_in_call();
    assert!(catch_unwind(AssertUnwindSafe(|| service.call(0))).is_err());
    let (mut service, inner) = held(&rig);
    inner.panic_in_future();
    assert!(catch_unwind(AssertUnwindSafe(|| Task::new(service.call(0)).run())).is_err());
    assert_eq!(rig.view("a").failures_in_a_row, 2);

    inner.hold();
    let mut dropped = Task::new(service.call(0));
    assert!(dropped.run().is_pending());
    drop(dropped);
    assert_eq!((rig.view("a").failures_in_a_row, rig.view("a").failed), (2, 2));
}

#[test]
fn all_layers_and_services_of_one_endpoint_share_what_is_known_of_it() {
    let rig = rig("a b", plain());
    let one = rig.outliers.layer(&rig.endpoint("a")).classify(judge).blame(blame);
    let other = rig.outliers.clone().layer(&rig.endpoint("a")).classify(judge).blame(blame);
    let service = one.layer(Asked);

    for mut service in [
        service.clone(),
        service,
        other.layer(Asked),
        rig.outliers.layer(&rig.endpoint("a")).classify(judge).blame(blame).layer(Asked),
        one.layer(Asked),
    ] {
        assert!(Task::new(service.call(Failed)).run().is_ready());
    }

    assert_eq!(rig.ejected(), "a");
}
