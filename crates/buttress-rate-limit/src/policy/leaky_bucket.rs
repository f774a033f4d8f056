//! Leaky bucket as a queue: calls that come too fast wait their turn, in order, for a bounded time.
//!
//! ```text
//!   arrivals   ■■■■ ■              (T = the time of one unit)
//!              ││││ ╰─────────────────────╮
//!   departures ■────■────■────■────■      ▼  slots are T apart; `next` is the first that is free
//!              now  └── wait ──┘         next
//! ```
//!
//! The state is one word, as [GCRA](super::Gcra)'s: the moment `t` at which all that was admitted has flowed out. A
//! call of cost `c` moves it to `max(t, now) + c·T`, and goes when the bucket holds its cost, or is full:
//!
//! ```text
//!   wait = max(t, now) + c·T − max(L, c·T) − now          L = burst·T, and the burst is 1 unless said otherwise
//! ```
//!
//! With a burst of one that is the first free slot. A call whose wait is longer than allowed is refused and changes
//! nothing. Ticks and their rounding are GCRA's.

use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::{Gcra, Left, LimitError, Policy};

/// The most ticks that a full queue may take, so that sums of two stay far from the end of a `u64`.
const LONGEST: u64 = 1 << 62;

/// Shapes traffic: calls go at `rate` per `period`, evenly, and wait their turn where they come faster.
///
/// | | |
/// |---|---|
/// | worst count of departures in an interval `τ` | `burst + τ·rate/period`; with the burst of 1: never two closer than one unit's time |
/// | memory per key | one word, and the calls that wait |
///
/// Admitted calls go first come, first served: each is told how long to wait ([`Policy::delay`]), never longer than
/// [`wait`](Self::wait) allows, and never with more than [`queue`](Self::queue) others waiting. The rest is
/// refused at once. Use it towards a backend that wants an even flow; [`Gcra`] alone refuses at once instead, and
/// costs no waiting tasks.
///
/// A call that is dropped while it waits gives its slot back if no other has come after it. Otherwise the slot
/// passes unused, since giving it to a newcomer could let two go at once; a layer that
/// [`wait`](crate::RateLimitLayer::wait)s moves those behind it up instead.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_rate_limit::{LeakyBucket, Policy};
/// use std::time::Duration;
///
/// let shaper = LeakyBucket::new(10, Duration::from_secs(1)).wait(Duration::from_millis(150));
/// let (mut state, now) = (0, Timestamp::ZERO);
///
/// assert!(shaper.charge(&mut state, now, 1));
/// assert_eq!(shaper.delay(&state, now, 1), Duration::ZERO);
/// assert!(shaper.charge(&mut state, now, 1));
/// assert_eq!(shaper.delay(&state, now, 1), Duration::from_millis(100));
/// assert!(!shaper.charge(&mut state, now, 1));
/// assert_eq!(shaper.retry_after(&state, now, 1), Some(Duration::from_millis(50)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakyBucket {
    gcra: Gcra,
    wait: Duration,
    queue: u32,
    /// L: the burst in ticks.
    ticks_burst: u64,
    /// The longest wait in ticks.
    ticks_wait: u64,
}

impl LeakyBucket {
    /// How long a call waits at most unless said otherwise: few callers have patience for more.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(1);

    /// How many calls wait at most unless said otherwise: each is a parked task.
    pub const DEFAULT_QUEUE: u32 = 1024;

    /// Lets `rate` units go per `period`, one after the other.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(rate: u64, period: Duration) -> Self {
        Self::try_new(rate, period).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets `rate` units go per `period`, one after the other.
    ///
    /// # Errors
    ///
    /// When either is 0, or out of the range that [`Gcra::new`] states.
    pub fn try_new(rate: u64, period: Duration) -> Result<Self, LimitError> {
        Self::make(Gcra::new(rate, period, 1)?, Self::DEFAULT_WAIT, Self::DEFAULT_QUEUE)
    }

    /// Lets `burst` units go at once before the rest has to wait. The default is 1: an even flow.
    ///
    /// # Panics
    ///
    /// When [`try_burst`](Self::try_burst) fails.
    #[must_use]
    #[track_caller]
    pub fn burst(self, burst: u64) -> Self {
        self.try_burst(burst).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets `burst` units go at once before the rest has to wait.
    ///
    /// # Errors
    ///
    /// When `burst` is 0, or would take longer than 146 years to earn again.
    pub fn try_burst(self, burst: u64) -> Result<Self, LimitError> {
        Self::make(Gcra::new(self.gcra.rate(), self.gcra.period(), burst)?, self.wait, self.queue)
    }

    /// Lets a call wait for up to `wait`. The default is one second.
    ///
    /// # Panics
    ///
    /// When [`try_wait`](Self::try_wait) fails.
    #[must_use]
    #[track_caller]
    pub fn wait(self, wait: Duration) -> Self {
        self.try_wait(wait).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets a call wait for up to `wait`.
    ///
    /// # Errors
    ///
    /// When `wait` and the burst are longer than 146 years together.
    pub fn try_wait(self, wait: Duration) -> Result<Self, LimitError> {
        Self::make(self.gcra, wait, self.queue)
    }

    /// Lets up to `queue` calls wait at a time. The default is 1024.
    ///
    /// With 0 nobody waits, and this is a [`Gcra`].
    #[must_use]
    pub const fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// Lets what `gcra` would refuse wait for up to `wait`.
    ///
    /// # Errors
    ///
    /// When `wait` and the burst are longer than 146 years together.
    pub fn from_gcra(gcra: Gcra, wait: Duration) -> Result<Self, LimitError> {
        Self::make(gcra, wait, Self::DEFAULT_QUEUE)
    }

    fn make(gcra: Gcra, wait: Duration, queue: u32) -> Result<Self, LimitError> {
        let too_long = || LimitError::new("wait", wait, "must be at most 146 years together with the burst");
        let unit = gcra.ticks_per_unit();
        let ticks_burst = unit * gcra.burst();
        let by_time = u128::from(nanos(wait)) * u128::from(gcra.ticks_per_nano());
        if Duration::from_nanos(nanos(wait)) != wait
            || u128::from(ticks_burst) + by_time > u128::from(LONGEST)
        {
            return Err(too_long());
        }
        Ok(Self { gcra, wait, queue, ticks_burst, ticks_wait: by_time as u64 })
    }

    /// The longest wait, by time and by number.
    #[inline]
    const fn ticks_wait(&self) -> u64 {
        let by_number = self.gcra.ticks_per_unit().saturating_mul(self.queue as u64);
        if by_number < self.ticks_wait { by_number } else { self.ticks_wait }
    }

    /// Units per period.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.gcra.rate()
    }

    /// The time in which `rate` units go.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.gcra.period()
    }

