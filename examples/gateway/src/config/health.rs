//! How an upstream's endpoints are found to be well, or not.

use std::time::Duration;

use buttress::health::{HealthCheck, Http, OutlierDetection};
use serde::Deserialize;
use toml::Spanned;

use super::{
    said,
    value::{Count, Text},
};

/// Asks each endpoint; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    path: Spanned<String>,
    interval: Option<Spanned<Text<Duration>>>,
    timeout: Option<Spanned<Text<Duration>>>,
    unhealthy_threshold: Option<Count>,
    healthy_threshold: Option<Count>,
}

impl Health {
    pub(crate) fn check_of(&self) -> HealthCheck<Http> {
        let mut check = HealthCheck::http(self.path.get_ref().clone());
        if let Some(interval) = said(self.interval.as_ref()) {
            check = check.interval(interval).fast_interval(interval.min(Duration::from_secs(1)));
        }
        if let Some(timeout) = said(self.timeout.as_ref()) {
            check = check.timeout(timeout);
        }
        if let Some(failures) = self.unhealthy_threshold {
            check = check.unhealthy_threshold(failures.at_most_u32());
        }
        if let Some(passes) = self.healthy_threshold {
            check = check.healthy_threshold(passes.at_most_u32());
        }
        check
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        super::check::wait("interval", self.interval.as_ref())?;
        super::check::wait("timeout", self.timeout.as_ref())?;
        let nothing = buttress::Endpoints::new([]).expect("no name comes twice");
        self.check_of().run(&nothing).map(drop).map_err(|error| (None, error.to_string()))
    }
}

/// Watches the calls to each endpoint; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outlier {
    consecutive_5xx: Option<Count>,
    consecutive_local_origin_failure: Option<Count>,
    base_ejection_time: Option<Spanned<Text<Duration>>>,
    max_ejection_percent: Option<Count>,
}

impl Outlier {
    /// What it says, over the defaults of the detection.
    pub(crate) fn detection(&self) -> OutlierDetection {
        let mut detection = OutlierDetection::default();
        if let Some(failures) = self.consecutive_5xx {
            detection = detection.consecutive_5xx(failures.at_most_u32());
        }
        if let Some(failures) = self.consecutive_local_origin_failure {
            detection =
                detection.split_local_origin().consecutive_local_origin_failure(failures.at_most_u32());
        }
        if let Some(time) = said(self.base_ejection_time.as_ref()) {
            detection = detection.base_ejection_time(time);
        }
        if let Some(percent) = self.max_ejection_percent {
            detection = detection.max_ejection_percent(percent.at_most_u32());
        }
        detection
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        super::check::wait("base_ejection_time", self.base_ejection_time.as_ref())?;
        let nothing = buttress::Endpoints::new([]).expect("no name comes twice");
        self.detection().try_follow(&nothing).map(drop).map_err(|error| (None, error.to_string()))
    }
}
