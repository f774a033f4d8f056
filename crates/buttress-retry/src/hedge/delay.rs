use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use crate::policy::Latencies;

/// For how long a quantile is taken to be what it was, a thousandth of its window.
const FRESH: Duration = Duration::from_millis(10);

/// No delay is known.
const UNKNOWN: u64 = u64::MAX;

/// How long a call may take before it is hedged.
#[derive(Debug)]
pub(crate) enum Delay {
    Fixed(Duration),
    Moving(Moving),
}

/// A quantile of the latencies of late.
///
/// Nobody waits for the lock: a latency that finds it taken is left out, and a call that does goes by the quantile as it
/// was.
pub(crate) struct Moving {
    pub(crate) terms: MovingTerms,
    latencies: Mutex<Latencies>,
    /// The delay in nanoseconds.
    known: AtomicU64,
    fresh_until: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct MovingTerms {
    pub(crate) quantile: f64,
    pub(crate) min_samples: u32,
    pub(crate) until_known: Option<Duration>,
}

impl Delay {
    /// The delay for a call, if there is one.
    pub(crate) fn at(&self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Moving(moving) => moving.at(now),
        }
    }

    /// The same, without what is kept from before.
    pub(crate) fn exactly_at(&self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Moving(moving) => {
                let mut latencies = moving.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                moving.measure(&mut latencies, now)
            }
        }
    }

    pub(crate) const fn is_moving(&self) -> bool {
        matches!(self, Self::Moving(_))
    }

    /// Counts the latency of a call.
    pub(crate) fn record(&self, latency: Duration, now: Timestamp) {
        if let Self::Moving(moving) = self
            && let Some(mut latencies) = moving.try_lock()
        {
            latencies.record(latency, now);
        }
    }
}

impl Moving {
    pub(crate) fn new(terms: MovingTerms) -> Self {
        Self {
            terms,
            latencies: Mutex::new(Latencies::new()),
            known: AtomicU64::new(UNKNOWN),
            fresh_until: AtomicU64::new(0),
        }
    }

    fn at(&self, now: Timestamp) -> Option<Duration> {
        // A clock that was set back finds a moment that is further off than any was set.
        let left = self.fresh_until.load(Ordering::Acquire).checked_sub(now.as_nanos());
        if left.is_none_or(|left| left == 0 || left > nanos(FRESH))
            && let Some(mut latencies) = self.try_lock()
        {
            let delay = self.measure(&mut latencies, now);
            self.known.store(delay.map_or(UNKNOWN, nanos), Ordering::Relaxed);
            self.fresh_until.store((now + FRESH).as_nanos(), Ordering::Release);
            return delay;
        }
        let known = self.known.load(Ordering::Relaxed);
        (known != UNKNOWN).then(|| Duration::from_nanos(known))
    }

    fn measure(&self, latencies: &mut Latencies, now: Timestamp) -> Option<Duration> {
        let MovingTerms { quantile, min_samples, until_known } = self.terms;
        latencies.quantile(quantile, min_samples.into(), now).or(until_known)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Latencies>> {
        match self.latencies.try_lock() {
            Ok(latencies) => Some(latencies),
            Err(TryLockError::Poisoned(latencies)) => Some(latencies.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl fmt::Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms.fmt(f)
    }
}
