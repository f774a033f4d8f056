use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use crate::Load;
use crate::sync::{AtomicU64, Ordering};

/// A mean of response times in which a sample weighs less the older it is: an exponentially weighted moving average over
/// time, in one word of 64 bits.
///
/// ```text
/// read      value · e^(-elapsed / decay)                                  so that one that was slow is tried again
/// mix       value · e^(-elapsed / decay) + sample · (1 - e^(-elapsed / decay))
/// peak      sample, where it is above the value; else as mix
/// ```
///
/// The word is 0 before the first sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Average {
    nanos: f32,
    /// In units of 2^20 ns, about a millisecond: 52 days until they begin anew. A mean that nothing was added to for so long may be
    /// taken for a new one, for as long as a new one counts.
    at: u32,
}

/// Less than any network takes: an endpoint that is idle for long sinks to it and no deeper, so that its calls in flight still count.
const LEAST: f32 = 1e3;

const UNIT: u32 = 20;

/// Where a clock goes back by less than this, 17 s, time stands still. Where it goes back by more, what was before is forgotten.
const BACK: u32 = 1 << 14;

/// A point in time in units of the average.
#[inline]
pub(crate) const fn moment(now: Timestamp) -> u32 {
    (now.as_nanos() >> UNIT) as u32
}

/// Units from one moment to another; 0 where it goes back.
#[inline]
pub(crate) const fn passed(now: u32, at: u32) -> u32 {
    let passed = now.wrapping_sub(at);
    if passed > u32::MAX - BACK { 0 } else { passed }
}

impl Average {
    #[inline]
    const fn new(nanos: f32, at: u32) -> Self {
        Self { nanos: nanos.max(LEAST), at }
    }

    #[inline]
    const fn unpack(word: u64) -> Self {
        Self { nanos: f32::from_bits((word >> u32::BITS) as u32), at: word as u32 }
    }

    #[inline]
    const fn pack(self) -> u64 {
        (self.nanos.to_bits() as u64) << u32::BITS | self.at as u64
    }

    #[inline]
    fn read(self, now: u32, rate: f32) -> f32 {
        match passed(now, self.at) {
            0 => self.nanos,
            passed => (self.nanos * (passed as f32 * -rate).exp()).max(LEAST),
        }
    }

    #[inline]
    fn mix(self, sample: f32, now: u32, rate: f32) -> Self {
        match passed(now, self.at) {
            // Of the samples of one millisecond the first counts: the time that has passed since is what weighs them.
            0 => self,
            passed => {
                let old = (passed as f32 * -rate).exp();
                Self::new(self.nanos * old + sample * (1.0 - old), now)
            }
        }
    }

    #[inline]
    fn peak(self, sample: f32, now: u32, rate: f32) -> Self {
        if sample > self.nanos {
            let at = if passed(now, self.at) == 0 { self.at } else { now };
            Self::new(sample, at)
        } else {
            self.mix(sample, now, rate)
        }
    }
}

/// How an average forgets, and what it begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) decay: Duration,
    pub(crate) initial: Duration,
    /// What a unit of time is of the decay.
    rate: f32,
}

impl Memory {
    pub(crate) const fn new(decay: Duration, initial: Duration) -> Self {
        Self { decay, initial, rate: (1 << UNIT) as f32 / nanos(decay) as f32 }
    }

    /// The average of this load now, in nanoseconds. It begins when it is first asked for.
    #[inline]
    pub(crate) fn read(&self, load: &Load, now: Timestamp) -> f32 {
        let now = moment(now);
        match load.latency.load(Ordering::Relaxed) {
            0 => self.begin(&load.latency, now),
            word => Average::unpack(word),
        }
        .read(now, self.rate)
    }

    /// Takes in a sample, which raises the average at once where it is above.
    #[inline]
    pub(crate) fn peak(&self, load: &Load, sample: u64, now: Timestamp) {
        self.update(load, now, |average, now| average.peak(sample as f32, now, self.rate));
    }

    /// Takes in a sample.
    #[inline]
    pub(crate) fn mix(&self, load: &Load, sample: u64, now: Timestamp) {
        self.update(load, now, |average, now| average.mix(sample as f32, now, self.rate));
    }

    /// Takes in a sample that tells only that the time was this or more.
    #[inline]
    pub(crate) fn mix_at_least(&self, load: &Load, sample: u64, now: Timestamp) {
        self.update(load, now, |average, now| {
            average.mix((sample as f32).max(average.nanos), now, self.rate)
        });
    }

    #[inline]
    fn update(&self, load: &Load, now: Timestamp, change: impl Fn(Average, u32) -> Average) {
        let now = moment(now);
        let mut word = load.latency.load(Ordering::Relaxed);
        loop {
            let average = if word == 0 { self.first(now) } else { Average::unpack(word) };
            let next = change(average, now).pack();
            // Most samples change nothing where there are many in a millisecond, and then the line stays with all who read it.
            if next == word {
                return;
            }
            match load.latency.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }

    const fn first(&self, now: u32) -> Average {
        Average::new(nanos(self.initial) as f32, now)
    }

    #[cold]
    fn begin(&self, word: &AtomicU64, now: u32) -> Average {
        let first = self.first(now);
        match word.compare_exchange(0, first.pack(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => first,
            Err(other) => Average::unpack(other),
        }
    }
}
