//! Keys of the route that took a request, for the layers of its stack: a limiter's budget, a breaker, a place on the ring.
//!
//! Both read [`Matched`], so they belong below the router; above it, and in a fallback, there is no key.
//!
//! ```
//! use buttress_route::key;
//!
//! // A budget for each user of each route.
//! let by = (key::template(), key::param("id"));
//! # fn check<K: buttress_core::Key<http::Request<()>>>(_: K) {}
//! # check(by);
//! ```

use buttress_core::{Key, KeySink};
use http::Request;

use crate::Matched;

/// Counts by the template of the route's path: all users of `/users/{id}` together.
///
/// Routes that differ in something else than the path (the host, say) count together; a tuple tells them apart.
#[must_use]
pub const fn template() -> Template {
    Template(())
}

/// The template of the route's path as a key. Made by [`template()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template(());

impl<B> Key<Request<B>> for Template {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        let matched = request.extensions().get::<Matched>();
        matched.map(|matched| to.bytes(matched.template().as_bytes())).is_some()
    }
}

/// Counts by a parameter of the route's path, decoded, so that another spelling is not another key. A route without this
/// parameter has no key.
#[must_use]
pub fn param(name: impl Into<Box<str>>) -> Param {
    Param(name.into())
}

/// A parameter of the route's path as a key. Made by [`param()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param(Box<str>);

impl<B> Key<Request<B>> for Param {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        let value = request.extensions().get::<Matched>().and_then(|matched| matched.bytes(&self.0));
        value.map(|value| to.bytes(&value)).is_some()
    }
}
