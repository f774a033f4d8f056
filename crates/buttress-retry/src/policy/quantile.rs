//! A quantile of the latencies of the last ten seconds.

use std::time::Duration;

use buttress_core::{Timestamp, nanos};

/// How far back samples count.
const WINDOW: Duration = Duration::from_secs(10);

/// Steps of a quarter of a second each: those of a window, and the one that leaves it as the present one comes in.
const STEPS: u64 = 41;
const STEP: u64 = 250_000_000;

/// One sample, where a part of one may count.
const WHOLE: u64 = 1024;

/// So many of the last samples are kept one by one.
const RECENT: usize = 4096;

/// Samples are told apart by 32 parts of each power of two, from 2¹⁰ ns (a microsecond) to 2⁴⁰ ns (18 minutes). What is
/// shorter or longer counts as the first or the last of them.
const PARTS: u32 = 32;
const SHORTEST: u32 = 10;
const LONGEST: u32 = 40;
const BUCKETS: usize = ((LONGEST - SHORTEST) * PARTS) as usize;

/// Moments are kept in units of 1024 ns, which leaves ten bits for the bucket.
const MOMENT: u32 = 10;
const _: () = assert!(BUCKETS <= 1 << MOMENT);

/// Latencies of the last ten seconds, to tell a quantile of.
///
/// They are counted in a log-linear histogram, as in [HdrHistogram](http://hdrhistogram.org): a bucket is at most 1/32 of
/// its lower end wide, and stands for its middle, so that what is told is within 1.6 % of a sample.
///
/// Up to 4096 samples are kept one by one, with their moment, and leave when they are ten seconds old: with few samples
/// one more or less moves a high quantile far. When there are more than that, counts per quarter of a second are used: of the
/// one that is going on, the 39 before it, and of the fortieth before it that part which is not ten seconds old, as if its
/// samples had come evenly.
///
/// A sample takes a few writes, and the first one of a quarter clears the counts of the oldest.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// Moment and bucket of each, in a ring.
    recent: Box<[u64]>,
    oldest: usize,
    len: usize,
    of_recent: Box<[u32]>,
    /// The moment of the last sample that made way before its time.
    missing: Option<u64>,
    of_steps: Box<[u32]>,
    /// Of all steps together.
    of_all: Box<[u32]>,
    step: u64,
    latest: Timestamp,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self {
            recent: vec![0; RECENT].into(),
            oldest: 0,
            len: 0,
            of_recent: vec![0; BUCKETS].into(),
            missing: None,
            of_steps: vec![0; STEPS as usize * BUCKETS].into(),
            of_all: vec![0; BUCKETS].into(),
            step: 0,
            latest: Timestamp::ZERO,
        }
    }

    /// Counts a sample.
    pub(crate) fn record(&mut self, latency: Duration, now: Timestamp) {
        let moment = self.advance(now);
        let bucket = bucket(nanos(latency));
        let step = counts(self.step);
        self.of_steps[step][bucket] += 1;
        self.of_all[bucket] += 1;

        // Two leave for one that comes, at most: after a pause that is enough to catch up.
        let _ = self.expire(moment) && self.expire(moment);
        if self.len == RECENT {
            self.missing = Some(self.forget());
        }
        let at = (self.oldest + self.len) % RECENT;
        self.recent[at] = moment << MOMENT | bucket as u64;
        self.len += 1;
        self.of_recent[bucket] += 1;
    }

    /// The latency that the part `quantile` of the samples does not exceed, by nearest rank, if there are at least
    /// `enough` samples.
    pub(crate) fn quantile(&mut self, quantile: f64, enough: u64, now: Timestamp) -> Option<Duration> {
        let moment = self.advance(now);
        while self.expire(moment) {}
        if self.missing.is_none_or(|missing| is_over(missing, moment)) {
            let of = |bucket| WHOLE * u64::from(self.of_recent[bucket]);
            return nearest(quantile, enough, WHOLE * self.len as u64, of);
        }
        let left = WHOLE - self.latest.as_nanos() % STEP * WHOLE / STEP;
        let oldest = &self.of_steps[counts(self.step + 1)];
        let of = |bucket| WHOLE * u64::from(self.of_all[bucket]) - (WHOLE - left) * u64::from(oldest[bucket]);
        nearest(quantile, enough, (0..BUCKETS).map(of).sum(), of)
    }

    /// Moves time on, never back.
    fn advance(&mut self, now: Timestamp) -> u64 {
        self.latest = self.latest.max(now);
        let step = self.latest.as_nanos() / STEP;
        for begun in (self.step + 1).max((step + 1).saturating_sub(STEPS))..=step {
            let step = &mut self.of_steps[counts(begun)];
            for (all, gone) in self.of_all.iter_mut().zip(&mut *step) {
                *all -= std::mem::take(gone);
            }
        }
        self.step = step;
        self.latest.as_nanos() >> MOMENT
    }

    /// Forgets the oldest sample if its time is over, and says whether it was.
    fn expire(&mut self, moment: u64) -> bool {
        let over = self.len > 0 && is_over(self.recent[self.oldest] >> MOMENT, moment);
        if over {
            self.forget();
        }
        over
    }

    /// Forgets the oldest sample, and says of when it was.
    fn forget(&mut self) -> u64 {
        let sample = self.recent[self.oldest];
        self.oldest = (self.oldest + 1) % RECENT;
        self.len -= 1;
        self.of_recent[sample as usize % (1 << MOMENT)] -= 1;
        sample >> MOMENT
    }
}

