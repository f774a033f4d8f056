use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

use crate::policy::{Ranges, RouteInfo, Table};

/// The route that took a request, and its parameters: an extension of the request.
///
/// The template is what to label metrics with: there are as many as routes, while clients make as many paths as they like.
///
/// ```
/// use buttress_route::{Fixed, Matched, Route, Router};
/// use http::{Request, StatusCode};
///
/// # type Service = tower::util::BoxCloneSyncService<(), (), ()>;
/// let router: Router<Service> =
///     Router::builder().respond(Route::get("/users/{id}"), Fixed::new(StatusCode::OK)).build()?;
/// let matched = router.find(&Request::get("/users/a%20b").body(()).unwrap()).unwrap();
/// assert_eq!(matched.template(), "/users/{id}");
/// assert_eq!(matched.param("id").unwrap(), "a b");
/// assert_eq!(matched.raw("id"), Some("a%20b"));
/// # Ok::<(), buttress_route::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Matched {
    table: Arc<Table>,
    /// The layers below may write another path into the request.
    path: PathAndQuery,
    route: u32,
    ranges: Ranges,
}

impl Matched {
    pub(crate) const fn new(table: Arc<Table>, path: PathAndQuery, route: u32, ranges: Ranges) -> Self {
        Self { table, path, route, ranges }
    }

    fn info(&self) -> &RouteInfo {
        self.table.route(self.route)
    }

    /// The template of the path, as the route has it.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.info().path
    }

    /// The host, as the route has it: `*.example.com`, say. `None` where it takes every host.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.info().host.as_deref()
    }

    /// A parameter as it was sent: percent-encoded, as another URI wants it.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        let at = self.info().names.iter().position(|known| **known == *name)?;
        Some(&self.path.path()[self.ranges.get(at)])
    }

    /// A parameter, decoded; where that is not UTF-8, as it was sent. It is copied only if something is decoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        let raw = self.raw(name)?;
        Some(percent_decode_str(raw).decode_utf8().unwrap_or(Cow::Borrowed(raw)))
    }

    /// The bytes of a parameter, decoded.
    pub(crate) fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        Some(percent_decode_str(self.raw(name)?).into())
    }

    /// All parameters as they were sent, in the order of the template.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.info().names.iter().enumerate();
        names.map(|(at, name)| (&**name, &self.path.path()[self.ranges.get(at)]))
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<_> = self.params().collect();
        f.debug_struct("Matched")
            .field("host", &self.host())
            .field("template", &self.template())
            .field("params", &params)
            .finish()
    }
}
