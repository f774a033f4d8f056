//! The layers under the contract, in both forms.

use std::time::Duration;

use buttress_core::{BoxError, Reject, Rejection};
use buttress_testkit::{Contract, Tripwire, assert_send, assert_send_sync_clone_unpin};
use buttress_timeout::{Timeout, TimeoutFuture, TimeoutLayer};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_head_timeout_keeps_the_contract() {
    Contract::new(|| TimeoutLayer::head(MINUTE))
        .refuses("no time", || TimeoutLayer::head(Duration::ZERO))
        .run();
    Contract::new(|| TimeoutLayer::head(MINUTE).strict()).run();
}

/// A way of one's own to refuse, whose look at each request trips.
#[derive(Clone)]
struct Touches(Tripwire);

impl<Req, Res> Reject<Req, Res, BoxError> for Touches {
    type Form = ();

    fn form(&self, _: &Req) {
        self.0.touch();
    }

    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, BoxError> {
        Err(rejection.into())
    }
}

#[test]
fn a_head_timeout_with_a_refusal_of_ones_own_keeps_the_contract() {
    Contract::with_closures(|wire| TimeoutLayer::head(MINUTE).on_reject(Touches(wire.clone()))).run();
}

#[cfg(feature = "http")]
mod http {
    use buttress_core::reject::With;
    use buttress_core::{AtHead, Fail};
    use buttress_http::body::ReplyBody;
    use buttress_http::reject::respond;
    use buttress_testkit::ScriptedBody;
    use buttress_timeout::{
        AfterUpload, AtEnd, Deadline, DeadlineFuture, DeadlineLayer, TimeoutBody, UploadBody,
    };
    use tower::ServiceBuilder;
    use tower::layer::util::{Identity, Stack};
    use tower::util::MapRequestLayer;

    use super::*;

    fn whole() -> TimeoutLayer<Fail, AtEnd> {
        TimeoutLayer::head(MINUTE).and_idle(MINUTE).and_total(60 * MINUTE)
    }

    #[test]
    fn timeouts_of_the_body_keep_the_contract() {
        Contract::http(whole)
            .refuses("no idle time", || TimeoutLayer::idle(Duration::ZERO))
            .refuses("no total time", || TimeoutLayer::total(Duration::ZERO))
            .run();
        Contract::http(|| whole().strict()).run();
    }

    #[test]
    fn timeouts_with_a_refusal_of_ones_own_keep_the_contract() {
        Contract::http_with_closures(|wire| whole().on_reject(Touches(wire.clone()))).run();
        Contract::http_with_closures(|wire| whole().on_reject(Touches(wire.clone())).strict()).run();
        Contract::http_with_closures(|wire| {
            DeadlineLayer::new().at_most(MINUTE).to_end().on_reject(Touches(wire.clone()))
        })
        .allocations(8)
        .run();
    }

    #[test]
    fn a_deadline_that_is_observed_keeps_the_contract() {
        // A malformed field is told of on each call.
        let malformed: Same = |mut request| {
            request.headers_mut().insert("grpc-timeout", ::http::HeaderValue::from_static("soon"));
            request
        };
        Contract::http_with_closures(move |wire| {
            let wire = wire.clone();
            let deadline = DeadlineLayer::new().observe(move |_| wire.touch());
            ServiceBuilder::new().map_request(malformed).layer(deadline).into_inner()
        })
        .allocations(8)
        .run();
    }

    type Same = fn(::http::Request<ScriptedBody>) -> ::http::Request<ScriptedBody>;
    type Peel = fn(::http::Request<UploadBody<ScriptedBody>>) -> ::http::Request<ScriptedBody>;

    /// The suite's inner service takes requests as they were; `first` makes them what the layer gets.
    fn peeled<L>(
        first: Same,
        layer: L,
    ) -> Stack<MapRequestLayer<Peel>, Stack<L, Stack<MapRequestLayer<Same>, Identity>>> {
        let peel: Peel = |request| request.map(UploadBody::into_inner);
        ServiceBuilder::new().map_request(first).layer(layer).map_request(peel).into_inner()
    }

