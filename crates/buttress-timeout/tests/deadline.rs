//! Deadlines that travel with a request.

#![cfg(feature = "http")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{
    BoxError, Cause, Clock, Facts, HasFacts, ManualClock, OnCall, Rejection, RejectionKind, Timestamp,
};
use buttress_http::reject;
use buttress_testkit::{ScriptedBody, StrictHandle, StrictService, Task};
use buttress_timeout::{Deadline, DeadlineLayer, TimeoutBody, TimeoutBodyError, TimeoutEvent};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MILLIS: &str = "x-envoy-expected-rq-timeout-ms";

/// What the service below saw of a request.
type Inner = StrictService<Request<()>, (HeaderMap, Option<Facts>)>;

fn inner() -> (Inner, StrictHandle) {
    StrictService::new(|request: Request<()>| (request.headers().clone(), request.facts().cloned()))
}

fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Sends one request through the layer; the service below answers at once with what it saw.
fn send(layer: &DeadlineLayer, request: Request<()>) -> Result<(HeaderMap, Option<Facts>), Rejection> {
    let (inner, handle) = inner();
    let mut service: Deadline<OnCall<Inner>> = layer.layer(inner);
    let Poll::Ready(answer) = Task::new(service.call(request)).run() else {
        panic!("it is answered at once")
    };
    answer.map_err(|error| {
        assert_eq!(handle.calls(), 0, "what is refused does not reach the service below");
        error.rejection().expect("it is our refusal").clone()
    })
}

fn layer() -> (DeadlineLayer, ManualClock) {
    let time = ManualClock::new();
    time.advance(7 * SECOND);
    (DeadlineLayer::new().clock(time.clock()), time)
}

#[test]
fn a_deadline_is_stored_for_the_layers_below_and_written_for_the_next_hop() {
    let (layer, time) = layer();

    let (headers, facts) = send(&layer, request(&[(MILLIS, "1500")])).unwrap();

    assert_eq!(facts.unwrap().deadline, Some(time.now() + 1500 * MILLI));
    assert_eq!(headers[MILLIS], "1500");
    assert!(!headers.contains_key("grpc-timeout"));
}

#[test]
fn a_grpc_request_carries_its_deadline_in_grpc_timeout() {
    let (layer, time) = layer();
    let grpc = ("content-type", "application/grpc");

    let (headers, facts) = send(&layer, request(&[grpc, ("grpc-timeout", "2S")])).unwrap();
    assert_eq!(facts.unwrap().deadline, Some(time.now() + 2 * SECOND));
    assert_eq!(headers["grpc-timeout"], "2000000u");
    assert!(!headers.contains_key(MILLIS));

    let (headers, _) = send(&layer.at_most(SECOND), request(&[grpc])).unwrap();
    assert_eq!(headers["grpc-timeout"], "1000000u");
    assert!(!headers.contains_key(MILLIS));
}

#[test]
fn of_both_fields_the_shorter_counts_and_both_are_brought_up_to_date() {
    let (layer, time) = layer();

    let (headers, facts) = send(&layer, request(&[("grpc-timeout", "5S"), (MILLIS, "300")])).unwrap();

    assert_eq!(facts.unwrap().deadline, Some(time.now() + 300 * MILLI));
    assert_eq!(headers["grpc-timeout"], "300000u");
    assert_eq!(headers[MILLIS], "300");
}

#[test]
fn nobody_lengthens_a_deadline() {
    let (layer, time) = layer();
    let mut known = request(&[(MILLIS, "5000")]);
    known.facts_mut().unwrap().deadline = Some(time.now() + 2 * SECOND);

    let (headers, facts) = send(&layer.clone().at_most(3 * SECOND), known).unwrap();
    assert_eq!(facts.unwrap().deadline, Some(time.now() + 2 * SECOND));
    assert_eq!(headers[MILLIS], "2000");

    let (headers, facts) = send(&layer.at_most(3 * SECOND), request(&[(MILLIS, "5000")])).unwrap();
    assert_eq!(facts.unwrap().deadline, Some(time.now() + 3 * SECOND));
    assert_eq!(headers[MILLIS], "3000");
}

