use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Endpoints, Name};

use super::core::{Core, Observer};
use super::{OutlierSettingsError, Outliers};
use crate::policy::outlier::{Rows, Rules};
use crate::{EjectionReason, HealthEvent};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ejects the endpoints whose calls fail, for a time: the settings, under Envoy's names.
///
/// | setting | default | why |
/// |---|---|---|
/// | `consecutive_5xx` | 5 | Envoy's |
/// | `consecutive_gateway_failure` | 5, enforced in 0 % | Envoy's: they are among the 5xx |
/// | `consecutive_local_origin_failure` | 5, when split | Envoy's |
/// | `split_local_origin` | off | Envoy's |
/// | `interval` | 10 s | Envoy's |
/// | `base_ejection_time` | 30 s, times the ejections in a row | Envoy's |
/// | `max_ejection_time` | 300 s, or the base if that is longer | Envoy's |
/// | `max_ejection_time_jitter` | 3 s | Envoy's is 0: then what was ejected at one moment comes back at one moment |
/// | `max_ejection_percent` | 10 % of a priority, and one in any case, never the last usable | Envoy's, of a cluster, ejects too many of few or none |
/// | `success_rate_minimum_hosts`, `success_rate_request_volume` | 5, 100 | Envoy's |
/// | `success_rate_stdev_factor` | 1900, which is 1.9 | Envoy's |
/// | `success_rate_floor` | 95 % | Envoy has none: where all succeed alike, the least bad would go |
/// | `failure_percentage_threshold` | 85 %, enforced in 0 % | Envoy's; gRPC enforces it |
/// | `failure_percentage_minimum_hosts`, `failure_percentage_request_volume` | 5, 50 | Envoy's |
/// | `uneject_on_health_check` | on | Envoy's `successful_active_health_check_uneject_host` |
/// | `clock` | [`Clock::default`] | |
///
/// Nothing is checked until [`follow`](Self::follow), so that the order of the methods does not matter.
#[derive(Clone)]
#[must_use = "it watches nothing until it follows a list of endpoints"]
pub struct OutlierDetection {
    rules: Rules,
    name: Name,
    clock: Clock,
    seed: Option<u64>,
    observer: Option<Observer>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            name: Name::from_static("default"),
            clock: Clock::default(),
            seed: None,
            observer: None,
        }
    }
}

impl OutlierDetection {
    /// Ejects after so many failures in a row, from 1 to 8 000: responses that are failures, and calls without one
    /// unless these are [split off](Self::split_local_origin).
    pub const fn consecutive_5xx(mut self, failures: u32) -> Self {
        self.rules.consecutive_5xx = failures;
        self
    }

    /// Ejects after so many gateway failures in a row, from 1 to 8 000: 502, 503 and 504, and calls without a response
    /// unless these are [split off](Self::split_local_origin). Enforced in no case unless
    /// [`enforcing`](Self::enforcing) says so.
    pub const fn consecutive_gateway_failure(mut self, failures: u32) -> Self {
        self.rules.consecutive_gateway_failure = failures;
        self
    }

    /// Ejects after so many failures in a row without a response, from 1 to 8 000, where these are
    /// [split off](Self::split_local_origin).
    pub const fn consecutive_local_origin_failure(mut self, failures: u32) -> Self {
        self.rules.consecutive_local_origin_failure = failures;
        self
    }

    /// Counts calls that get no response (no connection, a reset, a timeout) in a row of their own, and no longer as 5xx
    /// and gateway failures. The rates are of all calls either way.
    pub const fn split_local_origin(mut self) -> Self {
        self.rules.split = true;
        self
    }

