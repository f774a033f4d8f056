use std::fmt;
use std::sync::Arc;

use buttress_core::{Answer, Decided, KeyPart, Name, Quota, Store};

use crate::gate::{Core, LIMITS};
use crate::line::Turn;
use crate::policy::{CarryOver, Limit, LimitError};
use crate::tally::Count;
use crate::top::TopKey;
use crate::{Decision, Memory, Pick};

/// Reads and steers the state of a [`RateLimitLayer`](crate::RateLimitLayer), while its services use it.
///
/// ```
/// use buttress_rate_limit::{CarryOver, Limit, RateLimitLayer};
///
/// let layer = RateLimitLayer::per_minute(100).by(|user: &String| Some(user.clone()));
/// let handle = layer.handle();
///
/// assert_eq!(handle.snapshot().allowed, 0);
/// assert_eq!(handle.peek("ann")[0].remaining, 100);
/// // For everybody, at once, and whoever has used half of the old still has half of the new.
/// handle.set_limit("default", Limit::per_minute(200), CarryOver::Proportional)?;
/// assert_eq!(handle.peek("ann")[0].remaining, 200);
/// # Ok::<(), buttress_rate_limit::LimitError>(())
/// ```
#[derive(Clone)]
pub struct Handle<St: Store = Memory> {
    core: Arc<Core<St>>,
    plan: usize,
}

/// What a rate limit has done and holds. The counts run from the layer's making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Calls that passed, or may when their turn has come. Calls on the allow list are not among them.
    pub allowed: u64,
    /// Calls that were refused. Calls on the deny list are not among them.
    pub refused: u64,
    /// Calls whose request had no key. They are in one of the two counts above as well.
    pub unkeyed: u64,
    /// Calls on the allow list.
    pub allowlisted: u64,
    /// Calls on the deny list.
    pub denied: u64,
    /// Calls that have waited for their turn, and went.
    pub waited: u64,
    /// Calls that were dropped before their turn had come.
    pub abandoned: u64,
    /// Calls whose charge was settled after their answer.
    pub settled: u64,
    /// Calls that passed since what would have refused them only watches.
    pub shadowed: u64,
    /// Calls whose plan was not there.
    pub unplanned: u64,
    /// Keys that made way for others although something was held against them.
    pub evicted: u64,
    /// Keys that something is held against now.
    pub keys: usize,
}

/// What one of the limits has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounts {
    /// The plan it belongs to, where there are plans.
    pub plan: Option<Name>,
    /// Its name.
    pub limit: Name,
    /// Calls that it refused, alone or with others. To the first limit are counted, too, calls whose key found no
    /// place under [`WhenFull::Refuse`](crate::WhenFull::Refuse); [`Memory::crowded`] says how many these are.
    pub refused: u64,
    /// Calls that it would have refused if it did not only watch.
    pub shadowed: u64,
}

impl<St: Store> Handle<St> {
    pub(crate) const fn new(core: Arc<Core<St>>) -> Self {
        Self { core, plan: 0 }
    }

    /// How many calls passed.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        self.core.tally.sum(Count::Allowed)
    }

    /// How many calls were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.core.tally.sum(Count::Refused)
    }

    /// All counts of calls. What the state itself counts, [`evicted`](Snapshot::evicted) and
    /// [`keys`](Snapshot::keys), is left at 0 here.
    #[must_use]
    pub fn counts(&self) -> Snapshot {
        let sum = |what| self.core.tally.sum(what);
        Snapshot {
            allowed: sum(Count::Allowed),
            refused: sum(Count::Refused),
            unkeyed: sum(Count::Unkeyed),
            allowlisted: sum(Count::Allowlisted),
            denied: sum(Count::Denied),
            waited: sum(Count::Waited),
            abandoned: sum(Count::Abandoned),
            settled: sum(Count::Settled),
            shadowed: sum(Count::Shadowed),
            unplanned: sum(Count::Unplanned),
            evicted: 0,
            keys: 0,
        }
    }

    /// The keys that were refused most, if [`top_refused`](crate::RateLimitLayer::top_refused) keeps track of them: the
    /// one refused most first. They are as clients sent them: not for a log that others read.
    #[must_use]
    pub fn top_refused(&self) -> Vec<TopKey> {
        self.core.top.as_ref().map(|top| top.list()).unwrap_or_default()
    }

    /// Where the state lives.
    #[must_use]
    pub fn store(&self) -> &St {
        &self.core.store
    }
}