#[test]
fn a_request_without_a_deadline_passes_untouched() {
    let (layer, _) = layer();

    let (headers, facts) = send(&layer, request(&[])).unwrap();

    assert!(headers.is_empty());
    assert_eq!(facts, None);
}

#[test]
fn a_limit_of_its_own_gives_every_request_a_deadline() {
    let (layer, time) = layer();

    let (headers, facts) = send(&layer.at_most(4 * SECOND), request(&[])).unwrap();

    assert_eq!(facts.unwrap().deadline, Some(time.now() + 4 * SECOND));
    assert_eq!(headers[MILLIS], "4000");
}

#[test]
fn the_layer_at_the_bottom_writes_what_the_queue_has_left() {
    let time = ManualClock::new();
    let layer = DeadlineLayer::new().clock(time.clock());
    let (inner, handle) = inner();
    // A queue stands between the two: here, the readiness of the service below.
    let mut service = ServiceBuilder::new().layer(layer.clone()).layer(layer.strict()).service(inner);
    handle.not_ready();
    let mut call = Task::new(service.call(request(&[(MILLIS, "1000")])));
    assert!(call.run().is_pending());

    time.advance(400 * MILLI);
    handle.ready();

    let Poll::Ready(Ok((headers, facts))) = call.run() else { panic!("it answers") };
    assert_eq!(headers[MILLIS], "600");
    assert_eq!(facts.unwrap().deadline, Some(Timestamp::ZERO + SECOND));
}

#[test]
fn too_little_time_is_refused_before_the_service_below_is_asked() {
    let (layer, _) = layer();
    let layer = layer.floor(20 * MILLI).named("edge");

    assert!(send(&layer, request(&[(MILLIS, "20")])).is_ok());
    let rejection = send(&layer, request(&[(MILLIS, "19")])).unwrap_err();

    assert_eq!(rejection.kind, RejectionKind::DeadlineExceeded);
    assert_eq!(rejection.policy.as_deref(), Some("edge"));
}

#[test]
fn by_default_less_than_a_millisecond_is_too_little() {
    let (layer, _) = layer();

    assert!(send(&layer, request(&[(MILLIS, "0")])).is_err());
    assert!(send(&layer, request(&[("grpc-timeout", "999u")])).is_err());
    assert!(send(&layer, request(&[("grpc-timeout", "1m")])).is_ok());
    assert!(send(&layer.floor(Duration::ZERO), request(&[("grpc-timeout", "1n")])).is_ok());
}

#[test]
fn a_deadline_in_the_past_is_refused() {
    let (layer, _) = layer();
    let mut late = request(&[]);
    late.facts_mut().unwrap().deadline = Some(Timestamp::ZERO);

    assert_eq!(send(&layer, late).unwrap_err().kind, RejectionKind::DeadlineExceeded);
}

#[test]
fn a_margin_is_kept_back_of_what_is_passed_on() {
    let (layer, time) = layer();
    let layer = layer.margin(50 * MILLI);

    let (headers, facts) = send(&layer, request(&[(MILLIS, "1000")])).unwrap();
    assert_eq!(headers[MILLIS], "950");
    assert_eq!(facts.unwrap().deadline, Some(time.now() + SECOND));

    assert!(send(&layer, request(&[(MILLIS, "50")])).is_err());
}

#[test]
fn a_malformed_field_counts_as_absent_is_told_and_not_passed_on() {
    let (layer, time) = layer();
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let told = told.clone();
        move |event: &TimeoutEvent<'_>| {
            let TimeoutEvent::Malformed { field, .. } = event else { panic!("{event:?}") };
            told.lock().unwrap().push((*field).to_owned());
        }
    };
    let layer = layer.observe(observer);

    for bad in ["", "S", "5", "123456789S", "-1S", "1s", "1.5S", "5 S"] {
        let (headers, facts) = send(&layer, request(&[("grpc-timeout", bad)])).unwrap();
        assert!(headers.is_empty() && facts.is_none(), "{bad:?}");
    }
    assert_eq!(told.lock().unwrap().len(), 8);
    told.lock().unwrap().clear();

    for bad in ["", "-5", "+5", "1.5", "5ms", "0x10", "1 0"] {
        let (headers, facts) = send(&layer, request(&[(MILLIS, bad)])).unwrap();
        assert!(headers.is_empty() && facts.is_none(), "{bad:?}");
    }
    assert!(told.lock().unwrap().iter().all(|field| field == MILLIS));

    let (headers, facts) = send(&layer, request(&[("grpc-timeout", "?"), (MILLIS, "250")])).unwrap();
    assert_eq!(facts.unwrap().deadline, Some(time.now() + 250 * MILLI));
    assert_eq!(headers["grpc-timeout"], "250000u", "the good one is written over it");
}

