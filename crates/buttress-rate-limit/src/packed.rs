//! The table of token buckets: a word per key, groups of one cache line, no lock for a key that is there.
//!
//! ```text
//!  header  │ generation 28 │ busy │ · │ time of the last sweep, >> 32 .. 32 │ spilled │ locked │
//!  slot    │ when the bucket will be full again, mod 2^40 ........... 40 │ tag 23 bits │ 1 │  × 7
//! ```
//!
//! *Charge*: a compare-and-swap of the key's word. Tag and time are in one word, so nothing is ever torn. A key has
//! a slot where it is looked for first, and most often is; otherwise all seven are compared without a branch.
//!
//! *Time* in a word is the lower part of a longer one, and means something only within 2^39 ticks of now. The
//! header says when the group was last swept of expired words; after 2^38 ticks whoever comes next sweeps it
//! first. Debts are at most 2^38 ticks, so a word is never taken for one of another age. A clock that goes back to
//! before the sweep stands still until it is there again.
//!
//! *Claim*: a new key swaps its word into the first free slot of its home group, in an order that all calls of one
//! key share. Free words become words of keys without a lock, and the other way round only under the group's lock,
//! by a sweep that leaves all free words different from what they were. So of two calls of one new key that see the
//! same free slots, one loses its swap and finds the other's word; and who has looked before a sweep claims nothing
//! after it.
//!
//! Where no slot is free, the home group's lock is taken, and the place of a key that owes nothing any more, or the
//! least, is taken over. That may be in a second group, whose lock is tried for then: whoever fails gives up the
//! first and begins again. The header of the home is marked as spilled before, for otherwise nobody looks there.
//!
//! *Change of limits*: see [`Live`]. The group is marked busy, word after word is carried over, and the generation
//! set. Groups of generation 0 go by the numbers that the table was made with, which are never written over.
//!
//! Two keys of one group have the same tag, and then share one budget, in about one case in a million.

use std::hint;
use std::ptr;
use std::sync::atomic::{AtomicU64 as Count, Ordering};

use buttress_core::Timestamp;

use crate::WhenFull;
use crate::live::{GENERATION, Live, STEP};
use crate::one::Denied;
use crate::policy::{CarryOver, Limit};
use crate::scale::Scale;
use crate::set::Outcome;
use crate::sync::{AtomicU64, yield_now};

#[cfg(not(buttress_loom))]
const SLOTS: usize = 7;
#[cfg(buttress_loom)]
const SLOTS: usize = 2;

/// Set in every word that a key has; the others are free.
const HELD: u64 = 1;
/// Whose word it is, [`HELD`] among it; what is above is the time.
const TAG: u64 = (1 << SHIFT) - 1;
const SHIFT: u32 = 24;
/// The tag of those who find no place and share a budget. A key that has it too shares it with them.
const CROWD: u64 = HELD;

const LOCKED: u64 = 1;
/// Keys of this group may be in their second.
const SPILLED: u64 = 2;
/// Where the time of the last sweep is.
const SWEPT: u64 = ((1 << 32) - 1) << 2;
/// The bit below is always 0, so that no time is taken for a generation.
const BUSY: u64 = STEP >> 1;
/// How many times 2^32 ticks a group may go unswept, in a header.
const SWEEP: u64 = 64 << 2;

#[derive(Debug)]
pub(crate) struct Packed {
    groups: Box<[Group]>,
    /// The numbers of generation 0.
    made: Scale,
    when_full: WhenFull,
    live: Live,
    evicted: Count,
    crowded: Count,
}

/// A header, and slots.
#[derive(Debug)]
#[repr(align(64))]
struct Group([AtomicU64; 1 + SLOTS]);

#[cfg(not(buttress_loom))]
const _: () = assert!(size_of::<Group>() == 64);

/// How a step on one group went.
enum Attempt {
    /// This is the debt now.
    Done(u64),
    /// This is the debt.
    Denied(u64),
    /// The key is not in this group, which has this header.
    Missing(u64),
    /// The group has to be swept or carried over first.
    Stale,
    /// Another call came in between.
    Again,
}

/// Why a call is refused.
pub(crate) enum Refused {
    /// By its own budget.
    Denied(Denied),
    /// For want of a place, until the clock shows this.
    Full(Scale, u64),
}

impl Packed {
    /// Makes room for `capacity` keys and three quarters as many again: 16 bytes for each.
    pub(crate) fn new(limit: &Limit, scale: Scale, capacity: usize, when_full: WhenFull) -> Self {
        Self {
            groups: (0..capacity.div_ceil(4)).map(|_| Group::new()).collect(),
            made: scale,
            when_full,
            live: Live::new(limit, scale),
            evicted: Count::new(0),
            crowded: Count::new(0),
        }
    }

