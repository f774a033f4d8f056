use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{AtHead, ByCause, Classify, Finish};
use pin_project::pin_project;
use tower_service::Service;

use super::guard::{Admitted, Armed, OutlierCall};
use super::{ByResult, FindFault};

/// The response future of [`Outlier`](crate::Outlier).
///
/// # Cancel safety
///
/// Dropped before the answer, the call counts as nothing.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct OutlierFuture<S, Req, C = ByCause, B = ByResult, F = AtHead>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, OutlierCall<C, B>>,
{
    #[pin]
    future: S::Future,
    form: F::Form,
    finish: F,
    call: Admitted<C, B>,
}

impl<S, Req, C, B, F> OutlierFuture<S, Req, C, B, F>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, OutlierCall<C, B>>,
{
    #[inline]
    pub(crate) const fn new(future: S::Future, form: F::Form, finish: F, call: Admitted<C, B>) -> Self {
        Self { future, form, finish, call }
    }
}

impl<S, Req, C, B, F> Future for OutlierFuture<S, Req, C, B, F>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    B: FindFault<S::Response, S::Error>,
    F: Finish<Req, S::Response, OutlierCall<C, B>>,
{
    type Output = Result<F::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The inner future and the judges may panic.
        let mut armed = Armed::new(this.call);
        let polled = this.future.poll(cx);
        let followed = match &polled {
            Poll::Pending => None,
            Poll::Ready(Ok(res)) => armed.call().answered::<_, S::Error>(res),
            Poll::Ready(Err(error)) => {
                armed.call().failed::<S::Response, _>(error);
                None
            }
        };
        armed.disarm();
        let res = ready!(polled)?;
        let call = followed.unwrap_or_else(OutlierCall::over::<S::Response, S::Error>);
        Poll::Ready(Ok(this.finish.finish(*this.form, res, call)))
    }
}

impl<S, Req, C, B, F> fmt::Debug for OutlierFuture<S, Req, C, B, F>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, OutlierCall<C, B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierFuture").finish_non_exhaustive()
    }
}
