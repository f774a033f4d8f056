use std::fmt;
use std::future::Pending;
use std::sync::Arc;

use buttress_core::{Answer, HashSeeds, HashSink, KeySink, Name, Quota, Store, Timestamp};

use crate::decision::Decision;
use crate::plan::Plan;
use crate::policy::{CarryOver, Limit, LimitError};
use crate::set;

/// The state of one or several limits in this process, bounded by construction.
///
/// A clone shares the state. Calls without a key ([`Global`](buttress_core::Global), or
/// [`MissingKey::Shared`](crate::MissingKey::Shared)) are counted on one budget that is always there.
///
/// # Several limits
///
/// [`all`](Self::all) holds a key to several limits at once. A call passes when each of them lets it pass, and
/// charges them all; when one refuses, none is charged. Of those that refuse, the one that does so for longest is
/// reported. [`plans`](Self::plans) keeps several such sets apart, of which each call takes one.
///
/// # Memory
///
/// The tables for keys have a fixed size, made when the first key comes (or at once by
/// [`capacity_for`](Self::capacity_for)). There is no janitor, and nothing is allocated per call.
///
/// | limits | memory per key of the capacity | a call of a key that is held |
/// |---|---|---|
/// | one token bucket | 16 bytes: 1 MB for 65 536 keys | one compare-and-swap of one word |
/// | any other, or several | about 73 bytes and 37 for each further limit, and what a wide state ([`LimitState`](crate::LimitState)) puts into its box | the lock of a group of seven keys |
/// | a bucket whose calls are settled | the same, and while it owes something a box with an entry of 24 bytes for each charge, up to 32 of them | the same, and a look at the entries |
///
/// A token bucket has a packed word if its ticks are whole when it takes at most 2^37 of them to fill (137 seconds,
/// at most rates); otherwise ticks are coarser, and the rate is up to 0.003 % lower than asked, never higher.
/// Where even that is not enough (more than two million units at once, to be earned over hours) it has the
/// other table. In packed words two keys have the same tag in about one case in a million, and then share one
/// budget.
///
/// # Settling
///
/// A call that is [settled](Store::settle) for less than it was charged gives the rest back, as far as it was not
/// earned again since. Windows and logs know which units those are by the time of the charge; a token bucket's word
/// does not. [`settling`](Store::settling), which a layer asks for when it is told how to settle, keeps account of each
/// charge of a bucket until it has flowed out, first in, first out. Its state is then as if what was given back had
/// never been charged. Charges beyond 32 that are owed at a time are kept as ranges: the two closest together count as
/// one that was made when the later was, so that the bucket owes what it should or a little more, never less.
///
/// Without it, what is given back is bounded by what may be left of a charge of that age, and may come out of a later
/// one. What was charged before [`reset`](Self::reset), or before a change with [`CarryOver::Reset`], is never given back.
///
/// # At the bound
///
/// A key that holds nothing any more (its bucket is full again, its window is over) leaves its place to the next
/// at no loss. Where all places that a new key may take hold something, [`WhenFull`] says what happens. By default
/// the key that holds the least makes way, and is counted in [`Snapshot::evicted`](crate::Snapshot::evicted). It
/// comes back with a fresh budget, so a flood of random keys can give a key back at most what it had spent; limits
/// hold per key *while it is held*. At full capacity about one key in a hundred is displaced so; at half of it,
/// almost none.
///
/// # Hashes
///
/// Keys are kept as 64-bit hashes with seeds drawn per process. Two keys with one hash share one budget: they
/// are limited too much, never too little.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    first: Plan,
    more: Box<[Plan]>,
    setup: Setup,
    seeds: HashSeeds,
}

/// What a state is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) plans: Vec<Vec<Limit>>,
    pub(crate) capacity: usize,
    /// Whether the tables are made at once.
    pub(crate) at_once: bool,
    pub(crate) when_full: WhenFull,
    /// Whether calls are settled after their answer.
    pub(crate) settles: bool,
}

/// What happens to a new key when every place that it may take is held by a key with a debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// The key that holds the least makes way, and is fresh when it comes back. No caller is refused for others,
    /// and a flood of keys gives a key back at most what it had spent.
    #[default]
    EvictLeastDebt,
    /// The new key is refused until there is a place, and is told when: no key ever gets more than its limit, and a
    /// flood of keys shuts new ones out.
    Refuse,
    /// The new key shares one budget, of the size of a key's, with all others that find no place in its group: no
    /// key ever gets more than its limit, and a flood slows new keys down.
    Shared,
}

impl Memory {
    /// How many keys are held unless said otherwise.
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// Holds keys to one limit: up to 65 536 keys, in a table that is made when the first of them comes.
    #[must_use]
    pub fn new(limit: impl Into<Limit>) -> Self {
        Self::make(Setup::new(vec![vec![limit.into()]]))
    }

