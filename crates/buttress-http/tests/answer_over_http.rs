//! What a client reads off the wire when a request is refused.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{Rejection, RejectionKind};
use buttress_http::answer::AnswerErrorsLayer;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;

/// A server that has no more requests to give.
fn exhausted()
-> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    AnswerErrorsLayer::new().layer(service_fn(|_: Request<Incoming>| {
        let rejection = Rejection::new(RejectionKind::RateLimited)
            .with_policy("daily")
            .with_retry_after(Duration::from_millis(10));
        std::future::ready(Err::<Response<Full<Bytes>>, _>(rejection))
    }))
}

/// The lines of the head, and the body.
async fn over_http1(method: &str) -> (Vec<String>, String) {
    let (mut client, server) = duplex(4096);
    let service = exhausted();
    let service = hyper::service::service_fn(move |request| service.clone().oneshot(request));
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    let asked = format!("{method} / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    client.write_all(asked.as_bytes()).await.unwrap();

    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> =
        head.lines().map(str::to_owned).filter(|line| !line.starts_with("date: ")).collect();
    lines[1..].sort();
    (lines, body.to_owned())
}

async fn over_http2(request: http::request::Builder) -> (StatusCode, HeaderMap, Bytes) {
    let (client, server) = duplex(4096);
    let service = exhausted();
    let service = hyper::service::service_fn(move |request| service.clone().oneshot(request));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service);
    tokio::spawn(server);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);

    let request = request.uri("http://a.example/").body(Empty::<Bytes>::new()).unwrap();
    let (mut head, body) = sender.send_request(request).await.unwrap().into_parts();
    head.headers.remove("date");
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn http1_clients_read_a_problem_and_how_long_to_wait() {
    let (head, body) = over_http1("GET").await;

    assert_eq!(head[0], "HTTP/1.1 429 Too Many Requests");
    for line in ["cache-control: no-store", "content-type: application/problem+json", "retry-after: 1"] {
        assert!(head.contains(&line.to_owned()), "{head:?}");
    }
    assert!(body.contains("\"violated-policies\":[\"daily\"]"), "{body}");
}

#[tokio::test]
async fn http1_head_reads_the_head_of_get_and_nothing_more() {
    let (of_get, _) = over_http1("GET").await;
    let (of_head, body) = over_http1("HEAD").await;

    assert_eq!(of_head, of_get);
    assert_eq!(body, "");
}

#[tokio::test]
async fn http2_head_reads_the_head_of_get_and_nothing_more() {
    let (status, of_get, body) = over_http2(Request::builder()).await;
    let (_, of_head, no_body) = over_http2(Request::builder().method(Method::HEAD)).await;

    assert_eq!(status, 429);
    assert_eq!(of_get["content-length"].to_str().unwrap(), body.len().to_string());
    assert_eq!(of_head, of_get);
    assert!(no_body.is_empty());
}

#[tokio::test]
async fn grpc_clients_read_the_code_in_the_only_head() {
    let request = Request::builder().method(Method::POST).header("content-type", "application/grpc");

    let (status, headers, body) = over_http2(request).await;

    assert_eq!(status, 200);
    assert_eq!(headers["grpc-status"], "8");
    assert_eq!(headers["grpc-retry-pushback-ms"], "10");
    let status = tonic::Status::from_header_map(&headers).unwrap();
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(10)));
    assert_eq!(status.get_details_quota_failure().unwrap().violations[0].description, "daily");
    assert!(body.is_empty());
}
