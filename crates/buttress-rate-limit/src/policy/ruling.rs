use std::time::Duration;

use buttress_core::Decided;

/// How many units are left to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "policies of others make it too")]
pub struct Left {
    /// Units that would pass now.
    pub remaining: u64,
    /// The time until there are more; zero when nothing is missing.
    pub reset: Duration,
}

/// The outcome of one call on one limit, with all that can be said of it.
///
/// ```
/// use buttress_core::{Decided, Timestamp};
/// use buttress_rate_limit::{Limit, Policy};
/// use std::time::Duration;
///
/// let limit = Limit::per_second(100);
/// let ruling = limit.decide(&mut Default::default(), Timestamp::ZERO, 1);
/// assert!(ruling.admitted());
/// assert_eq!((ruling.limit(), ruling.remaining()), (100, 99));
/// assert_eq!(ruling.reset(), Duration::from_millis(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    admitted: bool,
    limit: u64,
    remaining: u64,
    reset: Duration,
    window: Duration,
    retry_after: Option<Duration>,
}

impl Ruling {
    /// The call passes or not, and leaves `remaining` of `limit` units.
    #[must_use]
    pub const fn new(admitted: bool, limit: u64, remaining: u64) -> Self {
        let zero = Duration::ZERO;
        Self { admitted, limit, remaining, reset: zero, window: zero, retry_after: None }
    }

    /// Says when more units are there, and the time the limit is counted over.
    #[must_use]
    pub const fn with_reset(mut self, reset: Duration, window: Duration) -> Self {
        self.reset = reset;
        self.window = window;
        self
    }

    /// Says when a refused call passes; `None` is never.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// How many units the limit allows at once or in one window.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How many units are left now.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long until more units are there.
    #[must_use]
    pub const fn reset(&self) -> Duration {
        self.reset
    }

    /// The time the limit is counted over.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }
}

impl Decided for Ruling {
    fn admitted(&self) -> bool {
        self.admitted
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn never(&self) -> bool {
        !self.admitted && self.retry_after.is_none()
    }
}
