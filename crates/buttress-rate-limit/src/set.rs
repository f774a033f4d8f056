//! Several limits on one key, all or nothing. The caller holds the lock of the states.

use std::time::Duration;

use buttress_core::{Quota, Timestamp, nanos};

use crate::policy::{Left, Limit, LimitError, LimitState, Policy};
use crate::scale::Scale;

/// The most limits that one key may be held to, since decisions keep a bit for each.
pub(crate) const MOST: usize = 16;

/// A wait that does not end.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a set of limits says of a call: which refuse it, and for how long. Two words, so that it stays in
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// From below: a bit for each limit that refuses, one for each that only watches and would, which limit
    /// refuses for longest, and [`OWES`].
    bits: u64,
    /// A wait, or with [`OWES`] a debt.
    value: u64,
}

/// The call passed at once on a token bucket, and left it owing so many ticks.
const OWES: u64 = 1 << 63;

impl Outcome {
    pub(crate) const fn new(refused: u16, shadowed: u16, binding: u8, wait: u64) -> Self {
        Self { bits: refused as u64 | (shadowed as u64) << 16 | (binding as u64) << 32, value: wait }
    }

    /// What a token bucket says that has room for a call, and then this debt.
    #[inline]
    pub(crate) const fn admitted_at(debt: u64) -> Self {
        Self { bits: OWES, value: debt }
    }

    /// How long a call is refused, or an admitted call waits for its turn, in nanoseconds.
    #[inline]
    pub(crate) const fn wait(self) -> u64 {
        if self.bits & OWES == 0 { self.value } else { 0 }
    }

    /// What a token bucket was left owing, as far as that is known without asking it again.
    #[inline]
    pub(crate) const fn debt(self) -> Option<u64> {
        if self.bits & OWES == 0 { None } else { Some(self.value) }
    }

    #[inline]
    pub(crate) const fn admitted(self) -> bool {
        self.refused() == 0
    }

    #[inline]
    pub(crate) const fn refused(self) -> u16 {
        self.bits as u16
    }

    #[inline]
    pub(crate) const fn shadowed(self) -> u16 {
        (self.bits >> 16) as u16
    }

    #[inline]
    pub(crate) const fn binding(self) -> u8 {
        (self.bits >> 32) as u8
    }

    /// What a token bucket says that has no room for a call.
    #[inline(never)]
    pub(crate) fn denied(scale: &Scale, debt: u64, ticks: u64, cost: u32, now: Timestamp) -> Self {
        if cost == 0 {
            return Self::admitted_at(debt);
        }
        Self::new(1, 0, 0, scale.wait(debt, cost, ticks, now))
    }
}

/// Charges every limit, or none when one refuses. A limit that only watches is left out where it would refuse.
#[inline]
pub(crate) fn charge(
    limits: &[Limit],
    states: &mut [LimitState],
    hash: u64,
    now: Timestamp,
    cost: u32,
) -> Outcome {
    // Of several all are asked before one is charged: what is charged and given back again would not be the same.
    let asked =
        if limits.len() > 1 { ask(limits, states, hash, now, cost) } else { Outcome::new(0, 0, 0, 0) };
    if !asked.admitted() {
        return asked;
    }
    let (mut shadowed, mut wait) = (asked.shadowed(), 0);
    for (index, (limit, state)) in limits.iter().zip(states.iter_mut()).enumerate() {
        let local = now + limit.shift(hash);
        if shadowed & 1 << index != 0 {
            continue;
        }
        if limit.charge(state, local, cost) {
            // Nobody waits for one that only watches.
            if !limit.is_shadow() {
                wait = wait.max(nanos(limit.delay(state, local, cost)));
            }
        } else if limit.is_shadow() {
            shadowed |= 1 << index;
        } else {
            let refused = ask(limits, states, hash, now, cost);
            // Whoever is refused hears so, whatever the limit says when it is asked again.
            return if refused.admitted() {
                Outcome::new(1 << index, shadowed, index as u8, 1)
            } else {
                refused
            };
        }
    }
    Outcome::new(0, shadowed, 0, wait)
}

/// Asks each limit on its own whether it refuses, and for how long.
fn ask(limits: &[Limit], states: &[LimitState], hash: u64, now: Timestamp, cost: u32) -> Outcome {
    let (mut refused, mut shadowed, mut binding, mut longest) = (0, 0, 0, 0);
    for (index, (limit, state)) in limits.iter().zip(states).enumerate() {
        let wait = limit.retry_after(state, now + limit.shift(hash), cost).map_or(NEVER, nanos);
        if wait == 0 {
            continue;
        }
        if limit.is_shadow() {
            shadowed |= 1 << index;
        } else {
            refused |= 1 << index;
            if wait > longest {
                (longest, binding) = (wait, index as u8);
            }
        }
    }
    Outcome::new(refused, shadowed, binding, longest)
}

/// Corrects a charge from `cost` to `actual`. It was made at `at`, for a call whose turn came `wait` later.
pub(crate) fn settle(
    limits: &[Limit],
    states: &mut [LimitState],
    hash: u64,
    charged: (Timestamp, u64, u32),
    shadowed: u16,
    actual: u32,
    now: Timestamp,
) {
    let (at, wait, cost) = charged;
    for (index, (limit, state)) in limits.iter().zip(states).enumerate() {
        let shift = limit.shift(hash);
        match cost.checked_sub(actual) {
            // What was not charged is not given back.
            Some(_) if shadowed & 1 << index != 0 => {}
            Some(less) => {
                // A queue finds a call by the moment of its turn, all others by that of its charge.
                let at = if limit.is_queue() { at + Duration::from_nanos(wait) } else { at };
                limit.refund(state, at + shift, now + shift, less);
            }
            None => limit.force(state, now + shift, actual - cost),
        }
    }
}

pub(crate) fn quotas(
    limits: &[Limit],
    states: &[LimitState],
    hash: u64,
    now: Timestamp,
    report: &mut dyn FnMut(Quota),
) {
    for (limit, state) in limits.iter().zip(states) {
        let Left { remaining, reset } = limit.left(state, now + limit.shift(hash));
        report(Quota::new(limit.name().clone(), limit.limit(), remaining, reset, limit.window()));
    }
}

/// What all of the states hold against the key.
pub(crate) fn debt(limits: &[Limit], states: &[LimitState], hash: u64, now: Timestamp) -> u64 {
    limits
        .iter()
        .zip(states)
        .map(|(limit, state)| limit.debt(state, now + limit.shift(hash)))
        .fold(0, u64::saturating_add)
}

/// For how many nanoseconds any of the states holds something against the key.
pub(crate) fn clear_after(limits: &[Limit], states: &[LimitState], hash: u64, now: Timestamp) -> u64 {
    let each = limits.iter().zip(states);
    each.map(|(limit, state)| nanos(limit.clear_after(state, now + limit.shift(hash)))).max().unwrap_or(0)
}

/// Whether the limits can be held together.
pub(crate) fn check(limits: &[Limit]) -> Result<(), LimitError> {
    if limits.is_empty() || limits.len() > MOST {
        return Err(LimitError::new("limits", limits.len(), "must be at least 1 and at most 16"));
    }
    for (index, limit) in limits.iter().enumerate() {
        if limits[..index].iter().any(|other| other.name() == limit.name()) {
            let rule = "must differ from those of the other limits in the set";
            return Err(LimitError::new("name", &**limit.name(), rule));
        }
    }
    Ok(())
}
