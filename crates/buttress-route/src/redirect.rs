use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_http::Problem;
use buttress_http::body::ReplyBody;
use buttress_http::reject::Form;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower_service::Service;

use crate::policy::{Piece, check_name, pieces};
use crate::{Matched, RedirectError};

/// Sends clients elsewhere: 301, 302, 307 or 308, with the parameters of the route in the target.
///
/// | status | | the method |
/// |---|---|---|
/// | 308, [`permanent`](Self::permanent) | for good | stays |
/// | 307, [`temporary`](Self::temporary) | for now | stays |
/// | 301, [`moved`](Self::moved) | for good | clients may make a GET of a POST |
/// | 302, [`found`](Self::found) | for now | clients may make a GET of a POST |
///
/// A target is a path (`/new/{id}`), or an URL with a host (`https://new.example/{*rest}`). The query is kept, behind that of
/// the target, unless [`without_query`](Self::without_query) says otherwise.
///
/// **It is no open redirect.** The host comes from the target as it is configured and from nowhere else, not from `Host`
/// either. What a client sends goes into the path: a leading `//` becomes `/`, and a backslash, a control byte and
/// everything else that is not of a path is percent-encoded.
///
/// In a [`Router`](crate::Router) it is added by [`redirect`](crate::RouterBuilder::redirect), which checks that the route has
/// the parameters. As a service of its own it finds them in the request's [`Matched`]; a request without them is answered
/// with 500.
///
/// ```
/// use buttress_route::Redirect;
///
/// let renamed = Redirect::permanent("/people/{id}")?;
/// let moved = Redirect::moved("https://files.example/v2/{*rest}")?;
/// let secure = Redirect::https("www.example.com")?;
/// assert!(Redirect::found("https://{host}/").is_err());
/// # let _ = (renamed, moved, secure);
/// # Ok::<(), buttress_route::RedirectError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Redirect {
    status: StatusCode,
    /// Scheme and authority, or nothing.
    origin: String,
    target: Vec<Piece>,
    /// Whether the path is the request's own.
    same_path: bool,
    keeps_query: bool,
}

impl Redirect {
    /// Redirects with this status to this target.
    ///
    /// # Errors
    ///
    /// When the status is not 301, 302, 307 or 308, and when the target is no template of a location.
    pub fn new(status: StatusCode, target: &str) -> Result<Self, RedirectError> {
        if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
            return Err(RedirectError::Status { status: status.as_u16() });
        }
        let (origin, target) =
            parse(target).map_err(|rule| RedirectError::Target { target: target.to_owned(), rule })?;
        Ok(Self { status, origin, target, same_path: false, keeps_query: true })
    }

    /// Redirects for good (308).
    ///
    /// # Errors
    ///
    /// When the target is no template of a location.
    pub fn permanent(target: &str) -> Result<Self, RedirectError> {
        Self::new(StatusCode::PERMANENT_REDIRECT, target)
    }

    /// Redirects for now (307).
    ///
    /// # Errors
    ///
    /// When the target is no template of a location.
    pub fn temporary(target: &str) -> Result<Self, RedirectError> {
        Self::new(StatusCode::TEMPORARY_REDIRECT, target)
    }

    /// Redirects for good, as old clients know it (301).
    ///
    /// # Errors
    ///
    /// When the target is no template of a location.
    pub fn moved(target: &str) -> Result<Self, RedirectError> {
        Self::new(StatusCode::MOVED_PERMANENTLY, target)
    }

    /// Redirects for now, as old clients know it (302).
    ///
    /// # Errors
    ///
    /// When the target is no template of a location.
    pub fn found(target: &str) -> Result<Self, RedirectError> {
        Self::new(StatusCode::FOUND, target)
    }

    /// Redirects for good (308) to the same path at this host by `https`: for the router behind the plain port.
    ///
    /// # Errors
    ///
    /// When `host` is not a name or an address, with a port or without.
    pub fn https(host: &str) -> Result<Self, RedirectError> {
        let mut redirect = Self::permanent(&format!("https://{host}/"))?;
        if !redirect.target.iter().eq(&[Piece::Text("/".to_owned())]) {
            let rule = "that is more than a host";
            return Err(RedirectError::Target { target: host.to_owned(), rule });
        }
        redirect.target.clear();
        redirect.same_path = true;
        Ok(redirect)
    }

    /// Leaves the request's query behind.
    #[must_use]
    pub const fn without_query(mut self) -> Self {
        self.keeps_query = false;
        self
    }

    /// The parameters that the target asks for.
    pub(crate) fn params(&self) -> impl Iterator<Item = &str> {
        self.target.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Param(name) | Piece::Rest(name) => Some(name.as_str()),
        })
    }

    pub(crate) fn respond<B, R: ReplyBody>(
        &self,
        matched: Option<&Matched>,
        request: &Request<B>,
    ) -> Response<R> {
        let Some(location) = self.location(matched, request.uri()) else {
            let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR);
            return problem.with_detail("the redirect has no parameters here").reply(Form::of(request));
        };
        let mut response = Response::new(R::reply(Bytes::new()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(LOCATION, location);
        response
    }

    fn location(&self, matched: Option<&Matched>, uri: &Uri) -> Option<HeaderValue> {
        let mut to = self.origin.clone().into_bytes();
        let path = to.len();
        let mut in_query = false;
        for piece in &self.target {
            match piece {
                Piece::Text(text) => {
                    in_query |= text.contains('?');
                    to.extend_from_slice(text.as_bytes());
                }
                Piece::Param(name) | Piece::Rest(name) => {
                    write(&mut to, matched?.raw(name)?, if in_query { is_of_value } else { is_of_path });
                }
            }
        }
        if self.same_path {
            // Of `OPTIONS *` the path is `*`.
            to.push(b'/');
            write(&mut to, uri.path().strip_prefix('/').unwrap_or_default(), is_of_path);
        }
        // `//name` would be another host.
        let more = to[path..].iter().take_while(|&&byte| byte == b'/').count().saturating_sub(1);
        to.drain(path..path + more);
        if self.keeps_query
            && let Some(query) = uri.query()
        {
            to.push(if in_query { b'&' } else { b'?' });
            write(&mut to, query, is_of_query);
        }
        Some(HeaderValue::try_from(to).expect("everything but visible ASCII is encoded"))
    }
}

