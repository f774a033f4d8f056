use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use buttress_core::{Cause, Classify};
use tower_service::Service;

use crate::future::Call;
use crate::handle::count;
use crate::layer::Settings;
use crate::{Answers, Http, Reads, Repeat, RetryFuture};

/// Tries again what fails. Made by [`RetryLayer`](crate::RetryLayer).
///
/// `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready. The first
/// attempt calls the instance that was readied; each further one readies and calls a clone of its own, which is made when
/// it is needed.
///
/// # Cancel safety
///
/// Dropping the response future drops the attempt, or the wait for the next one; nothing stays behind. What was withdrawn
/// from the budget is not given back: the attempt it was for may have been made.
pub struct Retry<S, R = Http, C = Answers> {
    inner: S,
    core: Arc<Core<S, R, C>>,
}

/// What the clones of one service share.
pub(crate) struct Core<S, R, C> {
    pub(crate) settings: Settings,
    pub(crate) repeat: R,
    pub(crate) classify: C,
    /// What further attempts are cloned from, so that a call which needs none clones nothing.
    seed: Mutex<S>,
}

impl<S: Clone, R, C> Core<S, R, C> {
    /// An instance for one attempt; it is not ready.
    pub(crate) fn instance(&self) -> S {
        // Cloned under the lock, since `S` need not be `Sync`: a `clone` that waits for another call would wait for ever.
        self.seed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Clone, R, C> Retry<S, R, C> {
    pub(crate) fn new(inner: S, settings: Settings, repeat: R, classify: C) -> Self {
        let seed = Mutex::new(inner.clone());
        Self { inner, core: Arc::new(Core { settings, repeat, classify, seed }) }
    }
}

impl<S, R, C> Retry<S, R, C> {
    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it. Further attempts go to what the layer was given, and do not see the change.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, C, Req> Service<Req> for Retry<S, R, C>
where
    R: Repeat<Req> + Reads<S::Response>,
    S: Service<<R as Repeat<Req>>::Sent> + Clone,
    S::Error: Cause,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, R, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let Settings { budget, tally, watch, attempts, overall, elsewhere, .. } = &self.core.settings;
        let now = watch.clock.now();
        let (req, terms) = self.core.repeat.begin(req, *attempts > 1, *elsewhere);
        count(&tally.calls);
        // What a layer above tries again is no original.
        if terms.attempt <= 1 {
            budget.deposit(now);
        }
        let deadline = terms.deadline.min(now + *overall);
        RetryFuture::new(self.inner.call(req), Call::new(self.core.clone(), terms, deadline))
    }
}

impl<S: Clone, R, C> Clone for Retry<S, R, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), core: self.core.clone() }
    }
}

impl<S: fmt::Debug, R, C> fmt::Debug for Retry<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("settings", &self.core.settings)
            .finish_non_exhaustive()
    }
}
