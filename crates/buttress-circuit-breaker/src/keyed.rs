//! Breakers by key, in a table of a fixed size.
//!
//! A key has its breaker in one of the eight slots of its home group, or of a second one. A slot holds the hash of its
//! key, and the hash of the key is what a breaker goes by: two keys of one hash share one.
//!
//! *Look*: no lock. The hash is read, the breaker asked, and the hash read again: a slot that was given to another key
//! in between takes its admission back, and the look begins anew.
//!
//! *Claim*: under one lock, since new keys are rare. A slot that is free is taken; else one that was idle for long; else,
//! which counts as an eviction, one whose breaker is closed or has outlasted its state, and then one that is half-open or
//! ramping: of each the one that was left alone for longest. A breaker that is open or was set by hand stays. The
//! breaker in a claimed slot begins a new generation, so calls of the key before come too late and move nothing.
//!
//! *Steer*: under the same lock, from the look or claim to the last step, so that no other key is steered instead.

use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use buttress_core::{Name, Timestamp, nanos};

use crate::breaker::{Admission, Breaker, Recorded, Refused, Worth};
use crate::label::Label;
use crate::policy::{Judged, Rules, Transition, Word};
use crate::sync::{AtomicU64, Mutex, MutexGuard};

#[cfg(not(buttress_loom))]
const SLOTS: usize = 8;
#[cfg(buttress_loom)]
const SLOTS: usize = 1;
/// Of eight slots, so many are counted on, so that a key finds room in one of its two groups before the table is full.
const COUNTED_ON: usize = 6;
const FREE: u64 = 0;
/// How exactly it is known when a key was last asked, in nanoseconds: a tenth of a millisecond.
const GRAIN: u64 = 100_000;

/// Breakers by the hash of a key, made at first sight and bounded in number.
///
/// At most four thirds of `capacity` keys are held, rounded up to the next eight; a key takes less than 256 bytes with a
/// window of 100 calls or of time, and nothing before groups of eight are first used. A key whose breaker was not asked
/// for the idle time makes way for a new one. Where all of those that the new key could replace are in use, one that is
/// closed does, or whose open time is over, else one that is half-open or ramping: of these, the one that was left alone
/// for longest. That is [counted](Self::evicted), and what was known of it is lost: the key begins with a closed breaker
/// when it comes again. A breaker that is open is kept until its wait is over, and one that was set by hand until it is
/// reset; a key that finds no room for that reason goes without a breaker, and is [counted](Self::crowded) too.
///
/// What [`get`](Self::get) and [`breaker`](Self::breaker) give may be another key's a moment later. They are for looking;
/// [`steer`](Self::steer) is for changing.
///
/// Hashes come from a [`HashSink`](buttress_core::HashSink), whose seeds a client does not know.
#[derive(Debug)]
pub struct Keyed {
    groups: Box<[OnceLock<Box<[Slot; SLOTS]>>]>,
    idle: u64,
    grain: u64,
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
#[derive(Debug, PartialEq, Eq)]
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
    /// breakers have by default. Where they may be open for longer, so should this be.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(600);
    /// How many keys it holds at most: the first of them makes a table of 16 bytes for every six.
    pub const MAX_CAPACITY: usize = 1_000_000;

