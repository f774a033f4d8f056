use std::time::Duration;

use buttress_core::{Name, Timestamp};

use super::ledger::Ledger;
use super::sliding_window::Packed;
use super::state::{change, look};
use super::{
    FixedWindow, Gcra, LeakyBucket, Left, LimitError, LimitState, Policy, SlidingLog, SlidingStrict,
    SlidingWindow,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// One limit with a name: an algorithm and its numbers.
///
/// [`Limit::per_second`] and its siblings make a token bucket ([`Gcra`]), `Limit::from(FixedWindow::new(..))` a
/// fixed window, and so on for [`SlidingWindow`], [`SlidingStrict`], [`SlidingLog`] and [`LeakyBucket`]. The burst is as large as the rate unless said otherwise: a client may spend a second's worth
/// (a minute's, an hour's, a day's) at once, as the words "100 per second" are commonly read.
///
/// ```
/// use buttress_rate_limit::Limit;
/// use std::time::Duration;
///
/// let burst = Limit::per_second(10).burst(50).named("burst");
/// let odd = Limit::new(3, Duration::from_millis(250));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: Name,
    algorithm: Algorithm,
    shadow: bool,
}

/// What a limit counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Gcra(Gcra),
    LeakyBucket(LeakyBucket),
    /// The first, with an account of its charges.
    GcraLedger(Ledger<Gcra>),
    /// The second, with an account of its charges.
    LeakyLedger(Ledger<LeakyBucket>),
    FixedWindow(FixedWindow),
    /// In one word.
    Packed(Packed),
    SlidingWindow(SlidingWindow),
    SlidingStrict(SlidingStrict),
    SlidingLog(SlidingLog),
}

impl Limit {
    /// Allows `n` units per second, and as many at once.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails: `n` is 0 or above 29·10⁹.
    #[must_use]
    #[track_caller]
    pub fn per_second(n: u64) -> Self {
        Self::new(n, SECOND)
    }

    /// Allows `n` units per minute, and as many at once.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn per_minute(n: u64) -> Self {
        Self::new(n, MINUTE)
    }

    /// Allows `n` units per hour, and as many at once.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn per_hour(n: u64) -> Self {
        Self::new(n, HOUR)
    }

    /// Allows `n` units per day, and as many at once.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn per_day(n: u64) -> Self {
        Self::new(n, DAY)
    }

    /// Allows `n` units per `period`, and as many at once.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(n: u64, period: Duration) -> Self {
        Self::try_new(n, period).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows `n` units per `period`, and as many at once; for numbers that come from a configuration file.
    ///
    /// # Errors
    ///
    /// When either is 0, or out of the range that [`Gcra::new`] states.
    pub fn try_new(n: u64, period: Duration) -> Result<Self, LimitError> {
        Gcra::new(n, period, n).map(Self::from)
    }

    /// Allows `burst` units at once; the rate stays as it is. The default is one period's worth.
    ///
    /// # Panics
    ///
    /// When [`try_burst`](Self::try_burst) fails.
    #[must_use]
    #[track_caller]
    pub fn burst(self, burst: u64) -> Self {
        self.try_burst(burst).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows `burst` units at once; the rate stays as it is.
    ///
    /// # Errors
    ///
    /// When `burst` is 0, or would take longer than 146 years to earn again, or when the algorithm has no burst
    /// (a window, a log).
    pub fn try_burst(self, burst: u64) -> Result<Self, LimitError> {
        let mut limit = self.without_ledger();
        match &mut limit.algorithm {
            Algorithm::Gcra(gcra) => *gcra = Gcra::new(gcra.rate(), gcra.period(), burst)?,
            Algorithm::LeakyBucket(bucket) => *bucket = bucket.try_burst(burst)?,
            _ => return Err(LimitError::new("burst", burst, "does not apply to a window")),
        }
        Ok(limit)
    }

    /// Lets calls wait for up to `wait` where they come faster than the rate: the limit becomes a [`LeakyBucket`]
    /// with the burst that it has.
    ///
    /// # Errors
    ///
    /// When `wait` and the burst are longer than 146 years together, or when the algorithm is a window or a log,
    /// which have no order to wait in.
    pub fn try_wait(mut self, wait: Duration) -> Result<Self, LimitError> {
        self = self.without_ledger();
        self.algorithm = Algorithm::LeakyBucket(match self.algorithm {
            Algorithm::Gcra(gcra) => LeakyBucket::from_gcra(gcra, wait)?,
            Algorithm::LeakyBucket(bucket) => bucket.try_wait(wait)?,
            _ => return Err(LimitError::new("wait", wait, "does not apply to a window")),
        });
        Ok(self)
    }

    /// Lets up to `queue` calls wait at a time, as [`LeakyBucket::queue`] does.
    ///
    /// # Errors
    ///
    /// When the algorithm is a window or a log, or [`LeakyBucket::DEFAULT_WAIT`] and the burst are longer than 146
    /// years together.
    pub fn try_queue(mut self, queue: u32) -> Result<Self, LimitError> {
        self = self.without_ledger();
        let bucket = match self.algorithm {
            Algorithm::Gcra(gcra) => LeakyBucket::from_gcra(gcra, LeakyBucket::DEFAULT_WAIT)?,
            Algorithm::LeakyBucket(bucket) => bucket,
            _ => return Err(LimitError::new("queue", queue, "does not apply to a window")),
        };
        self.algorithm = Algorithm::LeakyBucket(bucket.queue(queue));
        Ok(self)
    }

    /// Names the limit, in rejections, events and the `RateLimit` fields. The default is `default`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Only watches: counts as ever, but a call that it would refuse passes and is told apart by
    /// [`Decided::shadowed`](buttress_core::Decided::shadowed).
    #[must_use]
    pub const fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// Whether it only watches.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it is a queue, in which a call is known by the moment of its turn.
    pub(crate) const fn is_queue(&self) -> bool {
        matches!(self.algorithm, Algorithm::LeakyBucket(_))
    }

    /// The same limit, with an account of its charges if it is a bucket.
    #[must_use]
    pub(crate) const fn with_ledger(mut self) -> Self {
        self.algorithm = match self.algorithm {
            Algorithm::Gcra(gcra) => Algorithm::GcraLedger(Ledger(gcra)),
            Algorithm::LeakyBucket(bucket) => Algorithm::LeakyLedger(Ledger(bucket)),
            other => other,
        };
        self
    }

    /// The same limit without.
    #[must_use]
    pub(crate) const fn without_ledger(mut self) -> Self {
        self.algorithm = match self.algorithm {
            Algorithm::GcraLedger(Ledger(gcra)) => Algorithm::Gcra(gcra),
            Algorithm::LeakyLedger(Ledger(bucket)) => Algorithm::LeakyBucket(bucket),
            other => other,
        };
        self
    }

    /// The token bucket, if it is one.
    pub(crate) const fn gcra(&self) -> Option<&Gcra> {
        if let Algorithm::Gcra(gcra) = &self.algorithm { Some(gcra) } else { None }
    }

    pub(crate) const fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    const fn of(algorithm: Algorithm) -> Self {
        Self { name: Name::from_static("default"), algorithm, shadow: false }
    }
}

