use std::num::NonZeroU64;
use std::time::Duration;

use buttress_core::Timestamp;

use crate::policy::{Gcra, Left};
use crate::set::NEVER;

/// The longest debt that a packed word holds, in ticks; twice as much where calls are settled upwards.
const LONGEST: u64 = 1 << 37;

/// The fewest ticks per unit where a tick is coarser than the bucket asks, so that the rate is at most 0.003 % lower
/// than asked.
const FINE: u64 = 1 << 16;

/// Where the shift begins in a tick's number.
const SHIFT: u32 = 32;

/// A token bucket in numbers that fit registers: how long a tick is, and how many ticks earn a unit.
///
/// A tick is `2^shift / mul` nanoseconds. Where `shift` is 0 this is [`Gcra`]'s own arithmetic. Otherwise a call
/// may find that up to a tick too much has passed since the bucket was last full, once; a unit then takes at least
/// one tick more than it should, and no interval admits more than it should: with `T` the true ticks per unit,
/// `(τ + 1) / (T + 1)` is at most `τ / T` once `τ ≥ T`, and before it is less than 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) generation: u64,
    /// `mul`, and above it `shift`: 1 where a tick is a nanosecond, as it most often is.
    pub(crate) tick: u64,
    /// Ticks that earn a unit.
    pub(crate) unit: NonZeroU64,
    /// Ticks that fill an empty bucket.
    pub(crate) full: u64,
}

impl Scale {
    /// Of what is not counted in ticks.
    pub(crate) const NONE: Self = Self { generation: 0, tick: 1, unit: NonZeroU64::MIN, full: 0 };

    /// The bucket's own ticks.
    pub(crate) fn exact(gcra: &Gcra) -> Self {
        // At most 29.
        let (tick, unit) = (gcra.ticks_per_nano(), gcra.ticks_per_unit());
        Self { generation: 0, tick, unit: at_least_one(unit), full: unit * gcra.burst() }
    }

    /// The finest ticks with which the bucket fits a packed word; `None` where these are too coarse.
    pub(crate) fn packed(gcra: &Gcra) -> Option<Self> {
        let exact = Self::exact(gcra);
        if exact.full <= LONGEST {
            return Some(exact);
        }
        (1..u64::from(u64::BITS))
            .map(|shift| {
                let unit = exact.unit.get().div_ceil(1 << shift) + 1;
                let full = unit.saturating_mul(gcra.burst());
                Self { tick: exact.tick | shift << SHIFT, unit: at_least_one(unit), full, ..exact }
            })
            .find(|scale| scale.full <= LONGEST)
            .filter(|scale| scale.unit.get() >= FINE)
    }

    const fn mul(&self) -> u64 {
        self.tick & ((1 << SHIFT) - 1)
    }

    pub(crate) const fn shift(&self) -> u64 {
        self.tick >> SHIFT
    }

    #[inline]
    pub(crate) const fn ticks(&self, now: Timestamp) -> u64 {
        if self.tick == 1 {
            now.as_nanos()
        } else {
            now.as_nanos().saturating_mul(self.mul()) >> self.shift()
        }
    }

    #[inline]
    pub(crate) fn cost(&self, cost: u32) -> u64 {
        u64::from(cost).saturating_mul(self.unit.get())
    }

    /// The debt after a call; `None` when that is too much.
    #[inline]
    pub(crate) fn charge(&self, debt: u64, cost: u32) -> Option<u64> {
        let after = debt.saturating_add(self.cost(cost));
        if after <= self.full { Some(after) } else { None }
    }

    /// The debt once units are given back of which at most `unearned` ticks are still owed.
    pub(crate) fn refund(&self, debt: u64, cost: u32, unearned: u64) -> u64 {
        debt.saturating_sub(self.cost(cost).min(unearned))
    }

    pub(crate) fn force(&self, debt: u64, cost: u32) -> u64 {
        debt.saturating_add(self.cost(cost)).min(2 * self.full).max(debt)
    }

    /// The time from `now` until the clock shows `ticks`, rounded up to a nanosecond.
    #[inline]
    pub(crate) fn until(&self, ticks: u64, now: Timestamp) -> u64 {
        let nanos = if self.tick == 1 { ticks } else { self.nanos(ticks) };
        nanos.saturating_sub(now.as_nanos())
    }

    #[cold]
    fn nanos(&self, ticks: u64) -> u64 {
        let nanos = (u128::from(ticks) << self.shift()).div_ceil(u128::from(self.mul()));
        u64::try_from(nanos).unwrap_or(NEVER - 1)
    }

    /// For how many nanoseconds a call is refused whose key has this debt when the clock shows `ticks`.
    pub(crate) fn wait(&self, debt: u64, cost: u32, ticks: u64, now: Timestamp) -> u64 {
        let cost = self.cost(cost);
        if cost > self.full {
            return NEVER;
        }
        let over = debt.saturating_add(cost).saturating_sub(self.full);
        self.until(ticks.saturating_add(over), now).max(1)
    }

    /// What is left to a key that has this debt now.
    #[inline]
    pub(crate) fn left(&self, debt: u64, now: Timestamp) -> Left {
        // More than a full bucket is owed after a correction, and when the clock goes back.
        let Some(free) = self.full.checked_sub(debt) else {
            let missing = self.unit.get().saturating_add(debt - self.full);
            return Left { remaining: 0, reset: Duration::from_nanos(self.earned(missing, now)) };
        };
        let (remaining, rest) = (free / self.unit, free % self.unit);
        // Of a full bucket nothing is missing.
        let missing = debt.min(self.unit.get() - rest);
        let reset = if self.tick == 1 { missing } else { self.earned(missing, now) };
        Left { remaining, reset: Duration::from_nanos(reset) }
    }

    /// For how many nanoseconds from `now` on one waits for as many ticks.
    #[cold]
    fn earned(&self, ticks: u64, now: Timestamp) -> u64 {
        self.until(self.ticks(now).saturating_add(ticks), now)
    }
}

/// What no ticks earn is not offered; every unit takes one at least.
pub(crate) fn at_least_one(ticks: u64) -> NonZeroU64 {
    NonZeroU64::new(ticks).unwrap_or(NonZeroU64::MIN)
}
