//! TLS at the server: which certificate is shown, who is let in, what is resumed and what is not.
#![cfg(all(feature = "server", feature = "tls"))]

mod server_support;

use std::sync::Arc;
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_proxy::server::{Listener, Server, ServerTls, TlsHandle, TlsSession};
use buttress_proxy::{ClientCertificate, Scheme, TlsErrorKind};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use server_support::{
    AnyHandler, Client, Log, Running, answering, hello, http2_get, start, text, while_time_passes, whole,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who signs certificates in these tests.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
struct Pair {
    chain: String,
    key: String,
}

impl Pair {
    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    fn tls(&self) -> ServerTls {
        ServerTls::new(&self.chain, &self.key).unwrap()
    }
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

impl Authority {
    fn pair(&self, hosts: &[&str]) -> Pair {
        self.sign(&CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn client(&self) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "billing");
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example/billing".try_into().unwrap()),
            SanType::DnsName("billing.example".try_into().unwrap()),
            SanType::Rfc822Name("billing@example".try_into().unwrap()),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn trusted(&self) -> ClientConfig {
        self.config(None)
    }

    fn config(&self, identity: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
        }
    }
}

async fn serving(tls: impl Into<TlsHandle>, service: impl AnyHandler) -> Running {
    start(Server::on(Listener::bind("127.0.0.1:0").await.unwrap().tls(tls)), service)
}

type Secure = Client<TlsStream<TcpStream>>;

async fn connect(server: &Running, config: &Arc<ClientConfig>, host: &str) -> std::io::Result<Secure> {
    let socket = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    Ok(Client::over(TlsConnector::from(Arc::clone(config)).connect(name, socket).await?))
}

fn shown(client: &Secure) -> CertificateDer<'static> {
    client.io.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Says what the handshake agreed upon.
fn session() -> impl AnyHandler {
    answering(|request| {
        let session = request.extensions().get::<TlsSession>().expect("it came over TLS");
        let scheme = Scheme::of(request.extensions()).as_str();
        let name = session.server_name().unwrap_or("-");
        let resumed = if session.is_resumed() { "resumed" } else { "new" };
        text(format!("{scheme} {name} {} {resumed}", session.version()))
    })
}

#[tokio::test]
async fn requests_over_tls_say_so_and_which_host_was_asked_for() {
    let authority = authority();
    let server = serving(authority.pair(&["a.example"]).tls(), session()).await;

    let mut client = connect(&server, &Arc::new(authority.trusted()), "a.example").await.unwrap();

    assert!(client.get("/").await.unwrap().ends_with("https a.example TLSv1.3 new"));
    assert!(client.get("/").await.unwrap().ends_with("https a.example TLSv1.3 new"));
}

#[tokio::test]
async fn http2_is_agreed_upon_by_alpn() {
    let authority = authority();
    let server = serving(
        authority.pair(&["a.example"]).tls(),
        answering(|request| text(format!("{:?}", request.version()))),
    )
    .await;
    let mut config = authority.trusted();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let client = connect(&server, &Arc::new(config), "a.example").await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client.io)).await.unwrap();
    tokio::spawn(connection);
    let _: &hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>> = &client;
    assert_eq!(whole(client.send_request(http2_get("/")).await.unwrap()).await, (200, "HTTP/2.0".into()));

    let mut config = authority.trusted();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = connect(&server, &Arc::new(config), "a.example").await.unwrap();
    assert!(client.get("/").await.unwrap().ends_with("HTTP/1.1"));
}

#[tokio::test]
async fn the_certificate_is_the_one_of_the_host_else_of_its_domain_else_the_first() {
    let authority = authority();
    let first = authority.pair(&["first.example"]);
    let wild = authority.pair(&["*.wild.example"]);
    let exact = authority.pair(&["Exact.wild.example"]);
    let tls = first
        .tls()
        .certificate(&wild.chain, &wild.key)
        .unwrap()
        .certificate(&exact.chain, &exact.key)
        .unwrap();
    let server = serving(tls, hello()).await;
    let config = Arc::new(authority.trusted());

    for (host, pair) in [
        ("first.example", &first),
        ("any.wild.example", &wild),
        ("exact.wild.example", &exact),
        ("EXACT.wild.example", &exact),
    ] {
        assert_eq!(shown(&connect(&server, &config, host).await.unwrap()), pair.der(), "{host}");
    }
    // Two labels are not one, and the first certificate is no one else's.
    for host in ["two.labels.wild.example", "wild.example", "other.example"] {
        let refused = connect(&server, &config, host).await.err().unwrap().to_string();
        assert!(refused.contains("only valid for DnsName(\"first.example\")"), "{host}: {refused}");
    }
}

