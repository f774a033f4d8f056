use std::error::Error as StdError;
#[cfg(feature = "http2")]
use std::sync::Arc;
use std::{fmt, io};

use buttress_core::{BoxError, Cause, FromRejection, NothingSent, Rejection};
use buttress_http::Problem;
use http::StatusCode;

use crate::Address;

/// Why a request was not answered by the upstream, or its answer's body did not arrive whole.
///
/// The proxy never makes a response of it: what is above (retry, breaker, balancer, cache) sees the evidence, and
/// `answer_errors` at the top of the stack turns what is left into 502, 503 or 504.
///
/// Its text names no address, so that it may be shown to a client; [`Error::upstream`] does.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    upstream: Option<Address>,
    source: Option<BoxError>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be made: refused, unreachable, or the name is unknown.
    Connect,
    /// No connection was made in time.
    ConnectTimeout,
    /// TLS could not be spoken: the upstream's certificate is unknown, expired or another host's, or it does not take
    /// ours. What `rustls` says is the source.
    Tls,
    /// The upstream closed the connection before it answered.
    Closed,
    /// The upstream refused the request without looking at it: `REFUSED_STREAM` of HTTP/2.
    Refused,
    /// The upstream reset the connection, or the stream, or reading or writing failed in another way.
    Reset,
    /// The upstream closed the connection in the middle of the body of its answer.
    Incomplete,
    /// What the upstream sent is not an answer in HTTP, or its head is too large.
    BadResponse,
    /// The client's own body failed or ended short; the upstream is not to blame.
    RequestBody,
    /// The request cannot be sent on: `CONNECT`, more than one `Host`, a `Transfer-Encoding` other than `chunked`, a
    /// `Content-Length` beside it or another that differs, `Max-Forwards: 0`.
    BadRequest,
    /// The request has passed here more often than [allowed](crate::Proxy::max_passes): its route leads back.
    Loop,
    /// A refusal of ours: the proxy's own limit of connections, or one that a layer put in.
    Rejected,
}

impl ErrorKind {
    /// The kind in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "cannot connect to the upstream",
            Self::ConnectTimeout => "connecting to the upstream took too long",
            Self::Tls => "no TLS connection to the upstream could be made",
            Self::Closed => "the upstream closed the connection before it answered",
            Self::Refused => "the upstream refused the request",
            Self::Reset => "the connection to the upstream failed",
            Self::Incomplete => "the upstream's answer broke off",
            Self::BadResponse => "the upstream's answer is not valid HTTP",
            Self::RequestBody => "the body of the request broke off",
            Self::BadRequest => "the request cannot be sent on",
            Self::Loop => "the request goes round in a loop",
            Self::Rejected => "refused",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner { kind, upstream: None, source: Some(source.into()) }))
    }

    /// An error of a call of which not one byte was written.
    pub(crate) fn unsent(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self::new(kind, NothingSent::new(source))
    }

    /// What all are told who waited for the same connection.
    #[cfg(feature = "http2")]
    pub(crate) fn shared(error: Arc<Self>) -> Self {
        Self::new(error.kind(), Shared(error))
    }

    /// What hyper says of a call, or of the body of its answer.
    pub(crate) fn from_hyper(error: hyper::Error, sent: bool) -> Self {
        let kind = match kind_of(&error) {
            // There was no head yet: TLS ends so where the upstream does not say that it closes.
            ErrorKind::Incomplete => ErrorKind::Closed,
            // In TLS 1.3 our certificate is looked at when we may already have written. What came of the request was
            // thrown away with the handshake.
            ErrorKind::Tls => return Self::unsent(ErrorKind::Tls, error),
            other => other,
        };
        if sent { Self::new(kind, error) } else { Self::unsent(kind, error) }
    }

    pub(crate) fn at(mut self, upstream: &Address) -> Self {
        self.0.upstream = Some(upstream.clone());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The upstream that the request was meant for, where it came that far.
    #[must_use]
    pub fn upstream(&self) -> Option<&Address> {
        self.0.upstream.as_ref()
    }

    /// Whether it is certain that no upstream has looked at the request, so that any request, idempotent or not, may be
    /// sent again: not one byte of it was written, or an upstream of HTTP/2 said that it has not processed it
    /// (`REFUSED_STREAM`, or a GOAWAY whose last stream is an earlier one), or the TLS handshake failed.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        Cause::nothing_sent(self)
    }

    /// What a client may be told: 400 where its own request is to blame, 504 where connecting took too long, 508 where
    /// the request goes round in a loop, else 502, each with the kind in words. `None` for a refusal, which is answered as every other refusal is.
    ///
    /// It is made for `answer_errors` at the top of the stack:
    ///
    /// ```
    /// use buttress_http::answer::AnswerErrorsLayer;
    ///
    /// let answers = AnswerErrorsLayer::new().describe(buttress_proxy::Error::problem);
    /// # let _ = answers;
    /// ```
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let status = match self.kind() {
            ErrorKind::Rejected => return None,
            ErrorKind::BadRequest | ErrorKind::RequestBody => StatusCode::BAD_REQUEST,
            ErrorKind::Loop => StatusCode::LOOP_DETECTED,
            ErrorKind::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        Some(Problem::new(status).with_detail(self.kind().as_str()))
    }
}

