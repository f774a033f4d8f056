//! Sliding window counter: two counts, the older one weighed by how much of it is still in the window.
//!
//! ```text
//!                  ╭──────── the window that slides ────────╮
//!                  │                                     now│
//!  ├───────────────┼───────────┼────────────────────────────┼──────────┤
//!  │       previous window     │          current window               │
//!  │       count p             │          count c           ·e         │
//!                  ╰ weight (W−e)/W ╯╰───── weight 1 ───────╯
//! ```
//!
//! A call of cost `n` passes when `p·(W−e) + c·W + n·W ≤ N·W`, in whole numbers of 128 bits. This takes the units of
//! the previous window as evenly spread; whoever sends them all at its end gets more.

use std::time::Duration;

use buttress_core::Timestamp;

use super::gcra::HORIZON;
use super::{Left, LimitError, Policy, SlidingStrict, check};

/// About `limit` units in any interval as long as `window`, from two counts: the counter that Cloudflare made
/// known.
///
/// | | |
/// |---|---|
/// | worst count in a trailing window | `2·limit − 1` |
/// | worst count in an interval `τ` no longer than the window | `limit·(1 + τ/window)` |
/// | memory per key | one word while the limit and the windows of ten years fit it, else two |
///
/// On evenly spread traffic the estimate is close (Cloudflare measured 0.003 % of requests wrongly allowed or
/// refused), and unlike a [`FixedWindow`](super::FixedWindow) it never opens all at once. A client that means to can
/// still get nearly twice the limit: [`strict`](Self::strict) and [`SlidingLog`](super::SlidingLog) never allow
/// that, and [`Gcra`](super::Gcra) has the same bound without the estimate.
///
/// Each key has a grid of its own, so that not all clients come back in the same moment.
///
/// ```
/// use buttress_rate_limit::{RateLimitLayer, SlidingWindow};
/// use std::time::Duration;
///
/// let counter = RateLimitLayer::new(SlidingWindow::new(1000, Duration::from_secs(60)));
/// let strict = RateLimitLayer::new(SlidingWindow::strict(1000, Duration::from_secs(60), 6));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    limit: u64,
    nanos: u64,
    /// How many bits a count takes in a word, where all fits one; 0 elsewhere.
    count_bits: u32,
}

/// What a [`SlidingWindow`] remembers of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindowState {
    index: u64,
    previous: u32,
    current: u32,
}

/// A state as it looks at some moment.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) index: u64,
    pub(super) previous: u64,
    pub(super) current: u64,
    /// How much of the current window has passed.
    pub(super) into: u64,
}

impl SlidingWindow {
    /// Allows about `limit` units in each interval of length `window`.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(limit: u64, window: Duration) -> Self {
        Self::try_new(limit, window).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows about `limit` units in each interval of length `window`.
    ///
    /// # Errors
    ///
    /// When either is 0, when `limit` is above 2³² − 1, or when `window` is longer than 146 years.
    pub fn try_new(limit: u64, window: Duration) -> Result<Self, LimitError> {
        let (limit, nanos) = (check::limit(limit)?, check::window(window)?);
        // A count may stand at twice the limit after a correction upwards.
        let count_bits = u64::BITS - (2 * limit).leading_zeros();
        let index_bits = u64::BITS - (HORIZON / nanos + 2).leading_zeros();
        let fits = 2 * count_bits + index_bits <= u64::BITS;
        Ok(Self { limit, nanos, count_bits: if fits { count_bits } else { 0 } })
    }

    /// Allows at most `limit` units in **every** interval of length `window`, counted in `parts` sub-windows.
    ///
    /// # Panics
    ///
    /// When [`try_strict`](Self::try_strict) fails.
    #[must_use]
    #[track_caller]
    pub fn strict(limit: u64, window: Duration, parts: u32) -> SlidingStrict {
        SlidingStrict::new(limit, window, parts)
    }

    /// Allows at most `limit` units in **every** interval of length `window`, counted in `parts` sub-windows.
    ///
    /// # Errors
    ///
    /// When [`SlidingStrict::try_new`] fails.
    pub fn try_strict(limit: u64, window: Duration, parts: u32) -> Result<SlidingStrict, LimitError> {
        SlidingStrict::try_new(limit, window, parts)
    }

