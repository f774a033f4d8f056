//! Upload timeouts: what becomes of a request that is long in coming.

#![cfg(feature = "http")]

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use buttress_core::{BoxError, Cause, Clock, Fail, ManualClock, OnCall, RejectionKind};
use buttress_http::reject;
use buttress_testkit::{ScriptedBody, StrictService, Task, WakeCounter, allocations};
use buttress_timeout::{AfterUpload, AtEnd, Timeout, TimeoutEvent, TimeoutLayer, UploadBody};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// A second to answer, and ten for each standstill of the request.
fn layer(time: &ManualClock) -> TimeoutLayer<Fail, AfterUpload> {
    TimeoutLayer::head(SECOND).and_upload(10 * SECOND).clock(time.clock())
}

type Passed = UploadBody<ScriptedBody>;

/// Reads the whole request, then answers with its bytes.
async fn echo(request: Request<Passed>) -> Result<Response<Full<Bytes>>, BoxError> {
    Ok(Response::new(Full::new(request.into_body().collect().await?.to_bytes())))
}

/// Reads the whole request, and never answers.
async fn silent(request: Request<Passed>) -> Result<Response<Full<Bytes>>, BoxError> {
    request.into_body().collect().await?;
    pending().await
}

/// Leaves the body to the test, as a connection with a task of its own does, and never answers.
fn elsewhere() -> (
    impl Service<Request<Passed>, Response = Response<Full<Bytes>>, Error = BoxError> + Clone,
    Receiver<Passed>,
) {
    let (give, take) = channel();
    let service = service_fn(move |request: Request<Passed>| {
        give.send(request.into_body()).expect("the test still listens");
        pending()
    });
    (service, take)
}

/// The observer's notes.
fn noting(
    layer: TimeoutLayer<Fail, AfterUpload>,
) -> (TimeoutLayer<Fail, AfterUpload>, Arc<Mutex<Vec<String>>>) {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let notes = notes.clone();
        move |event: &TimeoutEvent<'_>| notes.lock().unwrap().push(format!("{event:?}"))
    };
    (layer.observe(observer), notes)
}

fn assert_refused<T>(answer: Poll<Result<T, BoxError>>) {
    let Poll::Ready(Err(error)) = answer else { panic!("it is refused") };
    assert_eq!(error.rejection().expect("by our layer").kind, RejectionKind::Timeout);
}

fn frame(body: &mut Pin<&mut Passed>) -> Task<impl Future<Output = Option<Bytes>>> {
    Task::new(poll_fn(|cx| {
        body.as_mut().poll_frame(cx).map(|frame| Some(frame?.expect("no error").into_data().expect("data")))
    }))
}

#[test]
fn an_upload_may_take_longer_than_the_head_as_long_as_it_moves() {
    let time = ManualClock::new();
    let body = (0..5).fold(ScriptedBody::new(), |body, _| body.stall().data("x"));
    let client = body.handle();
    let mut service = layer(&time).layer(service_fn(echo));
    let mut call = Task::new(service.call(Request::new(body)));

    for _ in 0..5 {
        assert!(call.run().is_pending());
        time.advance(9 * SECOND);
        assert!(call.run().is_pending());
        client.resume();
    }

    let Poll::Ready(Ok(_)) = call.run() else { panic!("it answers after 45 seconds") };
}

#[test]
fn without_an_upload_timeout_the_head_time_covers_the_upload() {
    let time = ManualClock::new();
    let body = ScriptedBody::new().data("x").stall().data("x");
    let read = service_fn(async |request: Request<ScriptedBody>| {
        request.into_body().collect().await.map(|_| Response::new(Full::<Bytes>::default()))
    });
    let mut service = TimeoutLayer::head(SECOND).clock(time.clock()).layer(read);
    let mut call = Task::new(service.call(Request::new(body)));
    assert!(call.run().is_pending());

    time.advance(SECOND);

    assert_refused(call.run());
}

