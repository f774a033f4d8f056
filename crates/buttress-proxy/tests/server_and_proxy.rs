//! The server and the proxy as one gateway: what needs both.
#![cfg(feature = "server")]

mod server_support;
mod support;

use buttress_proxy::Proxy;
use buttress_proxy::server::Body;
use server_support::{Running, local, start};
use support::{OK, Upstream, Wire};
use tokio::sync::mpsc;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A gateway in front of `upstream`, and a client of it.
async fn gateway(upstream: &Upstream) -> (Running, Wire) {
    let proxy = Proxy::<Body>::to(upstream.address).unwrap();
    let server = start(local().await, proxy);
    let client = Wire::connect(server.address()).await;
    (server, client)
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
async fn a_websocket_passes_and_is_closed_in_order_when_the_server_drains() {
    let (upstream, mut told) = held().await;
    let (mut server, mut client) = gateway(&upstream).await;
    // The first frame comes before the answer has.
    client.send([ASK.as_bytes(), b"\x81\x82\0\0\0\0up"].concat()).await;
    let (head, mut wire) = told.recv().await.unwrap();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    wire.send([SWITCH.as_bytes(), b"\x81\x04down"].concat()).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.bytes(6).await, b"\x81\x04down");
    assert_eq!(wire.bytes(8).await, b"\x81\x82\0\0\0\0up");
    // What would be a request anywhere else is of no interest to anybody.
    client.send("\u{1}\u{2}GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(wire.until(b"\r\n\r\n").await.unwrap().len(), 38);

    server.drain();

    assert_eq!(client.bytes(4).await, b"\x88\x02\x03\xe9");
    drop(wire);
    assert_eq!(client.rest().await.0, 0);
    drop(client);
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn a_refused_upgrade_leaves_the_connection_to_the_next_request() {
    let upstream = Upstream::answering(OK).await;
    let (_server, mut client) = gateway(&upstream).await;

    // The second is there before the first is answered.
    client.send(ASK.repeat(2)).await;

    for _ in 0..2 {
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.bytes(2).await, b"ok");
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_the_upstreams_word_whatever_it_is() {
    const WAITS: &str = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let (upstream, mut told) = held().await;
    let (server, mut client) = gateway(&upstream).await;
    client.send(WAITS).await;
    let (_, mut wire) = told.recv().await.unwrap();
    assert!(client.is_silent().await);
    wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert_eq!(wire.bytes(5).await, b"hello");
    wire.send(OK).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    drop(wire);

    let mut other = Wire::connect(server.address()).await;
    other.send(WAITS).await;
    let (_, mut wire) = told.recv().await.unwrap();
    wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
    assert!(other.head().await.unwrap().starts_with("HTTP/1.1 417 "));
    assert_eq!(wire.rest().await.0, 0);
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn a_websocket_over_http2_is_asked_for_where_the_server_allows_it_and_drains_like_any_other() {
    use base64::Engine;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use sha1::Digest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (upstream, mut told) = held().await;
    for allowed in [false, true] {
        let proxy = Proxy::<Body>::to(upstream.address).unwrap();
        let mut server = start(local().await.extended_connect(allowed), proxy);
        let socket = TokioIo::new(tokio::net::TcpStream::connect(server.address()).await.unwrap());
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        let mut connection = Box::pin(connection);
        client.ready().await.unwrap();
        {
            let ordinary = client.send_request(support::get("http://shop.example/"));
            let answered = async {
                told.recv().await.unwrap().1.send(OK).await;
            };
            let mut both = std::pin::pin!(async { tokio::join!(ordinary, answered).0.unwrap().status() });
            // The settings have come when the first answer has.
            let status = std::future::poll_fn(|cx| {
                let _ = connection.as_mut().poll(cx);
                both.as_mut().poll(cx)
            });
            assert_eq!(status.await, 200);
        }
        assert_eq!(connection.is_extended_connect_protocol_enabled(), allowed);
        if !allowed {
            continue;
        }
        let connection = tokio::spawn(connection);

        let request = http::Request::connect("http://a/chat")
            .extension(hyper::ext::Protocol::from_static("websocket"))
            .body(support::body(""))
            .unwrap();
        let answer = tokio::spawn(client.send_request(request));
        let (head, mut wire) = told.recv().await.unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let proof = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let proof = base64::engine::general_purpose::STANDARD.encode(proof);
        wire.send(SWITCH.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Accept: {proof}\r\n\r\n"))).await;
        let mut response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        tunnel.write_all(b"\x81\x82\0\0\0\0up").await.unwrap();
        assert_eq!(wire.bytes(8).await, b"\x81\x82\0\0\0\0up");

        server.drain();

        let mut close = [0; 4];
        tunnel.read_exact(&mut close).await.unwrap();
        assert_eq!(&close, b"\x88\x02\x03\xe9");
        drop((wire, tunnel, client));
        assert_eq!(server.ended().await.cut, 0);
        let _ = connection.await;
    }
}
