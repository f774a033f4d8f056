use std::fmt;
use std::task::Waker;

use super::state::{Script, Shared};
use crate::BoxError;

/// Steers and watches all instances of one [`StrictService`](super::StrictService).
///
/// A script (`fail`, `panic_in_call`, …) is for the next call or poll that comes, and is used up by it.
pub struct StrictHandle<E = BoxError> {
    state: Shared<E>,
}

impl<E> StrictHandle<E> {
    pub(super) fn new(state: Shared<E>) -> Self {
        Self { state }
    }

    /// From now on `poll_ready` is pending. Instances already found ready stay so.
    pub fn not_ready(&self) {
        let mut state = self.state.lock();
        state.ready = false;
        state.spare = 0;
    }

    /// From now on every instance is ready; all that wait are woken.
    pub fn ready(&self) {
        let mut state = self.state.lock();
        state.ready = true;
        let wakers: Vec<_> = state.instances.queue.drain(..).filter_map(|(_, waker)| waker).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets one more instance become ready: the one that has waited longest, which is woken, or else the next
    /// that asks.
    ///
    /// This is how a semaphore behaves: a layer that lets one instance wait and then asks another one is
    /// never answered.
    pub fn grant(&self) {
        let waker = self.state.lock().grant();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next `poll_ready` of any instance fails with `error`; instances that wait are woken to see it.
    pub fn fail_ready(&self, error: E) {
        let mut state = self.state.lock();
        state.ready_errors.push_back(error);
        let wakers: Vec<_> = state.instances.queue.iter().filter_map(|(_, waker)| waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The next `poll_ready` of any instance panics, without a message on stderr.
    pub fn panic_in_ready(&self) {
        self.state.lock().panic_in_ready = true;
    }

    /// From now on calls stay pending until they are released.
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Finishes every held call, and from now on calls are answered at once.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.held = false;
        let wakers: Vec<_> = state.calls.queue.drain(..).filter_map(|(_, waker)| waker).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Finishes the call that has been held longest.
    pub fn release_one(&self) {
        let first = self.state.lock().calls.queue.pop_front();
        if let Some((_, Some(waker))) = first {
            waker.wake();
        }
    }

    /// The next call fails with `error` (once released, when calls are held).
    pub fn fail(&self, error: E) {
        self.state.lock().scripts.push_back(Script::Fail(error));
    }

    /// The next call panics inside `call`, without a message on stderr.
    pub fn panic_in_call(&self) {
        self.state.lock().scripts.push_back(Script::PanicInCall);
    }

    /// The next call's future panics (once released, when calls are held), without a message on stderr.
    pub fn panic_in_future(&self) {
        self.state.lock().scripts.push_back(Script::PanicInFuture);
    }

    /// How often an instance was cloned.
    #[must_use]
    pub fn clones(&self) -> usize {
        self.state.lock().counts.clones
    }

    /// How often `poll_ready` was called.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.state.lock().counts.polls
    }

    /// How often `call` was called on a readied instance.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.lock().counts.calls
    }

    /// Calls whose future is neither finished nor dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().counts.in_flight
    }

    /// Calls whose future gave its answer.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.state.lock().counts.finished
    }

    /// Calls whose future was dropped before it gave its answer.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.state.lock().counts.abandoned
    }

    /// Instances that are ready and neither called nor dropped: what they would keep from others.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.state.lock().counts.reserved
    }

    /// Instances that wait to become ready.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().instances.queue.len()
    }

    /// Instances that exist.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.state.lock().counts.alive
    }

    /// How often an instance was called that was not ready. Each of these panicked as well.
    #[must_use]
    pub fn unready_calls(&self) -> usize {
        self.state.lock().counts.unready_calls
    }
}

impl<E> Clone for StrictHandle<E> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<E> fmt::Debug for StrictHandle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.lock().counts.fmt(f)
    }
}