#[tokio::test]
async fn of_two_certificates_for_a_host_a_client_gets_one_whose_key_it_takes() {
    let authority = authority();
    let params = || CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let edwards_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let edwards = Pair {
        chain: params().signed_by(&edwards_key, &authority.issuer).unwrap().pem(),
        key: edwards_key.serialize_pem(),
    };
    let ecdsa = authority.sign(&params());
    let server = serving(edwards.tls().certificate(&ecdsa.chain, &ecdsa.key).unwrap(), hello()).await;

    let both = Arc::new(authority.trusted());
    assert_eq!(shown(&connect(&server, &both, "a.example").await.unwrap()), edwards.der());
    let mut provider = rustls::crypto::ring::default_provider();
    let all = provider.signature_verification_algorithms;
    let only_ecdsa: Vec<_> = all
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == rustls::SignatureScheme::ECDSA_NISTP256_SHA256)
        .copied()
        .collect();
    provider.signature_verification_algorithms.mapping = only_ecdsa.leak();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let only_ecdsa = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(shown(&connect(&server, &Arc::new(only_ecdsa), "a.example").await.unwrap()), ecdsa.der());
}

#[tokio::test]
async fn a_reload_is_for_new_connections_and_leaves_the_open_ones_alone() {
    let authority = authority();
    let (old, new) = (authority.pair(&["a.example"]), authority.pair(&["a.example"]));
    let tls = TlsHandle::new(old.tls());
    let server = serving(tls.clone(), hello()).await;
    let config = Arc::new(authority.trusted());
    let mut before = connect(&server, &config, "a.example").await.unwrap();
    before.get("/").await.unwrap();

    tls.reload(new.tls());

    assert_eq!(
        shown(&connect(&server, &Arc::new(authority.trusted()), "a.example").await.unwrap()),
        new.der()
    );
    assert!(before.get("/").await.unwrap().ends_with("hello"));
    assert_eq!(shown(&before), old.der());
}

#[tokio::test]
async fn sessions_are_resumed_across_a_reload_and_without_early_data() {
    let authority = authority();
    let pair = authority.pair(&["a.example"]);
    let tls = TlsHandle::new(pair.tls());
    let server = serving(tls.clone(), session()).await;
    let mut config = authority.trusted();
    config.enable_early_data = true;
    let config = Arc::new(config);

    let mut client = connect(&server, &config, "a.example").await.unwrap();
    assert!(client.get("/").await.unwrap().ends_with("new"));
    tls.reload(pair.tls());
    let mut client = connect(&server, &config, "a.example").await.unwrap();
    assert!(client.get("/").await.unwrap().ends_with("resumed"));

    // The client would have sent some: the server has not offered to take it.
    assert!(!client.io.get_ref().1.is_early_data_accepted());
    let name = ServerName::try_from("a.example").unwrap();
    let mut next = rustls::ClientConnection::new(config, name).unwrap();
    assert!(next.early_data().is_none());
}

#[tokio::test]
async fn a_session_is_not_resumed_where_clients_are_asked_for_certificates_after_a_reload() {
    let authority = authority();
    let pair = authority.pair(&["a.example"]);
    let asks = || pair.tls().ask_clients(&authority.pem).unwrap();
    let tls = TlsHandle::new(asks());
    let server = serving(tls.clone(), session()).await;
    let config = Arc::new(authority.config(Some(&authority.client())));
    let resumed = async || {
        let mut client = connect(&server, &config, "a.example").await.unwrap();
        client.get("/").await.unwrap().ends_with("resumed")
    };

    assert!(!resumed().await);
    assert!(resumed().await);
    tls.reload(asks());

    assert!(!resumed().await);
}

/// Says whom the client's certificate names.
fn named() -> impl AnyHandler {
    answering(|request| {
        let session = request.extensions().get::<TlsSession>().unwrap();
        let hosts: Vec<_> =
            session.client_hosts().chain(session.client_uris()).chain(session.client_emails()).collect();
        let bytes =
            request.extensions().get::<ClientCertificate>().map_or(0, |certificate| certificate.der().len());
        text(format!("{:?} {hosts:?} {bytes}", session.client_subject()))
    })
}

#[tokio::test]
async fn a_client_must_show_a_certificate_where_that_is_required_and_is_named_by_it() {
    let authority = authority();
    let client = authority.client();
    let tls = authority.pair(&["a.example"]).tls().require_clients(&authority.pem).unwrap();
    let server = serving(tls, named()).await;

    let mut known = connect(&server, &Arc::new(authority.config(Some(&client))), "a.example").await.unwrap();
    let answer = known.get("/").await.unwrap();
    let names = r#"["billing.example", "spiffe://example/billing", "billing@example"]"#;
    let expected = format!("Some(\"CN=billing\") {names} {}", client.der().len());
    assert!(answer.ends_with(&expected), "{answer}");

    // In TLS 1.3 the client's side of the handshake is over before the server refuses it.
    let stranger = super_authority_client();
    for config in [authority.trusted(), authority.config(Some(&stranger))] {
        let refused = match connect(&server, &Arc::new(config), "a.example").await {
            Err(_) => true,
            Ok(mut client) => {
                client.closed().await;
                client.io.get_ref().1.peer_certificates().is_some()
            }
        };
        assert!(refused);
    }
    let mut again = connect(&server, &Arc::new(authority.config(Some(&client))), "a.example").await.unwrap();
    assert!(again.get("/").await.is_some());
}