    /// Charges a key in its home group, by the numbers that the table was made with. Whatever else may be the case
    /// (`None`) is for [`run`](Self::run).
    #[inline(always)]
    pub(crate) fn charge(&self, hash: u64, cost: u32, now: Timestamp) -> Option<Outcome> {
        let scale = Scale { generation: 0, ..self.made };
        let (group, first) = self.home(hash);
        let (slot, ticks) = (&group.0[first], scale.ticks(now));
        let word = slot.load(Ordering::Acquire);
        // Whoever only looks leaves the word as it is.
        if !is_of(word, tag(hash)) || cost == 0 {
            return self.charge_beside(group, first, tag(hash), cost, now);
        }
        match group.step(slot, word, &scale, ticks, |debt| scale.charge(debt, cost)) {
            Attempt::Done(debt) => Some(Outcome::admitted_at(debt)),
            Attempt::Denied(debt) => Some(Outcome::denied(&self.made, debt, ticks, cost, now)),
            _ => None,
        }
    }

    /// Charges a key that is not where it is looked for first, or that is new, or only looks at it.
    #[inline(never)]
    fn charge_beside(
        &self,
        home: &Group,
        first: usize,
        tag: u64,
        cost: u32,
        now: Timestamp,
    ) -> Option<Outcome> {
        let scale = Scale { generation: 0, ..self.made };
        let (vacancy, ticks) = (home.vacancy(first), scale.ticks(now));
        match home.attempt(&scale, tag, ticks, |debt| scale.charge(debt, cost)) {
            Attempt::Done(debt) => Some(Outcome::admitted_at(debt)),
            Attempt::Denied(debt) => Some(Outcome::denied(&self.made, debt, ticks, cost, now)),
            Attempt::Missing(header) if header & SPILLED == 0 && self.when_full != WhenFull::Shared => {
                let (slot, free) = vacancy?;
                let after = scale.charge(0, cost)?;
                // A peek leaves nothing to remember.
                if after > 0 {
                    swap(slot, free, word(tag, ticks, after))?;
                }
                Some(Outcome::admitted_at(after))
            }
            _ => None,
        }
    }

