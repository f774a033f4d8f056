use std::time::Duration;

use buttress_core::{Name, Timestamp};

use super::{FixedWindow, Gcra, Left, LimitError, Policy};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// One limit with a name: an algorithm and its numbers.
///
/// [`Limit::per_second`] and its siblings make a token bucket ([`Gcra`]); `Limit::from(FixedWindow::new(..))` a
/// fixed window. The burst is as large as the rate unless said otherwise: a client may spend a second's worth
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
    FixedWindow(FixedWindow),
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
    /// (a fixed window).
    pub fn try_burst(mut self, burst: u64) -> Result<Self, LimitError> {
        match &mut self.algorithm {
            Algorithm::Gcra(gcra) => *gcra = Gcra::new(gcra.rate(), gcra.period(), burst)?,
            Algorithm::FixedWindow(_) => {
                return Err(LimitError::new("burst", burst, "does not apply to a fixed window"));
            }
        }
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

/// What a [`Limit`] remembers of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitState(Held);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Word(u64),
}

impl Default for Held {
    fn default() -> Self {
        Self::Word(0)
    }
}

impl LimitState {
    fn word(&self) -> &u64 {
        match &self.0 {
            Held::Word(word) => word,
        }
    }

    fn word_mut(&mut self) -> &mut u64 {
        match &mut self.0 {
            Held::Word(word) => word,
        }
    }
}

impl Policy for Limit {
    type State = LimitState;

    fn charge(&self, state: &mut LimitState, now: Timestamp, cost: u32) -> bool {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.charge(state.word_mut(), now, cost),
            Algorithm::FixedWindow(policy) => policy.charge(state.word_mut(), now, cost),
        }
    }

    fn refund(&self, state: &mut LimitState, at: Timestamp, now: Timestamp, cost: u32) {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.refund(state.word_mut(), at, now, cost),
            Algorithm::FixedWindow(policy) => policy.refund(state.word_mut(), at, now, cost),
        }
    }

    fn force(&self, state: &mut LimitState, now: Timestamp, cost: u32) {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.force(state.word_mut(), now, cost),
            Algorithm::FixedWindow(policy) => policy.force(state.word_mut(), now, cost),
        }
    }

    fn left(&self, state: &LimitState, now: Timestamp) -> Left {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.left(state.word(), now),
            Algorithm::FixedWindow(policy) => policy.left(state.word(), now),
        }
    }

    fn retry_after(&self, state: &LimitState, now: Timestamp, cost: u32) -> Option<Duration> {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.retry_after(state.word(), now, cost),
            Algorithm::FixedWindow(policy) => policy.retry_after(state.word(), now, cost),
        }
    }

    fn debt(&self, state: &LimitState, now: Timestamp) -> u64 {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.debt(state.word(), now),
            Algorithm::FixedWindow(policy) => policy.debt(state.word(), now),
        }
    }

    fn limit(&self) -> u64 {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.limit(),
            Algorithm::FixedWindow(policy) => Policy::limit(policy),
        }
    }

    fn window(&self) -> Duration {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.window(),
            Algorithm::FixedWindow(policy) => Policy::window(policy),
        }
    }

    fn shift(&self, hash: u64) -> Duration {
        match &self.algorithm {
            Algorithm::Gcra(policy) => policy.shift(hash),
            Algorithm::FixedWindow(policy) => policy.shift(hash),
        }
    }
}
