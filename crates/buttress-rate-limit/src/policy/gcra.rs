//! GCRA: the token bucket, and the leaky bucket as a meter, in one word.
//!
//! The state is the *theoretical arrival time* (TAT): when the bucket will be full again. A call of cost `c`
//! moves it `c·T` later, where `T` is the time that earns one unit, and passes when that leaves it at most
//! `L = burst·T` ahead of now.
//!
//! ```text
//!            now            TAT after the call          now + L
//!  ───────────┼──────────────────┼─────────────────────────┼──────▶
//!             │◀──── debt ──────▶│◀──── still to spend ───▶│
//! ```
//!
//! Time is counted in ticks of `1/D` nanoseconds, with `D` chosen so that `T` is a whole number: 3 000 000 per
//! second is 1000 ticks of a third of a nanosecond per unit, exactly. Where no fitting `D` is small enough to
//! let a `u64` reach ten years, `T` is rounded up: the rate is a trace lower than asked, never higher.
//!
//! Ten years of full resolution is the least. At the finest ticks a `u64` ends after twenty years, at the coarsest
//! after 584; a process that runs for longer has its calls refused.

use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::{Left, LimitError, Policy};

/// Ten years in nanoseconds: the uptime that no setting may fall short of.
pub(super) const HORIZON: u64 = 10 * 365 * 86_400 * 1_000_000_000;

/// The most ticks that a full burst may take, so that sums of two stay far from the end of a `u64`.
const LONGEST: u64 = 1 << 62;

/// `rate` units per `period` with room for `burst` at once: token bucket, and leaky bucket as a meter.
///
/// [`Limit::new`](crate::Limit::new) makes one with a name; this is the bare algorithm.
///
/// | | |
/// |---|---|
/// | worst count in an interval `τ` | `burst + τ·rate/period`, so over any one period `burst + rate` |
/// | memory per key | one word |
///
/// The arithmetic is exact, and the check the cheapest of all. [`SlidingStrict`](super::SlidingStrict) and
/// [`SlidingLog`](super::SlidingLog) are for promises of the kind "never more than 100 in any minute", which a bucket
/// keeps only with half the rate and half the burst; [`FixedWindow`](super::FixedWindow) is for quotas by the
/// calendar; [`LeakyBucket`](super::LeakyBucket) lets calls wait where this one refuses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    rate: u64,
    period: Duration,
    burst: u64,
    /// D
    ticks_per_nano: u64,
    /// T
    ticks_per_unit: u64,
    /// L
    ticks_full: u64,
    /// L, for reports.
    window: Duration,
}

impl Gcra {
    /// Allows `rate` units per `period`, and `burst` at once.
    ///
    /// # Errors
    ///
    /// When `rate`, `period` or `burst` is 0, when the rate is above 1 per tick (29 · 10⁹ per second at the
    /// finest), or when an empty bucket would take longer than 146 years to fill.
    pub fn new(rate: u64, period: Duration, burst: u64) -> Result<Self, LimitError> {
        if rate == 0 {
            return Err(LimitError::new("rate", rate, "must be at least 1"));
        }
        if period.is_zero() {
            return Err(LimitError::new("period", period, "must be longer than zero"));
        }
        if burst == 0 {
            return Err(LimitError::new("burst", burst, "must be at least 1"));
        }
        let too_long = || LimitError::new("burst", burst, "must fill again within 146 years");
        let period_nanos = nanos(period);
        if Duration::from_nanos(period_nanos) != period || period_nanos > LONGEST {
            return Err(LimitError::new("period", period, "must be at most 146 years"));
        }

        let full_nanos = (u128::from(burst) * u128::from(period_nanos)).div_ceil(u128::from(rate));
        let full_nanos = u64::try_from(full_nanos).map_err(|_| too_long())?;
        if full_nanos > LONGEST {
            return Err(too_long());
        }

        let horizon = HORIZON.max(full_nanos.saturating_mul(4));
        let finest = ((1 << 63) / horizon).max(1);
        let exact = rate / gcd(period_nanos, rate);
        let ticks_per_nano = exact.min(finest);
        let period_ticks = u128::from(period_nanos) * u128::from(ticks_per_nano);
        if period_ticks < u128::from(rate) {
            return Err(LimitError::new(
                "rate",
                rate,
                "must be at most 1 per tick, 29 per nanosecond at the finest",
            ));
        }
        let ticks_per_unit = period_ticks.div_ceil(u128::from(rate));
        let ticks_full = ticks_per_unit.checked_mul(u128::from(burst)).ok_or_else(too_long)?;
        if ticks_full > u128::from(LONGEST) {
            return Err(too_long());
        }
        let (ticks_per_unit, ticks_full) = (ticks_per_unit as u64, ticks_full as u64);

        let window = Duration::from_nanos(ticks_full.div_ceil(ticks_per_nano));
        Ok(Self { rate, period, burst, ticks_per_nano, ticks_per_unit, ticks_full, window })
    }

