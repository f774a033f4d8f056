//! The table of token buckets: a word per key, groups of one cache line, no lock for a key that is there.
//!
//! ```text
//!  header  │ time of the last sweep, >> 32 ........ 32 bits │ generation 30 │ busy │ locked │
//!  slot    │ 1 │ tag 23 bits │ when the bucket will be full again, mod 2^40 ............ 40 │  × 7
//! ```
//!
//! *Charge*: a compare-and-swap of the key's word. Tag and time are in one word, so nothing is ever torn.
//!
//! *Time* in a word is the lower part of a longer one, and means something only within 2^39 ticks of now. The
//! header says when the group was last swept of expired words; after 2^38 ticks whoever comes next sweeps it
//! first. Debts are at most 2^38 ticks, so a word is never taken for one of another age. A clock that goes back to
//! before the sweep stands still until it is there again.
//!
//! *Claim*: a new key takes the lock of its home group, looks again, and swaps its word in, so that two calls of
//! one new key do not make it two budgets. A key may live in a second group when its home is full.
//!
//! *Change of limits*: see [`Live`]. The group is marked busy, word after word is carried over, and the generation
//! set. Free words carry the generation too, so that nothing is claimed by the rules of before.
//!
//! Two keys of one group have the same tag, and then share one budget, in about one case in a million.

use std::hint;
use std::sync::atomic::{AtomicU64 as Count, Ordering};

use buttress_core::Timestamp;

use crate::WhenFull;
use crate::live::{GENERATION, Live};
use crate::one::Denied;
use crate::policy::{CarryOver, Limit};
use crate::scale::Scale;
use crate::sync::{AtomicU64, yield_now};

#[cfg(not(buttress_loom))]
const SLOTS: usize = 7;
#[cfg(buttress_loom)]
const SLOTS: usize = 2;

/// Set in every word that a key has; the others are free.
const HELD: u64 = 1 << 63;
const TIME: u64 = (1 << 40) - 1;
/// The tag of those who find no place and share a budget. A key that has it too shares it with them.
const CROWD: u64 = HELD;

const LOCKED: u64 = 1;
const BUSY: u64 = 2;
/// How many times 2^32 ticks a group may go unswept.
const SWEEP: u64 = 64;

#[derive(Debug)]
pub(crate) struct Packed {
    live: Live,
    groups: Box<[Group]>,
    when_full: WhenFull,
    evicted: Count,
    crowded: Count,
}

#[derive(Debug)]
#[repr(align(64))]
struct Group {
    header: AtomicU64,
    slots: [AtomicU64; SLOTS],
}

#[cfg(not(buttress_loom))]
const _: () = assert!(size_of::<Group>() == 64);

