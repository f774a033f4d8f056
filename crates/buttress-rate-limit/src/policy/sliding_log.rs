//! Sliding log: the time of each of the last `N` units.
//!
//! ```text
//!            now − W                                 now
//!  ─────■───────┼──────■─────■■──────────■────────────┼─────▶
//!    expired    ╰───────── 4 of N are counted ────────╯
//! ```
//!
//! The state is a ring of the last `N` units. A call of cost `c` passes when the `c`-th oldest of them has left the
//! window, which is one look into the ring; charging writes `c` entries.
//!
//! The ring holds the moments at which units leave the window (`time + W`), so that an entry of 0 is a place not
//! taken yet. From the oldest on they never fall: a unit that comes while the clock has gone back is counted with
//! the newest.

use std::time::Duration;

use buttress_core::Timestamp;

use super::{Left, LimitError, Policy, check};

/// At most `limit` units in **every** interval as long as `window`: exact, at the price of memory.
///
/// | | |
/// |---|---|
/// | worst count in a trailing window | `limit` |
/// | memory per key | `8 · limit` bytes, allocated once with the key's first unit |
///
/// No limiter admits more without exceeding the limit: each refusal means that `limit` units lie in the window.
/// Use it for small limits that must be exact (five failed logins in ten minutes), with keys that are bounded by
/// who may have one. [`SlidingStrict`](super::SlidingStrict) has the same bound in a few words of memory and is
/// only a little stricter than asked; [`Gcra`](super::Gcra) needs one word.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_rate_limit::{Policy, SlidingLog};
/// use std::time::Duration;
///
/// let logins = SlidingLog::new(5, Duration::from_secs(600));
/// let mut state = Default::default();
/// assert!((0..5).all(|minute| logins.charge(&mut state, Timestamp::from_nanos(minute * 60_000_000_000), 1)));
///
/// let now = Timestamp::from_nanos(300_000_000_000);
/// assert!(!logins.charge(&mut state, now, 1));
/// assert_eq!(logins.retry_after(&state, now, 1), Some(Duration::from_secs(300)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingLog {
    limit: u64,
    nanos: u64,
}

/// What a [`SlidingLog`] remembers of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingLogState {
    /// When each of the last units leaves the window. Empty until the first unit comes.
    expiries: Vec<u64>,
    /// Where the oldest stands, and so where the next is written.
    oldest: usize,
}

impl SlidingLog {
    /// The largest limit unless said otherwise: 8 KiB per key.
    pub const DEFAULT_CAP: u64 = 1024;

    /// Allows `limit` units in each interval of length `window`.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(limit: u64, window: Duration) -> Self {
        Self::try_new(limit, window).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows `limit` units in each interval of length `window`.
    ///
    /// # Errors
    ///
    /// When either is 0, when `limit` is above [`DEFAULT_CAP`](Self::DEFAULT_CAP), or when `window` is longer
    /// than 146 years.
    pub fn try_new(limit: u64, window: Duration) -> Result<Self, LimitError> {
        if limit > Self::DEFAULT_CAP {
            return Err(LimitError::new(
                "limit",
                limit,
                "must be at most 1024 in a sliding log, which takes 8 bytes per unit and key; \
                 `SlidingLog::try_large` takes more",
            ));
        }
        Self::try_large(limit, window)
    }

    /// Allows `limit` units in each interval of length `window`, however much memory that takes: `8 · limit` bytes
    /// for each key.
    ///
    /// # Errors
    ///
    /// When either is 0, when `limit` is above 2³² − 1, or when `window` is longer than 146 years.
    pub fn try_large(limit: u64, window: Duration) -> Result<Self, LimitError> {
        Ok(Self { limit: check::limit(limit)?, nanos: check::window(window)? })
    }

    /// The window in nanoseconds.
    pub(super) const fn nanos(&self) -> u64 {
        self.nanos
    }

    /// When a unit of `now` leaves the window.
    #[inline]
    const fn expiry(&self, now: Timestamp) -> Option<u64> {
        now.as_nanos().checked_add(self.nanos)
    }
}

impl SlidingLogState {
    /// When the `nth` oldest unit leaves the window; 0 where there is none.
    #[inline]
    fn nth(&self, nth: usize) -> u64 {
        let to_end = self.expiries.len() - self.oldest;
        let index = if nth < to_end { self.oldest + nth } else { nth - to_end };
        self.expiries.get(index).copied().unwrap_or(0)
    }

