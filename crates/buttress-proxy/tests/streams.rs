//! What lasts: events one by one, long polls, gRPC with trailers, for clients of HTTP/1.1 and of HTTP/2.

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress_proxy::Proxy;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{OK, TestBody, Upstream, Wire, body, settle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tower::ServiceExt;

/// A server of HTTP/1.1 and one of HTTP/2 with the proxy as their only service.
struct Fronts {
    http1: SocketAddr,
    http2: SocketAddr,
}

async fn fronts(proxy: &Proxy) -> Fronts {
    Fronts { http1: front(proxy.clone(), false).await, http2: front(proxy.clone(), true).await }
}

async fn front(proxy: Proxy, two: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (socket, proxy) = (TokioIo::new(socket), proxy.clone());
            let service = service_fn(move |request| proxy.clone().oneshot(request));
            if two {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(socket, service));
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(socket, service));
            }
        }
    });
    address
}

/// A client with a connection of its own, which ends with it.
struct Client {
    sender: Sends,
    connection: AbortHandle,
}

enum Sends {
    Http1(http1::SendRequest<TestBody>),
    Http2(http2::SendRequest<TestBody>),
}

impl Client {
    async fn both(fronts: &Fronts) -> [Self; 2] {
        let socket = TokioIo::new(TcpStream::connect(fronts.http1).await.unwrap());
        let (one, connection) = http1::handshake(socket).await.unwrap();
        let one = Self { sender: Sends::Http1(one), connection: tokio::spawn(connection).abort_handle() };
        let socket = TokioIo::new(TcpStream::connect(fronts.http2).await.unwrap());
        let (two, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        let two = Self { sender: Sends::Http2(two), connection: tokio::spawn(connection).abort_handle() };
        [one, two]
    }

    const fn name(&self) -> &'static str {
        match self.sender {
            Sends::Http1(_) => "HTTP/1.1",
            Sends::Http2(_) => "HTTP/2",
        }
    }

