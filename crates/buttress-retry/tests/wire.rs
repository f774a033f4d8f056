//! Retries over real connections: hyper's client of HTTP/1.1 and HTTP/2 against servers that fail as told.
#![cfg(feature = "http")]

mod support;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{BoxError, MaybeSent, NothingSent};
use buttress_retry::{Backoff, Budget, ReplayBody, RetryLayer};
use buttress_testkit::{Reply, ScriptedBody, Server, Upstream};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::Told;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
type Client = BoxCloneSyncService<Request<ReplayBody<Body>>, Response<Incoming>, BoxError>;

fn retry() -> RetryLayer {
    RetryLayer::default().backoff(Backoff::constant(Duration::ZERO)).budget(Budget::unlimited())
}

/// A client that opens a connection for each request, and knows when it has sent nothing.
fn client(addresses: impl Fn() -> SocketAddr + Clone + Send + Sync + 'static, http2: bool) -> Client {
    BoxCloneSyncService::new(tower::service_fn(move |request| send(addresses(), http2, request)))
}

async fn send(
    address: SocketAddr,
    http2: bool,
    request: Request<ReplayBody<Body>>,
) -> Result<Response<Incoming>, BoxError> {
    let stream = TcpStream::connect(address).await.map_err(NothingSent::new)?;
    let io = TokioIo::new(stream);
    if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

fn request(method: Method, address: SocketAddr, body: Body) -> Request<Body> {
    let uri = format!("http://{address}/orders");
    Request::builder().method(method).uri(uri).header("host", address.to_string()).body(body).unwrap()
}

fn whole(text: &'static str) -> Body {
    Full::from(text).boxed_unsync()
}

/// Two frames of data and trailers.
fn streamed() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    let frames = [Frame::data("one ".into()), Frame::data("two".into()), Frame::trailers(trailers)];
    StreamBody::new(Frames(frames.into())).boxed_unsync()
}

struct Frames(VecDeque<Frame<Bytes>>);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn over_http1_a_put_is_sent_again_with_its_whole_body() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let got = bodies.clone();
    let upstream = Upstream::start(move |request| {
        let mut got = got.lock().unwrap();
        got.push(request.body.clone());
        Reply::new(if got.len() < 3 { 503 } else { 200 }).body("done")
    })
    .await;
    let address = upstream.address();

    let service = retry().layer(client(move || address, false));
    let answer = service.oneshot(request(Method::PUT, address, streamed())).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(*bodies.lock().unwrap(), ["one two"; 3]);
}

#[tokio::test]
async fn over_http1_a_connection_that_breaks_is_no_reason_to_send_a_post_again() {
    let upstream = Upstream::start(|_| Reply::close()).await;
    let address = upstream.address();
    let told = Told::default();
    let service = retry().observe(told.observer()).layer(client(move || address, false));

    let lost = service.clone().oneshot(request(Method::POST, address, whole("an order"))).await;
    assert!(lost.is_err());
    assert_eq!(upstream.requests(), 1);
    assert_eq!(told.lines(), ["not_idempotent after 1"]);

    let lost = service.oneshot(request(Method::GET, address, whole(""))).await;
    assert!(lost.is_err());
    assert_eq!(upstream.requests(), 1 + 3);
}

#[tokio::test]
async fn over_http1_a_post_goes_to_the_next_address_when_nobody_listens_at_the_first() {
    let upstream = Upstream::start(|_| Reply::new(200)).await;
    let good = upstream.address();
    let bad = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    let addresses = move || [bad, good][turn.fetch_add(1, Ordering::SeqCst).min(1)];

    let service = retry().layer(client(addresses, false));
    let answer = service.oneshot(request(Method::POST, good, whole("an order"))).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.requests(), 1);
}

/// A server whose connections break when the first bytes of a body are there.
async fn breaking() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.windows(4).any(|bytes| bytes == b"one ") {
                stream.read_buf(&mut read).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_connection_breaks_halfway_is_sent_again_from_the_start() {
    for http2 in [false, true] {
        let server = Server::start(tower::service_fn(|request: Request<Incoming>| async {
            let body = request.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::new(Full::new(body)))
        }))
        .await;
        let (bad, good) = (breaking().await, server.address());
        let turn = Arc::new(AtomicUsize::new(0));
        let turns = turn.clone();
        let addresses = move || [bad, good][turns.fetch_add(1, Ordering::SeqCst).min(1)];
        let upload = ScriptedBody::new().data("one ").stall().data("two").chunked();
        let rest = upload.handle();
        let upload = upload.map_err(|error| panic!("{error}")).boxed_unsync();

        let service = retry().layer(client(addresses, http2));
        let call = tokio::spawn(service.oneshot(request(Method::PUT, good, upload)));
        while turn.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        rest.resume();
        let answer = call.await.unwrap().unwrap();

        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "one two", "HTTP/2: {http2}");
    }
}

