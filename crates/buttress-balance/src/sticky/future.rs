use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project::pin_project;

use super::state::Call;

/// The response future of [`Sticky`](crate::Sticky).
///
/// # Cancel safety
///
/// It holds nothing that would have to be given back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct StickyFuture<F> {
    #[pin]
    inner: F,
    call: Option<Call>,
}

impl<F> StickyFuture<F> {
    pub(super) const fn new(inner: F, call: Call) -> Self {
        Self { inner, call: Some(call) }
    }
}

impl<F, B, E> Future for StickyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(res), Some(call)) = (&mut result, this.call.take()) {
            call.end(res);
        }
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for StickyFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyFuture").field("is_over", &self.call.is_none()).finish_non_exhaustive()
    }
}
