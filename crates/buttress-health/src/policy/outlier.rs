//! Which endpoint is to be ejected, and for how long: the rules of Envoy's outlier detection and of gRPC's A50.
//!
//! ```text
//!            a row is full, or a rate stands out
//!         ┌────────────────────────────────────────┐
//!         │                                        v
//!      admitted                                 ejected
//!      multiplier − 1 each whole interval       multiplier + 1, for base × multiplier
//!         ^                                        │
//!         └────────────────────────────────────────┘
//!            the time is over, or a health check passes
//! ```
//!
//! Sources: Envoy's `outlier_detection_impl.cc` and the page on its architecture; gRPC proposal A50. Where this differs
//! from both, the item says so.

mod ejection;
mod rates;
mod rows;

use std::fmt;
use std::time::Duration;

pub(crate) use ejection::{Term, chance, max_ejected};
pub(crate) use rates::{Tally, above_failure_percentage, below_success_rate};
pub(crate) use rows::{Full, Rows};

/// Why an endpoint was ejected, and the rule that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EjectionReason {
    /// So many failures in a row, whatever they were.
    Consecutive5xx,
    /// So many gateway failures in a row: 502, 503, 504, or no response at all.
    ConsecutiveGatewayFailure,
    /// So many failures in a row without a response, where these are [split](crate::OutlierDetection::split_local_origin)
    /// from the others.
    ConsecutiveLocalOriginFailure,
    /// Its success rate is far below that of the others.
    SuccessRate,
    /// Too many of its calls fail, whatever the others do.
    FailurePercentage,
    /// An operator said so.
    ByHand,
}

impl EjectionReason {
    pub(crate) const COUNT: usize = 6;

    /// The name of the rule, as in Envoy's settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::ByHand => "by_hand",
        }
    }
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a failure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The service answered, and its answer is a failure.
    Service,
    /// A gateway answered for a service that it could not reach: 502, 503, 504.
    Gateway,
    /// There was no answer: no connection, a reset, a timeout.
    Local,
}

/// What a result says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Success,
    Failure(Fault),
    /// It asks for less: that is no success, and no failure in a row either.
    Soft,
}

/// What is checked of the settings, and then never changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) consecutive_5xx: u32,
    pub(crate) consecutive_gateway_failure: u32,
    pub(crate) consecutive_local_origin_failure: u32,
    pub(crate) split: bool,
    pub(crate) interval: Duration,
    pub(crate) base_ejection_time: Duration,
    pub(crate) max_ejection_time: Option<Duration>,
    pub(crate) max_ejection_time_jitter: Duration,
    pub(crate) max_ejection_percent: u32,
    pub(crate) success_rate: Volume,
    pub(crate) success_rate_stdev_factor: u32,
    pub(crate) success_rate_floor: u32,
    pub(crate) failure_percentage: Volume,
    pub(crate) failure_percentage_threshold: u32,
    /// By [`EjectionReason`].
    pub(crate) enforcing: [u32; EjectionReason::COUNT],
    pub(crate) uneject_on_check: bool,
}

/// How much has to be known before a rate is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) minimum_hosts: u32,
    pub(crate) request_volume: u32,
}

impl Default for Rules {
    fn default() -> Self {
        let mut enforcing = [100; EjectionReason::COUNT];
        enforcing[EjectionReason::ConsecutiveGatewayFailure as usize] = 0;
        enforcing[EjectionReason::FailurePercentage as usize] = 0;
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            consecutive_local_origin_failure: 5,
            split: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: None,
            max_ejection_time_jitter: Duration::from_secs(3),
            max_ejection_percent: 10,
            success_rate: Volume { minimum_hosts: 5, request_volume: 100 },
            success_rate_stdev_factor: 1900,
            success_rate_floor: 95,
            failure_percentage: Volume { minimum_hosts: 5, request_volume: 50 },
            failure_percentage_threshold: 85,
            enforcing,
            uneject_on_check: true,
        }
    }
}

impl Rules {
    /// The longest that an ejection may take, jitter apart.
    pub(crate) fn longest(&self) -> Duration {
        self.max_ejection_time.unwrap_or_else(|| self.base_ejection_time.max(Duration::from_secs(300)))
    }
}
