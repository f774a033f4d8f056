use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::Error;

/// Lifts the error type `E` of a service to [`Error<E>`], which can carry a refusal.
///
/// It goes to the bottom of a stack, once: with `ServiceBuilder`, as its last layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiftErrorsLayer {
    _private: (),
}

impl LiftErrorsLayer {
    /// Makes the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for LiftErrorsLayer {
    type Service = LiftErrors<S>;

    fn layer(&self, inner: S) -> LiftErrors<S> {
        LiftErrors::new(inner)
    }
}

/// The service of [`LiftErrorsLayer`].
#[derive(Clone, Copy, Debug)]
pub struct LiftErrors<S> {
    inner: S,
}

impl<S> LiftErrors<S> {
    /// Lifts the errors of `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, Req> Service<Req> for LiftErrors<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = LiftErrorsFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        LiftErrorsFuture { inner: self.inner.call(req) }
    }
}

/// The response future of [`LiftErrors`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct LiftErrorsFuture<F> {
    #[pin]
    inner: F,
}

impl<F, T, E> Future for LiftErrorsFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map_err(Error::Inner)
    }
}

impl<F> fmt::Debug for LiftErrorsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiftErrorsFuture").finish_non_exhaustive()
    }
}
