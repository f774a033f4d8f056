//! TCP forwarding over real sockets on loopback.

#![cfg(feature = "tcp")]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Cause, ManualClock};
use buttress_proxy::tcp::{
    ByServerName, Connect, Connection, Event, ProxyProtocol, Refused, Server, Upstream, Version, Why,
};
use buttress_proxy::{Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::{ServiceExt, service_fn};

const LOCAL: [&str; 1] = ["127.0.0.0/8"];

/// A server under test, and what it told.
struct Front {
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<String>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    time: ManualClock,
}

impl Front {
    async fn start<S>(setup: impl FnOnce(Server) -> Server, service: S) -> Self
    where
        S: tower::Service<Connection, Response = Upstream, Error: Into<BoxError> + Send, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let (tell, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let time = ManualClock::new();
        let server = Server::bind("127.0.0.1:0").await.unwrap().clock(time.clock());
        let server = setup(server).observe(move |event| drop(tell.send(words(event))));
        let address = server.local_addr().unwrap();
        let task = tokio::spawn(server.serve_until(service, async move {
            // A test that drops the sender keeps the server.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        }));
        Self { address, events, stop: Some(stop), task, time }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn event(&mut self) -> String {
        self.events.recv().await.unwrap()
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn words(event: &Event<'_>) -> String {
    match event {
        Event::Refused { why, .. } => format!("refused: {why}"),
        Event::Failed { error, .. } => format!("failed: {error}"),
        Event::Ended { sent, received, why, .. } => {
            let why = match why {
                Why::Failed(error) => format!("{:?}", error.kind()),
                other => format!("{other:?}"),
            };
            format!("{why}: {sent} sent, {received} received")
        }
        other => format!("{other:?}"),
    }
}

/// An upstream whose connections a test takes one by one.
struct Back {
    address: SocketAddr,
    listener: TcpListener,
}

impl Back {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    fn connect(&self) -> Connect {
        Connect::to(self.address).unwrap()
    }
}

async fn read(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_ends_for_itself() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server, back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;

    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut upstream).await, "question");
    upstream.write_all(b"the answer").await.unwrap();
    drop(upstream);

    assert_eq!(rest(&mut client).await, "the answer");
    assert_eq!(front.event().await, "Closed: 8 sent, 10 received");
}

#[tokio::test]
async fn a_server_that_ends_first_still_hears_the_client() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server, back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;

    upstream.write_all(b"220 hello").await.unwrap();
    upstream.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "220 hello");
    client.write_all(b"QUIT").await.unwrap();
    drop(client);

    assert_eq!(rest(&mut upstream).await, "QUIT");
    assert_eq!(front.event().await, "Closed: 4 sent, 9 received");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_mebibytes_arrive_whole_and_in_order_both_ways_at_once() {
    const LENGTH: usize = 24 << 20;
    fn pattern(from: usize, length: usize) -> impl Iterator<Item = u8> {
        (from..from + length).map(|place| (place % 251) as u8)
    }
    async fn flood(stream: &mut (impl AsyncWriteExt + Unpin)) {
        for from in (0..LENGTH).step_by(1 << 18) {
            let bytes: Vec<u8> = pattern(from, 1 << 18).collect();
            stream.write_all(&bytes).await.unwrap();
        }
        stream.shutdown().await.unwrap();
    }
    async fn check(stream: &mut (impl AsyncReadExt + Unpin)) {
        let (mut at, mut bytes) = (0, vec![0; 1 << 18]);
        loop {
            let length = stream.read(&mut bytes).await.unwrap();
            if length == 0 {
                break;
            }
            assert!(pattern(at, length).eq(bytes[..length].iter().copied()), "after {at} bytes");
            at += length;
        }
        assert_eq!(at, LENGTH);
    }
    let back = Back::start().await;
    let mut front = Front::start(|server| server, back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;

    let far = tokio::spawn(async move {
        let (mut reads, mut writes) = upstream.split();
        tokio::join!(check(&mut reads), flood(&mut writes));
    });
    let (mut reads, mut writes) = client.split();
    tokio::join!(check(&mut reads), flood(&mut writes));
    far.await.unwrap();

    assert_eq!(front.event().await, format!("Closed: {LENGTH} sent, {LENGTH} received"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_on_both_sides() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server.idle_timeout(Duration::from_secs(60)), back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;
    client.write_all(b"x").await.unwrap();
    read(&mut upstream, 1).await;
    settle().await;

    front.time.advance(Duration::from_secs(60));

    assert_eq!(front.event().await, "Idle: 1 sent, 0 received");
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(rest(&mut upstream).await, "");
}

#[tokio::test]
async fn a_reset_is_sent_on_as_a_reset_and_not_as_an_end() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server, back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;
    client.write_all(b"x").await.unwrap();
    read(&mut upstream, 1).await;

    upstream.set_zero_linger().unwrap();
    drop(upstream);

    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let event = front.event().await;
    assert!(event.starts_with("ConnectionReset: "), "{event}");
}

#[tokio::test]
async fn a_drain_lets_connections_go_on_for_the_grace_and_takes_no_new_ones() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server.grace(Duration::from_secs(5)), back.connect()).await;
    let (mut quick, mut slow) = (front.connect().await, front.connect().await);
    let (mut to_quick, mut to_slow) = (back.accept().await, back.accept().await);
    quick.write_all(b"q").await.unwrap();
    slow.write_all(b"s").await.unwrap();
    // They may have been forwarded in either order.
    let (one, other) = (read(&mut to_quick, 1).await, read(&mut to_slow, 1).await);
    if (one.as_str(), other.as_str()) == ("s", "q") {
        std::mem::swap(&mut to_quick, &mut to_slow);
    }

    front.stop();
    while TcpStream::connect(front.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(quick);
    assert_eq!(rest(&mut to_quick).await, "");
    drop(to_quick);
    while front.event().await != "Closed: 1 sent, 0 received" {}
    assert!(!front.task.is_finished());
    slow.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut to_slow, 10).await, "still here");
    front.time.advance(Duration::from_secs(5));

    assert_eq!(front.event().await, "Drained: 11 sent, 0 received");
    (&mut front.task).await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
}

#[tokio::test]
async fn clients_that_wait_in_the_backlog_when_it_is_told_to_stop_are_served_all_the_same() {
    let back = Back::start().await;
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }

    // A future that must not be polled once it has completed, as most.
    let mut serving = tokio::spawn(server.serve_until(back.connect(), async {}));

    for _ in &clients {
        let mut upstream = tokio::select! {
            upstream = back.accept() => upstream,
            ended = &mut serving => panic!("it ended before all were served: {ended:?}"),
        };
        upstream.write_all(b"served").await.unwrap();
    }
    for mut client in clients {
        assert_eq!(rest(&mut client).await, "served");
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn those_beyond_the_cap_wait_in_the_backlog_until_one_ends() {
    let back = Back::start().await;
    let mut front = Front::start(|server| server.max_connections(1), back.connect()).await;
    let first = front.connect().await;
    let mut upstream = back.accept().await;
    let mut second = front.connect().await;
    second.write_all(b"second").await.unwrap();
    settle().await;
    {
        let mut none = pin!(back.accept());
        assert!(poll_fn(|cx| Poll::Ready(none.as_mut().poll(cx).is_pending())).await);
    }

    drop(first);
    assert_eq!(rest(&mut upstream).await, "");
    drop(upstream);

    assert_eq!(front.event().await, "Closed: 0 sent, 0 received");
    assert_eq!(read(&mut back.accept().await, 6).await, "second");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_closes_the_client_and_is_told() {
    let nobody = Back::start().await.address;
    let connect = Connect::to(nobody).unwrap();
    let mut front = Front::start(|server| server, connect.clone()).await;

    assert_eq!(rest(&mut front.connect().await).await, "");
    assert_eq!(front.event().await, "failed: cannot connect to the upstream");

    let error: Error = connect.oneshot(Connection::new(nobody, nobody)).await.unwrap_err();
    assert_eq!((error.kind(), error.nothing_sent()), (ErrorKind::Connect, true));
    assert_eq!(error.upstream().unwrap().to_string(), nobody.to_string());
}

#[tokio::test]
async fn an_upstream_that_does_not_accept_is_a_connect_timeout_of_which_nothing_was_sent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // With its queue full, the kernel leaves the next connection unanswered.
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    let time = ManualClock::new();
    let connect = Connect::to(address).unwrap().clock(time.clock()).connect_timeout(Duration::from_secs(3));
    let mut answer = pin!(connect.oneshot(Connection::new(address, address)));
    assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await);

    time.advance(Duration::from_secs(3));

    let error = answer.await.unwrap_err();
    assert_eq!((error.kind(), Cause::nothing_sent(&error)), (ErrorKind::ConnectTimeout, true));
}

#[tokio::test]
async fn a_stack_that_panics_costs_one_connection() {
    let back = Back::start().await;
    let connect = back.connect();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let service = service_fn(move |connection: Connection| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let connect = connect.clone();
        async move {
            assert!(number > 0, "the first one");
            connect.oneshot(connection).await
        }
    });
    let front = Front::start(|server| server, service).await;

    assert_eq!(rest(&mut front.connect().await).await, "");
    let mut client = front.connect().await;
    client.write_all(b"second").await.unwrap();

    assert_eq!(read(&mut back.accept().await, 6).await, "second");
}

#[tokio::test]
async fn dropping_the_server_closes_what_it_carries() {
    let back = Back::start().await;
    let front = Front::start(|server| server, back.connect()).await;
    let mut client = front.connect().await;
    let mut upstream = back.accept().await;

    front.task.abort();

    assert_eq!(rest(&mut client).await, "");
    assert_eq!(rest(&mut upstream).await, "");
}

/// Answers with whom it takes the connection to be for.
fn who() -> impl tower::Service<Connection, Response = Upstream, Error = BoxError, Future: Send> + Clone + Send
{
    service_fn(|connection: Connection| async move {
        Err::<Upstream, BoxError>(format!("{} to {}", connection.client(), connection.destination()).into())
    })
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is_in_either_version_however_it_is_split() {
    let mut front = Front::start(|server| server.proxy_protocol(ProxyProtocol::required(LOCAL)), who()).await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x01\xc3\xcb\x01\xbb\x04\0\x01\0";
    for header in [&b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n"[..], v2] {
        let mut whole = front.connect().await;
        whole.write_all(header).await.unwrap();
        assert_eq!(front.event().await.split(':').count(), 4);

        let mut split = front.connect().await;
        split.set_nodelay(true).unwrap();
        for byte in header {
            split.write_all(&[*byte]).await.unwrap();
            settle().await;
        }
        let event = front.event().await;
        assert!(event.starts_with("failed: 192.0.2.7:50123 "), "{event}");
        assert!(event.ends_with(" to 198.51.100.1:443"), "{event}");
    }
}

#[tokio::test]
async fn what_is_said_without_a_proxy_is_the_sockets_own() {
    let setup = |server: Server| server.proxy_protocol(ProxyProtocol::required(LOCAL));
    let mut front = Front::start(setup, who()).await;

    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = front.connect().await;
        client.write_all(header).await.unwrap();
        let told = format!("failed: {} to {}", client.local_addr().unwrap(), front.address);
        assert_eq!(front.event().await, told);
    }
}

#[tokio::test]
async fn no_header_a_wrong_one_and_one_from_elsewhere_are_refused_where_it_is_required() {
    let mut front = Front::start(|server| server.proxy_protocol(ProxyProtocol::required(LOCAL)), who()).await;
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\n"[..], "refused: the connection does not begin with a PROXY protocol header"),
        (b"PROXY TCP4 a b 1 2\r\n", "refused: PROXY protocol v1: an address is not one of its family"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            "refused: PROXY protocol v2: a length of 65535 does not fit the addresses, or is above 4080",
        ),
    ] {
        let mut client = front.connect().await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(front.event().await, why);
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    let mut ended = front.connect().await;
    ended.write_all(b"PROXY ").await.unwrap();
    drop(ended);
    assert_eq!(front.event().await, format!("refused: {}", Refused::Ended));

    let elsewhere = ProxyProtocol::required(["192.0.2.0/24"]);
    let mut front = Front::start(|server| server.proxy_protocol(elsewhere), who()).await;
    let mut client = front.connect().await;
    client.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n").await.unwrap();
    assert_eq!(front.event().await, format!("refused: {}", Refused::Untrusted));
}

#[tokio::test]
async fn a_header_that_does_not_come_is_waited_for_no_longer_than_allowed() {
    let setup = |server: Server| {
        server.proxy_protocol(ProxyProtocol::required(LOCAL)).begin_timeout(Duration::from_secs(3))
    };
    let mut front = Front::start(setup, who()).await;
    let mut client = front.connect().await;
    client.write_all(b"PROXY TCP4 ").await.unwrap();
    settle().await;

    front.time.advance(Duration::from_secs(3));

    assert_eq!(front.event().await, format!("refused: {}", Refused::Timeout));
}

#[tokio::test]
async fn where_headers_are_optional_and_from_elsewhere_bytes_are_forwarded_as_they_are() {
    let back = Back::start().await;
    let optional =
        |nets: [&'static str; 1]| move |server: Server| server.proxy_protocol(ProxyProtocol::optional(nets));
    let front = Front::start(optional(LOCAL), back.connect()).await;
    let mut client = front.connect().await;
    client.write_all(b"EHLO").await.unwrap();
    assert_eq!(read(&mut back.accept().await, 4).await, "EHLO");

    let mut header = front.connect().await;
    header.write_all(b"PROXY UNKNOWN\r\nEHLO").await.unwrap();
    assert_eq!(read(&mut back.accept().await, 4).await, "EHLO");

    // Nobody has to speak first.
    let silent = front.connect().await;
    settle().await;
    front.time.advance(Duration::from_secs(5));
    back.accept().await.write_all(b"220").await.unwrap();
    assert_eq!(read(&mut { silent }, 3).await, "220");

    let elsewhere = Front::start(optional(["192.0.2.0/24"]), back.connect()).await;
    let mut client = elsewhere.connect().await;
    client.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    assert_eq!(read(&mut back.accept().await, 15).await, "PROXY UNKNOWN\r\n");
}

#[tokio::test]
async fn an_upstream_is_told_who_the_client_is_through_two_servers_and_both_versions() {
    let back = Back::start().await;
    let setup = |server: Server| server.proxy_protocol(ProxyProtocol::required(LOCAL));
    let inner = Front::start(setup, back.connect().proxy_protocol(Version::V1)).await;
    let to_inner = Connect::to(inner.address).unwrap().proxy_protocol(Version::V2);
    let outer = Front::start(|server| server, to_inner).await;

    let mut client = outer.connect().await;
    client.write_all(b"hello").await.unwrap();

    let (own, at) = (client.local_addr().unwrap(), outer.address);
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", own.port(), at.port());
    assert_eq!(read(&mut back.accept().await, line.len()).await, line);
}

mod by_server_name {
    use super::*;

    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// A TLS server that says its name to whoever completes the handshake, and its certificate.
    struct Secure {
        back: Back,
        acceptor: TlsAcceptor,
        certificate: CertificateDer<'static>,
    }

    impl Secure {
        async fn start(names: &[&str]) -> Self {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let certificate = made.cert.der().clone();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key)
                .unwrap();
            Self { back: Back::start().await, acceptor: TlsAcceptor::from(Arc::new(config)), certificate }
        }

        async fn greet(&self, text: &str) {
            let mut stream = self.acceptor.accept(self.back.accept().await).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    }

    /// Shakes hands for `name` with a server that has this certificate, and reads what it says.
    async fn visit(front: &Front, name: &str, certificate: &CertificateDer<'static>) -> io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, front.connect().await).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn handshakes_reach_the_upstream_of_their_name_with_its_own_certificate() {
        let shop = Secure::start(&["shop.example"]).await;
        let wild = Secure::start(&["a.shop.example", "a.b.shop.example"]).await;
        let other = Secure::start(&["other.example"]).await;
        let routes = ByServerName::otherwise(other.back.connect())
            .route("Shop.Example", shop.back.connect())
            .unwrap()
            .route("*.shop.example", wild.back.connect())
            .unwrap();
        let front = Front::start(Server::read_client_hello, routes).await;

        for (name, server) in [
            ("shop.example", &shop),
            ("a.shop.example", &wild),
            ("a.b.shop.example", &wild),
            ("other.example", &other),
        ] {
            let (text, ()) = tokio::join!(visit(&front, name, &server.certificate), server.greet(name));
            assert_eq!(text.unwrap(), name);
        }
    }

    #[tokio::test]
    async fn a_client_without_a_name_goes_where_no_route_does() {
        let default = Secure::start(&["127.0.0.1"]).await;
        let routes = ByServerName::otherwise(default.back.connect())
            .route("*.example", Connect::to("127.0.0.1:1").unwrap())
            .unwrap();
        let front = Front::start(Server::read_client_hello, routes).await;

        let visit = visit(&front, "127.0.0.1", &default.certificate);
        let (text, ()) = tokio::join!(visit, default.greet("hello"));

        assert_eq!(text.unwrap(), "hello");
    }

    #[tokio::test]
    async fn what_is_no_tls_is_closed_and_told() {
        let mut front = Front::start(Server::read_client_hello, who()).await;

        let mut client = front.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();

        assert_eq!(front.event().await, "refused: the connection does not begin with a TLS handshake");
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_hello_may_come_byte_by_byte_after_a_proxy_header() {
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("Shop.Example").unwrap();
        let mut hello = b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n".to_vec();
        rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
        let told = service_fn(|connection: Connection| async move {
            let alpn: Vec<String> = connection.alpn().map(|name| name.escape_ascii().to_string()).collect();
            let name = connection.server_name().unwrap_or("none").to_owned();
            Err::<Upstream, BoxError>(format!("{} {name} {alpn:?}", connection.client()).into())
        });
        let setup =
            |server: Server| server.read_client_hello().proxy_protocol(ProxyProtocol::required(LOCAL));
        let mut front = Front::start(setup, told).await;

        let mut client = front.connect().await;
        client.set_nodelay(true).unwrap();
        for byte in hello {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }

        assert_eq!(front.event().await, "failed: 192.0.2.7:50123 shop.example [\"h2\", \"http/1.1\"]");
    }

    #[test]
    fn a_route_must_be_a_name_and_be_given_once() {
        let routes = || ByServerName::otherwise(()).route("shop.example", ()).unwrap();
        for (name, rule) in [
            ("SHOP.example", "was given before"),
            ("", "must be a host name, or `*.` and a host name"),
            ("*", "must be a host name, or `*.` and a host name"),
            ("*.*.example", "must be a host name, or `*.` and a host name"),
            ("a b", "must be a host name, or `*.` and a host name"),
            ("shop.example:443", "must be a host name, or `*.` and a host name"),
            (".example", "must be a host name, or `*.` and a host name"),
        ] {
            let error = routes().route(name, ()).unwrap_err();
            assert_eq!((error.name(), error.rule()), (name, rule));
            assert_eq!(error.to_string(), format!("server name `{name}`: {rule}"));
        }
    }
}

#[test]
fn what_a_stack_holds_may_be_sent_and_shared() {
    fn check<T: Send + Sync>() {}
    check::<Connection>();
    check::<Connect>();
    check::<buttress_proxy::tcp::Connecting>();
    check::<Upstream>();
    check::<Server>();
    check::<ByServerName<Connect>>();
}

#[test]
fn an_upstream_of_tcp_is_an_address_or_a_name_with_a_port() {
    for (text, rule) in [
        ("unix:/run/x.sock", "TCP forwarding goes to an address or a name with a port"),
        ("https://shop.example", "TCP forwarding goes to an address or a name with a port"),
        ("shop.example", "a port from 1 to 65535 must follow the host, as in `host:9000`"),
    ] {
        assert_eq!(Connect::to(text).unwrap_err().rule(), rule, "{text}");
    }
    assert!(Connect::to("shop.example:25").is_ok());
}
