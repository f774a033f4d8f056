//! Breakers by key, in a table of a fixed size.
//!
//! A key has its breaker in one of the eight slots of its home group, or of a second one. A slot holds the hash of its
//! key, and the hash of the key is what a breaker goes by: two keys of one hash share one.
//!
//! *Look*: no lock. The hash is read, the breaker asked, and the hash read again: a slot that was given to another key
//! in between takes its admission back, and the look begins anew.
//!
//! *Claim*: under one lock, since new keys are rare. A slot that is free is taken; else one that was idle for long; else
//! the one that was left alone for longest, which counts as an eviction. A breaker that was set by hand stays. The
//! breaker in a claimed slot begins a new generation, so calls of the key before come too late and move nothing.

use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use crate::breaker::{Admission, Breaker, Recorded, Refused};
use crate::label::Label;
use crate::policy::{Judged, Rules, Transition};
use crate::sync::{AtomicU64, Mutex};

#[cfg(not(buttress_loom))]
const SLOTS: usize = 8;
#[cfg(buttress_loom)]
const SLOTS: usize = 1;
/// Of eight slots, so many are counted on, so that a key finds room in one of its two groups before the table is full.
const COUNTED_ON: usize = 6;
const FREE: u64 = 0;

/// Breakers by the hash of a key, made at first sight and bounded in number.
///
/// At most four thirds of `capacity` keys are held, rounded up to the next eight; a key takes less than 256 bytes with a
/// window of 100 calls or of time, and nothing before groups of eight are first used. A key whose breaker was not asked
/// for the idle time makes way for a new one; where all of those that the new key could replace are in use, the one
/// that was left alone for longest does, and that is [counted](Self::evicted). What was known of it is lost then: the
/// key begins with a closed breaker when it comes again. A breaker that was set by hand is kept; a key that finds no
/// room for that reason goes without a breaker, and is [counted](Self::crowded) too.
///
/// Hashes come from a [`HashSink`](buttress_core::HashSink), whose seeds a client does not know.
#[derive(Debug)]
pub struct Keyed {
    groups: Box<[OnceLock<Box<[Slot; SLOTS]>>]>,
    idle: u64,
    claim: Mutex<()>,
    evicted: Count,
    crowded: Count,
}

#[derive(Debug)]
struct Slot {
    hash: AtomicU64,
    /// When it was last asked, in the nanoseconds of the clock.
    asked: AtomicU64,
    breaker: Breaker,
    /// Of the layer, for people to read.
    label: Label,
}

/// Where a key has its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u32);

/// The answer of [`Keyed::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// Where the breaker is; `None` when there was no room for one, and the call passes.
    pub place: Option<Place>,
    /// What it says; `None` with no place.
    pub answer: Option<Result<Admission, Refused>>,
}

impl Keyed {
    /// How many keys it holds unless said otherwise.
    pub const DEFAULT_CAPACITY: usize = 1024;
    /// After how long a breaker makes way for a new key, unless said otherwise: ten times the longest open time that
    /// breakers have by default.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(600);

    /// Makes room for `capacity` keys, 1 at least, that are idle after `idle`.
    #[must_use]
    pub fn new(capacity: usize, idle: Duration) -> Self {
        let groups = capacity.clamp(1, u32::MAX as usize / SLOTS).div_ceil(COUNTED_ON);
        Self {
            groups: (0..groups).map(|_| OnceLock::new()).collect(),
            idle: nanos(idle),
            claim: Mutex::new(()),
            evicted: Count::new(0),
            crowded: Count::new(0),
        }
    }

    /// Lets a call of the key with this hash through, or does not: see [`Breaker::admit`].
    pub fn admit(
        &self,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        mut draw: impl FnMut() -> u64,
        mut tell: impl FnMut(Transition),
    ) -> Asked {
        let hash = hash.max(1);
        loop {
            let Some((place, slot)) = self.find(hash).or_else(|| self.make(rules, hash, now)) else {
                self.crowded.fetch_add(1, Relaxed);
                return Asked { place: None, answer: None };
            };
            // Written once in a while, so that the cores do not fight for it.
            let asked = slot.asked.load(Relaxed);
            if now.as_nanos().abs_diff(asked) > self.idle / 16 {
                slot.asked.store(now.as_nanos(), Relaxed);
            }
            let answer = slot.breaker.admit(rules, || now, &mut draw, &mut tell);
            if slot.hash.load(SeqCst) == hash {
                return Asked { place: Some(place), answer: Some(answer) };
            }
            // It was given to another key meanwhile.
            if let Ok(admission) = answer {
                let give_back = Judged::Ignored;
                slot.breaker.record(rules, admission, give_back, false, || now, &mut draw, &mut tell);
            }
        }
    }

    /// Takes the result of a call: see [`Breaker::record`].
    #[expect(clippy::too_many_arguments, reason = "those of a single breaker, and where it is")]
    pub fn record(
        &self,
        rules: &Rules,
        place: Place,
        admission: Admission,
        judged: Judged,
        slow: bool,
        now: impl Fn() -> Timestamp,
        draw: impl FnMut() -> u64,
        tell: impl FnMut(Transition),
    ) -> Recorded {
        self.at(place).breaker.record(rules, admission, judged, slow, now, draw, tell)
    }

