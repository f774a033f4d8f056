//! A table for states of any width that never grows, with a lock for each group of seven keys.
//!
//! A key's hash chooses one group; the key lives there or nowhere. The lock is held for one scan of the group and
//! one step of the limits, never for anything else. Each group knows the limits that its states belong to, so
//! that a change of limits goes through the table group by group while calls go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::{fmt, mem};

use buttress_core::Timestamp;

use crate::WhenFull;
use crate::policy::{Limit, LimitState};
use crate::set;
use crate::sync::{Mutex, MutexGuard};

#[cfg(not(buttress_loom))]
const SLOTS: usize = 7;
#[cfg(buttress_loom)]
const SLOTS: usize = 2;

pub(crate) struct Table {
    groups: Box<[Group]>,
    when_full: WhenFull,
    evicted: AtomicU64,
    crowded: AtomicU64,
}

#[repr(align(64))]
struct Group(Mutex<Inner>);

struct Inner {
    limits: Arc<[Limit]>,
    hashes: [u64; SLOTS],
    /// A row of states for each slot, and one more: the budget of those who find no place where they share one,
    /// a blank to try calls on where they do not. A slot never used has fresh states, and so no debt.
    states: Box<[LimitState]>,
}

/// Every place is taken, and nobody makes way: in how many nanoseconds one is free.
pub(crate) struct Full(pub(crate) u64);

impl Table {
    /// Makes room for `capacity` keys and as many again, so that few groups fill up before the whole does.
    pub(crate) fn new(limits: &Arc<[Limit]>, capacity: usize, when_full: WhenFull) -> Self {
        let groups = capacity.saturating_mul(2).div_ceil(SLOTS);
        Self {
            groups: (0..groups).map(|_| Group::new(limits)).collect(),
            when_full,
            evicted: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
        }
    }

    /// Gives `change` the limits and the states of a key. A key that is not held has fresh states, and keeps them
    /// if anything is held against it then.
    #[inline]
    pub(crate) fn with<T>(
        &self,
        hash: u64,
        now: Timestamp,
        change: impl FnOnce(&[Limit], &mut [LimitState]) -> T,
    ) -> Result<T, Full> {
        let mut group = self.group(hash).lock();
        let Inner { limits, hashes, states } = &mut *group;
        if let Some(slot) = hashes.iter().position(|held| *held == hash) {
            return Ok(change(limits, row(states, limits, slot)));
        }

        let debt = |slot: usize, hash| set::debt(limits, &states[slot * limits.len()..], hash, now);
        let (least, slot) = hashes
            .iter()
            .enumerate()
            .map(|(slot, hash)| (debt(slot, *hash), slot))
            .min()
            .expect("a group has slots");
        if least == 0 {
            hashes[slot] = hash;
            // Who shared the budget of those without a place takes what is held against them all along.
            let shared = match self.when_full {
                WhenFull::Shared if debt(SLOTS, 0) > 0 => row(states, limits, SLOTS).to_vec(),
                _ => Vec::new(),
            };
            let states = row(states, limits, slot);
            let mut shared = shared.into_iter();
            states.fill_with(|| shared.next().unwrap_or_default());
            return Ok(change(limits, states));
        }

        if self.when_full == WhenFull::Shared {
            self.crowded.fetch_add(1, Ordering::Relaxed);
            return Ok(change(limits, row(states, limits, SLOTS)));
        }
        let blank = row(states, limits, SLOTS);
        blank.fill_with(LimitState::default);
        let result = change(limits, blank);
        // A peek, or a cost above the limit, leaves nothing to remember.
        if set::debt(limits, blank, hash, now) == 0 {
            return Ok(result);
        }
        if self.when_full == WhenFull::Refuse {
            self.crowded.fetch_add(1, Ordering::Relaxed);
            let rows = states.chunks(limits.len()).zip(hashes.iter());
            let free = rows.map(|(states, hash)| set::clear_after(limits, states, *hash, now)).min();
            return Err(Full(free.unwrap_or(0).max(1)));
        }
        let (held, blank) = states.split_at_mut(SLOTS * limits.len());
        row(held, limits, slot).swap_with_slice(blank);
        hashes[slot] = hash;
        self.evicted.fetch_add(1, Ordering::Relaxed);
        Ok(result)
    }

    /// Holds all keys to other limits from now on. `carry` changes the states of one key from the limits that they
    /// belong to.
    pub(crate) fn change(
        &self,
        limits: &Arc<[Limit]>,
        mut carry: impl FnMut(&[Limit], &mut [LimitState], u64),
    ) {
        for group in &self.groups {
            let mut group = group.lock();
            let old = mem::replace(&mut group.limits, Arc::clone(limits));
            let Inner { hashes, states, .. } = &mut *group;
            for (slot, states) in states.chunks_mut(old.len()).enumerate() {
                carry(&old, states, hashes.get(slot).copied().unwrap_or(0));
            }
        }
    }

    /// Keys that something is held against. Takes one group's lock at a time.
    pub(crate) fn keys(&self, now: Timestamp) -> usize {
        let live = |group: &Group| {
            let group = group.lock();
            let rows = group.states.chunks(group.limits.len()).zip(group.hashes);
            rows.filter(|(states, hash)| set::debt(&group.limits, states, *hash, now) > 0).count()
        };
        self.groups.iter().map(live).sum()
    }

    pub(crate) fn clear(&self) {
        for group in &self.groups {
            let mut group = group.lock();
            group.hashes = [0; SLOTS];
            group.states.fill_with(LimitState::default);
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    #[inline]
    fn group(&self, hash: u64) -> &Group {
        // Scales the hash onto the groups: a multiplication where `%` would divide.
        let index = (u128::from(hash) * self.groups.len() as u128) >> u64::BITS;
        &self.groups[index as usize]
    }
}

impl Group {
    fn new(limits: &Arc<[Limit]>) -> Self {
        let states = (0..(SLOTS + 1) * limits.len()).map(|_| LimitState::default()).collect();
        Self(Mutex::new(Inner { limits: Arc::clone(limits), hashes: [0; SLOTS], states }))
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[inline]
fn row<'a>(states: &'a mut [LimitState], limits: &[Limit], slot: usize) -> &'a mut [LimitState] {
    &mut states[slot * limits.len()..][..limits.len()]
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}