    /// Judges rates once in so long a time, from a millisecond to a day, and takes one ejection back from those that had
    /// none.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.rules.interval = interval;
        self
    }

    /// Ejects for so long, a millisecond at least, times the number of ejections in a row.
    pub const fn base_ejection_time(mut self, time: Duration) -> Self {
        self.rules.base_ejection_time = time;
        self
    }

    /// Ejects for so long at most, jitter apart.
    pub const fn max_ejection_time(mut self, time: Duration) -> Self {
        self.rules.max_ejection_time = Some(time);
        self
    }

    /// Makes each ejection longer by a random time of up to `jitter`, so that those which began together do not end
    /// together.
    pub const fn max_ejection_time_jitter(mut self, jitter: Duration) -> Self {
        self.rules.max_ejection_time_jitter = jitter;
        self
    }

    /// Ejects so many percent of the endpoints of a priority at most, from 1 to 100, rounded down; one in any case, and
    /// never the last that is usable.
    pub const fn max_ejection_percent(mut self, percent: u32) -> Self {
        self.rules.max_ejection_percent = percent;
        self
    }

    /// Judges success rates when so many endpoints of a priority, one at least, have the
    /// [volume](Self::success_rate_request_volume).
    pub const fn success_rate_minimum_hosts(mut self, hosts: u32) -> Self {
        self.rules.success_rate.minimum_hosts = hosts;
        self
    }

    /// Judges the success rate of an endpoint that had so many calls in the interval, one at least.
    pub const fn success_rate_request_volume(mut self, calls: u32) -> Self {
        self.rules.success_rate.request_volume = calls;
        self
    }

    /// Ejects whose success rate is below the mean by more than so many thousandths of the standard deviation, from 1 to
    /// 100 000.
    pub const fn success_rate_stdev_factor(mut self, thousandths: u32) -> Self {
        self.rules.success_rate_stdev_factor = thousandths;
        self
    }

    /// Lets the success rate eject only those of whose calls less than so many percent succeed, from 1 to 100; 100 is as
    /// Envoy has it.
    pub const fn success_rate_floor(mut self, percent: u32) -> Self {
        self.rules.success_rate_floor = percent;
        self
    }

    /// Ejects of whose calls so many percent fail, from 1 to 100, whatever the others do. Enforced in no case unless
    /// [`enforcing`](Self::enforcing) says so.
    pub const fn failure_percentage_threshold(mut self, percent: u32) -> Self {
        self.rules.failure_percentage_threshold = percent;
        self
    }

    /// Judges failure percentages when so many endpoints of a priority, one at least, have the
    /// [volume](Self::failure_percentage_request_volume).
    pub const fn failure_percentage_minimum_hosts(mut self, hosts: u32) -> Self {
        self.rules.failure_percentage.minimum_hosts = hosts;
        self
    }

    /// Judges the failure percentage of an endpoint that had so many calls in the interval, one at least.
    pub const fn failure_percentage_request_volume(mut self, calls: u32) -> Self {
        self.rules.failure_percentage.request_volume = calls;
        self
    }

    /// Ejects by this rule in so many percent of the cases in which it applies, from 0 to 100. With 0 it only tells the
    /// observer, which is how to try a rule out. What a hand ejects is always ejected.
    pub const fn enforcing(mut self, rule: EjectionReason, percent: u32) -> Self {
        self.rules.enforcing[rule as usize] = percent;
        self
    }

    /// Says whether an active health check that passes ends an ejection. It does unless this says otherwise.
    pub const fn uneject_on_health_check(mut self, unejects: bool) -> Self {
        self.rules.uneject_on_check = unejects;
        self
    }

    /// Names the detection, in events. The default is `default`.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Tells `observer` of each ejection, of its end, and of each that was skipped: one at a time, in order, outside every
    /// lock, by the call or the task that caused it, which waits. There is none unless said otherwise.
    pub fn observe(mut self, observer: impl Fn(&HealthEvent<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock` instead of [`Clock::default`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Draws its random numbers (jitter, [`enforcing`](Self::enforcing)) from this seed, so that a run can be repeated.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Watches these endpoints, those that are in the list now and those that come.
    ///
    /// # Panics
    ///
    /// When [`try_follow`](Self::try_follow) fails.
    #[must_use]
    #[track_caller]
    pub fn follow(&self, endpoints: &Endpoints) -> Outliers {
        self.try_follow(endpoints).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Watches these endpoints; for settings that come from a configuration file.
    ///
    /// # Errors
    ///
    /// When a setting cannot work: the error names it and says what would be right.
    pub fn try_follow(&self, endpoints: &Endpoints) -> Result<Outliers, OutlierSettingsError> {
        self.check()?;
        let Self { rules, name, clock, observer, .. } = self.clone();
        Ok(Outliers::new(Arc::new(Core::new(name, rules, clock, endpoints.clone(), observer, self.seed))))
    }

    fn check(&self) -> Result<(), OutlierSettingsError> {
        let rules = &self.rules;
        let rows = [
            ("consecutive_5xx", rules.consecutive_5xx),
            ("consecutive_gateway_failure", rules.consecutive_gateway_failure),
            ("consecutive_local_origin_failure", rules.consecutive_local_origin_failure),
        ];
        for (field, failures) in rows {
            check(
                field,
                failures,
                (1..=Rows::MOST).contains(&failures),
                "must be between 1 and 8000 failures",
            )?;
        }
        let percents = [
            ("max_ejection_percent", rules.max_ejection_percent),
            ("success_rate_floor", rules.success_rate_floor),
            ("failure_percentage_threshold", rules.failure_percentage_threshold),
        ];
        for (field, percent) in percents {
            check(field, percent, (1..=100).contains(&percent), "must be between 1 and 100 percent")?;
        }
        let volumes = [
            ("success_rate_minimum_hosts", rules.success_rate.minimum_hosts),
            ("success_rate_request_volume", rules.success_rate.request_volume),
            ("failure_percentage_minimum_hosts", rules.failure_percentage.minimum_hosts),
            ("failure_percentage_request_volume", rules.failure_percentage.request_volume),
        ];
        for (field, least) in volumes {
            check(field, least, least > 0, "must be 1 or more")?;
        }
        let factor = rules.success_rate_stdev_factor;
        let of_factor = "must be between 1 and 100000 thousandths";
        check("success_rate_stdev_factor", factor, (1..=100_000).contains(&factor), of_factor)?;
        for (rule, percent) in rules.enforcing.into_iter().enumerate() {
            let by_hand = rule == EjectionReason::ByHand as usize;
            check("enforcing", percent, percent <= 100, "must be between 0 and 100 percent")?;
            check(
                "enforcing",
                percent,
                !by_hand || percent == 100,
                "must be 100 percent for what a hand ejects",
            )?;
        }
        let shortest = Duration::from_millis(1);
        let interval = rules.interval;
        check("interval", interval, (shortest..=DAY).contains(&interval), "must be between 1ms and a day")?;
        let base = rules.base_ejection_time;
        check("base_ejection_time", base, base >= shortest, "must be 1ms or more")?;
        let longest = rules.longest();
        check("max_ejection_time", longest, longest >= base, "must be `base_ejection_time` or more")
    }
}

fn check(
    field: &'static str,
    value: impl fmt::Debug,
    is_right: bool,
    rule: &'static str,
) -> Result<(), OutlierSettingsError> {
    if is_right { Ok(()) } else { Err(OutlierSettingsError::new(field, value, rule)) }
}

impl fmt::Debug for OutlierDetection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierDetection")
            .field("name", &self.name)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
