use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress_core::Clock;

use super::delay::Delay;
use crate::{Budget, Skip};

/// Reads what a [`HedgeLayer`](crate::HedgeLayer) has done, while its services go on.
#[derive(Clone, Debug)]
pub struct HedgeHandle {
    pub(crate) tally: Arc<Tally>,
    pub(crate) delay: Arc<Delay>,
    pub(crate) budget: Budget,
    pub(crate) clock: Clock,
}

/// What a hedge layer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeSnapshot {
    /// Calls that were made, each counted once.
    pub calls: u64,
    /// Further attempts that were made.
    pub fired: u64,
    /// Calls that succeeded by one of these.
    pub won: u64,
    /// Calls of which a hedge was due and not made because the budget was spent.
    pub denied: u64,
    /// Calls of which a hedge was due and not made, the denied ones among them, once for each reason.
    pub skipped: u64,
    /// Fields of answers that were not understood.
    pub malformed: u64,
    /// How many hedges the budget allows at this moment.
    pub budget_left: u64,
}

impl HedgeHandle {
    /// All counts.
    #[must_use]
    pub fn snapshot(&self) -> HedgeSnapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HedgeSnapshot {
            calls: load(&self.tally.calls),
            fired: load(&self.tally.fired),
            won: load(&self.tally.won),
            denied: load(&self.tally.skipped[Skip::Budget as usize]),
            skipped: self.tally.skipped.iter().map(load).sum(),
            malformed: load(&self.tally.malformed),
            budget_left: self.budget.left(self.clock.now()),
        }
    }

    /// How many calls had a hedge that was due and not made for this reason.
    #[must_use]
    pub fn skipped(&self, reason: Skip) -> u64 {
        self.tally.skipped[reason as usize].load(Ordering::Relaxed)
    }

    /// After how long a call is hedged at present; `None` while a quantile is not known and there is nothing to go by until
    /// then.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.delay.exactly_at(self.clock.now())
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
    pub(crate) fired: AtomicU64,
    pub(crate) won: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) skipped: [AtomicU64; Skip::ALL.len()],
}