    async fn send(&mut self, request: Request<TestBody>) -> Response<Incoming> {
        match &mut self.sender {
            Sends::Http1(sender) => sender.send_request(request).await.unwrap(),
            Sends::Http2(sender) => sender.send_request(request).await.unwrap(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn get() -> Request<TestBody> {
    Request::get("http://shop.example/events").header("host", "shop.example").body(body("")).unwrap()
}

/// A request for gRPC whose messages a test sends one by one.
fn call() -> (Sender<Bytes, io::Error>, Request<TestBody>) {
    let (sender, messages) = Channel::new(1);
    let request = Request::post("http://shop.example/shop.Cart/Watch")
        .header("host", "shop.example")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(messages.boxed_unsync())
        .unwrap();
    (sender, request)
}

async fn data(body: &mut Incoming) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

/// An upstream whose connections a test gets, with their first heads.
async fn held() -> (Upstream, mpsc::UnboundedReceiver<(String, Wire)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await.unwrap();
            let _ = tell.send((head, wire));
        }
    })
    .await;
    (upstream, told)
}

#[tokio::test]
async fn events_arrive_one_by_one_and_a_client_that_leaves_ends_them() {
    for which in 0..2 {
        let (upstream, mut told) = held().await;
        let proxy = Proxy::to(upstream.address).unwrap();
        let mut client = Client::both(&fronts(&proxy).await).await.into_iter().nth(which).unwrap();

        let answer = tokio::spawn(async move {
            let response = client.send(get()).await;
            (client, response)
        });
        let (_, mut wire) = told.recv().await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        // The head is there before the first event.
        let (client, response) = answer.await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream", "{}", client.name());
        let mut events = response.into_body();
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            assert_eq!(data(&mut events).await, event, "{}", client.name());
        }
        drop((events, client));

        assert_eq!(wire.rest().await.0, 0);
        while proxy.connections().open > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_long_poll_is_answered_when_there_is_something_to_say() {
    let (upstream, mut told) = held().await;
    let proxy = Proxy::to(upstream.address).unwrap();
    for mut client in Client::both(&fronts(&proxy).await).await {
        let name = client.name();
        let answer = tokio::spawn(async move {
            let response = client.send(get()).await;
            response.into_body().collect().await.unwrap().to_bytes()
        });
        let (_, mut wire) = told.recv().await.unwrap();
        settle().await;
        assert!(!answer.is_finished(), "{name}");

        wire.send(OK).await;

        assert_eq!(answer.await.unwrap(), "ok", "{name}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_long_poll_ends_it_at_the_upstream() {
    let (upstream, mut told) = held().await;
    let proxy = Proxy::to(upstream.address).unwrap();
    for mut client in Client::both(&fronts(&proxy).await).await {
        let answer = tokio::spawn(async move { client.send(get()).await });
        let (_, mut wire) = told.recv().await.unwrap();

        answer.abort();

        assert_eq!(wire.rest().await.0, 0);
    }
}

#[tokio::test]
async fn on_one_connection_of_http_2_a_stream_does_not_hold_up_another() {
    let (upstream, mut told) = held().await;
    let proxy = Proxy::to(upstream.address).unwrap();
    let [_, mut client] = Client::both(&fronts(&proxy).await).await;
    let Sends::Http2(sender) = &client.sender else { unreachable!("the second one") };
    let mut other = sender.clone();

    let stalled = tokio::spawn(async move {
        let response = client.send(get()).await;
        (client, response)
    });
    let (_, mut first) = told.recv().await.unwrap();
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
    let stalled = stalled.await.unwrap();
    let flood = tokio::spawn(async move { while first.try_send([0; 65_536]).await.is_ok() {} });
    let answer = tokio::spawn(async move { other.send_request(get()).await.unwrap() });
    let (_, mut second) = told.recv().await.unwrap();
    second.send(OK).await;

    assert_eq!(answer.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "ok");
    drop(stalled);
    flood.await.unwrap();
}

#[tokio::test]
async fn an_upstream_is_read_no_faster_than_a_client_of_http_2_reads() {
    const CHUNK: usize = 65_536;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let upstream = Upstream::start(move |_, mut wire| {
        let count = count.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
            while wire.try_send([0; CHUNK]).await.is_ok() {
                count.fetch_add(CHUNK, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = Proxy::to(upstream.address).unwrap();
    let [_, mut client] = Client::both(&fronts(&proxy).await).await;

    let response = client.send(get()).await;

    let mut before = 0;
    loop {
        for _ in 0..20 {
            settle().await;
        }
        let now = written.load(Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 16 * 1024 * 1024, "{before} bytes were written for a client that read none");
    drop(response);
}

#[tokio::test]
async fn messages_of_grpc_pass_both_ways_one_by_one_and_trailers_end_the_call() {
    for which in 0..2 {
        let (upstream, mut told) = held().await;
        let proxy = Proxy::to(upstream.address).unwrap();
        let mut client = Client::both(&fronts(&proxy).await).await.into_iter().nth(which).unwrap();
        let name = client.name();
        let (mut messages, request) = call();
        let answer = tokio::spawn(async move {
            let response = client.send(request).await;
            (client, response)
        });
        let (head, mut wire) = told.recv().await.unwrap();
        assert!(
            head.contains("te: trailers\r\n") && head.contains("transfer-encoding: chunked\r\n"),
            "{head}"
        );
        wire.send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\
             Trailer: grpc-status, grpc-message\r\n\r\n",
        )
        .await;
        let (_client, response) = answer.await.unwrap();
        let mut received = response.into_body();
        for number in 0..3 {
            let message = format!("up {number}");
            messages.send_data(message.clone().into()).await.unwrap();
            assert_eq!(wire.bytes(9).await, format!("4\r\n{message}\r\n").as_bytes(), "{name}");
            wire.send(format!("6\r\ndown {number}\r\n")).await;
            assert_eq!(data(&mut received).await, format!("down {number}"), "{name}");
        }
        drop(messages);
        assert_eq!(wire.bytes(5).await, b"0\r\n\r\n", "{name}");
        wire.send("0\r\nGrpc-Status: 5\r\nGrpc-Message: no cart\r\nConnection: x\r\nX: 1\r\n\r\n").await;

        let trailers = received.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"5".parse().unwrap(), &"no cart".parse().unwrap())
        );
        assert_eq!(trailers.len(), 2, "{name}: {trailers:?}");
        assert!(received.frame().await.is_none());
        settle().await;
        // The call is over, both ways, so the connection is free for the next.
        assert_eq!(proxy.connections().idle, 1, "{name}");
    }
}

/// An upstream of HTTP/2 that answers each message of a call with one of its own, and tells when a call is cut off.
#[cfg(feature = "http2")]
async fn echo_over_http2() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, cut) = mpsc::unbounded_channel();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            assert_eq!(request.headers()["te"], "trailers");
            let (mut messages, body) = Channel::<Bytes, io::Error>::new(1);
            tokio::spawn(async move {
                while let Some(frame) = request.body_mut().frame().await {
                    let Ok(frame) = frame else { return tell.send(()).unwrap() };
                    // The end of a stream may come as an empty frame.
                    if let Some(message) = frame.into_data().ok().filter(|message| !message.is_empty()) {
                        messages.send_data([&b"re: "[..], &message].concat().into()).await.unwrap();
                    }
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                messages.send(Frame::trailers(trailers)).await.unwrap();
            });
            let response = Response::builder().header("content-type", "application/grpc");
            Ok::<_, io::Error>(response.header("trailer", "grpc-status").body(body).unwrap())
        }
    });
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service.clone()));
        }
    });
    (address, cut)
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn to_an_upstream_of_http_2_too() {
    let (address, mut cut) = echo_over_http2().await;
    let proxy = Proxy::to(address).unwrap().http2();
    for mut client in Client::both(&fronts(&proxy).await).await {
        let name = client.name();
        let (mut messages, request) = call();
        let response = client.send(request).await;
        let mut received = response.into_body();
        for number in 0..3 {
            messages.send_data(format!("message {number}").into()).await.unwrap();
            assert_eq!(data(&mut received).await, format!("re: message {number}"), "{name}");
        }
        drop(messages);
        let trailers = received.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0", "{name}");
    }
    for mut client in Client::both(&fronts(&proxy).await).await {
        let (mut messages, request) = call();
        let response = client.send(request).await;
        messages.send_data(Bytes::from_static(b"one")).await.unwrap();
        messages.abort(io::ErrorKind::Other.into());
        drop((response, client));

        // The stream is reset at the upstream, and its connection goes on.
        cut.recv().await.unwrap();
        assert_eq!(proxy.connections().open, 1);
    }
}

#[tokio::test]
async fn an_answer_of_trailers_only_stays_one() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 12\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::to(upstream.address).unwrap();
    for mut client in Client::both(&fronts(&proxy).await).await {
        let (messages, request) = call();
        drop(messages);

        let response = client.send(request).await;

        assert_eq!(response.headers()["grpc-status"], "12", "{}", client.name());
        assert!(response.body().is_end_stream(), "{}", client.name());
    }
}

#[tokio::test]
async fn trailers_of_a_request_pass_and_what_concerns_the_connection_in_them_does_not() {
    let (upstream, mut told) = held().await;
    let proxy = Proxy::to(upstream.address).unwrap();
    for mut client in Client::both(&fronts(&proxy).await).await {
        let name = client.name();
        let (mut messages, mut request) = call();
        request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let answer = tokio::spawn(async move { client.send(request).await });
        messages.send_data(Bytes::from_static(b"hello")).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        messages.send(Frame::trailers(trailers)).await.unwrap();
        drop(messages);

        let (_, mut wire) = told.recv().await.unwrap();
        assert_eq!(wire.until(b"\r\n\r\n").await.unwrap(), b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n", "{name}");
        wire.send(OK).await;
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}
