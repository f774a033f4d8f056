use std::array;
use std::fmt;

use buttress_core::Timestamp;

use crate::hash::nth;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::{Ended, LeastLoadRules, Load, PeakEwma, PolicyError, Score};

/// The fastest of the endpoints that do not have more calls in flight than most: the hot-cold lexicographic rule of Prequal (Wydrowski
/// et al., "Load is not what you should balance", NSDI 2024).
///
/// ```text
/// load  = in flight / weight
/// hot   = load above the quantile of the loads seen of late
/// score = peak of response times      of a cold one
///         above all these, by load    of a hot one
/// ```
///
/// So the fastest cold one gets the call, and where all choices are hot the one of the least load. The peak is that of [`PeakEwma`], and a failure is
/// penalised there in the same way; calls in flight do not multiply it. Prequal asks the endpoints how many calls they have; here
/// the balancer's own count stands for that, and response times tell of what others send there.
///
/// Loads are seen at one in four picks, of an endpoint by chance; the quantile is that of the last 64, and is taken anew with each sixteenth.
/// Until then an endpoint with a call in flight is hot.
///
/// | | default | why |
/// |---|---|---|
/// | quantile | 0.84 | Prequal's (2^-1/4): where load decides for one in six |
/// | choices | 2 | [`choices`](LeastLoadRules::choices) of 3 to 5 let times decide more often |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotCold {
    latency: PeakEwma,
    quantile: f64,
}

impl HotCold {
    pub(super) const NEW: Self = Self { latency: PeakEwma::NEW, quantile: 0.84 };

    /// Whether a load is above the quantile of those that were seen.
    fn is_hot(&self, seen: &SeenLoads, load: f32) -> bool {
        self.quantile <= 0.0
            || self.quantile < 1.0 && load > f32::from_bits(seen.limit.load(Ordering::Relaxed))
    }
}

impl Default for HotCold {
    fn default() -> Self {
        Self::NEW
    }
}

impl LeastLoadRules<HotCold> {
    /// The part of the loads seen that are cold, from 0 to 1. 0.84 by default. With 0 load alone decides, with 1 response times alone.
    pub const fn quantile(mut self, quantile: f64) -> Self {
        self.score.quantile = quantile;
        self
    }

    /// Takes response times, and penalises failures, by the settings of these rules.
    pub const fn latency(mut self, rules: LeastLoadRules<PeakEwma>) -> Self {
        self.score.latency = rules.score;
        self
    }
}

/// Above every response time in nanoseconds.
const HOT: f64 = 1e30;

impl Score for HotCold {
    type Seen = SeenLoads;
    const TIMED: bool = true;

    fn check(&self) -> Result<(), PolicyError> {
        if !(0.0..=1.0).contains(&self.quantile) {
            return Err(PolicyError::Quantile { quantile: self.quantile });
        }
        self.latency.check()
    }

    #[inline]
    fn score(&self, seen: &SeenLoads, load: &Load, now: Timestamp) -> f64 {
        let share = share(load);
        if self.is_hot(seen, share) {
            HOT * (1.0 + f64::from(share))
        } else {
            f64::from(self.latency.memory.read(load, now))
        }
    }

    #[inline]
    fn note(&self, seen: &SeenLoads, load: &Load, hash: u64) {
        // Most picks leave the line alone that all of them read.
        if nth(hash, 0) >> 62 == 0 {
            seen.note(share(load), self.quantile);
        }
    }

    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        self.latency.ended(load, call);
    }
}

#[inline]
fn share(load: &Load) -> f32 {
    (f64::from(load.in_flight()) / load.divisor()) as f32
}

const SEEN: usize = 64;
const ANEW: usize = 16;

/// The loads that picks by [`HotCold`] have seen of late, and the quantile of them.
pub struct SeenLoads {
    limit: AtomicU32,
    next: AtomicUsize,
    loads: [AtomicU32; SEEN],
}

impl SeenLoads {
    fn note(&self, load: f32, quantile: f64) {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.loads[at % SEEN].store(load.to_bits(), Ordering::Relaxed);
        if at % ANEW == ANEW - 1 {
            let mut loads: [f32; SEEN] =
                array::from_fn(|at| f32::from_bits(self.loads[at].load(Ordering::Relaxed)));
            let loads = &mut loads[..SEEN.min(at + 1)];
            let rank = (loads.len() as f64 * quantile).ceil() as usize;
            let rank = rank.clamp(1, loads.len()) - 1;
            let (_, limit, _) = loads.select_nth_unstable_by(rank, f32::total_cmp);
            self.limit.store(limit.to_bits(), Ordering::Relaxed);
        }
    }
}

impl Default for SeenLoads {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            loads: array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl fmt::Debug for SeenLoads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = f32::from_bits(self.limit.load(Ordering::Relaxed));
        f.debug_struct("SeenLoads").field("limit", &limit).finish_non_exhaustive()
    }
}
