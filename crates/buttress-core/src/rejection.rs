use std::fmt;
use std::time::Duration;

use crate::Name;

/// Why a layer answered a call itself instead of passing it on.
///
/// A rejection travels as an error (through [`FromRejection`](crate::FromRejection)) or inside a response's
/// extensions, so every layer above can tell a refusal of ours from an answer of the service. It is `Clone`
/// and never allocates for a policy named by a literal.
///
/// ```
/// use buttress_core::{Rejection, RejectionKind};
/// use std::time::Duration;
///
/// let rejection = Rejection::new(RejectionKind::RateLimited)
///     .with_policy("burst")
///     .with_retry_after(Duration::from_millis(1500));
/// assert_eq!(rejection.to_string(), "rate limited by `burst`, retry after 1.5s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// What kind of refusal it is.
    pub kind: RejectionKind,
    /// The policy that refused, where it has a name; of several that refused at once, the one that binds: whose wait is
    /// the longest.
    pub policy: Option<Name>,
    /// The others that refused too, where several were asked at once.
    pub also: Vec<Name>,
    /// How long to wait before the same call may pass; `None` when unknown, or when it never will.
    pub retry_after: Option<Duration>,
    /// Whether another endpoint might serve the call at once.
    pub elsewhere: bool,
    /// Whether the call may have been carried out all the same, since an attempt that was made before this one was refused
    /// reached a service. What makes several attempts says so.
    pub maybe_sent: bool,
}

/// The kinds of [`Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// More calls than a rate limit allows.
    RateLimited,
    /// The call costs more than its limit ever allows at once: waiting does not help.
    CostTooHigh,
    /// The caller is on a deny list, or has no key where one is demanded.
    Denied,
    /// A circuit breaker is open.
    CircuitOpen,
    /// Too much work is in flight or queued.
    Overloaded,
    /// The call took longer than its timeout.
    Timeout,
    /// The caller's deadline has passed, or leaves too little time to begin.
    DeadlineExceeded,
    /// No endpoint can take the call.
    NoEndpoint,
    /// No shard holds the key of the call, or it has none: waiting does not help.
    NoShard,
    /// The service is starting or shutting down.
    NotReady,
    /// The call waited for another's result, and that failed.
    Collapsed,
}

impl RejectionKind {
    /// The kind in words, as it stands in logs and in the details of a problem.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate limited",
            Self::CostTooHigh => "cost above the limit",
            Self::Denied => "denied",
            Self::CircuitOpen => "circuit open",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timed out",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::NoEndpoint => "no endpoint",
            Self::NoShard => "no shard for the key",
            Self::NotReady => "not ready",
            Self::Collapsed => "collapsed call failed",
        }
    }
}

impl fmt::Display for RejectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rejection {
    /// Makes a rejection of `kind` that says nothing else yet.
    #[must_use]
    pub const fn new(kind: RejectionKind) -> Self {
        Self { kind, policy: None, also: Vec::new(), retry_after: None, elsewhere: false, maybe_sent: false }
    }

    /// Names the policy that refused.
    #[must_use]
    pub fn with_policy(mut self, name: impl Into<Name>) -> Self {
        self.policy = Some(name.into());
        self
    }

    /// Names a further policy that refused the same call, beside the one that binds.
    ///
    /// ```
    /// use buttress_core::{Rejection, RejectionKind};
    ///
    /// let rejection = Rejection::new(RejectionKind::RateLimited).with_policy("daily").with_also("burst");
    /// assert_eq!(rejection.to_string(), "rate limited by `daily` and `burst`");
    /// ```
    #[must_use]
    pub fn with_also(mut self, name: impl Into<Name>) -> Self {
        self.also.push(name.into());
        self
    }

    /// The policies that refused, the one that binds first.
    pub fn policies(&self) -> impl Iterator<Item = &Name> {
        self.policy.iter().chain(&self.also)
    }

    /// Says when the same call may pass.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says that another endpoint might serve the call at once.
    #[must_use]
    pub const fn with_elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Says that the call may have been carried out all the same, by an attempt before the one that was refused.
    #[must_use]
    pub const fn with_maybe_sent(mut self) -> Self {
        self.maybe_sent = true;
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        for (at, policy) in self.policies().enumerate() {
            write!(f, " {} `{policy}`", if at == 0 { "by" } else { "and" })?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {wait:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}

/// What is left of one limit, for the fields of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// The policy's name.
    pub name: Name,
    /// How many units the limit allows in one `window`.
    pub limit: u64,
    /// How many units are left now.
    pub remaining: u64,
    /// How long until more units are there: at least one where none is left, all of them in a fixed window.
    pub reset: Duration,
    /// The time that `limit` is counted over.
    pub window: Duration,
}

impl Quota {
    /// Reports that `remaining` of `limit` units per `window` are left, and more are there after `reset`.
    #[must_use]
    pub fn new(name: impl Into<Name>, limit: u64, remaining: u64, reset: Duration, window: Duration) -> Self {
        Self { name: name.into(), limit, remaining, reset, window }
    }
}
