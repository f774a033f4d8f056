//! The numbers of a token bucket, read on every call and changed while calls go on.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use buttress_core::Timestamp;

use crate::policy::{CarryOver, Limit, LimitState, Policy};
use crate::scale::{Scale, at_least_one};
use crate::sync::{AtomicU64, Mutex};

/// Generations are counted in the upper bits, so that the mark of a state has bits to spare.
pub(crate) const STEP: u64 = 1 << 36;
pub(crate) const GENERATION: u64 = !(STEP - 1);

/// A [`Scale`] and its generation.
///
/// Of two sets of numbers, one is in use and the other is written when the limit changes; the generation says
/// which. Every state is marked with the generation that it was written under, and is carried over by whoever
/// comes to it first. A next change waits until all states are carried over, so a reader that finds the mark equal
/// to the generation that it has read knows that its numbers were not written over meanwhile.
#[derive(Debug)]
pub(crate) struct Live {
    generation: AtomicU64,
    /// One number of each is not used, so that the sets are a power of two apart.
    sets: [[AtomicU64; 4]; 2],
    change: Mutex<Box<Change>>,
}

/// The last change.
#[derive(Clone, Debug)]
struct Change {
    limits: [Limit; 2],
    scales: [Scale; 2],
    rule: CarryOver,
}

impl Live {
    pub(crate) fn new(limit: &Limit, scale: Scale) -> Self {
        let live = Self {
            generation: AtomicU64::new(0),
            sets: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            change: Mutex::new(Box::new(Change {
                limits: [limit.clone(), limit.clone()],
                scales: [scale, scale],
                rule: CarryOver::Reset,
            })),
        };
        live.write(scale);
        live
    }

    #[inline]
    pub(crate) fn read(&self) -> Scale {
        let generation = self.generation.load(Ordering::Acquire);
        let [tick, unit, full, _] = &self.sets[(generation / STEP % 2) as usize];
        // Whoever compares a mark afterwards must not see it before these.
        let load = |number: &AtomicU64| number.load(Ordering::Acquire);
        Scale { generation, tick: load(tick), unit: at_least_one(load(unit)), full: load(full) }
    }

    fn write(&self, scale: Scale) {
        let numbers = [scale.tick, scale.unit.get(), scale.full];
        for (to, number) in self.sets[(scale.generation / STEP % 2) as usize].iter().zip(numbers) {
            to.store(number, Ordering::Relaxed);
        }
        self.generation.store(scale.generation, Ordering::Release);
    }

    /// Begins a change. The caller makes one at a time, and carries every state over before the next.
    pub(crate) fn change(&self, limit: &Limit, scale: Scale, rule: CarryOver) {
        let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, old_scale) = (change.limits[1].clone(), change.scales[1]);
        // The first comes only once: its numbers are known without asking.
        let generation = match old_scale.generation.wrapping_add(STEP) {
            0 => 2 * STEP,
            generation => generation,
        };
        let scale = Scale { generation, ..scale };
        **change = Change { limits: [old, limit.clone()], scales: [old_scale, scale], rule };
        self.write(scale);
    }

    /// How the states of the generation before are carried over. Calls `carry` with the old and the new scale, and
    /// a function from the old debt to the new.
    pub(crate) fn carry(&self, now: Timestamp, carry: impl FnOnce(&Scale, &Scale, &dyn Fn(u64) -> u64)) {
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Change { limits: [old, new], scales: [from, to], rule } = *change;
        // The rules know the bucket's own ticks.
        let ticks = |limit: &Limit| limit.gcra().map_or(0, |gcra| Scale::exact(gcra).ticks(now));
        carry(&from, &to, &|debt| {
            let state = LimitState::from_word(ticks(&old).saturating_add(debt << from.shift()));
            let state = rule.carry(&old, &state, &new, 0, now);
            new.debt(&state, now).div_ceil(1 << to.shift())
        });
    }
}
