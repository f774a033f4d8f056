use buttress_core::Name;

use crate::{DependencyState, Phase};

/// What an observer is told. All events are told outside every lock.
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
}
