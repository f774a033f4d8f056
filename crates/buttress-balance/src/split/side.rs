#[cfg(feature = "http")]
use std::sync::Arc;

#[cfg(feature = "http")]
use http::{HeaderName, HeaderValue, Request};

/// Says which side of a [`Split`](crate::Split) a request goes to, whatever its key and the weights are: for a test of a
/// canary that has no traffic yet, say.
///
/// A closure is one when its argument's type is written out: `|request: &Request<Body>| …`. `None` leaves the choice to the
/// split. A side that there is not counts as `None`, and is told and counted.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say a side for a `{Req}`",
    note = "a closure does when its argument's type is written out: `|req: &Request<Body>| Some(1)`"
)]
pub trait Override<Req> {
    /// The side, counted from 0.
    fn side(&self, req: &Req) -> Option<usize>;
}

impl<Req, F> Override<Req> for F
where
    F: Fn(&Req) -> Option<usize>,
{
    #[inline]
    fn side(&self, req: &Req) -> Option<usize> {
        self(req)
    }
}

/// No override: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct NoOverride;

impl<Req> Override<Req> for NoOverride {
    #[inline]
    fn side(&self, _: &Req) -> Option<usize> {
        None
    }
}

/// The side that the value of a header field names. Made by [`Split::override_header`](crate::Split::override_header).
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
#[derive(Clone, Debug)]
pub struct ByHeader {
    pub(crate) field: HeaderName,
    pub(crate) sides: Arc<[(HeaderValue, usize)]>,
}

#[cfg(feature = "http")]
impl<B> Override<Request<B>> for ByHeader {
    fn side(&self, req: &Request<B>) -> Option<usize> {
        // Of several lines the first counts.
        let value = req.headers().get(&self.field)?;
        self.sides.iter().find(|(named, _)| named == value).map(|(_, side)| *side)
    }
}
