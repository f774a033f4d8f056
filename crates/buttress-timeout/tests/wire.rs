//! What a client sees of a body that is cut short, over HTTP/1 and HTTP/2, with hyper at both ends.

#![cfg(feature = "http")]

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use buttress_core::Clock;
use buttress_http::reject;
use buttress_testkit::{BodyHandle, ScriptedBody};
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{Layer, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Reply = Either<Full<Bytes>, ScriptedBody>;

/// A server that answers each request with what `body` makes, over a connection that holds `buffer` bytes.
#[derive(Clone, Copy)]
struct Server {
    idle: Duration,
    total: Duration,
    http2: bool,
    buffer: usize,
}

impl Server {
    fn start(self, body: impl Fn() -> ScriptedBody + Clone + Send + 'static) -> DuplexStream {
        let (client, server) = tokio::io::duplex(self.buffer);
        let answer = service_fn(move |_: Request<Incoming>| {
            let response = Response::new(Reply::Right(body()));
            async move { Ok::<_, Infallible>(response) }
        });
        let layer = TimeoutLayer::idle(self.idle).and_total(self.total);
        let layer = layer.on_reject(reject::respond()).clock(Clock::tokio());
        let service = TowerToHyperService::new(layer.layer(answer));
        tokio::spawn(async move {
            let io = TokioIo::new(server);
            // The connection ends with an error, as it should.
            let _ = if self.http2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
            };
        });
        client
    }
}

/// A body that stalls after its first frame, and the handles of those that were made.
fn stalling(
    chunked: bool,
) -> (impl Fn() -> ScriptedBody + Clone + Send + 'static, std::sync::mpsc::Receiver<BodyHandle>) {
    let (made, handles) = std::sync::mpsc::channel();
    let make = move || {
        let body = ScriptedBody::new().data("first").stall().data("second");
        let body = if chunked { body.chunked() } else { body };
        made.send(body.handle()).expect("the test still listens");
        body
    };
    (make, handles)
}

#[tokio::test(start_paused = true)]
async fn over_http1_the_connection_closes_in_the_middle_of_the_body() {
    for chunked in [false, true] {
        let (body, handles) = stalling(chunked);
        let mut client =
            Server { idle: 5 * SECOND, total: Duration::MAX, http2: false, buffer: 4096 }.start(body);
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();

        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();

        let read = String::from_utf8(read).unwrap();
        let (head, body) = read.split_once("\r\n\r\n").unwrap();
        if chunked {
            assert_eq!(body, "5\r\nfirst\r\n", "no last chunk");
        } else {
            assert!(head.contains("content-length: 11"), "the length passes through: {head}");
            assert_eq!(body, "first", "six bytes are missing");
        }
        assert!(handles.recv().unwrap().is_dropped());
    }
}

#[tokio::test(start_paused = true)]
async fn over_http2_the_stream_is_reset_and_the_connection_lives_on() {
    let (body, handles) = stalling(false);
    let client = Server { idle: 5 * SECOND, total: Duration::MAX, http2: true, buffer: 65_536 }.start(body);
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);

    for _ in 0..2 {
        let request = Request::get("http://test/").body(Empty::<Bytes>::new()).unwrap();
        poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
        let mut body = send.send_request(request).await.unwrap().into_body();

        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        let error = body.frame().await.unwrap().unwrap_err();

        assert!(format!("{error:?}").contains("Reset"), "{error:?}");
        assert!(handles.recv().unwrap().is_dropped());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_the_whole_body() {
    let chunk = Bytes::from(vec![b'x'; 1000]);
    let body = move || (0..50).fold(ScriptedBody::new(), |body, _| body.data(chunk.clone()));
    let mut client = Server { idle: SECOND, total: Duration::MAX, http2: false, buffer: 1024 }.start(body);
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let clock = Clock::tokio();

    let (mut read, mut buffer) = (0, [0; 1000]);
    loop {
        clock.sleep(60 * SECOND).await;
        match client.read(&mut buffer).await.unwrap() {
            0 => break,
            bytes => read += bytes,
        }
    }

    assert!(read > 50_000, "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_ended_by_total_only_when_it_reads_again() {
    let (made, bodies) = std::sync::mpsc::channel();
    let body = move || {
        let body = (0..50).fold(ScriptedBody::new(), |body, _| body.data(vec![b'x'; 1000]));
        made.send(body.handle()).expect("the test still listens");
        body
    };
    let mut client = Server { idle: SECOND, total: 2 * SECOND, http2: false, buffer: 1024 }.start(body);
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();

    Clock::tokio().sleep(3600 * SECOND).await;
    let body = bodies.recv().unwrap();
    assert!(!body.is_dropped(), "nobody polls it: that is for a write timeout of the socket");

    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert!(body.is_dropped() && read.len() < 50_000, "{}", read.len());
}
