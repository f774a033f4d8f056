use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, Fail, Reject};
use tower_service::Service;

use crate::reach::sealed::Call;
use crate::shared::Shared;
use crate::{Reach, TimeoutFuture};

/// The service of [`TimeoutLayer`](crate::TimeoutLayer).
#[derive(Clone)]
pub struct Timeout<S, J = Fail, M = AtHead> {
    inner: S,
    shared: Arc<Shared>,
    reject: J,
    reach: M,
}

impl<S, J, M> Timeout<S, J, M> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>, reject: J, reach: M) -> Self {
        Self { inner, shared, reject, reach }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<S, J, M, Req> Service<Req> for Timeout<S, J, M>
where
    S: Service<Req>,
    M: Reach<Req, S::Response> + Clone,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error> + Clone,
{
    type Response = <M as Reach<Req, S::Response>>::Out;
    type Error = S::Error;
    type Future = TimeoutFuture<S, Req, J, M>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let form = self.reject.form(&req);
        let streams = self.reach.streams(&req);
        let start = self.shared.watch.clock.now();
        let end = self.shared.limits.end(start, streams);
        let call = Call { shared: self.shared.clone(), start, end };
        TimeoutFuture::new(self.inner.call(req), call, self.reject.clone(), form, self.reach.clone())
    }
}

impl<S: fmt::Debug, J, M> fmt::Debug for Timeout<S, J, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("inner", &self.inner)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
