use std::time::Duration;

use buttress_core::Name;

use super::Diverted;

/// What [`ReplicaSplit`](crate::ReplicaSplit) tells its observer, outside every lock, in the task of the call or of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaSplitEvent<'a> {
    /// A read goes to the primary.
    #[non_exhaustive]
    Diverted {
        /// The service's name.
        policy: &'a Name,
        /// Why.
        why: Diverted,
    },
    /// A read was refused, as no replica is within the bound.
    #[non_exhaustive]
    Refused {
        /// The service's name.
        policy: &'a Name,
    },
    /// A replica that was in use reports more lag than the bound: reads that it has served since its report before may have been
    /// stale.
    #[non_exhaustive]
    LagExceeded {
        /// The service's name.
        policy: &'a Name,
        /// The replica's position.
        replica: usize,
        /// Its lag.
        lag: Duration,
        /// The bound.
        bound: Duration,
    },
}
