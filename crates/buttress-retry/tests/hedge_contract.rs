//! The contract of every layer, for hedges.

use std::time::Duration;

use buttress_core::{BoxError, ByCause, Outcome};
use buttress_retry::{Budget, Cloning, HedgeLayer};
use buttress_testkit::{Contract, contract};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests of the suite may all be carried out twice.
fn hedged() -> HedgeLayer<Cloning<fn(&u32) -> bool>, ByCause> {
    let any: fn(&u32) -> bool = |_| true;
    HedgeLayer::cloning(any)
}

#[test]
fn a_fixed_delay_keeps_the_contract() {
    contract(|| hedged().delay(MINUTE));
    contract(|| hedged().delay(MINUTE).strict());
    contract(|| hedged().delay(MINUTE).overall(2 * MINUTE));
    contract(|| hedged().delay(MINUTE).overall(2 * MINUTE).strict());
}

#[test]
fn a_moving_quantile_keeps_the_contract() {
    contract(hedged);
    contract(|| hedged().min_samples(1).until_known(MINUTE));
    contract(|| hedged().min_samples(1).until_known(MINUTE).strict());
}

#[test]
fn a_spent_budget_keeps_the_contract() {
    contract(|| hedged().delay(MINUTE).budget(Budget::ratio(0.001)));
}

#[test]
fn closures_may_panic() {
    Contract::with_closures(|wire| {
        let (idempotent, classify, observer) = (wire.clone(), wire.clone(), wire.clone());
        HedgeLayer::cloning(move |_: &u32| {
            idempotent.touch();
            true
        })
        .classify(move |result: Result<&u32, &BoxError>| {
            classify.touch();
            if result.is_ok() { Outcome::success() } else { Outcome::failure() }
        })
        .observe(move |_| observer.touch())
    })
    .refuses("no delay", || hedged().delay(Duration::ZERO))
    .refuses("no delay until the quantile is known", || hedged().until_known(Duration::ZERO))
    .refuses("a quantile of 0", || hedged().delay_quantile(0.0))
    .refuses("a quantile of 1", || hedged().delay_quantile(1.0))
    .refuses("a quantile that is no number", || hedged().delay_quantile(f64::NAN))
    .refuses("a negative quantile", || hedged().delay_quantile(-0.5))
    .refuses("no samples", || hedged().min_samples(0))
    .refuses("samples for a fixed delay", || hedged().delay(MINUTE).min_samples(1))
    .refuses("something to go by for a fixed delay", || hedged().delay(MINUTE).until_known(MINUTE))
    .refuses("no hedges", || hedged().at_most(0))
    .refuses("hedges without end", || hedged().at_most(u32::MAX))
    .refuses("no time for a call", || hedged().overall(Duration::ZERO))
    .run();
}

#[test]
fn the_refusals_name_the_field_the_value_and_the_rule() {
    let message = |build: fn()| {
        let payload = std::panic::catch_unwind(build).expect_err("it is refused");
        *payload.downcast::<String>().expect("a message")
    };

    assert_eq!(
        message(|| drop(hedged().delay_quantile(95.0))),
        "hedge with `quantile` = 95.0: must be above 0 and below 1"
    );
    assert_eq!(
        message(|| drop(hedged().at_most(0))),
        "hedge with `at_most` = 0: must be at least 1 and below 2³² - 1"
    );
}

#[cfg(feature = "http")]
mod http {
    use super::*;

    use ::http::Request;
    use buttress_retry::{Hedge, HedgeFuture, ReplayBody};
    use buttress_testkit::{ScriptedBody, assert_send, assert_send_sync_clone_unpin};
    use tower::ServiceBuilder;
    use tower::util::{BoxCloneService, BoxCloneSyncService, MapRequestLayer};
    use tower_layer::{Identity, Stack};

    type Bare = fn(Request<ReplayBody<ScriptedBody>>) -> Request<ScriptedBody>;

    /// The suite's inner service takes requests as they were, and does not look at their bodies.
    fn bare<L>(layer: L) -> Stack<MapRequestLayer<Bare>, Stack<L, Identity>> {
        let bare: Bare = |request| request.map(|_| ScriptedBody::new());
        ServiceBuilder::new().layer(layer).map_request(bare).into_inner()
    }

    #[test]
    fn hedges_of_requests_keep_the_contract_at_the_price_of_a_clone_of_the_extensions() {
        // The suite's requests have no fields, and carry one extension: its box, the map and the value. The fourth is the
        // body that `bare` makes.
        Contract::http(|| bare(HedgeLayer::after(MINUTE)))
            .allocations(4)
            .refuses("a status of success", || HedgeLayer::after(MINUTE).on_status([200_u16]))
            .refuses("no gRPC code", || HedgeLayer::after(MINUTE).on_grpc([17]))
            .refuses("a field that is none", || HedgeLayer::after(MINUTE).attempt_header("an attempt"))
            .run();
        Contract::http(|| bare(HedgeLayer::after_quantile(0.95).strict())).allocations(4).run();
    }

    #[test]
    fn a_field_that_is_none_is_refused_with_its_layer() {
        let payload = std::panic::catch_unwind(|| drop(HedgeLayer::after(MINUTE).no_retry_header("")));
        let message = payload.expect_err("it is refused").downcast::<String>().expect("a message");
        assert_eq!(*message, "hedge with `no_retry_header` = \"\": must be the name of a field");
    }

    #[test]
    fn the_types_are_send_and_sync() {
        type Sent = Request<ReplayBody<ScriptedBody>>;
        type Inner = BoxCloneService<Sent, ::http::Response<ScriptedBody>, BoxError>;
        type Shared = BoxCloneSyncService<Sent, ::http::Response<ScriptedBody>, BoxError>;

        assert_send_sync_clone_unpin::<HedgeLayer>();
        assert_send_sync_clone_unpin::<Hedge<Shared>>();
        assert_send::<Hedge<Inner>>();
        assert_send::<HedgeFuture<Inner, Request<ScriptedBody>>>();
    }
}
