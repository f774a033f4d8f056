use std::fmt;
use std::time::Duration;

/// What the parts of a check go by, as it was configured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) interval: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) fails: u32,
    pub(crate) passes: u32,
    pub(crate) fast: Option<Duration>,
    pub(crate) down: Option<Duration>,
    pub(crate) longest_down: Option<Duration>,
    pub(crate) no_traffic: Option<Duration>,
    pub(crate) passive_first: bool,
    pub(crate) initial_jitter: Option<Duration>,
    pub(crate) jitter: f64,
    pub(crate) init: Init,
    pub(crate) most_probes: usize,
}

/// Whether an endpoint is used before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    AssumeHealthy,
    WaitFirstProbe,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: None,
            fails: 3,
            passes: 2,
            fast: None,
            down: None,
            longest_down: None,
            no_traffic: None,
            passive_first: false,
            initial_jitter: None,
            jitter: 0.1,
            init: Init::AssumeHealthy,
            most_probes: 256,
        }
    }
}

impl Settings {
    pub(crate) fn rules(&self) -> Result<CheckRules, CheckError> {
        const TICK: Duration = Duration::from_millis(1);
        let Self { interval, fails, passes, jitter, most_probes, .. } = *self;
        let at_least_a_tick = |field, value: Duration| match value {
            short if short < TICK => Err(CheckError::new(field, short, "must be 1 ms at least")),
            _ => Ok(value),
        };
        let up_to_the_interval = |field, value: Duration| match value {
            long if long > interval => {
                Err(CheckError::new(field, long, "must not be longer than the interval"))
            }
            _ => at_least_a_tick(field, value),
        };

        at_least_a_tick("interval", interval)?;
        let second = Duration::from_secs(1).min(interval);
        let timeout = up_to_the_interval("timeout", self.timeout.unwrap_or(second))?;
        let fast = up_to_the_interval("fast_interval", self.fast.unwrap_or(second))?;
        let down = at_least_a_tick("down_interval", self.down.unwrap_or(interval))?;
        let longest_down = self.longest_down.unwrap_or_else(|| Duration::from_secs(30).max(down));
        if longest_down < down {
            let rule = "must not be shorter than the down interval that grows up to it";
            return Err(CheckError::new("longest_down_interval", longest_down, rule));
        }
        let no_traffic = self.no_traffic.unwrap_or_else(|| Duration::from_secs(60).max(interval));
        if no_traffic < interval {
            return Err(CheckError::new(
                "no_traffic_interval",
                no_traffic,
                "must not be shorter than the interval",
            ));
        }
        for (field, count) in [("unhealthy_threshold", fails), ("healthy_threshold", passes)] {
            if !(1..=1_000).contains(&count) {
                return Err(CheckError::new(field, count, "must be from 1 to 1000"));
            }
        }
        if !(0.0..=0.5).contains(&jitter) {
            return Err(CheckError::new("interval_jitter", jitter, "must be a share from 0 to 0.5"));
        }
        if most_probes == 0 {
            return Err(CheckError::new("max_concurrent_probes", most_probes, "must be 1 at least"));
        }
        Ok(CheckRules {
            interval,
            timeout,
            fails,
            passes,
            fast,
            down,
            longest_down,
            no_traffic,
            passive_first: self.passive_first,
            initial_jitter: self.initial_jitter.unwrap_or(interval),
            jitter_ppm: (jitter * 1e6) as u64,
            init: self.init,
            most_probes,
        })
    }
}

/// The rules of a check: settings that were found to fit together. See [`HealthCheck`](crate::HealthCheck) for what each
/// means; the default is its default.
#[derive(Clone, Debug)]
pub struct CheckRules {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) fails: u32,
    pub(crate) passes: u32,
    pub(crate) fast: Duration,
    pub(crate) down: Duration,
    pub(crate) longest_down: Duration,
    pub(crate) no_traffic: Duration,
    pub(crate) passive_first: bool,
    pub(crate) initial_jitter: Duration,
    pub(crate) jitter_ppm: u64,
    pub(crate) init: Init,
    pub(crate) most_probes: usize,
}

impl CheckRules {
    /// How long it takes at most until an endpoint that is probed at the interval, and dies, is unhealthy:
    /// `interval + (fails − 1) · fast_interval + fails · timeout`, which with the defaults is 10 s.
    ///
    /// It holds while no more than the most concurrent probes are due at one time.
    #[must_use]
    pub fn detection_bound(&self) -> Duration {
        let fast = self.fast.saturating_mul(self.fails - 1);
        let waits = self.timeout.saturating_mul(self.fails);
        self.interval.saturating_add(fast).saturating_add(waits)
    }

    /// The time between probes of an endpoint that serves.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// How long a probe may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Default for CheckRules {
    fn default() -> Self {
        Settings::default().rules().expect("the defaults fit together")
    }
}

/// A health check that cannot work: which field, what was given, and what would be right.
///
/// ```
/// use buttress_health::HealthCheck;
/// use std::time::Duration;
///
/// let check = HealthCheck::tcp().interval(Duration::from_secs(1)).timeout(Duration::from_secs(2));
/// let error = check.rules().unwrap_err();
/// assert_eq!(error.to_string(), "health check with `timeout` = 2s: must not be longer than the interval");
/// assert_eq!(error.field(), "timeout");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("health check with `{field}` = {value}: {rule}")]
pub struct CheckError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl CheckError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), rule }
    }

    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the value must be.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
