use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::StickyFuture;
use super::state::State;

/// Keeps clients at their endpoints by a cookie. Made by [`StickyLayer`](crate::StickyLayer).
///
/// `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready.
#[derive(Clone)]
pub struct Sticky<S> {
    inner: S,
    state: Arc<State>,
}

impl<S> Sticky<S> {
    pub(super) const fn new(inner: S, state: Arc<State>) -> Self {
        Self { inner, state }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for Sticky<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = StickyFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let call = self.state.begin(&mut req);
        StickyFuture::new(self.inner.call(req), call)
    }
}

impl<S: fmt::Debug> fmt::Debug for Sticky<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky")
            .field("inner", &self.inner)
            .field("name", &self.state.setup.name)
            .finish_non_exhaustive()
    }
}