/// Takes origin and template apart.
fn parse(target: &str) -> Result<(String, Vec<Piece>), &'static str> {
    if let Some(wrong) = target.bytes().find(|byte| !byte.is_ascii_graphic() || b"\\\"<>^`|#".contains(byte))
    {
        return Err(match wrong {
            b'#' => "it has no fragment",
            b'\\' => "it has no backslash",
            _ => "it is written in the ASCII of URIs, all else percent-encoded",
        });
    }
    let path = target.find("://").map_or(0, |at| {
        let authority = at + 3;
        target[authority..].find(['/', '?']).map_or(target.len(), |length| authority + length)
    });
    let (origin, path) = target.split_at(path);
    if !origin.is_empty() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        check_authority(host.ok_or("its scheme is `http` or `https`")?)?;
    }
    if !path.starts_with('/') {
        return Err("its path begins with `/`, behind the host where there is one");
    }
    if path.split('?').next().is_some_and(|path| path.contains("//")) {
        return Err("its path has no empty segment");
    }
    Ok((origin.to_owned(), pieces(path)?))
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    if authority.contains(['{', '}']) {
        return Err("its host has no parameters");
    }
    if authority.contains('@') {
        return Err("it names no user");
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            if port.parse::<u16>().is_err() || port.starts_with('+') {
                return Err("its port is a number up to 65535");
            }
            host
        }
        _ => authority,
    };
    check_name(host).map(drop)
}

/// Writes what a client sent. What is encoded stays so; every byte that is not `plain` is encoded.
fn write(to: &mut Vec<u8>, sent: &str, plain: fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in sent.as_bytes() {
        if plain(byte) {
            to.push(byte);
        } else {
            to.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// `pchar` and the slash (RFC 3986, section 3.3); `%` begins what is encoded already.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

/// A path's byte that means nothing in a query either.
fn is_of_value(byte: u8) -> bool {
    is_of_path(byte) && !b"&=+;".contains(&byte)
}

/// A query is sent on as it came, as far as a field can hold it.
const fn is_of_query(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

impl<B> Service<Request<B>> for Redirect {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(request.extensions().get(), &request)))
    }
}
