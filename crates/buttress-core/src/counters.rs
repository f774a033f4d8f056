use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Stripes of one thread each, and those that all other threads share.
const OWN: usize = u32::BITS as usize;
const SHARED: usize = 8;

/// `N` counts that many threads add to, and few read.
///
/// Each thread counts on a cache line of its own, with no locked instruction; where there are more threads than lines,
/// the later ones share a few. They take 5 KiB with up to 16 counts, so keep one for a layer and not one for each key.
///
/// ```
/// use buttress_core::Counters;
///
/// const HITS: usize = 0;
/// let counters = Counters::<2>::new();
/// counters.add_one(HITS);
/// assert_eq!(counters.sum(HITS), 1);
/// ```
pub struct Counters<const N: usize> {
    own: [Stripe<N>; OWN],
    shared: [Stripe<N>; SHARED],
}

#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// All at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { own: [const { Stripe::new() }; OWN], shared: [const { Stripe::new() }; SHARED] }
    }

    /// Adds one to the count with this index.
    ///
    /// # Panics
    ///
    /// When `index` is not less than `N`.
    #[inline]
    pub fn add_one(&self, index: usize) {
        // After the end of a thread's slot, in the destructors that run then, it is one of the others.
        let slot = SLOT.try_with(|slot| slot.0).unwrap_or(OWN);
        if let Some(stripe) = self.own.get(slot) {
            let count = &stripe.0[index];
            // No other thread writes to it.
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            self.shared[slot % SHARED].0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count with this index, over all threads.
    ///
    /// # Panics
    ///
    /// When `index` is not less than `N`.
    #[must_use]
    pub fn sum(&self, index: usize) -> u64 {
        let counts =
            self.own.iter().chain(&self.shared).map(|stripe| stripe.0[index].load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

impl<const N: usize> Stripe<N> {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Counters<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..N).map(|index| self.sum(index))).finish()
    }
}

/// The stripe of a thread, in all counters: below [`OWN`] no other thread has it at the same time.
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
        let first_free = |taken: u32| (taken != u32::MAX).then(|| taken | (taken + 1));
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
