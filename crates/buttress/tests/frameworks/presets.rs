//! The presets around the clients that people use: reqwest, hyper-util's client, a tonic channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::get;
use buttress::circuit_breaker::State;
use buttress::client::Reqwest;
use buttress::presets::{self, Client};
use buttress::retry::{Backoff, ReplayBody, RetrySafe, Skip};
use buttress::{BoxError, Cause, NothingSent, RejectionKind, ServiceBuilderExt};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::listen;
use crate::tonic_server::{Client as Greets, Greeter, channel, greet};

fn at_once() -> Client {
    presets::client().retry(|retry| retry.backoff(Backoff::constant(Duration::ZERO)))
}

/// Where a server fails the first two requests and answers each further one.
async fn recovering() -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = count.clone();
    let answer = move || {
        let third = calls.fetch_add(1, Ordering::SeqCst) >= 2;
        async move { if third { Ok("well again") } else { Err(StatusCode::SERVICE_UNAVAILABLE) } }
    };
    let (listener, address) = listen().await;
    let router = axum::Router::new().route("/", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/"), count)
}

fn request(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

#[tokio::test]
async fn reqwest_takes_both_as_it_is() {
    let (url, count) = recovering().await;
    let stack = at_once();
    let handle = stack.handle();
    let client = stack.layer(Reqwest::new());

    let answer = client.oneshot(request(&url)).await.unwrap();

    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "well again");
    assert_eq!((count.load(Ordering::SeqCst), handle.breaker().counts().failed), (3, 2));

    // A failed attempt brings the hedge forward, and so two attempts for each call.
    let (url, count) = recovering().await;
    let client = presets::hedged_client().layer(Reqwest::new());
    assert_eq!(client.clone().oneshot(request(&url)).await.unwrap().status(), 503);
    assert_eq!(client.oneshot(request(&url)).await.unwrap().status(), 200);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn hyper_utils_client_has_its_errors_lifted_and_marked() {
    let mark = |error: legacy::Error| -> BoxError {
        if error.is_connect() { NothingSent::new(error).into() } else { error.into() }
    };
    let client = || legacy::Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Full<Bytes>>>();
    let (url, count) = recovering().await;
    let stack = at_once();
    let handle = stack.handle();

    // A boxed error has a place for a refusal.
    let client = ServiceBuilder::new().layer(stack).map_err(mark).service(client());
    let answer = client.clone().oneshot(request(&url)).await.unwrap();
    assert_eq!((answer.status().as_u16(), count.load(Ordering::SeqCst)), (200, 3));

    // Nothing listens there any more: an order was not sent, and is tried again.
    let (listener, address) = listen().await;
    drop(listener);
    let order = Request::post(format!("http://{address}/")).body(Full::from("an order")).unwrap();
    let error = client.oneshot(order).await.unwrap_err();
    assert!(error.nothing_sent());
    assert_eq!(handle.retries().skipped(Skip::Attempts), 1);
    assert_eq!(
        handle.breaker().counts().failed,
        2 + 3,
        "two answers, and three attempts that did not connect"
    );
}

#[tokio::test]
async fn a_tonic_channel_takes_the_form_for_grpc() {
    let (listener, address) = listen().await;
    tokio::spawn(Server::builder().add_service(Greeter).serve_with_incoming(TcpIncoming::from(listener)));
    let stack = at_once().grpc().attempt_timeout(Duration::from_secs(20));
    let handle = stack.handle();
    let safe = |mut request: Request<tonic::body::Body>| {
        request.extensions_mut().insert(RetrySafe);
        request
    };
    let service = ServiceBuilder::new()
        .map_request(safe)
        .layer(stack)
        .map_request(|request: Request<ReplayBody<tonic::body::Body>>| request.map(tonic::body::Body::new))
        .lift_errors()
        .service(channel(address).await);
    let mut client = Greets::new(service);

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");
    assert_eq!(handle.breaker().counts().succeeded, 1);
    assert_eq!(handle.retries().snapshot().calls, 1);

    handle.breaker().isolate("a test");
    let status = greet(&mut client, "Ada").await.unwrap_err();
    let mut causes =
        std::iter::successors(Some(&status as &(dyn std::error::Error + 'static)), |error| error.source());
    let refusal = causes.find_map(|error| error.downcast_ref::<buttress::Rejection>()).expect("our refusal");
    assert_eq!(refusal.kind, RejectionKind::CircuitOpen);
    assert_eq!(handle.breaker().state(), State::Isolated);
}
