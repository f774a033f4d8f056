use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use buttress_core::Clock;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::names::Certificates;
use super::x509;
use crate::tls::{Wall, pem};
use crate::{TlsError, TlsErrorKind};

/// How a server speaks TLS: which certificates it shows, and whether it asks clients for theirs.
///
/// TLS 1.2 and 1.3 are spoken, with rustls' ciphers; HTTP/2 and HTTP/1.1 are offered by ALPN. Sessions are resumed by
/// tickets, whose keys live in this process and change every six hours. Early data (0-RTT) is refused, since who has
/// seen it can send it again (RFC 8446 §8).
///
/// ```no_run
/// use buttress_proxy::server::{Listener, Server, ServerTls};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ServerTls::new(std::fs::read("/etc/gateway/a.pem")?, std::fs::read("/etc/gateway/a.key")?)?
///     .certificate(std::fs::read("/etc/gateway/b.pem")?, std::fs::read("/etc/gateway/b.key")?)?;
/// let server = Server::on(Listener::bind("[::]:8443").await?.tls(tls));
/// # drop(server); Ok(())
/// # }
/// ```
#[derive(Clone)]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub struct ServerTls {
    clock: Clock,
    certificates: Certificates,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    tickets: Arc<dyn ProducesTickets>,
}

impl ServerTls {
    /// Shows the first certificate of `chain`, whose issuers follow it, to clients who ask for one of its host names,
    /// for a name that no certificate has, or for none. Both are PEM.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read or holds nothing of its kind, when the key is not the certificate's, and when the
    /// certificate has expired or is not valid yet.
    pub fn new(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let tickets = ring::Ticketer::new()
            .map_err(|error| TlsError::new("tickets", TlsErrorKind::Missing, error.to_string()))?;
        let tls =
            Self { clock: Clock::default(), certificates: Certificates::default(), clients: None, tickets };
        tls.certificate(chain, key)
    }

    /// Shows another certificate to clients who ask for one of its host names (`subjectAltName`). `*.example.com` stands
    /// for each name with one label more; a certificate with the whole name comes before it.
    ///
    /// Two with the same name are for clients that take different kinds of keys (ECDSA and RSA); of one kind the first is
    /// shown.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and when the certificate has no host name: it would never be shown.
    pub fn certificate(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let certified = Arc::new(pem::certified_key(chain.as_ref(), key.as_ref())?);
        let leaf = certified.end_entity_cert();
        let leaf =
            leaf.map_err(|error| TlsError::new("certificate", TlsErrorKind::Missing, error.to_string()))?;
        let hosts = x509::hosts(leaf, &self.clock)?;
        if hosts.is_empty() && !self.certificates.is_empty() {
            let rule =
                "must name a host as subjectAltName: it is not the first one, and would never be shown";
            return Err(TlsError::new("certificate", TlsErrorKind::Missing, rule));
        }
        self.certificates.add(&certified, hosts);
        Ok(self)
    }

    /// Takes only clients that show a certificate which one of `roots` (PEM) has signed.
    ///
    /// # Errors
    ///
    /// When `roots` cannot be read, or holds no certificate, or one that is none.
    pub fn require_clients(mut self, roots: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let (roots, provider) = (client_roots(roots.as_ref())?, Arc::new(ring::default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        self.clients = Some(verifier.map_err(|error| invalid_roots(&error))?);
        Ok(self)
    }

    /// Asks clients for a certificate and takes those without one too. One that none of `roots` (PEM) has signed ends
    /// the handshake.
    ///
    /// # Errors
    ///
    /// When `roots` cannot be read, or holds no certificate, or one that is none.
    pub fn ask_clients(mut self, roots: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let (roots, provider) = (client_roots(roots.as_ref())?, Arc::new(ring::default_provider()));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build();
        self.clients = Some(verifier.map_err(|error| invalid_roots(&error))?);
        Ok(self)
    }

    fn config(&self, tickets: Arc<dyn ProducesTickets>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Wall(self.clock.clone())))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.certificates.clone()));
        config.ticketer = tickets;
        // rustls' default, written down since so much hangs on it.
        config.max_early_data_size = 0;
        config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

#[cfg(feature = "http2")]
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
#[cfg(not(feature = "http2"))]
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

fn client_roots(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ROOTS, pem)? {
        roots.add(certificate).map_err(|error| invalid_roots(&error))?;
    }
    Ok(Arc::new(roots))
}

const ROOTS: &str = "client roots";

fn invalid_roots(error: &dyn std::error::Error) -> TlsError {
    TlsError::new(ROOTS, TlsErrorKind::Invalid, error.to_string())
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificates", &self.certificates)
            .field("asks_clients", &self.clients.is_some())
            .finish_non_exhaustive()
    }
}

/// The TLS of a listener, which can be exchanged while it serves.
///
/// ```no_run
/// use buttress_proxy::TlsError;
/// use buttress_proxy::server::{Listener, Server, ServerTls, TlsHandle};
///
/// # async fn run(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsHandle::new(ServerTls::new(read("a.pem"), read("a.key"))?);
/// let server = Server::on(Listener::bind("[::]:8443").await?.tls(tls.clone()));
///
/// // Later, when the files have changed. What is wrong with them is known before anything is exchanged.
/// tls.reload(ServerTls::new(read("a.pem"), read("a.key"))?);
/// # drop(server); Ok(())
/// # }
/// ```
#[derive(Clone)]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub struct TlsHandle(Arc<RwLock<Current>>);

struct Current {
    tls: ServerTls,
    config: Arc<ServerConfig>,
}

impl TlsHandle {
    /// Begins with `tls`.
    #[must_use]
    pub fn new(tls: ServerTls) -> Self {
        let config = tls.config(Arc::clone(&tls.tickets));
        Self(Arc::new(RwLock::new(Current { tls, config })))
    }

    /// Speaks `tls` from the next handshake on. Connections that are open stay as they are.
    ///
    /// Sessions from before can be resumed, unless clients are or were asked for certificates: then each proves again
    /// who it is, to those who are asked now.
    pub fn reload(&self, mut tls: ServerTls) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tls.clients.is_none() && current.tls.clients.is_none() {
            tls.tickets = Arc::clone(&current.tls.tickets);
        }
        let config = tls.config(Arc::clone(&tls.tickets));
        *current = Current { tls, config };
    }

    pub(in crate::server) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

impl From<ServerTls> for TlsHandle {
    fn from(tls: ServerTls) -> Self {
        Self::new(tls)
    }
}

impl fmt::Debug for TlsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("TlsHandle").field(&current.tls).finish()
    }
}
