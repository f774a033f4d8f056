//! A bucket that keeps account of its charges, so that any of them can be taken back as if it had never been made.
//!
//! A bucket's word is what its charges come to when they are played in the order they came:
//!
//! ```text
//!   charges        a (2)  b (1)       c (1)          word = max(max(max(0, a) + 2T, b) + T, c) + T
//!   time      ──────┼──────┼───────────┼──────▶
//!   taken back                b                      word = max(max(0, a) + 2T, c) + T
//! ```
//!
//! The word alone cannot tell of which charge the units are that have flowed out since. Kept one by one, they flow
//! out first in, first out; what has flowed out stays charged, and is forgotten.
//!
//! More than [`MOST`] of them are kept as ranges: two that lie close together count as one that was made when the
//! later was. That never makes the word smaller.
//!
//! A charge is known by its moment. Only where the clock goes back to that very nanosecond may it be taken for another.

use std::time::Duration;

use buttress_core::Timestamp;

use super::{Gcra, LeakyBucket, Left, Policy};

/// The most entries: 768 bytes per key.
const MOST: usize = 32;

/// A token bucket or a leaky bucket, with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ledger<B>(pub(super) B);

/// What a [`Ledger`] remembers of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerState {
    /// The bucket's word.
    word: u64,
    /// The word that the charges come to which are not taken back any more.
    base: u64,
    /// The others, in the order they came.
    entries: Vec<Entry>,
}

/// One charge, or several that came close together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    first: u64,
    last: u64,
    ticks: u64,
}

/// A bucket whose state is one word.
pub(crate) trait Bucket: Policy<State = u64> {
    fn ticks(&self, now: Timestamp) -> u64;

    /// What so many units take.
    fn ticks_of(&self, cost: u32) -> u64;

    /// Whether somebody waits, and only the last who came can leave without moving others.
    fn is_waited_for(&self, word: u64, now: Timestamp) -> bool;
}

impl Bucket for Gcra {
    fn ticks(&self, now: Timestamp) -> u64 {
        self.ticks(now)
    }

    fn ticks_of(&self, cost: u32) -> u64 {
        self.cost(cost)
    }

    fn is_waited_for(&self, _: u64, _: Timestamp) -> bool {
        false
    }
}

impl Bucket for LeakyBucket {
    fn ticks(&self, now: Timestamp) -> u64 {
        self.gcra().ticks(now)
    }

    fn ticks_of(&self, cost: u32) -> u64 {
        self.gcra().cost(cost)
    }

    fn is_waited_for(&self, word: u64, now: Timestamp) -> bool {
        self.debt(&word, now) > self.ticks_burst()
    }
}

impl LedgerState {
    /// The state of a bucket with this word, of whose charges nothing is known.
    pub(super) const fn of(word: u64) -> Self {
        Self { word, base: word, entries: Vec::new() }
    }

    /// The state under another bucket at `now`, where `debt` is carried over to `carried`. Each charge keeps its
    /// share, rounded down.
    pub(super) fn carried<B: Bucket, C: Bucket>(
        &self,
        was: &Ledger<B>,
        is: &Ledger<C>,
        now: Timestamp,
        carried: u64,
    ) -> Self {
        let (then, now) = (was.0.ticks(now), is.0.ticks(now));
        let debt = u128::from(self.word.saturating_sub(then)).max(1);
        let (mut word, mut rest, mut entries) = (self.base, carried, Vec::new());
        for entry in &self.entries {
            let from = word.max(then);
            word = was.after(word, entry);
            let share = u128::from(word.saturating_sub(from)) * u128::from(carried) / debt;
            let ticks = (share as u64).min(rest);
            rest -= ticks;
            entries.push(Entry { ticks, ..*entry });
        }
        Self { word: now.saturating_add(carried), base: now.saturating_add(rest), entries }
    }

    /// Counts a charge.
    fn note(&mut self, now: Timestamp, ticks: u64) {
        let now = now.as_nanos();
        if let Some(last) = self.entries.last_mut()
            && last.last == now
        {
            last.ticks = last.ticks.saturating_add(ticks);
            return;
        }
        if self.entries.len() >= MOST {
            self.join();
        }
        self.entries.push(Entry { first: now, last: now, ticks });
    }

