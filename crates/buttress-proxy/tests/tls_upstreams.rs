//! Upstreams over TLS, and through UNIX sockets.
#![cfg(feature = "tls")]

mod support;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::{ManualClock, NothingSent};
use buttress_proxy::{Body, ClientTls, Error, ErrorKind, Proxy, TlsErrorKind};
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, HandshakeKind, RootCertStore, ServerConfig};
use support::{OK, TestBody, get, post, settle, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

/// A certificate authority of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| ())
    }

    fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Leaf {
    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (vec![self.certificate.der().clone()], key.into())
    }

    fn server(&self) -> ServerConfig {
        let (chain, key) = self.parts();
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()
    }
}

/// Answers each request with `ok`; its address, and how many of its handshakes were made anew.
async fn upstream(config: ServerConfig) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let anew = Arc::new(AtomicUsize::new(0));
    let count = anew.clone();
    let address = accepting(config, move |mut stream| {
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Full) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            let mut head = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut head).await {
                if head.windows(4).any(|end| end == b"\r\n\r\n") {
                    head.clear();
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        }
    })
    .await;
    (address, anew)
}

async fn accepting<F>(
    config: ServerConfig,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Clone + 'static,
) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, serve) = (acceptor.clone(), serve.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    serve(stream).await;
                }
            });
        }
    });
    address
}

async fn send(proxy: &Proxy<TestBody>, request: Request<TestBody>) -> Result<Response<Body>, Error> {
    proxy.clone().oneshot(request).await
}

fn patient(proxy: Proxy<TestBody>) -> Proxy<TestBody> {
    // A handshake of a test build on a busy machine takes longer than one may in earnest.
    proxy.connect_timeout(Duration::from_secs(30))
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().roots(authority.pem()).unwrap()
}

fn to(port: u16, tls: ClientTls) -> Proxy<TestBody> {
    patient(Proxy::to(format!("https://localhost:{port}")).unwrap().tls(tls))
}

#[tokio::test]
async fn requests_go_over_one_connection_in_the_name_of_the_host() {
    let authority = Authority::new();
    let (address, handshakes) = upstream(authority.leaf("localhost").server()).await;
    let proxy = to(address.port(), trusting(&authority));

    for _ in 0..3 {
        assert_eq!(text(send(&proxy, post("hello")).await.unwrap()).await, "ok");
        settle().await;
    }

    assert_eq!(handshakes.load(Ordering::SeqCst), 1);
    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 1));
    assert_eq!(proxy.upstream().to_string(), format!("https://localhost:{}", address.port()));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new();
    let (address, handshakes) = upstream(authority.leaf("localhost").server()).await;
    let proxy = to(address.port(), trusting(&authority)).idle_timeout(Duration::ZERO);

    for _ in 0..3 {
        assert_eq!(text(send(&proxy, get("/")).await.unwrap()).await, "ok");
        settle().await;
    }

    assert_eq!(proxy.connections().open, 0, "each had a connection of its own");
    assert_eq!(handshakes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let authority = Authority::new();
    for goodbye in [true, false] {
        let address = accepting(authority.leaf("localhost").server(), move |mut stream| async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if goodbye {
                stream.shutdown().await.unwrap();
            }
        })
        .await;
        let proxy = to(address.port(), trusting(&authority));

        for _ in 0..3 {
            assert_eq!(text(send(&proxy, get("/")).await.unwrap()).await, "ok");
            settle().await;
        }
    }
}

