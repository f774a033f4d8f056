//! Connections that go on in another protocol.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::{End, Guard, ManualClock};
use buttress_http::body::UntilUpgradeEnds;
use buttress_proxy::{Body, Drain, Draining, Error, ErrorKind, Proxy, Upgrades};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{OK, Upstream, Wire, body, get, settle, text};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A hyper server that gives its connections away, with the proxy as its only service.
struct Front {
    address: SocketAddr,
    /// What became of each call.
    calls: mpsc::UnboundedReceiver<Result<u16, ErrorKind>>,
    /// How many guards of calls have been told of their end.
    ended: Arc<AtomicUsize>,
    drain: Drain,
}

struct Counts(Arc<AtomicUsize>);

impl Guard for Counts {
    fn end(&mut self, _: &End<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn front(proxy: Proxy) -> Front {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, calls) = mpsc::unbounded_channel();
    let ended = Arc::new(AtomicUsize::new(0));
    let (drain, guards) = (Drain::new(), ended.clone());
    let draining = drain.draining();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (proxy, tell, guards, draining) =
                (proxy.clone(), tell.clone(), guards.clone(), draining.clone());
            let service = service_fn(move |request| {
                call(proxy.clone(), request, draining.clone(), tell.clone(), guards.clone())
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service).with_upgrades());
        }
    });
    Front { address, calls, ended, drain }
}

async fn call(
    proxy: Proxy,
    mut request: Request<Incoming>,
    draining: Draining,
    tell: mpsc::UnboundedSender<Result<u16, ErrorKind>>,
    guards: Arc<AtomicUsize>,
) -> Result<Response<Body>, Error> {
    request.extensions_mut().insert(draining);
    let answer = proxy.oneshot(request).await;
    if let Ok(response) = &answer
        && let Some(until) = response.extensions().get::<UntilUpgradeEnds>()
    {
        until.hold(Counts(guards));
    }
    tell.send(answer.as_ref().map(|response| response.status().as_u16()).map_err(Error::kind)).unwrap();
    answer
}

/// A tunnel through the proxy, and its two ends.
struct Tunnel {
    client: Wire,
    upstream: Wire,
    proxy: Proxy,
    front: Front,
    _listener: Upstream,
}

async fn tunnel(configure: impl FnOnce(Proxy) -> Proxy) -> Tunnel {
    tunnel_by(configure, ASK, SWITCH).await
}

async fn tunnel_by(
    configure: impl FnOnce(Proxy) -> Proxy,
    ask: &'static str,
    switch: &'static str,
) -> Tunnel {
    let (tell, mut told) = mpsc::unbounded_channel();
    let listener = Upstream::start(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            wire.head().await.unwrap();
            wire.send(switch).await;
            tell.send(wire).ok().unwrap();
        }
    })
    .await;
    let proxy = configure(Proxy::to(listener.address).unwrap());
    let mut front = front(proxy.clone()).await;
    let mut client = Wire::connect(front.address).await;
    client.send(ask).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(front.calls.recv().await, Some(Ok(101)));
    let upstream = told.recv().await.unwrap();
    Tunnel { client, upstream, proxy, front, _listener: listener }
}

/// Waits until no connection is open any more.
async fn given_back(proxy: &Proxy) {
    while proxy.connections().open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_sent_on_is_the_handshake_and_nothing_else_of_the_connection() {
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        let mut lines: Vec<_> = head.trim_end().lines().skip(1).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "connection: te, upgrade",
                "host: a",
                "sec-websocket-key: x",
                "te: trailers",
                "upgrade: WebSocket",
                "via: 1.1 buttress",
            ]
        );
        wire.send(SWITCH).await;
        let _ = wire.rest().await;
    })
    .await;
    let mut front = front(Proxy::to(upstream.address).unwrap()).await;
    let mut client = Wire::connect(front.address).await;

    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, x-own, te\r\nX-Own: 1\r\nTE: trailers\r\n\
             Upgrade: h2c, WebSocket\r\nHTTP2-Settings: AAAA\r\nSec-WebSocket-Key: x\r\n\r\n"
                .replace("upgrade, x-own", "upgrade, http2-settings, x-own"),
        )
        .await;

    assert_eq!(front.calls.recv().await, Some(Ok(101)));
    let head = client.head().await.unwrap();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn bytes_pass_both_ways_those_that_came_with_the_heads_too() {
    let upstream = Upstream::start(|_, mut wire| async move {
        wire.head().await.unwrap();
        wire.send(format!("{SWITCH}first")).await;
        assert_eq!(wire.bytes(5).await, b"early");
        wire.send(wire_sized(300_000)).await;
        assert_eq!(wire.bytes(200_000).await, wire_sized(200_000));
    })
    .await;
    let proxy = Proxy::to(upstream.address).unwrap();
    let front = front(proxy.clone()).await;
    let mut client = Wire::connect(front.address).await;

    client.send(format!("{ASK}early")).await;
    client.head().await.unwrap();

    assert_eq!(client.bytes(5).await, b"first");
    assert_eq!(client.bytes(300_000).await, wire_sized(300_000));
    client.send(wire_sized(200_000)).await;
    assert_eq!(client.rest().await.0, 0);
    drop(client);
    given_back(&proxy).await;
}

