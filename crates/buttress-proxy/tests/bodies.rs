//! Bodies on their way through: framing, trailers, back-pressure.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress_proxy::Proxy;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{OK, TestBody, Upstream, Wire, body, get, post, settle, text};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// A body that a test feeds frame by frame, and whose length nobody knows.
fn fed() -> (http_body_util::channel::Sender<Bytes, std::io::Error>, TestBody) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed_unsync())
}

/// A hyper server with the proxy as its only service; its address.
async fn front(proxy: Proxy) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let proxy = proxy.clone();
            let service = service_fn(move |request| proxy.clone().oneshot(request));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

#[tokio::test]
async fn a_body_of_known_length_is_sent_with_that_length() {
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(head.contains("content-length: 5\r\n") && !head.contains("transfer-encoding"), "{head}");
        assert_eq!(wire.bytes(5).await, b"hello");
        wire.send(OK).await;
    })
    .await;

    let response = upstream.proxy().oneshot(post("hello")).await.unwrap();

    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn a_declared_length_stays_where_the_body_does_not_know_it() {
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(head.contains("content-length: 5\r\n") && !head.contains("transfer-encoding"), "{head}");
        assert_eq!(wire.bytes(5).await, b"hello");
        wire.send(OK).await;
    })
    .await;
    let (mut sender, body) = fed();
    let request = Request::put("/").header("content-length", "5").body(body).unwrap();
    let answer = tokio::spawn(upstream.proxy().oneshot(request));
    sender.send_data(Bytes::from_static(b"hello")).await.unwrap();
    drop(sender);

    assert_eq!(text(answer.await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked_whatever_the_method_and_its_trailers_follow() {
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let upstream = Upstream::start(|_, mut wire| async move {
            let head = wire.head().await.unwrap();
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            assert!(head.contains("trailer: x-sum\r\n"), "{head}");
            let body = wire.until(b"\r\n\r\n").await.unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
            wire.send(OK).await;
        })
        .await;
        let (mut sender, body) = fed();
        let request =
            Request::builder().method(method).uri("/").header("trailer", "x-sum").body(body).unwrap();
        let answer = tokio::spawn(upstream.proxy().oneshot(request));

        sender.send_data(Bytes::from_static(b"hello")).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        trailers.insert("connection", HeaderValue::from_static("close"));
        sender.send(Frame::trailers(trailers)).await.unwrap();
        drop(sender);

        assert_eq!(text(answer.await.unwrap().unwrap()).await, "ok");
    }
}

#[tokio::test]
async fn an_answer_keeps_its_length_and_tells_it_to_the_body() {
    let upstream = Upstream::answering(OK).await;

    let response = upstream.proxy().oneshot(get("/")).await.unwrap();

    assert_eq!(response.headers()["content-length"], "2");
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert!(!response.body().is_end_stream());
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn a_chunked_answer_arrives_with_its_trailers() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let proxy = upstream.proxy();

    let response = proxy.clone().oneshot(get("/")).await.unwrap();

    assert!(!response.headers().contains_key("transfer-encoding"));
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "7");
    assert_eq!(whole.to_bytes(), "hello");
    settle().await;
    assert_eq!(proxy.connections().idle, 1);
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_free_the_connection_at_once() {
    for (method, head) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let upstream = Upstream::answering(head).await;
        let proxy = upstream.proxy();
        for _ in 0..2 {
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let response = proxy.clone().oneshot(request).await.unwrap();

            assert!(response.body().is_end_stream(), "{head}");
            let length = head.contains("1000").then(|| HeaderValue::from_static("1000"));
            let length = length.or_else(|| head.contains(": 0").then(|| HeaderValue::from_static("0")));
            assert_eq!(response.headers().get("content-length"), length.as_ref(), "{head}");
            settle().await;
            // The head is still in our hands, and the connection free.
            assert_eq!(proxy.connections().idle, 1, "{head}");
        }
        assert_eq!(upstream.accepted(), 1, "{head}");
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    const SIZE: usize = 8 * 1024 * 1024;
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
        let up = wire.bytes(SIZE).await;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        wire.send(up).await;
    })
    .await;
    let sent: Bytes = (0..SIZE).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();

    let response = upstream.proxy().oneshot(post(sent.clone())).await.unwrap();

    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
}

