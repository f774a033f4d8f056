use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, ByCause, Classify, Fail, Finish, Reject, Rejection, RejectionKind};
use tower_service::Service;

use crate::HealthFuture;
use crate::call::{Admitted, Armed, HealthCall, Judge};

/// The service of [`HealthLayer`](crate::HealthLayer).
///
/// `poll_ready` is that of `S`: with [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready. The decision
/// is made in `call`, and a refused call does not touch `S`.
///
/// # Cancel safety
///
/// Nothing is held between calls. A call that is dropped before it is judged is not marked.
pub struct Health<S, J = Fail, C = ByCause, F = AtHead> {
    inner: S,
    gate: Arc<Gate<J, C, F>>,
}

/// A layer's settings, shared by the services that it makes.
pub(crate) struct Gate<J, C, F> {
    pub(crate) reject: J,
    pub(crate) finish: F,
    pub(crate) while_failing: bool,
    pub(crate) judge: Arc<Judge<C>>,
}

impl<S, J, C, F> Health<S, J, C, F> {
    pub(crate) const fn new(inner: S, gate: Arc<Gate<J, C, F>>) -> Self {
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

impl<S, Req, J, C, F> Service<Req> for Health<S, J, C, F>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    F: Finish<Req, S::Response, HealthCall<C>> + Clone,
    J: Reject<Req, F::Out, S::Error>,
{
    type Response = F::Out;
    type Error = S::Error;
    type Future = HealthFuture<S, Req, C, F>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let Gate { reject, finish, while_failing, judge } = &*self.gate;
        if judge.inner.refuses(*while_failing).is_some() {
            let rejection = Rejection::new(RejectionKind::NotReady).with_policy(judge.inner.name().clone());
            return HealthFuture::refused(reject.reject(reject.form(&req), rejection.with_elsewhere()));
        }
        let form = finish.form(&req);
        let mut call = Admitted::new(judge);
        let armed = Armed::new(&mut call);
        let future = self.inner.call(req);
        armed.disarm();
        HealthFuture::called(future, form, finish.clone(), call)
    }
}

impl<S: Clone, J, C, F> Clone for Health<S, J, C, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S: fmt::Debug, J, C, F> fmt::Debug for Health<S, J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("inner", &self.inner)
            .field("readiness", self.gate.judge.inner.name())
            .finish_non_exhaustive()
    }
}
