//! The layers under the contract, in both forms.

use std::time::Duration;

use buttress_testkit::{Contract, assert_send, assert_send_sync_clone_unpin};
use buttress_timeout::{Timeout, TimeoutFuture, TimeoutLayer};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_head_timeout_keeps_the_contract() {
    Contract::new(|| TimeoutLayer::head(MINUTE))
        .refuses("no time", || TimeoutLayer::head(Duration::ZERO))
        .run();
    Contract::new(|| TimeoutLayer::head(MINUTE).strict()).run();
}

#[cfg(feature = "http")]
mod http {
    use buttress_core::reject;
    use buttress_http::body::ReplyBody;
    use buttress_testkit::ScriptedBody;
    use buttress_timeout::{AtEnd, Deadline, DeadlineFuture, DeadlineLayer, TimeoutBody};

    use super::*;

    #[test]
    fn timeouts_of_the_body_keep_the_contract() {
        let layer = || TimeoutLayer::head(MINUTE).and_idle(MINUTE).and_total(60 * MINUTE);
        Contract::http(layer)
            .refuses("no idle time", || TimeoutLayer::idle(Duration::ZERO))
            .refuses("no total time", || TimeoutLayer::total(Duration::ZERO))
            .run();
        Contract::http(move || layer().strict()).run();
    }

    #[test]
    fn a_deadline_keeps_the_contract() {
        Contract::http(DeadlineLayer::new)
            .refuses("no time", || DeadlineLayer::new().at_most(Duration::ZERO))
            .refuses("a floor above the limit", || DeadlineLayer::new().at_most(MINUTE).floor(2 * MINUTE))
            .run();
        Contract::http(|| DeadlineLayer::new().strict()).run();
    }

    #[test]
    fn a_deadline_of_its_own_keeps_the_contract_at_the_price_of_facts_and_a_field() {
        Contract::http(|| DeadlineLayer::new().at_most(MINUTE)).allocations(8).run();
    }

    #[test]
    fn the_types_are_send_and_sync() {
        type Inner = Timeout<
            tower::util::BoxCloneSyncService<::http::Request<()>, ::http::Response<ScriptedBody>, u8>,
        >;
        assert_send_sync_clone_unpin::<TimeoutLayer<reject::With<fn()>, AtEnd>>();
        assert_send_sync_clone_unpin::<Timeout<Inner, reject::With<fn()>, AtEnd>>();
        assert_send_sync_clone_unpin::<DeadlineLayer>();
        assert_send_sync_clone_unpin::<Deadline<Inner>>();
        assert_send::<TimeoutBody<ScriptedBody>>();
        assert_send::<DeadlineFuture<Faults, ()>>();
        let _ = TimeoutBody::<http_body_util::Full<bytes::Bytes>>::reply;
    }

    type Faults = tower::util::BoxCloneSyncService<::http::Request<()>, (), buttress_core::BoxError>;
}

#[test]
fn the_future_of_a_service_is_send_when_the_inner_one_is() {
    type Inner = tower::util::BoxCloneSyncService<(), (), buttress_core::BoxError>;
    assert_send_sync_clone_unpin::<Timeout<Inner>>();
    assert_send::<TimeoutFuture<Inner, ()>>();
}
