//! What waits for the moments of a shutdown.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_util::future::{Either, select};

use super::schedule::Schedule;
use crate::Shutdown;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Completes when no connection is to be accepted any more: see [`Shutdown::stopping`].
#[must_use = "futures do nothing unless polled"]
pub struct Stopping(Boxed<()>);

/// Completes when what is open is to be cut off: see [`Shutdown::aborting`].
#[must_use = "futures do nothing unless polled"]
pub struct Aborting(Boxed<()>);

/// Completes when all is over: see [`Shutdown::finished`].
#[must_use = "futures do nothing unless polled"]
pub struct Finished(Boxed<Ended>);

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// All connections were over.
    Drained,
    /// The grace was over, or a second signal came.
    Aborted,
}

/// The shutdown was aborted before it was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shutdown was aborted with work left to do")]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct Aborted;

impl Stopping {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let shutdown = shutdown.clone();
        Self(Box::pin(async move { shutdown.until(Schedule::stop_accepting_at).await }))
    }
}

impl Aborting {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let shutdown = shutdown.clone();
        Self(Box::pin(async move { shutdown.until(Schedule::abort_at).await }))
    }
}

impl Finished {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let shutdown = shutdown.clone();
        Self(Box::pin(async move {
            shutdown.until(Schedule::stop_accepting_at).await;
            match select(pin!(shutdown.drained()), Aborting::new(&shutdown)).await {
                Either::Left((true, _)) => Ended::Drained,
                _ => Ended::Aborted,
            }
        }))
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Future for Aborting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Future for Finished {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

impl fmt::Debug for Aborting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aborting").finish_non_exhaustive()
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").finish_non_exhaustive()
    }
}
