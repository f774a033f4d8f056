//! Strict sliding window: the window in `k` parts, with the part that is half out counted whole.
//!
//! ```text
//!        ╭───────────── the window ────────────╮
//!   ├────┼──┼───────┼───────┼───────┼─────────now
//!   │  4    │   0   │   7   │   1   │   2     ┊ │      4 + 0 + 7 + 1 + 2 ≤ N
//!   ╰ whole ╯
//! ```
//!
//! The state is a ring of `k + 1` counts and their sum. Whatever lies in the window lies in a part that is counted,
//! so the sum is never below the truth, and no interval as long as the window holds more than `N`.

use std::time::Duration;

use buttress_core::Timestamp;

use super::{Left, LimitError, Policy, check};

/// The most parts: 16 KiB per key.
const MOST_PARTS: u32 = 4096;

/// At most `limit` units in **every** interval as long as `window`, from `parts + 1` counts.
///
/// | | |
/// |---|---|
/// | worst count in a trailing window | `limit` |
/// | memory per key | `4 · (parts + 1)` bytes, allocated once with the key's first unit, and 40 |
///
/// The price of so few counts is that a unit is held against its key for up to `window · (1 + 1/parts)`. Six parts
/// are a good start; sixty are what Figma runs. [`SlidingLog`](super::SlidingLog) is exact and takes 8 bytes per
/// unit of the limit; [`SlidingWindow`](super::SlidingWindow) takes a word or two and lets nearly twice the limit
/// through in the worst case.
///
/// The parts of each key begin at moments of their own, so that not all clients come back at once.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_rate_limit::{Policy, SlidingWindow};
/// use std::time::Duration;
///
/// let strict = SlidingWindow::strict(100, Duration::from_secs(60), 6);
/// let mut state = Default::default();
/// assert!(strict.charge(&mut state, Timestamp::ZERO, 100));
///
/// // The first part of ten seconds is forgotten when all of it has left the window.
/// let wait = strict.retry_after(&state, Timestamp::ZERO, 1);
/// assert_eq!(wait, Some(Duration::from_secs(70)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingStrict {
    limit: u64,
    nanos: u64,
    /// How many cover the window.
    parts: u32,
    /// The length of one.
    part_nanos: u64,
}

/// What a [`SlidingStrict`] remembers of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingStrictState {
    /// The newest part that a unit came in.
    index: u64,
    total: u64,
    /// Where the newest part's count stands.
    newest: usize,
    /// A ring, older counts before newer. Empty until the first unit comes.
    counts: Vec<u32>,
}

impl SlidingStrict {
    /// Allows `limit` units in each interval of length `window`, counted in `parts` sub-windows.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(limit: u64, window: Duration, parts: u32) -> Self {
        Self::try_new(limit, window, parts).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows `limit` units in each interval of length `window`, counted in `parts` sub-windows.
    ///
    /// # Errors
    ///
    /// When any is 0, when `limit` is above 2³² − 1, when `window` is longer than 146 years, or when `parts` is above
    /// 4096 or the number of nanoseconds in the window.
    pub fn try_new(limit: u64, window: Duration, parts: u32) -> Result<Self, LimitError> {
        let (limit, nanos) = (check::limit(limit)?, check::window(window)?);
        if parts == 0 {
            return Err(LimitError::new("parts", parts, "must be at least 1"));
        }
        if parts > MOST_PARTS {
            return Err(LimitError::new("parts", parts, "must be at most 4096"));
        }
        if u64::from(parts) > nanos {
            return Err(LimitError::new("parts", parts, "must be at most one per nanosecond"));
        }
        // Rounded up, so that the parts cover the window; then fewer of them may do.
        let part_nanos = nanos.div_ceil(u64::from(parts));
        let needed = nanos.div_ceil(part_nanos) as u32;
        Ok(Self { limit, nanos, parts: needed, part_nanos })
    }

