/// Why a [`Split`](crate::Split), or a change of its weights, is refused. Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// There is no side.
    #[error("split without sides: give at least one service")]
    NoSides,
    /// All weights are 0, so no side may have a request.
    #[error("split whose weights are all 0: at least one must be above 0")]
    NoWeight,
    /// The weights are too large together. The bound is that of Envoy's weighted clusters.
    #[error("split with weights of {total} in all: must be {most} at most; divide all of them by one number")]
    TooHeavy {
        /// What they come to.
        total: u64,
        /// What would do.
        most: u64,
    },
    /// Not one weight for each side.
    #[error("{given} weights for a split of {sides} sides: give one for each")]
    Weights {
        /// How many are given.
        given: usize,
        /// How many sides there are.
        sides: usize,
    },
    /// A side that there is not.
    #[error("side {side} of a split of {sides}: they are counted from 0")]
    NoSuchSide {
        /// The side.
        side: usize,
        /// How many sides there are.
        sides: usize,
    },
}
