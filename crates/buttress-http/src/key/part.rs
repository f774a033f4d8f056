use buttress_core::{Key, KeySink};
use http::header::{HOST, HeaderName};
use http::{HeaderValue, Request};

/// Counts by the value of a header field.
///
/// Of several lines the first counts. A request without the field has no key.
///
/// # Panics
///
/// When `name` is not the name of a field.
///
/// ```
/// let by_key = buttress_http::key::header("x-api-key");
/// # let _ = by_key;
/// ```
#[must_use]
pub fn header<N>(name: N) -> Header
where
    N: TryInto<HeaderName, Error: std::fmt::Display>,
{
    Header(name.try_into().unwrap_or_else(|error| panic!("key::header: {error}")))
}

/// The value of a header field as a key. Made by [`header()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(HeaderName);

impl<B> Key<Request<B>> for Header {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        request.headers().get(&self.0).map(|value| to.bytes(value.as_bytes())).is_some()
    }
}

/// Counts by the authority asked for: host and port, in lower case.
///
/// It is the URI's, and without one there that of the field `Host`. The port counts as written: `a.example` and
/// `a.example:80` are two keys.
#[must_use]
pub const fn authority() -> Authority {
    Authority(())
}

/// The authority asked for, as a key. Made by [`authority()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority(());

/// The longest name of the DNS and a port.
const LONGEST_AUTHORITY: usize = 253 + 6;

impl<B> Key<Request<B>> for Authority {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        let of_uri = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let Some(authority) = of_uri.or_else(|| request.headers().get(HOST).map(HeaderValue::as_bytes))
        else {
            return false;
        };
        // What stands before the `@` is for the server, and does not name it.
        let authority = authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default();
        let mut lower = [0; LONGEST_AUTHORITY];
        match lower.get_mut(..authority.len()) {
            Some(lower) => {
                lower.copy_from_slice(authority);
                lower.make_ascii_lowercase();
                to.bytes(lower);
            }
            // No such host exists, so its spelling does not matter.
            None => to.bytes(authority),
        }
        true
    }
}

/// Counts by the path, as it was sent.
///
/// Two spellings of one path (`/a` and `/%61`) are two keys, and clients choose paths: to count by what the
/// application makes of it, take `route()` or a closure.
#[must_use]
pub const fn path() -> Path {
    Path(())
}

/// The path as a key. Made by [`path()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(());

impl<B> Key<Request<B>> for Path {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        to.bytes(request.uri().path().as_bytes());
        true
    }
}

/// Counts by the method.
#[must_use]
pub const fn method() -> Method {
    Method(())
}

/// The method as a key. Made by [`method()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(());

impl<B> Key<Request<B>> for Method {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        to.bytes(request.method().as_str().as_bytes());
        true
    }
}

/// Counts by the template of the route that axum matched, such as `/users/{id}`.
///
/// axum knows it in layers added by `Router::layer` and `Router::route_layer`; around the whole router, and in
/// a fallback, there is none and the request has no key.
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
#[must_use]
pub const fn route() -> Route {
    Route(())
}

/// The route's template as a key. Made by [`route()`].
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route(());

#[cfg(feature = "axum")]
impl<B> Key<Request<B>> for Route {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        let route = request.extensions().get::<axum::extract::MatchedPath>();
        route.map(|route| to.bytes(route.as_str().as_bytes())).is_some()
    }
}
