//! Calls and failures of the last time, in slices that need no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress_core::{Timestamp, nanos};

/// How many slices a window has: the oldest tenth goes at a time.
const SLICES: usize = 10;

/// Counts the calls and the failures of the last `length`, give or take a tenth.
///
/// Each slice is one word, its tick beside its counts, so one that is begun anew never keeps a count of its last round. A
/// slice whose count is full is halved, both counts at once: the share of failures stays.
#[derive(Debug)]
pub(crate) struct Window {
    /// The length of a slice in nanoseconds, at least one.
    slice: u64,
    slices: [AtomicU64; SLICES],
}

/// What a [`Window`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) calls: u32,
    pub(crate) failed: u32,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self { slice: (nanos(length) / SLICES as u64).max(1), slices: [const { AtomicU64::new(0) }; SLICES] }
    }

    #[inline]
    pub(crate) fn add(&self, now: Timestamp, failed: bool) {
        let (at, tick) = self.place(now);
        // Relaxed: the word is all there is.
        let _ = self.slices[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Slice::unpack(word).with(tick, failed).map(Slice::pack)
        });
    }

    pub(crate) fn sums(&self, now: Timestamp) -> Sums {
        let (_, tick) = self.place(now);
        let slices = self.slices.iter().map(|word| Slice::unpack(word.load(Ordering::Relaxed)));
        // A slice may be ahead of a reader that took the time before a writer did.
        let of_late = slices.filter(|slice| {
            tick.wrapping_sub(slice.tick) < SLICES as u32 || slice.tick.wrapping_sub(tick) < SLICES as u32
        });
        of_late.fold(Sums::default(), |sums, slice| Sums {
            calls: sums.calls + u32::from(slice.calls),
            failed: sums.failed + u32::from(slice.failed),
        })
    }

    /// The slice of a moment, and which round it is in. Ticks wrap: after thirteen years where slices are shortest.
    #[inline]
    fn place(&self, now: Timestamp) -> (usize, u32) {
        let tick = now.as_nanos() / self.slice;
        ((tick % SLICES as u64) as usize, tick as u32)
    }
}

/// One slice. In its word: the tick in 32 bits, the failures in 16, the calls in 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    tick: u32,
    failed: u16,
    calls: u16,
}

impl Slice {
    const fn unpack(word: u64) -> Self {
        Self { tick: (word >> 32) as u32, failed: (word >> 16) as u16, calls: word as u16 }
    }

    const fn pack(self) -> u64 {
        (self.tick as u64) << 32 | (self.failed as u64) << 16 | self.calls as u64
    }

    /// With one call more. `None` where the slice counts a later time already: the call is older than the window.
    const fn with(self, tick: u32, failed: bool) -> Option<Self> {
        let ahead = tick.wrapping_sub(self.tick).cast_signed();
        let mut slice = if ahead == 0 {
            self
        } else if ahead > 0 || self.calls == 0 {
            Self { tick, failed: 0, calls: 0 }
        } else {
            return None;
        };
        if slice.calls == u16::MAX {
            slice.calls /= 2;
            slice.failed /= 2;
        }
        slice.calls += 1;
        slice.failed += failed as u16;
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * SECOND)
    }

    #[test]
    fn what_is_older_than_the_window_is_not_counted() {
        let window = Window::new(Duration::from_secs(10));

        window.add(at(0), true);
        window.add(at(5), false);

        assert_eq!(window.sums(at(9)), Sums { calls: 2, failed: 1 });
        assert_eq!(window.sums(at(10)), Sums { calls: 1, failed: 0 });
        assert_eq!(window.sums(at(15)), Sums::default());
    }

    #[test]
    fn a_slice_that_comes_round_again_begins_at_nothing() {
        let window = Window::new(Duration::from_secs(10));
        window.add(at(3), true);

        window.add(at(13), false);
        // Too late for its slice, which now counts another second.
        window.add(at(3), true);

        assert_eq!(window.sums(at(13)), Sums { calls: 1, failed: 0 });
    }

    #[test]
    fn a_full_slice_keeps_the_share_of_failures() {
        let window = Window::new(Duration::from_secs(10));
        for call in 0..200_000 {
            window.add(at(1), call % 4 == 0);
        }

        let sums = window.sums(at(1));

        let share = f64::from(sums.failed) / f64::from(sums.calls);
        assert!((0.2..0.3).contains(&share), "{sums:?}");
        assert!(sums.calls > 30_000);
    }

    #[test]
    fn the_ends_of_time_and_of_lengths_are_ordinary() {
        for length in [Duration::from_nanos(1), Duration::MAX] {
            let window = Window::new(length);
            window.add(Timestamp::MAX, true);
            window.add(Timestamp::ZERO, true);
            assert!(window.sums(Timestamp::MAX).failed >= 1);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        // As long as no slice is full, the sums are those of a list of all calls, by the tenths that they fell into.
        #[test]
        fn it_counts_what_a_list_of_all_calls_counts(
            length in 1_000_u64..20_000,
            steps in proptest::collection::vec((0_u64..5_000, proptest::bool::ANY), 1..300),
        ) {
            let (window, slice) = (Window::new(Duration::from_millis(length)), length * 100_000);
            let (mut now, mut all) = (0, Vec::new());
            for (millis, failed) in steps {
                now += millis * 1_000_000;
                window.add(Timestamp::from_nanos(now), failed);
                all.push((now / slice, failed));

                let tick = now / slice;
                let late = || all.iter().filter(|(when, _)| tick - when < SLICES as u64);
                let failed = late().filter(|(_, failed)| *failed).count() as u32;
                let expected = Sums { calls: late().count() as u32, failed };
                proptest::prop_assert_eq!(window.sums(Timestamp::from_nanos(now)), expected);
            }
        }
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let window = Window::new(Duration::from_secs(10));

        std::thread::scope(|scope| {
            for failed in [true, false] {
                let window = &window;
                scope.spawn(move || (0..10_000).for_each(|_| window.add(at(1), failed)));
            }
        });

        assert_eq!(window.sums(at(1)), Sums { calls: 20_000, failed: 10_000 });
    }
}
