use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers by chance, uniform over all of `u64`, one after the other and without a lock.
///
/// *SplitMix64* (Steele, Lea and Flood 2014). It spreads load and is no secret.
#[derive(Debug)]
pub(crate) struct Chance(AtomicU64);

impl Chance {
    /// The numbers that `seed` begins, or, without one, those of a seed by chance.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(seed.unwrap_or_else(|| RandomState::new().hash_one("seed"))))
    }

    #[inline]
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
