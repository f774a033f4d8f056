//! A dependency's check: run once for all who ask, kept for a while, given up in time.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::dependency::{Checking, Dependency};
use super::readiness::Inner;
use super::report::{DependencyReport, DependencyState};

/// A dependency and what is known of it.
pub(crate) struct Runner {
    pub(crate) dependency: Dependency,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    last: Option<Seen>,
    /// The run that is under way: there is never more than one, even where it is long overdue.
    flight: Option<Flight>,
}

/// What a run has found.
#[derive(Clone)]
struct Seen {
    state: DependencyState,
    error: Option<Arc<str>>,
    at: Timestamp,
    took: Duration,
}

struct Flight {
    began: Timestamp,
    until: Timestamp,
    /// Nobody waits for it any more: it counts as timed out, whatever it comes back with.
    overdue: bool,
    /// Closed when the run is over.
    over: watch::Receiver<()>,
}

/// The answer to who asks what is known.
pub(crate) enum Asked {
    /// It is in [`Runner::known`].
    Known,
    /// It will be, once this is closed, or at this moment.
    Wait(watch::Receiver<()>, Timestamp),
}

/// A change that is to be told.
pub(crate) struct Change {
    pub(crate) from: Option<DependencyState>,
    pub(crate) to: DependencyState,
    pub(crate) error: Option<Arc<str>>,
}

impl Runner {
    pub(crate) fn new(dependency: Dependency) -> Self {
        Self { dependency, slot: Mutex::default() }
    }

    /// Sees to it that something recent is known: begins a run where that is needed.
    pub(crate) fn ask(self: &Arc<Self>, inner: &Arc<Inner>) -> Asked {
        let now = inner.clock().now();
        let mut slot = self.slot();
        if slot.last.as_ref().is_some_and(|seen| seen.at <= now && now.since(seen.at) < self.dependency.ttl) {
            return Asked::Known;
        }
        if let Some(flight) = &mut slot.flight {
            // Where the clock was set back, it takes no longer than one that begins now.
            flight.until = flight.until.min(now.saturating_add(self.dependency.timeout));
            if now < flight.until {
                return Asked::Wait(flight.over.clone(), flight.until);
            }
            drop(slot);
            self.give_up(inner, now);
            return Asked::Known;
        }
        let (landed, over) = watch::channel(());
        let until = now.saturating_add(self.dependency.timeout);
        slot.flight = Some(Flight { began: now, until, overdue: false, over: over.clone() });
        drop(slot);

        let landing =
            Landing { runner: Arc::clone(self), inner: Arc::clone(inner), found: None, _landed: landed };
        // Dropped, for want of a runtime, it says that the check was cancelled.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(fly(landing, until));
        }
        Asked::Wait(over, until)
    }

    /// Counts the run that is under way as timed out, where its time has come.
    pub(crate) fn give_up(&self, inner: &Inner, now: Timestamp) {
        let mut slot = self.slot();
        let Some(flight) = slot.flight.as_mut().filter(|flight| now >= flight.until) else { return };
        // What hangs for ever is found anew at each look.
        flight.overdue = true;
        let took = now.since(flight.began);
        let seen = Seen { state: DependencyState::TimedOut, error: None, at: now, took };
        let change = slot.keep(seen);
        drop(slot);
        inner.found(self, change);
    }

    /// What is known. `None` before the first run is over.
    pub(crate) fn known(&self, now: Timestamp) -> Option<DependencyReport> {
        let Dependency { name, critical, .. } = &self.dependency;
        self.slot().last.as_ref().map(|seen| DependencyReport {
            name: name.clone(),
            critical: *critical,
            state: seen.state,
            error: seen.error.clone(),
            age: now.since(seen.at),
            took: seen.took,
        })
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.slot().last.as_ref().is_some_and(|seen| !seen.state.is_passing())
    }

    // No code of the user's runs while it is held.
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The change, where there is one.
    fn keep(&mut self, seen: Seen) -> Option<Change> {
        let (from, to, error) = (self.last.as_ref().map(|last| last.state), seen.state, seen.error.clone());
        self.last = Some(seen);
        (from != Some(to)).then_some(Change { from, to, error })
    }
}

type Found = (DependencyState, Option<Arc<str>>);

/// Ends a run, in whatever way it ends: keeps what was found, and wakes those who wait.
struct Landing {
    runner: Arc<Runner>,
    inner: Arc<Inner>,
    /// `None` where the task was dropped, with the runtime or for want of one.
    found: Option<Found>,
    /// Closes the channel when it is dropped, after what was found is kept.
    _landed: watch::Sender<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let (state, error) = self.found.take().unwrap_or((DependencyState::Cancelled, None));
        let at = self.inner.clock().now();
        let mut slot = self.runner.slot();
        let Some(flight) = slot.flight.take().filter(|flight| !flight.overdue) else { return };
        let change = slot.keep(Seen { state, error, at, took: at.since(flight.began) });
        drop(slot);
        // This may be an unwinding already, and the observer may panic.
        let _ = catch_unwind(AssertUnwindSafe(|| self.inner.found(&self.runner, change)));
    }
}

/// Runs the check until it is over, or its time is.
async fn fly(mut landing: Landing, until: Timestamp) {
    let check = &landing.runner.dependency.check;
    let mut checking: Option<Checking> = None;
    let mut alarm = pin!(landing.inner.clock().sleep_until(until));
    landing.found = Some(
        poll_fn(|cx| {
            let poll = || checking.get_or_insert_with(check).as_mut().poll(cx).map(found);
            match catch_unwind(AssertUnwindSafe(poll)) {
                Ok(Poll::Pending) if until == Timestamp::MAX => Poll::Pending,
                Ok(Poll::Pending) => alarm.as_mut().poll(cx).map(|()| (DependencyState::TimedOut, None)),
                Ok(Poll::Ready(found)) => Poll::Ready(found),
                Err(panic) => Poll::Ready((DependencyState::Panicked, text_of(&*panic))),
            }
        })
        .await,
    );
    // The check goes first: where its destructor panics, what was found is kept all the same.
    drop(checking);
}

fn found(result: Result<(), BoxError>) -> Found {
    match result {
        Ok(()) => (DependencyState::Passing, None),
        Err(error) => (DependencyState::Failing, Some(error.to_string().into())),
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> Option<Arc<str>> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).map(Into::into)
}
