use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::Clock;

use crate::{Budget, Skip};

/// Reads what a [`RetryLayer`](crate::RetryLayer) has done, while its services go on.
///
/// ```
/// use buttress_retry::{RetryLayer, Skip};
///
/// let layer = RetryLayer::default();
/// let handle = layer.handle();
/// assert_eq!(handle.snapshot().retries, 0);
/// assert_eq!(handle.skipped(Skip::Budget), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    tally: Arc<Tally>,
    budget: Budget,
    clock: Clock,
}

/// What a retry layer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Calls that were made, each counted once.
    pub calls: u64,
    /// Attempts after the first of a call.
    pub retries: u64,
    /// Calls that succeeded after more than one attempt.
    pub recovered: u64,
    /// Calls that failed in a way that is worth another attempt, and had none: the sum of all reasons.
    pub skipped: u64,
    /// Fields of answers that were not understood.
    pub malformed: u64,
    /// How many retries the budget allows at this moment.
    pub budget_left: u64,
}

impl Handle {
    pub(crate) const fn new(tally: Arc<Tally>, budget: Budget, clock: Clock) -> Self {
        Self { tally, budget, clock }
    }

    /// All counts.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            calls: load(&self.tally.calls),
            retries: load(&self.tally.retries),
            recovered: load(&self.tally.recovered),
            skipped: self.tally.skipped.iter().map(load).sum(),
            malformed: load(&self.tally.malformed),
            budget_left: self.budget.left(self.clock.now()),
        }
    }

    /// How many calls were not tried again for this reason.
    #[must_use]
    pub fn skipped(&self, reason: Skip) -> u64 {
        self.tally.skipped[reason as usize].load(Ordering::Relaxed)
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) skipped: [AtomicU64; Skip::ALL.len()],
}

pub(crate) fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
