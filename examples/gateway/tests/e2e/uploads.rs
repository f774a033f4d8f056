//! Uploads: as long as they move they live, and from their end the upstream has the route's `head` time.

use std::{convert::Infallible, future::pending, time::Duration};

use axum::{Router, body::Body, routing::put};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Gateway, head_of, pause, raw_upstream, soon, upstream};

const PIECES: usize = 20;

/// A piece each 50 ms: a second in all.
fn slow() -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(0, async |sent| {
        pause(Duration::from_millis(50)).await;
        (sent < PIECES).then(|| (Ok(Bytes::from_static(b"piece")), sent + 1))
    })
}

async fn put_slowly(gateway: &Gateway, client: reqwest::Client) -> reqwest::Response {
    let body = reqwest::Body::wrap_stream(slow());
    soon("the answer", client.put(gateway.url("/")).body(body).send()).await.expect("an answer")
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_head_time() {
    let count = put(async |body: Bytes| body.len().to_string());
    let upstream = upstream(Router::new().fallback(count)).await;
    let gateway = Gateway::in_front_of("slow-upload", upstream, "timeout = { head = '400ms' }").await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();

    for client in [reqwest::Client::new(), http2] {
        let answer = put_slowly(&gateway, client).await;

        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), (PIECES * "piece".len()).to_string());
    }
}

#[tokio::test]
async fn an_upstream_that_is_silent_after_the_upload_is_a_504() {
    let silent = put(async |body: Body| {
        let _ = body.collect().await;
        pending::<&str>().await
    });
    let upstream = upstream(Router::new().fallback(silent)).await;
    let gateway = Gateway::in_front_of("silent-upload", upstream, "timeout = { head = '400ms' }").await;

    let answer = put_slowly(&gateway, reqwest::Client::new()).await;

    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn an_upload_that_stalls_ends() {
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    let reading = raw_upstream(move |mut stream| {
        let closed = closed.clone();
        async move {
            head_of(&mut stream).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let _ = closed.send(());
        }
    })
    .await;
    let gateway = Gateway::in_front_of("stalled-upload", reading, "timeout = { idle = '200ms' }").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nhost: it\r\ncontent-length: 1000\r\n\r\nhalf").await.unwrap();

    let mut answer = Vec::new();
    soon("the end of the connection", client.read_to_end(&mut answer)).await.unwrap();

    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    soon("the end at the upstream", is_closed.recv()).await.unwrap();
}
