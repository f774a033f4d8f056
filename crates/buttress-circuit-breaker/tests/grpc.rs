//! gRPC, whose answer is in the trailers.
#![cfg(feature = "http")]

use std::convert::Infallible;
use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, Handle, State, ToEnd, classify, reject};
use buttress_core::{Global, ManualClock};
use buttress_testkit::ScriptedBody;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

type Ask = Request<Response<ScriptedBody>>;
type Breaker = CircuitBreakerLayer<Global, reject::Respond, classify::Grpc, ToEnd>;

/// Opens after two failures in a row.
fn simple(time: &ManualClock) -> (Breaker, Handle) {
    let layer = CircuitBreakerLayer::failures_in_a_row(2)
        .open_for(5 * SECOND, 60 * SECOND)
        .jitter(0.0)
        .clock(time.clock())
        .classify(classify::grpc())
        .on_reject(reject::respond())
        .at_end();
    let handle = layer.handle();
    (layer, handle)
}

/// A channel that answers as the request says.
fn channel() -> impl Service<Ask, Response = Response<ScriptedBody>, Error = Infallible, Future: Send> + Clone
{
    tower::service_fn(|ask: Ask| std::future::ready(Ok(ask.into_body())))
}

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn head(body: ScriptedBody) -> Response<ScriptedBody> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// A reply with a message, and the code in its trailers.
fn reply(code: &str) -> Response<ScriptedBody> {
    head(ScriptedBody::new().data("message").trailers(fields(&[("grpc-status", code)])).chunked())
}

fn ask(response: Response<ScriptedBody>) -> Ask {
    Request::post("http://a.example/test.Greeter/Greet")
        .header("content-type", "application/grpc")
        .body(response)
        .unwrap()
}

async fn call<S, B>(service: &S, response: Response<ScriptedBody>) -> Response<B>
where
    S: Service<Ask, Response = Response<B>, Error = Infallible> + Clone,
{
    let Ok(response) = service.clone().oneshot(ask(response)).await;
    response
}

async fn read<B: Body>(response: Response<B>) -> bool {
    response.into_body().collect().await.is_ok()
}

#[tokio::test]
async fn the_code_in_the_trailers_is_judged_when_it_comes() {
    for (code, state) in [
        ("14", State::Open),
        ("13", State::Open),
        ("4", State::Open),
        ("0", State::Closed),
        ("5", State::Closed),
        ("8", State::Closed),
    ] {
        let (layer, handle) = simple(&ManualClock::new());
        let service = layer.layer(channel());

        for _ in 0..2 {
            let response = call(&service, reply(code)).await;
            assert_eq!((response.status().as_u16(), handle.state()), (200, State::Closed));
            assert!(read(response).await);
        }

        assert_eq!(handle.state(), state, "code {code}");
    }
}

#[tokio::test]
async fn a_reply_that_is_nothing_but_its_head_is_judged_there() {
    let (layer, handle) = simple(&ManualClock::new());
    let service = layer.layer(channel());

    for _ in 0..2 {
        let mut response = head(ScriptedBody::new());
        response.headers_mut().insert("grpc-status", "14".parse().unwrap());
        drop(call(&service, response).await);
    }

    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn a_reply_without_trailers_has_failed_and_one_that_is_left_before_them_says_nothing() {
    let (layer, handle) = simple(&ManualClock::new());
    let service = layer.layer(channel());

    for _ in 0..10 {
        drop(call(&service, reply("0")).await);
    }
    assert_eq!((handle.state(), handle.counts().abandoned), (State::Closed, 10));

    for _ in 0..2 {
        assert!(read(call(&service, head(ScriptedBody::new().data("message").chunked())).await).await);
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn probes_whose_trailers_come_in_time_are_judged_by_them() {
    for (code, state) in [("0", State::Closed), ("14", State::Open)] {
        let time = ManualClock::new();
        let (layer, handle) = simple(&time);
        let service = layer.layer(channel());
        handle.open_for(5 * SECOND);
        time.advance(5 * SECOND);

        let probes = [
            call(&service, reply("0")).await,
            call(&service, reply("0")).await,
            call(&service, reply(code)).await,
        ];
        assert_eq!(
            (handle.state(), handle.view().probes_in_flight),
            (State::HalfOpen, 3),
            "all heads are good"
        );
        for probe in probes {
            assert!(read(probe).await);
        }

        assert_eq!(handle.state(), state, "code {code}");
    }
}

#[tokio::test]
async fn a_refusal_is_unavailable_with_its_wait() {
    let time = ManualClock::new();
    let (layer, handle) = simple(&time);
    let service = layer.layer(channel());
    handle.open_for(3 * SECOND);

    let refused = call(&service, reply("0")).await;

    assert_eq!(refused.headers()["grpc-status"], "14");
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "3000");
}

#[tokio::test]
async fn by_option_a_pushback_opens_it_until_then() {
    let time = ManualClock::new();
    let (layer, _) = simple(&time);
    let layer = layer.open_when_asked();
    let (service, handle) = (layer.layer(channel()), layer.handle());
    let trailers = fields(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "7000")]);

    let response =
        call(&service, head(ScriptedBody::new().data("message").trailers(trailers).chunked())).await;
    assert!(read(response).await);

    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.view().lasts, Some(7 * SECOND));
}
