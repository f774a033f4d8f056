use std::time::Duration;

use buttress_core::EndpointId;

use crate::PolicyError;

/// What happens in a balancer, for whoever watches it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum BalanceEvent<'a> {
    /// The list of endpoints has changed.
    Changed {
        /// How many there are now.
        endpoints: usize,
        /// How many have joined.
        joined: usize,
        /// How many have left, and drain.
        left: usize,
    },
    /// A list of endpoints was refused: the one before it stays in use.
    Refused {
        /// Why.
        error: &'a PolicyError,
    },
    /// So few endpoints of this priority are well that all of them are used, well or not.
    Panic {
        /// The priority.
        priority: u32,
    },
    /// Enough endpoints of this priority are well again.
    Calm {
        /// The priority.
        priority: u32,
    },
    /// The last call of an endpoint that has left is over, or its time is, and its service is dropped.
    Drained {
        /// The endpoint.
        endpoint: EndpointId,
        /// How many of its calls are still in flight.
        in_flight: u32,
    },
    /// The service of an endpoint that is [readied](crate::Members::readied) before calls come has failed at it.
    NotReady {
        /// The endpoint.
        endpoint: EndpointId,
        /// After how long it is tried again.
        retry_after: Duration,
    },
    /// A call was refused, since no endpoint could take it within the time to fail fast.
    NoEndpoint {
        /// Whether there were endpoints that could serve, and all had as many calls as they may have.
        overloaded: bool,
    },
}
