use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_http::Peer;
use buttress_http::key::Net;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::ClientCertificate;
use crate::policy::{is_essential, split};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Removes from requests the fields by which this gateway tells upstreams who the caller is.
///
/// An upstream believes such fields because a gateway in front of it writes them, so what a *client* has written there
/// must be gone before anything reads it. The layer stands at the top of the stack, above authentication, routing and
/// limits by user; what those set below it stays.
///
/// A name is found in each of its spellings: `X_User-Id` is `x-user-id` to many an upstream (CGI, WSGI, Rack), so
/// `_` counts as `-`.
///
/// `Client-Cert` and `Client-Cert-Chain` (RFC 9440) are always among them. Where the server has verified a client
/// certificate, which it says by the extension [`ClientCertificate`], `Client-Cert` is set from it; see
/// [`client_cert`](Self::client_cert).
///
/// What `Connection` names is removed here already, and is not named any more. Otherwise a client could name in it what
/// a layer below sets, and the proxy, which obeys `Connection`, would leave that out.
///
/// Trailers are not looked at: no server merges them into the fields of a request (RFC 9110 §6.5.1).
///
/// ```
/// use buttress_proxy::IdentityLayer;
/// use http::Request;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let identity = IdentityLayer::new().field("x-user-id").prefix("x-envoy-");
/// let service = ServiceBuilder::new().layer(identity).service_fn(|request: Request<()>| async move {
///     Ok::<_, std::convert::Infallible>(request.headers().len())
/// });
///
/// let request = Request::get("/").header("x-user-id", "admin").header("x-envoy-internal", "true").body(())?;
/// assert_eq!(service.oneshot(request).await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct IdentityLayer {
    rules: Arc<Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    names: Vec<String>,
    prefixes: Vec<String>,
    trusted: Vec<Net>,
    cert: ClientCert,
}

/// What an upstream is told of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientCert {
    /// Nothing: both fields are removed only.
    Remove,
    /// `Client-Cert`: the certificate of the client. The default: an upstream needs it to tell who the caller is, and
    /// it is set only where the server asks for certificates.
    #[default]
    Leaf,
    /// `Client-Cert-Chain` as well: the certificates that the client sent besides its own. They make a head several
    /// kilobytes longer.
    Chain,
}

impl IdentityLayer {
    /// Removes `Client-Cert` and `Client-Cert-Chain`, and sets the first where a certificate was verified.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes the field called `name` as well.
    ///
    /// # Panics
    ///
    /// When `name` is no name of a field (RFC 9110 §5.1), or that of `Host`, `Content-Length` or
    /// `Transfer-Encoding`: without these a request is another request.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        let name = spelled(name);
        self.with(|rules| rules.names.push(name))
    }

    /// Removes every field whose name begins with `prefix` as well.
    ///
    /// # Panics
    ///
    /// When no name of a field can begin so, or that of `Host`, `Content-Length` or `Transfer-Encoding` does.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        let prefix = spelled(prefix);
        let essential = ESSENTIAL.iter().find(|name| name.starts_with(&prefix));
        assert!(essential.is_none(), "prefix: `{prefix}` would remove `{}`", essential.unwrap_or(&""));
        self.with(|rules| rules.prefixes.push(prefix))
    }

    /// Leaves the requests of a peer in one of `nets` as they are: that is a gateway in front, which did this already.
    ///
    /// The peer is the request's [`Peer`]; one that is not known is not trusted.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn behind<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        let parse = |net: N| net.try_into().unwrap_or_else(|error| panic!("behind: {error}"));
        self.with(|rules| rules.trusted.extend(nets.into_iter().map(parse)))
    }

    /// What upstreams are told of the client's certificate. Default: [`ClientCert::Leaf`].
    #[must_use]
    pub fn client_cert(self, cert: ClientCert) -> Self {
        self.with(|rules| rules.cert = cert)
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }
}

const ESSENTIAL: [&str; 3] = ["content-length", "host", "transfer-encoding"];

/// The name in the one spelling that names are compared in.
fn spelled(name: &str) -> String {
    assert!(HeaderName::try_from(name).is_ok(), "`{name}` is no name of a field");
    let name = name.to_ascii_lowercase().replace('_', "-");
    assert!(!ESSENTIAL.contains(&name.as_str()), "`{name}` cannot be left out of a request");
    name
}

impl Rules {
    fn apply<B>(&self, request: &mut Request<B>) {
        if !self.trusted.is_empty()
            && let Some(Peer(peer)) = Peer::of(request)
            && self.trusted.iter().any(|net| net.contains(peer.ip()))
        {
            return;
        }
        self.remove(request.headers_mut());
        if self.cert != ClientCert::Remove {
            self.present(request);
        }
    }

    fn remove(&self, fields: &mut HeaderMap) {
        settle_connection(fields);
        // Nothing is collected for the usual request, which has none of them.
        while let Some(name) = fields.keys().find(|name| self.concerns(name.as_str())).cloned() {
            fields.remove(name);
        }
    }

    fn concerns(&self, name: &str) -> bool {
        same(name, CLIENT_CERT.as_str())
            || same(name, CLIENT_CERT_CHAIN.as_str())
            || self.names.iter().any(|listed| same(name, listed))
            || self
                .prefixes
                .iter()
                .any(|listed| name.get(..listed.len()).is_some_and(|head| same(head, listed)))
    }

    fn present<B>(&self, request: &mut Request<B>) {
        let Some((leaf, chain)) = certificate(request.extensions()) else { return };
        let chain = if self.cert == ClientCert::Chain { chain } else { None };
        let fields = request.headers_mut();
        fields.insert(CLIENT_CERT, leaf);
        if let Some(chain) = chain {
            fields.insert(CLIENT_CERT_CHAIN, chain);
        }
    }
}

fn certificate(extensions: &Extensions) -> Option<(HeaderValue, Option<HeaderValue>)> {
    let certificate = extensions.get::<ClientCertificate>()?;
    Some((certificate.leaf().clone(), certificate.chain().cloned()))
}

/// Removes what `Connection` names, but for the options that the rest of the stack asks for.
fn settle_connection(fields: &mut HeaderMap) {
    let known = |token: &[u8]| {
        [&b"close"[..], b"keep-alive", b"te", b"upgrade"]
            .iter()
            .any(|known| token.eq_ignore_ascii_case(known))
    };
    if fields.get_all(CONNECTION).into_iter().flat_map(split).all(known) {
        return;
    }
    let lines: Vec<HeaderValue> = fields.get_all(CONNECTION).iter().cloned().collect();
    fields.remove(CONNECTION);
    for token in lines.iter().flat_map(split) {
        if !known(token) && !is_essential(token) {
            let _ = std::str::from_utf8(token).map(|name| fields.remove(name));
        } else if let Ok(token) = HeaderValue::from_bytes(token) {
            fields.append(CONNECTION, token);
        }
    }
}

/// Whether a name, in lower case as all are, is the listed one in one of its spellings.
fn same(name: &str, listed: &str) -> bool {
    name.len() == listed.len()
        && name
            .bytes()
            .zip(listed.bytes())
            .all(|(byte, listed)| byte == listed || (byte == b'_' && listed == b'-'))
}

impl<S> Layer<S> for IdentityLayer {
    type Service = Identity<S>;

    fn layer(&self, inner: S) -> Identity<S> {
        Identity { inner, rules: self.rules.clone() }
    }
}

/// The service of [`IdentityLayer`].
#[derive(Clone, Debug)]
pub struct Identity<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B> Service<Request<B>> for Identity<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.rules.apply(&mut request);
        self.inner.call(request)
    }
}