fn kind_of(error: &hyper::Error) -> ErrorKind {
    if error.is_parse() {
        return ErrorKind::BadResponse;
    }
    if error.is_body_write_aborted() || find::<RequestBodyError>(error).is_some() {
        return ErrorKind::RequestBody;
    }
    let io = find::<io::Error>(error);
    #[cfg(feature = "tls")]
    match io.and_then(|error| error.get_ref()?.downcast_ref()) {
        Some(error) if crate::tls::handshake_refused(error) => return ErrorKind::Tls,
        Some(_) => return ErrorKind::Reset,
        None => {}
    }
    match io.map(io::Error::kind) {
        // Hyper's decoders of bodies speak in these.
        Some(io::ErrorKind::UnexpectedEof) => ErrorKind::Incomplete,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => ErrorKind::BadResponse,
        Some(_) => ErrorKind::Reset,
        None => ErrorKind::Closed,
    }
}

/// An error of the body of an answer whose head has been handed on.
pub(crate) fn of_body(error: hyper::Error) -> Error {
    let kind = match kind_of(&error) {
        ErrorKind::Closed => ErrorKind::Incomplete,
        other => other,
    };
    Error::new(kind, error)
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    std::iter::successors(error.source(), |&error| error.source()).find_map(|error| error.downcast_ref())
}

impl Unusable {
    /// The error of a request that is not sent on.
    pub(crate) fn request(self) -> Error {
        let kind = if self == Self::Loop { ErrorKind::Loop } else { ErrorKind::BadRequest };
        Error::unsent(kind, self)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind);
        if let Some(upstream) = &self.0.upstream {
            out.field("upstream", &format_args!("{upstream}"));
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rejection() {
            Some(rejection) => rejection.fmt(f),
            None => self.0.kind.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl Cause for Error {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }

    fn maybe_sent(mut self) -> Self {
        self.0.source = self.0.source.map(Cause::maybe_sent);
        self
    }
}

impl FromRejection for Error {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::new(ErrorKind::Rejected, rejection)
    }
}

/// An error that several calls have in common; what it is made of follows in the chain.
#[cfg(feature = "http2")]
#[derive(Debug)]
struct Shared(Arc<Error>);

#[cfg(feature = "http2")]
impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "http2")]
impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        StdError::source(&*self.0)
    }
}

/// The link that tells a failure of the client's body from one of the upstream's connection.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request failed: {0}")]
pub(crate) struct RequestBodyError(#[source] pub(crate) BoxError);

/// Why a request cannot be sent on, or an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("CONNECT asks for a tunnel, which this proxy does not make")]
    Connect,
    #[error("a Transfer-Encoding other than chunked")]
    Coding,
    #[error("Max-Forwards is used up")]
    MaxForwards,
    #[error("Via names this proxy as often as it may")]
    Loop,
    #[error("more than one Host field")]
    Hosts,
    #[error("the authority of the request target is no valid Host")]
    Authority,
    #[error("Content-Length beside Transfer-Encoding")]
    LengthAndCoding,
    #[error("Content-Length that is no number, or two that differ")]
    Lengths,
    #[error("204 with a body")]
    NoContent,
    #[error("101 Switching Protocols without a request for an upgrade")]
    Upgrade,
    #[error("101 Switching Protocols to one that was not asked for")]
    Protocol,
    #[cfg(feature = "http2")]
    #[error("101 Switching Protocols without the Sec-WebSocket-Accept that belongs to the key")]
    Accept,
    #[error("a success that is not the 101 Switching Protocols that was asked for")]
    NotSwitched,
}