    #[test]
    fn upload_timeouts_keep_the_contract() {
        let upload = || TimeoutLayer::upload(MINUTE).and_head(MINUTE);
        Contract::http(move || peeled(|request| request, upload()))
            .refuses("no upload time", || TimeoutLayer::upload(Duration::ZERO))
            .run();
        Contract::http(move || peeled(|request| request, upload().and_idle(MINUTE).strict())).run();
    }

    #[test]
    fn upload_timeouts_keep_the_contract_at_the_price_of_what_the_body_tells() {
        let filled: Same = |request| request.map(|_| ScriptedBody::new().data("x"));
        // Two of them make the scripted body; that it is dropped half read is no matter.
        Contract::http(move || {
            peeled(filled, TimeoutLayer::upload(MINUTE).and_head(MINUTE).and_idle(MINUTE))
        })
        .allocations(4)
        .run();
        Contract::http_with_closures(move |wire| {
            peeled(filled, TimeoutLayer::upload(MINUTE).on_reject(Touches(wire.clone())))
        })
        .allocations(4)
        .run();
    }

    #[test]
    fn a_deadline_keeps_the_contract() {
        Contract::http(DeadlineLayer::new)
            .refuses("no time", || DeadlineLayer::new().at_most(Duration::ZERO))
            .refuses("a floor above the limit", || DeadlineLayer::new().at_most(MINUTE).floor(2 * MINUTE))
            .run();
        Contract::http(|| DeadlineLayer::new().strict()).run();
        Contract::http(|| DeadlineLayer::new().to_end()).run();
    }

    #[test]
    fn a_deadline_of_its_own_keeps_the_contract_at_the_price_of_facts_and_a_field() {
        Contract::http(|| DeadlineLayer::new().at_most(MINUTE)).allocations(8).run();
        Contract::http(|| DeadlineLayer::new().at_most(MINUTE).to_end()).allocations(8).run();
    }

    #[test]
    fn layers_that_answer_keep_the_contract() {
        Contract::http(|| TimeoutLayer::head(MINUTE).on_reject(respond())).run();
        Contract::http(|| whole().on_reject(respond())).run();
        Contract::http(|| whole().on_reject(respond()).strict()).run();
        Contract::http(|| peeled(|request| request, whole().and_upload(MINUTE).on_reject(respond()))).run();
        Contract::http(|| DeadlineLayer::new().on_reject(respond())).run();
        Contract::http(|| DeadlineLayer::new().at_most(MINUTE).to_end().on_reject(respond()))
            .allocations(8)
            .run();
    }

    #[test]
    fn the_types_are_send_and_sync() {
        type Inner = Timeout<
            tower::util::BoxCloneSyncService<::http::Request<()>, ::http::Response<ScriptedBody>, u8>,
        >;
        assert_send_sync_clone_unpin::<TimeoutLayer<With<fn()>, AtEnd>>();
        assert_send_sync_clone_unpin::<Timeout<Inner, With<fn()>, AtEnd>>();
        assert_send_sync_clone_unpin::<Timeout<Inner, With<fn()>, AfterUpload<AtEnd>>>();
        assert_send_sync_clone_unpin::<TimeoutLayer<Fail, AfterUpload<AtHead>>>();
        assert_send_sync_clone_unpin::<DeadlineLayer<Fail, AtEnd>>();
        assert_send_sync_clone_unpin::<Deadline<Inner, Fail, AtEnd>>();
        assert_send_sync_clone_unpin::<DeadlineLayer>();
        assert_send_sync_clone_unpin::<Deadline<Inner>>();
        assert_send::<TimeoutBody<ScriptedBody>>();
        assert_send::<UploadBody<ScriptedBody>>();
        assert_send::<DeadlineFuture<Faults, ()>>();
        let _ = TimeoutBody::<http_body_util::Full<bytes::Bytes>>::reply;
    }

    type Faults = tower::util::BoxCloneSyncService<::http::Request<()>, (), BoxError>;
}

#[test]
fn the_future_of_a_service_is_send_when_the_inner_one_is() {
    type Inner = tower::util::BoxCloneSyncService<(), (), BoxError>;
    assert_send_sync_clone_unpin::<Timeout<Inner>>();
    assert_send::<TimeoutFuture<Inner, ()>>();
}
