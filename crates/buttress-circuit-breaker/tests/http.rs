//! e. Over HTTP: what is judged where, what counts as slow, and what a refused client sees.
#![cfg(feature = "http")]

use std::convert::Infallible;
use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, Handle, OnDrop, State, ToEnd, classify, key, reject};
use buttress_core::{AtHead, Fail, Global, ManualClock, Rejection, RejectionKind};
use buttress_http::body::UntilUpgradeEnds;
use buttress_http::field::Streaming;
use buttress_testkit::ScriptedBody;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

/// The request says what it is answered with, and how long that takes.
type Ask = Request<Answer>;

struct Answer {
    took: Duration,
    response: Response<ScriptedBody>,
}

/// An upstream that does as it is asked.
fn upstream(
    time: &ManualClock,
) -> impl Service<Ask, Response = Response<ScriptedBody>, Error = Infallible, Future: Send> + Clone + use<> {
    let time = time.clone();
    tower::service_fn(move |ask: Ask| {
        let Answer { took, response } = ask.into_body();
        time.advance(took);
        std::future::ready(Ok(response))
    })
}

type Base<C = classify::Status, F = AtHead> = CircuitBreakerLayer<Global, reject::Respond, C, F>;

/// Opens after two failures in a row, for 5 s, and has one probe.
fn simple(time: &ManualClock) -> Base {
    CircuitBreakerLayer::failures_in_a_row(2)
        .open_for(5 * SECOND, 60 * SECOND)
        .jitter(0.0)
        .probes(1)
        .clock(time.clock())
        .classify(classify::status())
        .on_reject(reject::respond())
}

/// Opens when one call is slow.
fn slow(time: &ManualClock) -> Base {
    simple(time).minimum_calls(1).slow_calls(2 * SECOND, 0.1)
}

fn answer(status: u16) -> Response<ScriptedBody> {
    Response::builder().status(status).body(ScriptedBody::new().data("hello")).unwrap()
}

fn with(
    mut response: Response<ScriptedBody>,
    name: &'static str,
    value: &'static str,
) -> Response<ScriptedBody> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}

fn asks(response: Response<ScriptedBody>) -> Ask {
    Request::get("http://a.example/").body(Answer { took: Duration::ZERO, response }).unwrap()
}

fn marked(mut ask: Ask) -> Ask {
    ask.extensions_mut().insert(Streaming);
    ask
}

fn connect() -> Ask {
    let mut ask = asks(answer(200));
    *ask.method_mut() = Method::CONNECT;
    ask
}

fn lasting(took: Duration, mut ask: Ask) -> Ask {
    ask.body_mut().took = took;
    ask
}

async fn call<S, B>(service: &S, ask: Ask) -> Response<B>
where
    S: Service<Ask, Response = Response<B>, Error = Infallible> + Clone,
{
    let Ok(response) = service.clone().oneshot(ask).await;
    response
}

/// A call that waits.
fn polled<F: Future>(call: F) -> std::pin::Pin<Box<F>> {
    let mut call = Box::pin(call);
    assert!(call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    call
}

fn field<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

mod refusals {
    use super::*;

    #[tokio::test]
    async fn a_refused_client_gets_a_503_that_says_when_to_come_again() {
        let time = ManualClock::new();
        let service = simple(&time).named("api").layer(upstream(&time));
        for _ in 0..2 {
            assert_eq!(call(&service, asks(answer(500))).await.status(), 500);
        }
        time.advance(Duration::from_millis(300));

        let refused = call(&service, asks(answer(200))).await;

        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(field(&refused, "retry-after"), Some("5"), "4.7 s, rounded up");
        assert_eq!(field(&refused, "content-type"), Some("application/problem+json"));
        let rejection = refused.extensions().get::<Rejection>().expect("for the layers above");
        assert_eq!((rejection.kind, rejection.elsewhere), (RejectionKind::CircuitOpen, true));
        assert_eq!(rejection.policy.as_deref(), Some("api"));
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("circuit open"), "{body:?}");
    }

    #[tokio::test]
    async fn the_wait_is_never_told_as_none() {
        let time = ManualClock::new();
        let layer = simple(&time).open_for(Duration::from_millis(10), SECOND);
        let service = layer.layer(upstream(&time));
        for _ in 0..2 {
            call(&service, asks(answer(500))).await;
        }

        assert_eq!(field(&call(&service, asks(answer(200))).await, "retry-after"), Some("1"));
    }

    #[tokio::test]
    async fn nobody_is_told_how_long_an_isolation_lasts() {
        let time = ManualClock::new();
        let layer = simple(&time);
        layer.handle().isolate("maintenance");

        let refused = call(&layer.layer(upstream(&time)), asks(answer(200))).await;

        assert_eq!((refused.status().as_u16(), field(&refused, "retry-after")), (503, None));
    }

    #[tokio::test]
    async fn a_refusal_of_head_has_no_body_and_one_of_grpc_a_grpc_status() {
        let time = ManualClock::new();
        let layer = simple(&time);
        layer.handle().force_open();
        let service = layer.layer(upstream(&time));

        let mut head = asks(answer(200));
        *head.method_mut() = Method::HEAD;
        let refused = call(&service, head).await;
        assert!(refused.status() == 503 && refused.body().is_end_stream());

        let mut grpc = asks(answer(200));
        grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let refused = call(&service, grpc).await;
        assert_eq!((refused.status().as_u16(), field(&refused, "grpc-status")), (200, Some("14")));
    }
}

