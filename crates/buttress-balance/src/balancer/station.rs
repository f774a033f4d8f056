//! One endpoint of a balancer: what its calls hold, and what they tell when they end.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock, Weak};

use buttress_core::{ByCause, Classify, End, Endpoint, Guard, Outcome, OutcomeKind, Timestamp, Verdict};
use tokio::sync::Notify;

use super::Settings;
use super::members::Gate;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::{DefaultPolicy, Ended, Load, Policy};

/// What all endpoints of a balancer have in common.
pub(crate) struct Rules<P, C> {
    pub(crate) policy: P,
    pub(crate) classify: C,
    pub(crate) settings: Settings,
    pub(crate) is_timed: bool,
    /// The calls in flight, those that are being placed included: counted where loads are bounded.
    pub(crate) total: AtomicUsize,
    /// How many calls wait for an endpoint, and what wakes one.
    pub(crate) waiting: AtomicUsize,
    pub(crate) freed: Arc<Notify>,
    pub(crate) sweeper: OnceLock<Weak<dyn Sweep>>,
}

/// Lets go of endpoints whose last call is over.
pub(crate) trait Sweep: Send + Sync {
    fn sweep(&self);
}

/// What is kept of an endpoint as long as it has calls.
pub(crate) struct Station<P, C> {
    pub(crate) load: Load,
    /// The endpoint as it was first configured; its condition and its activity are those of now.
    endpoint: Endpoint,
    pub(crate) rules: Arc<Rules<P, C>>,
    /// It has left the list.
    pub(crate) has_left: AtomicBool,
}

/// An endpoint with its service.
pub(crate) struct Member<S, P, C> {
    pub(crate) endpoint: Endpoint,
    pub(crate) station: Arc<Station<P, C>>,
    pub(crate) service: S,
    pub(crate) gate: Option<Gate>,
}

impl<S: Clone, P, C> Clone for Member<S, P, C> {
    fn clone(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            station: Arc::clone(&self.station),
            service: self.service.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<P: Policy, C> Rules<P, C> {
    pub(crate) fn new(policy: P, classify: C, settings: Settings) -> Self {
        Self {
            is_timed: policy.is_timed() || settings.notes_activity,
            policy,
            classify,
            settings,
            total: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Arc::new(Notify::new()),
            sweeper: OnceLock::new(),
        }
    }
}

impl Default for Rules<DefaultPolicy, ByCause> {
    fn default() -> Self {
        Self::new(DefaultPolicy::default(), ByCause, Settings::default())
    }
}

impl<P, C> Station<P, C> {
    pub(crate) fn new(endpoint: &Endpoint, rules: Arc<Rules<P, C>>) -> Self {
        let load = Load::new(endpoint.weight());
        Self { load, endpoint: endpoint.clone(), rules, has_left: AtomicBool::new(false) }
    }

    /// Takes a place for a call, if there are fewer than the settings allow.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let (count, most) = (self.load.count(), self.rules.settings.max_in_flight);
        if most == u32::MAX {
            count.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        let below = |calls: u32| (calls < most).then_some(calls + 1);
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below).is_ok()
    }

    /// Whether it has no calls. It writes what it reads, and so is before or after the end of each call: the one that comes
    /// after it sees that the station has left.
    pub(crate) fn is_idle(&self) -> bool {
        self.load.count().fetch_add(0, Ordering::SeqCst) == 0
    }

    /// Gives a place back.
    #[inline]
    fn leave(&self) {
        let rules = &*self.rules;
        let before = self.load.count().fetch_sub(1, Ordering::SeqCst);
        if rules.settings.bounded_load.is_some() {
            rules.total.fetch_sub(1, Ordering::SeqCst);
        }
        if rules.waiting.load(Ordering::SeqCst) > 0 {
            rules.freed.notify_one();
        }
        if before == 1 && self.has_left.load(Ordering::SeqCst) {
            self.swept();
        }
    }

    #[cold]
    fn swept(&self) {
        if let Some(sweeper) = self.rules.sweeper.get().and_then(Weak::upgrade) {
            sweeper.sweep();
        }
    }
}

/// What a call holds from its admission to its end: its place among those in flight, and who is to be told.
///
/// It is the guard that [`Finish`](buttress_core::Finish) binds to the rest of a call, and so stands in the type of the
/// body that [`at_end`](crate::Balancer::at_end) makes.
pub struct Flight<P: Policy, C> {
    station: Arc<Station<P, C>>,
    started: Timestamp,
    /// Who judges the end of the body; `None` once the call is judged.
    judge: Option<fn(&C, &End<'_>) -> Outcome>,
}

impl<P: Policy, C> Flight<P, C> {
    /// A call that has taken a place at `station`.
    #[inline]
    pub(crate) fn new(station: Arc<Station<P, C>>, started: Timestamp) -> Self {
        if station.rules.is_timed {
            station.endpoint.note_use(started);
        }
        Self { station, started, judge: None }
    }

    /// The response future has given its result.
    #[inline]
    pub(crate) fn answered<Res, Err>(&mut self, result: Result<&Res, &Err>)
    where
        C: Classify<Res, Err>,
    {
        let rules = &*self.station.rules;
        if !rules.is_timed {
            return;
        }
        let is_error = result.is_err();
        match rules.classify.classify(result) {
            Verdict::Now(outcome) => self.judged(Some(&outcome)),
            Verdict::AtEnd if is_error => {
                let outcome = rules.classify.at_end(&End::Failed);
                self.judged(Some(&outcome));
            }
            Verdict::AtEnd => self.judge = Some(C::at_end),
        }
    }

    fn judged(&self, outcome: Option<&Outcome>) {
        let Station { load, endpoint, rules, .. } = &*self.station;
        let now = rules.settings.clock.now();
        if outcome.is_some_and(|outcome| outcome.kind == OutcomeKind::Success) {
            endpoint.note_success(now);
        }
        rules.policy.ended(load, &Ended { started: self.started, now, outcome });
    }

    /// It was dropped before it was answered.
    pub(crate) fn dropped(&self) {
        if self.station.rules.is_timed {
            self.judged(None);
        }
    }

    /// Something panicked in our own frame.
    #[cold]
    pub(crate) fn panicked(&self) {
        if self.station.rules.is_timed {
            self.judged(Some(&Outcome::failure()));
        }
    }
}

impl<P: Policy, C> Guard for Flight<P, C> {
    fn data(&mut self, bytes: u64) {
        let Station { load, rules, .. } = &*self.station;
        if rules.is_timed {
            rules.policy.received(load, bytes, rules.settings.clock.now());
        }
    }

    fn end(&mut self, end: &End<'_>) {
        if let Some(judge) = self.judge.take() {
            let outcome = judge(&self.station.rules.classify, end);
            self.judged(Some(&outcome));
        }
    }
}

impl<P: Policy, C> Drop for Flight<P, C> {
    #[inline]
    fn drop(&mut self) {
        self.station.leave();
    }
}

impl<P: Policy, C> fmt::Debug for Flight<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("started", &self.started).finish_non_exhaustive()
    }
}

/// A call in our own frame. Dropped there, something has panicked. (`std::thread::panicking()` is also true where
/// someone else's unwinding drops a call.)
pub(crate) struct Armed<'a, P: Policy, C>(pub(crate) &'a mut Flight<P, C>);

impl<P: Policy, C> Armed<'_, P, C> {
    #[inline]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl<P: Policy, C> Drop for Armed<'_, P, C> {
    fn drop(&mut self) {
        self.0.panicked();
    }
}
