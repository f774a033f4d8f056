use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// How often a task may be polled for one event before it counts as a loop that wakes itself.
pub const POLLS_PER_EVENT: usize = 32;

/// Polls `future` once, with a waker that does nothing.
///
/// ```
/// let mut never = std::future::pending::<()>();
/// assert!(buttress_testkit::poll_once(&mut never).is_pending());
/// ```
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that counts, and tells a wake from outside from a task that wakes itself while it is polled.
#[derive(Default)]
pub struct WakeCounter {
    woken: AtomicBool,
    wakes: AtomicUsize,
    self_wakes: AtomicUsize,
    polling: AtomicBool,
}

impl WakeCounter {
    /// Makes a counter at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The waker that counts here.
    #[must_use]
    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone())
    }

    /// Whether a wake came since the last poll began.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// All wakes so far.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Acquire)
    }

    /// Wakes that came while the task itself was being polled.
    #[must_use]
    pub fn self_wakes(&self) -> usize {
        self.self_wakes.load(Ordering::Acquire)
    }

    /// Polls `future` with this counter's waker.
    pub fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        let waker = self.waker();
        self.woken.store(false, Ordering::Release);
        self.polling.store(true, Ordering::Release);
        let polling = Polling(self);
        let answer = future.poll(&mut Context::from_waker(&waker));
        drop(polling);
        answer
    }
}

/// Ends the poll also when it unwinds.
struct Polling<'a>(&'a WakeCounter);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.polling.store(false, Ordering::Release);
    }
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::AcqRel);
        if self.polling.load(Ordering::Acquire) {
            self.self_wakes.fetch_add(1, Ordering::AcqRel);
        }
        self.woken.store(true, Ordering::Release);
    }
}

impl fmt::Debug for WakeCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeCounter")
            .field("wakes", &self.wakes())
            .field("self_wakes", &self.self_wakes())
            .finish_non_exhaustive()
    }
}

/// A future that is polled by hand and only when its waker was called, as a runtime would.
///
/// [`run`](Self::run) polls while the task is woken. If that leaves the future pending, then either an
/// event that the test still has to cause will wake it, or nothing ever will: cause the event and see
/// [`is_woken`](Self::is_woken).
///
/// ```
/// use buttress_testkit::Task;
///
/// let (tx, rx) = tokio::sync::oneshot::channel();
/// let mut task = Task::new(rx);
/// assert!(task.run().is_pending());
///
/// tx.send(7).unwrap();
/// assert!(task.is_woken());
/// assert!(task.run().is_ready());
/// ```
pub struct Task<F: Future> {
    future: Option<Pin<Box<F>>>,
    counter: Arc<WakeCounter>,
    polls: usize,
    fresh: bool,
}

impl<F: Future> Task<F> {
    /// Makes a task that has not been polled.
    pub fn new(future: F) -> Self {
        Self { future: Some(Box::pin(future)), counter: WakeCounter::new(), polls: 0, fresh: true }
    }

    /// Polls once, woken or not.
    ///
    /// # Panics
    ///
    /// When the future was ready before.
    pub fn poll(&mut self) -> Poll<F::Output> {
        let future = self.future.as_mut().expect("a task is not polled after it was ready");
        self.polls += 1;
        self.fresh = false;
        let answer = self.counter.poll(future.as_mut());
        if answer.is_ready() {
            self.future = None;
        }
        answer
    }

    /// Polls as a runtime would: a first time, and then as long as the task is woken.
    ///
    /// # Panics
    ///
    /// When the future is still woken after [`POLLS_PER_EVENT`] polls: it wakes itself in a loop.
    pub fn run(&mut self) -> Poll<F::Output> {
        for _ in 0..POLLS_PER_EVENT {
            if !self.wants_poll() {
                return Poll::Pending;
            }
            if let Poll::Ready(output) = self.poll() {
                return Poll::Ready(output);
            }
        }
        assert!(
            !self.wants_poll(),
            "the task was polled {POLLS_PER_EVENT} times while nothing happened: it wakes itself in a loop"
        );
        Poll::Pending
    }

    /// Forgets the old waker: from the next poll on another one is used, as when a future moves to another
    /// task. The next [`run`](Self::run) polls at once.
    pub fn change_waker(&mut self) {
        self.counter = WakeCounter::new();
        self.fresh = true;
    }

    /// Whether the waker was called since the last poll began.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.counter.is_woken()
    }

    /// Whether the future has given its output.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.future.is_none()
    }

    /// Whether a runtime would poll now: a first time, or because of a wake.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        self.future.is_some() && (self.fresh || self.is_woken())
    }

    /// How often the future was polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.polls
    }

    /// The counter behind the current waker.
    #[must_use]
    pub fn counter(&self) -> &Arc<WakeCounter> {
        &self.counter
    }
}

impl<F: Future> fmt::Debug for Task<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("done", &self.is_done())
            .field("polls", &self.polls)
            .field("counter", &self.counter)
            .finish()
    }
}