    /// The bucket whose departures these are.
    pub(super) const fn gcra(&self) -> &Gcra {
        &self.gcra
    }

    /// The burst and the longest wait, in ticks.
    pub(super) const fn ticks_full(&self) -> u64 {
        self.ticks_burst + self.ticks_wait()
    }

    /// The burst in ticks.
    pub(super) const fn ticks_burst(&self) -> u64 {
        self.ticks_burst
    }

    #[inline]
    fn units(&self, cost: u32) -> u64 {
        self.gcra.cost(cost)
    }

    /// How long a call of `units` ticks waits in a bucket that is left with `debt` by it.
    #[inline]
    fn turn(&self, debt: u64, units: u64) -> u64 {
        debt.saturating_sub(self.ticks_burst.max(units))
    }
}

impl Policy for LeakyBucket {
    type State = u64;

    #[inline]
    fn charge(&self, next: &mut u64, now: Timestamp, cost: u32) -> bool {
        if cost == 0 {
            return true;
        }
        let (now, units) = (self.gcra.ticks(now), self.units(cost));
        match (*next).max(now).checked_add(units) {
            Some(charged)
                if units <= self.ticks_full() && self.turn(charged - now, units) <= self.ticks_wait() =>
            {
                *next = charged;
                true
            }
            // Too much, or the end of the clock.
            _ => false,
        }
    }

    /// Gives back the slot of a call that goes at `at`, which is when it was charged and its
    /// [delay](Policy::delay), if it is still the last. Any other has calls behind it that keep their slots, so its
    /// own passes unused; but where none waits and the burst is larger than 1, units are given back as
    /// [`Gcra`] does.
    ///
    /// A call that gives up has to say so before `at`.
    fn refund(&self, next: &mut u64, at: Timestamp, now: Timestamp, cost: u32) {
        let (now, units) = (self.gcra.ticks(now), self.units(cost));
        let last = self.gcra.time(next.saturating_sub(self.ticks_burst.max(units)));
        let bucket = next.saturating_sub(now) <= self.ticks_burst && self.gcra.burst() > 1;
        let back = if last == Duration::from_nanos(at.as_nanos()) {
            units
        } else if bucket {
            let out = self.gcra.ticks(at).saturating_add(self.ticks_burst.max(units));
            units.min(out.saturating_sub(now))
        } else {
            return;
        };
        *next = (*next).min(next.saturating_sub(back).max(now));
    }

    fn force(&self, next: &mut u64, now: Timestamp, cost: u32) {
        let now = self.gcra.ticks(now);
        let most = now.saturating_add(2 * self.ticks_full());
        let charged = (*next).max(now).saturating_add(self.units(cost));
        *next = (*next).max(charged.min(most));
    }

    fn left(&self, next: &u64, now: Timestamp) -> Left {
        let debt = self.debt(next, now);
        let unit = self.gcra.ticks_per_unit();
        let remaining = self.ticks_full().saturating_sub(debt) / unit;
        let reset = if remaining < self.limit() {
            self.gcra.time((debt + (remaining + 1) * unit).saturating_sub(self.ticks_full()))
        } else {
            Duration::ZERO
        };
        Left { remaining, reset }
    }

    fn retry_after(&self, next: &u64, now: Timestamp, cost: u32) -> Option<Duration> {
        let units = self.units(cost);
        let wait = self.turn(self.debt(next, now).saturating_add(units), units);
        (units <= self.ticks_full()).then(|| match wait.saturating_sub(self.ticks_wait()) {
            // Looking is free, in debt too.
            _ if cost == 0 => Duration::ZERO,
            // Nothing is owed, but the clock has come to its end.
            0 if (*next).max(self.gcra.ticks(now)).checked_add(units).is_none() => self.gcra.time(1),
            ticks => self.gcra.time(ticks),
        })
    }

    #[inline]
    fn delay(&self, next: &u64, now: Timestamp, cost: u32) -> Duration {
        // Whoever only looks does not queue.
        if cost == 0 {
            return Duration::ZERO;
        }
        self.gcra.time(self.turn(self.debt(next, now), self.units(cost)))
    }

    #[inline]
    fn debt(&self, next: &u64, now: Timestamp) -> u64 {
        next.saturating_sub(self.gcra.ticks(now))
    }

    fn clear_after(&self, next: &u64, now: Timestamp) -> Duration {
        self.gcra.time(self.debt(next, now))
    }

    fn limit(&self) -> u64 {
        self.ticks_full() / self.gcra.ticks_per_unit()
    }

    fn window(&self) -> Duration {
        self.gcra.time(self.limit() * self.gcra.ticks_per_unit())
    }
}