/// The certificate error in the source chain of `error`, which has to be one of TLS with nothing sent.
fn certificate_error(error: &Error) -> CertificateError {
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.nothing_sent());
    let mut chain = std::iter::successors(error.source(), |&error| error.source());
    assert!(chain.any(|error| error.is::<NothingSent>()));
    match chain.find_map(|error| error.downcast_ref()).unwrap() {
        rustls::Error::InvalidCertificate(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (address, _) = upstream(other.leaf("localhost").server()).await;

    let error = send(&to(address.port(), trusting(&authority)), post("secret")).await.unwrap_err();
    assert!(matches!(
        certificate_error(&error),
        CertificateError::UnknownIssuer | CertificateError::BadSignature
    ));

    // By default those of the system are trusted, and none of them has signed it either.
    let system = patient(Proxy::to(format!("https://localhost:{}", address.port())).unwrap());
    let error = send(&system, post("secret")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.nothing_sent());
    assert_eq!(system.connections().open, 0);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let leaf = authority.leaf_with("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (address, _) = upstream(leaf.server()).await;

    let error = send(&to(address.port(), trusting(&authority)), get("/")).await.unwrap_err();

    assert!(matches!(
        certificate_error(&error),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
}

#[tokio::test]
async fn the_date_that_certificates_are_held_against_is_the_clocks() {
    let authority = Authority::new();
    let leaf = authority.leaf_with("localhost", |params| {
        // A manual clock begins with the year 2026.
        params.not_before = rcgen::date_time_ymd(2025, 12, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    });
    let (address, _) = upstream(leaf.server()).await;
    let time = ManualClock::new();
    let proxy = to(address.port(), trusting(&authority)).clock(time.clock());
    assert_eq!(text(send(&proxy, get("/")).await.unwrap()).await, "ok");
    settle().await;

    time.advance(Duration::from_secs(60 * 86400));
    let error = send(&proxy, get("/")).await.unwrap_err();

    assert!(matches!(
        certificate_error(&error),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused_unless_that_name_is_asked_for() {
    let authority = Authority::new();
    let (address, _) = upstream(authority.leaf("users.internal").server()).await;

    let error = send(&to(address.port(), trusting(&authority)), get("/")).await.unwrap_err();
    assert!(matches!(
        certificate_error(&error),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ));

    let named = trusting(&authority).server_name("users.internal").unwrap();
    assert_eq!(text(send(&to(address.port(), named.clone()), get("/")).await.unwrap()).await, "ok");

    // An upstream without a scheme speaks TLS as well, when it is told how.
    let by_address = patient(Proxy::to(address).unwrap().tls(named));
    assert_eq!(text(send(&by_address, get("/")).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_certificate_for_an_address_serves_an_upstream_by_address() {
    let authority = Authority::new();
    let (address, _) = upstream(authority.leaf("127.0.0.1").server()).await;
    let proxy = patient(Proxy::to(format!("https://{address}")).unwrap().tls(trusting(&authority)));

    assert_eq!(text(send(&proxy, get("/")).await.unwrap()).await, "ok");
}

/// A server that wants a certificate by `authority` of its clients.
fn asking(leaf: &Leaf, authority: &Authority) -> ServerConfig {
    let (chain, key) = leaf.parts();
    let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().unwrap();
    ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_one_that_is_missing_is_an_error_of_tls_with_nothing_sent() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (address, _) = upstream(asking(&authority.leaf("localhost"), &clients)).await;
    let us = clients.leaf("gateway");

    let known = trusting(&authority).identity(us.certificate.pem(), us.key.serialize_pem()).unwrap();
    assert_eq!(text(send(&to(address.port(), known), get("/")).await.unwrap()).await, "ok");

    let stranger = authority.leaf("gateway");
    let strange = trusting(&authority).identity(stranger.certificate.pem(), stranger.key.serialize_pem());
    for tls in [trusting(&authority), strange.unwrap()] {
        let proxy = to(address.port(), tls);
        let error = send(&proxy, post("hello")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
        assert!(error.nothing_sent());
        settle().await;
        assert_eq!(proxy.connections().open, 0);
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_an_error_of_tls() {
    let upstream = support::Upstream::start(|_, mut wire| async move {
        wire.bytes(1).await;
        wire.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let tls = trusting(&Authority::new());

    let error = send(&to(upstream.address.port(), tls), get("/")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.nothing_sent());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout() {
    let upstream = support::Upstream::start(|_, wire| async move {
        let _wire = wire;
        std::future::pending().await
    })
    .await;
    let time = ManualClock::new();
    let proxy = to(upstream.address.port(), trusting(&Authority::new())).clock(time.clock());
    let answer = tokio::spawn(proxy.clone().oneshot(get("/")));
    while upstream.accepted() == 0 {
        settle().await;
    }

    time.advance(Duration::from_secs(30));
    let error = answer.await.unwrap().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
    assert!(error.nothing_sent());
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn an_answer_up_to_the_close_is_broken_off_where_tls_was_not_closed() {
    let authority = Authority::new();
    for (close, whole) in [(true, true), (false, false)] {
        let address = accepting(authority.leaf("localhost").server(), move |mut stream| async move {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").await.unwrap();
            stream.flush().await.unwrap();
            if close {
                stream.shutdown().await.unwrap();
            }
        })
        .await;

        let response = send(&to(address.port(), trusting(&authority)), get("/")).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await;

        // Anybody on the way can end a connection; only the upstream can say that this was all.
        assert_eq!(body.is_ok(), whole, "{body:?}");
        if let Err(error) = body {
            assert_eq!(error.kind(), ErrorKind::Incomplete);
        }
    }
}

#[test]
fn what_tls_cannot_be_spoken_with_is_refused_when_it_is_given() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (us, them) = (authority.leaf("gateway"), other.leaf("gateway"));
    let (certificate, key) = (us.certificate.pem(), us.key.serialize_pem());
    let broken = certificate.replace("-----END CERTIFICATE-----", "");
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let identity = |certificate: &str, key: &str| ClientTls::new().identity(certificate, key).unwrap_err();
    let at = |year| {
        authority.leaf_with("gateway", |params| {
            params.not_before = rcgen::date_time_ymd(year, 1, 1);
            params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
        })
    };
    let (old, young) = (at(2001), at(3001));

    for (error, field, kind) in [
        (identity(&certificate, &them.key.serialize_pem()), "private key", TlsErrorKind::KeyMismatch),
        (identity(&broken, &key), "certificate", TlsErrorKind::Unreadable),
        (identity(no_base64, &key), "certificate", TlsErrorKind::Unreadable),
        (identity(no_x509, &key), "certificate", TlsErrorKind::Invalid),
        (identity("", &key), "certificate", TlsErrorKind::Missing),
        (identity(&old.certificate.pem(), &old.key.serialize_pem()), "certificate", TlsErrorKind::Expired),
        (
            identity(&young.certificate.pem(), &young.key.serialize_pem()),
            "certificate",
            TlsErrorKind::NotYetValid,
        ),
        (identity(&certificate, &certificate), "private key", TlsErrorKind::Missing),
        (identity(&certificate, no_key), "private key", TlsErrorKind::Invalid),
        (ClientTls::new().roots(&key).unwrap_err(), "roots", TlsErrorKind::Missing),
        (ClientTls::new().roots(no_x509).unwrap_err(), "roots", TlsErrorKind::Invalid),
        (ClientTls::new().server_name("a b").unwrap_err(), "server name", TlsErrorKind::Invalid),
    ] {
        assert_eq!((error.field(), error.kind()), (field, kind), "{error}");
        assert!(error.to_string().starts_with(field), "{error}");
    }
    let both = certificate + &key;
    assert!(ClientTls::new().identity(&both, &both).is_ok(), "both may come from one file");
}

#[test]
#[should_panic(expected = "needs ClientTls::server_name")]
fn tls_to_a_unix_socket_needs_a_name() {
    let _ = Proxy::<TestBody>::to("unix:/run/users.sock").unwrap().tls(ClientTls::new());
}

/// An upstream that agrees to `protocols`, and which of them each connection speaks.
#[cfg(feature = "http2")]
async fn agreeing(
    authority: &Authority,
    protocols: &[&str],
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<&'static str>) {
    let mut config = authority.leaf("localhost").server();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let address = accepting(config, move |stream| {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        tell.send(if http2 { "h2" } else { "http/1.1" }).unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
            assert!(
                request.version() != http::Version::HTTP_2 || request.uri().scheme_str() == Some("https")
            );
            Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Full::new(bytes::Bytes::from(
                "ok",
            ))))
        });
        let stream = hyper_util::rt::TokioIo::new(stream);
        async move {
            let _ = if http2 {
                let executor = hyper_util::rt::TokioExecutor::new();
                hyper::server::conn::http2::Builder::new(executor).serve_connection(stream, service).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
            };
        }
    })
    .await;
    (address.port(), told)
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn http2_is_spoken_where_both_sides_agree_and_is_shared() {
    let authority = Authority::new();
    let (port, mut told) = agreeing(&authority, &["h2", "http/1.1"]).await;
    let proxy = to(port, trusting(&authority));

    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(proxy.clone().oneshot(post("hello")))).collect();
    for call in calls {
        assert_eq!(text(call.await.unwrap().unwrap()).await, "ok");
    }

    assert_eq!(told.recv().await.unwrap(), "h2");
    assert!(told.try_recv().is_err());
    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 1));
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn http1_is_spoken_where_the_upstream_prefers_it_or_the_operator_does() {
    let authority = Authority::new();
    for (protocols, http1) in [(&["http/1.1"][..], false), (&[], false), (&["h2", "http/1.1"], true)] {
        let (port, mut told) = agreeing(&authority, protocols).await;
        let mut proxy = to(port, trusting(&authority));
        if http1 {
            proxy = proxy.http1();
        }

        let calls: Vec<_> = (0..5).map(|_| tokio::spawn(proxy.clone().oneshot(get("/")))).collect();
        for call in calls {
            assert_eq!(text(call.await.unwrap().unwrap()).await, "ok");
        }
        settle().await;

        let connections = proxy.connections();
        assert_eq!((connections.open, connections.idle, connections.streams), (5, 5, 0));
        for _ in 0..5 {
            assert_eq!(told.recv().await.unwrap(), "http/1.1");
        }
        assert!(told.try_recv().is_err());
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn an_upstream_that_does_not_agree_to_http2_alone_is_an_error_of_tls() {
    let authority = Authority::new();
    for protocols in [&["http/1.1"][..], &[]] {
        let (port, _told) = agreeing(&authority, protocols).await;
        let proxy = to(port, trusting(&authority)).http2();

        let error = send(&proxy, get("/")).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
        assert!(error.nothing_sent());
        assert_eq!(proxy.connections().open, 0);
    }
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn a_websocket_gets_a_connection_of_http1_though_others_share_one_of_http2() {
    const SWITCH: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let authority = Authority::new();
    let mut config = authority.leaf("localhost").server();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let address = accepting(config, |mut stream| async move {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut shared = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = shared.accept().await {
                respond.send_response(Response::new(()), true).unwrap();
            }
            return;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        stream.write_all(SWITCH).await.unwrap();
        // From here on an echo.
        while let Ok(1..) = stream.read_buf(&mut head).await {
            stream.write_all(&head[head.len() - 4..]).await.unwrap();
        }
    })
    .await;
    let proxy: Proxy = Proxy::to(format!("https://localhost:{}", address.port())).unwrap();
    let proxy = proxy.tls(trusting(&authority)).connect_timeout(Duration::from_secs(30));
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front_address = front.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = front.accept().await {
            let proxy = proxy.clone();
            let service = hyper::service::service_fn(move |request| proxy.clone().oneshot(request));
            let server = hyper::server::conn::http1::Builder::new();
            let socket = hyper_util::rt::TokioIo::new(socket);
            tokio::spawn(server.serve_connection(socket, service).with_upgrades());
        }
    });
    let mut client = support::Wire::connect(front_address).await;

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK"));
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;

    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
    client.send("ping").await;
    assert_eq!(client.bytes(4).await, b"ping");
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn over_http2_a_client_certificate_that_is_missing_is_found_before_anything_is_sent() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut config = asking(&authority.leaf("localhost"), &clients);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = accepting(config, |_| async { unreachable!("nobody is let in") }).await;
    let proxy = to(address.port(), trusting(&authority));

    let error = send(&proxy, post("secret")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.nothing_sent());
    assert_eq!(proxy.connections().open, 0);
}