mod at_the_head {
    use super::*;

    #[tokio::test]
    async fn a_status_is_judged_when_it_comes_whatever_the_body_does() {
        let time = ManualClock::new();
        let layer = simple(&time);
        let service = layer.layer(upstream(&time));

        let unread = [call(&service, asks(answer(500))).await, call(&service, asks(answer(502))).await];

        assert_eq!(layer.handle().state(), State::Open);
        drop(unread);
        assert_eq!(layer.handle().counts().failed, 2);
    }

    #[tokio::test]
    async fn what_a_client_did_wrong_is_no_failure_and_429_is_soft() {
        let time = ManualClock::new();
        let layer = simple(&time);
        let service = layer.layer(upstream(&time));

        for status in [400, 401, 404, 429, 429, 429, 404, 304, 101] {
            call(&service, asks(answer(status))).await;
        }

        assert_eq!(layer.handle().state(), State::Closed);
        assert_eq!(layer.handle().counts().soft, 3);
    }

    #[tokio::test]
    async fn a_refusal_of_ours_further_down_is_not_the_upstreams_failure() {
        let time = ManualClock::new();
        let below = simple(&time);
        below.handle().force_open();
        let layer = simple(&time);
        let service = layer.layer(below.layer(upstream(&time)));

        for _ in 0..10 {
            assert_eq!(call(&service, asks(answer(200))).await.status(), 503);
        }

        assert_eq!(layer.handle().state(), State::Closed);
        assert_eq!(layer.handle().counts().ignored, 10);
    }

    #[tokio::test]
    async fn a_timeout_of_ours_further_down_is() {
        let time = ManualClock::new();
        let layer = simple(&time);
        let service = layer.layer(upstream(&time));
        let timed_out = || {
            let mut response = answer(504);
            response.extensions_mut().insert(Rejection::new(RejectionKind::Timeout));
            response
        };

        for _ in 0..2 {
            call(&service, asks(timed_out())).await;
        }

        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn by_option_retry_after_opens_it_until_then() {
        let time = ManualClock::new();
        let layer = simple(&time).open_when_asked();
        let service = layer.layer(upstream(&time));

        call(&service, asks(with(answer(503), "retry-after", "30"))).await;

        let refused = call(&service, asks(answer(200))).await;
        assert_eq!((refused.status().as_u16(), field(&refused, "retry-after")), (503, Some("30")));
    }

    #[tokio::test]
    async fn a_retry_after_that_is_none_counts_as_absent() {
        for value in ["soon", "-1", "", "1e9", "Sun, 99 Foo 2026 00:00:00 GMT"] {
            let time = ManualClock::new();
            let layer = simple(&time).open_when_asked();
            let service = layer.layer(upstream(&time));

            call(&service, asks(with(answer(503), "retry-after", value))).await;

            assert_eq!(
                (layer.handle().state(), layer.handle().counts().failed),
                (State::Closed, 1),
                "{value}"
            );
        }
    }

    #[tokio::test]
    async fn a_retry_after_on_a_success_says_nothing() {
        let time = ManualClock::new();
        let layer = simple(&time).open_when_asked();
        let service = layer.layer(upstream(&time));

        call(&service, asks(with(answer(200), "retry-after", "30"))).await;

        assert_eq!(layer.handle().state(), State::Closed);
    }

    #[tokio::test]
    async fn each_authority_has_a_breaker_of_its_own() {
        let time = ManualClock::new();
        let layer = simple(&time).by(key::authority());
        let service = layer.layer(upstream(&time));
        let to = |host: &str, status| {
            let mut ask = asks(answer(status));
            *ask.uri_mut() = format!("http://{host}/").parse().unwrap();
            ask
        };

        for _ in 0..2 {
            call(&service, to("a.example", 500)).await;
        }

        assert_eq!(call(&service, to("A.example", 200)).await.status(), 503);
        assert_eq!(call(&service, to("b.example", 200)).await.status(), 200);
        assert_eq!(layer.handle().key("a.example").state(), State::Open);
        let mut names: Vec<_> =
            layer.handle().keys().iter().map(|key| key.name().cloned().unwrap()).collect();
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        assert_eq!(names, ["a.example", "b.example"]);
    }
}

mod at_the_end {
    use super::*;

