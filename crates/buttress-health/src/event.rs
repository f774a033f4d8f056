use std::time::Duration;

use buttress_core::{Endpoint, Name};

#[cfg(feature = "probe")]
use crate::Finding;
use crate::{DependencyState, EjectionReason, Phase, SkipReason, UnejectionReason};

/// What an observer is told. All events are told outside every lock, in the task that causes them; those of two threads at
/// the same moment may come in either order, and the [`Report`](crate::Report) says what holds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum HealthEvent<'a> {
    /// The service has started, or begins to stop.
    #[non_exhaustive]
    Phase {
        /// The readiness state's name.
        name: &'a Name,
        /// The phase it is in now.
        phase: Phase,
    },
    /// The check of a dependency found something else than before.
    #[non_exhaustive]
    Dependency {
        /// The readiness state's name.
        name: &'a Name,
        /// The dependency's name.
        dependency: &'a Name,
        /// Whether the service cannot serve without it.
        critical: bool,
        /// What was found before; `None` the first time.
        from: Option<DependencyState>,
        /// What was found now.
        to: DependencyState,
        /// What the check said, where it failed with an error or panicked.
        error: Option<&'a str>,
    },
    /// Too many of the service's own calls fail, or no longer do. That they no longer do is noticed when somebody asks.
    #[non_exhaustive]
    Traffic {
        /// The readiness state's name.
        name: &'a Name,
        /// Whether the service is not ready while too many fail.
        critical: bool,
        /// Whether too many fail now.
        failing: bool,
        /// The calls that were judged in the window.
        calls: u32,
        /// Those of them that failed.
        failed: u32,
    },
    /// A [`HealthLayer`](crate::HealthLayer) refused a call, as the service is not ready.
    #[non_exhaustive]
    Refused {
        /// The readiness state's name.
        name: &'a Name,
        /// The phase it is in.
        phase: Phase,
    },
    /// An endpoint was ejected, since its calls fail.
    #[non_exhaustive]
    Ejected {
        /// The name of the outlier detection.
        policy: &'a Name,
        /// The endpoint.
        endpoint: &'a Endpoint,
        /// Why.
        reason: EjectionReason,
        /// For how long.
        time: Duration,
        /// How often in a row.
        times: u32,
    },
    /// An ejection has ended: the endpoint gets calls again, few at first where its balancer starts slowly.
    #[non_exhaustive]
    Unejected {
        /// The name of the outlier detection.
        policy: &'a Name,
        /// The endpoint.
        endpoint: &'a Endpoint,
        /// Why.
        reason: UnejectionReason,
    },
    /// An endpoint was to be ejected, and was not. While 1024 events wait for an observer that is slow, these are not told.
    #[non_exhaustive]
    EjectionSkipped {
        /// The name of the outlier detection.
        policy: &'a Name,
        /// The endpoint.
        endpoint: &'a Endpoint,
        /// Why it was to be ejected.
        reason: EjectionReason,
        /// Why it was not.
        skipped: SkipReason,
    },
    /// A probe of an endpoint has ended, or the endpoint told of itself.
    #[cfg(feature = "probe")]
    #[non_exhaustive]
    Probed {
        /// The name of the health check.
        name: &'a Name,
        /// The endpoint.
        endpoint: &'a Endpoint,
        /// What it found, and why.
        finding: Finding,
        /// How long it took.
        took: Duration,
    },
    /// What a health check says of an endpoint has changed.
    #[cfg(feature = "probe")]
    #[non_exhaustive]
    Changed {
        /// The name of the health check.
        name: &'a Name,
        /// The endpoint.
        endpoint: &'a Endpoint,
        /// What was said before.
        from: buttress_core::Health,
        /// What is said now.
        to: buttress_core::Health,
        /// What the last probe found, and why.
        finding: Finding,
    },
}