fn wire_sized(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn each_side_may_end_first_and_the_other_still_has_its_say() {
    let mut by_client = tunnel(|proxy| proxy).await;
    by_client.client.send("question").await;
    by_client.client.shutdown().await;
    assert_eq!(by_client.upstream.bytes(8).await, b"question");
    assert_eq!(by_client.upstream.rest().await.0, 0);
    by_client.upstream.send("answer").await;
    drop(by_client.upstream);
    assert_eq!(by_client.client.bytes(6).await, b"answer");
    assert!(by_client.client.rest().await.1.is_ok());
    given_back(&by_client.proxy).await;

    let mut by_upstream = tunnel(|proxy| proxy).await;
    by_upstream.upstream.send("hello").await;
    by_upstream.upstream.shutdown().await;
    assert_eq!(by_upstream.client.bytes(5).await, b"hello");
    assert_eq!(by_upstream.client.rest().await.0, 0);
    by_upstream.client.send("bye").await;
    assert_eq!(by_upstream.upstream.bytes(3).await, b"bye");
    drop(by_upstream.client);
    given_back(&by_upstream.proxy).await;
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_and_the_guards_of_its_call_until_it_ends() {
    let mut tunnel = tunnel(|proxy| proxy.max_connections(1)).await;
    settle().await;
    assert_eq!(tunnel.proxy.connections().open, 1);
    assert_eq!(tunnel.proxy.connections().idle, 0);
    assert_eq!(tunnel.front.ended.load(Ordering::SeqCst), 0);

    let mut second = Wire::connect(tunnel.front.address).await;
    second.send(ASK).await;
    assert_eq!(tunnel.front.calls.recv().await, Some(Err(ErrorKind::Rejected)));

    drop((tunnel.client, tunnel.upstream));
    given_back(&tunnel.proxy).await;
    assert_eq!(tunnel.front.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_side_that_is_gone_ends_the_tunnel() {
    let mut upstream_reset = tunnel(|proxy| proxy).await;
    upstream_reset.upstream.reset();
    let _ = upstream_reset.client.rest().await;
    given_back(&upstream_reset.proxy).await;

    let mut client_reset = tunnel(|proxy| proxy).await;
    client_reset.client.reset();
    let _ = client_reset.upstream.rest().await;
    given_back(&client_reset.proxy).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_ordinary_answer_and_both_connections_go_on() {
    let upstream = Upstream::answering(OK).await;
    let proxy = Proxy::to(upstream.address).unwrap();
    let mut front = front(proxy.clone()).await;
    let mut client = Wire::connect(front.address).await;

    for _ in 0..2 {
        client.send(ASK).await;

        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.bytes(2).await, b"ok");
        assert_eq!(front.calls.recv().await, Some(Ok(200)));
        settle().await;
        assert_eq!(proxy.connections().idle, 1);
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_101_to_what_was_not_asked_for_is_a_bad_answer_and_ends_the_connection() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket, other\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let upstream = Upstream::answering(answer).await;
        let proxy = Proxy::to(upstream.address).unwrap();
        let mut front = front(proxy.clone()).await;
        let mut client = Wire::connect(front.address).await;

        client.send(ASK).await;

        assert_eq!(front.calls.recv().await, Some(Err(ErrorKind::BadResponse)), "{answer}");
        given_back(&proxy).await;
    }
}

/// What the upstream gets to see of a request, by the names in `Upgrade`.
async fn offered(upgrades: Upgrades, ask: &'static str) -> Option<String> {
    let upstream = Upstream::echoing_heads().await;
    let front = front(Proxy::to(upstream.address).unwrap().upgrades(upgrades)).await;
    let mut client = Wire::connect(front.address).await;
    client.send(ask).await;
    let head = client.head().await.unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let echo = String::from_utf8(client.bytes(length.parse().unwrap()).await).unwrap();
    assert_eq!(
        echo.contains("connection: upgrade\r\n"),
        echo.contains("upgrade: ") && echo.contains("\r\nupgrade: ")
    );
    echo.lines().find_map(|line| line.strip_prefix("upgrade: ").map(str::to_owned))
}

#[tokio::test]
async fn only_protocols_that_are_allowed_are_offered_and_http_never() {
    const MANY: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c, IRC/6.9\r\n\
                        Upgrade: websocket, HTTP/2.0, TLS/1.2, H2\r\n\r\n";

    assert_eq!(offered(Upgrades::default(), MANY).await.as_deref(), Some("websocket"));
    assert_eq!(offered(Upgrades::Any, MANY).await.as_deref(), Some("IRC/6.9, websocket"));
    assert_eq!(offered(Upgrades::None, MANY).await, None);

    for not_asked_for in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        assert_eq!(offered(Upgrades::default(), not_asked_for).await, None, "{not_asked_for}");
    }
}

#[tokio::test]
async fn where_the_server_has_no_connection_to_give_away_nothing_is_offered() {
    let upstream = Upstream::echoing_heads().await;
    let mut request = get("/");
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());

    let head = text(upstream.proxy().without_via().oneshot(request).await.unwrap()).await;

    assert_eq!(head, "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends_at_its_idle_timeout() {
    let clock = ManualClock::new();
    let minute = Duration::from_secs(60);
    let set = |proxy: Proxy| proxy.clock(clock.clock()).tunnel_idle_timeout(minute);
    let mut tunnel = tunnel(set).await;

    clock.advance(minute - Duration::from_secs(1));
    tunnel.client.send("x").await;
    assert_eq!(tunnel.upstream.bytes(1).await, b"x");
    clock.advance(minute - Duration::from_secs(1));
    settle().await;
    assert_eq!(tunnel.proxy.connections().open, 1);
    clock.advance(Duration::from_secs(1));

    assert_eq!(tunnel.client.rest().await.0, 0);
    assert_eq!(tunnel.upstream.rest().await.0, 0);
    given_back(&tunnel.proxy).await;
}

#[tokio::test]
async fn a_websocket_of_a_server_that_drains_ends_with_1001_on_both_sides_where_a_frame_may_begin() {
    let mut tunnel = tunnel(|proxy| proxy).await;
    // One whole frame down, and the first half of one up.
    tunnel.upstream.send(*b"\x81\x02hi").await;
    assert_eq!(tunnel.client.bytes(4).await, b"\x81\x02hi");
    tunnel.client.send(*b"\x82\x84\0\0\0\0ab").await;
    assert_eq!(tunnel.upstream.bytes(8).await, b"\x82\x84\0\0\0\0ab");

    tunnel.front.drain.begin();

    assert_eq!(tunnel.client.bytes(4).await, b"\x88\x02\x03\xe9");
    tunnel.client.send(*b"cd\x88\x82\0\0\0\0\x03\xe9").await;
    assert_eq!(tunnel.upstream.bytes(2).await, b"cd");
    let close = tunnel.upstream.bytes(8).await;
    assert_eq!(close[..2], *b"\x88\x82");
    assert_eq!([close[6] ^ close[2], close[7] ^ close[3]], *b"\x03\xe9");
    // The upstream answers the Close and ends the connection; nothing follows our Close on either side.
    tunnel.upstream.send(*b"\x88\x02\x03\xe9").await;
    drop(tunnel.upstream);
    let (more, end) = tunnel.client.rest().await;
    assert!(more == 0 && end.is_ok(), "{more} {end:?}");
    drop(tunnel.client);
    given_back(&tunnel.proxy).await;
}

#[tokio::test]
async fn a_websocket_that_does_not_answer_the_close_ends_after_the_grace() {
    let clock = ManualClock::new();
    let grace = Duration::from_secs(5);
    let mut tunnel = tunnel(|proxy| proxy.clock(clock.clock()).tunnel_grace(grace)).await;

    tunnel.front.drain.begin();
    assert_eq!(tunnel.client.bytes(4).await, b"\x88\x02\x03\xe9");
    settle().await;
    assert_eq!(tunnel.proxy.connections().open, 1);
    clock.advance(grace);

    given_back(&tunnel.proxy).await;
    assert_eq!(tunnel.client.rest().await.0, 0);
}

#[tokio::test]
async fn another_protocol_goes_on_until_the_grace_is_over() {
    const OTHER: &str =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n";
    const TAKEN: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: Other\r\n\r\n";
    let clock = ManualClock::new();
    let grace = Duration::from_secs(5);
    let set = |proxy: Proxy| proxy.clock(clock.clock()).tunnel_grace(grace).upgrades(Upgrades::Any);
    let mut tunnel = tunnel_by(set, OTHER, TAKEN).await;

    tunnel.front.drain.begin();
    settle().await;
    tunnel.client.send("late").await;
    assert_eq!(tunnel.upstream.bytes(4).await, b"late");
    clock.advance(grace);

    assert_eq!(tunnel.client.rest().await.0, 0);
    given_back(&tunnel.proxy).await;
}

#[tokio::test]
async fn a_101_that_is_never_written_holds_nothing_for_longer_than_the_idle_timeout() {
    let clock = ManualClock::new();
    let upstream = Upstream::answering(SWITCH).await;
    let proxy: Proxy = Proxy::to(upstream.address).unwrap().clock(clock.clock());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Wire::connect(listener.local_addr().unwrap()).await;
    let (socket, _) = listener.accept().await.unwrap();
    let forward = proxy.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = forward.clone().oneshot(request);
        async move {
            let status = answer.await?.status();
            assert_eq!(status, 101);
            // A layer above has other ideas.
            Ok::<_, Error>(Response::builder().status(403).body(body("")).unwrap())
        }
    });
    let server = hyper::server::conn::http1::Builder::new();
    tokio::spawn(server.serve_connection(TokioIo::new(socket), service).with_upgrades());

    client.send(ASK).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 403 "));
    settle().await;
    assert_eq!(proxy.connections().open, 1);
    clock.advance(Duration::from_secs(300));

    given_back(&proxy).await;
}

#[test]
#[should_panic(expected = "tunnel_idle_timeout must be longer than zero")]
fn an_idle_timeout_of_zero_is_refused_when_it_is_set() {
    let _ = Proxy::<support::TestBody>::to("127.0.0.1:1").unwrap().tunnel_idle_timeout(Duration::ZERO);
}

#[cfg(feature = "http2")]
mod over_http2 {
    use http::Method;
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http2;
    use hyper::ext::Protocol;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A client of a server that takes extended CONNECTs, with the proxy behind it.
    async fn client(proxy: Proxy) -> http2::SendRequest<Empty<bytes::Bytes>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = service_fn(move |request| proxy.clone().oneshot(request));
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.enable_connect_protocol();
        tokio::spawn(server.serve_connection(TokioIo::new(far), service));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
        let mut connection = Box::pin(connection);
        // The server's settings say that it may be asked.
        std::future::poll_fn(|cx| {
            assert!(connection.as_mut().poll(cx).is_pending());
            if connection.is_extended_connect_protocol_enabled() {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        tokio::spawn(connection);
        sender
    }

    fn chat(protocol: &'static str) -> Request<Empty<bytes::Bytes>> {
        Request::builder()
            .method(Method::CONNECT)
            .uri("https://shop.example/chat?room=1")
            .header("sec-websocket-version", "13")
            .extension(Protocol::from_static(protocol))
            .body(Empty::new())
            .unwrap()
    }

    /// An upstream that proves that it speaks WebSocket, as `tungstenite` and every other does.
    async fn chatting(prove: bool) -> Upstream {
        Upstream::start(move |_, mut wire| async move {
            let head = wire.head().await.unwrap();
            assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
            for line in ["host: shop.example", "upgrade: websocket", "connection: upgrade", "via: 2 buttress"]
            {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
            }
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            assert_eq!(key.len(), 24, "{key}");
            let accept = if prove { accept(key) } else { "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned() };
            wire.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: a\r\n\r\n"
            ))
            .await;
            let hello = wire.bytes(5).await;
            wire.send(hello).await;
        })
        .await
    }

    fn accept(key: &str) -> String {
        use base64::Engine;
        use sha1::Digest;
        let proof = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        base64::engine::general_purpose::STANDARD.encode(proof)
    }

    #[tokio::test]
    async fn a_websocket_is_asked_for_by_connect_and_reaches_an_upstream_of_http_1() {
        let upstream = chatting(true).await;
        let proxy: Proxy = Proxy::to(upstream.address).unwrap();
        let mut client = client(proxy.clone()).await;

        let mut response = client.send_request(chat("websocket")).await.unwrap();

        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "a");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        tunnel.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        tunnel.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"hello");
        assert_eq!(tunnel.read(&mut echo).await.unwrap(), 0);
        drop(tunnel);
        given_back(&proxy).await;
    }

    async fn status_of(proxy: Proxy, protocol: &'static str) -> Result<u16, hyper::Error> {
        let response = client(proxy).await.send_request(chat(protocol)).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await.map(|_| status)
    }

    #[tokio::test]
    async fn what_is_no_switch_opens_no_tunnel() {
        // A success would tell the client that its tunnel is open; this front resets the stream of a call that fails.
        let plain = Upstream::answering(OK).await;
        assert!(status_of(Proxy::to(plain.address).unwrap(), "websocket").await.is_err());
        let unproven = chatting(false).await;
        assert!(status_of(Proxy::to(unproven.address).unwrap(), "websocket").await.is_err());

        let refused = Upstream::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(status_of(Proxy::to(refused.address).unwrap(), "websocket").await.unwrap(), 403);

        // Nothing is sent for what is not allowed.
        let untouched = Upstream::answering(OK).await;
        let proxy: Proxy = Proxy::to(untouched.address).unwrap();
        assert!(status_of(proxy.clone(), "connect-udp").await.is_err());
        assert!(status_of(proxy.upgrades(Upgrades::None), "websocket").await.is_err());
        assert_eq!(untouched.accepted(), 0);
    }
}
