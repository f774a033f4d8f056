//! The loopback server and the upstream that misbehaves as told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use buttress_testkit::{Reply, ScriptedBody, Server, Upstream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn hello(request: Request<Incoming>) -> Result<Response<ScriptedBody>, Infallible> {
    let version = format!("{:?}", request.version());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", HeaderValue::from_static("kept"));
    Ok(Response::new(ScriptedBody::new().data(version).trailers(trailers).chunked()))
}

#[tokio::test]
async fn the_server_speaks_http_1() {
    let server = Server::start(tower::service_fn(hello)).await;
    let io = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);

    let request = Request::get("/").header("host", "test").header("te", "trailers").body(ScriptedBody::new());
    let body = client.send_request(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "HTTP/1.1");
    assert_eq!(server.connections(), 1);

    server.stop().await;
    assert!(connection.await.unwrap().is_ok(), "an idle connection is closed in peace");
}

#[tokio::test]
async fn the_server_speaks_http_2_with_trailers() {
    let server = Server::start(tower::service_fn(hello)).await;
    let io = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);

    let request = Request::get(server.url("/")).body(ScriptedBody::new()).unwrap();
    let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-trailer"], "kept");
    assert_eq!(body.to_bytes(), "HTTP/2.0");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    let server = Server::start(tower::service_fn(hello)).await;
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    assert!(
        exchange(&mut client, "GET / HTTP/1.1\r\nhost: test\r\n\r\n", 16).await.starts_with("HTTP/1.1 200")
    );

    drop(server);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
}

async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

/// Sends `request`, and reads at least `bytes` bytes of what comes back.
async fn exchange(client: &mut TcpStream, request: &str, bytes: usize) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while got.len() < bytes && client.read_buf(&mut got).await.unwrap() > 0 {}
    String::from_utf8(got).unwrap()
}

/// Sends `GET /` and reads until the connection ends; says whether it was reset.
async fn get(upstream: &Upstream) -> (String, bool) {
    let mut client = connect(upstream.address()).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    let reset = client.read_to_end(&mut got).await.is_err();
    (String::from_utf8_lossy(&got).into_owned(), reset)
}

#[tokio::test]
async fn an_upstream_answers_with_status_fields_and_body() {
    let upstream = Upstream::start(|_| Reply::new(503).field("retry-after", "7").body("busy")).await;

    let (answer, reset) = get(&upstream).await;

    assert_eq!(
        (answer.as_str(), reset),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nretry-after: 7\r\n\r\nbusy", false)
    );
    assert_eq!((upstream.requests(), upstream.connections(), upstream.bytes_sent()), (1, 1, 4));
}

#[tokio::test]
async fn an_upstream_sends_chunks_and_trailers() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello").trailer("x-sum", "5")).await;

    let (answer, _) = get(&upstream).await;

    assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upstream_keeps_the_connection_and_reads_bodies() {
    let upstream = Upstream::start(|request| {
        let sum = request.trailers.get("x-sum").map_or("none", |sum| sum.to_str().unwrap());
        let body = String::from_utf8_lossy(&request.body);
        Reply::new(200)
            .body(format!("{} {} {body} {} {sum}", request.method, request.target, request.body_length))
    })
    .await;
    let mut client = connect(upstream.address()).await;

    let head = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n".len();
    let sized = exchange(&mut client, "POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", head + 17).await;
    let chunked =
        "PUT /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nx-sum: 6\r\n\r\n";
    let chunked = exchange(&mut client, chunked, head + 13).await;

    assert!(sized.ends_with("POST /a abc 3 none"), "{sized}");
    assert!(chunked.ends_with("PUT /b abc 3 6"), "{chunked}");
    assert_eq!((upstream.requests(), upstream.connections(), upstream.bytes_received()), (2, 1, 6));
}

#[tokio::test]
async fn an_upstream_cuts_its_body_short() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello world").close_at(5)).await;

    let (answer, reset) = get(&upstream).await;

    assert!(answer.contains("content-length: 11\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!reset);
}

#[tokio::test]
async fn an_upstream_resets_at_a_byte() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello world").reset_at(5)).await;

    let (_, reset) = get(&upstream).await;

    assert!(reset);
    assert_eq!((upstream.bytes_sent(), upstream.aborts()), (5, 0));
}

#[tokio::test]
async fn an_upstream_answers_with_garbage_or_nothing() {
    let upstream = Upstream::start(|_| Reply::garbage("HTTP/9 what?\r\n\r\n")).await;
    assert_eq!(get(&upstream).await, ("HTTP/9 what?\r\n\r\n".to_owned(), false));

    let upstream = Upstream::start(|_| Reply::close()).await;
    assert_eq!(get(&upstream).await, (String::new(), false));
}

#[tokio::test]
async fn an_upstream_stalls_until_it_is_told_to_go_on() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello").stall_at(2)).await;
    let mut client = connect(upstream.address()).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";

    let begin = exchange(&mut client, "GET / HTTP/1.1\r\n\r\n", head.len() + 2).await;
    assert_eq!(begin, format!("{head}he"));
    tokio::task::yield_now().await;
    assert_eq!(upstream.bytes_sent(), 2);

    upstream.resume();
    assert_eq!(exchange(&mut client, "", 3).await, "llo");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_waits_in_paused_time() {
    let upstream = Upstream::start(|_| Reply::new(200).delay(Duration::from_secs(3600))).await;
    let clock = buttress_core::Clock::tokio();
    let start = clock.now();

    let (answer, _) = get(&upstream).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(clock.now() - start >= Duration::from_secs(3600));
}

#[tokio::test]
async fn an_upstream_notices_a_client_that_goes_away_and_stops_sending() {
    let upstream = Upstream::start(|_| Reply::new(200).endless()).await;
    let mut client = connect(upstream.address()).await;
    exchange(&mut client, "GET / HTTP/1.1\r\n\r\n", 100_000).await;

    drop(client);
    upstream.aborted(1).await;

    let sent = upstream.bytes_sent();
    tokio::task::yield_now().await;
    assert_eq!(upstream.bytes_sent(), sent);
    assert_eq!(upstream.aborts(), 1);
}

#[tokio::test]
async fn an_upstream_notices_a_client_that_goes_away_while_it_stalls() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello").stall_at(0)).await;
    let mut client = connect(upstream.address()).await;
    exchange(&mut client, "GET / HTTP/1.1\r\n\r\n", 10).await;

    drop(client);
    upstream.aborted(1).await;
    assert_eq!(upstream.bytes_sent(), 0);
}

#[tokio::test]
async fn an_upstream_notices_a_client_that_goes_away_while_it_uploads() {
    let upstream = Upstream::start(|_| Reply::new(200)).await;
    let mut idle = connect(upstream.address()).await;
    exchange(&mut idle, "GET / HTTP/1.1\r\n\r\n", 10).await;
    let mut client = connect(upstream.address()).await;
    client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();

    drop(idle);
    drop(client);
    upstream.aborted(1).await;

    assert_eq!((upstream.aborts(), upstream.requests(), upstream.bytes_received()), (1, 1, 3));
}

#[tokio::test]
async fn dropping_the_upstream_ends_its_connections() {
    let upstream = Upstream::start(|_| Reply::new(200).body("hello").stall_at(2)).await;
    let mut client = connect(upstream.address()).await;
    exchange(&mut client, "GET / HTTP/1.1\r\n\r\n", 10).await;
    assert_eq!(upstream.open_connections(), 1);

    drop(upstream);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
}
