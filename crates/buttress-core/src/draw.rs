use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{HashSink, KeySink};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number by chance, uniform over all of `u64`, with seeds that differ between processes and threads.
///
/// *SplitMix64* (Steele, Lea and Flood 2014). It spreads load, and is no secret.
///
/// Policies do not draw: they take a number that their layer has drawn. Where a run is to be repeated, [`Chance`] draws.
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
        state.set(state.get().wrapping_add(STEP));
        state.get()
    });
    mix(state)
}

/// Numbers by chance, uniform over all of `u64`: as [`draw`] gives them, or, with a seed, those of one sequence, so that a run can be
/// repeated.
///
/// It is shared: of two threads that draw, each gets numbers of its own.
///
/// ```
/// use buttress_core::Chance;
///
/// let (one, other) = (Chance::new(Some(7)), Chance::new(Some(7)));
/// assert_eq!([one.draw(), one.draw()], [other.draw(), other.draw()]);
///
/// // What each of two processes, layers or clients does by itself must not be the same: the default has no seed.
/// let _ = Chance::default().draw();
/// ```
#[derive(Debug, Default)]
pub struct Chance(Option<AtomicU64>);

impl Chance {
    /// The sequence that `seed` begins; `None` is for numbers that differ each time.
    #[must_use]
    pub fn new(seed: Option<u64>) -> Self {
        Self(seed.map(AtomicU64::new))
    }

    /// The next number.
    #[inline]
    #[must_use]
    pub fn draw(&self) -> u64 {
        match &self.0 {
            Some(state) => mix(state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP)),
            None => draw(),
        }
    }
}

/// The output function of *SplitMix64*.
#[inline]
const fn mix(state: u64) -> u64 {
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