/// Where the counts of a step are.
const fn counts(step: u64) -> std::ops::Range<usize> {
    let from = (step % STEPS) as usize * BUCKETS;
    from..from + BUCKETS
}

const fn is_over(sample: u64, now: u64) -> bool {
    sample + (WINDOW.as_nanos() as u64 >> MOMENT) <= now
}

/// The bucket that holds the sample of the nearest rank. Samples are counted in parts of [`WHOLE`].
fn nearest(quantile: f64, enough: u64, total: u64, of: impl Fn(usize) -> u64) -> Option<Duration> {
    let samples = total / WHOLE;
    if samples < enough.max(1) {
        return None;
    }
    let rank = WHOLE * ((quantile * samples as f64).ceil() as u64).clamp(1, samples);
    let mut seen = 0;
    let found = (0..BUCKETS).find(|&bucket| {
        seen += of(bucket);
        seen >= rank
    });
    found.map(|bucket| Duration::from_nanos(middle(bucket)))
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.clamp(1 << SHORTEST, (1 << LONGEST) - 1);
    let power = nanos.ilog2();
    let part = (nanos >> (power - PARTS.ilog2())) as u32 % PARTS;
    ((power - SHORTEST) * PARTS + part) as usize
}

const fn middle(bucket: usize) -> u64 {
    let (power, part) = (bucket as u32 / PARTS + SHORTEST, bucket as u64 % PARTS as u64);
    let width = 1 << (power - PARTS.ilog2());
    (1 << power) + part * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stands_for_all_that_it_holds_within_a_sixtieth() {
        for power in SHORTEST..LONGEST {
            for part in 0..1000 {
                let nanos = (1_u64 << power) + part * ((1_u64 << power) / 1000);
                let told = middle(bucket(nanos)) as f64;
                assert!((told / nanos as f64 - 1.0).abs() <= 1.0 / 60.0, "{nanos} is told as {told}");
            }
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
        assert!((0..BUCKETS).all(|at| bucket(middle(at)) == at));
    }

    #[test]
    fn the_end_of_time_and_a_step_back_are_ordinary() {
        let mut latencies = Latencies::new();
        for now in [Timestamp::MAX, Timestamp::ZERO, Timestamp::MAX] {
            latencies.record(Duration::MAX, now);
            assert!(latencies.quantile(0.5, 1, now).is_some());
        }
    }
}
