use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::draw;

/// Numbers by chance, uniform over all of `u64`: drawn, or, with a seed, those of one sequence.
#[derive(Debug)]
pub(crate) struct Chance(Option<AtomicU64>);

impl Chance {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(seed.map(AtomicU64::new))
    }

    /// *SplitMix64* (Steele, Lea and Flood 2014), as [`draw`] is.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        let Some(seeded) = &self.0 else { return draw() };
        let state = seeded.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
