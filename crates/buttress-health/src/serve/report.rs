use std::sync::Arc;
use std::time::Duration;

use buttress_core::Name;

use crate::Phase;

/// What a dependency's check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DependencyState {
    /// The check passed.
    Passing,
    /// The check returned an error.
    Failing,
    /// The check was not over within its timeout, and was dropped.
    TimedOut,
    /// The check panicked.
    Panicked,
    /// The check was never run to its end: the runtime shuts down, or there is none.
    Cancelled,
}

impl DependencyState {
    /// The state in a word, as it stands in the body of an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Failing => "failing",
            Self::TimedOut => "timed_out",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the dependency is there.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Passing)
    }
}

/// Whether the service should get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It should.
    Ready,
    /// It should; something optional fails.
    Degraded,
    /// It should not: it starts, it stops, or something critical fails.
    NotReady,
}

impl Status {
    /// The status in a word, as it stands in the body of an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady => "not_ready",
        }
    }

    /// Whether the service should get requests: it is ready, if degraded.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        !matches!(self, Self::NotReady)
    }
}

/// What a [`Readiness`](crate::Readiness) knows at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Where the service is in its life.
    pub phase: Phase,
    /// Whether it should get requests.
    pub status: Status,
    /// Its dependencies, in the order in which they were added.
    pub dependencies: Vec<DependencyReport>,
    /// How its own calls went, where a [`HealthLayer`](crate::HealthLayer) marks them.
    pub traffic: Option<TrafficReport>,
}

/// What is known of one [`Dependency`](crate::Dependency).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DependencyReport {
    /// Its name.
    pub name: Name,
    /// Whether the service cannot serve without it.
    pub critical: bool,
    /// What its check has found.
    pub state: DependencyState,
    /// What the check said, where it failed with an error or panicked.
    pub error: Option<Arc<str>>,
    /// How long ago that was.
    pub age: Duration,
    /// How long the check took.
    pub took: Duration,
}

/// How the service's own calls went of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficReport {
    /// Whether the service is not ready while too many fail; else it is degraded.
    pub critical: bool,
    /// Whether too many fail.
    pub failing: bool,
    /// The calls that were judged in the window.
    pub calls: u32,
    /// Those of them that failed.
    pub failed: u32,
}

impl Report {
    pub(crate) fn new(
        phase: Phase,
        dependencies: Vec<DependencyReport>,
        traffic: Option<TrafficReport>,
    ) -> Self {
        let failing = |critical: bool| {
            dependencies.iter().any(|found| found.critical == critical && !found.state.is_passing())
                || traffic.is_some_and(|found| found.critical == critical && found.failing)
        };
        let status = if phase != Phase::Running || failing(true) {
            Status::NotReady
        } else if failing(false) {
            Status::Degraded
        } else {
            Status::Ready
        };
        Self { phase, status, dependencies, traffic }
    }
}
