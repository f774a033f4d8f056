//! Timeouts of `buttress-timeout`, below the attempts of a call and above them.

use std::time::Duration;

use buttress_core::{Clock, Name, Wrap};
use buttress_timeout::{Timeout, TimeoutLayer};

/// No timeout: the service stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTimeout;

/// A timeout: the service becomes a [`Timeout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WithTimeout;

/// Whether a service is wrapped into a timeout: [`NoTimeout`], which leaves it as it is and asks nothing of its error, or
/// [`WithTimeout`].
pub trait Within<S>: sealed::Sealed {
    /// The service in its limits.
    type Service;

    #[doc(hidden)]
    fn within(&self, inner: S, limit: Duration, clock: &Clock, name: Option<&Name>) -> Self::Service;
}

impl<S> Within<S> for NoTimeout {
    type Service = S;

    fn within(&self, inner: S, _: Duration, _: &Clock, _: Option<&Name>) -> S {
        inner
    }
}

impl<S> Within<S> for WithTimeout {
    type Service = Timeout<S>;

    fn within(&self, inner: S, limit: Duration, clock: &Clock, name: Option<&Name>) -> Timeout<S> {
        let layer = TimeoutLayer::head(limit).clock(clock.clone());
        let layer = match name {
            Some(name) => layer.named(name.clone()),
            None => layer,
        };
        layer.wrap(inner)
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "that it has no name is what seals it")]
    pub trait Sealed {}
    impl Sealed for super::NoTimeout {}
    impl Sealed for super::WithTimeout {}
}