#[tokio::test]
async fn an_upstream_is_not_read_faster_than_the_client_reads() {
    const CHUNK: usize = 64 * 1024;
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

    let mut response = upstream.proxy().max_buffer(8192).oneshot(get("/")).await.unwrap();
    let before = stalled_at(&written).await;
    // What the kernel's two socket buffers hold on loopback, and no more.
    assert!(before < 16 * 1024 * 1024, "{before} bytes were written for a client that read none");

    let mut read = 0;
    while read < 32 * 1024 * 1024 {
        read += response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    let after = stalled_at(&written).await;
    assert!(after > before && after < before + read + 16 * 1024 * 1024);
}

#[tokio::test]
async fn a_client_is_not_read_faster_than_the_upstream_reads() {
    const FRAME: usize = 64 * 1024;
    let upstream = Upstream::start(|_, _wire| std::future::pending()).await;
    let (mut sender, body) = fed();
    let request = Request::post("/").body(body).unwrap();
    let _answer = tokio::spawn(upstream.proxy().oneshot(request));
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while sender.send_data(Bytes::from_static(&[0; FRAME])).await.is_ok() {
            count.fetch_add(FRAME, Ordering::SeqCst);
        }
    });

    let taken = stalled_at(&taken).await;

    assert!(taken < 16 * 1024 * 1024, "{taken} bytes were taken for an upstream that read none");
}

/// Waits until `bytes` grows no more, with every task having had many turns.
async fn stalled_at(bytes: &AtomicUsize) -> usize {
    loop {
        let before = bytes.load(Ordering::SeqCst);
        for _ in 0..20 {
            settle().await;
        }
        let after = bytes.load(Ordering::SeqCst);
        if before == after && after > 0 {
            return after;
        }
    }
}

#[tokio::test]
async fn a_whole_exchange_through_a_server_leaves_the_connection_for_the_next() {
    let upstream = Upstream::answering(OK).await;
    let proxy = Proxy::to(upstream.address).unwrap();
    let mut client = Wire::connect(front(proxy.clone()).await).await;

    for _ in 0..3 {
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.head().await.unwrap().contains("content-length: 2\r\n"));
        assert_eq!(client.bytes(2).await, b"ok");
        settle().await;
        assert_eq!(proxy.connections().idle, 1);
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_before_the_upstream_writes_another_mebibyte() {
    const CHUNK: usize = 16 * 1024;
    for stalled in [false, true] {
        let written = Arc::new(AtomicUsize::new(0));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let count = written.clone();
        let upstream = Upstream::start(move |_, mut wire| {
            let (count, tell) = (count.clone(), tell.clone());
            async move {
                wire.head().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
                while wire.try_send([0; CHUNK]).await.is_ok() {
                    count.fetch_add(CHUNK, Ordering::SeqCst);
                }
                tell.send(()).unwrap();
            }
        })
        .await;
        let mut client = Wire::connect(front(Proxy::to(upstream.address).unwrap()).await).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await;
        client.bytes(1024 * 1024).await;
        if stalled {
            stalled_at(&written).await;
        }

        let before = written.load(Ordering::SeqCst);
        drop(client);
        told.recv().await.unwrap();

        let more = written.load(Ordering::SeqCst) - before;
        assert!(more <= 1024 * 1024, "{more} bytes were written after the client had left");
    }
}

#[tokio::test]
async fn hyper_carries_what_it_is_given_over_http2_too() {
    let upstream = Upstream::echoing_heads().await;
    let proxy: Proxy = Proxy::to(upstream.address).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn(move |request| proxy.clone().oneshot(request));
    let executor = hyper_util::rt::TokioExecutor::new();
    let server = hyper::server::conn::http2::Builder::new(executor.clone());
    tokio::spawn(server.serve_connection(TokioIo::new(far), service));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);

    let request = Request::get("http://shop.example/a?b").header("te", "trailers").body(body("")).unwrap();
    let response = client.send_request(request).await.unwrap();

    let head = response.into_body().collect().await.unwrap().to_bytes();
    let head = std::str::from_utf8(&head).unwrap();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: shop.example\r\n"), "{head}");
    assert!(head.contains("te: trailers\r\n") && head.contains("connection: te\r\n"), "{head}");
    assert!(head.contains("via: 2 buttress\r\n"), "{head}");
}
