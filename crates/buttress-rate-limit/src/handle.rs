use std::sync::Arc;

use buttress_core::Clock;

use crate::Memory;
use crate::tally::Tally;

/// Reads and steers the state of a [`RateLimitLayer`](crate::RateLimitLayer), while its services use it.
///
/// ```
/// use buttress_rate_limit::RateLimitLayer;
///
/// let layer = RateLimitLayer::per_second(100);
/// let handle = layer.handle();
/// assert_eq!(handle.snapshot().allowed, 0);
/// ```
#[derive(Clone, Debug)]
pub struct Handle<St = Memory> {
    store: St,
    tally: Arc<Tally>,
    clock: Clock,
}

/// What a rate limit has done and holds. The counts run from the layer's making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Calls that passed.
    pub allowed: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls whose request had no key. They are in the two counts above as well.
    pub unkeyed: u64,
    /// Keys that made way for others although something was held against them.
    pub evicted: u64,
    /// Keys that something is held against now.
    pub keys: usize,
}

impl<St> Handle<St> {
    pub(crate) const fn new(store: St, tally: Arc<Tally>, clock: Clock) -> Self {
        Self { store, tally, clock }
    }

    /// How many calls passed.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        self.tally.allowed()
    }

    /// How many calls were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.tally.refused()
    }

    /// Where the state lives.
    #[must_use]
    pub const fn store(&self) -> &St {
        &self.store
    }
}

impl Handle<Memory> {
    /// Counts everything. It walks the table, so it is for a status page and not for each call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            allowed: self.tally.allowed(),
            refused: self.tally.refused(),
            unkeyed: self.tally.unkeyed_calls(),
            evicted: self.store.evicted(),
            keys: self.store.keys(self.clock.now()),
        }
    }

    /// Gives every key a fresh budget. The counts stay.
    pub fn reset(&self) {
        self.store.reset();
    }
}