    /// The breaker at this place, whosever it is by now.
    #[must_use]
    pub fn breaker(&self, place: Place) -> &Breaker {
        &self.at(place).breaker
    }

    /// The breaker of the key with this hash, if it has one.
    #[must_use]
    pub fn get(&self, hash: u64) -> Option<&Breaker> {
        self.find(hash.max(1)).map(|(_, slot)| &slot.breaker)
    }

    /// The breaker of the key with this hash, made if it has none yet; `None` when there is no room for it.
    ///
    /// For those who steer a breaker before its first call.
    pub fn get_or_make(&self, rules: &Rules, hash: u64, now: Timestamp) -> Option<&Breaker> {
        let hash = hash.max(1);
        self.find(hash).or_else(|| self.make(rules, hash, now)).map(|(_, slot)| &slot.breaker)
    }

    /// All breakers that keys have, each with the hash of its key.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Breaker)> {
        let slots = self.groups.iter().filter_map(OnceLock::get).flat_map(|group| group.iter());
        slots.map(|slot| (slot.hash.load(SeqCst), &slot.breaker)).filter(|(hash, _)| *hash != FREE)
    }

    /// Where the key with this hash has its breaker.
    pub(crate) fn place(&self, hash: u64) -> Option<Place> {
        self.find(hash.max(1)).map(|(place, _)| place)
    }

    /// The same, made if it has none yet; `None` when there is no room for it.
    pub(crate) fn place_or_make(&self, rules: &Rules, hash: u64, now: Timestamp) -> Option<Place> {
        let hash = hash.max(1);
        self.find(hash).or_else(|| self.make(rules, hash, now)).map(|(place, _)| place)
    }

    /// All places that keys have.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let groups = self.groups.iter().enumerate().filter_map(|(index, group)| Some((index, group.get()?)));
        groups.flat_map(|(index, group)| {
            let held = group.iter().enumerate().filter(|(_, slot)| slot.hash.load(SeqCst) != FREE);
            held.map(move |(at, _)| Place((index * SLOTS + at) as u32))
        })
    }

    pub(crate) fn label(&self, place: Place) -> &Label {
        &self.at(place).label
    }

    /// How many keys are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys can be held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.groups.len() * SLOTS
    }

    /// How many keys had to make way for others although they were not idle.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// How many calls went without a breaker for want of room.
    #[must_use]
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Relaxed)
    }

    fn at(&self, place: Place) -> &Slot {
        let place = place.0 as usize;
        let group = self.groups[place / SLOTS].get().expect("a place is in a group that is in use");
        &group[place % SLOTS]
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<(Place, &Slot)> {
        self.homes(hash).into_iter().find_map(|index| {
            let group = self.groups[index].get()?;
            let at = group.iter().position(|slot| slot.hash.load(SeqCst) == hash)?;
            Some((Place((index * SLOTS + at) as u32), &group[at]))
        })
    }

    /// Gives a key that was not there a breaker.
    #[cold]
    fn make(&self, rules: &Rules, hash: u64, now: Timestamp) -> Option<(Place, &Slot)> {
        let _claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.find(hash) {
            return Some(found);
        }
        // The emptier group first: with two to choose from, they fill alike.
        let mut homes = self.homes(hash);
        homes.sort_by_key(|index| self.held(*index));
        let slots = homes.into_iter().flat_map(|index| {
            let group =
                self.groups[index].get_or_init(|| Box::new(std::array::from_fn(|_| Slot::new(rules))));
            group.iter().enumerate().map(move |(at, slot)| (Place((index * SLOTS + at) as u32), slot))
        });
        // A free slot was left alone for ever.
        let (place, slot, age) = slots
            .filter(|(_, slot)| !slot.breaker.state().is_forced())
            .map(|(place, slot)| (place, slot, slot.age(now)))
            .reduce(|one, other| if other.2 > one.2 { other } else { one })?;
        if age < self.idle {
            self.evicted.fetch_add(1, Relaxed);
        }
        if slot.hash.load(SeqCst) != FREE {
            slot.hash.store(FREE, SeqCst);
            // Not told: nobody's breaker has changed.
            slot.breaker.reset(rules, now, |_| {});
        }
        slot.asked.store(now.as_nanos(), Relaxed);
        slot.hash.store(hash, SeqCst);
        Some((place, slot))
    }

    fn held(&self, group: usize) -> usize {
        let held = |slot: &&Slot| slot.hash.load(SeqCst) != FREE;
        self.groups[group].get().map_or(0, |group| group.iter().filter(held).count())
    }

    /// The groups a key may be in.
    #[inline]
    fn homes(&self, hash: u64) -> [usize; 2] {
        // Scales the hash onto the groups: a multiplication where `%` would divide.
        let home = |hash: u64| ((u128::from(hash) * self.groups.len() as u128) >> u64::BITS) as usize;
        [home(hash), home(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))]
    }
}

impl Slot {
    fn new(rules: &Rules) -> Self {
        let (hash, asked) = (AtomicU64::new(FREE), AtomicU64::new(0));
        Self { hash, asked, breaker: Breaker::new(rules), label: Label::default() }
    }

    fn age(&self, now: Timestamp) -> u64 {
        if self.hash.load(SeqCst) == FREE {
            return u64::MAX;
        }
        now.as_nanos().saturating_sub(self.asked.load(Relaxed))
    }
}
