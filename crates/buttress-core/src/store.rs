use std::time::Duration;

use crate::{KeySink, Timestamp};

/// Where the state of a limit lives: in this process, or shared between many.
///
/// A local store answers at once, a remote one later. What happens when a remote store is down is the store's
/// own policy, so either way the answer is a [`Decision`] and never an error.
pub trait Store: Clone {
    /// What a key is written into.
    type Sink: KeySink;
    /// The future of an answer that comes later; [`std::future::Pending`] where none does.
    type Wait: Future<Output = Decision>;

    /// An empty key.
    fn sink(&self) -> Self::Sink;

    /// Decides on a call of the given key and cost. A cost of 0 looks without taking anything.
    fn decide(&self, key: Self::Sink, cost: u32, now: Timestamp) -> Answer<Self::Wait>;
}

/// The answer of a [`Store`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "now or later: there is no third")]
pub enum Answer<F> {
    /// The decision.
    Now(Decision),
    /// The decision comes from this future.
    Later(F),
}

/// Whether a call may pass, and how much is left.
///
/// ```
/// use buttress_core::Decision;
/// use std::time::Duration;
///
/// let refused = Decision::refuse(100, Some(Duration::from_millis(10)));
/// assert!(!refused.admitted());
/// assert_eq!(refused.retry_after(), Some(Duration::from_millis(10)));
/// assert_eq!(refused.remaining(), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    admitted: bool,
    limit: u64,
    remaining: u64,
    reset: Duration,
    window: Duration,
    retry_after: Option<Duration>,
}

impl Decision {
    /// The call passes and leaves `remaining` of `limit` units.
    #[must_use]
    pub const fn admit(limit: u64, remaining: u64) -> Self {
        Self {
            admitted: true,
            limit,
            remaining,
            reset: Duration::ZERO,
            window: Duration::ZERO,
            retry_after: None,
        }
    }

    /// The call is refused; the same call passes after `retry_after`, or never.
    #[must_use]
    pub const fn refuse(limit: u64, retry_after: Option<Duration>) -> Self {
        Self {
            admitted: false,
            limit,
            remaining: 0,
            reset: Duration::ZERO,
            window: Duration::ZERO,
            retry_after,
        }
    }

    /// Says how many units are left, which a refused call that cost more than one may leave.
    #[must_use]
    pub const fn with_remaining(mut self, remaining: u64) -> Self {
        self.remaining = remaining;
        self
    }

    /// Says when more units are there, and the time the limit is counted over.
    #[must_use]
    pub const fn with_reset(mut self, reset: Duration, window: Duration) -> Self {
        self.reset = reset;
        self.window = window;
        self
    }

    /// Whether the call may pass.
    #[must_use]
    pub const fn admitted(&self) -> bool {
        self.admitted
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

    /// After how long a refused call passes if nothing else comes in between; `None` is never.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
