//! Which calls were routed before something changed, and when the last of them is over.
//!
//! Each call holds the epoch that it began in. Whoever changes where keys are starts the next one. An epoch that is over
//! holds the one after it, so one is dropped only when all before it are, and then it says so.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

pub(crate) struct Epochs(ArcSwap<Epoch>);

pub(crate) struct Epoch {
    next: OnceLock<Arc<Self>>,
    /// Dropped with the epoch.
    _over: oneshot::Sender<Infallible>,
    settled: Mutex<Option<oneshot::Receiver<Infallible>>>,
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::new(Epoch::new()))
    }

    /// What a call holds as long as it is under way; to be taken before it looks where its key is.
    pub(crate) fn enter(&self) -> Arc<Epoch> {
        self.0.load_full()
    }

    /// Begins the next epoch, and tells when all calls of the former ones are over; to be called after the change.
    pub(crate) fn next(&self) -> Settled {
        let next = Epoch::new();
        let former = self.0.swap(Arc::clone(&next));
        let settled = former.settled.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first = former.next.set(next).is_ok();
        debug_assert!(first, "an epoch ends once");
        Settled(settled.expect("an epoch ends once"))
    }
}

impl Epoch {
    fn new() -> Arc<Self> {
        let (over, settled) = oneshot::channel();
        Arc::new(Self { next: OnceLock::new(), _over: over, settled: Mutex::new(Some(settled)) })
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // One by one: a chain of them dropped in each other would need a deep stack.
        let mut next = self.next.take();
        while let Some(mut epoch) = next.and_then(Arc::into_inner) {
            next = epoch.next.take();
        }
    }
}

/// Ends when every call that was routed before it was made is over: its future has answered or was dropped. Calls that come
/// later are not waited for.
///
/// # Cancel safety
///
/// Dropping it changes nothing.
#[must_use = "futures do nothing unless polled"]
pub struct Settled(oneshot::Receiver<Infallible>);

impl Future for Settled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(settled: &mut Settled) -> bool {
        Pin::new(settled).poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn an_epoch_is_settled_once_it_and_all_before_it_are_left() {
        let epochs = Epochs::new();
        let first = epochs.enter();
        let mut after_first = epochs.next();
        let second = epochs.enter();
        let mut after_second = epochs.next();
        let _third = epochs.enter();

        drop(second);
        assert!(!over(&mut after_first) && !over(&mut after_second));
        drop(first);
        assert!(over(&mut after_first) && over(&mut after_second));
    }

    #[test]
    fn a_call_may_outlast_any_number_of_epochs() {
        let epochs = Epochs::new();
        let call = epochs.enter();
        let mut last = epochs.next();
        for _ in 0..200_000 {
            last = epochs.next();
        }
        assert!(!over(&mut last));
        drop(call);
        assert!(over(&mut last));
    }
}
