//! Idle and total timeouts: what becomes of a response body.

#![cfg(feature = "http")]

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{AtHead, BoxError, Cause, End, Fail, Guard, ManualClock, OnCall, RejectionKind};
use buttress_http::body::Tracked;
use buttress_http::field::Streaming;
use buttress_http::reject;
use buttress_testkit::{BodyHandle, ScriptedBody, StrictService, Task};
use buttress_timeout::{AtEnd, Timeout, TimeoutBody, TimeoutBodyError, TimeoutEvent, TimeoutLayer};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

type Layered<B> = Timeout<OnCall<StrictService<Request<()>, Response<B>>>, Fail, AtEnd>;
type Seen = Option<Result<Frame<Bytes>, TimeoutBodyError>>;

/// What is behind the layer answers at once with `response`.
fn answered<B: Send + 'static>(
    layer: &TimeoutLayer<Fail, AtEnd>,
    response: Response<B>,
) -> Response<TimeoutBody<B>> {
    let response = Mutex::new(Some(response));
    let (inner, _) = StrictService::new(move |_| response.lock().unwrap().take().expect("it is called once"));
    let mut service: Layered<B> = layer.layer(inner);
    let Poll::Ready(Ok(response)) = Task::new(service.call(Request::new(()))).run() else {
        panic!("it answers at once")
    };
    response
}

fn body(layer: &TimeoutLayer<Fail, AtEnd>, body: ScriptedBody) -> (Reader, BodyHandle) {
    let handle = body.handle();
    (Reader(Box::pin(answered(layer, Response::new(body)).into_body())), handle)
}

/// Reads a body as a connection does: a frame at a time, when it wants to.
struct Reader(Pin<Box<TimeoutBody<ScriptedBody>>>);

impl Reader {
    fn wait(&mut self) -> Task<impl Future<Output = Seen>> {
        Task::new(poll_fn(|cx| self.0.as_mut().poll_frame(cx)))
    }

    fn frame(&mut self) -> Seen {
        match self.wait().run() {
            Poll::Ready(frame) => frame,
            Poll::Pending => panic!("no frame is there"),
        }
    }

    fn data(&mut self) -> Bytes {
        self.frame().expect("a frame").expect("no error").into_data().expect("data")
    }

    fn error(&mut self) -> TimeoutBodyError {
        self.frame().expect("an error").expect_err("an error")
    }
}

#[test]
fn a_body_that_stalls_ends_with_an_error_and_is_dropped_at_once() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(5 * SECOND).named("upstream").clock(time.clock());
    let (mut reader, inner) = body(&layer, ScriptedBody::new().data("half").stall().data("rest"));
    assert_eq!(reader.data(), "half");
    let mut wait = reader.wait();
    assert!(wait.run().is_pending());

    time.advance(5 * SECOND - Duration::from_nanos(1));
    assert!(!wait.is_woken());
    time.advance(Duration::from_nanos(1));

    let Poll::Ready(Some(Err(error))) = wait.run() else { panic!("it ends with an error") };
    assert!(matches!(&error, TimeoutBodyError::Idle(rejection) if rejection.kind == RejectionKind::Timeout));
    assert_eq!(error.to_string(), "body stalled: timed out by `upstream`");
    drop(wait);
    assert!(inner.is_dropped() && !inner.is_finished());
    assert!(reader.0.is_end_stream());
    assert!(reader.frame().is_none(), "after the error the body is at its end");
}

#[test]
fn a_slow_reader_does_not_trip_the_idle_timeout() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(5 * SECOND).clock(time.clock());
    let (mut reader, inner) = body(&layer, ScriptedBody::new().data("a").data("b").stall().data("c"));

    time.advance(HOUR);
    assert_eq!(reader.data(), "a");
    time.advance(HOUR);
    assert_eq!(reader.data(), "b");
    time.advance(HOUR);
    let mut wait = reader.wait();
    assert!(wait.run().is_pending(), "the reader waits from here on");
    time.advance(4 * SECOND);
    assert!(!wait.is_woken());
    inner.resume();
    drop(wait);
    time.advance(HOUR);

    assert_eq!(reader.data(), "c", "what is there is handed out, however late the reader comes for it");
}

#[test]
fn each_frame_gives_the_next_one_its_own_idle_time() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(5 * SECOND).clock(time.clock());
    let (mut reader, inner) =
        body(&layer, ScriptedBody::new().stall().data("a").stall().data("b").stall().data("c"));

    for expected in ["a", "b"] {
        let mut wait = reader.wait();
        assert!(wait.run().is_pending());
        time.advance(4 * SECOND);
        assert!(wait.run().is_pending());
        inner.resume();
        let Poll::Ready(Some(Ok(frame))) = wait.run() else { panic!("a frame") };
        assert_eq!(frame.into_data().unwrap(), expected);
    }

    let mut wait = reader.wait();
    assert!(wait.run().is_pending());
    time.advance(4 * SECOND);
    assert!(wait.run().is_pending(), "also when the timer of an earlier wait goes off");
    time.advance(SECOND);
    assert!(matches!(wait.run(), Poll::Ready(Some(Err(TimeoutBodyError::Idle(_))))));
}