    /// Whether the state of a key fits one word, index and counts beside each other.
    #[must_use]
    pub const fn fits_word(&self) -> bool {
        self.count_bits > 0
    }

    /// The last window that a state can name.
    #[inline]
    const fn last(&self) -> u64 {
        u64::MAX >> (2 * self.count_bits)
    }

    /// The most that a count holds: one limit more than the limit.
    #[inline]
    pub(super) fn most(&self) -> u64 {
        (2 * self.limit).min(u64::from(u32::MAX))
    }

    #[inline]
    pub(super) fn view(&self, state: &SlidingWindowState, now: Timestamp) -> View {
        let (mut index, previous, current) =
            (state.index, u64::from(state.previous), u64::from(state.current));
        let now = now.as_nanos();

        // Most calls come in the window of the one before, which a multiplication tells.
        let into = now.saturating_sub(index.saturating_mul(self.nanos));
        if into < self.nanos {
            // Where the clock has gone back behind the window, that counts as its first moment.
            return View { index, previous, current, into };
        }
        let clock = (now / self.nanos).min(self.last());
        let passed = clock.saturating_sub(index);
        index = index.max(clock);
        let into = (now - index.saturating_mul(self.nanos).min(now)).min(self.nanos);
        match passed {
            0 => View { index, previous, current, into },
            1 => View { index, previous: current, current: 0, into },
            _ => View { index, previous: 0, current: 0, into },
        }
    }

    /// The estimate times the window.
    #[inline]
    pub(super) fn weight(&self, view: &View) -> u128 {
        u128::from(view.previous) * u128::from(self.nanos - view.into)
            + u128::from(view.current) * u128::from(self.nanos)
    }

    /// How long until `cost` units pass, at most the limit.
    fn wait(&self, view: &View, now: Timestamp, cost: u64) -> Duration {
        let window = u128::from(self.nanos);
        let (limit, cost) = (u128::from(self.limit), u128::from(cost));
        if self.weight(view) + cost * window <= limit * window {
            return Duration::ZERO;
        }
        let (previous, current) = (u128::from(view.previous), u128::from(view.current));
        // In this window, once enough of the previous one has slid out ...
        let over = (previous + current + cost).saturating_sub(limit);
        let into =
            if current + cost <= limit && previous > 0 { (window * over).div_ceil(previous) } else { window };
        let into = if into < window {
            into
        } else {
            // ... else in the next, once enough of this one has.
            let over = (current + cost).saturating_sub(limit);
            window + if over == 0 { 0 } else { (window * over).div_ceil(current) }
        };
        // Past the last window that a state can name, nothing passes any more.
        check::until(u128::from(view.index) * window + into, now.as_nanos()).max(Duration::from_nanos(1))
    }

    pub(super) fn state(&self, index: u64, previous: u64, current: u64) -> SlidingWindowState {
        let count = |count: u64| count.min(self.most()) as u32;
        SlidingWindowState { index, previous: count(previous), current: count(current) }
    }

    /// The window in nanoseconds.
    pub(super) const fn nanos(&self) -> u64 {
        self.nanos
    }
}

impl Policy for SlidingWindow {
    type State = SlidingWindowState;

    #[inline]
    fn charge(&self, state: &mut SlidingWindowState, now: Timestamp, cost: u32) -> bool {
        if cost == 0 {
            return true;
        }
        let view = self.view(state, now);
        let window = u128::from(self.nanos);
        let fits = self.weight(&view) + u128::from(cost) * window <= u128::from(self.limit) * window;
        if fits {
            // The sum is at most the limit.
            *state = SlidingWindowState {
                index: view.index,
                previous: view.previous as u32,
                current: view.current as u32 + cost,
            };
        }
        fits
    }

    /// Takes the units from the window that `at` lies in, while that one is counted.
    fn refund(&self, state: &mut SlidingWindowState, at: Timestamp, _: Timestamp, cost: u32) {
        let index = (at.as_nanos() / self.nanos).min(self.last());
        if index == state.index {
            state.current = state.current.saturating_sub(cost);
        } else if index.checked_add(1) == Some(state.index) {
            state.previous = state.previous.saturating_sub(cost);
        }
    }