    /// Makes room for `capacity` keys, that are idle after `idle`. 0 keys are taken as 1, and more than
    /// [`MAX_CAPACITY`](Self::MAX_CAPACITY) as that.
    #[must_use]
    pub fn new(capacity: usize, idle: Duration) -> Self {
        let groups = capacity.clamp(1, Self::MAX_CAPACITY).div_ceil(COUNTED_ON);
        let idle = nanos(idle);
        Self {
            groups: (0..groups).map(|_| OnceLock::new()).collect(),
            idle,
            grain: GRAIN.min(idle / 16),
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
        loop {
            if let Ok(asked) = self.ask(rules, hash, now, &mut draw, &mut tell, || None) {
                return asked;
            }
        }
    }

    /// The same once, and a name for the key if it is new.
    ///
    /// # Errors
    ///
    /// When the breaker was given to another key meanwhile: whose it is, and what was told of it, nobody knows.
    #[inline]
    pub(crate) fn ask(
        &self,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        mut draw: impl FnMut() -> u64,
        mut tell: impl FnMut(Transition),
        name: impl FnOnce() -> Option<Name>,
    ) -> Result<Asked, Place> {
        let hash = hash.max(1);
        let Some((place, slot)) = self.find(hash).or_else(|| self.make(rules, hash, now, name)) else {
            return Ok(Asked { place: None, answer: None });
        };
        // Written once in a while, so that the cores do not fight for it.
        let asked = slot.asked.load(Relaxed);
        if now.as_nanos().abs_diff(asked) > self.grain {
            slot.asked.store(now.as_nanos(), Relaxed);
        }
        let answer = slot.breaker.admit(rules, || now, &mut draw, &mut tell);
        if slot.hash.load(SeqCst) == hash {
            return Ok(Asked { place: Some(place), answer: Some(answer) });
        }
        if let Ok(admission) = answer {
            let give_back = Judged::Ignored;
            slot.breaker.record(rules, admission, give_back, false, || now, &mut draw, &mut tell);
        }
        Err(place)
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

    /// Takes a good answer of a call whose end is still to come: see [`Breaker::answered`].
    pub fn answered(
        &self,
        place: Place,
        admission: &mut Admission,
        now: Timestamp,
        slow_at: Option<Timestamp>,
    ) {
        self.at(place).breaker.answered(admission, now, slow_at);
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

    /// Lets `steer` change the breaker of the key with this hash, which is made if it has none yet. No other key gets the
    /// breaker meanwhile. `None` when there is no room for it, which counts as [crowded](Self::crowded).
    ///
    /// New keys wait for `steer` to return, so it must not wait for one, nor steer another.
    pub fn steer<R>(
        &self,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        steer: impl FnOnce(&Breaker) -> R,
    ) -> Option<R> {
        self.steer_named(rules, hash, now, None, |_, breaker, _| steer(breaker))
    }

    /// The same with the name of the key, where it is, and its label.
    pub(crate) fn steer_named<R>(
        &self,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        name: Option<Name>,
        steer: impl FnOnce(Place, &Breaker, &Label) -> R,
    ) -> Option<R> {
        let claim = self.lock();
        let (place, slot) = self.claim(&claim, rules, hash.max(1), now, name)?;
        Some(steer(place, &slot.breaker, &slot.label))
    }

    /// The same, where the key has a breaker.
    pub(crate) fn steer_held<R>(&self, hash: u64, steer: impl FnOnce(Place, &Breaker) -> R) -> Option<R> {
        let _claim = self.lock();
        let (place, slot) = self.find(hash.max(1))?;
        Some(steer(place, &slot.breaker))
    }

    /// The same for whichever key has its breaker here.
    pub(crate) fn steer_at<R>(&self, place: Place, steer: impl FnOnce(&Breaker) -> R) -> R {
        let _claim = self.lock();
        steer(&self.at(place).breaker)
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

    /// Whether the key with this hash has its breaker here.
    pub(crate) fn is_at(&self, place: Place, hash: u64) -> bool {
        self.at(place).hash.load(SeqCst) == hash.max(1)
    }

    /// All places that keys have, each with the hash of its key.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, Place)> {
        let groups = self.groups.iter().enumerate().filter_map(|(index, group)| Some((index, group.get()?)));
        groups.flat_map(|(index, group)| {
            let held = group.iter().enumerate().map(|(at, slot)| (slot.hash.load(SeqCst), at));
            let held = held.filter(|(hash, _)| *hash != FREE);
            held.map(move |(hash, at)| (hash, Place((index * SLOTS + at) as u32)))
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

    /// How many calls went without a breaker for want of room, and how often a key was [steered](Self::steer) in vain.
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

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a key that was not there a breaker. It is named where there is room, and while no lock is held: to name it asks
    /// what the user has given as the key.
    #[cold]
    fn make(
        &self,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        name: impl FnOnce() -> Option<Name>,
    ) -> Option<(Place, &Slot)> {
        let claim = self.lock();
        if self.find(hash).is_none() && self.room(rules, hash, now).is_none() {
            self.crowded.fetch_add(1, Relaxed);
            return None;
        }
        drop(claim);
        let name = name();
        self.claim(&self.lock(), rules, hash, now, name)
    }

    /// The breaker of a key, made if it has none.
    fn claim(
        &self,
        _claim: &MutexGuard<'_, ()>,
        rules: &Rules,
        hash: u64,
        now: Timestamp,
        name: Option<Name>,
    ) -> Option<(Place, &Slot)> {
        if let Some(found) = self.find(hash) {
            return Some(found);
        }
        let (place, slot, order, since) = loop {
            let Some((place, slot, (order, word))) = self.room(rules, hash, now) else {
                self.crowded.fetch_add(1, Relaxed);
                return None;
            };
            let before = slot.hash.load(SeqCst);
            if before == FREE {
                break (place, slot, order, word.generation());
            }
            slot.hash.store(FREE, SeqCst);
            if let Some(generation) = slot.breaker.clear(rules, word, now) {
                break (place, slot, order, generation);
            }
            // It has changed its state just now, and may be worth more.
            slot.hash.store(before, SeqCst);
        };
        if order < Order::Idle(0) {
            self.evicted.fetch_add(1, Relaxed);
        }
        slot.label.write(name, since);
        slot.asked.store(now.as_nanos(), Relaxed);
        slot.hash.store(hash, SeqCst);
        Some((place, slot))
    }

    /// The slot that is to be had for a new key.
    fn room(&self, rules: &Rules, hash: u64, now: Timestamp) -> Option<(Place, &Slot, (Order, Word))> {
        // The emptier group first: with two to choose from, they fill alike.
        let mut homes = self.homes(hash);
        homes.sort_by_key(|index| self.held(*index));
        let slots = homes.into_iter().flat_map(|index| {
            let group =
                self.groups[index].get_or_init(|| Box::new(std::array::from_fn(|_| Slot::new(rules))));
            group.iter().enumerate().map(move |(at, slot)| (Place((index * SLOTS + at) as u32), slot))
        });
        slots
            .filter_map(|(place, slot)| Some((place, slot, slot.order(rules, now, self.idle)?)))
            .reduce(|one, other| if other.2.0 > one.2.0 { other } else { one })
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

    /// In which order it makes way, with the word that says so; `None` when it does not.
    fn order(&self, rules: &Rules, now: Timestamp, idle: u64) -> Option<(Order, Word)> {
        let (worth, word) = self.breaker.worth(rules, now);
        if self.hash.load(SeqCst) == FREE {
            return Some((Order::Free, word));
        }
        let (now, asked) = (now.as_nanos(), self.asked.load(Relaxed));
        // Ahead by so much, it was not asked since the clock has gone back.
        let age = if asked.saturating_sub(now) > idle { u64::MAX } else { now.saturating_sub(asked) };
        let order = match worth {
            Worth::All => return None,
            _ if age >= idle => Order::Idle(age),
            Worth::Little => Order::InUse(age),
            Worth::Some => Order::OnTrial(age),
        };
        Some((order, word))
    }
}

/// Which of two makes way for a new key: the greater. The numbers are for how long it was left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Half-open or ramping.
    OnTrial(u64),
    InUse(u64),
    Idle(u64),
    Free,
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::{Mode, Settings, State};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_told_of_a_breaker_that_went_to_another_key_meanwhile_is_not_told_of_the_next() {
        let rules = Settings::default().rules().unwrap();
        let keyed = Keyed::new(1, 60 * SECOND);
        let now = Timestamp::ZERO + SECOND;
        keyed.steer(&rules, 7, now, |breaker| breaker.open_for(&rules, SECOND, now, |_| {}));
        let (before, now) = (keyed.place(7), now + SECOND);
        let mut told = Vec::new();

        // The wait is over; while that is told, all other places are taken for good, and then this one.
        let tell = |transition: Transition| {
            told.push(transition.to);
            for hash in 100..107 {
                keyed.steer(&rules, hash, now, |breaker| breaker.force(&rules, Mode::Disabled, now, |_| {}));
            }
            keyed.steer(&rules, 8, now, |_| {});
        };
        let asked = keyed.ask(&rules, 7, now, || 0, tell, || None);

        assert_eq!(asked.err(), before);
        assert_eq!((told, keyed.place(8)), (vec![State::HalfOpen], before));
        let breaker = keyed.get(8).unwrap();
        assert_eq!((breaker.state(), breaker.view(&rules, now).probes_in_flight), (State::Closed, 0));
    }
}