/// A certificate that somebody else has signed.
fn super_authority_client() -> Pair {
    authority().client()
}

#[tokio::test]
async fn a_client_may_show_a_certificate_where_it_is_asked_for_one() {
    let authority = authority();
    let tls = authority.pair(&["a.example"]).tls().ask_clients(&authority.pem).unwrap();
    let server = serving(tls, named()).await;

    let mut nobody = connect(&server, &Arc::new(authority.trusted()), "a.example").await.unwrap();
    assert!(nobody.get("/").await.unwrap().ends_with("None [] 0"));
    let config = authority.config(Some(&authority.client()));
    let mut somebody = connect(&server, &Arc::new(config), "a.example").await.unwrap();
    assert!(somebody.get("/").await.unwrap().contains("CN=billing"));
}

#[test]
fn what_cannot_be_shown_is_refused_with_its_field_and_rule() {
    let authority = authority();
    let pair = authority.pair(&["a.example"]);
    let other = authority.pair(&["a.example"]);
    let at = |before: (i32, u8), after: (i32, u8)| {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(before.0, before.1, 1);
        params.not_after = rcgen::date_time_ymd(after.0, after.1, 1);
        authority.sign(&params)
    };
    let refused = |chain: &str, key: &str| {
        let error = ServerTls::new(chain, key).unwrap_err();
        (error.field(), error.kind(), error.to_string())
    };

    use TlsErrorKind as Kind;
    let (field, kind, said) = refused(&pair.chain, &other.key);
    assert_eq!((field, kind), ("private key", Kind::KeyMismatch), "{said}");
    let expired = at((2020, 1), (2021, 1));
    let (field, kind, said) = refused(&expired.chain, &expired.key);
    assert_eq!((field, kind), ("certificate", Kind::Expired));
    assert!(said.contains("has expired at Jan  1") && said.contains("2021"), "{said}");
    let early = at((2120, 1), (2121, 1));
    let (field, kind, said) = refused(&early.chain, &early.key);
    assert_eq!((field, kind), ("certificate", Kind::NotYetValid), "{said}");
    let (field, kind, said) = refused("no PEM", &pair.key);
    assert_eq!((field, kind), ("certificate", Kind::Missing), "{said}");
    let (field, kind, said) =
        refused("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &pair.key);
    assert_eq!((field, kind), ("certificate", Kind::Unreadable), "{said}");
    let (field, kind, said) =
        refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &pair.key);
    assert_eq!((field, kind), ("certificate", Kind::Invalid), "{said}");
    let (field, kind, said) = refused(&pair.chain, &pair.chain);
    assert_eq!((field, kind), ("private key", Kind::Missing), "{said}");

    let nameless = authority.sign(&CertificateParams::default());
    let error = pair.tls().certificate(&nameless.chain, &nameless.key).unwrap_err();
    assert_eq!((error.field(), error.kind()), ("certificate", Kind::Missing), "{error}");
    assert!(ServerTls::new(&nameless.chain, &nameless.key).is_ok());
    let error = pair.tls().require_clients("no PEM").unwrap_err();
    assert_eq!((error.field(), error.kind()), ("client roots", Kind::Missing), "{error}");
}

#[tokio::test]
async fn a_client_that_does_not_go_on_with_its_handshake_is_let_go() {
    let authority = authority();
    let time = ManualClock::new();
    let log = Log::default();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().tls(authority.pair(&["a.example"]).tls());
    let server = log.on(Server::on(listener)).clock(time.clock()).handshake_timeout(Duration::from_secs(4));
    let server = start(server, hello());

    let mut silent = Client::connect(server.address()).await;
    let ((), took) = while_time_passes(&time, silent.closed()).await;

    assert!(took >= Duration::from_secs(4), "{took:?}");
    assert!(log.has("the handshake took too long"));
}

#[tokio::test]
async fn clients_that_begin_handshakes_and_stop_hold_a_good_client_up_for_a_second_at_most() {
    let authority = authority();
    let time = ManualClock::new();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().tls(authority.pair(&["a.example"]).tls());
    let server = Server::on(listener)
        .clock(time.clock())
        .handshake_timeout(Duration::from_secs(3600))
        .max_handshakes(4);
    let server = start(server, hello());
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(Client::connect(server.address()).await);
    }

    let config = Arc::new(authority.trusted());
    let good = async { connect(&server, &config, "a.example").await.unwrap().get("/").await };
    let (answer, took) = while_time_passes(&time, good).await;

    assert!(answer.unwrap().ends_with("hello"));
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go_and_others_are_served() {
    let authority = authority();
    let log = Log::default();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().tls(authority.pair(&["a.example"]).tls());
    let server = start(log.on(Server::on(listener)), hello());

    let mut plain = Client::connect(server.address()).await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    plain.closed().await;
    let config = Arc::new(authority.trusted());
    let mut good = connect(&server, &config, "a.example").await.unwrap();

    assert!(good.get("/").await.is_some());
    log.until("Failed").await;
}
