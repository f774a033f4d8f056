use std::sync::Arc;
use std::time::Duration;

use crate::Ring;

/// A policy that cannot be built of these endpoints or with these settings: what is wrong, and what would be right.
///
/// ```
/// use buttress_balance::{ConsistentHash, Node};
///
/// let error = ConsistentHash::ring().build(&[Node::new("a"), Node::new("a")]).unwrap_err();
/// assert_eq!(error.to_string(), "endpoint \"a\" is given twice: each name must be another");
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The list of endpoints is empty.
    #[error("no endpoints: give at least one")]
    NoEndpoints,
    /// Two endpoints have one name.
    #[error("endpoint {name:?} is given twice: each name must be another")]
    DuplicateEndpoint {
        /// The name.
        name: Arc<str>,
    },
    /// More endpoints than the policy has room for.
    #[error("{endpoints} endpoints are too many: this policy takes {most} at most")]
    TooManyEndpoints {
        /// How many are given.
        endpoints: usize,
        /// How many would do.
        most: usize,
    },
    /// A ring of no points.
    #[error("ring with `points` = 0: must be 1 or more, and 160 spreads keys well")]
    NoPoints,
    /// The weights of the endpoints, times the points of each unit, are too many points for one ring.
    #[error(
        "weights ask for {points} points on the ring: must be {most} at most; divide all weights by one number"
    )]
    TooManyPoints {
        /// How many they ask for; `u64::MAX` also where these are more.
        points: u64,
        /// How many would do.
        most: u64,
    },
    /// A setting that the preset fixes.
    #[error(
        "`{field}` cannot be set on a ring of the preset {preset:?}: it would own other keys than its model"
    )]
    NotOfPreset {
        /// The setting.
        field: &'static str,
        /// The preset.
        preset: Ring,
    },
    /// The least and the largest size of a ring that Envoy scales, in the wrong order, 0, or out of range.
    #[error("ring with `sizes` = {least}..={largest}: must be 1 at least, {most} at most, and in this order")]
    Sizes {
        /// The least size given.
        least: u32,
        /// The largest size given.
        largest: u32,
        /// How large a ring may be.
        most: u32,
    },
    /// A table whose size is not a prime number would leave slots that some endpoints never reach.
    #[error(
        "Maglev table with `slots` = {slots}: must be a prime number up to {most}, such as 65537 or 655373"
    )]
    NotPrime {
        /// The size given.
        slots: u32,
        /// The largest that would do.
        most: u32,
    },
    /// The turns of a weighted round robin until it begins anew are too many to lay out.
    #[error(
        "weights ask for a round of {turns} turns: must be {most} at most; use weights with a common divisor"
    )]
    RoundTooLong {
        /// How many turns the weights ask for.
        turns: u64,
        /// How many would do.
        most: u64,
    },
    /// A bound on the load that would refuse even an even spread, or is not a number.
    #[error("bounded load with `factor` = {factor}: must be from 1 to {most}, and 1.25 is usual")]
    Factor {
        /// The factor given.
        factor: f64,
        /// The largest that would do.
        most: f64,
    },
    /// The list of endpoints cannot be.
    #[error(transparent)]
    Endpoints(#[from] buttress_core::EndpointsError),
    /// Fewer than one choice, or so many that all would do.
    #[error(
        "least load with `choices` = {choices}: must be from 1 to {most}, and 2 is usual; `all` looks at every endpoint"
    )]
    Choices {
        /// The choices given.
        choices: usize,
        /// The most that would do.
        most: usize,
    },
    /// A time of a [`LeastLoad`](crate::LeastLoad) policy that is out of range.
    #[error("least load with `{field}` = {value:?}: must be from {least:?} to {most:?}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// The time given.
        value: Duration,
        /// The least that would do.
        least: Duration,
        /// The most that would do.
        most: Duration,
    },
    /// A quantile that is none.
    #[error("hot and cold with `quantile` = {quantile}: must be from 0 to 1, and 0.84 is usual")]
    Quantile {
        /// The quantile given.
        quantile: f64,
    },
    /// A penalty for errors that would raise a weight, or is not a number.
    #[error("reported load with `error_penalty` = {penalty}: must be a finite number from 0, and 1 is usual")]
    ErrorPenalty {
        /// The penalty given.
        penalty: f64,
    },
}
