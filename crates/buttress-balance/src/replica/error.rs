use crate::PolicyError;

/// Replicas that cannot be split over.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// There are no replicas.
    #[error("no replicas: give at least one, or call the primary itself")]
    NoReplicas,
    /// No room, or too much, to remember writes in.
    #[error("`recent` = {recent}: must be from 1 to {most}; 65536 is the default and takes 1 MiB")]
    Recent {
        /// The number of places given.
        recent: usize,
        /// The largest that would do.
        most: usize,
    },
    /// More replicas than round robin has room for.
    #[error(transparent)]
    TooMany(#[from] PolicyError),
    /// An order of other endpoints than the replicas.
    #[error(
        "an order of {endpoints} endpoints for {replicas} replicas: it must be built of the replicas alone"
    )]
    Order {
        /// How many endpoints the order has.
        endpoints: usize,
        /// How many replicas there are.
        replicas: usize,
    },
}