#[test]
fn a_number_too_great_to_count_is_no_deadline() {
    let (layer, _) = layer();

    let (headers, facts) = send(&layer, request(&[(MILLIS, "99999999999999999999999999")])).unwrap();

    assert!(headers.is_empty() && facts.is_none());
}

#[test]
fn strangers_are_not_believed_where_they_are_not_trusted() {
    let (layer, time) = layer();
    let layer = layer.trust(false);

    let (headers, facts) = send(&layer, request(&[(MILLIS, "5"), ("grpc-timeout", "5m")])).unwrap();
    assert!(headers.is_empty() && facts.is_none());

    let (headers, _) = send(&layer.clone().at_most(SECOND), request(&[(MILLIS, "5")])).unwrap();
    assert_eq!(headers[MILLIS], "1000");

    let mut known = request(&[]);
    known.facts_mut().unwrap().deadline = Some(time.now() + SECOND);
    let (headers, _) = send(&layer, known).unwrap();
    assert_eq!(headers[MILLIS], "1000", "our own layers are believed");
}

#[test]
fn the_field_can_have_another_name() {
    let (layer, time) = layer();
    let layer = layer.header("x-request-timeout-ms");

    let (headers, facts) = send(&layer, request(&[("x-request-timeout-ms", "80"), (MILLIS, "5")])).unwrap();

    assert_eq!(facts.unwrap().deadline, Some(time.now() + 80 * MILLI));
    assert_eq!(headers["x-request-timeout-ms"], "80");
    assert_eq!(headers[MILLIS], "5", "not ours");
}

#[test]
fn a_call_is_cancelled_when_its_deadline_passes() {
    let time = ManualClock::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let events = events.clone();
        move |event: &TimeoutEvent<'_>| events.lock().unwrap().push(format!("{event:?}"))
    };
    let (inner, handle) = inner();
    handle.hold();
    let mut service = DeadlineLayer::new().observe(observer).clock(time.clock()).layer(inner);
    let mut call = Task::new(service.call(request(&[(MILLIS, "200")])));
    assert!(call.run().is_pending());

    time.advance(199 * MILLI);
    assert!(!call.is_woken());
    time.advance(MILLI);

    let Poll::Ready(Err(error)) = call.run() else { panic!("it is refused") };
    assert_eq!(error.rejection().unwrap().kind, RejectionKind::DeadlineExceeded);
    assert_eq!((handle.in_flight(), handle.abandoned()), (0, 1));
    assert_eq!(*events.lock().unwrap(), ["Deadline { name: None, elapsed: 200ms }"]);
}

type Read = Option<Result<Frame<Bytes>, TimeoutBodyError>>;

/// The body of a response to a request that has a second, from a layer that goes to the end.
fn body_of(time: &ManualClock, content_type: &'static str) -> Pin<Box<TimeoutBody<ScriptedBody>>> {
    let (inner, _) = StrictService::<Request<()>, Response<ScriptedBody>>::new(move |_| {
        let body = ScriptedBody::new().data("a").stall().data("b").data("c");
        Response::builder().header("content-type", content_type).body(body).unwrap()
    });
    let mut service = DeadlineLayer::new().named("caller").to_end().clock(time.clock()).layer(inner);
    let Poll::Ready(Ok(response)) = Task::new(service.call(request(&[(MILLIS, "1000")]))).run() else {
        panic!("it answers")
    };
    Box::pin(response.into_body())
}

fn frame(body: &mut Pin<Box<TimeoutBody<ScriptedBody>>>) -> Task<impl Future<Output = Read>> {
    Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx)))
}

