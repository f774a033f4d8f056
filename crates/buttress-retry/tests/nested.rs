//! What a call of several attempts says to a layer above that retries as well: nothing that is true of one attempt alone.
#![cfg(feature = "http")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use buttress_core::{BoxError, Cause, Clock, Error, NothingSent, Outcome, Rejection, RejectionKind};
use buttress_http::field::NoRetry;
use buttress_retry::{Budget, HedgeLayer, ReplayBody, RetryLayer, Skip};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use support::{Log, Play, answer, get, layer, post, refusal, unsent};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Sent = Request<ReplayBody<Full<Bytes>>>;

/// Writes a key of its own into each request, as what stands between two layers must not.
fn keys() -> impl Fn(Sent) -> Sent + Clone {
    let keys = Arc::new(AtomicU32::new(0));
    move |mut request| {
        request.headers_mut().insert("idempotency-key", keys.fetch_add(1, Ordering::SeqCst).into());
        request
    }
}

/// The keys under which an order goes out, whose inner attempts go by the script.
async fn keys_of_an_order<L>(outer: RetryLayer, inner: L, script: Vec<Play>) -> Vec<String>
where
    L: Layer<support::Upstream<ReplayBody<Full<Bytes>>>>,
    L::Service: Service<Sent, Response = Response<Full<Bytes>>, Error = BoxError> + Clone,
{
    let log = Log::new(script);
    let stack = ServiceBuilder::new().layer(outer).map_request(keys()).layer(inner).service(log.upstream());
    let _ = stack.oneshot(post("a book")).await;
    let key = |seen: support::Seen| seen.head.headers["idempotency-key"].to_str().unwrap().to_owned();
    log.seen().into_iter().map(key).collect()
}

fn hedge() -> HedgeLayer {
    HedgeLayer::after(Duration::from_millis(100)).clock(Clock::tokio()).budget(Budget::unlimited())
}

fn open() -> Rejection {
    Rejection::new(RejectionKind::CircuitOpen).with_elsewhere()
}

#[tokio::test(start_paused = true)]
async fn an_order_that_may_have_been_carried_out_does_not_go_out_under_another_key() {
    // The first attempt may have been carried out; of the second it is certain that it was not.
    let lost = || Play::Fail("reset after it was carried out".into());
    let failed = || Play::Answer(answer(503));
    let proof = || {
        let refused: BoxError = Box::new(open());
        [Play::Drop(unsent()), Play::Drop(refused), Play::Early(refusal(open()))]
    };

    for first in [lost, failed] {
        for second in proof() {
            let script = vec![first(), second];
            let keys = keys_of_an_order(layer().elsewhere(), layer().attempts(2), script).await;
            assert_eq!(keys, ["0", "0"]);
        }
        for second in proof() {
            let keys = keys_of_an_order(layer().elsewhere(), hedge(), vec![first(), second]).await;
            assert_eq!(keys, ["0", "0"], "hedged");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_of_which_no_attempt_was_sent_still_goes_out_again() {
    for inner_attempts in [1, 2] {
        let script = (0..inner_attempts).map(|_| Play::Drop(unsent())).collect();
        let keys = keys_of_an_order(layer(), layer().attempts(inner_attempts), script).await;
        assert_eq!(keys.last().unwrap(), "1", "{inner_attempts}");
    }
    let script = vec![Play::Drop(unsent()), Play::Drop(unsent())];
    assert_eq!(keys_of_an_order(layer(), hedge(), script).await, ["0", "0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_classifier_takes_for_proof_is_none_of_a_call_that_was_tried_before() {
    let misdirected = |result: Result<&Response<Full<Bytes>>, &BoxError>| match result {
        Ok(response) if response.status() == 421 => {
            Outcome::failure().with_unprocessed().with_retry_after(Duration::from_secs(20))
        }
        Ok(response) if response.status() == 503 => Outcome::failure(),
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::of_error(error),
    };
    // The second asks for more time than the inner layer has, and less than the outer one.
    let log = Log::new([Play::Fail("reset".into()), Play::Early(answer(421))]);
    let inner = layer().classify(misdirected);
    let outer = layer().retry_after_cap(Duration::from_secs(60)).classify(misdirected);
    let stack = ServiceBuilder::new().layer(outer).map_request(keys()).layer(inner);

    let last = stack.service(log.upstream()).oneshot(post("a book")).await.unwrap();

    assert_eq!((last.status().as_u16(), last.extensions().get::<NoRetry>().is_some()), (421, true));
    assert!(log.seen().iter().all(|seen| seen.head.headers["idempotency-key"] == "0"));
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_place_for_a_mark_gives_way_to_the_one_before() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Foreign(#[source] BoxError);

    let errors: [fn() -> BoxError; 4] = [
        unsent,
        || "reset".into(),
        || NothingSent::new("no route").into(),
        || NothingSent::new("at last").into(),
    ];
    let turn = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |_: Sent| {
        let error = errors[turn.fetch_add(1, Ordering::SeqCst) as usize];
        async move { Err::<Response<Full<Bytes>>, _>(Error::Inner(Foreign(error()))) }
    });
    let key = |mut request: Request<Full<Bytes>>| {
        request.headers_mut().insert("idempotency-key", "7".parse().unwrap());
        request
    };
    let stack = ServiceBuilder::new().map_request(key).layer(layer().attempts(4)).service(service);

    let error = stack.oneshot(post("a book")).await.unwrap_err();

    assert_eq!((error.to_string().as_str(), error.nothing_sent()), ("reset", false));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_service_has_seen_goes_elsewhere_within_the_budget() {
    let script = || [Play::Answer(answer(503)), Play::Early(refusal(open()))];
    for (budget, attempts, denied) in [(Budget::ratio(0.001), 2, 1), (Budget::unlimited(), 3, 0)] {
        let log = Log::new(script());
        let outer = layer().budget(budget).elsewhere();

        outer.layer(layer().attempts(2).layer(log.upstream())).oneshot(get()).await.unwrap();

        assert_eq!((log.attempts(), outer.handle().skipped(Skip::Budget)), (attempts, denied));
    }
}
