use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Stripes of one thread each, and those that all other threads share.
const OWN: usize = u32::BITS as usize;
const SHARED: usize = 8;
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

/// Counts what was decided. Each thread counts on a cache line of its own, with no locked instruction; where there are
/// more threads than lines, the later ones share a few.
#[derive(Debug)]
pub(crate) struct Tally {
    own: [Stripe; OWN],
    shared: [Stripe; SHARED],
    /// Refusals, and what would have been one: two for each limit.
    limits: Box<[AtomicU64]>,
    /// How many evictions were told.
    evictions: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; KINDS]);

impl Tally {
    /// Counts for so many limits, over all plans.
    pub(crate) fn new(limits: usize) -> Self {
        let limits = (0..2 * limits).map(|_| AtomicU64::new(0)).collect();
        Self { own: Default::default(), shared: Default::default(), limits, evictions: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn count(&self, what: Count) {
        // After the end of a thread's slot, in the destructors that run then, it is one of the others.
        let slot = SLOT.try_with(|slot| slot.0).unwrap_or(OWN);
        if let Some(stripe) = self.own.get(slot) {
            let count = &stripe.0[what as usize];
            // No other thread writes to it.
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            self.shared[slot % SHARED].0[what as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self, what: Count) -> u64 {
        self.own
            .iter()
            .chain(&self.shared)
            .map(|stripe| stripe.0[what as usize].load(Ordering::Relaxed))
            .sum()
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

/// The stripe of a thread, in every tally: below [`OWN`] no other thread has it at the same time.
struct Slot(usize);

thread_local! {
    static SLOT: Slot = Slot::take();
}

/// The slots that are taken, one bit for each. Who gives one back releases what it wrote to whoever takes it next.
static TAKEN: AtomicU32 = AtomicU32::new(0);

impl Slot {
    #[cold]
    fn take() -> Self {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        let first_free = |taken: u32| (taken != u32::MAX).then_some(taken | (taken + 1));
        match TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, first_free) {
            Ok(taken) => Self(taken.trailing_ones() as usize),
            Err(_) => Self(OWN + OTHERS.fetch_add(1, Ordering::Relaxed) % SHARED),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0 < OWN {
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}
