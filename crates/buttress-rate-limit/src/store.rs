use std::fmt;
use std::future::Pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use buttress_core::{Answer, Decision, HashSink, KeySink, Store, Timestamp};

use crate::policy::{Limit, Policy};
use crate::sync::AtomicU64;
use crate::table::Table;

/// The state of a limit in this process, bounded by construction.
///
/// A clone shares the state. Calls without a key ([`Global`](buttress_core::Global), or
/// [`MissingKey::Shared`](crate::MissingKey::Shared)) are counted on one atomic word that is always there.
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
    one: AtomicU64,
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
        Self(Arc::new(Shared { limit, capacity, one: AtomicU64::new(0), table: OnceLock::new() }))
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
        let one = self.0.limit.debt(self.0.one.load(Ordering::Relaxed), self.one_time(now)) > 0;
        usize::from(one) + self.0.table.get().map_or(0, |table| table.keys(&self.0.limit, now))
    }

    /// How many keys had to make way although they still held something.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.0.table.get().map_or(0, Table::evicted)
    }

    /// Forgets every key: all budgets are fresh.
    pub fn reset(&self) {
        self.0.one.store(0, Ordering::Relaxed);
        if let Some(table) = self.0.table.get() {
            table.clear();
        }
    }

    #[inline]
    fn table(&self) -> &Table {
        self.0.table.get_or_init(|| Table::new(self.0.capacity))
    }

    #[inline]
    fn one_time(&self, now: Timestamp) -> Timestamp {
        now + self.0.limit.shift(0)
    }

    #[inline]
    fn decide_one(&self, cost: u32, now: Timestamp) -> Decision {
        let now = self.one_time(now);
        // The word is all there is to know, so no ordering with other memory is needed.
        let mut state = self.0.one.load(Ordering::Relaxed);
        loop {
            let (next, decision) = self.0.limit.decide(state, now, cost);
            if next == state {
                return decision;
            }
            match self.0.one.compare_exchange_weak(state, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return decision,
                Err(seen) => state = seen,
            }
        }
    }
}

impl Store for Memory {
    type Sink = KeyHash;
    type Wait = Pending<Decision>;

    #[inline]
    fn sink(&self) -> KeyHash {
        KeyHash(None)
    }

    #[inline]
    fn decide(&self, key: KeyHash, cost: u32, now: Timestamp) -> Answer<Self::Wait> {
        Answer::Now(match key.0 {
            None => self.decide_one(cost, now),
            Some(hash) => self.table().decide(&self.0.limit, hash.finish(), cost, now),
        })
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