/// How a step on one group went.
enum Attempt {
    Done,
    Denied(u64),
    /// The key is not in this group.
    Missing,
    /// The group has to be swept or carried over first, or another call came in between.
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
            live: Live::new(limit, scale),
            groups: (0..capacity.div_ceil(4)).map(|_| Group::new()).collect(),
            when_full,
            evicted: Count::new(0),
            crowded: Count::new(0),
        }
    }

    /// Charges a key whose budget allows it; whatever else may be the case is for [`run`](Self::run).
    #[inline(always)]
    pub(crate) fn charge(&self, hash: u64, cost: u32, now: Timestamp) -> bool {
        let scale = self.live.read();
        let step = |debt| scale.charge(debt, cost);
        matches!(self.home(hash).attempt(&scale, tag(hash), scale.ticks(now), step), Attempt::Done)
    }

    /// Replaces the debt of a key by what `step` makes of it, unless that is `None`. A key that is not held is
    /// given a place if `claim` says so, and left alone otherwise.
    pub(crate) fn run(
        &self,
        hash: u64,
        now: Timestamp,
        claim: bool,
        mut step: impl FnMut(&Scale, u64) -> Option<u64>,
    ) -> Result<(), Refused> {
        let groups = [self.home(hash), self.second(hash)];
        'again: loop {
            let scale = self.live.read();
            let ticks =
                groups.iter().map(|group| group.swept(&scale)).max().unwrap_or(0).max(scale.ticks(now));
            for group in groups {
                match group.attempt(&scale, tag(hash), ticks, |debt| step(&scale, debt)) {
                    Attempt::Done => return Ok(()),
                    Attempt::Denied(debt) => return Err(Refused::Denied(Denied { scale, ticks, debt })),
                    Attempt::Missing => {}
                    Attempt::Again => {
                        group.refresh(&self.live, &scale, ticks, now);
                        continue 'again;
                    }
                }
            }

            if !claim {
                return Ok(());
            }
            groups[0].lock();
            let claimed = self.claim(groups, &scale, tag(hash), ticks, &mut step);
            groups[0].unlock();
            if let Some(result) = claimed {
                return result;
            }
        }
    }

    /// Finds a place for a new key. The caller holds its home's lock. `None` when something came in between.
    fn claim(
        &self,
        groups: [&Group; 2],
        scale: &Scale,
        tag: u64,
        ticks: u64,
        step: &mut impl FnMut(&Scale, u64) -> Option<u64>,
    ) -> Option<Result<(), Refused>> {
        // Nobody else makes this key, but it may have been made since, or a group may have grown stale.
        let held = |slot: &AtomicU64| slot.load(Ordering::Acquire) ^ tag <= TIME;
        for group in groups {
            let held = group.slots.iter().any(held);
            if held || is_stale(group.header.load(Ordering::Acquire) & !LOCKED, scale, ticks) {
                return None;
            }
        }

        // Who shared the budget of those without a place takes what is held against them all along.
        let shared = (self.when_full == WhenFull::Shared).then(|| &groups[0].slots[SLOTS - 1]);
        let crowd = shared.map_or(0, |slot| slot.load(Ordering::Relaxed));
        let debt = if crowd & HELD == 0 { 0 } else { owed(crowd, ticks) };
        let Some(after) = step(scale, debt) else {
            return Some(Err(Refused::Denied(Denied { scale: *scale, ticks, debt })));
        };
        if after == debt {
            // A peek leaves nothing to remember.
            return Some(Ok(()));
        }

        let slots = if shared.is_some() { SLOTS - 1 } else { SLOTS };
        let (mut least, mut victim) = (u64::MAX, None);
        for slot in groups.iter().flat_map(|group| &group.slots[..slots]) {
            let word = slot.load(Ordering::Relaxed);
            let debt = if word & HELD == 0 { 0 } else { owed(word, ticks) };
            if debt < least {
                (least, victim) = (debt, Some((slot, word)));
            }
            if debt == 0 {
                break;
            }
        }
        let (slot, word) = victim.expect("a group has slots");

        let new = |tag, after| tag | (ticks.wrapping_add(after) & TIME);
        if least == 0 || self.when_full == WhenFull::EvictLeastDebt {
            swap(slot, word, new(tag, after))?;
            if least > 0 {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            return Some(Ok(()));
        }
        if let Some(slot) = shared {
            swap(slot, crowd, new(CROWD, after))?;
            self.crowded.fetch_add(1, Ordering::Relaxed);
            return Some(Ok(()));
        }
        self.crowded.fetch_add(1, Ordering::Relaxed);
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
            let held = |word: u64| word & HELD != 0 && word & !TIME != CROWD && owed(word, ticks) > 0;
            group.slots.iter().filter(|slot| held(slot.load(Ordering::Relaxed))).count()
        };
        self.groups.iter().map(live).sum()
    }

    pub(crate) fn clear(&self) {
        for group in &self.groups {
            let header = group.lock();
            for slot in &group.slots {
                slot.store(free(header), Ordering::Relaxed);
            }
            group.unlock();
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    #[inline]
    fn home(&self, hash: u64) -> &Group {
        // Scales the hash onto the groups: a multiplication where `%` would divide.
        let index = (u128::from(hash) * self.groups.len() as u128) >> u64::BITS;
        &self.groups[index as usize]
    }

    fn second(&self, hash: u64) -> &Group {
        self.home(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }
}

impl Group {
    fn new() -> Self {
        Self { header: AtomicU64::new(0), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Tries `step` on the debt of the key with this tag.
    #[inline(always)]
    fn attempt(&self, scale: &Scale, tag: u64, ticks: u64, step: impl FnOnce(u64) -> Option<u64>) -> Attempt {
        for slot in &self.slots {
            let word = slot.load(Ordering::Acquire);
            if word ^ tag > TIME {
                continue;
            }
            // Read after the word: one of before a sweep or of another generation is changed before the header is.
            if is_stale(self.header.load(Ordering::Acquire), scale, ticks) {
                return Attempt::Again;
            }
            let debt = owed(word, ticks);
            let Some(after) = step(debt) else {
                let same = slot.load(Ordering::Acquire) == word;
                return if same { Attempt::Denied(debt) } else { Attempt::Again };
            };
            let next = tag | (ticks.wrapping_add(after) & TIME);
            // The word is all there is to know, so no ordering with other memory is needed.
            return if swap(slot, word, next).is_some() { Attempt::Done } else { Attempt::Again };
        }
        if is_stale(self.header.load(Ordering::Acquire), scale, ticks) {
            Attempt::Again
        } else {
            Attempt::Missing
        }
    }

    /// When it was last swept, if its states are of this scale.
    fn swept(&self, scale: &Scale) -> u64 {
        let header = self.header.load(Ordering::Acquire);
        if generation(header) == scale.generation { since(header) } else { 0 }
    }

    fn lock(&self) -> u64 {
        loop {
            let header = self.header.load(Ordering::Relaxed);
            let locked = header | LOCKED;
            if header != locked
                && self
                    .header
                    .compare_exchange_weak(header, locked, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return header;
            }
            hint::spin_loop();
            yield_now();
        }
    }

    fn unlock(&self) {
        // Only the one who holds the lock writes to it.
        let header = self.header.load(Ordering::Relaxed);
        self.header.store(header & !LOCKED, Ordering::Release);
    }

    /// Sweeps expired words out, or carries them all over to the limit of today, where that is due.
    #[cold]
    fn refresh(&self, live: &Live, scale: &Scale, ticks: u64, now: Timestamp) {
        let header = self.lock();
        let latest = live.read().generation;
        if generation(header) != latest {
            self.header.store(header | LOCKED | BUSY, Ordering::Relaxed);
            live.carry(now, |from, to, carry| {
                let (then, ticks) = (from.ticks(now).max(since(header)), to.ticks(now));
                let sweep = ticks >> 32 << 32;
                let mark = to.generation;
                self.replace(|word| {
                    let after =
                        if word & HELD == 0 { 0 } else { carry(age(word, header).saturating_sub(then)) };
                    if after == 0 { free(mark) } else { word & !TIME | (ticks.saturating_add(after) & TIME) }
                });
                self.header.store(sweep | mark | LOCKED, Ordering::Release);
            });
        } else if latest == scale.generation && is_stale(header, scale, ticks) && ticks > since(header) {
            let expired = |word: u64| word & HELD != 0 && age(word, header) <= ticks;
            self.replace(|word| if expired(word) { free(header) } else { word });
            let mark = header & (u64::MAX >> 32) & !LOCKED;
            self.header.store(ticks >> 32 << 32 | mark | LOCKED, Ordering::Release);
        }
        self.unlock();
    }

    /// Replaces each word, whatever calls do to it meanwhile.
    fn replace(&self, mut replace: impl FnMut(u64) -> u64) {
        for slot in &self.slots {
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

#[inline]
fn swap(slot: &AtomicU64, word: u64, next: u64) -> Option<()> {
    slot.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).ok().map(drop)
}

#[inline]
const fn tag(hash: u64) -> u64 {
    // The group is chosen by the upper bits.
    hash << 40 | HELD
}

/// The debt in a word, within 2^39 ticks of now.
#[inline]
const fn owed(word: u64, ticks: u64) -> u64 {
    let ahead = (word.wrapping_sub(ticks) << 24) as i64 >> 24;
    if ahead > 0 { ahead as u64 } else { 0 }
}

/// The whole time in a word that is not older than the last sweep.
const fn age(word: u64, header: u64) -> u64 {
    let since = since(header);
    since.saturating_add(word.wrapping_sub(since) & TIME)
}

#[inline]
const fn is_stale(header: u64, scale: &Scale, ticks: u64) -> bool {
    // In one comparison: the lower half must be the same, and the upper not be too far behind.
    (ticks >> 32 << 32 | scale.generation).wrapping_sub(header).rotate_left(32) >= SWEEP
}

const fn generation(header: u64) -> u64 {
    header & GENERATION
}

/// When the group was last swept, rounded down.
const fn since(header: u64) -> u64 {
    header >> 32 << 32
}

/// A free word: of one generation, so that it differs from those of others.
const fn free(header: u64) -> u64 {
    generation(header)
}
