use crate::Phase;

/// What an observer is told: each change of a state, once.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum HealthEvent<'a> {
    /// The service has started, or begins to stop.
    #[non_exhaustive]
    Phase {
        /// The name of the readiness state.
        name: &'a str,
        /// The phase it is in now.
        phase: Phase,
    },
}
