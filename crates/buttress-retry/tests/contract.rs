//! The contract of every layer, for each form of this one.

use std::time::Duration;

use buttress_core::Outcome;
use buttress_retry::{Backoff, Budget, Jitter, ReplayPool, RetryLayer};
use buttress_testkit::{Contract, Point, contract};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests of the suite may all be carried out twice.
fn cloning() -> RetryLayer<buttress_retry::Cloning<fn(&u32) -> bool>, buttress_core::ByCause> {
    let any: fn(&u32) -> bool = |_| true;
    RetryLayer::cloning(any)
}

/// As above, without waits: a call that fails in the suite is over when the suite has let it fail.
fn at_once() -> RetryLayer<buttress_retry::Cloning<fn(&u32) -> bool>, buttress_core::ByCause> {
    cloning().backoff(Backoff::constant(Duration::ZERO))
}

const WAITS: &str =
    "a call waits before it tries again where an inner poll_ready failed, and the suite's time stands still";

#[test]
fn retries_of_clones_keep_the_contract() {
    contract(at_once);
    Contract::new(cloning).exempt(Point::Readiness, WAITS).run();
}

#[test]
fn the_strict_form_keeps_the_contract() {
    contract(|| at_once().strict());
    contract(|| cloning().strict());
}

#[test]
fn one_attempt_keeps_the_contract() {
    contract(|| cloning().attempts(1));
}

#[test]
fn timeouts_below_and_above_keep_the_contract() {
    contract(|| at_once().per_try_timeout(MINUTE));
    contract(|| at_once().overall(MINUTE).strict());
    contract(|| at_once().overall(2 * MINUTE).per_try_timeout(MINUTE));
}

#[test]
fn closures_may_panic() {
    Contract::with_closures(|wire| {
        let (idempotent, classify, observer) = (wire.clone(), wire.clone(), wire.clone());
        RetryLayer::cloning(move |_: &u32| {
            idempotent.touch();
            true
        })
        .backoff(Backoff::constant(Duration::ZERO))
        .classify(move |result: Result<&u32, &buttress_core::BoxError>| {
            classify.touch();
            if result.is_ok() { Outcome::success() } else { Outcome::failure() }
        })
        .observe(move |_| observer.touch())
    })
    .refuses("no attempts", || cloning().attempts(0))
    .refuses("no time for an attempt", || cloning().per_try_timeout(Duration::ZERO))
    .refuses("no time for a call", || cloning().overall(Duration::ZERO))
    .refuses("attempts as long as the call", || cloning().overall(MINUTE).per_try_timeout(MINUTE))
    .refuses("attempts longer than the call", || cloning().per_try_timeout(2 * MINUTE).overall(MINUTE))
    .refuses("a backoff that begins above its end", || Backoff::exponential(2 * MINUTE, MINUTE))
    .refuses("a backoff that begins at zero", || Backoff::exponential(Duration::ZERO, MINUTE))
    .refuses("a decorrelated backoff upside down", || Backoff::decorrelated(2 * MINUTE, MINUTE))
    .refuses("a decorrelated backoff that begins at zero", || Backoff::decorrelated(Duration::ZERO, MINUTE))
    .refuses("a backoff that shrinks to nothing", || Backoff::default().factor(0))
    .refuses("a constant backoff that grows", || Backoff::constant(MINUTE).factor(2))
    .refuses("jitter twice", || Backoff::decorrelated(MINUTE, MINUTE).jitter(Jitter::Full))
    .refuses("no room for bodies", || ReplayPool::new(0))
    .run();
}

#[test]
fn the_refusals_name_the_field_the_value_and_the_rule() {
    let message = |build: fn()| {
        let payload = std::panic::catch_unwind(build).expect_err("it is refused");
        *payload.downcast::<String>().expect("a message")
    };

    assert_eq!(
        message(|| drop(cloning().attempts(0))),
        "retry with `attempts` = 0: must be at least 1, the first attempt"
    );
    assert_eq!(
        message(|| drop(cloning().overall(MINUTE).per_try_timeout(MINUTE))),
        "retry with `per_try_timeout` = 60s: must be below `overall`, or it ends no attempt"
    );
    assert_eq!(
        message(|| _ = Backoff::exponential(2 * MINUTE, MINUTE)),
        "backoff with `base` = 120s: must not be above the longest wait, `most`"
    );
}