    /// Holds keys to one limit: up to `capacity` keys, in a table that is made now.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0, or above 2³².
    #[must_use]
    #[track_caller]
    pub fn with_capacity(limit: impl Into<Limit>, capacity: usize) -> Self {
        Self::new(limit).capacity_for(capacity)
    }

    /// Holds keys to several limits at once, all or nothing.
    ///
    /// # Panics
    ///
    /// When [`try_plans`](Self::try_plans) fails.
    #[must_use]
    #[track_caller]
    pub fn all(limits: impl IntoIterator<Item = impl Into<Limit>>) -> Self {
        Self::plans([limits])
    }

    /// Keeps several sets of limits, of which each call takes one by its index ([`Store::plan`]). A call with an
    /// index that there is no set for takes the first.
    ///
    /// A set has a table of its own, so the memory is that of one set times the number of sets in use, and a key
    /// that changes its plan begins with a fresh budget.
    ///
    /// # Panics
    ///
    /// When [`try_plans`](Self::try_plans) fails.
    #[must_use]
    #[track_caller]
    pub fn plans<Limits>(plans: impl IntoIterator<Item = Limits>) -> Self
    where
        Limits: IntoIterator<Item: Into<Limit>>,
    {
        Self::try_plans(plans).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Keeps several sets of limits; for sets that come from a configuration file.
    ///
    /// # Errors
    ///
    /// When there is no set, when a set is empty or has more than 16 limits, or two of the same name.
    pub fn try_plans<Limits>(plans: impl IntoIterator<Item = Limits>) -> Result<Self, LimitError>
    where
        Limits: IntoIterator<Item: Into<Limit>>,
    {
        let plans: Vec<Vec<Limit>> =
            plans.into_iter().map(|plan| plan.into_iter().map(Into::into).collect()).collect();
        if plans.is_empty() || plans.len() > usize::from(u16::MAX) {
            return Err(LimitError::new("plans", plans.len(), "must be at least 1 and at most 65535"));
        }
        plans.iter().try_for_each(|limits| set::check(limits))?;
        Ok(Self::make(Setup::new(plans)))
    }

    /// Holds up to `keys` keys in each plan, in tables that are made now. Begins a new state.
    ///
    /// # Panics
    ///
    /// When `keys` is 0, or above 2³².
    #[must_use]
    #[track_caller]
    pub fn capacity_for(self, keys: usize) -> Self {
        assert!(keys > 0, "rate limit with `capacity` = 0: must be at least 1 key");
        assert!(
            keys as u64 <= 1 << 32,
            "rate limit with `capacity` = {keys}: must be at most 4294967296 keys"
        );
        self.rebuild(|setup| (setup.capacity, setup.at_once) = (keys, true))
    }

    /// Says what happens to a new key when there is no place for it. The default is
    /// [`WhenFull::EvictLeastDebt`]. Begins a new state.
    #[must_use]
    pub fn when_full(self, rule: WhenFull) -> Self {
        self.rebuild(|setup| setup.when_full = rule)
    }

    fn make(setup: Setup) -> Self {
        let mut plans = setup.plans.iter().map(|limits| {
            let plan = Plan::new(limits, setup.capacity, setup.when_full, setup.settles);
            if setup.at_once {
                plan.make();
            }
            plan
        });
        let first = plans.next().expect("there is a plan");
        let more = plans.collect();
        Self(Arc::new(Shared { first, more, setup, seeds: HashSeeds::get() }))
    }

    /// A fresh state that is made like this one but for `change`.
    pub(crate) fn rebuild(&self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.0.setup.clone();
        change(&mut setup);
        Self::make(setup)
    }

    /// Puts `limit` in the place of the limit with this index in this plan, while calls go on. What is held
    /// against each key is carried over by `rule`.
    ///
    /// The table is walked, one group's lock at a time; each key changes over when its group's turn comes. A call
    /// that is settled after the change gives back, or takes, units of the new limit; after [`CarryOver::Reset`] it does
    /// neither.
    ///
    /// # Errors
    ///
    /// When there is no such plan or limit, or when two limits of the plan would have the same name.
    pub fn set_limit(
        &self,
        plan: usize,
        index: usize,
        limit: impl Into<Limit>,
        rule: CarryOver,
        now: Timestamp,
    ) -> Result<(), LimitError> {
        let plan = self
            .all_plans()
            .nth(plan)
            .ok_or_else(|| LimitError::new("plan", plan, "must be that of a plan which is there"))?;
        plan.change(index, &limit.into(), rule, now)
    }

    /// The limits of the plan with this index, as they are now.
    #[must_use]
    pub fn limits(&self, plan: usize) -> Arc<[Limit]> {
        self.plan_at(plan).limits()
    }

    /// The limit that is enforced: the first, where there are several.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limits(0)[0].clone()
    }

