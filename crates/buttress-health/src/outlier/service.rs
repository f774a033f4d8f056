use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, ByCause, Classify, Finish};
use tower_service::Service;

use super::guard::{Admitted, Entering, Judge, OutlierCall};
use super::{ByResult, FindFault, OutlierFuture};

/// Judges the calls of one endpoint's service `S`. Made by [`OutlierLayer`](crate::OutlierLayer).
///
/// It passes every call on and changes no answer: who is ejected gets fewer calls because balancers read the endpoint's
/// condition. `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready.
///
/// # Cancel safety
///
/// Nothing is held between calls, and a call that is dropped before its answer counts as nothing.
pub struct Outlier<S, C = ByCause, B = ByResult, F = AtHead> {
    inner: S,
    judge: Arc<Judge<C, B>>,
    finish: F,
}

impl<S, C, B, F> Outlier<S, C, B, F> {
    pub(crate) const fn new(inner: S, judge: Arc<Judge<C, B>>, finish: F) -> Self {
        Self { inner, judge, finish }
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

impl<S, Req, C, B, F> Service<Req> for Outlier<S, C, B, F>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    B: FindFault<S::Response, S::Error>,
    F: Finish<Req, S::Response, OutlierCall<C, B>> + Clone,
{
    type Response = F::Out;
    type Error = S::Error;
    type Future = OutlierFuture<S, Req, C, B, F>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let entering = Entering::new(Admitted::new(&self.judge));
        let form = self.finish.form(&req);
        let future = self.inner.call(req);
        OutlierFuture::new(future, form, self.finish.clone(), entering.entered())
    }
}

impl<S: Clone, C, B, F: Clone> Clone for Outlier<S, C, B, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), judge: Arc::clone(&self.judge), finish: self.finish.clone() }
    }
}

impl<S: fmt::Debug, C, B, F> fmt::Debug for Outlier<S, C, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlier").field("inner", &self.inner).finish_non_exhaustive()
    }
}