    fn to_the_end(time: &ManualClock) -> (Base<classify::Status, ToEnd>, Handle) {
        let layer = simple(time).classify(classify::status().at_end()).at_end();
        let handle = layer.handle();
        (layer, handle)
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_failure() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        for _ in 0..2 {
            let broken = Response::new(ScriptedBody::new().data("hel").error("reset").chunked());
            let response = call(&service, asks(broken)).await;
            assert_eq!((response.status().as_u16(), handle.state()), (200, State::Closed), "so far so good");
            assert!(response.into_body().collect().await.is_err());
        }

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn a_body_that_panics_is_a_failure() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        for _ in 0..2 {
            let response = call(&service, asks(Response::new(ScriptedBody::new().panic().chunked()))).await;
            let read = tokio::spawn(response.into_body().collect()).await;
            assert!(read.unwrap_err().is_panic());
        }

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn a_body_that_the_client_leaves_is_ignored_and_gives_the_probe_back() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));
        handle.open_for(5 * SECOND);
        time.advance(5 * SECOND);

        let response = call(&service, asks(answer(200))).await;
        assert_eq!((handle.state(), handle.view().probes_in_flight), (State::HalfOpen, 1));
        assert_eq!(call(&service, asks(answer(200))).await.status(), 503, "the one probe is under way");
        drop(response);
        assert_eq!((handle.state(), handle.view().probes_in_flight), (State::HalfOpen, 0));

        let response = call(&service, asks(answer(200))).await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(handle.state(), State::Closed);
    }

    #[tokio::test]
    async fn where_the_head_is_enough_it_is_judged_there() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        let _unread = [call(&service, asks(answer(500))).await, call(&service, asks(answer(500))).await];

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn an_answer_to_head_and_one_without_a_body_end_at_once() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));
        let mut head = asks(answer(200));
        *head.method_mut() = Method::HEAD;
        let empty = Response::builder().status(204).body(ScriptedBody::new()).unwrap();

        let _unread = (call(&service, head).await, call(&service, asks(empty)).await);

        assert_eq!(handle.counts().succeeded, 2);
    }

    #[tokio::test]
    async fn a_tunnel_is_a_success_at_its_head_and_lives_on() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        let response = call(&service, connect()).await;

        assert_eq!(handle.counts().succeeded, 1);
        let tunnel = response.extensions().get::<UntilUpgradeEnds>().cloned();
        drop((response, tunnel.expect("it is a tunnel")));
        assert_eq!((handle.counts().succeeded, handle.counts().stale), (1, 0), "it counts once");
    }

    #[tokio::test]
    async fn a_tunnel_that_is_refused_is_judged_by_its_status() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        for _ in 0..2 {
            let mut refused = connect();
            refused.body_mut().response = answer(502);
            call(&service, refused).await;
        }

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn what_streams_is_a_success_at_its_head() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));
        let upgrade = Response::builder().status(101).body(ScriptedBody::new()).unwrap();

        let _tunnel = call(&service, asks(upgrade)).await;
        let _events = call(&service, asks(with(answer(200), "content-type", "text/event-stream"))).await;

        assert_eq!(handle.counts().succeeded, 2);
    }
}

