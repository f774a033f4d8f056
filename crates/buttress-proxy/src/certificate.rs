use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// The certificate by which a client has proved who it is: an extension of requests.
///
/// The server that has *verified* the certificate inserts it, and nobody else. It is made once for a connection; a
/// clone for each request shares it. [`IdentityLayer`](crate::IdentityLayer) tells upstreams of it.
///
/// ```
/// use buttress_proxy::ClientCertificate;
///
/// let certificate = ClientCertificate::new([b"leaf in DER".as_slice()]).expect("there is one");
/// assert_eq!(certificate.der(), b"leaf in DER");
/// ```
#[derive(Clone)]
pub struct ClientCertificate(Arc<Presented>);

struct Presented {
    der: Box<[u8]>,
    leaf: HeaderValue,
    chain: Option<HeaderValue>,
}

impl ClientCertificate {
    /// The client's own certificate first, then the others that it sent, each in DER. `None` when there is none.
    pub fn new<C: AsRef<[u8]>>(certificates: impl IntoIterator<Item = C>) -> Option<Self> {
        let mut certificates = certificates.into_iter();
        let der = certificates.next()?;
        let der = der.as_ref();
        let others: Vec<String> = certificates.map(|other| item(other.as_ref())).collect();
        // Base64 is visible ASCII, so neither is refused.
        let leaf = HeaderValue::try_from(item(der)).ok()?;
        let chain = HeaderValue::try_from(others.join(", ")).ok().filter(|chain| !chain.is_empty());
        Some(Self(Arc::new(Presented { der: der.into(), leaf, chain })))
    }

    /// The client's own certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The value of `Client-Cert`.
    pub(crate) fn leaf(&self) -> &HeaderValue {
        &self.0.leaf
    }

    /// The value of `Client-Cert-Chain`.
    pub(crate) fn chain(&self) -> Option<&HeaderValue> {
        self.0.chain.as_ref()
    }
}

/// A byte sequence of a structured field (RFC 8941 §3.3.5), which is what RFC 9440 §2.1 asks for.
fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("bytes", &self.0.der.len()).finish_non_exhaustive()
    }
}
