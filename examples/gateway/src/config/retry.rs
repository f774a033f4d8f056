//! A route's retries.

use std::{collections::BTreeSet, time::Duration};

use buttress::retry::{Backoff, Budget};
use http::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::{
    said,
    value::{Count, Text},
};

/// When a call is tried again; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    attempts: Option<Count>,
    statuses: Option<BTreeSet<u16>>,
    backoff: Option<Spanned<Text<Duration>>>,
    longest_backoff: Option<Spanned<Text<Duration>>>,
    budget: Option<f64>,
    min_per_second: Option<Count>,
    attempt_header: Option<Text<HeaderName>>,
    no_retry_header: Option<Text<HeaderName>>,
}

impl Retry {
    /// 3 in all, as the layer has it.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.map_or(3, Count::at_most_u32)
    }

    pub(crate) fn statuses(&self) -> Option<impl Iterator<Item = u16> + '_> {
        self.statuses.as_ref().map(|statuses| statuses.iter().copied())
    }

    pub(crate) fn backoff(&self) -> Backoff {
        let (first, longest) = self.waits();
        Backoff::exponential(first, longest)
    }

    /// The retries of this route, all its connections together.
    pub(crate) fn budget(&self) -> Budget {
        let least = self.min_per_second.map_or(10, Count::at_most_u32);
        Budget::try_ratio(self.ratio())
            .expect("checked when the configuration was read")
            .min_per_second(least)
    }

    /// The field that tells the upstream which attempt it sees.
    pub(crate) fn attempt_header(&self) -> Option<&HeaderName> {
        self.attempt_header.as_ref().map(|name| &name.0)
    }

    /// The field by which an answer says, and is told, not to be asked for again.
    pub(crate) fn no_retry_header(&self) -> Option<&HeaderName> {
        self.no_retry_header.as_ref().map(|name| &name.0)
    }

    fn ratio(&self) -> f64 {
        self.budget.unwrap_or(0.2)
    }

    fn waits(&self) -> (Duration, Duration) {
        let first = said(self.backoff.as_ref()).unwrap_or(Duration::from_millis(25));
        (first, said(self.longest_backoff.as_ref()).unwrap_or(Duration::from_secs(1).max(first)))
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        super::check::wait("backoff", self.backoff.as_ref())?;
        super::check::wait("longest_backoff", self.longest_backoff.as_ref())?;
        let (first, longest) = self.waits();
        if longest < first {
            let span = self.longest_backoff.as_ref().map(Spanned::span);
            return Err((span, "longest_backoff is below backoff: make it at least as long".to_owned()));
        }
        if let Some(status) = self.statuses.iter().flatten().find(|status| !(400..=599).contains(*status)) {
            return Err((None, format!("{status} is no status of an error: write statuses from 400 to 599")));
        }
        Budget::try_ratio(self.ratio()).map(drop).map_err(|error| (None, error.to_string()))
    }
}
