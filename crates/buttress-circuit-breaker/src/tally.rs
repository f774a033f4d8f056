use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::State;

const STRIPES: usize = 8;
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

/// Counts what became of calls. Each thread counts on one of a few cache lines, so that cores do not fight for one.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    stripes: [Stripe; STRIPES],
    /// From each state to each.
    transitions: [[AtomicU64; STATES]; STATES],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; KINDS]);

impl Tally {
    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.mine().0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self, what: Count) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[what as usize].load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn count_transition(&self, from: State, to: State) {
        self.transitions[from.bits() as usize][to.bits() as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn transitions(&self, from: State, to: State) -> u64 {
        self.transitions[from.bits() as usize][to.bits() as usize].load(Ordering::Relaxed)
    }

    #[inline]
    fn mine(&self) -> &Stripe {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        &self.stripes[STRIPE.with(|stripe| *stripe)]
    }
}