#[test]
fn the_total_time_counts_from_the_call_and_ends_a_body_that_drips() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(5 * SECOND).and_total(10 * SECOND).clock(time.clock());
    let (mut reader, inner) =
        body(&layer, ScriptedBody::new().stall().data("a").stall().data("b").stall().data("c"));

    for _ in 0..2 {
        let mut wait = reader.wait();
        assert!(wait.run().is_pending());
        time.advance(4 * SECOND);
        inner.resume();
        assert!(wait.run().is_ready());
    }
    let mut wait = reader.wait();
    assert!(wait.run().is_pending());
    time.advance(2 * SECOND);

    assert!(wait.is_woken(), "two seconds are left of the total time, and five of the idle time");
    assert!(matches!(wait.run(), Poll::Ready(Some(Err(TimeoutBodyError::Total(_))))));
    drop(wait);
    assert!(inner.is_dropped());
}

#[test]
fn the_total_time_holds_for_a_slow_reader_too() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::total(10 * SECOND).clock(time.clock());
    let (mut reader, inner) = body(&layer, ScriptedBody::new().data("a").data("b"));
    assert_eq!(reader.data(), "a");

    time.advance(10 * SECOND);

    let error = reader.error();
    assert_eq!(error.to_string(), "body not complete in time: timed out");
    assert!(inner.is_dropped());
}

#[test]
fn a_body_that_is_complete_is_not_cut_by_the_total_time() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::total(10 * SECOND).clock(time.clock());
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().data("all"));
    assert_eq!(reader.data(), "all");

    time.advance(HOUR);

    assert!(reader.frame().is_none());
}

#[test]
fn the_total_time_also_ends_the_wait_for_the_head() {
    let time = ManualClock::new();
    let (inner, handle) = StrictService::<Request<()>, Response<Full<Bytes>>>::new(|_| Response::default());
    handle.hold();
    let events = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let events = events.clone();
        move |event: &TimeoutEvent<'_>| events.lock().unwrap().push(format!("{event:?}"))
    };
    let layer = TimeoutLayer::head(10 * SECOND).and_total(2 * SECOND).observe(observer).clock(time.clock());
    let mut service = layer.layer(inner);
    let mut call = Task::new(service.call(Request::new(())));
    assert!(call.run().is_pending());

    time.advance(2 * SECOND);

    assert!(matches!(call.run(), Poll::Ready(Err(_))));
    assert_eq!(*events.lock().unwrap(), ["Total { name: None, limit: 2s, elapsed: 2s }"]);
}

#[test]
fn a_response_that_streams_has_no_total_time_but_an_idle_one() {
    let marked = || Response::builder().extension(Streaming);
    let typed = |kind| Response::builder().header("content-type", kind);
    for head in [typed("text/event-stream; charset=utf-8"), typed("application/grpc+proto"), marked()] {
        let time = ManualClock::new();
        let layer = TimeoutLayer::total(10 * SECOND).and_idle(5 * SECOND).clock(time.clock());
        let scripted = ScriptedBody::new().data("event").stall().data("event");
        let response = answered(&layer, head.body(scripted).unwrap());
        let mut reader = Reader(Box::pin(response.into_body()));

        time.advance(HOUR);
        assert_eq!(reader.data(), "event");
        let mut wait = reader.wait();
        assert!(wait.run().is_pending());
        time.advance(5 * SECOND);

        assert!(matches!(wait.run(), Poll::Ready(Some(Err(TimeoutBodyError::Idle(_))))));
    }
}

#[test]
fn a_request_marked_as_streaming_has_no_total_time_from_the_start() {
    let time = ManualClock::new();
    let (inner, handle) = StrictService::<Request<()>, Response<Full<Bytes>>>::new(|_| Response::default());
    handle.hold();
    let mut service = TimeoutLayer::total(SECOND).clock(time.clock()).layer(inner);
    let mut request = Request::new(());
    request.extensions_mut().insert(Streaming);
    let mut call = Task::new(service.call(request));
    assert!(call.run().is_pending());

    time.advance(HOUR);

    assert!(call.run().is_pending());
    handle.release();
    assert!(matches!(call.run(), Poll::Ready(Ok(_))));
}

#[test]
fn frames_size_hint_end_and_trailers_pass_through() {
    let layer = TimeoutLayer::total(SECOND).and_idle(SECOND).clock(ManualClock::new().clock());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "7".parse().unwrap());
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().data("hello").trailers(trailers.clone()));
    assert_eq!(reader.0.size_hint().exact(), Some(5));
    assert!(!reader.0.is_end_stream());

    assert_eq!(reader.data(), "hello");
    assert_eq!(reader.0.size_hint().exact(), Some(0));
    assert_eq!(reader.frame().unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(reader.0.is_end_stream());

    let (empty, _) = body(&layer, ScriptedBody::new());
    assert!(empty.0.is_end_stream());
}

