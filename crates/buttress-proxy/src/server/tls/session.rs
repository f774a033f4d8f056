use std::fmt;
use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::x509::{self, Names};
use crate::ClientCertificate;

/// An extension of requests that came over TLS: what was agreed upon in the handshake.
///
/// Whom the client's certificate names is read here, from a certificate that was verified. [`ClientCertificate`], an
/// extension too, has its bytes, and what RFC 9440 tells an upstream of them.
#[derive(Clone)]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub struct TlsSession(Arc<Agreed>);

struct Agreed {
    server_name: Option<String>,
    version: &'static str,
    resumed: bool,
    client: Option<Names>,
}

impl TlsSession {
    /// `None` for a certificate that rustls could read and we cannot: nobody is named by half.
    pub(in crate::server) fn of(connection: &ServerConnection) -> Option<(Self, Option<ClientCertificate>)> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let client = match chain.first() {
            Some(leaf) => Some(x509::names(leaf).ok()?),
            None => None,
        };
        let agreed = Agreed {
            server_name: connection.server_name().map(str::to_owned),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client,
        };
        Some((Self(Arc::new(agreed)), ClientCertificate::new(chain)))
    }

    /// The host that the client asked for (SNI), in lower case.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// `TLSv1.2` or `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.0.version
    }

    /// Whether the client had a session from before.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.resumed
    }

    /// The subject of the client's certificate, as `C=NL, O=Example, CN=name`; `None` where it has shown none.
    #[must_use]
    pub fn client_subject(&self) -> Option<&str> {
        self.0.client.as_ref().map(|client| client.subject.as_str())
    }

    /// The host names in the client's certificate.
    pub fn client_hosts(&self) -> impl Iterator<Item = &str> {
        self.0.client.iter().flat_map(|client| &client.dns).map(String::as_str)
    }

    /// The URIs in the client's certificate; a SPIFFE identity is one.
    pub fn client_uris(&self) -> impl Iterator<Item = &str> {
        self.0.client.iter().flat_map(|client| &client.uris).map(String::as_str)
    }

    /// The e-mail addresses in the client's certificate.
    pub fn client_emails(&self) -> impl Iterator<Item = &str> {
        self.0.client.iter().flat_map(|client| &client.emails).map(String::as_str)
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("server_name", &self.0.server_name)
            .field("version", &self.0.version)
            .field("resumed", &self.0.resumed)
            .field("client", &self.client_subject())
            .finish()
    }
}
