use std::fmt;
use std::future::Pending;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use buttress_core::{Answer, Decided, HashSink, KeySink, Name, Quota, Store, Timestamp, nanos};

use crate::policy::{Left, Limit, LimitState, Policy};
use crate::sync::Mutex;
use crate::table::Table;

/// The state of a limit in this process, bounded by construction.
///
/// A clone shares the state. Calls without a key ([`Global`](buttress_core::Global), or
/// [`MissingKey::Shared`](crate::MissingKey::Shared)) are counted on one state that is always there.
///
/// # Memory
///
/// The table for keys has a fixed size, made when the first key comes (or at once by
/// [`with_capacity`](Self::with_capacity)): 37 bytes per key of the capacity, 2.4 MB at the default of 65 536
/// keys. That is one busy /16 of clients, and little beside what a server holds for as many. Nothing is allocated
/// per key or per call, and there is no janitor.
///
/// # At the bound
///
/// A key that holds nothing any more (its bucket is full again, its window is over) leaves its place to the next
/// at no loss. Where all seven places that a new key may take hold something, the key that holds the least makes
/// way, and is counted in [`Snapshot::evicted`](crate::Snapshot::evicted). It comes back with a fresh budget, so
/// a flood of random keys can give a key back at most what it had spent; limits hold per key *while it is held*.
/// At full capacity about one key in a hundred is displaced so; at half of it, almost none.
///
/// # Hashes
///
/// Keys are kept as 64-bit hashes with seeds drawn per process. Two keys with one hash share one budget: they
/// are limited too much, never too little.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    limit: Limit,
    capacity: usize,
    /// The state of calls without a key.
    one: Mutex<LimitState>,
    table: OnceLock<Table>,
}

impl Memory {
    /// How many keys are held unless said otherwise.
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// Holds up to 65 536 keys, in a table that is made when the first of them comes.
    #[must_use]
    pub fn new(limit: impl Into<Limit>) -> Self {
        Self::make(limit.into(), Self::DEFAULT_CAPACITY)
    }

    /// Holds up to `capacity` keys, in a table that is made now.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0, or above 2³² (157 GB).
    #[must_use]
    #[track_caller]
    pub fn with_capacity(limit: impl Into<Limit>, capacity: usize) -> Self {
        assert!(capacity > 0, "rate limit with `capacity` = 0: must be at least 1 key");
        assert!(
            capacity as u64 <= 1 << 32,
            "rate limit with `capacity` = {capacity}: must be at most 4294967296 keys"
        );
        let memory = Self::make(limit.into(), capacity);
        memory.table();
        memory
    }

    fn make(limit: Limit, capacity: usize) -> Self {
        Self(Arc::new(Shared { limit, capacity, one: Mutex::default(), table: OnceLock::new() }))
    }

    /// A fresh state like this one, under another limit.
    pub(crate) fn relimit(&self, limit: Limit) -> Self {
        let memory = Self::make(limit, self.0.capacity);
        if self.0.table.get().is_some() {
            memory.table();
        }
        memory
    }

    /// The limit that is enforced.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.0.limit
    }

    /// How many keys it is made for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// How many keys hold something at `now`. Walks the table: for a status page, not for each call.
    #[must_use]
    pub fn keys(&self, now: Timestamp) -> usize {
        let one = self.with(None, now, |state| self.0.limit.debt(state, now + self.0.limit.shift(0)) > 0);
        usize::from(one) + self.0.table.get().map_or(0, |table| table.keys(&self.0.limit, now))
    }

    /// How many keys had to make way although they still held something.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.0.table.get().map_or(0, Table::evicted)
    }

    /// Forgets every key: all budgets are fresh.
    pub fn reset(&self) {
        *self.0.one.lock().unwrap_or_else(PoisonError::into_inner) = LimitState::default();
        if let Some(table) = self.0.table.get() {
            table.clear();
        }
    }

    #[inline]
    fn table(&self) -> &Table {
        self.0.table.get_or_init(|| Table::new(self.0.capacity))
    }

    /// Gives `change` the state of the key with this hash, or the one for calls without a key.
    #[inline]
    fn with<T>(&self, hash: Option<u64>, now: Timestamp, change: impl FnOnce(&mut LimitState) -> T) -> T {
        match hash {
            None => change(&mut self.0.one.lock().unwrap_or_else(PoisonError::into_inner)),
            Some(hash) => self.table().with(&self.0.limit, hash, now, change),
        }
    }

    fn time(&self, hash: Option<u64>, now: Timestamp) -> Timestamp {
        now + self.0.limit.shift(hash.unwrap_or(0))
    }
}

impl Store for Memory {
    type Sink = KeyHash;
    type Decision = Decision;
    type Wait = Pending<Decision>;

    #[inline]
    fn sink(&self) -> KeyHash {
        KeyHash(None)
    }

    #[inline]
    fn decide(&self, key: KeyHash, cost: u32, now: Timestamp) -> Answer<Decision, Self::Wait> {
        let limit = &self.0.limit;
        let hash = key.0.map(HashSink::finish);
        let local = self.time(hash, now);
        let retry_after = self.with(hash, now, |state| {
            if limit.charge(state, local, cost) { None } else { Some(limit.retry_after(state, local, cost)) }
        });
        Answer::Now(Decision {
            hash,
            at: now,
            cost,
            admitted: retry_after.is_none(),
            wait: retry_after.map_or(0, |wait| wait.map_or(u64::MAX, nanos)),
        })
    }

    fn settle(&self, decision: &Decision, actual: u32, now: Timestamp) {
        let limit = &self.0.limit;
        if !decision.admitted || actual == decision.cost {
            return;
        }
        let (at, local) = (self.time(decision.hash, decision.at), self.time(decision.hash, now));
        self.with(decision.hash, now, |state| match decision.cost.checked_sub(actual) {
            Some(less) => limit.refund(state, at, local, less),
            None => limit.force(state, local, actual - decision.cost),
        });
    }

    fn quotas(&self, decision: &Decision, report: &mut dyn FnMut(Quota)) {
        let limit = &self.0.limit;
        let local = self.time(decision.hash, decision.at);
        let Left { remaining, reset } =
            self.with(decision.hash, decision.at, |state| limit.left(state, local));
        report(Quota::new(limit.name().clone(), limit.limit(), remaining, reset, limit.window()));
    }

    fn name(&self, _: &Decision, index: usize) -> Option<Name> {
        (index == 0).then(|| self.0.limit.name().clone())
    }
}

/// What [`Memory`] has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    hash: Option<u64>,
    at: Timestamp,
    cost: u32,
    admitted: bool,
    /// Nanoseconds; the largest number is never.
    wait: u64,
}

impl Decided for Decision {
    #[inline]
    fn admitted(&self) -> bool {
        self.admitted
    }

    fn retry_after(&self) -> Option<Duration> {
        (!self.admitted && self.wait < u64::MAX).then(|| Duration::from_nanos(self.wait))
    }

    fn never(&self) -> bool {
        !self.admitted && self.wait == u64::MAX
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("limit", &self.0.limit)
            .field("capacity", &self.0.capacity)
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

/// The hash of a key, as [`Memory`] takes it; of nothing, until the first part is written.
#[derive(Clone, Debug, Default)]
pub struct KeyHash(Option<HashSink>);

impl KeySink for KeyHash {
    #[inline]
    fn bytes(&mut self, part: &[u8]) {
        self.0.get_or_insert_with(HashSink::new).bytes(part);
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        self.0.get_or_insert_with(HashSink::new).fixed(part);
    }
}