#[test]
fn an_error_of_the_inner_body_passes_as_it_is() {
    let layer = TimeoutLayer::idle(SECOND).clock(ManualClock::new().clock());
    let broken = std::io::Error::other("reset");
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().error(broken));

    let error = reader.error();

    assert_eq!(error.to_string(), "reset");
    assert!(error.rejection().is_none());
    let TimeoutBodyError::Inner(inner) = error else { panic!("{error:?}") };
    assert!(inner.is::<std::io::Error>());
}

#[test]
fn our_refusal_is_found_in_a_body_error_however_it_is_boxed() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(SECOND).named("idle").clock(time.clock());
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().stall());
    let mut wait = reader.wait();
    assert!(wait.run().is_pending());
    time.advance(SECOND);
    let Poll::Ready(Some(Err(error))) = wait.run() else { panic!("it ends with an error") };

    let boxed: BoxError = Box::new(error);

    assert_eq!(boxed.rejection().unwrap().policy.as_deref(), Some("idle"));
}

#[test]
fn a_guard_inside_a_stalled_body_is_told_that_the_call_was_aborted() {
    struct Told(Arc<Mutex<Vec<&'static str>>>);
    impl Guard for Told {
        fn end(&mut self, end: &End<'_>) {
            self.0.lock().unwrap().push(match end {
                End::Aborted => "aborted",
                _ => "other",
            });
        }
    }

    let time = ManualClock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tracked = Tracked::new(ScriptedBody::new().data("a").stall().data("b"), Told(told.clone()));
    let layer = TimeoutLayer::idle(SECOND).clock(time.clock());
    let mut kept = Box::pin(answered(&layer, Response::new(tracked)).into_body());
    let mut read = || Task::new(poll_fn(|cx| kept.as_mut().poll_frame(cx))).run();
    assert!(read().is_ready());
    assert!(read().is_pending());
    assert!(told.lock().unwrap().is_empty());

    time.advance(SECOND);

    assert!(matches!(read(), Poll::Ready(Some(Err(_)))));
    assert_eq!(*told.lock().unwrap(), ["aborted"]);
    drop(kept);
}

#[test]
fn an_observer_that_panics_leaves_nothing_behind() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::idle(SECOND).observe(|_| std::panic::resume_unwind(Box::new("observer")));
    let (mut reader, inner) = body(&layer.clock(time.clock()), ScriptedBody::new().stall().data("a"));
    let mut wait = reader.wait();
    assert!(wait.run().is_pending());
    time.advance(SECOND);

    assert!(catch_unwind(AssertUnwindSafe(|| wait.run())).is_err());

    drop(wait);
    assert!(inner.is_dropped());
    assert!(reader.0.is_end_stream());
}

#[test]
fn a_server_answers_a_timeout_with_504_and_a_problem() {
    let time = ManualClock::new();
    let (inner, handle) = StrictService::<Request<()>, Response<Full<Bytes>>>::new(|_| Response::default());
    handle.hold();
    let layer = TimeoutLayer::head(SECOND).and_idle(SECOND).on_reject(reject::respond()).clock(time.clock());
    let mut service = layer.layer(inner);
    let mut call = Task::new(service.call(Request::new(())));
    assert!(call.run().is_pending());

    time.advance(SECOND);

    let Poll::Ready(Ok(response)) = call.run() else { panic!("it answers") };
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.extensions().get::<buttress_core::Rejection>().is_some());
    let mut body = Box::pin(response.into_body());
    let Poll::Ready(Some(Ok(frame))) = Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx))).run() else {
        panic!("the problem is there")
    };
    assert!(frame.into_data().unwrap().starts_with(b"{"));
}

#[test]
fn a_body_that_is_there_needs_no_timer() {
    // There is no runtime here: a tokio timer would panic.
    let layer = TimeoutLayer::total(SECOND).and_idle(SECOND).clock(buttress_core::Clock::monotonic());
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().data("a").data("b"));

    assert_eq!(reader.data(), "a");
    assert_eq!(reader.data(), "b");
    assert!(reader.0.is_end_stream());
}

#[test]
fn endless_timeouts_make_no_timer_for_a_body() {
    let layer =
        TimeoutLayer::total(Duration::MAX).and_idle(Duration::MAX).clock(buttress_core::Clock::monotonic());
    let (mut reader, _inner) = body(&layer, ScriptedBody::new().stall().data("b"));

    assert!(reader.wait().run().is_pending());
}

#[test]
fn a_head_only_layer_leaves_the_response_type_alone() {
    fn same<S>(_: &S)
    where
        S: Service<Request<()>, Response = Response<ScriptedBody>>,
    {
    }

    let (inner, _) = StrictService::<Request<()>, Response<ScriptedBody>>::new(|_| Response::default());
    let service: Timeout<_, Fail, AtHead> = TimeoutLayer::head(SECOND).layer(inner);
    same(&service);
}

#[test]
#[should_panic(expected = "idle timeout is 0ns: it must be longer than zero")]
fn an_idle_timeout_of_zero_is_refused_when_it_is_built() {
    let _ = TimeoutLayer::idle(Duration::ZERO);
}

#[test]
#[should_panic(expected = "total timeout is 0ns: it must be longer than zero")]
fn a_total_timeout_of_zero_is_refused_when_it_is_built() {
    let _ = TimeoutLayer::head(SECOND).and_total(Duration::ZERO);
}