impl From<Gcra> for Limit {
    fn from(gcra: Gcra) -> Self {
        Self::of(Algorithm::Gcra(gcra))
    }
}

impl From<FixedWindow> for Limit {
    fn from(window: FixedWindow) -> Self {
        Self::of(Algorithm::FixedWindow(window))
    }
}

impl From<LeakyBucket> for Limit {
    fn from(bucket: LeakyBucket) -> Self {
        Self::of(Algorithm::LeakyBucket(bucket))
    }
}

impl From<SlidingWindow> for Limit {
    fn from(window: SlidingWindow) -> Self {
        Self::of(match Packed::new(window) {
            Some(packed) => Algorithm::Packed(packed),
            None => Algorithm::SlidingWindow(window),
        })
    }
}

impl From<SlidingStrict> for Limit {
    fn from(window: SlidingStrict) -> Self {
        Self::of(Algorithm::SlidingStrict(window))
    }
}

impl From<SlidingLog> for Limit {
    fn from(log: SlidingLog) -> Self {
        Self::of(Algorithm::SlidingLog(log))
    }
}

/// Hands a call on to the algorithm.
macro_rules! each {
    ($limit:ident, $policy:ident => $call:expr) => {
        match &$limit.algorithm {
            Algorithm::Gcra($policy) => $call,
            Algorithm::LeakyBucket($policy) => $call,
            Algorithm::GcraLedger($policy) => $call,
            Algorithm::LeakyLedger($policy) => $call,
            Algorithm::FixedWindow($policy) => $call,
            Algorithm::Packed($policy) => $call,
            Algorithm::SlidingWindow($policy) => $call,
            Algorithm::SlidingStrict($policy) => $call,
            Algorithm::SlidingLog($policy) => $call,
        }
    };
}

impl Policy for Limit {
    type State = LimitState;

    #[inline]
    fn charge(&self, state: &mut LimitState, now: Timestamp, cost: u32) -> bool {
        each!(self, policy => change(policy, state, |policy, state| policy.charge(state, now, cost)))
    }

    fn refund(&self, state: &mut LimitState, at: Timestamp, now: Timestamp, cost: u32) {
        each!(self, policy => change(policy, state, |policy, state| policy.refund(state, at, now, cost)));
    }

    fn force(&self, state: &mut LimitState, now: Timestamp, cost: u32) {
        each!(self, policy => change(policy, state, |policy, state| policy.force(state, now, cost)));
    }

    fn left(&self, state: &LimitState, now: Timestamp) -> Left {
        each!(self, policy => look(policy, state, |policy, state| policy.left(state, now)))
    }

    fn retry_after(&self, state: &LimitState, now: Timestamp, cost: u32) -> Option<Duration> {
        each!(self, policy => look(policy, state, |policy, state| policy.retry_after(state, now, cost)))
    }

    #[inline]
    fn delay(&self, state: &LimitState, now: Timestamp, cost: u32) -> Duration {
        each!(self, policy => look(policy, state, |policy, state| policy.delay(state, now, cost)))
    }

    fn debt(&self, state: &LimitState, now: Timestamp) -> u64 {
        each!(self, policy => look(policy, state, |policy, state| policy.debt(state, now)))
    }

    fn clear_after(&self, state: &LimitState, now: Timestamp) -> Duration {
        each!(self, policy => look(policy, state, |policy, state| policy.clear_after(state, now)))
    }

    fn limit(&self) -> u64 {
        each!(self, policy => Policy::limit(policy))
    }

    fn window(&self) -> Duration {
        each!(self, policy => Policy::window(policy))
    }

    #[inline]
    fn shift(&self, hash: u64) -> Duration {
        each!(self, policy => policy.shift(hash))
    }
}
