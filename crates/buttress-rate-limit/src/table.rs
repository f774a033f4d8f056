//! A table of one word per key that never grows.
//!
//! A key's hash chooses one group of seven slots, 128 bytes behind a lock of their own; the key lives there or
//! nowhere. The lock is held for one scan of the group and one step of the policy, never for anything else.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::Timestamp;

use crate::policy::{Limit, LimitState, Policy};
use crate::sync::Mutex;

/// With the lock, seven slots fill two cache lines.
#[cfg(not(buttress_loom))]
const SLOTS: usize = 7;
#[cfg(buttress_loom)]
const SLOTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Table {
    groups: Box<[Group]>,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Group(Mutex<[Slot; SLOTS]>);

/// A key's hash and what is held against it. A slot never used has the fresh state, and so no debt.
#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    state: LimitState,
}

impl Table {
    /// Makes room for `capacity` keys and as many again, so that few groups fill up before the whole does.
    pub(crate) fn new(capacity: usize) -> Self {
        let groups = capacity.saturating_mul(2).div_ceil(SLOTS);
        Self { groups: (0..groups).map(|_| Group::default()).collect(), evicted: AtomicU64::new(0) }
    }

    /// Gives `change` the state of a key; a key that is not held has a fresh one, which is kept if it is changed.
    #[inline]
    pub(crate) fn with<T>(
        &self,
        limit: &Limit,
        hash: u64,
        now: Timestamp,
        change: impl FnOnce(&mut LimitState) -> T,
    ) -> T {
        let mut slots = self.group(hash).0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.hash == hash) {
            return change(&mut slot.state);
        }

        let mut state = LimitState::default();
        let result = change(&mut state);
        // A peek, or a cost above the limit, leaves nothing to remember.
        if state != LimitState::default() {
            let (debt, victim) = slots
                .iter_mut()
                .map(|slot| (limit.debt(&slot.state, now + limit.shift(slot.hash)), slot))
                .min_by_key(|(debt, _)| *debt)
                .expect("a group has slots");
            *victim = Slot { hash, state };
            if debt > 0 {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    /// Keys that something is held against. Takes one group's lock at a time.
    pub(crate) fn keys(&self, limit: &Limit, now: Timestamp) -> usize {
        let live = |slot: &&Slot| limit.debt(&slot.state, now + limit.shift(slot.hash)) > 0;
        self.groups
            .iter()
            .map(|group| group.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(live).count())
            .sum()
    }

    pub(crate) fn clear(&self) {
        for group in &self.groups {
            *group.0.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    #[inline]
    fn group(&self, hash: u64) -> &Group {
        // Scales the hash onto the groups: a multiplication where `%` would divide.
        let index = (u128::from(hash) * self.groups.len() as u128) >> u64::BITS;
        &self.groups[index as usize]
    }
}
