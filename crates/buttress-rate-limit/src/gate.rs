//! The one place where a call is decided: at once in `call`, or later in the future.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{
    Answer, Clock, Decided, HashSink, Key, KeyPart, Name, Reject, Rejection, RejectionKind, Store, Timestamp,
};

use crate::RateLimitEvent;
use crate::line::Lines;
use crate::rules::{Planned, Standing, Terms};
use crate::tally::{Count, Tally};
use crate::top::Top;

/// How many limits are told apart where the store does not say how many it has.
pub(crate) const LIMITS: usize = 16;

/// What is done with a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissingKey {
    /// Lets it pass, uncounted.
    Allow,
    /// Refuses it as [`Denied`](RejectionKind::Denied).
    Deny,
    /// Counts all such requests against one budget of the same size as a key's.
    #[default]
    Shared,
}

type Observer = Arc<dyn Fn(&RateLimitEvent<'_>) + Send + Sync>;

/// A layer's settings and its state, shared by the services and futures that it makes.
#[derive(Clone)]
pub(crate) struct Gate<K, J, St: Store, R> {
    pub(crate) key: K,
    pub(crate) reject: J,
    pub(crate) rules: R,
    pub(crate) core: Arc<Core<St>>,
}

/// The part that knows nothing of requests, which handles and charges share.
#[derive(Clone)]
pub(crate) struct Core<St: Store> {
    pub(crate) store: St,
    pub(crate) name: Name,
    /// There is one limit for certain; the store need not be asked.
    pub(crate) single: bool,
    pub(crate) plans: Arc<[Name]>,
    pub(crate) clock: Clock,
    pub(crate) missing_key: MissingKey,
    pub(crate) annotate_success: bool,
    pub(crate) shadow: bool,
    /// Whether calls are settled.
    pub(crate) settles: bool,
    pub(crate) observer: Option<Observer>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) top: Option<Arc<Top>>,
    pub(crate) lines: Arc<Lines<St::Decision>>,
}

/// What becomes of a call, as far as it is known in `call`.
pub(crate) enum Course<D, W> {
    /// Counted, and allowed: at once, or when its turn has come.
    Passed { charged: Charged<D>, delayed: Option<Delayed> },
    /// The store answers later.
    Asked(W, Asked),
    /// Allowed without being counted.
    Uncounted,
    /// Refused uncounted: it is on the deny list, or has no key.
    Denied,
}

/// What a call was charged.
#[derive(Clone)]
pub(crate) struct Charged<D> {
    pub(crate) decision: D,
    pub(crate) cost: u32,
    /// Whether time has gone by since the decision.
    pub(crate) late: bool,
}

/// A call that has to wait.
#[derive(Clone, Copy)]
pub(crate) struct Delayed {
    pub(crate) now: Timestamp,
    pub(crate) turn: Timestamp,
    plan: usize,
}

/// What was asked of the store.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    cost: u32,
    plan: usize,
}

/// What the store said, and when.
pub(crate) struct Ruling<D> {
    pub(crate) asked: Asked,
    pub(crate) decided: D,
    pub(crate) now: Timestamp,
}

impl<D> Ruling<D> {
    /// What the call was charged.
    #[inline]
    pub(crate) fn charge(self) -> Charged<D> {
        Charged { decision: self.decided, cost: self.asked.cost, late: false }
    }
}

impl<St: Store> Core<St> {
    pub(crate) fn new(store: St, name: Name, limits: usize) -> Self {
        Self {
            store,
            name,
            single: false,
            plans: Arc::default(),
            clock: Clock::default(),
            missing_key: MissingKey::default(),
            annotate_success: false,
            shadow: false,
            settles: false,
            observer: None,
            tally: Arc::new(Tally::new(limits)),
            top: None,
            lines: Arc::default(),
        }
    }

