use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, ByCause, Classify, Fail, Finish, Global, Key, Reject};
use tower_service::Service;

use crate::CircuitBreakerFuture;
use crate::call::{Call, Entering};
use crate::gate::Gate;

/// Stops calling the service `S` while it fails. Made by [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
///
/// `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready. The
/// decision is made in `call`, and a refused call does not touch `S`.
///
/// # Cancel safety
///
/// Nothing is held between calls. What a call holds (a probe's permit, its place among the results) goes back when its
/// future, or with [`ToEnd`](crate::ToEnd) its body, is dropped.
pub struct CircuitBreaker<S, K = Global, J = Fail, C = ByCause, F = AtHead> {
    inner: S,
    gate: Arc<Gate<K, J, C, F>>,
}

impl<S, K, J, C, F> CircuitBreaker<S, K, J, C, F> {
    pub(crate) const fn new(inner: S, gate: Arc<Gate<K, J, C, F>>) -> Self {
        Self { inner, gate }
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

impl<S, Req, K, J, C, F> Service<Req> for CircuitBreaker<S, K, J, C, F>
where
    S: Service<Req>,
    K: Key<Req>,
    C: Classify<S::Response, S::Error>,
    F: Finish<Req, S::Response, Call<C>> + Clone,
    J: Reject<Req, F::Out, S::Error>,
{
    type Response = F::Out;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S, Req, C, F>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let gate = &*self.gate;
        match gate.admit(&req) {
            Ok(call) => {
                let entering = Entering::new(call);
                let form = gate.finish.form(&req);
                let future = self.inner.call(req);
                let mut call = entering.entered();
                if gate.finish.streams(form) {
                    call.streams();
                }
                CircuitBreakerFuture::called(future, form, gate.finish.clone(), call)
            }
            Err(refused) => CircuitBreakerFuture::refused(gate.refuse(&req, &refused)),
        }
    }
}

impl<S: Clone, K, J, C, F> Clone for CircuitBreaker<S, K, J, C, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S: fmt::Debug, K, J, C, F> fmt::Debug for CircuitBreaker<S, K, J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("name", self.gate.name())
            .finish_non_exhaustive()
    }
}
