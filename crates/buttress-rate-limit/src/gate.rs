//! The one place where a call is decided: at once in `call`, or later in the future.

use std::slice;
use std::sync::Arc;

use buttress_core::{Answer, Clock, Decided, Key, Name, Reject, Rejection, RejectionKind, Store};

use crate::RateLimitEvent;
use crate::tally::Tally;

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
pub(crate) struct Gate<K, J, St> {
    pub(crate) key: K,
    pub(crate) reject: J,
    pub(crate) store: St,
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) missing_key: MissingKey,
    pub(crate) annotate_success: bool,
    pub(crate) observer: Option<Observer>,
    pub(crate) tally: Arc<Tally>,
}

/// What becomes of a call, as far as it is known in `call`.
pub(crate) enum Course<D, W> {
    /// Counted, and allowed or refused.
    Decided(D),
    /// The store answers later.
    Later(u32, W),
    /// Allowed without being counted.
    Uncounted,
    /// Refused for want of a key.
    Denied,
}

impl<K, J, St> Gate<K, J, St> {
    pub(crate) fn new(key: K, reject: J, store: St, name: Name) -> Self {
        Self {
            key,
            reject,
            store,
            name,
            clock: Clock::default(),
            missing_key: MissingKey::default(),
            annotate_success: false,
            observer: None,
            tally: Arc::default(),
        }
    }

    /// The same settings and counts with other parts.
    pub(crate) fn map<K2, J2, St2>(self, parts: impl FnOnce(K, J, St) -> (K2, J2, St2)) -> Gate<K2, J2, St2> {
        let Self { key, reject, store, name, clock, missing_key, annotate_success, observer, tally } = self;
        let (key, reject, store) = parts(key, reject, store);
        Gate { key, reject, store, name, clock, missing_key, annotate_success, observer, tally }
    }

    /// Begins a new budget, and so new counts.
    pub(crate) fn restart(&mut self, store: impl FnOnce(&St) -> St) {
        self.store = store(&self.store);
        self.tally = Arc::default();
    }

    #[inline]
    pub(crate) fn decide<Req>(&self, req: &Req) -> Course<St::Decision, St::Wait>
    where
        K: Key<Req>,
        St: Store,
    {
        let mut key = self.store.sink();
        if !self.key.key(req, &mut key) {
            self.tally.unkeyed();
            match self.missing_key {
                MissingKey::Allow => return self.unkeyed(true),
                MissingKey::Deny => return self.unkeyed(false),
                // A key of several parts may have written some of them.
                MissingKey::Shared => key = self.store.sink(),
            }
        }
        let cost = self.key.cost(req);
        match self.store.decide(key, cost, self.clock.now()) {
            Answer::Now(decision) => {
                self.report(cost, &decision);
                Course::Decided(decision)
            }
            Answer::Later(wait) => Course::Later(cost, wait),
        }
    }

    #[cold]
    fn unkeyed<D, W>(&self, admitted: bool) -> Course<D, W> {
        self.tally.decided(admitted);
        if let Some(observer) = &self.observer {
            observer(&RateLimitEvent::Unkeyed { policy: &self.name, rule: self.missing_key });
        }
        if admitted { Course::Uncounted } else { Course::Denied }
    }

    /// Counts a decision and tells the observer.
    #[inline]
    pub(crate) fn report(&self, cost: u32, decision: &impl Decided) {
        self.tally.decided(decision.admitted());
        if let Some(observer) = &self.observer {
            let policy = &self.name;
            observer(&if decision.admitted() {
                RateLimitEvent::Allowed { policy, cost, decision }
            } else {
                RateLimitEvent::Refused { policy, cost, decision }
            });
        }
    }

    /// The answer to a call that the limit refuses.
    pub(crate) fn refuse<Req, Res, Err>(&self, form: J::Form, decision: &St::Decision) -> Result<Res, Err>
    where
        J: Reject<Req, Res, Err>,
        St: Store,
    {
        let kind = if decision.never() { RejectionKind::CostTooHigh } else { RejectionKind::RateLimited };
        let mut rejection = Rejection::new(kind).with_policy(self.name.clone());
        rejection.retry_after = decision.retry_after();
        let mut res = self.reject.reject(form, rejection)?;
        self.annotate(form, &mut res, decision);
        Ok(res)
    }

    /// The answer to a call without a key, where one is demanded.
    #[cold]
    pub(crate) fn deny<Req, Res, Err>(&self, form: J::Form) -> Result<Res, Err>
    where
        J: Reject<Req, Res, Err>,
    {
        self.reject.reject(form, Rejection::new(RejectionKind::Denied).with_policy(self.name.clone()))
    }

    /// Writes what is left into a response.
    pub(crate) fn annotate<Req, Res, Err>(&self, form: J::Form, res: &mut Res, decision: &St::Decision)
    where
        J: Reject<Req, Res, Err>,
        St: Store,
    {
        // Most often there is one, and then nothing is allocated.
        let (mut first, mut all) = (None, Vec::new());
        self.store.quotas(decision, &mut |quota| match &first {
            None => first = Some(quota),
            Some(_) => all.push(quota),
        });
        if let Some(mut quota) = first {
            if all.is_empty() {
                quota.name = self.name.clone();
                self.reject.annotate(form, res, slice::from_ref(&quota));
            } else {
                all.insert(0, quota);
                self.reject.annotate(form, res, &all);
            }
        }
    }
}