#[test]
fn a_spent_budget_keeps_the_contract() {
    contract(|| at_once().budget(Budget::ratio(0.001)));
}

#[cfg(feature = "http")]
mod http {
    use super::*;

    use ::http::Request;
    use buttress_retry::{ReplayBody, Retry, RetryFuture};
    use buttress_testkit::{ScriptedBody, assert_send, assert_send_sync_clone_unpin};
    use tower::ServiceBuilder;
    use tower::util::{BoxCloneService, BoxCloneSyncService, MapRequestLayer};
    use tower_layer::{Identity, Stack};

    type Bare = fn(Request<ReplayBody<ScriptedBody>>) -> Request<ScriptedBody>;
    type Same = fn(Request<ScriptedBody>) -> Request<ScriptedBody>;

    /// The suite's inner service takes requests as they were, and does not look at their bodies; `first` makes them what
    /// the layer gets.
    fn peeled<L>(
        first: Same,
        layer: L,
    ) -> Stack<MapRequestLayer<Bare>, Stack<L, Stack<MapRequestLayer<Same>, Identity>>> {
        let bare: Bare = |request| request.map(|_| ScriptedBody::new());
        ServiceBuilder::new().map_request(first).layer(layer).map_request(bare).into_inner()
    }

    fn layer() -> RetryLayer {
        RetryLayer::default().backoff(Backoff::constant(Duration::ZERO))
    }

    fn same(request: Request<ScriptedBody>) -> Request<ScriptedBody> {
        request
    }

    #[test]
    fn retries_of_requests_keep_the_contract_at_the_price_of_a_clone_of_the_extensions() {
        // The suite's requests have no fields, and carry one extension: its box, the map and the value. The fourth is the
        // body that `peeled` makes.
        Contract::http(|| peeled(same, layer())).allocations(4).run();
        Contract::http(|| peeled(same, layer().strict())).allocations(4).run();
        let waits = Contract::http(|| peeled(same, RetryLayer::default()));
        waits.exempt(Point::Readiness, WAITS).allocations(4).run();
    }

    #[test]
    fn requests_that_are_not_retried_keep_the_contract_for_nothing() {
        // But for the body that `peeled` makes.
        Contract::http(|| peeled(same, layer().attempts(1))).allocations(1).run();
        Contract::http(|| peeled(same, layer().attempts(1).strict())).allocations(1).run();
    }

    #[test]
    fn retries_of_requests_with_bodies_keep_the_contract() {
        let filled: Same = |request| request.map(|_| ScriptedBody::new().data("x"));
        // The two scripted bodies make three themselves, and what the attempts share of the body is one more.
        Contract::http(move || peeled(filled, layer()))
            .allocations(7)
            .refuses("a status of success", || RetryLayer::default().on_status([200_u16]))
            .refuses("no status", || RetryLayer::default().on_status([99_u16]))
            .refuses("the gRPC code of success", || RetryLayer::default().on_grpc([0]))
            .refuses("no gRPC code", || RetryLayer::default().on_grpc([17]))
            .refuses("a field that is none", || RetryLayer::default().attempt_header("an attempt"))
            .refuses("a mark that is none", || RetryLayer::default().no_retry_header(""))
            .refuses("no room for bodies", || RetryLayer::default().replay_pool(0))
            .run();
    }

    #[test]
    fn the_types_are_send_and_sync() {
        type Sent = Request<ReplayBody<ScriptedBody>>;
        type Inner = BoxCloneSyncService<Sent, ::http::Response<ScriptedBody>, buttress_core::BoxError>;
        type NotSync = BoxCloneService<Sent, ::http::Response<ScriptedBody>, buttress_core::BoxError>;

        assert_send_sync_clone_unpin::<RetryLayer>();
        assert_send_sync_clone_unpin::<Retry<Inner>>();
        assert_send::<RetryFuture<Inner, Request<ScriptedBody>>>();
        assert_send::<Retry<NotSync>>();
        assert_send::<RetryFuture<NotSync, Request<ScriptedBody>>>();
        assert_send::<ReplayBody<ScriptedBody>>();
    }
}
