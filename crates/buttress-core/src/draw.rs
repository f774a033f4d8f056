use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{HashSink, KeySink};

/// A number by chance, uniform over all of `u64`, with seeds that differ between processes and threads.
///
/// *SplitMix64* (Steele, Lea and Flood 2014). It spreads load, and is no secret.
///
/// Policies do not draw: they take a number that their layer has drawn.
#[must_use]
pub fn draw() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static STATE: Cell<u64> = Cell::new({
            let mut seed = HashSink::new();
            seed.fixed(THREADS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            seed.finish()
        });
    }
    let state = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
