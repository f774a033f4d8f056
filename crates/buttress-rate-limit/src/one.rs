use std::hint;
use std::sync::atomic::Ordering;

use buttress_core::Timestamp;

use crate::live::Live;
use crate::policy::{CarryOver, Limit};
use crate::scale::Scale;
use crate::set::Outcome;
use crate::sync::{AtomicU64, yield_now};

/// Set in the mark while the state is being carried over.
const BUSY: u64 = 1;

/// One token bucket on one atomic word, with all the bits there are.
///
/// The word is the time, in ticks, when the bucket will be full again.
#[derive(Debug)]
pub(crate) struct One {
    word: AtomicU64,
    /// The generation that the word belongs to, and whether it is busy.
    mark: AtomicU64,
    /// The numbers of generation 0.
    made: Scale,
    live: Live,
}

/// A step that the debt does not allow.
#[derive(Clone, Copy)]
pub(crate) struct Denied {
    pub(crate) scale: Scale,
    pub(crate) ticks: u64,
    pub(crate) debt: u64,
}

impl One {
    pub(crate) fn new(limit: &Limit, scale: Scale) -> Self {
        let (word, mark) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { word, mark, made: scale, live: Live::new(limit, scale) }
    }

    /// Charges it by the numbers that it was made with. Where the limit has changed since, or another call comes in
    /// between (`None`), there is [`run`](Self::run).
    #[inline(always)]
    pub(crate) fn charge(&self, cost: u32, now: Timestamp) -> Option<Outcome> {
        let scale = Scale { generation: 0, ..self.made };
        let word = self.word.load(Ordering::Acquire);
        // A carry marks it before it changes the word.
        if self.mark.load(Ordering::Acquire) != scale.generation {
            return None;
        }
        let ticks = scale.ticks(now);
        let debt = word.saturating_sub(ticks);
        if cost == 0 {
            return Some(Outcome::admitted_at(debt));
        }
        let Some(after) = scale.charge(debt, cost) else {
            return Some(Outcome::denied(&self.made, debt, ticks, cost, now));
        };
        let next = ticks.checked_add(after)?;
        let swapped = self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_ok() { Some(Outcome::admitted_at(after)) } else { None }
    }

    /// Replaces the debt by what `step` makes of the ticks and it, unless that is `None`.
    #[inline(always)]
    pub(crate) fn run(
        &self,
        now: Timestamp,
        mut step: impl FnMut(&Scale, u64, u64) -> Option<u64>,
    ) -> Result<(), Denied> {
        loop {
            let scale = self.live.read();
            let word = self.word.load(Ordering::Acquire);
            // The word is of this generation or of the one before, and then a carry changes it before the mark.
            if self.mark.load(Ordering::Acquire) != scale.generation {
                self.refresh(now);
                continue;
            }

            let ticks = scale.ticks(now);
            let debt = word.saturating_sub(ticks);
            let after = step(&scale, ticks, debt);
            let next = after.and_then(|after| ticks.checked_add(after));
            // A look leaves no trace.
            let Some(next) = next.filter(|_| after != Some(debt)) else {
                // Unless the word was of the generation before.
                if self.word.load(Ordering::Acquire) != word {
                    continue;
                }
                // Too much, or the end of the clock.
                return if after == Some(debt) { Ok(()) } else { Err(Denied { scale, ticks, debt }) };
            };
            // The word is all there is to know, so no ordering with other memory is needed.
            if self.word.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// Carries the state over to the limit of today, or waits for whoever does.
    #[cold]
    fn refresh(&self, now: Timestamp) {
        let mark = self.mark.load(Ordering::Acquire);
        if mark == self.live.read().generation {
            return;
        }
        if mark & BUSY != 0
            || self.mark.compare_exchange(mark, mark | BUSY, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            hint::spin_loop();
            yield_now();
            return;
        }
        self.live.carry(now, |from, to, carry| {
            let mut word = self.word.load(Ordering::Relaxed);
            loop {
                let debt = carry(word.saturating_sub(from.ticks(now)));
                // Also where nothing is owed, so that no word of old ticks is written over it.
                let next = to.ticks(now).saturating_add(debt);
                match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(seen) => word = seen,
                }
            }
            self.mark.store(to.generation, Ordering::Release);
        });
    }

    pub(crate) fn change(&self, limit: &Limit, scale: Scale, rule: CarryOver, now: Timestamp) {
        self.live.change(limit, scale, rule);
        while self.mark.load(Ordering::Acquire) != self.live.read().generation {
            self.refresh(now);
        }
    }

    /// Whether anything is held against it.
    pub(crate) fn is_held(&self, now: Timestamp) -> bool {
        let mut held = false;
        let look = |_: &Scale, _, debt| {
            held = debt > 0;
            Some(debt)
        };
        self.run(now, look).is_ok() && held
    }

    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Relaxed);
    }
}
