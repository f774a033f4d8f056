//! A route's rate limit: the algorithm by name, whose budget, plans, cost.

use std::{collections::HashSet, time::Duration};

use buttress::{
    Clock,
    rate_limit::{
        FixedWindow, LeakyBucket, Limit, LimitError, MissingKey, Policy, SlidingLog, SlidingWindow,
    },
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Finding, Key, Rate,
    value::{Count, Text},
};

/// How many requests a key may send; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimit {
    rate: Spanned<Text<Rate>>,
    burst: Option<Count>,
    #[serde(default)]
    algorithm: Algorithm,
    wait: Option<Spanned<Text<Duration>>>,
    queue: Option<Count>,
    parts: Option<Count>,
    key: Option<Text<Key>>,
    #[serde(default)]
    missing_key: Missing,
    cost: Option<Count>,
    #[serde(default)]
    shadow: bool,
    #[serde(default, rename = "plan")]
    plans: Vec<Plan>,
}

/// Other numbers for the keys that it names, in the same algorithm.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Plan {
    name: Spanned<String>,
    rate: Spanned<Text<Rate>>,
    burst: Option<Count>,
    keys: Spanned<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    #[default]
    TokenBucket,
    LeakyBucket,
    FixedWindow,
    SlidingCounter,
    SlidingWindow,
    SlidingLog,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Missing {
    #[default]
    Shared,
    Allow,
    Deny,
}

impl RateLimit {
    /// The plans by name, the one for everybody first.
    pub(crate) fn plans(&self, default: &str) -> Result<Vec<(String, Limit)>, LimitError> {
        let mut plans = vec![(default.to_owned(), self.limit(self.rate.get_ref().0, self.burst)?)];
        for plan in &self.plans {
            let limit = self.limit(plan.rate.get_ref().0, plan.burst)?;
            plans.push((plan.name.get_ref().clone(), limit));
        }
        Ok(plans)
    }

    /// Which plan a key is on: an index into [`plans`](Self::plans).
    pub(crate) fn plan_of(&self, key: &[u8]) -> usize {
        let named = |plan: &Plan| plan.keys.get_ref().iter().any(|named| named.as_bytes() == key);
        self.plans.iter().position(named).map_or(0, |index| index + 1)
    }

    fn limit(&self, Rate { count, per }: Rate, burst: Option<Count>) -> Result<Limit, LimitError> {
        let limit = match self.algorithm {
            Algorithm::TokenBucket => {
                let limit = Limit::try_new(count, per)?;
                burst.map_or(Ok(limit.clone()), |burst| limit.try_burst(burst.0))?
            }
            Algorithm::LeakyBucket => {
                let bucket = LeakyBucket::try_new(count, per)?;
                let bucket = burst.map_or(Ok(bucket), |burst| bucket.try_burst(burst.0))?;
                let bucket =
                    self.wait.as_ref().map_or(Ok(bucket), |wait| bucket.try_wait(wait.get_ref().0))?;
                self.queue.map_or(bucket, |queue| bucket.queue(queue.at_most_u32())).into()
            }
            Algorithm::FixedWindow => {
                let clock = Clock::default();
                FixedWindow::try_new(count, per)?.aligned(clock.now(), clock.wall()).into()
            }
            Algorithm::SlidingCounter => SlidingWindow::try_new(count, per)?.into(),
            // Six parts: of a minute, ten seconds each. Units are held for a sixth longer than the window.
            Algorithm::SlidingWindow => {
                SlidingWindow::try_strict(count, per, self.parts.map_or(6, Count::at_most_u32))?.into()
            }
            Algorithm::SlidingLog => SlidingLog::try_new(count, per)?.into(),
        };
        Ok(if self.shadow { limit.shadow() } else { limit })
    }

    pub(crate) fn key(&self) -> Key {
        self.key.as_ref().map_or(Key::Ip, |key| key.0.clone())
    }

    pub(crate) fn missing_key(&self) -> MissingKey {
        match self.missing_key {
            Missing::Shared => MissingKey::Shared,
            Missing::Allow => MissingKey::Allow,
            Missing::Deny => MissingKey::Deny,
        }
    }

    pub(crate) fn cost(&self) -> u32 {
        self.cost.map_or(1, Count::at_most_u32)
    }

    /// What is wrong with it, and where if not everywhere.
    pub(super) fn check(&self) -> Result<(), Finding> {
        let only = |there: bool, key: &str, of: &[Algorithm], names: &str| {
            if there && !of.contains(&self.algorithm) {
                return Err((None, format!("{key} is for {names}: leave it out, or take that algorithm")));
            }
            Ok(())
        };
        let burst = self.burst.is_some() || self.plans.iter().any(|plan| plan.burst.is_some());
        let buckets = [Algorithm::TokenBucket, Algorithm::LeakyBucket];
        only(burst, "burst", &buckets, "token_bucket and leaky_bucket")?;
        only(self.wait.is_some(), "wait", &buckets[1..], "leaky_bucket")?;
        only(self.queue.is_some(), "queue", &buckets[1..], "leaky_bucket")?;
        only(self.parts.is_some(), "parts", &[Algorithm::SlidingWindow], "sliding_window")?;

        for rate in std::iter::once(&self.rate).chain(self.plans.iter().map(|plan| &plan.rate)) {
            super::check::rate(rate)?;
        }
        super::check::wait("wait", self.wait.as_ref())?;
        self.check_plans()?;
        let plans = self.plans("default").map_err(|error| (None, error.to_string()))?;
        match self.cost {
            Some(cost) if plans.iter().any(|(_, limit)| limit.limit() < cost.0) => {
                let message =
                    "cost is above what the limit ever lets pass at once: make it smaller, or burst larger";
                Err((None, message.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn check_plans(&self) -> Result<(), Finding> {
        let Some(first) = self.plans.first() else { return Ok(()) };
        if !matches!(self.key(), Key::Header(_)) {
            let message = "a plan names keys, so the limit is by a field: write key = \"header:x-api-key\"";
            return Err((Some(first.name.span()), message.to_owned()));
        }
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for plan in &self.plans {
            if !names.insert(plan.name.get_ref()) {
                let message =
                    format!("duplicate plan {:?}: give this one a name of its own", plan.name.get_ref());
                return Err((Some(plan.name.span()), message));
            }
            for key in plan.keys.get_ref() {
                if !keys.insert(key) {
                    let message = format!("key {key:?} is on two plans: name it once");
                    return Err((Some(plan.keys.span()), message));
                }
            }
        }
        Ok(())
    }
}
