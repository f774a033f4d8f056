//! The state of one detection, and when which part of it is touched.
//!
//! A call writes the words of its endpoint and takes no lock. The lock is for what is rare: a row that is full, the end
//! of an interval or of an ejection, a new list, and people.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;

use buttress_core::{Clock, Endpoint, Endpoints, Name, Timestamp, nanos};

use super::host::{Host, Recorded};
use super::members::{Members, Told, What};
use crate::HealthEvent;
use crate::policy::outlier::{Full, Rules, Seen};
use crate::sync::{AtomicU64, Mutex, MutexGuard};

pub(crate) type Observer = Arc<dyn Fn(&HealthEvent<'_>) + Send + Sync>;

/// A task looks after what is due, so calls need not read the clock.
const DRIVEN: u64 = u64::MAX;

pub(crate) struct Core {
    pub(crate) name: Name,
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    endpoints: Endpoints,
    observer: Option<Observer>,
    members: Mutex<Members>,
    /// Which interval this is, and so which buckets are filled.
    turn: AtomicU64,
    /// When something is due, or [`DRIVEN`].
    next: AtomicU64,
    late: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        name: Name,
        rules: Rules,
        clock: Clock,
        endpoints: Endpoints,
        observer: Option<Observer>,
        seed: Option<u64>,
    ) -> Self {
        let members = Members::new(&rules, clock.now(), seed, observer.is_some());
        let next = AtomicU64::new(members.next().as_nanos());
        let (turn, late) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name, rules, clock, endpoints, observer, members: Mutex::new(members), turn, next, late }
    }

    /// The host that calls of this endpoint write to.
    pub(crate) fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        self.change(|members, _| members.host(endpoint))
    }

    /// Counts the result of a call, and does what is due.
    #[inline]
    pub(crate) fn record(&self, host: &Host, epoch: u32, seen: Seen) {
        match host.record(&self.rules, epoch, self.turn.load(Ordering::Relaxed), seen) {
            Recorded::Counted([None, None]) => {}
            Recorded::Counted(full) => self.judge(host, epoch, full),
            Recorded::Late => self.count_late(),
        }
        let next = self.next.load(Ordering::Relaxed);
        if next != DRIVEN {
            self.look_at_clock(next);
        }
    }

    #[cold]
    fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// What is due is never further away than an interval: if it is, the clock was set back.
    #[inline]
    fn look_at_clock(&self, next: u64) {
        let left = next.wrapping_sub(1).wrapping_sub(self.clock.now().as_nanos());
        if left >= nanos(self.rules.interval) {
            self.catch_up();
        }
    }

    #[cold]
    fn catch_up(&self) {
        // Else another thread is at it.
        if let Ok(members) = self.members.try_lock() {
            self.change_locked(members, |_, _| ());
        }
    }

    #[cold]
    fn judge(&self, host: &Host, epoch: u32, full: Full) {
        self.change(|members, now| {
            for reason in full.into_iter().flatten() {
                // Else it was ejected, or left the list, while this call waited here.
                if let Some(place) = members.place(host)
                    && host.rows().epoch() == epoch
                {
                    let _ = members.eject(&self.rules, place, reason, now);
                }
            }
        });
    }

    /// Does what is due and returns when there is more.
    pub(crate) fn drive(&self) -> Timestamp {
        self.change(|members, _| members.next())
    }

    pub(crate) fn begin_driving(&self) {
        self.change(|members, _| members.drivers += 1);
    }

    pub(crate) fn end_driving(&self) {
        self.change(|members, _| members.drivers -= 1);
    }

    /// Changes what is under the lock, once the list is taken as it is and all that is due is done.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Members, Timestamp) -> R) -> R {
        self.change_locked(self.lock(), change)
    }

    fn change_locked<R>(
        &self,
        mut members: MutexGuard<'_, Members>,
        change: impl FnOnce(&mut Members, Timestamp) -> R,
    ) -> R {
        let now = self.clock.now();
        members.follow(&self.endpoints, now);
        members.go_on(&self.rules, &self.turn, now);
        let changed = change(&mut members, now);
        let next = if members.drivers > 0 { DRIVEN } else { members.next().as_nanos().min(DRIVEN - 1) };
        self.next.store(next, Ordering::Relaxed);
        drop(members);
        self.tell();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what has happened, one thing at a time and in order, outside the lock: whoever finds no one telling tells all
    /// there is. The observer may panic; the rest is told all the same, and the panic goes on afterwards, unless the
    /// thread unwinds already, where a second one would end the process.
    fn tell(&self) {
        let Some(observer) = &self.observer else { return };
        let mut panicked: Option<Box<dyn Any + Send>> = None;
        let mut members = self.lock();
        if members.telling {
            return;
        }
        members.telling = true;
        while let Some(told) = members.told.as_mut().and_then(|told| told.pop_front()) {
            drop(members);
            let result = catch_unwind(AssertUnwindSafe(|| observer(&self.event(&told))));
            panicked = panicked.or_else(|| result.err());
            members = self.lock();
        }
        members.telling = false;
        drop(members);
        if let Some(payload) = panicked
            && !thread::panicking()
        {
            resume_unwind(payload);
        }
    }

    fn event<'a>(&'a self, told: &'a Told) -> HealthEvent<'a> {
        let (policy, endpoint) = (&self.name, &told.endpoint);
        match told.what {
            What::Ejected { reason, time, times } => {
                HealthEvent::Ejected { policy, endpoint, reason, time, times }
            }
            What::Unejected(reason) => HealthEvent::Unejected { policy, endpoint, reason },
            What::Skipped(reason, skipped) => {
                HealthEvent::EjectionSkipped { policy, endpoint, reason, skipped }
            }
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.lock().end_all(now);
    }
}
