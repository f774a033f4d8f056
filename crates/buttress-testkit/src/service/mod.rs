mod fault;
mod handle;
mod state;

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

pub use fault::Fault;
pub use handle::StrictHandle;

use crate::BoxError;
use state::{Script, Shared};

/// An inner service that forgives nothing, and the mock of choice for a layer's tests.
///
/// `tower::service_fn` is always ready, so a layer that forgets `poll_ready`, or readies one clone and calls
/// another, passes every test written with it and fails under load. This service
///
/// - forgets its readiness when it is cloned, and after each call, as real services do;
/// - panics when it is called without having been readied, and when its future is polled after its end;
/// - counts clones, polls, calls, calls in flight, readied instances and waiting instances;
/// - waits, fails and panics where the test's [`StrictHandle`] tells it to.
///
/// With no script it is always ready and answers at once with what the closure gives. Neither a ready
/// `poll_ready` nor a `call` allocates, so that a layer's own allocations can be counted around it.
///
/// ```
/// use buttress_testkit::{BoxError, StrictService, Task};
/// use tower_service::Service;
///
/// let (mut service, handle) = StrictService::<u32, u32, BoxError>::new(|n| n + 1);
/// handle.hold();
///
/// let mut ready = Task::new(std::future::poll_fn(|cx| service.poll_ready(cx)));
/// assert!(ready.run().is_ready());
/// drop(ready);
///
/// let mut call = Task::new(service.call(1));
/// assert!(call.run().is_pending());
/// assert_eq!(handle.in_flight(), 1);
///
/// handle.release();
/// assert!(call.is_woken());
/// assert!(matches!(call.run(), std::task::Poll::Ready(Ok(2))));
/// ```
pub struct StrictService<Req, Res, E = BoxError> {
    answer: Arc<dyn Fn(Req) -> Res + Send + Sync>,
    state: Shared<E>,
    id: u64,
    ready: bool,
}

impl<Req, Res, E> StrictService<Req, Res, E> {
    /// Makes a service that answers each request with `answer`, and the handle that steers it.
    pub fn new(answer: impl Fn(Req) -> Res + Send + Sync + 'static) -> (Self, StrictHandle<E>) {
        let state = Shared::new();
        let id = state.lock().new_instance();
        let handle = StrictHandle::new(state.clone());
        (Self { answer: Arc::new(answer), state, id, ready: false }, handle)
    }
}

impl<Req, Res, E> Service<Req> for StrictService<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = StrictFuture<Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut state = self.state.lock();
        state.counts.polls += 1;

        if std::mem::take(&mut state.panic_in_ready) {
            drop(state);
            resume_unwind(Box::new("the inner service panics in poll_ready, as scripted"));
        }
        if let Some(error) = state.ready_errors.pop_front() {
            return Poll::Ready(Err(error));
        }
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        if state.admit(self.id) {
            self.ready = true;
            state.counts.reserved += 1;
            return Poll::Ready(Ok(()));
        }
        state.instances.wait(self.id, cx.waker());
        Poll::Pending
    }

    /// # Panics
    ///
    /// When this instance was not readied by `poll_ready` since it was made, cloned or last called.
    fn call(&mut self, req: Req) -> Self::Future {
        let script = {
            let mut state = self.state.lock();
            if !self.ready {
                state.counts.unready_calls += 1;
                drop(state);
                panic!("StrictService: called an instance that no poll_ready had found ready");
            }
            self.ready = false;
            state.counts.reserved -= 1;
            state.counts.calls += 1;
            state.scripts.pop_front()
        };

        if let Some(Script::PanicInCall) = script {
            resume_unwind(Box::new("the inner service panics in call, as scripted"));
        }
        let outcome = match script {
            Some(Script::Fail(error)) => Outcome::Answer(Err(error)),
            Some(Script::PanicInFuture) => Outcome::Panic,
            Some(Script::PanicInCall) | None => Outcome::Answer(Ok((self.answer)(req))),
        };

        let mut state = self.state.lock();
        let id = state.new_id();
        state.counts.in_flight += 1;
        if state.held {
            state.calls.queue.push_back((id, None));
        }
        drop(state);
        StrictFuture { state: self.state.clone(), id, outcome }
    }
}

/// A clone is a new instance: it is not ready, whatever the original is.
impl<Req, Res, E> Clone for StrictService<Req, Res, E> {
    fn clone(&self) -> Self {
        let mut state = self.state.lock();
        state.counts.clones += 1;
        let id = state.new_instance();
        drop(state);
        Self { answer: self.answer.clone(), state: self.state.clone(), id, ready: false }
    }
}

impl<Req, Res, E> Drop for StrictService<Req, Res, E> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.counts.alive -= 1;
        if self.ready {
            state.counts.reserved -= 1;
        }
        // A readiness granted to an instance that goes away is the next one's, as with a semaphore.
        let next = if state.instances.leave(self.id) { state.grant() } else { None };
        drop(state);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

impl<Req, Res, E> fmt::Debug for StrictService<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrictService").field("instance", &self.id).field("ready", &self.ready).finish()
    }
}

/// The response future of a [`StrictService`].
pub struct StrictFuture<Res, E> {
    state: Shared<E>,
    id: u64,
    outcome: Outcome<Res, E>,
}

enum Outcome<Res, E> {
    Answer(Result<Res, E>),
    Panic,
    Taken,
}

/// Nothing in it is pinned.
impl<Res, E> Unpin for StrictFuture<Res, E> {}

impl<Res, E> Future for StrictFuture<Res, E> {
    type Output = Result<Res, E>;

    /// # Panics
    ///
    /// When polled again after it was ready, or when the test scripted a panic.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let mut state = self.state.lock();
        if state.calls.queue.iter().any(|(waiting, _)| *waiting == id) {
            state.calls.wait(id, cx.waker());
            return Poll::Pending;
        }
        drop(state);

        match std::mem::replace(&mut self.outcome, Outcome::Taken) {
            Outcome::Answer(answer) => {
                let mut state = self.state.lock();
                state.calls.leave(id);
                state.counts.in_flight -= 1;
                state.counts.finished += 1;
                drop(state);
                Poll::Ready(answer)
            }
            Outcome::Panic => {
                // Still in flight: as with an `async` block, dropping the future ends the call.
                self.outcome = Outcome::Panic;
                resume_unwind(Box::new("the inner service panics in its future, as scripted"));
            }
            Outcome::Taken => panic!("StrictFuture: polled again after it was ready"),
        }
    }
}

impl<Res, E> Drop for StrictFuture<Res, E> {
    fn drop(&mut self) {
        if let Outcome::Taken = self.outcome {
            return;
        }
        let mut state = self.state.lock();
        state.calls.leave(self.id);
        state.counts.in_flight -= 1;
        state.counts.abandoned += 1;
    }
}

impl<Res, E> fmt::Debug for StrictFuture<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrictFuture").field("call", &self.id).finish_non_exhaustive()
    }
}