    /// How many keys each plan is made for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.setup.capacity
    }

    /// How many keys hold something at `now`. Walks the table: for a status page, not for each call.
    #[must_use]
    pub fn keys(&self, now: Timestamp) -> usize {
        self.all_plans().map(|plan| plan.held(now)).sum()
    }

    /// How many keys had to make way although they still held something.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.all_plans().map(Plan::evicted).sum()
    }

    /// How many calls found no place for their key, under [`WhenFull::Refuse`] and [`WhenFull::Shared`].
    #[must_use]
    pub fn crowded(&self) -> u64 {
        self.all_plans().map(Plan::crowded).sum()
    }

    /// Charges the call of this decision once more.
    pub(crate) fn charge_again(&self, decision: &Decision, now: Timestamp) -> Decision {
        let Decision { hash, cost, plan, keyed, .. } = *decision;
        self.charge(plan, keyed.then_some(hash), cost, now)
    }

    #[inline(always)]
    fn charge(&self, plan: u16, hash: Option<u64>, cost: u32, now: Timestamp) -> Decision {
        let limits = self.plan_at(plan.into());
        let (epoch, keyed) = (limits.epoch(), hash.is_some());
        let outcome = limits.charge(hash, cost, now);
        Decision { hash: hash.unwrap_or(0), at: now, cost, plan, keyed, epoch, outcome }
    }

    /// Forgets every key: all budgets are fresh.
    pub fn reset(&self) {
        self.all_plans().for_each(Plan::clear);
    }

    /// The numbers of the two groups that a key may be in, for models which have to choose theirs.
    #[cfg(buttress_loom)]
    #[doc(hidden)]
    pub fn groups_of(&self, key: KeyHash) -> [usize; 2] {
        self.0.first.groups_of(key.hash.expect("there is a key").finish())
    }

    fn all_plans(&self) -> impl Iterator<Item = &Plan> {
        [&self.0.first].into_iter().chain(&self.0.more)
    }

    #[inline]
    fn plan_at(&self, plan: usize) -> &Plan {
        if plan == 0 { &self.0.first } else { self.0.more.get(plan - 1).unwrap_or(&self.0.first) }
    }
}

impl Setup {
    fn new(plans: Vec<Vec<Limit>>) -> Self {
        let (capacity, when_full) = (Memory::DEFAULT_CAPACITY, WhenFull::default());
        Self { plans, capacity, at_once: false, when_full, settles: false }
    }
}

impl Store for Memory {
    type Sink = KeyHash;
    type Decision = Decision;
    type Wait = Pending<Decision>;

    #[inline]
    fn sink(&self) -> KeyHash {
        KeyHash { plan: 0, seeds: self.0.seeds, hash: None }
    }

    #[inline]
    fn plan(&self, key: &mut KeyHash, plan: usize) {
        key.plan = if plan <= self.0.more.len() { plan as u16 } else { 0 };
    }

    #[inline(always)]
    fn decide(&self, key: KeyHash, cost: u32, now: Timestamp) -> Answer<Decision, Self::Wait> {
        Answer::Now(self.charge(key.plan, key.hash.map(HashSink::finish), cost, now))
    }

    fn settle(&self, decision: &Decision, actual: u32, now: Timestamp) {
        if decision.outcome.admitted() && actual != decision.cost {
            self.plan_at(decision.plan.into()).settle(decision, actual, now);
        }
    }

    fn settling(self) -> Self {
        if self.0.setup.settles { self } else { self.rebuild(|setup| setup.settles = true) }
    }

    #[inline(always)]
    fn quotas(&self, decision: &Decision, report: &mut dyn FnMut(Quota)) {
        self.plan_at(decision.plan.into()).quotas(decision, report);
    }

    fn quotas_at(&self, decision: &Decision, now: Timestamp, report: &mut dyn FnMut(Quota)) {
        self.plan_at(decision.plan.into()).quotas_at(decision, now, report);
    }

    fn evicted(&self) -> u64 {
        self.evicted()
    }

    fn name(&self, decision: &Decision, index: usize) -> Option<Name> {
        self.limits(decision.plan.into()).get(index).map(|limit| limit.name().clone())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("plans", &self.all_plans().map(Plan::limits).collect::<Vec<_>>())
            .field("capacity", &self.capacity())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

/// The key of a call as [`Memory`] takes it: its hash, or nothing until the first part is written, and its plan.
#[derive(Clone, Debug)]
pub struct KeyHash {
    plan: u16,
    seeds: HashSeeds,
    hash: Option<HashSink>,
}

impl KeySink for KeyHash {
    #[inline]
    fn bytes(&mut self, part: &[u8]) {
        self.hash.get_or_insert_with(|| HashSink::with(self.seeds)).bytes(part);
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        self.hash.get_or_insert_with(|| HashSink::with(self.seeds)).fixed(part);
    }
}
