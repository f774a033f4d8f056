use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tower_service::Service;

use crate::BoxError;

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
        let state = Shared(Arc::new(Mutex::new(State::new())));
        let id = state.lock().new_instance();
        let handle = StrictHandle { state: state.clone() };
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

/// Steers and watches all instances of one [`StrictService`].
///
/// A script (`fail`, `panic_in_call`, …) is for the next call or poll that comes, and is used up by it.
pub struct StrictHandle<E = BoxError> {
    state: Shared<E>,
}

impl<E> StrictHandle<E> {
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

/// An error type that the contract suite can make one of, to see how a layer takes a failing inner service.
///
/// Implemented for [`BoxError`], `String`, `std::io::Error`, `buttress_core::Error` and `Infallible` (of which there is none). For
/// an error of your own, write one line.
pub trait Fault: Sized + Send + 'static {
    /// Makes an error, or says that there are none of this type.
    fn fault() -> Option<Self>;
}

impl Fault for BoxError {
    fn fault() -> Option<Self> {
        Some("the inner service fails, as scripted".into())
    }
}

impl Fault for std::io::Error {
    fn fault() -> Option<Self> {
        Some(Self::other("the inner service fails, as scripted"))
    }
}

impl Fault for String {
    fn fault() -> Option<Self> {
        Some("the inner service fails, as scripted".to_owned())
    }
}

impl<E: Fault> Fault for buttress_core::Error<E> {
    fn fault() -> Option<Self> {
        E::fault().map(Self::Inner)
    }
}

impl Fault for Infallible {
    fn fault() -> Option<Self> {
        None
    }
}

struct Shared<E>(Arc<Mutex<State<E>>>);

impl<E> Shared<E> {
    /// Our own code never panics under this lock; a poisoned one still holds a good state.
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct State<E> {
    ready: bool,
    /// Grants that nobody has taken.
    spare: usize,
    held: bool,
    panic_in_ready: bool,
    ready_errors: VecDeque<E>,
    scripts: VecDeque<Script<E>>,
    instances: Waiters,
    calls: Waiters,
    next_id: u64,
    counts: Counts,
}

enum Script<E> {
    Fail(E),
    PanicInCall,
    PanicInFuture,
}

#[derive(Debug, Default)]
struct Counts {
    clones: usize,
    polls: usize,
    calls: usize,
    in_flight: usize,
    finished: usize,
    abandoned: usize,
    reserved: usize,
    alive: usize,
    unready_calls: usize,
}

impl<E> State<E> {
    fn new() -> Self {
        Self {
            ready: true,
            spare: 0,
            held: false,
            panic_in_ready: false,
            ready_errors: VecDeque::new(),
            scripts: VecDeque::new(),
            instances: Waiters::default(),
            calls: Waiters::default(),
            next_id: 0,
            counts: Counts::default(),
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn new_instance(&mut self) -> u64 {
        self.counts.alive += 1;
        self.new_id()
    }

    fn admit(&mut self, id: u64) -> bool {
        if self.instances.granted.contains(&id) || self.ready {
            self.instances.leave(id);
            return true;
        }
        // Who comes late does not overtake who waits.
        let first = self.instances.queue.front().is_none_or(|(waiting, _)| *waiting == id);
        if first && self.spare > 0 {
            self.spare -= 1;
            self.instances.leave(id);
            return true;
        }
        false
    }

    fn grant(&mut self) -> Option<Waker> {
        let next = self.instances.grant();
        if next.is_none() {
            self.spare += 1;
        }
        next
    }
}

/// Who waits, oldest first, and who was let through but has not come back yet.
#[derive(Default)]
struct Waiters {
    queue: VecDeque<(u64, Option<Waker>)>,
    granted: Vec<u64>,
}

impl Waiters {
    fn wait(&mut self, id: u64, waker: &Waker) {
        match self.queue.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, slot)) => *slot = Some(waker.clone()),
            None => self.queue.push_back((id, Some(waker.clone()))),
        }
    }

    fn grant(&mut self) -> Option<Waker> {
        let (id, waker) = self.queue.pop_front()?;
        self.granted.push(id);
        waker
    }

    /// Forgets `id`; says whether it had been granted.
    fn leave(&mut self, id: u64) -> bool {
        self.queue.retain(|(waiting, _)| *waiting != id);
        let before = self.granted.len();
        self.granted.retain(|granted| *granted != id);
        self.granted.len() != before
    }
}