    /// Units per period.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// The time in which `rate` units are earned.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Units that may be spent at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The resolution: into how many ticks a nanosecond is cut.
    #[must_use]
    pub const fn ticks_per_nano(&self) -> u64 {
        self.ticks_per_nano
    }

    /// The ticks that earn one unit. Exact when `rate / gcd(period, rate) == ticks_per_nano`, else rounded up.
    #[must_use]
    pub const fn ticks_per_unit(&self) -> u64 {
        self.ticks_per_unit
    }

    #[inline]
    pub(super) fn ticks(&self, now: Timestamp) -> u64 {
        now.as_nanos().saturating_mul(self.ticks_per_nano)
    }

    /// Rounds up, so that whoever waits that long has waited enough.
    #[inline]
    pub(super) fn time(&self, ticks: u64) -> Duration {
        // Most rates divide their period: one tick is one nanosecond.
        let nanos = if self.ticks_per_nano == 1 { ticks } else { ticks.div_ceil(self.ticks_per_nano) };
        Duration::from_nanos(nanos)
    }

    #[inline]
    pub(super) fn cost(&self, cost: u32) -> u64 {
        u64::from(cost).saturating_mul(self.ticks_per_unit)
    }
}

impl Policy for Gcra {
    type State = u64;

    #[inline]
    fn charge(&self, tat: &mut u64, now: Timestamp, cost: u32) -> bool {
        if cost == 0 {
            return true;
        }
        let now = self.ticks(now);
        match (*tat).max(now).checked_add(self.cost(cost)) {
            Some(charged) if charged - now <= self.ticks_full => {
                *tat = charged;
                true
            }
            // Too much, or the end of the clock.
            _ => false,
        }
    }

    /// The word does not say of which charge the units are that were earned again since. Whatever was charged at
    /// `at` is so a full refill later, and no more is given back than could be left of it.
    fn refund(&self, tat: &mut u64, at: Timestamp, now: Timestamp, cost: u32) {
        let (at, now) = (self.ticks(at), self.ticks(now));
        let back = self.cost(cost).min(at.saturating_add(self.ticks_full).saturating_sub(now));
        // Never below now: what was earned meanwhile would be earned twice. A TAT in the past stays.
        *tat = (*tat).min(tat.saturating_sub(back).max(now));
    }

    fn force(&self, tat: &mut u64, now: Timestamp, cost: u32) {
        let now = self.ticks(now);
        let most = now.saturating_add(2 * self.ticks_full);
        let charged = (*tat).max(now).saturating_add(self.cost(cost));
        // A TAT that is further ahead, since the clock went back, stays.
        *tat = (*tat).max(charged.min(most));
    }

    fn left(&self, tat: &u64, now: Timestamp) -> Left {
        let debt = tat.saturating_sub(self.ticks(now));
        if debt == 0 {
            return Left { remaining: self.burst, reset: Duration::ZERO };
        }
        let remaining = self.ticks_full.saturating_sub(debt) / self.ticks_per_unit;
        // `remaining < burst`, so the product is at most L.
        let target = self.ticks_full - (remaining + 1) * self.ticks_per_unit;
        Left { remaining, reset: self.time(debt.saturating_sub(target)) }
    }

    fn retry_after(&self, tat: &u64, now: Timestamp, cost: u32) -> Option<Duration> {
        let now = self.ticks(now);
        let charge = self.cost(cost);
        let after = tat.saturating_sub(now).saturating_add(charge);
        (u64::from(cost) <= self.burst).then(|| match after.saturating_sub(self.ticks_full) {
            // Looking is free, in debt too.
            _ if cost == 0 => Duration::ZERO,
            // Nothing is owed, but the clock has come to its end.
            0 if (*tat).max(now).checked_add(charge).is_none() => self.time(1),
            ticks => self.time(ticks),
        })
    }

    #[inline]
    fn debt(&self, tat: &u64, now: Timestamp) -> u64 {
        tat.saturating_sub(self.ticks(now))
    }

    fn clear_after(&self, tat: &u64, now: Timestamp) -> Duration {
        self.time(self.debt(tat, now))
    }

    fn limit(&self) -> u64 {
        self.burst
    }

    fn window(&self) -> Duration {
        self.window
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