mod slow_to_the_head {
    use super::*;

    #[tokio::test]
    async fn the_time_to_the_head_counts_and_that_of_the_body_does_not() {
        let time = ManualClock::new();
        let layer = slow(&time).slow_to_head();
        let service = layer.layer(upstream(&time));

        let response = call(&service, asks(answer(200))).await;
        time.advance(60 * SECOND);
        response.into_body().collect().await.unwrap();
        assert_eq!(layer.handle().state(), State::Closed);

        call(&service, lasting(2 * SECOND, asks(answer(200)))).await;
        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn so_it_does_where_the_body_is_followed() {
        let time = ManualClock::new();
        let layer = slow(&time).classify(classify::status().at_end()).at_end();
        let service = layer.layer(upstream(&time));

        let response = call(&service, asks(answer(200))).await;
        time.advance(60 * SECOND);
        response.into_body().collect().await.unwrap();
        assert_eq!((layer.handle().state(), layer.handle().counts().succeeded), (State::Closed, 1));

        let response = call(&service, lasting(2 * SECOND, asks(answer(200)))).await;
        response.into_body().collect().await.unwrap();
        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn what_streams_never_counts_as_slow() {
        let marked = || {
            let mut response = answer(200);
            response.extensions_mut().insert(Streaming);
            response
        };
        for response in [
            with(answer(200), "content-type", "text/event-stream"),
            with(answer(200), "content-type", "application/grpc"),
            answer(101),
            marked(),
        ] {
            let time = ManualClock::new();
            let layer = slow(&time);
            let service = layer.layer(upstream(&time));

            call(&service, lasting(60 * SECOND, asks(response))).await;

            let counts = layer.handle().counts();
            assert_eq!((layer.handle().state(), counts.slow, counts.succeeded), (State::Closed, 0, 1));
        }
    }
}

/// A long poll, say. Where bodies are followed, the mark of a request is seen.
mod a_marked_request {
    use super::*;

    #[tokio::test]
    async fn is_never_slow_to_its_head() {
        for classify in [classify::status(), classify::status().at_end()] {
            let time = ManualClock::new();
            let layer = slow(&time).classify(classify).at_end();
            let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

            let response = call(&service, lasting(60 * SECOND, marked(asks(answer(200))))).await;
            response.into_body().collect().await.unwrap();
            assert_eq!((handle.state(), handle.counts().slow), (State::Closed, 0));

            call(&service, lasting(2 * SECOND, asks(answer(503)))).await;
            assert_eq!(handle.counts().slow, 1, "another is");
        }
    }

    #[tokio::test]
    async fn that_is_left_has_not_failed_though_it_took_long() {
        for (ask, failed) in [(asks(answer(200)), 1), (marked(asks(answer(200))), 0)] {
            let time = ManualClock::new();
            let layer = slow(&time).on_drop(OnDrop::FailWhenSlow).slow_to_end();
            let never = |_: Ask| std::future::pending::<Result<Response<ScriptedBody>, Infallible>>();
            let (handle, service) = (layer.handle(), layer.layer(tower::service_fn(never)));

            let call = polled(service.oneshot(ask));
            time.advance(60 * SECOND);
            drop(call);

            assert_eq!((handle.counts().failed, handle.counts().abandoned), (failed, 1 - failed));
        }
    }
}

mod slow_to_the_end {
    use super::*;

    fn to_the_end(time: &ManualClock) -> (Base<classify::Status, ToEnd>, Handle) {
        let layer = slow(time).slow_to_end();
        let handle = layer.handle();
        (layer, handle)
    }

    #[tokio::test]
    async fn the_time_of_the_body_counts() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        let response = call(&service, lasting(SECOND, asks(answer(200)))).await;
        time.advance(SECOND);
        assert_eq!(handle.counts().succeeded, 0, "not yet");
        response.into_body().collect().await.unwrap();

        assert_eq!((handle.state(), handle.counts().slow), (State::Open, 1));
    }

    #[tokio::test]
    async fn a_status_is_still_what_the_head_said() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        for _ in 0..2 {
            drop(call(&service, asks(answer(500))).await);
        }

        assert_eq!((handle.state(), handle.counts().failed), (State::Open, 2));
    }

