//! An upstream's circuit breaker.

use std::time::Duration;

use buttress::circuit_breaker::{Settings, SettingsError, Window};
use serde::Deserialize;
use toml::Spanned;

use super::{
    said,
    value::{Count, Text},
};

/// When to leave an upstream alone; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitBreaker {
    failure_rate: Option<f64>,
    minimum_calls: Option<Count>,
    window: Option<Spanned<Text<Duration>>>,
    consecutive_failures: Option<Count>,
    slow: Option<Spanned<Text<Duration>>>,
    slow_rate: Option<f64>,
    open: Option<Spanned<Text<Duration>>>,
    longest_open: Option<Spanned<Text<Duration>>>,
    probes: Option<Count>,
}

impl CircuitBreaker {
    /// What it says, over the defaults of the layer.
    pub(crate) fn settings(&self) -> Settings {
        let open = said(self.open.as_ref()).unwrap_or(Duration::from_secs(5));
        let longest = said(self.longest_open.as_ref()).unwrap_or(Duration::from_secs(60).max(open));
        let mut settings = Settings::default().open_for(open, longest);
        if let Some(rate) = self.failure_rate {
            settings = settings.failure_rate(rate);
        }
        if let Some(calls) = self.minimum_calls {
            settings = settings.minimum_calls(calls.at_most_u32());
        }
        if let Some(window) = said(self.window.as_ref()) {
            settings = settings.window(Window::time(window));
        }
        if let Some(calls) = self.consecutive_failures {
            settings = settings.consecutive_failures(calls.at_most_u32());
        }
        if let Some(slow) = said(self.slow.as_ref()) {
            settings = settings.slow_calls(slow, self.slow_rate.unwrap_or(1.0));
        }
        if let Some(probes) = self.probes {
            settings = settings.probes(probes.at_most_u32());
        }
        settings
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        super::check::wait("window", self.window.as_ref())?;
        super::check::wait("slow", self.slow.as_ref())?;
        super::check::wait("open", self.open.as_ref())?;
        super::check::wait("longest_open", self.longest_open.as_ref())?;
        if self.slow.is_none() && self.slow_rate.is_some() {
            let message = "slow_rate is the share of calls that are slow: write slow = \"2s\" as well";
            return Err((None, message.to_owned()));
        }
        let unfit = |error: SettingsError| (None, error.to_string());
        self.settings().rules().map(drop).map_err(unfit)
    }
}
