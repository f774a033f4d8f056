//! Tells the observer of transitions: one at a time, in order, outside every lock.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Transitions that were made and are not told yet.
///
/// A transition is made by a compare-and-swap and told afterwards, so two threads may come here in another order than
/// they made theirs in. A transition therefore waits until all before it, of the same breaker, were told. Whoever
/// finds no one telling tells all that may be told; the others leave theirs and go on. An observer that makes a
/// transition itself is told of it when it returns.
pub(crate) struct Teller<T>(Mutex<Queue<T>>);

struct Queue<T> {
    telling: bool,
    waiting: VecDeque<T>,
}

impl<T> Default for Teller<T> {
    fn default() -> Self {
        Self(Mutex::new(Queue { telling: false, waiting: VecDeque::new() }))
    }
}

/// Tells what comes at no special place in the order. `tell` may panic, and the panic goes on, unless the thread unwinds
/// already.
pub(crate) fn guarded(tell: impl FnOnce()) {
    go_on(catch_unwind(AssertUnwindSafe(tell)).err());
}

/// A second panic while the thread unwinds would end the process.
fn go_on(panicked: Option<Box<dyn Any + Send>>) {
    if let Some(payload) = panicked
        && !thread::panicking()
    {
        resume_unwind(payload);
    }
}

impl<T> Teller<T> {
    /// Takes what is to be told. No user code runs.
    pub(crate) fn push(&self, item: T) {
        self.lock().waiting.push_back(item);
    }

    /// Tells what may be told.
    ///
    /// `next` says whether an item is next in its order, and then takes it as told. It runs under the lock; `tell` does
    /// not, and may panic: the rest is told all the same, and the panic goes on afterwards, unless the thread
    /// unwinds already.
    #[cold]
    pub(crate) fn drain(&self, next: impl Fn(&T) -> bool, tell: impl Fn(&T)) {
        let mut panicked = None;
        let mut queue = self.lock();
        if queue.telling {
            return;
        }
        queue.telling = true;
        while let Some(item) = queue.waiting.iter().position(&next).and_then(|at| queue.waiting.remove(at)) {
            drop(queue);
            let now = catch_unwind(AssertUnwindSafe(|| tell(&item))).err();
            panicked = panicked.or(now);
            queue = self.lock();
        }
        queue.telling = false;
        drop(queue);
        go_on(panicked);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