    #[tokio::test]
    async fn what_is_known_to_stream_never_counts_as_slow() {
        let mut marked = answer(200);
        marked.extensions_mut().insert(Streaming);
        let events = || asks(with(answer(200), "content-type", "text/event-stream"));
        for ask in [events(), asks(marked), super::marked(asks(answer(200))), connect()] {
            let time = ManualClock::new();
            let (layer, handle) = to_the_end(&time);
            let service = layer.layer(upstream(&time));

            let response = call(&service, lasting(60 * SECOND, ask)).await;
            time.advance(60 * SECOND);
            response.into_body().collect().await.unwrap();

            assert_eq!(
                (handle.state(), handle.counts().slow, handle.counts().succeeded),
                (State::Closed, 0, 1)
            );
        }
    }

    #[tokio::test]
    async fn nor_does_it_when_following_bodies_is_said_twice() {
        let time = ManualClock::new();
        let layer = slow(&time).slow_to_end().at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

        let events = call(&service, asks(with(answer(200), "content-type", "text/event-stream"))).await;
        time.advance(60 * SECOND);
        events.into_body().collect().await.unwrap();

        assert_eq!((handle.state(), handle.counts().slow), (State::Closed, 0));
    }

    #[tokio::test]
    async fn a_tunnel_never_counts_as_slow() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        let response = call(&service, connect()).await;
        time.advance(60 * SECOND);
        drop(response);

        assert_eq!((handle.state(), handle.counts().slow, handle.counts().succeeded), (State::Closed, 0, 1));
    }

    #[tokio::test]
    async fn a_body_that_the_client_leaves_has_failed_by_option_if_it_was_slow_by_then() {
        let time = ManualClock::new();
        let layer = simple(&time).slow_calls(2 * SECOND, 1.0).on_drop(OnDrop::FailWhenSlow);
        let layer = layer.classify(classify::status().at_end()).slow_to_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

        for (waits, counts) in [(1, (0, 1)), (2, (1, 1)), (3, (2, 1))] {
            assert_eq!(handle.state(), State::Closed);
            let response = call(&service, asks(answer(200))).await;
            time.advance(waits * SECOND);
            drop(response);
            assert_eq!((handle.counts().failed, handle.counts().abandoned), counts);
        }

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn an_answer_of_grpc_counts_as_it_was_chosen() {
        let time = ManualClock::new();
        let (layer, handle) = to_the_end(&time);
        let service = layer.layer(upstream(&time));

        let response = call(&service, asks(with(answer(200), "content-type", "application/grpc"))).await;
        time.advance(2 * SECOND);
        drop(response);

        assert_eq!((handle.state(), handle.counts().slow), (State::Open, 1));
    }
}

/// A half-open breaker whose only probe is answered, and goes on for ever.
mod probes_that_stream {
    use super::*;

    fn streams() -> [Ask; 4] {
        let mut marked = asks(with(answer(200), "content-type", "application/grpc"));
        marked.body_mut().response.extensions_mut().insert(Streaming);
        let upgrade = Response::builder().status(101).body(ScriptedBody::new()).unwrap();
        let mut plain = answer(200);
        plain.extensions_mut().insert(Streaming);
        [asks(with(answer(200), "content-type", "text/event-stream")), asks(upgrade), asks(plain), marked]
    }

    async fn half_open<S>(time: &ManualClock, handle: &Handle, service: &S, good: impl Fn() -> Ask)
    where
        S: Service<Ask, Error = Infallible> + Clone,
    {
        for _ in 0..2 {
            let _ = service.clone().oneshot(asks(answer(500))).await;
        }
        time.advance(5 * SECOND);
        let Ok(_still_open) = service.clone().oneshot(good()).await;

        assert_eq!(handle.state(), State::Closed, "the head was good");
    }

    #[tokio::test]
    async fn are_judged_at_their_head_by_status() {
        for n in 0..3 {
            let time = ManualClock::new();
            let layer = simple(&time).classify(classify::status().at_end()).at_end();
            let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

            half_open(&time, &handle, &service, || streams().into_iter().nth(n).unwrap()).await;
        }
    }

