//! The circuit breaker on each framework.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use buttress::circuit_breaker::State;
use buttress::client::Reqwest;
use buttress::{
    CircuitBreakerLayer, Error, ManualClock, Rejection, RejectionKind, ServiceBuilderExt, classify, key,
    reject,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::tonic_server::{Client, Plain, channel, greet};
use crate::{listen, plain_server};

const SECOND: Duration = Duration::from_secs(1);

/// Opens after two failures in a row, for 5 s.
fn breaker() -> (CircuitBreakerLayer, ManualClock) {
    let time = ManualClock::new();
    let layer =
        CircuitBreakerLayer::failures_in_a_row(2).open_for(5 * SECOND, 5 * SECOND).jitter(0.0).probes(1);
    (layer.clock(time.clock()), time)
}

fn routes() -> Router {
    Router::new()
        .route("/ok", get(|| async { "ok" }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
}

async fn ask(router: &Router, path: &str) -> Response<Body> {
    router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn all_routes_of_an_axum_router_share_it() {
    let (layer, time) = breaker();
    let router = routes().layer(layer.classify(classify::status()).on_reject(reject::respond()));

    for _ in 0..2 {
        assert_eq!(ask(&router, "/broken").await.status(), 500);
    }
    let refused = ask(&router, "/ok").await;

    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    time.advance(5 * SECOND);
    assert_eq!(ask(&router, "/ok").await.status(), 200);
    assert_eq!(ask(&router, "/ok").await.status(), 200);
}

#[tokio::test]
async fn over_a_socket_a_served_body_is_followed_to_its_end() {
    let (layer, _time) = breaker();
    let handle = layer.handle();
    let router =
        routes().layer(layer.classify(classify::status().at_end()).on_reject(reject::respond()).at_end());
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::new();
    let get = |path: &str| client.get(format!("http://{address}{path}")).send();

    assert_eq!(get("/ok").await.unwrap().text().await.unwrap(), "ok");
    assert_eq!(handle.counts().succeeded, 1);
    get("/broken").await.unwrap();
    get("/broken").await.unwrap();

    let refused = get("/ok").await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("circuit open"));
}

#[tokio::test]
async fn a_reqwest_client_fails_fast_when_nobody_listens() {
    let (layer, time) = breaker();
    let mut client = ServiceBuilder::new().layer(layer).lift_errors().service(reqwest::Client::new());
    let (listener, address) = listen().await;
    drop(listener);
    let url: reqwest::Url = format!("http://{address}/").parse().unwrap();
    let mut ask = || client.call(reqwest::Request::new(http::Method::GET, url.clone()));

    for _ in 0..2 {
        let Error::Inner(error) = ask().await.unwrap_err() else { panic!("reqwest's own error") };
        assert!(error.is_connect());
    }
    let Error::Rejected(rejection) = ask().await.unwrap_err() else { panic!("ours") };

    assert_eq!((rejection.kind, rejection.retry_after), (RejectionKind::CircuitOpen, Some(5 * SECOND)));
    time.advance(5 * SECOND);
    assert!(matches!(ask().await, Err(Error::Inner(_))), "the probe finds nobody either");
}

#[tokio::test]
async fn over_the_adapter_for_reqwest_each_authority_has_its_own() {
    let good = plain_server().await;
    let (listener, bad) = listen().await;
    tokio::spawn(async move { axum::serve(listener, routes()).await });
    let (layer, _time) = breaker();
    let handle = layer.handle();
    let client = ServiceBuilder::new()
        .layer(
            layer
                .by(key::authority())
                .classify(classify::status().at_end())
                .at_end()
                .on_reject(reject::respond()),
        )
        .lift_errors()
        .service(Reqwest::new());
    let ask = |url: String| client.clone().oneshot(Request::get(url).body("").unwrap());

    for _ in 0..2 {
        assert_eq!(ask(format!("http://{bad}/broken")).await.unwrap().status(), 500);
    }
    let refused = ask(format!("http://{bad}/ok")).await.unwrap();
    let answered = ask(format!("http://{good}/")).await.unwrap();

    assert_eq!(refused.status(), 503);
    assert!(refused.extensions().get::<Rejection>().is_some_and(|rejection| rejection.elsewhere));
    assert_eq!(answered.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(handle.key(bad.to_string()).state(), State::Open);
}

/// Is always out of order.
#[derive(Clone, Copy)]
struct Broken;

impl NamedService for Broken {
    const NAME: &'static str = "test.Greeter";
}

impl UnaryService<Bytes> for Broken {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _: tonic::Request<Bytes>) -> Self::Future {
        std::future::ready(Err(Status::unavailable("out of order")))
    }
}

impl Service<Request<tonic::body::Body>> for Broken {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let broken = *self;
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(broken, request).await) })
    }
}

#[tokio::test]
async fn a_tonic_channel_is_judged_by_its_codes_and_refused_as_unavailable() {
    let (listener, address) = listen().await;
    tokio::spawn(Server::builder().add_service(Broken).serve_with_incoming(TcpIncoming::from(listener)));
    let (layer, _time) = breaker();
    let handle = layer.handle();
    let layer = layer.classify(classify::grpc()).at_end().on_reject(reject::respond());
    // tonic's error is lifted, so that it can be looked into.
    let service = ServiceBuilder::new().layer(layer).lift_errors().service(channel(address).await);
    let mut client = Client::new(service);

    for _ in 0..2 {
        let status = greet(&mut client, "Ada").await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "out of order"));
    }
    assert_eq!(handle.state(), State::Open);
    let refused = greet(&mut client, "Ada").await.unwrap_err();

    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "circuit open"));
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "5000");
}

#[tokio::test]
async fn a_tonic_server_stands_behind_it_too() {
    let (layer, _time) = breaker();
    let handle = layer.handle();
    let (listener, address) = listen().await;
    let layer = layer.classify(classify::grpc()).at_end().on_reject(reject::respond());
    let server = Server::builder().layer(layer).add_service(Broken);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = Client::new(channel(address).await);

    for _ in 0..2 {
        greet(&mut client, "Ada").await.unwrap_err();
    }
    let refused = greet(&mut client, "Ada").await.unwrap_err();

    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "circuit open"));
    assert_eq!(handle.counts().refused, 1);
}
