//! Errors become responses at the top of the stack.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use buttress_core::{BoxError, Cause, Error, Rejection, RejectionKind};
use buttress_http::Problem;
use buttress_http::answer::{AnswerErrors, AnswerErrorsFuture, AnswerErrorsLayer, AnswerEvent};
use buttress_testkit::{
    StrictFuture, StrictHandle, StrictService, assert_send, assert_send_sync_clone_unpin,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_service::Service;

type Reply = Response<Full<Bytes>>;
type Strict<E> = StrictService<Request<()>, Reply, E>;

fn upstream<E>() -> (Strict<E>, StrictHandle<E>) {
    StrictService::new(|_| Response::new(Full::from("hello")))
}

/// What `layer` answers when the service below fails with `error`.
async fn answer<E, D>(layer: AnswerErrorsLayer<D>, error: E) -> Reply
where
    E: Cause,
    D: buttress_http::answer::Describe<E>,
{
    let (inner, handle) = upstream();
    handle.fail(error);
    let Ok(response) = layer.layer(inner).oneshot(Request::new(())).await;
    response
}

async fn text(reply: Reply) -> String {
    String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("while asking the database")]
struct Wrapped(#[source] BoxError);

impl Cause for Wrapped {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

#[tokio::test]
async fn a_response_passes_unchanged() {
    let (inner, handle) = upstream::<BoxError>();

    let Ok(response) = AnswerErrorsLayer::new().layer(inner).oneshot(Request::new(())).await;

    assert_eq!(response.status(), 200);
    assert!(response.headers().is_empty());
    assert_eq!(text(response).await, "hello");
    assert_eq!(handle.clones(), 0);
}

#[tokio::test]
async fn a_refusal_anywhere_among_the_causes_is_answered_as_one() {
    let refusal = Rejection::new(RejectionKind::RateLimited).with_policy("daily");
    let wrapped = Wrapped(Box::new(Wrapped(Box::new(refusal.clone()))));

    for response in [
        answer(AnswerErrorsLayer::new(), wrapped).await,
        answer(AnswerErrorsLayer::new(), Error::<io::Error>::Rejected(refusal.clone())).await,
        answer(AnswerErrorsLayer::new(), BoxError::from(refusal.clone())).await,
        answer(AnswerErrorsLayer::new(), refusal.clone()).await,
    ] {
        assert_eq!(response.status(), 429);
        assert_eq!(response.extensions().get(), Some(&refusal));
        assert!(text(response).await.contains(r#""violated-policies":["daily"]"#));
    }
}

#[tokio::test]
async fn io_that_timed_out_is_504_and_the_rest_502() {
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);

    for (error, status) in [
        (BoxError::from(timed_out()), 504),
        (Wrapped(timed_out().into()).into(), 504),
        (reset.into(), 502),
        ("anything".into(), 502),
    ] {
        let response = answer(AnswerErrorsLayer::new(), error).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn the_text_of_an_error_does_not_reach_the_client() {
    let response = answer(AnswerErrorsLayer::new(), BoxError::from("password=hunter2")).await;

    assert_eq!(text(response).await, r#"{"type":"about:blank","title":"Bad Gateway","status":502}"#);
}

#[tokio::test]
async fn the_status_for_the_rest_can_be_chosen() {
    let layer = AnswerErrorsLayer::new().otherwise(StatusCode::INTERNAL_SERVER_ERROR);

    assert_eq!(answer(layer, BoxError::from("bug")).await.status(), 500);
}

#[test]
#[should_panic(expected = "otherwise: 200 OK does not tell of an error")]
fn an_error_cannot_be_answered_with_a_success() {
    let _ = AnswerErrorsLayer::new().otherwise(StatusCode::OK);
}

#[tokio::test]
async fn errors_that_a_closure_knows_are_answered_as_it_says() {
    let layer = || {
        AnswerErrorsLayer::new().describe(|error: &io::Error| {
            let full = error.kind() == io::ErrorKind::StorageFull;
            full.then(|| Problem::new(StatusCode::INSUFFICIENT_STORAGE).with_detail("delete something"))
        })
    };

    let known = answer(layer(), io::Error::from(io::ErrorKind::StorageFull)).await;
    let unknown = answer(layer(), io::Error::from(io::ErrorKind::TimedOut)).await;

    assert_eq!(known.status(), 507);
    assert!(text(known).await.contains("delete something"));
    assert_eq!(unknown.status(), 504);
}

#[tokio::test]
async fn the_observer_sees_each_error_whole() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layer = AnswerErrorsLayer::new().observe({
        let seen = Arc::clone(&seen);
        move |event| {
            seen.lock().unwrap().push(match event {
                AnswerEvent::Refused { rejection } => format!("refused: {rejection}"),
                AnswerEvent::Failed { error, status } => format!("{}: {}", status.as_u16(), error.unwrap()),
                _ => unreachable!("no other event yet"),
            });
        }
    });

    answer(layer.clone(), BoxError::from("password=hunter2")).await;
    answer(layer.clone(), BoxError::from(Rejection::new(RejectionKind::Denied))).await;

    assert_eq!(*seen.lock().unwrap(), ["502: password=hunter2", "refused: denied"]);
}

#[tokio::test]
async fn the_reply_has_the_form_that_the_request_asks_for() {
    let server = AnswerErrorsLayer::new().layer(service_fn(|_: Request<()>| async {
        Err::<Reply, _>(io::Error::from(io::ErrorKind::TimedOut))
    }));
    let grpc = Request::builder().header("content-type", "application/grpc").body(()).unwrap();
    let head = Request::builder().method(Method::HEAD).body(()).unwrap();

    let Ok(of_grpc) = server.clone().oneshot(grpc).await;
    let Ok(of_head) = server.oneshot(head).await;

    assert_eq!(of_grpc.status(), 200);
    assert_eq!(of_grpc.headers()["grpc-status"], "4");
    assert_eq!(of_head.status(), 504);
    assert_ne!(of_head.headers()["content-length"], "0");
    assert_eq!(text(of_head).await, "");
}

#[tokio::test]
async fn an_error_of_poll_ready_answers_the_next_call_and_only_that() {
    let (inner, handle) = upstream::<BoxError>();
    let seen = Arc::new(Mutex::new(0));
    let mut server = AnswerErrorsLayer::new()
        .observe({
            let seen = Arc::clone(&seen);
            move |_| *seen.lock().unwrap() += 1
        })
        .layer(inner);
    handle.fail_ready("closed".into());

    let Ok(()) = std::future::poll_fn(|cx| server.poll_ready(cx)).await;
    // Polled again it is ready all the same, and the inner service is left alone.
    let Ok(()) = std::future::poll_fn(|cx| server.poll_ready(cx)).await;
    assert_eq!(handle.polls(), 1);
    let clone = server.clone();
    let Ok(first) = server.call(Request::new(())).await;
    let Ok(second) = server.oneshot(Request::new(())).await;
    let Ok(of_clone) = clone.oneshot(Request::new(())).await;

    assert_eq!(first.status(), 502);
    assert_eq!(second.status(), 200);
    assert_eq!(of_clone.status(), 200);
    assert_eq!(handle.calls(), 2);
    assert_eq!(*seen.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for() {
    let (inner, handle) = upstream::<BoxError>();
    let mut server = AnswerErrorsLayer::new().layer(inner);
    handle.not_ready();

    let mut ready = buttress_testkit::Task::new(std::future::poll_fn(|cx| server.poll_ready(cx)));

    assert!(ready.run().is_pending());
    handle.ready();
    assert!(ready.is_woken());
    assert!(matches!(ready.run(), Poll::Ready(Ok(()))));
}

#[test]
fn the_types_can_be_shared_and_named() {
    type Server = AnswerErrors<Strict<BoxError>>;
    type Answering = AnswerErrorsFuture<StrictFuture<Reply, BoxError>>;

    fn is_infallible<F: Future<Output = Result<Reply, Infallible>>>() {}
    fn gives<S: Service<Request<()>, Future = F>, F>() {}

    assert_send_sync_clone_unpin::<AnswerErrorsLayer>();
    assert_send_sync_clone_unpin::<Server>();
    assert_send::<Answering>();
    is_infallible::<Answering>();
    gives::<Server, Answering>();
}

#[test]
fn a_call_that_succeeds_allocates_nothing() {
    let (inner, _handle) =
        StrictService::<Request<()>, Response<Full<Bytes>>, BoxError>::new(|_| Response::default());
    let mut server = AnswerErrorsLayer::new().layer(inner);
    let mut call = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(server.poll_ready(&mut cx).is_ready());
        let mut future = std::pin::pin!(server.call(Request::new(())));
        assert!(future.as_mut().poll(&mut cx).is_ready());
    };
    call();

    assert_eq!(buttress_testkit::allocations(call), 0);
}
