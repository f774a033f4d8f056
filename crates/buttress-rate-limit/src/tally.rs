use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::Counters;

const KINDS: usize = 10;

/// What is counted of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Allowed,
    Refused,
    Unkeyed,
    Allowlisted,
    Denied,
    Waited,
    Abandoned,
    Settled,
    Shadowed,
    Unplanned,
}

/// Counts what was decided.
#[derive(Debug)]
pub(crate) struct Tally {
    calls: Counters<KINDS>,
    /// Refusals, and what would have been one: two for each limit.
    limits: Box<[AtomicU64]>,
    /// How many evictions were told.
    evictions: AtomicU64,
}

impl Tally {
    /// Counts for so many limits, over all plans.
    pub(crate) fn new(limits: usize) -> Self {
        let limits = (0..2 * limits).map(|_| AtomicU64::new(0)).collect();
        Self { calls: Counters::new(), limits, evictions: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.calls.add_one(what as usize);
    }

    pub(crate) fn sum(&self, what: Count) -> u64 {
        self.calls.sum(what as usize)
    }

    /// Counts a refusal by the limit with this index, or what would be one if the limit did not only watch.
    pub(crate) fn count_limit(&self, index: usize, shadowed: bool) {
        if let Some(count) = self.limits.get(2 * index + usize::from(shadowed)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the limit with this index refused, and how often it would have.
    pub(crate) fn sum_limit(&self, index: usize) -> (u64, u64) {
        let load = |at: usize| self.limits.get(at).map_or(0, |count| count.load(Ordering::Relaxed));
        (load(2 * index), load(2 * index + 1))
    }

    /// Of so many evictions, those that were not told before.
    pub(crate) fn new_evictions(&self, all: u64) -> u64 {
        // Most calls evict nothing, and do not write.
        if self.evictions.load(Ordering::Relaxed) >= all {
            return 0;
        }
        all.saturating_sub(self.evictions.fetch_max(all, Ordering::Relaxed))
    }
}