#[test]
fn from_the_end_of_the_upload_the_head_time_runs() {
    let time = ManualClock::new();
    let (layer, notes) = noting(layer(&time));
    let body = ScriptedBody::new().data("x").stall().data("x");
    let client = body.handle();
    let mut service = layer.layer(service_fn(silent));
    let mut call = Task::new(service.call(Request::new(body)));
    assert!(call.run().is_pending());
    time.advance(5 * SECOND);

    client.resume();
    assert!(call.run().is_pending());
    time.advance(SECOND - Duration::from_nanos(1));
    assert!(call.run().is_pending());
    time.advance(Duration::from_nanos(1));

    assert!(call.is_woken());
    assert_refused(call.run());
    assert_eq!(*notes.lock().unwrap(), ["Head { name: None, limit: 1s, elapsed: 1s }"]);
}

#[test]
fn an_upload_that_stalls_is_refused_and_the_client_is_named() {
    let time = ManualClock::new();
    let (layer, notes) = noting(layer(&time).named("edge"));
    let body = ScriptedBody::new().data("x").stall().data("x");
    let client = body.handle();
    let mut service = layer.layer(service_fn(echo));
    let mut call = Task::new(service.call(Request::new(body)));
    time.advance(3 * SECOND);
    assert!(call.run().is_pending());

    time.advance(10 * SECOND - Duration::from_nanos(1));
    assert!(call.run().is_pending());
    time.advance(Duration::from_nanos(1));

    assert!(call.is_woken());
    assert_refused(call.run());
    assert!(client.is_dropped());
    let told = "Upload { name: Some(\"edge\"), limit: 10s, elapsed: 10s, client: true }";
    assert_eq!(*notes.lock().unwrap(), [told]);
}

#[test]
fn a_server_answers_a_stalled_upload_with_504() {
    let time = ManualClock::new();
    let mut service = layer(&time).on_reject(reject::respond()).layer(service_fn(echo));
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new().stall().data("x"))));
    assert!(call.run().is_pending());

    time.advance(10 * SECOND);

    let Poll::Ready(Ok(response)) = call.run() else { panic!("it answers") };
    assert_eq!(response.status(), 504);
}

#[test]
fn a_service_that_stops_reading_is_refused_and_the_client_is_not_named() {
    let time = ManualClock::new();
    let (layer, notes) = noting(layer(&time));
    let (inner, bodies) = elsewhere();
    let mut service = layer.layer(inner);
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new().data("x").data("y").data("z"))));
    assert!(call.run().is_pending());
    let mut body = pin!(bodies.recv().unwrap());
    time.advance(9 * SECOND);
    assert!(frame(&mut body).run().is_ready());

    time.advance(9 * SECOND);
    assert!(call.run().is_pending(), "each frame gives the next one its own time");
    time.advance(SECOND);

    assert_refused(call.run());
    assert_eq!(*notes.lock().unwrap(), ["Upload { name: None, limit: 10s, elapsed: 10s, client: false }"]);
}

#[test]
fn a_body_that_ends_in_another_task_wakes_the_call_for_its_shorter_head_time() {
    let time = ManualClock::new();
    let (inner, bodies) = elsewhere();
    let mut service = layer(&time).layer(inner);
    let script = ScriptedBody::new().data("x").stall().data("y");
    let client = script.handle();
    let mut call = Task::new(service.call(Request::new(script)));
    assert!(call.run().is_pending());
    let mut body = pin!(bodies.recv().unwrap());
    assert!(frame(&mut body).run().is_ready());
    assert!(frame(&mut body).run().is_pending());
    assert!(!call.is_woken(), "what is due later than the timer wakes nobody");

    client.resume();
    assert!(frame(&mut body).run().is_ready());
    assert!(call.is_woken());
    assert!(call.run().is_pending());
    time.advance(SECOND);

    assert_refused(call.run());
}