#[test]
fn to_the_end_the_deadline_ends_a_body_too_and_a_stream_as_well() {
    for content_type in ["text/plain", "text/event-stream", "application/grpc"] {
        let time = ManualClock::new();
        let mut body = body_of(&time, content_type);
        assert!(frame(&mut body).run().is_ready());
        let mut wait = frame(&mut body);
        assert!(wait.run().is_pending());

        time.advance(SECOND - Duration::from_nanos(1));
        assert!(!wait.is_woken());
        time.advance(Duration::from_nanos(1));

        let Poll::Ready(Some(Err(error))) = wait.run() else { panic!("it ends with an error") };
        assert_eq!(error.to_string(), "body not complete before the deadline: deadline exceeded by `caller`");
        assert_eq!(error.rejection().unwrap().kind, RejectionKind::DeadlineExceeded);
        assert!(matches!(error, TimeoutBodyError::Deadline(_)));
    }
}

#[test]
fn by_default_a_deadline_ends_with_the_head() {
    let time = ManualClock::new();
    let (inner, _) = StrictService::<Request<()>, Response<ScriptedBody>>::new(|_| {
        Response::new(ScriptedBody::new().data("late"))
    });
    let mut service = DeadlineLayer::new().clock(time.clock()).layer(inner);
    let Poll::Ready(Ok(response)) = Task::new(service.call(request(&[(MILLIS, "1000")]))).run() else {
        panic!("it answers")
    };
    time.advance(60 * SECOND);

    let mut body: Pin<Box<ScriptedBody>> = Box::pin(response.into_body());
    assert!(matches!(Task::new(poll_fn(|cx| body.as_mut().poll_frame(cx))).run(), Poll::Ready(Some(Ok(_)))));
}

#[test]
fn a_server_answers_504_and_grpc_with_its_own_status() {
    let time = ManualClock::new();
    let (inner, _handle) = StrictService::<Request<()>, Response<Full<Bytes>>>::new(|_| Response::default());
    let mut service = DeadlineLayer::new().on_reject(reject::respond()).clock(time.clock()).layer(inner);

    let Poll::Ready(Ok(response)) = Task::new(service.call(request(&[(MILLIS, "0")]))).run() else {
        panic!("it answers")
    };
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()["content-type"], "application/problem+json");

    let grpc = request(&[("content-type", "application/grpc"), ("grpc-timeout", "0m")]);
    let Poll::Ready(Ok(response)) = Task::new(service.call(grpc)).run() else { panic!("it answers") };
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"4".parse().unwrap())
    );
}

#[test]
fn without_a_deadline_nothing_is_allocated_and_no_timer_made() {
    // There is no runtime here: a tokio timer would panic.
    let layer = DeadlineLayer::new().clock(Clock::monotonic());
    let (inner, handle) = StrictService::<Request<()>, ()>::new(|_| ());
    let mut service = layer.layer(inner);
    handle.hold();
    let mut waits = Task::new(service.call(request(&[])));
    assert!(waits.run().is_pending());
    handle.release();
    assert!(waits.run().is_ready());

    let noop = &mut std::task::Context::from_waker(std::task::Waker::noop());
    let requests = [request(&[]), request(&[])];
    let allocated = buttress_testkit::allocations(|| {
        for request in requests {
            let call = std::pin::pin!(service.call(request));
            assert!(call.poll(noop).is_ready());
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
#[should_panic(expected = "at_most is 1s: it must leave the floor of 1ms after the margin of 1s")]
fn terms_that_no_call_can_meet_are_refused_when_they_are_built() {
    let _ = DeadlineLayer::new().margin(SECOND).at_most(SECOND);
}

#[test]
#[should_panic(expected = "at_most is 0ns: it must be longer than zero")]
fn a_limit_of_zero_is_refused_when_it_is_built() {
    let _ = DeadlineLayer::new().at_most(Duration::ZERO);
}

#[test]
#[should_panic(expected = "header is no name of a field: invalid HTTP header name")]
fn a_name_that_is_no_field_is_refused_when_it_is_built() {
    let _ = DeadlineLayer::new().header("no field");
}

#[test]
fn the_error_of_the_service_below_passes_unchanged() {
    let (inner, handle) = inner();
    handle.fail(BoxError::from("broken"));
    let mut service = DeadlineLayer::new().at_most(SECOND).layer(inner);

    let Poll::Ready(Err(error)) = Task::new(service.call(request(&[]))).run() else { panic!("it fails") };

    assert_eq!(error.to_string(), "broken");
}
