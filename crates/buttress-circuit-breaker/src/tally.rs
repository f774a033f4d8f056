use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::Counters;

use crate::State;

const KINDS: usize = 9;
const STATES: usize = 8;

/// What is counted of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Succeeded,
    Failed,
    Soft,
    Ignored,
    Abandoned,
    Panicked,
    Slow,
    Refused,
    Stale,
}

/// Counts what became of calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: Counters<KINDS>,
    /// From each state to each.
    transitions: [[AtomicU64; STATES]; STATES],
}

impl Tally {
    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.calls.add_one(what as usize);
    }

    pub(crate) fn sum(&self, what: Count) -> u64 {
        self.calls.sum(what as usize)
    }

    pub(crate) fn count_transition(&self, from: State, to: State) {
        self.transitions[from.bits() as usize][to.bits() as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn transitions(&self, from: State, to: State) -> u64 {
        self.transitions[from.bits() as usize][to.bits() as usize].load(Ordering::Relaxed)
    }
}
