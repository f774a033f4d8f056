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
    pub(crate) unit: u64,
    /// Ticks that fill an empty bucket.
    pub(crate) full: u64,
}

impl Scale {
    /// The bucket's own ticks.
    pub(crate) fn exact(gcra: &Gcra) -> Self {
        // At most 29.
        let (tick, unit) = (gcra.ticks_per_nano(), gcra.ticks_per_unit());
        Self { generation: 0, tick, unit, full: unit * gcra.burst() }
    }

    /// The finest ticks with which the bucket fits a packed word; `None` where these are too coarse.
    pub(crate) fn packed(gcra: &Gcra) -> Option<Self> {
        let exact = Self::exact(gcra);
        if exact.full <= LONGEST {
            return Some(exact);
        }
        (1..u64::from(u64::BITS))
            .map(|shift| {
                let unit = exact.unit.div_ceil(1 << shift) + 1;
                let full = unit.saturating_mul(gcra.burst());
                Self { tick: exact.tick | shift << SHIFT, unit, full, ..exact }
            })
            .find(|scale| scale.full <= LONGEST)
            .filter(|scale| scale.unit >= FINE)
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
        u64::from(cost).saturating_mul(self.unit)
    }

    /// The debt after a call; `None` when that is too much.
    #[inline]
    pub(crate) fn charge(&self, debt: u64, cost: u32) -> Option<u64> {
        let after = debt.checked_add(u64::from(cost).checked_mul(self.unit)?)?;
        (after <= self.full).then_some(after)
    }

    pub(crate) fn refund(&self, debt: u64, cost: u32) -> u64 {
        debt.saturating_sub(self.cost(cost))
    }

    pub(crate) fn force(&self, debt: u64, cost: u32) -> u64 {
        debt.saturating_add(self.cost(cost)).min(2 * self.full).max(debt)
    }

    /// The time from `now` until the clock shows `ticks`, rounded up to a nanosecond.
    pub(crate) fn until(&self, ticks: u64, now: Timestamp) -> u64 {
        let nanos = if self.tick == 1 {
            ticks
        } else {
            let nanos = (u128::from(ticks) << self.shift()).div_ceil(u128::from(self.mul()));
            u64::try_from(nanos).unwrap_or(NEVER - 1)
        };
        nanos.saturating_sub(now.as_nanos())
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

    pub(crate) fn left(&self, debt: u64, ticks: u64, now: Timestamp) -> Left {
        let remaining = self.full.saturating_sub(debt) / self.unit;
        if debt == 0 {
            return Left { remaining, reset: Duration::ZERO };
        }
        // `remaining` is less than the burst, so the product is at most `full`.
        let target = self.full - (remaining + 1) * self.unit;
        let reset = self.until(ticks.saturating_add(debt.saturating_sub(target)), now);
        Left { remaining, reset: Duration::from_nanos(reset) }
    }
}