    /// The same settings over another state, with counts of its own.
    pub(crate) fn with_store<Other: Store>(&self, store: Other, limits: usize) -> Core<Other> {
        let Self {
            name, plans, clock, missing_key, annotate_success, shadow, settles, observer, top, ..
        } = self;
        Core {
            store,
            name: name.clone(),
            single: false,
            plans: Arc::clone(plans),
            clock: clock.clone(),
            missing_key: *missing_key,
            annotate_success: *annotate_success,
            shadow: *shadow,
            settles: *settles,
            observer: observer.clone(),
            tally: Arc::new(Tally::new(limits)),
            top: top.as_ref().map(|top| Arc::new(top.fresh())),
            lines: Arc::default(),
        }
    }

    #[inline]
    pub(crate) fn tell<'a>(&'a self, event: impl FnOnce(&'a Name) -> RateLimitEvent<'a>) {
        if let Some(observer) = &self.observer {
            observer(&event(&self.name));
        }
    }
}

/// The indices of the limits whose bits are set.
fn each(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (index < u32::BITS).then_some(index as usize)
    })
    .take_while(|index| *index < LIMITS)
}

impl<St: Store> Core<St> {
    /// The name of the limit with this index. A layer's own name stands for its only limit.
    fn limit_name(&self, decision: &St::Decision, index: usize) -> Name {
        let only = self.single || self.plans.is_empty() && self.store.name(decision, 1).is_none();
        let name = if only { None } else { self.store.name(decision, index) };
        name.unwrap_or_else(|| self.name.clone())
    }

    /// Corrects what a call was charged.
    pub(crate) fn settle(&self, decision: &St::Decision, held: u32, actual: u32) {
        if actual != held {
            self.store.settle(decision, actual, self.clock.now());
        }
        self.tally.count(Count::Settled);
        self.tell(|policy| RateLimitEvent::Settled { policy, held, actual });
    }

    /// The call's turn has come.
    pub(crate) fn waited(&self, waited: Duration) {
        self.tally.count(Count::Waited);
        self.tell(|policy| RateLimitEvent::Waited { policy, waited });
    }

    /// A call was dropped before its turn, which goes back.
    pub(crate) fn abandon(&self, decision: &St::Decision) {
        self.store.settle(decision, 0, self.clock.now());
        self.tally.count(Count::Abandoned);
    }

    /// Tells of keys that were evicted since the last call: each once, whichever call comes first.
    fn evictions(&self) {
        let keys = self.tally.new_evictions(self.store.evicted());
        if keys > 0 {
            self.tell(|policy| RateLimitEvent::Evicted { policy, keys });
        }
    }

    #[cold]
    fn shadowed(&self, decision: &St::Decision, plan: usize, cost: u32) {
        self.tally.count(Count::Shadowed);
        let binding = if decision.admitted() { None } else { Some(decision.binding()) };
        let mut first = binding;
        for index in 0..LIMITS {
            if decision.shadowed(index) || binding.is_some() && decision.violates(index) {
                self.tally.count_limit(plan * LIMITS + index, true);
                first = first.or(Some(index));
            }
        }
        if let (Some(observer), Some(index)) = (&self.observer, first) {
            let policy = self.limit_name(decision, index);
            observer(&RateLimitEvent::Shadow { policy: &policy, cost, decision });
        }
    }

    #[inline]
    fn refused(&self, decision: &St::Decision, plan: usize, cost: u32) {
        self.tally.count(Count::Refused);
        for index in each(decision.violations()) {
            self.tally.count_limit(plan * LIMITS + index, false);
        }
        if decision.any_shadowed() {
            for index in (0..LIMITS).filter(|index| decision.shadowed(*index)) {
                self.tally.count_limit(plan * LIMITS + index, true);
            }
        }
        if let Some(observer) = &self.observer {
            let policy = self.limit_name(decision, decision.binding());
            observer(&RateLimitEvent::Refused { policy: &policy, cost, decision });
        }
    }
}

impl<K, J, St: Store, R> Gate<K, J, St, R> {
    /// The settings that a builder step changes. Services that were made before keep theirs.
    pub(crate) fn core_mut(&mut self) -> &mut Core<St> {
        Arc::make_mut(&mut self.core)
    }

