//! Fixed window: a count that starts anew on a grid.
//!
//! ```text
//!    window i            window i+1          window i+2
//!  ├───────────────────┼───────────────────┼───────────────
//!   ■ ■ ■        (N)   │              ■ ■ ■│■ ■ ■
//!                                     ╰─ 2N in a moment ─╯
//! ```
//!
//! The state is one word: the index of the window in the upper bits, the count in the lower, split so that the
//! count holds twice the limit, the most that calls which are settled upwards may bring it to. Such debt ends with
//! its window.

use std::time::{Duration, SystemTime};

use buttress_core::{Timestamp, nanos};

use super::gcra::HORIZON;
use super::{Left, LimitError, Policy};

/// `limit` units in each window of a fixed grid.
///
/// | | |
/// |---|---|
/// | worst count in a trailing window | `2·limit`: all of one window at its end, all of the next at its start |
/// | memory per key | one word |
///
/// In each window of its grid it admits at most `limit` units. [`Gcra`](super::Gcra) has no such edge and costs the
/// same, and [`SlidingStrict`](super::SlidingStrict) never exceeds the limit; a fixed window is for quotas that are
/// sold by the calendar or counted by others so.
///
/// Each key has a grid of its own by default, so that not all clients come back in the same moment.
///
/// ```
/// use buttress_rate_limit::{FixedWindow, RateLimitLayer};
/// use std::time::Duration;
///
/// let layer = RateLimitLayer::new(FixedWindow::new(1000, Duration::from_secs(3600)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    limit: u64,
    nanos: u64,
    count_bits: u32,
    grid: Grid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grid {
    /// By the key's hash.
    PerKey,
    /// One for all, this far ahead of the clock's origin.
    Shared(Duration),
}

impl FixedWindow {
    /// Allows `limit` units in each `window`.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(limit: u64, window: Duration) -> Self {
        Self::try_new(limit, window).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows `limit` units in each `window`.
    ///
    /// # Errors
    ///
    /// When either is 0, when `window` is longer than 146 years, or when `limit` and the number of windows in
    /// ten years do not fit a `u64` together (4·10⁹ per second do; 4·10⁹ per 10 ms do not).
    pub fn try_new(limit: u64, window: Duration) -> Result<Self, LimitError> {
        if limit == 0 {
            return Err(LimitError::new("limit", limit, "must be at least 1"));
        }
        if window.is_zero() {
            return Err(LimitError::new("window", window, "must be longer than zero"));
        }
        let nanos = nanos(window);
        if Duration::from_nanos(nanos) != window || nanos > 1 << 62 {
            return Err(LimitError::new("window", window, "must be at most 146 years"));
        }
        let count_bits = u64::BITS - limit.leading_zeros() + 1;
        let windows = HORIZON / nanos + 2;
        if count_bits + (u64::BITS - windows.leading_zeros()) > u64::BITS {
            return Err(LimitError::new(
                "limit",
                limit,
                "must fit a u64 together with the number of windows in ten years",
            ));
        }
        Ok(Self { limit, nanos, count_bits, grid: Grid::PerKey })
    }

    /// Starts the windows of all keys at the same moments: those at which the clock's time is `phase` plus a
    /// whole number of windows.
    #[must_use]
    pub fn phase(mut self, phase: Duration) -> Self {
        let phase = nanos(phase) % self.nanos;
        self.grid = Grid::Shared(Duration::from_nanos((self.nanos - phase) % self.nanos));
        self
    }

