use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, Fail, Reject};
use tower_service::Service;

use crate::call::Call;
use crate::shared::Shared;
use crate::{Reach, Sends, TimeoutFuture};

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
    M: Sends<Req> + Reach<S::Response> + Clone,
    S: Service<<M as Sends<Req>>::Sent>,
    J: Reject<Req, <M as Reach<S::Response>>::Out, S::Error> + Clone,
{
    type Response = <M as Reach<S::Response>>::Out;
    type Error = S::Error;
    type Future = TimeoutFuture<S, Req, J, M>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let Self { inner, shared, reject, reach } = self;
        let form = reject.form(&req);
        let start = shared.watch.clock.now();
        let end = shared.limits.end(start, reach.streams(&req));
        let call = Call { shared: shared.clone(), end };
        let (req, progress) = reach.begin(req, &call);
        TimeoutFuture::new(inner.call(req), call, progress, reject.clone(), form, reach.clone())
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