    /// Asks the store, unless the call is not to be counted.
    #[inline(always)]
    pub(crate) fn ask<Req, Res>(
        &self,
        req: &Req,
    ) -> Result<Ruling<St::Decision>, Course<St::Decision, St::Wait>>
    where
        K: Key<Req>,
        St: Store,
        R: Terms<Req, K, Res, St>,
    {
        let core = &*self.core;
        match self.rules.standing(req) {
            Standing::Counted => {}
            Standing::Allowed => return Err(core.listed(true)),
            Standing::Denied => return Err(core.listed(false)),
        }
        let mut key = core.store.sink();
        if !self.key.key(req, &mut key) {
            core.tally.count(Count::Unkeyed);
            match core.missing_key {
                MissingKey::Allow => return Err(core.unkeyed(true)),
                MissingKey::Deny => return Err(core.unkeyed(false)),
                // A key of several parts may have written some of them.
                MissingKey::Shared => key = core.store.sink(),
            }
        }
        let plan = match self.rules.plan(req, &core.plans) {
            Planned::One => 0,
            planned => {
                let plan = core.planned(planned);
                core.store.plan(&mut key, plan);
                plan
            }
        };
        let asked = Asked { cost: self.rules.cost(&self.key, req), plan };
        let now = core.clock.now();
        match core.store.decide(key, asked.cost, now) {
            Answer::Now(decided) => Ok(Ruling { asked, decided, now }),
            Answer::Later(wait) => Err(Course::Asked(wait, asked)),
        }
    }

    /// Whether a call just passes, and there is no one to tell.
    #[inline(always)]
    pub(crate) fn passes(&self, ruling: &Ruling<St::Decision>) -> bool {
        let Ruling { decided, .. } = ruling;
        decided.admitted()
            && !decided.any_shadowed()
            && self.core.observer.is_none()
            && decided.delay().is_zero()
    }

    /// Whether a call is to be [turned away](Self::turn_away).
    #[inline(always)]
    pub(crate) fn refuses(&self, ruling: &Ruling<St::Decision>) -> bool {
        !ruling.decided.admitted() && !self.core.shadow
    }

    /// Counts a refusal, tells the observer, and answers.
    pub(crate) fn turn_away<Req, Res, Err>(
        &self,
        req: &Req,
        ruling: &Ruling<St::Decision>,
    ) -> Result<Res, Err>
    where
        K: Key<Req>,
        J: Reject<Req, Res, Err>,
    {
        let (core, Ruling { asked: Asked { cost, plan }, decided, .. }) = (&*self.core, ruling);
        if core.observer.is_some() {
            core.evictions();
        }
        core.refused(decided, *plan, *cost);
        if let Some(top) = &core.top {
            top.count(&self.key, req);
        }
        self.refuse(self.reject.form(req), decided)
    }

    /// Counts a call that is not refused, tells the observer, and says what follows.
    pub(crate) fn judge<W>(&self, ruling: Ruling<St::Decision>) -> Course<St::Decision, W> {
        let (core, Ruling { asked: Asked { cost, plan }, decided: decision, now }) = (&*self.core, ruling);
        if core.observer.is_some() {
            core.evictions();
        }
        core.tally.count(Count::Allowed);
        if !decision.admitted() || decision.any_shadowed() {
            core.shadowed(&decision, plan, cost);
        }
        if !decision.admitted() {
            return Course::Uncounted;
        }
        core.tell(|policy| RateLimitEvent::Allowed { policy, cost, decision: &decision });
        // Who only watches keeps nobody waiting.
        let delay = if core.shadow { Duration::ZERO } else { decision.delay() };
        let delayed = (!delay.is_zero()).then(|| Delayed { now, turn: now + delay, plan });
        Course::Passed { charged: Charged { decision, cost, late: false }, delayed }
    }

    /// Which line a call waits in: that of its key, in its plan.
    pub(crate) fn line<Req>(&self, req: &Req, delayed: Delayed) -> u64
    where
        K: Key<Req>,
    {
        let mut line = HashSink::new();
        if !self.key.key(req, &mut line) {
            line = HashSink::new();
        }
        delayed.plan.write(&mut line);
        line.finish()
    }