impl Handle<Memory> {
    /// Counts everything. It walks the table, so it is for a status page and not for each call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let store = &self.core.store;
        Snapshot { evicted: store.evicted(), keys: store.keys(self.core.clock.now()), ..self.counts() }
    }

    /// What each limit of each plan has done.
    #[must_use]
    pub fn limits(&self) -> Vec<LimitCounts> {
        let plans = self.core.plans.len().max(1);
        let mut counts = Vec::new();
        for plan in 0..plans {
            for (index, limit) in self.names(plan).into_iter().enumerate() {
                let (refused, shadowed) = self.core.tally.sum_limit(plan * LIMITS + index);
                counts.push(LimitCounts {
                    plan: self.core.plans.get(plan).cloned(),
                    limit,
                    refused,
                    shadowed,
                });
            }
        }
        counts
    }

    /// The same handle for the plan of this name or index, whose keys and limits the methods below are then about;
    /// without it they are about the first. `None` when there is no such plan.
    ///
    /// ```
    /// use buttress_rate_limit::{Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::plans([("free", Limit::per_minute(60)), ("pro", Limit::per_minute(6000))])
    ///     .plan(|_: &u32| "free");
    /// let pro = layer.handle().plan("pro").expect("it is there");
    /// assert_eq!(pro.peek(7)[0].remaining, 6000);
    /// ```
    #[must_use]
    pub fn plan(&self, plan: impl Pick) -> Option<Self> {
        let plan = plan.find(&self.core.plans)?;
        Some(Self { core: Arc::clone(&self.core), plan })
    }

    /// What is left to `key` of each limit, without taking anything. The key is what [`by`](crate::RateLimitLayer::by)
    /// gives: an `IpAddr`, a text, a tuple of them. [`Global`](buttress_core::Global) stands for calls without a key.
    #[must_use]
    pub fn peek(&self, key: impl KeyPart) -> Vec<Quota> {
        let mut quotas = Vec::new();
        self.core.store.quotas(&self.look(key), &mut |quota| quotas.push(quota));
        quotas
    }

    /// Gives `units` back to `key` in each limit, as far as it has spent them; `u32::MAX` is all that can be given
    /// back. For a call that was charged and then not served.
    pub fn refund(&self, key: impl KeyPart, units: u32) {
        let charged = Decision { cost: units, ..self.look(key) };
        self.core.store.settle(&charged, 0, self.core.clock.now());
    }

    /// Puts `limit` in the place of the limit of this name or index, for calls that come from now on. `rule` says
    /// what becomes of what the keys have used. Calls go on meanwhile, and those that wait keep their turns.
    ///
    /// `limit` brings its name, so where there are several give it the [name](Limit::named) of the old one. The only
    /// limit of a layer has the layer's name.
    ///
    /// # Errors
    ///
    /// When there is no such limit, or when two of the plan would have one name. A plan whose only limit is a token
    /// bucket takes another such bucket only: no other algorithm, none that [only watches](Limit::shadow), and while
    /// its keys have packed words ([`Memory`]) none too large for them.
    pub fn set_limit(
        &self,
        which: impl Pick,
        limit: impl Into<Limit>,
        rule: CarryOver,
    ) -> Result<(), LimitError> {
        let store = &self.core.store;
        let names = self.names(self.plan);
        let index = which.find(&names).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            LimitError::new("limits", names, "must be picked by one of these names, or by an index of them")
        })?;
        store.set_limit(self.plan, index, limit, rule, self.core.clock.now())
    }

    /// The names of the limits of a plan, as they are told to clients.
    fn names(&self, plan: usize) -> Vec<Name> {
        let limits = self.core.store.limits(plan);
        if limits.len() == 1 && self.core.plans.is_empty() {
            return vec![self.core.name.clone()];
        }
        limits.iter().map(|limit| limit.name().clone()).collect()
    }

    /// Gives every key a fresh budget. The counts stay. Calls that wait for their turn are charged to it first, in
    /// their order, and go as soon as it lets them.
    pub fn reset(&self) {
        self.core.store.reset();
        let Core { store, clock, lines, .. } = &*self.core;
        let now = clock.now();
        lines.renew(|old| {
            let decision = store.charge_again(old, now);
            // Newcomers may have been quicker, and then it keeps the turn that it has.
            decision.admitted().then(|| Turn { at: now + decision.delay(), decision })
        });
    }

    fn look(&self, key: impl KeyPart) -> Decision {
        let store = &self.core.store;
        let mut sink = store.sink();
        key.write(&mut sink);
        store.plan(&mut sink, self.plan);
        match store.decide(sink, 0, self.core.clock.now()) {
            Answer::Now(decision) => decision,
            Answer::Later(_) => unreachable!("memory answers at once"),
        }
    }
}

impl<St: Store + fmt::Debug> fmt::Debug for Handle<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.core.name)
            .field("store", &self.core.store)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