    /// How many of the units, from the oldest on, have left the window at `expiry` or before.
    fn until(&self, expiry: u64) -> usize {
        let (newer, older) = self.expiries.split_at(self.oldest);
        match older.partition_point(|&unit| unit <= expiry) {
            all if all == older.len() => all + newer.partition_point(|&unit| unit <= expiry),
            part => part,
        }
    }

    /// How many units are in the window.
    fn live(&self, now: Timestamp) -> usize {
        self.expiries.len() - self.until(now.as_nanos())
    }

    /// Writes `count` units over the oldest.
    fn push(&mut self, count: usize, expiry: u64, limit: u64) {
        if self.expiries.is_empty() {
            self.expiries = vec![0; limit as usize];
        }
        let len = self.expiries.len();
        let newest = self.nth(len - 1);
        for _ in 0..count.min(len) {
            self.expiries[self.oldest] = expiry.max(newest);
            self.oldest = if self.oldest + 1 == len { 0 } else { self.oldest + 1 };
        }
    }

    /// The moments at which the units leave the window, from the newest back, as long as they are later than `now`.
    pub(super) fn newest_first(&self, now: Timestamp) -> impl ExactSizeIterator<Item = u64> + Clone {
        let len = self.expiries.len();
        (0..self.live(now)).map(move |back| self.nth(len - 1 - back))
    }

    /// A ring of `limit` units that leave the window as told, given from the newest back.
    pub(super) fn of(limit: u64, newest_first: impl Iterator<Item = u64>) -> Self {
        let mut expiries: Vec<_> = newest_first.take(limit as usize).collect();
        if expiries.is_empty() {
            return Self::default();
        }
        expiries.resize(limit as usize, 0);
        expiries.reverse();
        Self { expiries, oldest: 0 }
    }
}

impl Policy for SlidingLog {
    type State = SlidingLogState;

    #[inline]
    fn charge(&self, state: &mut SlidingLogState, now: Timestamp, cost: u32) -> bool {
        if cost == 0 {
            return true;
        }
        // At the very end of the clock nothing can be counted any more.
        let Some(expiry) = self.expiry(now) else { return false };
        if u64::from(cost) > self.limit || state.nth(cost as usize - 1) > now.as_nanos() {
            return false;
        }
        state.push(cost as usize, expiry, self.limit);
        true
    }

    /// Takes back the units that are counted at `at` and still in the window. What was charged while the clock had
    /// gone back is counted later than `at`, and stays.
    fn refund(&self, state: &mut SlidingLogState, at: Timestamp, now: Timestamp, cost: u32) {
        let Some(expiry) = self.expiry(at) else { return };
        if expiry <= now.as_nanos() || cost == 0 {
            return;
        }
        let (before, through) = (state.until(expiry - 1), state.until(expiry));
        let back = (through - before).min(cost as usize);
        if back > 0 {
            state.expiries.rotate_left(state.oldest);
            state.oldest = 0;
            state.expiries.copy_within(0..before, back);
            state.expiries[..back].fill(0);
        }
    }

    /// Units beyond the limit push out the oldest ones. That loses nothing while none is given back: calls pass
    /// again when fewer than `limit` are in the window.
    fn force(&self, state: &mut SlidingLogState, now: Timestamp, cost: u32) {
        let expiry = self.expiry(now).unwrap_or(u64::MAX);
        if cost > 0 {
            state.push(cost as usize, expiry, self.limit);
        }
    }

    fn left(&self, state: &SlidingLogState, now: Timestamp) -> Left {
        let live = state.live(now);
        let oldest = state.nth(state.expiries.len() - live);
        Left {
            remaining: self.limit - live as u64,
            reset: Duration::from_nanos(oldest.saturating_sub(now.as_nanos())),
        }
    }

    fn retry_after(&self, state: &SlidingLogState, now: Timestamp, cost: u32) -> Option<Duration> {
        if u64::from(cost) > self.limit {
            return None;
        }
        if cost == 0 {
            return Some(Duration::ZERO);
        }
        let wait = state.nth(cost as usize - 1).saturating_sub(now.as_nanos());
        // At least a nanosecond also where the clock has come to its end and nothing is in the window.
        let least = u64::from(self.expiry(now).is_none());
        Some(Duration::from_nanos(wait.max(least)))
    }

    #[inline]
    fn debt(&self, state: &SlidingLogState, now: Timestamp) -> u64 {
        state.live(now) as u64
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn window(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }
}