#[tokio::test]
async fn over_http2_a_put_is_sent_again_with_its_trailers() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let got = bodies.clone();
    let server = Server::start(tower::service_fn(move |request: Request<Incoming>| {
        let got = got.clone();
        async move {
            let body = request.into_body().collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let mut got = got.lock().unwrap();
            got.push((body.to_bytes(), trailers["x-checksum"].clone()));
            let status = if got.len() < 3 { 503 } else { 200 };
            Ok::<_, hyper::Error>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
        }
    }))
    .await;
    let address = server.address();

    let service = retry().layer(client(move || address, true));
    let answer = service.oneshot(request(Method::PUT, address, streamed())).await.unwrap();

    assert_eq!(answer.status(), 200);
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|(body, checksum)| body == "one two" && checksum == "abc"));
}

/// What a server of HTTP/2 does with the first request of a connection.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Resets the stream with this code.
    Reset(u8),
    /// Says that it has looked at no stream up to this one, and closes the connection.
    GoAway { last_stream: u8, code: u8 },
    /// Breaks the rules, so that the client resets the connection.
    Nonsense,
    /// Answers with 200.
    Answer,
}

const REFUSED_STREAM: u8 = 7;
const INTERNAL_ERROR: u8 = 2;
const NO_ERROR: u8 = 0;

/// A server that speaks just enough of HTTP/2 to refuse. It counts connections.
async fn refusing(fates: &[Fate]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, fates) = (connections.clone(), fates.to_vec());
    tokio::spawn(async move {
        for fate in fates {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(meet(stream, fate));
        }
    });
    (address, connections)
}

async fn meet(mut stream: TcpStream, fate: Fate) -> std::io::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&SETTINGS).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        if head[3] != HEADERS {
            continue;
        }
        let id = head[8];
        match fate {
            Fate::Reset(code) => stream.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, id, 0, 0, 0, code]).await?,
            Fate::GoAway { last_stream, code } => {
                let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, code];
                stream.write_all(&frame).await?;
                return stream.shutdown().await;
            }
            // Data without a stream.
            Fate::Nonsense => stream.write_all(&[0; 9]).await?,
            // Ends headers and stream; `:status: 200` of the static table.
            Fate::Answer => stream.write_all(&[0, 0, 1, HEADERS, 0x5, 0, 0, 0, id, 0x88]).await?,
        }
    }
}

/// How often a POST is sent whose first connection meets this fate, and whether it is answered in the end.
async fn posted(fate: Fate) -> (usize, bool) {
    let (address, connections) = refusing(&[fate, Fate::Answer]).await;
    let service = retry().layer(client(move || address, true));
    let answer = service.oneshot(request(Method::POST, address, whole("an order"))).await;
    (connections.load(Ordering::SeqCst), answer.is_ok_and(|answer| answer.status() == 200))
}

#[tokio::test]
async fn over_http2_a_refused_stream_was_not_processed_and_a_post_is_sent_again() {
    assert_eq!(posted(Fate::Reset(REFUSED_STREAM)).await, (2, true));
}

#[tokio::test]
async fn over_http2_the_last_of_several_exchanges_says_nothing_of_those_before_it() {
    let fates = [Fate::Reset(REFUSED_STREAM), Fate::GoAway { last_stream: 0, code: NO_ERROR }];
    for fate in fates {
        let (address, connections) = refusing(&[fate, Fate::Answer]).await;
        let client = client(move || address, true).map_err(|error| BoxError::from(MaybeSent::new(error)));
        let lost = retry().layer(client).oneshot(request(Method::POST, address, whole("an order"))).await;
        assert!(lost.is_err());
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{fate:?}");
    }
}

#[tokio::test]
async fn over_http2_a_stream_above_the_one_that_goaway_names_was_not_processed() {
    for code in [NO_ERROR, INTERNAL_ERROR] {
        assert_eq!(posted(Fate::GoAway { last_stream: 0, code }).await, (2, true));
    }
}

#[tokio::test]
async fn over_http2_anything_else_may_have_been_processed_and_a_post_is_not_sent_again() {
    assert_eq!(posted(Fate::Reset(INTERNAL_ERROR)).await, (1, false));
    assert_eq!(posted(Fate::Nonsense).await, (1, false), "the client's own word is no proof");
    for code in [NO_ERROR, INTERNAL_ERROR] {
        assert_eq!(posted(Fate::GoAway { last_stream: 1, code }).await, (1, false));
    }
}
