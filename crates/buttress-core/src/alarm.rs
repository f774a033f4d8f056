//! Waking at a moment, nearer to it than tokio's timer comes.
//!
//! Tokio rounds a moment up to its next millisecond, and so does the `epoll` below it. A thread that sleeps on a
//! condition variable is woken by the system's high-resolution timers instead: about a tenth of a millisecond late.
//! There is one such thread in a process, started when somebody first waits; while nobody does, it sleeps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;

use crate::Timestamp;
use crate::sleepers::Sleepers;

pub(crate) struct Alarm {
    sleepers: Mutex<Sleepers>,
    /// There is somebody who waits for less than all before.
    sooner: Condvar,
}

impl Alarm {
    /// The one of this process, which reads the time by `now`; `None` where no thread can be started.
    pub(crate) fn get(now: impl Fn() -> Timestamp + Send + 'static) -> Option<&'static Self> {
        static ALARM: Alarm = Alarm { sleepers: Mutex::new(Sleepers::new()), sooner: Condvar::new() };
        static RUNS: OnceLock<bool> = OnceLock::new();
        let start = || {
            let thread = thread::Builder::new().name("buttress-alarm".to_owned());
            // The thread belongs to the process: nobody waits for it to end.
            thread.spawn(move || ALARM.run(now)).is_ok()
        };
        RUNS.get_or_init(start).then_some(&ALARM)
    }

    fn run(&self, now: impl Fn() -> Timestamp) {
        let mut sleepers = self.lock();
        loop {
            let time = now();
            sleepers = match sleepers.next() {
                None => self.sooner.wait(sleepers).unwrap_or_else(PoisonError::into_inner),
                Some(next) if next > time => {
                    self.sooner.wait_timeout(sleepers, next - time).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let due = sleepers.due(time);
                    drop(sleepers);
                    // A waker is somebody else's code: if it panics, the others are woken all the same.
                    due.for_each(|waker| drop(catch_unwind(AssertUnwindSafe(|| waker.wake()))));
                    self.lock()
                }
            };
        }
    }

    /// Wakes `waker` once `deadline` has come, and not before. It has this place until then.
    pub(crate) fn enter(&self, deadline: Timestamp, place: &mut Option<u64>, waker: &Waker) {
        if place.is_some() && self.lock().knows(deadline, *place, waker) {
            return;
        }
        // Wakers are code of others: cloned and dropped when no lock is held.
        let waker = waker.clone();
        let mut sleepers = self.lock();
        let sooner = sleepers.next().is_none_or(|next| deadline < next);
        let former = sleepers.enter(deadline, place, waker);
        drop(sleepers);
        if sooner {
            self.sooner.notify_one();
        }
        drop(former);
    }

    /// Gives the place up.
    pub(crate) fn leave(&self, deadline: Timestamp, place: &mut Option<u64>) {
        if place.is_some() {
            let waker = self.lock().leave(deadline, place);
            drop(waker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        // Nothing under this lock can leave the map half changed, so a poisoned lock is as good as a sound one.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