    /// Makes one entry of the two that lie closest together.
    fn join(&mut self) {
        let gap = |at: &usize| self.entries[at + 1].last.abs_diff(self.entries[*at].last);
        let Some(at) = (0..self.entries.len() - 1).min_by_key(gap) else { return };
        let later = self.entries.remove(at + 1);
        let entry = &mut self.entries[at];
        // Where the clock went back between them there is no telling which moments are theirs: nothing is taken back
        // then.
        let ordered = [entry.first, entry.last, later.first, later.last].is_sorted();
        entry.first = if ordered { entry.first } else { u64::MAX };
        entry.last = entry.last.max(later.last);
        entry.ticks = entry.ticks.saturating_add(later.ticks);
    }
}

impl<B: Bucket> Ledger<B> {
    /// The word after one more entry.
    fn after(&self, word: u64, entry: &Entry) -> u64 {
        word.max(self.0.ticks(Timestamp::from_nanos(entry.last))).saturating_add(entry.ticks)
    }

    /// Forgets what has flowed out.
    fn fold(&self, state: &mut LedgerState, now: Timestamp) {
        let (now, mut out) = (self.0.ticks(now), 0);
        for entry in &state.entries {
            let word = self.after(state.base, entry);
            if word > now {
                break;
            }
            (state.base, out) = (word, out + 1);
        }
        state.entries.drain(..out);
    }

    fn replay(&self, state: &mut LedgerState) {
        state.word = state.entries.iter().fold(state.base, |word, entry| self.after(word, entry));
    }
}

impl<B: Bucket> Policy for Ledger<B> {
    type State = LedgerState;

    fn charge(&self, state: &mut LedgerState, now: Timestamp, cost: u32) -> bool {
        let mut word = state.word;
        let passes = self.0.charge(&mut word, now, cost);
        if passes && cost > 0 {
            self.fold(state, now);
            state.note(now, self.0.ticks_of(cost));
            self.replay(state);
        }
        passes
    }

    /// Takes the units from the charge that was made at `at`, if it has not flowed out. Where calls wait, only the
    /// last of them can leave. What was given to a key by hand, at `now`, is taken from the newest charges.
    fn refund(&self, state: &mut LedgerState, at: Timestamp, now: Timestamp, cost: u32) {
        self.fold(state, now);
        let made = at.as_nanos();
        let found = state.entries.iter().position(|entry| entry.first <= made && made <= entry.last);
        let newest = state.entries.len().checked_sub(1).filter(|_| at == now);
        let Some(mut index) = found.or(newest) else { return };
        if self.0.is_waited_for(state.word, now) && index + 1 != state.entries.len() {
            return;
        }
        let mut ticks = self.0.ticks_of(cost);
        loop {
            let entry = &mut state.entries[index];
            let given = ticks.min(entry.ticks);
            (entry.ticks, ticks) = (entry.ticks - given, ticks - given);
            if entry.ticks == 0 {
                state.entries.remove(index);
            }
            if found.is_some() || ticks == 0 || index == 0 {
                break;
            }
            index -= 1;
        }
        self.replay(state);
    }

    fn force(&self, state: &mut LedgerState, now: Timestamp, cost: u32) {
        let before = state.word.max(self.0.ticks(now));
        let mut word = state.word;
        self.0.force(&mut word, now, cost);
        if word > before {
            self.fold(state, now);
            state.note(now, word - before);
            self.replay(state);
        }
    }

    fn left(&self, state: &LedgerState, now: Timestamp) -> Left {
        self.0.left(&state.word, now)
    }

    fn retry_after(&self, state: &LedgerState, now: Timestamp, cost: u32) -> Option<Duration> {
        self.0.retry_after(&state.word, now, cost)
    }

    fn delay(&self, state: &LedgerState, now: Timestamp, cost: u32) -> Duration {
        self.0.delay(&state.word, now, cost)
    }

    fn debt(&self, state: &LedgerState, now: Timestamp) -> u64 {
        self.0.debt(&state.word, now)
    }

    fn clear_after(&self, state: &LedgerState, now: Timestamp) -> Duration {
        self.0.clear_after(&state.word, now)
    }

    fn limit(&self) -> u64 {
        self.0.limit()
    }

    fn window(&self) -> Duration {
        self.0.window()
    }
}