    /// The answer to a call that the limit refuses.
    fn refuse<Req, Res, Err>(&self, form: J::Form, decision: &St::Decision) -> Result<Res, Err>
    where
        J: Reject<Req, Res, Err>,
        St: Store,
    {
        let binding = decision.binding();
        let kind = if decision.never() { RejectionKind::CostTooHigh } else { RejectionKind::RateLimited };
        let mut rejection = Rejection::new(kind);
        rejection.policy = Some(self.core.limit_name(decision, binding));
        let others = decision.violations() & !1_u32.unbounded_shl(binding as u32);
        if others != 0 {
            rejection.also.extend(each(others).map(|index| self.core.limit_name(decision, index)));
        }
        rejection.retry_after = decision.retry_after();
        let mut res = self.reject.reject(form, rejection)?;
        self.annotate(form, &mut res, decision, false);
        Ok(res)
    }

    /// The answer to a call that is refused uncounted.
    #[cold]
    pub(crate) fn deny<Req, Res, Err>(&self, form: J::Form) -> Result<Res, Err>
    where
        J: Reject<Req, Res, Err>,
    {
        let rejection = Rejection::new(RejectionKind::Denied).with_policy(self.core.name.clone());
        self.reject.reject(form, rejection)
    }

    /// Writes what is left into a response, which comes in the moment of the decision or is late.
    pub(crate) fn annotate<Req, Res, Err>(
        &self,
        form: J::Form,
        res: &mut Res,
        decision: &St::Decision,
        late: bool,
    ) where
        J: Reject<Req, Res, Err>,
        St: Store,
    {
        let core = &*self.core;
        if late || !core.single {
            return self.annotate_any(form, res, decision, late);
        }
        // Stores may report under a lock: what is made of it comes afterwards.
        let mut only = None;
        core.store.quotas(decision, &mut |mut quota| {
            quota.name = core.name.clone();
            only = Some(quota);
        });
        if let Some(quota) = &only {
            self.reject.annotate(form, res, slice::from_ref(quota));
        }
    }

    /// The same, where there are several limits, or where time has gone by.
    #[inline(never)]
    fn annotate_any<Req, Res, Err>(&self, form: J::Form, res: &mut Res, decision: &St::Decision, late: bool)
    where
        J: Reject<Req, Res, Err>,
        St: Store,
    {
        let core = &*self.core;
        // Most often there is one, and then nothing is allocated.
        let (mut first, mut all) = (None, Vec::new());
        let mut report = |quota| {
            if let Some(first) = first.take() {
                all.push(first);
            }
            if all.is_empty() {
                first = Some(quota);
            } else {
                all.push(quota);
            }
        };
        if late {
            core.store.quotas_at(decision, core.clock.now(), &mut report);
        } else {
            core.store.quotas(decision, &mut report);
        }
        if let Some(mut quota) = first {
            if core.plans.is_empty() {
                quota.name = core.name.clone();
            }
            self.reject.annotate(form, res, slice::from_ref(&quota));
        } else if !all.is_empty() {
            self.reject.annotate(form, res, &all);
        }
    }
}

impl<St: Store> Core<St> {
    #[cold]
    fn unkeyed<D, W>(&self, admitted: bool) -> Course<D, W> {
        self.tally.count(if admitted { Count::Allowed } else { Count::Refused });
        self.tell(|policy| RateLimitEvent::Unkeyed { policy, rule: self.missing_key });
        if admitted { Course::Uncounted } else { Course::Denied }
    }

    #[cold]
    fn listed<D, W>(&self, admitted: bool) -> Course<D, W> {
        if admitted {
            self.tally.count(Count::Allowlisted);
            self.tell(|policy| RateLimitEvent::Allowlisted { policy });
            Course::Uncounted
        } else {
            self.tally.count(Count::Denied);
            self.tell(|policy| RateLimitEvent::Denied { policy });
            Course::Denied
        }
    }

    #[inline]
    fn planned(&self, planned: Planned) -> usize {
        match planned {
            Planned::One => 0,
            Planned::Of(index) => index,
            Planned::Unknown => self.unplanned(),
        }
    }

    #[cold]
    fn unplanned(&self) -> usize {
        self.tally.count(Count::Unplanned);
        self.tell(|policy| RateLimitEvent::UnknownPlan { policy });
        0
    }
}
