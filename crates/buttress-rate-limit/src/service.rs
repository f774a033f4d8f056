use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{Decided, Fail, Global, Key, Reject, Store};
use tower_service::Service;

use crate::gate::{Course, Gate};
use crate::{Memory, RateLimitFuture};

/// Limits how often the service `S` is called. Made by [`RateLimitLayer`](crate::RateLimitLayer).
///
/// `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready. The
/// decision is made in `call`, and a refused call does not touch `S`.
///
/// # Cancel safety
///
/// Nothing is held between calls or across one. A call counts when it is made: dropping its future does not give
/// the unit back, whether or not `S` was called.
pub struct RateLimit<S, K = Global, J = Fail, St = Memory> {
    inner: S,
    gate: Arc<Gate<K, J, St>>,
}

impl<S, K, J, St> RateLimit<S, K, J, St> {
    pub(crate) const fn new(inner: S, gate: Arc<Gate<K, J, St>>) -> Self {
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

impl<S, Req, K, J, St> Service<Req> for RateLimit<S, K, J, St>
where
    S: Service<Req> + Clone,
    K: Key<Req>,
    J: Reject<Req, S::Response, S::Error>,
    St: Store,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RateLimitFuture<S, Req, K, J, St>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let gate = &self.gate;
        match gate.decide(&req) {
            Course::Decided(decision) if decision.admitted() => {
                let note =
                    gate.annotate_success.then(|| (Arc::clone(gate), gate.reject.form(&req), decision));
                RateLimitFuture::called(self.inner.call(req), note)
            }
            Course::Decided(decision) => {
                RateLimitFuture::refused(gate.refuse(gate.reject.form(&req), &decision))
            }
            Course::Later(cost, wait) => {
                let form = gate.reject.form(&req);
                let gate = Arc::clone(gate);
                let fresh = self.inner.clone();
                // What was readied is called, not its clone.
                let ready = mem::replace(&mut self.inner, fresh);
                RateLimitFuture::waiting(wait, ready, req, gate, form, cost)
            }
            Course::Uncounted => RateLimitFuture::called(self.inner.call(req), None),
            Course::Denied => RateLimitFuture::refused(gate.deny(gate.reject.form(&req))),
        }
    }
}

impl<S: Clone, K, J, St> Clone for RateLimit<S, K, J, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S: fmt::Debug, K, J, St> fmt::Debug for RateLimit<S, K, J, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("name", &self.gate.name)
            .finish_non_exhaustive()
    }
}