#[test]
fn a_body_that_moves_in_the_calls_own_task_does_not_wake_it() {
    let time = ManualClock::new();
    let counter = WakeCounter::new();
    let body = ScriptedBody::new().data("x").data("y").stall().data("z");
    let client = body.handle();
    let mut service = layer(&time).layer(service_fn(silent));
    let mut call = pin!(service.call(Request::new(body)));
    assert!(counter.poll(call.as_mut()).is_pending());
    client.resume();
    let before = counter.wakes();

    assert!(counter.poll(call.as_mut()).is_pending());

    assert_eq!((counter.wakes(), counter.self_wakes()), (before, 0));
}

#[test]
fn a_body_that_the_service_drops_counts_as_sent() {
    let time = ManualClock::new();
    let (inner, bodies) = elsewhere();
    let mut service = layer(&time).layer(inner);
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new().stall().data("x"))));
    assert!(call.run().is_pending());
    time.advance(2 * SECOND);

    drop(bodies.recv().unwrap());

    assert!(call.is_woken());
    assert!(call.run().is_pending());
    time.advance(SECOND);
    assert_refused(call.run());
}

#[test]
fn a_request_without_a_body_is_sent_from_the_start() {
    let time = ManualClock::new();
    let mut service = layer(&time).layer(service_fn(silent));
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new())));
    assert!(call.run().is_pending());

    time.advance(SECOND);

    assert_refused(call.run());
}

#[test]
fn the_total_time_counts_from_the_call_whatever_the_upload_takes() {
    let time = ManualClock::new();
    let body = ScriptedBody::new().stall().data("x").stall().data("x");
    let client = body.handle();
    let mut service = layer(&time).and_total(12 * SECOND).layer(service_fn(echo));
    let mut call = Task::new(service.call(Request::new(body)));
    assert!(call.run().is_pending());
    time.advance(9 * SECOND);
    client.resume();
    assert!(call.run().is_pending());

    time.advance(3 * SECOND);

    assert_refused(call.run());
}

#[test]
fn with_an_endless_upload_time_only_the_head_time_moves() {
    let time = ManualClock::new();
    let body = ScriptedBody::new().stall().data("x");
    let client = body.handle();
    let layer = TimeoutLayer::upload(Duration::MAX).and_head(SECOND).clock(time.clock());
    let mut service = layer.layer(service_fn(silent));
    let mut call = Task::new(service.call(Request::new(body)));
    assert!(call.run().is_pending());
    time.advance(1000 * SECOND);
    assert!(call.run().is_pending());

    client.resume();
    assert!(call.run().is_pending());
    time.advance(SECOND);

    assert_refused(call.run());
}

#[test]
fn after_the_head_the_upload_has_no_limit_of_its_own() {
    let time = ManualClock::new();
    let (give, bodies) = channel();
    let early = service_fn(move |request: Request<Passed>| {
        give.send(request.into_body()).unwrap();
        async { Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())) }
    });
    let (layer, notes) = noting(layer(&time));
    let mut service = layer.layer(early);
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new().data("x").stall().data("y"))));
    assert!(matches!(call.run(), Poll::Ready(Ok(_))));

    let mut body = pin!(bodies.recv().unwrap());
    assert!(frame(&mut body).run().is_ready());
    time.advance(1000 * SECOND);
    assert!(frame(&mut body).run().is_pending());
    assert!(notes.lock().unwrap().is_empty());
}

#[test]
fn a_call_that_is_dropped_leaves_no_waker_with_the_body() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    let time = ManualClock::new();
    let (inner, bodies) = elsewhere();
    let mut service = layer(&time).layer(inner);
    let task = Arc::new(Task);
    let waker = Waker::from(task.clone());
    let mut call = Box::pin(service.call(Request::new(ScriptedBody::new().stall().data("x"))));
    assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(Arc::strong_count(&task) > 1);

    drop(call);

    assert_eq!(Arc::strong_count(&task), 1);
    drop(bodies.recv().unwrap());
}