    /// Starts the windows of all keys on the calendar: whole windows since 1970 UTC, so that a window of an hour
    /// begins on the hour.
    ///
    /// `now` and `date` are two readings of one clock. A date that is set later does not move the grid.
    ///
    /// ```
    /// use buttress_core::Clock;
    /// use buttress_rate_limit::FixedWindow;
    /// use std::time::Duration;
    ///
    /// let clock = Clock::default();
    /// let hourly = FixedWindow::new(1000, Duration::from_secs(3600)).aligned(clock.now(), clock.wall());
    /// ```
    #[must_use]
    pub fn aligned(self, now: Timestamp, date: SystemTime) -> Self {
        let window = u128::from(self.nanos);
        // How far into its window `date` is.
        let into = match date.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => since.as_nanos() % window,
            Err(before) => (window - before.duration().as_nanos() % window) % window,
        };
        let start = (u128::from(now.as_nanos()) + window - into) % window;
        self.phase(Duration::from_nanos(start as u64))
    }

    /// Units per window.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The length of a window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    #[inline]
    fn index(&self, now: Timestamp) -> u64 {
        (now.as_nanos() / self.nanos).min(u64::MAX >> self.count_bits)
    }

    #[inline]
    pub(super) const fn word(&self, index: u64, count: u64) -> u64 {
        index << self.count_bits | count
    }

    /// The window that counts, and its count: the clock's, or a later one that was seen before the clock went
    /// back.
    #[inline]
    pub(super) fn current(&self, state: u64, now: Timestamp) -> (u64, u64) {
        let clock = self.index(now);
        let stored = state >> self.count_bits;
        if clock > stored { (clock, 0) } else { (stored, state & self.mask()) }
    }

    /// Whether the windows of both are the same stretches of time.
    pub(super) fn same_grid(&self, other: &Self) -> bool {
        (self.nanos, self.grid) == (other.nanos, other.grid)
    }

    #[inline]
    const fn mask(&self) -> u64 {
        u64::MAX >> (u64::BITS - self.count_bits)
    }

    /// The time until window `index` is over. The next begins where it ends.
    #[inline]
    fn until_end(&self, index: u64, now: Timestamp) -> Duration {
        let end = index.saturating_add(1).saturating_mul(self.nanos);
        Duration::from_nanos(end.saturating_sub(now.as_nanos()).max(1))
    }
}

impl Policy for FixedWindow {
    type State = u64;

    #[inline]
    fn charge(&self, state: &mut u64, now: Timestamp, cost: u32) -> bool {
        let (index, count) = self.current(*state, now);
        let after = count.saturating_add(u64::from(cost));
        if cost > 0 && after <= self.limit {
            *state = self.word(index, after);
        }
        cost == 0 || after <= self.limit
    }

    fn refund(&self, state: &mut u64, at: Timestamp, now: Timestamp, cost: u32) {
        let (index, count) = self.current(*state, now);
        let charged = self.index(at);
        // Nothing for what was charged to a window that is over.
        if index == *state >> self.count_bits && charged == index {
            *state = self.word(index, count.saturating_sub(u64::from(cost)));
        }
    }

    fn force(&self, state: &mut u64, now: Timestamp, cost: u32) {
        let (index, count) = self.current(*state, now);
        let after = count.saturating_add(u64::from(cost)).min(2 * self.limit);
        if cost > 0 {
            *state = self.word(index, after.max(count));
        }
    }

    fn left(&self, state: &u64, now: Timestamp) -> Left {
        let (index, count) = self.current(*state, now);
        Left { remaining: self.limit.saturating_sub(count), reset: self.until_end(index, now) }
    }

    fn retry_after(&self, state: &u64, now: Timestamp, cost: u32) -> Option<Duration> {
        let (index, count) = self.current(*state, now);
        (u64::from(cost) <= self.limit).then(|| {
            if cost == 0 || count.saturating_add(u64::from(cost)) <= self.limit {
                Duration::ZERO
            } else {
                self.until_end(index, now)
            }
        })
    }

    #[inline]
    fn debt(&self, state: &u64, now: Timestamp) -> u64 {
        self.current(*state, now).1
    }

    fn clear_after(&self, state: &u64, now: Timestamp) -> Duration {
        match self.current(*state, now) {
            (_, 0) => Duration::ZERO,
            (index, _) => self.until_end(index, now),
        }
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn window(&self) -> Duration {
        self.window()
    }

    #[inline]
    fn shift(&self, hash: u64) -> Duration {
        match self.grid {
            Grid::PerKey => {
                Duration::from_nanos(((u128::from(hash) * u128::from(self.nanos)) >> u64::BITS) as u64)
            }
            Grid::Shared(ahead) => ahead,
        }
    }
}