    /// Replaces the debt of a key by what `step` makes of the ticks and it, unless that is `None`. A key that is not
    /// held is given a place if `claim` says so; otherwise it is left alone, or is one of those that share a budget.
    pub(crate) fn run(
        &self,
        hash: u64,
        now: Timestamp,
        claim: bool,
        mut step: impl FnMut(&Scale, u64, u64) -> Option<u64>,
    ) -> Result<(), Refused> {
        let ((home, first), tag) = (self.home(hash), tag(hash));
        let both = [home, self.second(hash)];
        // The second is asked only where the key may be there, or has to go there.
        let spilled = home.header().load(Ordering::Relaxed) & SPILLED != 0;
        let mut groups = if spilled { &both[..] } else { &both[..1] };
        'again: loop {
            let scale = self.live.read();
            let swept = groups.iter().map(|group| group.swept(&scale)).max();
            let ticks = scale.ticks(now).max(swept.unwrap_or(0));
            let vacancy = home.vacancy(first);
            let mut header = 0;
            for group in groups {
                match group.attempt(&scale, tag, ticks, |debt| step(&scale, ticks, debt)) {
                    Attempt::Done(_) => return Ok(()),
                    Attempt::Denied(debt) => return Err(Refused::Denied(Denied { scale, ticks, debt })),
                    Attempt::Missing(seen) if ptr::eq(*group, home) => header = seen,
                    Attempt::Missing(_) => {}
                    Attempt::Stale => {
                        group.refresh(&self.live, &scale, ticks, now);
                        continue 'again;
                    }
                    Attempt::Again => continue 'again,
                }
            }
            if header & SPILLED != 0 && groups.len() == 1 {
                groups = &both;
                continue;
            }
            if !claim {
                if self.when_full != WhenFull::Shared {
                    return Ok(());
                }
                match home.attempt(&scale, CROWD, ticks, |debt| step(&scale, ticks, debt)) {
                    Attempt::Done(_) | Attempt::Missing(_) => return Ok(()),
                    Attempt::Denied(debt) => return Err(Refused::Denied(Denied { scale, ticks, debt })),
                    // The next turn sweeps it.
                    Attempt::Stale | Attempt::Again => continue,
                }
            }
            if let Some((slot, free)) = vacancy
                && self.when_full != WhenFull::Shared
            {
                let Some(after) = step(&scale, ticks, 0) else {
                    return Err(Refused::Denied(Denied { scale, ticks, debt: 0 }));
                };
                // A peek leaves nothing to remember.
                if after == 0 || swap(slot, free, word(tag, ticks, after)).is_some() {
                    return Ok(());
                }
                continue;
            }
            home.lock();
            let claimed = self.claim(both, &scale, tag, ticks, &mut step);
            home.unlock();
            match claimed {
                Some(result) => return result,
                None => groups = &both,
            }
        }
    }

    /// Finds a place for a new key. The caller holds its home's lock. `None` when something came in between.
    #[cold]
    fn claim(
        &self,
        groups: [&Group; 2],
        scale: &Scale,
        tag: u64,
        ticks: u64,
        step: &mut impl FnMut(&Scale, u64, u64) -> Option<u64>,
    ) -> Option<Result<(), Refused>> {
        let [home, _] = groups;
        // The home gets no free slot while it is locked, and without one nobody else makes this key. But it may
        // have been made since, or a group may have grown stale.
        if self.when_full != WhenFull::Shared && home.vacancy(1).is_some() {
            return None;
        }
        for group in groups {
            let Attempt::Missing(_) = group.attempt(scale, tag, ticks, |_| None) else {
                return None;
            };
        }

        // Who shared the budget of those without a place takes what is held against them all along.
        let shared = (self.when_full == WhenFull::Shared).then(|| &home.0[SLOTS]);
        let crowd = shared.map_or(0, |slot| slot.load(Ordering::Relaxed));
        let debt = if crowd & HELD == 0 { 0 } else { owed(crowd, ticks) };
        let Some(after) = step(scale, ticks, debt) else {
            return Some(Err(Refused::Denied(Denied { scale: *scale, ticks, debt })));
        };
        if after == debt {
            // A peek leaves nothing to remember.
            return Some(Ok(()));
        }

        let slots = if shared.is_some() { SLOTS - 1 } else { SLOTS };
        let (mut least, mut victim) = (u64::MAX, None);
        for (group, slot) in
            groups.iter().flat_map(|group| group.slots()[..slots].iter().map(move |slot| (group, slot)))
        {
            let word = slot.load(Ordering::Relaxed);
            let debt = if word & HELD == 0 { 0 } else { owed(word, ticks) };
            if debt < least {
                (least, victim) = (debt, Some((group, slot, word)));
            }
            if debt == 0 {
                break;
            }
        }
        let (group, slot, seen) = victim.expect("a group has slots");
        // A sweep or a carry of the second group goes word by word: none may go on while a word is put there.
        let other = Some(*group).filter(|group| !ptr::eq(*group, home));
        let _locked = match other {
            Some(group) => Some(group.try_lock()?),
            None => None,
        };
        if other.is_some_and(|group| is_stale(group.header().load(Ordering::Acquire), scale, ticks))
            || slot.load(Ordering::Acquire) != seen
        {
            return None;
        }

        if least == 0 || self.when_full == WhenFull::EvictLeastDebt {
            if other.is_some() {
                home.spill();
            }
            swap(slot, seen, word(tag, ticks, after))?;
            if least > 0 {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            return Some(Ok(()));
        }
        self.crowded.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = shared {
            swap(slot, crowd, word(CROWD, ticks, after))?;
            return Some(Ok(()));
        }
        Some(Err(Refused::Full(*scale, ticks.saturating_add(least))))
    }

    /// Holds all keys to another limit from now on.
    pub(crate) fn change(&self, limit: &Limit, scale: Scale, rule: CarryOver, now: Timestamp) {
        self.live.change(limit, scale, rule);
        for group in &self.groups {
            let scale = self.live.read();
            group.refresh(&self.live, &scale, scale.ticks(now), now);
        }
    }

    /// Keys that something is held against.
    pub(crate) fn keys(&self, now: Timestamp) -> usize {
        let live = |group: &Group| {
            let scale = self.live.read();
            let ticks = scale.ticks(now).max(group.swept(&scale));
            group.refresh(&self.live, &scale, ticks, now);
            let held = |word: u64| word & HELD != 0 && !is_of(word, CROWD) && owed(word, ticks) > 0;
            group.slots().iter().filter(|slot| held(slot.load(Ordering::Relaxed))).count()
        };
        self.groups.iter().map(live).sum()
    }

    pub(crate) fn clear(&self) {
        for group in &self.groups {
            let header = group.lock();
            // Full again since the last sweep. The slots are not free, since that would be a sweep.
            group.replace(|old| if old & HELD == 0 { old } else { word(old & TAG, since(header), 0) });
            group.unlock();
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    /// The group where a key belongs, and in it the place where it is looked for first.
    #[inline(always)]
    fn home(&self, hash: u64) -> (&Group, usize) {
        // Scales the hash onto the groups: a multiplication where `%` would divide. What is left over is as even.
        let scaled = u128::from(hash) * self.groups.len() as u128;
        let place = (scaled as u64 >> 61) as usize % (1 + SLOTS);
        (&self.groups[(scaled >> u64::BITS) as usize], place.max(1))
    }

    /// The two groups of a key, by number.
    #[cfg(buttress_loom)]
    pub(crate) fn groups_of(&self, hash: u64) -> [usize; 2] {
        [self.home(hash).0, self.second(hash)].map(|group| {
            self.groups.iter().position(|other| ptr::eq(other, group)).expect("it is one of them")
        })
    }

    #[inline]
    fn second(&self, hash: u64) -> &Group {
        self.home(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)).0
    }
}

impl Group {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[inline]
    const fn header(&self) -> &AtomicU64 {
        &self.0[0]
    }

    #[inline]
    fn slots(&self) -> &[AtomicU64] {
        &self.0[1..]
    }

    /// The slot for a new key and the free word in it: the place where it is looked for first, or the first that is
    /// free since the last sweep. Two calls of one new key that see the same come to the same, provided that both
    /// ask this before they look for the key.
    #[inline]
    fn vacancy(&self, first: usize) -> Option<(&AtomicU64, u64)> {
        // Read before the slots: a sweep that goes on frees some of them before others.
        let free = free_word(self.header().load(Ordering::Acquire));
        let mut places = [&self.0[first]].into_iter().chain(self.slots());
        places.find(|slot| slot.load(Ordering::Acquire) == free).map(|slot| (slot, free))
    }

    /// Tries `step` on the debt of the key with this tag. What is left as it was is not written.
    #[inline]
    fn attempt(&self, scale: &Scale, tag: u64, ticks: u64, step: impl FnOnce(u64) -> Option<u64>) -> Attempt {
        // Without a branch: it could not be foretold.
        let held = |slot: &AtomicU64| u32::from(is_of(slot.load(Ordering::Acquire), tag));
        let held = self.slots().iter().enumerate().fold(0, |all, (index, slot)| all | held(slot) << index);
        if held != 0 {
            let slot = &self.0[1 + held.trailing_zeros() as usize];
            let word = slot.load(Ordering::Acquire);
            if !is_of(word, tag) {
                return Attempt::Again;
            }
            let mut looks = false;
            let step = |debt| {
                step(debt).filter(|after| {
                    looks = *after == debt;
                    !looks
                })
            };
            return match self.step(slot, word, scale, ticks, step) {
                Attempt::Denied(debt) if looks => Attempt::Done(debt),
                attempt => attempt,
            };
        }
        let header = self.header().load(Ordering::Acquire);
        if is_stale(header, scale, ticks) { Attempt::Stale } else { Attempt::Missing(header) }
    }

    /// Tries `step` on the debt in `word`, which was read from this slot.
    #[inline(always)]
    fn step(
        &self,
        slot: &AtomicU64,
        seen: u64,
        scale: &Scale,
        ticks: u64,
        step: impl FnOnce(u64) -> Option<u64>,
    ) -> Attempt {
        // Read after the word: one of before a sweep or of another generation is changed before the header is.
        if is_stale(self.header().load(Ordering::Acquire), scale, ticks) {
            return Attempt::Stale;
        }
        let debt = owed(seen, ticks);
        let Some(after) = step(debt) else {
            let same = slot.load(Ordering::Acquire) == seen;
            return if same { Attempt::Denied(debt) } else { Attempt::Again };
        };
        // The word is all there is to know, so no ordering with other memory is needed.
        match swap(slot, seen, word(seen & TAG, ticks, after)) {
            Some(()) => Attempt::Done(after),
            None => Attempt::Again,
        }
    }

    /// When it was last swept, if its states are of this scale.
    fn swept(&self, scale: &Scale) -> u64 {
        let header = self.header().load(Ordering::Acquire);
        if generation(header) == scale.generation { since(header) } else { 0 }
    }

    /// Says that keys of this group may be in their second. The caller holds the lock.
    fn spill(&self) {
        let header = self.header().load(Ordering::Relaxed);
        self.header().store(header | SPILLED, Ordering::Release);
    }

    fn lock(&self) -> u64 {
        loop {
            let header = self.header().load(Ordering::Relaxed);
            let locked = header | LOCKED;
            if header != locked
                && self
                    .header()
                    .compare_exchange_weak(header, locked, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return header;
            }
            hint::spin_loop();
            yield_now();
        }
    }

    /// Locks it until the guard is dropped; `None` when somebody else does.
    fn try_lock(&self) -> Option<Locked<'_>> {
        let header = self.header().load(Ordering::Relaxed);
        let locked = header & LOCKED == 0
            && self
                .header()
                .compare_exchange(header, header | LOCKED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if locked {
            Some(Locked(self))
        } else {
            yield_now();
            None
        }
    }

    fn unlock(&self) {
        // Only the one who holds the lock writes to it.
        let header = self.header().load(Ordering::Relaxed);
        self.header().store(header & !LOCKED, Ordering::Release);
    }

    /// Sweeps expired words out, or carries them all over to the limit of today, where that is due.
    #[cold]
    fn refresh(&self, live: &Live, scale: &Scale, ticks: u64, now: Timestamp) {
        let header = self.lock();
        let latest = live.read().generation;
        if generation(header) != latest {
            self.header().store(header | LOCKED | BUSY, Ordering::Relaxed);
            live.carry(now, |from, to, carry| {
                let (then, ticks) = (from.ticks(now).max(since(header)), to.ticks(now));
                let next = to.generation | swept_at(ticks) | header & SPILLED;
                self.replace(|old| {
                    if old & HELD == 0 {
                        return free_word(next);
                    }
                    // Also where nothing is owed: where the clock may go back to, something was.
                    word(old & TAG, ticks, carry(age(old, header).saturating_sub(then)))
                });
                self.header().store(next | LOCKED, Ordering::Release);
            });
        } else if latest == scale.generation && is_stale(header, scale, ticks) && ticks > since(header) {
            let next = latest | swept_at(ticks) | header & SPILLED;
            // A clock that goes back stands still at the rounded time, and finds what was owed then.
            let keeps = |old: u64| old & HELD != 0 && age(old, header) > rounded(ticks);
            self.replace(|old| if keeps(old) { old } else { free_word(next) });
            self.header().store(next | LOCKED, Ordering::Release);
        }
        self.unlock();
    }

    /// Replaces each word, whatever calls do to it meanwhile.
    fn replace(&self, mut replace: impl FnMut(u64) -> u64) {
        for slot in self.slots() {
            let mut word = slot.load(Ordering::Relaxed);
            loop {
                let next = replace(word);
                match slot.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(seen) => word = seen,
                }
            }
        }
    }
}