    fn force(&self, state: &mut SlidingWindowState, now: Timestamp, cost: u32) {
        if cost > 0 {
            let view = self.view(state, now);
            *state = self.state(view.index, view.previous, view.current + u64::from(cost));
        }
    }

    fn left(&self, state: &SlidingWindowState, now: Timestamp) -> Left {
        let view = self.view(state, now);
        let room = (u128::from(self.limit) * u128::from(self.nanos)).saturating_sub(self.weight(&view));
        let remaining = (room / u128::from(self.nanos)) as u64;
        let reset =
            if remaining < self.limit { self.wait(&view, now, remaining + 1) } else { Duration::ZERO };
        Left { remaining, reset }
    }

    fn retry_after(&self, state: &SlidingWindowState, now: Timestamp, cost: u32) -> Option<Duration> {
        let cost = u64::from(cost);
        (cost <= self.limit).then(|| match cost {
            0 => Duration::ZERO,
            cost => self.wait(&self.view(state, now), now, cost),
        })
    }

    #[inline]
    fn debt(&self, state: &SlidingWindowState, now: Timestamp) -> u64 {
        self.weight(&self.view(state, now)).div_ceil(u128::from(self.nanos)) as u64
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn window(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    #[inline]
    fn shift(&self, hash: u64) -> Duration {
        check::spread(hash, self.nanos)
    }
}

/// A counter whose state is packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(SlidingWindow);

impl Packed {
    /// `None` where it does not fit.
    pub(super) fn new(window: SlidingWindow) -> Option<Self> {
        window.fits_word().then_some(Self(window))
    }

    pub(super) const fn window(&self) -> &SlidingWindow {
        &self.0
    }

    /// The word that stands for `state`.
    #[inline]
    pub(super) const fn pack(&self, state: SlidingWindowState) -> u64 {
        let bits = self.0.count_bits;
        (state.index << bits | state.previous as u64) << bits | state.current as u64
    }

    /// The state that `word` stands for.
    #[inline]
    pub(super) const fn unpack(&self, word: u64) -> SlidingWindowState {
        let bits = self.0.count_bits;
        let mask = (1 << bits) - 1;
        SlidingWindowState {
            index: word >> bits >> bits,
            previous: (word >> bits & mask) as u32,
            current: (word & mask) as u32,
        }
    }

    #[inline]
    fn change<T>(&self, word: &mut u64, change: impl FnOnce(&mut SlidingWindowState) -> T) -> T {
        let mut state = self.unpack(*word);
        let result = change(&mut state);
        *word = self.pack(state);
        result
    }
}

impl Policy for Packed {
    type State = u64;

    #[inline]
    fn charge(&self, word: &mut u64, now: Timestamp, cost: u32) -> bool {
        self.change(word, |state| self.0.charge(state, now, cost))
    }

    fn refund(&self, word: &mut u64, at: Timestamp, now: Timestamp, cost: u32) {
        self.change(word, |state| self.0.refund(state, at, now, cost));
    }

    fn force(&self, word: &mut u64, now: Timestamp, cost: u32) {
        self.change(word, |state| self.0.force(state, now, cost));
    }

    fn left(&self, word: &u64, now: Timestamp) -> Left {
        self.0.left(&self.unpack(*word), now)
    }

    fn retry_after(&self, word: &u64, now: Timestamp, cost: u32) -> Option<Duration> {
        self.0.retry_after(&self.unpack(*word), now, cost)
    }

    #[inline]
    fn debt(&self, word: &u64, now: Timestamp) -> u64 {
        self.0.debt(&self.unpack(*word), now)
    }

    fn clear_after(&self, word: &u64, now: Timestamp) -> Duration {
        self.0.clear_after(&self.unpack(*word), now)
    }

    fn limit(&self) -> u64 {
        self.0.limit
    }

    fn window(&self) -> Duration {
        self.0.window()
    }

    #[inline]
    fn shift(&self, hash: u64) -> Duration {
        self.0.shift(hash)
    }
}
