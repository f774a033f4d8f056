use std::fmt;
use std::time::Duration;

use buttress_core::Timestamp;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// All calls pass, and their results are judged.
    Closed,
    /// By hand: all calls pass and are counted, and nothing opens it.
    MetricsOnly,
    /// By hand: all calls pass, and nothing is counted.
    Disabled,
    /// No call passes until the wait is over.
    Open,
    /// A few calls pass to see how things are.
    HalfOpen,
    /// A growing share of the calls passes.
    Ramping,
    /// By hand: no call passes.
    ForcedOpen,
    /// By hand: no call passes, since the service is to be left alone.
    Isolated,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Closed,
        Self::MetricsOnly,
        Self::Disabled,
        Self::Open,
        Self::HalfOpen,
        Self::Ramping,
        Self::ForcedOpen,
        Self::Isolated,
    ];

    /// The state in words, as it stands in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::MetricsOnly => "metrics only",
            Self::Disabled => "disabled",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Ramping => "ramping",
            Self::ForcedOpen => "forced open",
            Self::Isolated => "isolated",
        }
    }

    /// Whether it was set by hand, so that only a hand leaves it.
    #[must_use]
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::MetricsOnly | Self::Disabled | Self::ForcedOpen | Self::Isolated)
    }

    /// The three bits it is kept in. Those in which every call passes come first.
    pub(crate) const fn bits(self) -> u64 {
        self as u64
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        // In the order of their bits, so that it takes no instruction.
        match bits & 7 {
            0 => Self::Closed,
            1 => Self::MetricsOnly,
            2 => Self::Disabled,
            3 => Self::Open,
            4 => Self::HalfOpen,
            5 => Self::Ramping,
            6 => Self::ForcedOpen,
            _ => Self::Isolated,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state that is set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// All calls pass, and nothing is counted.
    Disabled,
    /// All calls pass and are counted, and nothing opens the breaker.
    MetricsOnly,
    /// No call passes.
    ForcedOpen,
    /// No call passes, since the service is to be left alone.
    Isolated,
}

impl From<Mode> for State {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Disabled => Self::Disabled,
            Mode::MetricsOnly => Self::MetricsOnly,
            Mode::ForcedOpen => Self::ForcedOpen,
            Mode::Isolated => Self::Isolated,
        }
    }
}

/// How a call went, as a breaker counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Judged {
    /// The service did its work.
    Success,
    /// The service is at fault, or the call panicked.
    Failure,
    /// The service asks for less: it counts towards the failure rate and fails a probe, and neither counts towards
    /// consecutive failures nor ends a row of them.
    Soft,
    /// It says nothing of the service: a permit is given back, and nothing is counted.
    Ignored,
    /// The caller went away: the permit is given back, unless [`OnDrop`](crate::OnDrop) says otherwise.
    Cancelled,
    /// The service is at fault and asks to be left alone for so long: the breaker opens at once, for at most the longest
    /// open time.
    OpenFor(Duration),
}

/// Why a breaker has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The failure rate has reached its threshold.
    FailureRate,
    /// The rate of slow calls has reached its threshold.
    SlowRate,
    /// So many calls have failed in a row.
    ConsecutiveFailures,
    /// The service asked to be left alone.
    Asked,
    /// The open time is over.
    WaitOver,
    /// The probes went well.
    ProbesPassed,
    /// The time for the probes was over before they were judged.
    ProbesOverdue,
    /// All steps of the ramp went well.
    RampOver,
    /// Someone asked for it.
    ByHand,
}

impl Reason {
    /// The reason in words, as it stands in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "failure rate",
            Self::SlowRate => "slow-call rate",
            Self::ConsecutiveFailures => "consecutive failures",
            Self::Asked => "asked to wait",
            Self::WaitOver => "open time over",
            Self::ProbesPassed => "probes passed",
            Self::ProbesOverdue => "probes overdue",
            Self::RampOver => "ramp over",
            Self::ByHand => "by hand",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A breaker has changed its state.
///
/// Each is told once, by the call that made it. The generation counts them, so it tells their order where two calls on
/// two threads tell two of them at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state from now on.
    pub to: State,
    /// Why it has changed.
    pub reason: Reason,
    /// The generation of the new state: one more than that of the state before (and 0 after 2^31 − 1).
    pub generation: u32,
    /// When it has changed. A state that has outlasted its time ended when that was over, and not when it was noticed; only
    /// a ramp begins when someone is there to notice.
    pub at: Timestamp,
    /// How long the new state lasts unless calls end it earlier: the wait of an open breaker, the time for the probes
    /// of a half-open one, the length of a ramp of timed steps. `None` where no time ends it.
    pub lasts: Option<Duration>,
    /// The results that made it change, where results did.
    pub sums: Option<Sums>,
}

/// How many results there are, and of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// All that are counted.
    pub total: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were slow.
    pub slow: u32,
}

impl Sums {
    pub(crate) const fn new(total: u32, failed: u32, slow: u32) -> Self {
        Self { total, failed, slow }
    }

    /// The share of failures, from 0 to 1; 0 when nothing is counted.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        share(self.failed, self.total)
    }

    /// The share of slow calls, from 0 to 1; 0 when nothing is counted.
    #[must_use]
    pub fn slow_rate(&self) -> f64 {
        share(self.slow, self.total)
    }
}

fn share(part: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { f64::from(part) / f64::from(total) }
}

/// What one result counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

impl Marks {
    pub(crate) const fn is_bad(self) -> bool {
        self.failed | self.slow
    }
}