    #[tokio::test]
    async fn are_judged_at_their_head_when_a_grpc_answer_is_marked() {
        let time = ManualClock::new();
        let layer = simple(&time).classify(classify::grpc()).at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

        half_open(&time, &handle, &service, || streams().into_iter().nth(3).unwrap()).await;
    }

    #[tokio::test]
    async fn are_judged_at_their_head_where_the_time_is_taken_to_the_end() {
        for n in 0..4 {
            let time = ManualClock::new();
            let layer = simple(&time).slow_calls(2 * SECOND, 0.5);
            let layer = layer.classify(classify::status().at_end()).slow_to_end();
            let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

            half_open(&time, &handle, &service, || streams().into_iter().nth(n).unwrap()).await;
        }
    }

    #[tokio::test]
    async fn are_judged_at_their_head_when_the_request_is_marked() {
        let grpc = || marked(asks(with(answer(200), "content-type", "application/grpc")));
        let time = ManualClock::new();
        let layer = simple(&time).slow_calls(2 * SECOND, 0.5).classify(classify::grpc());

        let to_end = layer.clone().slow_to_end();
        half_open(&time, &to_end.handle(), &to_end.layer(upstream(&time)), grpc).await;
        let at_end = layer.at_end();
        half_open(&time, &at_end.handle(), &at_end.layer(upstream(&time)), grpc).await;
        let status = simple(&time).classify(classify::status().at_end()).at_end();
        half_open(&time, &status.handle(), &status.layer(upstream(&time)), || marked(asks(answer(200))))
            .await;
    }

    #[tokio::test]
    async fn are_judged_at_their_head_when_it_is_a_tunnel() {
        let time = ManualClock::new();
        let layer = simple(&time).classify(classify::status().at_end()).at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));

        half_open(&time, &handle, &service, connect).await;
    }
}

/// A half-open breaker whose probes have good heads, and bodies that last for longer than it is half-open.
mod probes_that_last {
    use super::*;

    /// Three probes for five seconds, and one of them may fail.
    fn three(time: &ManualClock) -> Base {
        CircuitBreakerLayer::failure_rate(0.5)
            .open_for(5 * SECOND, 60 * SECOND)
            .jitter(0.0)
            .clock(time.clock())
            .classify(classify::status().at_end())
            .on_reject(reject::respond())
    }

    fn half_open(time: &ManualClock, handle: &Handle) {
        handle.open_for(5 * SECOND);
        time.advance(5 * SECOND);
    }

    fn download() -> Ask {
        asks(Response::new(ScriptedBody::new().data("hello").chunked()))
    }

