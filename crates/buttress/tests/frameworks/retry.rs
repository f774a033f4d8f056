//! Retries around the services that people call: reqwest, a tonic channel, an axum router.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{post, put};
use buttress::client::Reqwest;
use buttress::retry::{Backoff, ReplayBody, RetrySafe};
use buttress::{Budget, Cause, RetryLayer, ServiceBuilderExt};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::listen;
use crate::tonic_server::{Client, Greeter, channel, greet};

fn retry() -> RetryLayer {
    RetryLayer::default().backoff(Backoff::constant(Duration::ZERO)).budget(Budget::unlimited())
}

/// A router that gives back what it is sent, from the third request on.
fn recovering() -> (axum::Router, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = count.clone();
    let echo = move |body: String| {
        let third = calls.fetch_add(1, Ordering::SeqCst) >= 2;
        async move { if third { Ok(body) } else { Err(StatusCode::SERVICE_UNAVAILABLE) } }
    };
    (axum::Router::new().route("/put", put(echo.clone())).route("/post", post(echo)), count)
}

#[tokio::test]
async fn reqwest_is_called_again_with_the_same_body() {
    let (listener, address) = listen().await;
    let (router, count) = recovering();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = retry().per_try_timeout(Duration::from_secs(30)).layer(Reqwest::new());
    let ask = |method: &str, path: &str| {
        let url = format!("http://{address}{path}");
        let body = Full::<Bytes>::from("over and back");
        client.clone().oneshot(Request::builder().method(method).uri(url).body(body).unwrap())
    };

    let lost = ask("POST", "/post").await.unwrap();
    assert_eq!((lost.status().as_u16(), count.load(Ordering::SeqCst)), (503, 1));
    let answer = ask("PUT", "/put").await.unwrap();
    assert_eq!((answer.status().as_u16(), count.load(Ordering::SeqCst)), (200, 3));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "over and back");
}

#[tokio::test]
async fn reqwest_that_cannot_connect_sends_a_post_again() {
    // Nothing listens there any more.
    let (listener, address) = listen().await;
    drop(listener);
    let layer = retry();
    let handle = layer.handle();

    let order = Request::post(format!("http://{address}/")).body(Full::<Bytes>::from("an order")).unwrap();
    let lost = layer.layer(Reqwest::new()).oneshot(order).await;

    assert!(lost.is_err());
    assert_eq!(handle.snapshot().retries, 2);
}

#[tokio::test]
async fn an_order_that_was_carried_out_is_not_sent_again_when_its_redirect_leads_nowhere() {
    let (listener, dead) = listen().await;
    drop(listener);
    let (listener, address) = listen().await;
    let count = Arc::new(AtomicUsize::new(0));
    let orders = count.clone();
    let order = move |Path(status): Path<u16>| {
        orders.fetch_add(1, Ordering::SeqCst);
        let status = StatusCode::from_u16(status).unwrap();
        async move { (status, [("location", format!("http://{dead}/done"))]) }
    };
    let router = axum::Router::new().route("/{status}", post(order));
    tokio::spawn(async move { axum::serve(listener, router).await });

    for status in [301, 302, 303] {
        let posted = async |client: Reqwest| {
            let order = Request::post(format!("http://{address}/{status}"));
            let order = order.body(Full::<Bytes>::from("an order")).unwrap();
            (retry().layer(client).oneshot(order).await, count.swap(0, Ordering::SeqCst))
        };

        let (lost, orders) = posted(Reqwest::from(reqwest::Client::new())).await;
        let lost = lost.unwrap_err();
        assert!(lost.reqwest().unwrap().is_connect(), "it is the redirect that failed: {lost:?}");
        assert_eq!((lost.nothing_sent(), orders), (false, 1), "{status}");
        let (answer, orders) = posted(Reqwest::new()).await;
        assert_eq!((answer.unwrap().status().as_u16(), orders), (status, 1), "it is the answer");
    }
}

#[tokio::test]
async fn of_a_client_that_others_made_only_what_is_idempotent_is_sent_again() {
    let (listener, address) = listen().await;
    drop(listener);

    for (method, retries) in [("POST", 0), ("PUT", 2)] {
        let layer = retry();
        let handle = layer.handle();
        let request = Request::builder().method(method).uri(format!("http://{address}/"));
        let client = layer.layer(Reqwest::from(reqwest::Client::new()));
        assert!(client.oneshot(request.body(Full::<Bytes>::from("a body")).unwrap()).await.is_err());
        assert_eq!(handle.snapshot().retries, retries, "{method}");
    }
}

#[tokio::test]
async fn an_axum_router_is_called_again() {
    let (router, count) = recovering();
    let service = retry().layer(router);

    let answer = service.oneshot(Request::put("/put").body(Full::<Bytes>::from("again")).unwrap()).await;

    assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "again");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_tonic_channel_is_called_again_when_it_is_unavailable() {
    let (listener, address) = listen().await;
    tokio::spawn(Server::builder().add_service(Greeter).serve_with_incoming(TcpIncoming::from(listener)));
    let channel = ServiceBuilder::new().lift_errors().service(channel(address).await);
    let count = Arc::new(AtomicUsize::new(0));
    let calls = count.clone();
    let flaky = tower::service_fn(move |request: Request<ReplayBody<tonic::body::Body>>| {
        let (mut channel, attempt) = (channel.clone(), calls.fetch_add(1, Ordering::SeqCst));
        async move {
            let attempts = request.headers().get("grpc-previous-rpc-attempts").cloned();
            if attempt == 0 {
                // Reads the message and fails with nothing but a head.
                let _ = request.into_body().collect().await;
                let head = Response::builder().header("content-type", "application/grpc");
                let head = head.header("grpc-status", "14").header("grpc-retry-pushback-ms", "5");
                return Ok(head.body(tonic::body::Body::empty()).unwrap());
            }
            assert_eq!(attempts.unwrap(), "1");
            channel.ready().await?.call(request.map(tonic::body::Body::new)).await
        }
    });
    let safe = |mut request: Request<tonic::body::Body>| {
        request.extensions_mut().insert(RetrySafe);
        request
    };
    let mut client = Client::new(ServiceBuilder::new().map_request(safe).layer(retry()).service(flaky));

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");

    assert_eq!(count.load(Ordering::SeqCst), 2);
}
