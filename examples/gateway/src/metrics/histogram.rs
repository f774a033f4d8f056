//! Times, counted by their length.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The upper ends of the buckets, in microseconds: half a millisecond to half a minute, closer where most answers are.
const ENDS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Times in buckets. Two atomic additions each; the library's own has a lock.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Each counts what is above the end before it; the last one has no end.
    buckets: [AtomicU64; ENDS.len() + 1],
    micros: AtomicU64,
}

/// All of it, as it was read.
pub(super) struct Read {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper ends in seconds, and what is in each.
    pub(super) buckets: [(f64, u64); ENDS.len() + 1],
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), micros: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = ENDS.partition_point(|&end| end < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is no exact thing")]
    pub(super) fn read(&self) -> Read {
        let end = |at: usize| ENDS.get(at).map_or(f64::INFINITY, |&micros| micros as f64 / 1e6);
        let buckets = array::from_fn(|at| (end(at), self.buckets[at].load(Relaxed)));
        // The count is that of these buckets, so that the page agrees with itself.
        let count = buckets.iter().map(|&(_, count)| count).sum();
        Read { sum: self.micros.load(Relaxed) as f64 / 1e6, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_end_is_not_below_it() {
        let histogram = Histogram::new();

        for micros in [0, 500, 501, 30_000_000, 30_000_001, u64::MAX] {
            histogram.observe(Duration::from_micros(micros));
        }

        let counts = histogram.read().buckets.map(|(_, count)| count);
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn the_last_bucket_has_no_end_and_the_count_is_that_of_all() {
        let histogram = Histogram::new();
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_secs(60));

        let read = histogram.read();

        assert_eq!((read.sum, read.count), (60.002, 2));
        assert_eq!(read.buckets[15], (f64::INFINITY, 1));
    }
}