    #[tokio::test]
    async fn close_it_when_their_time_is_over() {
        let time = ManualClock::new();
        let layer = three(&time).at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));
        half_open(&time, &handle);

        let body = call(&service, download()).await;
        let broken = Response::new(ScriptedBody::new().data("hel").error("reset").chunked());
        assert!(call(&service, asks(broken)).await.into_body().collect().await.is_err());
        assert_eq!((handle.state(), handle.view().probes_in_flight), (State::HalfOpen, 1));
        let _another = call(&service, download()).await;
        assert_eq!(call(&service, download()).await.status(), 503, "two are under way, one is judged");
        time.advance(5 * SECOND);

        assert_eq!(handle.state(), State::Closed, "one of three has failed");
        assert_eq!(handle.transitions(State::HalfOpen, State::Closed), 1);
        body.into_body().collect().await.unwrap();
        assert_eq!((handle.counts().stale, handle.view().sums.total), (1, 0), "and its end says no more");
    }

    #[tokio::test]
    async fn and_break_off_in_time_open_it_again() {
        let time = ManualClock::new();
        let layer = three(&time).at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));
        half_open(&time, &handle);
        let broken = || asks(Response::new(ScriptedBody::new().data("hel").error("reset").chunked()));

        let bodies = [call(&service, broken()).await, call(&service, broken()).await];
        time.advance(4 * SECOND);
        for body in bodies {
            assert!(body.into_body().collect().await.is_err());
        }

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn without_a_head_open_it_again() {
        let time = ManualClock::new();
        let layer = three(&time).at_end();
        let handle = layer.handle();
        let never = |_: Ask| std::future::pending::<Result<Response<ScriptedBody>, Infallible>>();
        let hangs = layer.layer(tower::service_fn(never));
        half_open(&time, &handle);

        let _body = call(&layer.layer(upstream(&time)), download()).await;
        let _call = polled(hangs.oneshot(download()));
        time.advance(5 * SECOND);

        assert_eq!(handle.state(), State::Open, "one is overdue");
    }

    #[tokio::test]
    async fn open_it_again_when_their_heads_were_slow() {
        let time = ManualClock::new();
        let layer = three(&time).slow_calls(2 * SECOND, 0.5).at_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));
        half_open(&time, &handle);

        let _body = call(&service, lasting(2 * SECOND, download())).await;
        time.advance(3 * SECOND);

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn open_it_again_when_their_heads_were_bad_and_only_their_time_is_still_to_come() {
        let time = ManualClock::new();
        let layer = three(&time).slow_calls(60 * SECOND, 0.5).slow_to_end();
        let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));
        half_open(&time, &handle);

        let broken =
            Response::builder().status(500).body(ScriptedBody::new().data("sorry").chunked()).unwrap();
        let _body = call(&service, asks(broken)).await;
        time.advance(5 * SECOND);

        assert_eq!(handle.state(), State::Open);
    }

    #[tokio::test]
    async fn open_it_again_when_they_are_slow_by_then_and_their_time_is_taken_to_the_end() {
        for (threshold, state) in [(5, State::Open), (6, State::Closed)] {
            let time = ManualClock::new();
            let layer = three(&time).slow_calls(threshold * SECOND, 0.5).slow_to_end();
            let (handle, service) = (layer.handle(), layer.layer(upstream(&time)));
            half_open(&time, &handle);

            let _body = call(&service, download()).await;
            time.advance(5 * SECOND);

            assert_eq!(handle.state(), state, "slow after {threshold} s");
        }
    }

    /// Nothing ever fails, and each body lasts for two minutes.
    async fn an_hour<C>(layer: Base<C, ToEnd>, time: &ManualClock, kind: &'static str)
    where
        C: buttress_core::Classify<Response<ScriptedBody>, Infallible> + Clone + Send + Sync + 'static,
    {
        let (handle, service) = (layer.handle(), layer.layer(upstream(time)));
        let mut open = std::collections::VecDeque::new();
        handle.open_for(5 * SECOND);
        for second in 0..3600 {
            time.advance(SECOND);
            let fields = [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
            let body = ScriptedBody::new().data("hello").trailers(fields).chunked();
            let response = call(&service, asks(with(Response::new(body), "content-type", kind))).await;
            if response.status() == 200 {
                open.push_back((second + 120, response));
            }
            if open.front().is_some_and(|(ends, _)| *ends <= second)
                && let Some((_, response)) = open.pop_front()
            {
                response.into_body().collect().await.unwrap();
            }
        }

        assert_eq!(handle.state(), State::Closed);
        assert_eq!(handle.transitions(State::HalfOpen, State::Open), 0);
        assert!(handle.counts().refused < 10, "{:?}", handle.counts());
    }

    #[tokio::test]
    async fn and_go_well_do_not_keep_it_from_closing() {
        let time = ManualClock::new();
        an_hour(three(&time).at_end(), &time, "application/octet-stream").await;
        an_hour(three(&time).classify(classify::grpc()).at_end(), &time, "application/grpc").await;
        let slow = three(&time).slow_calls(180 * SECOND, 0.5);
        an_hour(slow.slow_to_end(), &time, "application/octet-stream").await;
    }
}

#[tokio::test]
async fn on_a_client_a_refusal_is_an_error() {
    use buttress_core::{BoxError, Cause};

    let layer = CircuitBreakerLayer::default().classify(classify::status()).on_reject(Fail);
    layer.handle().force_open();
    let service = layer.layer(tower::service_fn(|_: Request<()>| async {
        Ok::<_, BoxError>(Response::new(ScriptedBody::new()))
    }));

    let refused = service.oneshot(Request::new(())).await.unwrap_err();

    assert_eq!(refused.rejection().map(|rejection| rejection.kind), Some(RejectionKind::CircuitOpen));
}