    /// In how many sub-windows it counts: as asked for, or fewer where whole nanoseconds make them longer.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        self.parts
    }

    /// How long each of them is: the window divided, rounded up to a nanosecond.
    #[must_use]
    pub const fn part(&self) -> Duration {
        Duration::from_nanos(self.part_nanos)
    }

    #[inline]
    fn index(&self, now: Timestamp) -> u64 {
        now.as_nanos() / self.part_nanos
    }

    /// How many counts a state has.
    #[inline]
    const fn slots(&self) -> usize {
        self.parts as usize + 1
    }

    /// By how many parts the clock is ahead of the newest that was counted; none when it has gone back.
    #[inline]
    fn behind(&self, state: &SlidingStrictState, now: Timestamp) -> u64 {
        self.index(now).saturating_sub(state.index)
    }

    /// What is counted at `now`.
    #[inline]
    fn total(&self, state: &SlidingStrictState, now: Timestamp) -> u64 {
        match self.behind(state, now) {
            0 => state.total,
            behind => state.oldest_first().skip(behind_to_skip(behind)).map(u64::from).sum(),
        }
    }

    /// Turns the ring on until its newest part is that of `now`.
    fn turn(&self, state: &mut SlidingStrictState, now: Timestamp) {
        let behind = self.behind(state, now);
        if state.counts.is_empty() {
            state.counts = vec![0; self.slots()];
        }
        for _ in 0..behind.min(self.slots() as u64) {
            state.newest = if state.newest + 1 == state.counts.len() { 0 } else { state.newest + 1 };
            state.total -= u64::from(std::mem::take(&mut state.counts[state.newest]));
        }
        state.index += behind;
    }

    /// How long until `cost` units pass, at most the limit.
    fn wait(&self, state: &SlidingStrictState, now: Timestamp, cost: u64) -> Duration {
        let mut total = self.total(state, now);
        if total + cost <= self.limit {
            return Duration::ZERO;
        }
        let behind = behind_to_skip(self.behind(state, now));
        for (age, count) in state.oldest_first().enumerate().skip(behind) {
            total -= u64::from(count);
            if total + cost <= self.limit {
                // The oldest of the ring was counted until the part after the newest began.
                let gone = u128::from(state.index) + age as u128 + 1;
                return check::until(gone * u128::from(self.part_nanos), now.as_nanos());
            }
        }
        Duration::ZERO
    }

    /// The counts of `state` at `now`, from the newest back.
    pub(super) fn newest_first(&self, state: &SlidingStrictState, now: Timestamp) -> Vec<u64> {
        let behind = self.behind(state, now);
        let mut counts: Vec<_> = state.oldest_first().skip(behind_to_skip(behind)).map(u64::from).collect();
        counts.extend((0..behind.min(self.slots() as u64)).map(|_| 0));
        counts.reverse();
        counts.truncate(self.slots());
        counts
    }

    /// A state with these counts at `now`, from the newest back.
    pub(super) fn state(&self, index: u64, newest_first: &[u64]) -> SlidingStrictState {
        let mut counts = vec![0; self.slots()];
        for (slot, &count) in counts.iter_mut().rev().zip(newest_first) {
            *slot = u32::try_from(count).unwrap_or(u32::MAX);
        }
        let total = counts.iter().copied().map(u64::from).sum();
        SlidingStrictState { index, total, newest: counts.len() - 1, counts }
    }

    /// The part that a call at `now` is counted in.
    pub(super) fn counted_in(&self, state: &SlidingStrictState, now: Timestamp) -> u64 {
        state.index.max(self.index(now))
    }

    /// Whether the two have one grid.
    pub(super) fn same_grid(&self, other: &Self) -> bool {
        (self.part_nanos, self.parts) == (other.part_nanos, other.parts)
    }
}

/// A ring that is this far behind has so many counts that are out, from the oldest on.
fn behind_to_skip(behind: u64) -> usize {
    usize::try_from(behind).unwrap_or(usize::MAX)
}

impl SlidingStrictState {
    fn oldest_first(&self) -> impl Iterator<Item = u32> {
        let (until_newest, older) = self.counts.split_at((self.newest + 1).min(self.counts.len()));
        older.iter().chain(until_newest).copied()
    }
}

impl Policy for SlidingStrict {
    type State = SlidingStrictState;

    #[inline]
    fn charge(&self, state: &mut SlidingStrictState, now: Timestamp, cost: u32) -> bool {
        if cost == 0 {
            return true;
        }
        if self.total(state, now) + u64::from(cost) > self.limit {
            return false;
        }
        self.turn(state, now);
        // The sum is at most the limit, and that fits.
        state.counts[state.newest] += cost;
        state.total += u64::from(cost);
        true
    }

    /// Takes the units from the part that `at` lies in, while that one is counted.
    fn refund(&self, state: &mut SlidingStrictState, at: Timestamp, _: Timestamp, cost: u32) {
        let len = state.counts.len();
        let Some(age) = state.index.checked_sub(self.index(at)).and_then(|age| usize::try_from(age).ok())
        else {
            return;
        };
        if age < len {
            let count = &mut state.counts[(state.newest + len - age) % len];
            let back = cost.min(*count);
            *count -= back;
            state.total -= u64::from(back);
        }
    }

    fn force(&self, state: &mut SlidingStrictState, now: Timestamp, cost: u32) {
        if cost == 0 {
            return;
        }
        self.turn(state, now);
        let room = (2 * self.limit).saturating_sub(state.total);
        let count = &mut state.counts[state.newest];
        let more = u64::from(cost).min(room).min(u64::from(u32::MAX - *count)) as u32;
        *count += more;
        state.total += u64::from(more);
    }

    fn left(&self, state: &SlidingStrictState, now: Timestamp) -> Left {
        let remaining = self.limit.saturating_sub(self.total(state, now));
        let reset =
            if remaining < self.limit { self.wait(state, now, remaining + 1) } else { Duration::ZERO };
        Left { remaining, reset }
    }

    fn retry_after(&self, state: &SlidingStrictState, now: Timestamp, cost: u32) -> Option<Duration> {
        let cost = u64::from(cost);
        (cost <= self.limit).then(|| match cost {
            0 => Duration::ZERO,
            cost => self.wait(state, now, cost),
        })
    }

    #[inline]
    fn debt(&self, state: &SlidingStrictState, now: Timestamp) -> u64 {
        self.total(state, now)
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn window(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    #[inline]
    fn shift(&self, hash: u64) -> Duration {
        check::spread(hash, self.part_nanos)
    }
}