/// A second group, locked beside a home.
struct Locked<'a>(&'a Group);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

#[inline]
fn swap(slot: &AtomicU64, word: u64, next: u64) -> Option<()> {
    slot.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).ok().map(drop)
}

#[inline]
const fn tag(hash: u64) -> u64 {
    // The group is chosen by the upper bits.
    hash & TAG | HELD
}

#[inline]
const fn is_of(word: u64, tag: u64) -> bool {
    (word ^ tag) & TAG == 0
}

/// The word of a key with this debt.
#[inline]
const fn word(tag: u64, ticks: u64, debt: u64) -> u64 {
    ticks.wrapping_add(debt) << SHIFT | tag
}

/// The debt in a word, within 2^39 ticks of now.
#[inline]
fn owed(word: u64, ticks: u64) -> u64 {
    (word.wrapping_sub(ticks << SHIFT) as i64 >> SHIFT).max(0) as u64
}

/// The whole time in a word that is not older than the last sweep.
const fn age(word: u64, header: u64) -> u64 {
    let since = since(header);
    since.saturating_add((word >> SHIFT).wrapping_sub(since) & (u64::MAX >> SHIFT))
}

/// Whether the group is of another generation, is being carried over, or has to be swept.
#[inline]
const fn is_stale(header: u64, scale: &Scale, ticks: u64) -> bool {
    // In one comparison, whatever the two lowest bits of the header are.
    (scale.generation | ticks >> 30 | LOCKED | SPILLED).wrapping_sub(header) >= SWEEP
}

const fn generation(header: u64) -> u64 {
    header & GENERATION
}

/// When the group was last swept, rounded down.
const fn since(header: u64) -> u64 {
    (header & SWEPT) << 30
}

/// The time of a sweep as it is known from then on.
const fn rounded(ticks: u64) -> u64 {
    since(swept_at(ticks))
}

/// The same as the header keeps it.
const fn swept_at(ticks: u64) -> u64 {
    ticks >> 30 & SWEPT
}

/// A free word: of one sweep, so that it differs from those of others.
const fn free_word(header: u64) -> u64 {
    header & (GENERATION | SWEPT)
}