#[test]
fn an_observer_that_panics_leaves_nothing_behind() {
    let time = ManualClock::new();
    let layer = layer(&time).observe(|_| std::panic::resume_unwind(Box::new("observer")));
    let body = ScriptedBody::new().stall().data("x");
    let client = body.handle();
    let mut service = layer.layer(service_fn(echo));
    let mut call = Task::new(service.call(Request::new(body)));
    assert!(call.run().is_pending());
    time.advance(10 * SECOND);

    assert!(catch_unwind(AssertUnwindSafe(|| call.run())).is_err());

    assert!(client.is_dropped());
}

#[test]
fn a_call_that_moves_to_another_task_is_woken_there() {
    let time = ManualClock::new();
    let (inner, bodies) = elsewhere();
    let mut service = layer(&time).layer(inner);
    let mut call = Task::new(service.call(Request::new(ScriptedBody::new().stall().data("x"))));
    assert!(call.run().is_pending());
    call.change_waker();
    assert!(call.run().is_pending());

    drop(bodies.recv().unwrap());

    assert!(call.is_woken());
}

#[test]
fn a_request_without_a_body_allocates_nothing_and_one_with_a_body_once() {
    let layer = TimeoutLayer::upload(SECOND).and_head(SECOND).clock(Clock::monotonic());
    let (inner, _handle) = StrictService::<Request<Passed>, ()>::new(|_| ());
    let mut service = layer.layer(inner);
    let noop = &mut Context::from_waker(Waker::noop());
    let mut send = |body: ScriptedBody| {
        let request = Request::new(body);
        allocations(|| assert!(pin!(service.call(request)).poll(noop).is_ready()))
    };

    send(ScriptedBody::new());
    assert_eq!(send(ScriptedBody::new()), 0);
    assert_eq!(send(ScriptedBody::new().data("x")), 1);
}

#[test]
fn frames_size_hint_end_trailers_and_errors_of_the_request_pass_through() {
    let time = ManualClock::new();
    let (inner, bodies) = elsewhere();
    let mut service = layer(&time).layer(inner);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "7".parse().unwrap());

    let body = ScriptedBody::new().data("hello").trailers(trailers.clone());
    let _call = service.call(Request::new(body));
    let mut body = pin!(bodies.recv().unwrap());
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    assert_eq!(frame(&mut body).run(), Poll::Ready(Some(Bytes::from("hello"))));
    let Poll::Ready(Some(Ok(last))) = Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx))).run() else {
        panic!("the trailers are there")
    };
    assert_eq!(last.into_trailers().unwrap(), trailers);
    assert!(body.is_end_stream());

    let _call = service.call(Request::new(ScriptedBody::new().error("reset")));
    let mut body = pin!(bodies.recv().unwrap());
    let Poll::Ready(Some(Err(error))) = Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx))).run() else {
        panic!("the error is there")
    };
    assert_eq!(error.to_string(), "reset");
}

#[test]
fn upload_and_the_other_timeouts_are_added_in_any_order() {
    type Inner = StrictService<Request<Passed>, Response<ScriptedBody>>;
    fn wraps(
        layer: &TimeoutLayer<Fail, AfterUpload<AtEnd>>,
    ) -> Timeout<OnCall<Inner>, Fail, AfterUpload<AtEnd>> {
        layer.layer(StrictService::new(|_| Response::default()).0)
    }

    wraps(&TimeoutLayer::upload(SECOND).and_idle(SECOND).and_total(SECOND).and_head(SECOND));
    wraps(&TimeoutLayer::head(SECOND).and_total(SECOND).and_upload(SECOND).and_upload(SECOND));
    wraps(&TimeoutLayer::idle(SECOND).and_upload(SECOND).and_idle(SECOND));
}

#[test]
#[should_panic(expected = "upload timeout is 0ns: it must be longer than zero")]
fn an_upload_timeout_of_zero_is_refused_when_it_is_built() {
    let _ = TimeoutLayer::upload(Duration::ZERO);
}
