use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use buttress_core::Clock;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::{TlsError, TlsErrorKind, pem, valid};
use crate::address::{Address, Place};
use crate::io::{Io, Socket};
use crate::options::Protocol;
use crate::{Error, ErrorKind};

/// How an upstream is spoken to over TLS: whom to believe, and who we say we are.
///
/// It trusts the roots of the system, names the upstream's host, and shows no certificate. TLS 1.2 and 1.3 are spoken.
/// Sessions are resumed; nothing is sent as early data, since that could be sent again by somebody else.
///
/// ```no_run
/// use buttress_proxy::{ClientTls, Proxy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ClientTls::new()
///     .roots(std::fs::read("/etc/gateway/upstream-ca.pem")?)?
///     .identity(std::fs::read("/etc/gateway/client.pem")?, std::fs::read("/etc/gateway/client.key")?)?
///     .server_name("users.internal")?;
/// let users: Proxy = Proxy::to("10.0.0.7:8443")?.tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub struct ClientTls {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Arc<CertifiedKey>>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts the roots of the system, which are read when the first connection of the process needs them.
    ///
    /// Where there are none, each connection fails with [`ErrorKind::Tls`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in `pem` and no others: those of the system do not count any more.
    ///
    /// # Errors
    ///
    /// When `pem` cannot be read, or holds no certificate, or one that is none.
    pub fn roots(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        const FIELD: &str = "roots";
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(FIELD, pem.as_ref())? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::new(FIELD, TlsErrorKind::Invalid, error.to_string()))?;
        }
        self.roots = Some(Arc::new(roots));
        Ok(self)
    }

    /// Shows the first certificate of `chain`, whose issuers follow it, to an upstream that asks for one. Both are PEM.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read, or holds nothing of its kind, the key is not the certificate's, or the certificate
    /// has expired or is not valid yet.
    pub fn identity(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let identity = pem::certified_key(chain.as_ref(), key.as_ref())?;
        if let Some(certificate) = identity.cert.first() {
            valid(certificate, &Clock::default())?;
        }
        self.identity = Some(Arc::new(identity));
        Ok(self)
    }

    /// Asks for the certificate of `name` instead of that of the upstream's host.
    ///
    /// For an upstream that is reached by its address, or through a UNIX socket.
    ///
    /// # Errors
    ///
    /// When `name` is neither a host name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let rule = format!("must be a host name or an IP address, not `{name}`");
            TlsError::new("server name", TlsErrorKind::Invalid, rule)
        })?;
        self.server_name = Some(name);
        Ok(self)
    }

    /// Whether it is known whose certificate an upstream at `address` has to show.
    pub(crate) fn knows_name_of(&self, address: &Address) -> bool {
        self.server_name.is_some() || !matches!(address.place(), Place::Unix(_))
    }

    fn name_of(&self, address: &Address) -> Result<ServerName<'static>, TlsError> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        match address.place() {
            Place::Socket(address) => Ok(ServerName::from(address.ip())),
            Place::Name(host, _) => ServerName::try_from(host.to_string()).map_err(|_| {
                TlsError::new("server name", TlsErrorKind::Invalid, "the upstream's host cannot be one")
            }),
            Place::Unix(_) => {
                Err(TlsError::new("server name", TlsErrorKind::Missing, "must be given for a UNIX socket"))
            }
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("own_roots", &self.roots.as_ref().map(|roots| roots.len()))
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// What the connections of one pool share: the sessions that can be resumed are in it.
pub(crate) async fn config(tls: &ClientTls, clock: &Clock) -> Result<Arc<ClientConfig>, Error> {
    let unusable = |error| Error::unsent(ErrorKind::Tls, error);
    let roots = match &tls.roots {
        Some(roots) => roots.clone(),
        None => system_roots().await.map_err(unusable)?,
    };
    let builder =
        ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(Wall(clock.clone())))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::unsent(ErrorKind::Tls, error))?
            .with_root_certificates(roots);
    Ok(Arc::new(match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(identity.clone()));
            builder.with_client_cert_resolver(resolver)
        }
    }))
}

/// Read once in the process, on a thread where that may take its time.
async fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let missing = |detail: String| TlsError::new("roots", TlsErrorKind::Missing, detail);
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|_| missing("reading those of the system was broken off".to_owned()))?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(missing(format!("the system has none{why}")));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// Speaks TLS over `socket`; whether HTTP/2 was agreed upon.
pub(crate) async fn connect(
    socket: Socket,
    tls: &ClientTls,
    config: Arc<ClientConfig>,
    address: &Address,
    protocol: Protocol,
) -> Result<(Io, bool), Error> {
    let name = tls.name_of(address).map_err(|error| Error::unsent(ErrorKind::Tls, error))?;
    let protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        #[cfg(feature = "http2")]
        Protocol::Http2 => vec![b"h2".to_vec()],
        #[cfg(feature = "http2")]
        Protocol::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let connector = TlsConnector::from(config);
    let stream = connector.with_alpn(protocols).connect(name, socket).await.map_err(failed)?;
    let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    #[cfg(feature = "http2")]
    if protocol == Protocol::Http2 && !agreed {
        let refused = io::Error::new(io::ErrorKind::Unsupported, "the upstream does not agree to HTTP/2");
        return Err(Error::unsent(ErrorKind::Tls, refused));
    }
    Ok((Io::Tls(Box::new(stream)), agreed))
}

/// The source is what rustls says, without the io error around it.
fn failed(error: io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => Error::unsent(ErrorKind::Tls, error),
        Err(error) => Error::unsent(ErrorKind::Tls, error),
    }
}

/// Whether the upstream has ended the handshake by not taking us. In TLS 1.3 that comes after our side was done with it.
pub(crate) fn handshake_refused(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

/// The date by which certificates are valid.
#[derive(Debug)]
pub(crate) struct Wall(pub(crate) Clock);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.wall().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}
