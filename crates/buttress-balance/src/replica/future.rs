use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::OnCallFuture;
use pin_project::pin_project;
use tower_service::Service;

use super::Tokens;
use super::rules::{Rules, Shared};

/// The response future of [`ReplicaSplit`](crate::ReplicaSplit).
///
/// # Cancel safety
///
/// Dropping it drops the call. A write that is dropped counts as one that may have been done.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ReplicaSplitFuture<S, Req, K, A, T, J>
where
    S: Service<Req>,
{
    #[pin]
    state: State<OnCallFuture<S, Req>, Result<S::Response, S::Error>>,
    write: Option<Write<K, A, T, J>>,
}

#[pin_project(project = StateProj)]
enum State<F, O> {
    Called {
        #[pin]
        future: F,
    },
    /// Refused: the answer is there.
    Refused { result: Option<O> },
}

/// A write under way. However it ends, its key is to be read at the primary.
pub(crate) struct Write<K, A, T, J> {
    shared: Arc<Shared>,
    rules: Arc<Rules<K, A, T, J>>,
    key: Option<u64>,
    /// That in which it was begun, before it was made.
    epoch: u64,
    /// The position that its answer gave.
    token: Option<u64>,
}

impl<K, A, T, J> Write<K, A, T, J> {
    pub(crate) fn new(shared: &Arc<Shared>, rules: &Arc<Rules<K, A, T, J>>, key: Option<u64>) -> Self {
        let epoch = shared.policy.epoch();
        Self { shared: Arc::clone(shared), rules: Arc::clone(rules), key, epoch, token: None }
    }
}

impl<K, A, T, J> Drop for Write<K, A, T, J> {
    fn drop(&mut self) {
        // Not before: reads while it is under way may come before it or after it.
        self.shared.policy.wrote_in(self.epoch, self.key, self.token, self.shared.clock.now());
    }
}

impl<S, Req, K, A, T, J> ReplicaSplitFuture<S, Req, K, A, T, J>
where
    S: Service<Req>,
{
    pub(crate) const fn called(future: OnCallFuture<S, Req>, write: Option<Write<K, A, T, J>>) -> Self {
        Self { state: State::Called { future }, write }
    }

    pub(crate) const fn refused(result: Result<S::Response, S::Error>) -> Self {
        Self { state: State::Refused { result: Some(result) }, write: None }
    }
}

impl<S, Req, K, A, T, J> Future for ReplicaSplitFuture<S, Req, K, A, T, J>
where
    S: Service<Req>,
    T: Tokens<Req, S::Response>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.state.project() {
            StateProj::Called { future } => {
                let result = ready!(future.poll(cx));
                if let Some(mut write) = this.write.take()
                    && let Ok(response) = &result
                {
                    write.token = write.rules.tokens.written(response);
                }
                Poll::Ready(result)
            }
            StateProj::Refused { result } => Poll::Ready(result.take().expect("polled after it was ready")),
        }
    }
}

impl<S, Req, K, A, T, J> fmt::Debug for ReplicaSplitFuture<S, Req, K, A, T, J>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.state, &self.write) {
            (State::Called { .. }, Some(_)) => "writing",
            (State::Called { .. }, None) => "reading",
            (State::Refused { .. }, _) => "refused",
        };
        f.debug_tuple("ReplicaSplitFuture").field(&state).finish()
    }
}
