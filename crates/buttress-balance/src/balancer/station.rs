//! One endpoint of a balancer: what its calls hold, and what they tell when they end.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};

use buttress_core::{
    ByCause, Classify, End, Endpoint, Guard, LoadReport, Outcome, OutcomeKind, Timestamp, Verdict,
};
use tokio::sync::Notify;

use super::Settings;
use super::members::Gate;
use crate::sync::{AtomicBool, AtomicUsize, Ordering, Swap};
use crate::{DefaultPolicy, Ended, Load, Policy};

/// What all endpoints of a balancer have in common.
pub(crate) struct Rules<P, C> {
    pub(crate) policy: P,
    pub(crate) classify: C,
    pub(crate) settings: Settings,
    pub(crate) is_timed: bool,
    pub(crate) counts_bytes: bool,
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

/// What is kept of an endpoint as long as it has calls: what a call reads and writes of it begins on one cache line.
#[repr(C, align(64))]
pub(crate) struct Station<P, C> {
    pub(crate) rules: Arc<Rules<P, C>>,
    /// The endpoint, whose activity is noted.
    endpoint: Swap<Endpoint>,
    /// It has left the list.
    pub(crate) has_left: AtomicBool,
    pub(crate) load: Load,
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
            counts_bytes: policy.counts_bytes(),
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
        Self { load, endpoint: Swap::from_pointee(endpoint.clone()), rules, has_left: AtomicBool::new(false) }
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

    /// It is the endpoint's from now on: of one that is configured anew, or comes back while its calls drain.
    pub(crate) fn taken_over_by(&self, endpoint: &Endpoint) {
        self.load.set_weight(endpoint.weight());
        self.endpoint.store(Arc::new(endpoint.clone()));
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
            // A guard is dropped here, by an unwinding perhaps: an observer that panics ends with its event.
            let _ = catch_unwind(AssertUnwindSafe(|| sweeper.sweep()));
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
    /// Who judges the end of the body, what the head has told of the server's load, and when it came; `None` where the call is
    /// judged, or not yet answered.
    judge: Option<(Judge<C>, Option<LoadReport>, Timestamp)>,
    /// Its policy was told.
    is_told: bool,
}

type Judge<C> = fn(&C, &End<'_>) -> Outcome;

impl<P: Policy, C> Flight<P, C> {
    /// A call that has taken a place at `station`.
    #[inline]
    pub(crate) fn new(station: Arc<Station<P, C>>) -> Self {
        Self { station, started: Timestamp::ZERO, judge: None, is_told: false }
    }

    /// The endpoint that has the call.
    #[cfg(feature = "http")]
    pub(crate) fn endpoint(&self) -> buttress_core::EndpointId {
        self.station.endpoint.load().id()
    }

    /// It is made now, to this endpoint.
    #[inline]
    pub(crate) fn start(&mut self, endpoint: &Endpoint, now: Timestamp) {
        self.started = now;
        endpoint.note_use(now);
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
        let (classify, now) = (&rules.classify, rules.settings.clock.now());
        let outcome = match (classify.classify(result), result) {
            (Verdict::Now(outcome), _) => outcome,
            (Verdict::AtEnd, Err(_)) => classify.at_end(&End::Failed),
            (Verdict::AtEnd, Ok(res)) => {
                self.judge = Some((C::at_end, classify.load(res), now));
                return;
            }
        };
        self.judged(Some(&outcome), now);
    }

    /// Tells the policy, once. A body that is read slowly is no slow answer: `now` is when the head came.
    fn judged(&mut self, outcome: Option<&Outcome>, now: Timestamp) {
        if mem::replace(&mut self.is_told, true) {
            return;
        }
        let Station { load, endpoint, rules, .. } = &*self.station;
        if outcome.is_some_and(|outcome| outcome.kind == OutcomeKind::Success) {
            endpoint.load().note_success(now);
        }
        rules.policy.ended(load, &Ended { started: self.started, now, outcome });
    }

    /// It was dropped before it was answered.
    pub(crate) fn dropped(&mut self) {
        if self.station.rules.is_timed {
            self.judged(None, self.station.rules.settings.clock.now());
        }
    }

    /// Something panicked in our own frame.
    #[cold]
    pub(crate) fn panicked(&mut self) {
        if self.station.rules.is_timed {
            self.judged(Some(&Outcome::failure()), self.station.rules.settings.clock.now());
        }
    }
}

impl<P: Policy, C> Guard for Flight<P, C> {
    fn data(&mut self, bytes: u64) {
        let Station { load, rules, .. } = &*self.station;
        if rules.counts_bytes {
            rules.policy.received(load, bytes, rules.settings.clock.now());
        }
    }

    fn end(&mut self, end: &End<'_>) {
        if let Some((judge, report, head)) = self.judge.take() {
            let mut outcome = judge(&self.station.rules.classify, end);
            outcome.load = outcome.load.or(report);
            self.judged(Some(&outcome), head);
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
