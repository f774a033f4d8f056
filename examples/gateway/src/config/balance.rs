//! How an upstream with several endpoints is balanced.

use std::{num::NonZeroU32, time::Duration};

use buttress::{
    Name,
    balance::{
        AnyPolicy, Balancer, ConsistentHash, LeastLoad, Members, Priorities, Settings, SlowStart, Static,
    },
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    said,
    value::{BalanceKey, Count, FromText, Text},
};

/// Which endpoint gets a call; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Balance {
    policy: Option<Text<PolicyName>>,
    key: Option<Text<BalanceKey>>,
    bounded_load: Option<Spanned<f64>>,
    max_in_flight: Option<Count>,
    fail_fast: Option<Spanned<Text<Duration>>>,
    slow_start: Option<Spanned<Text<Duration>>>,
    drain: Option<Spanned<Text<Duration>>>,
    panic_percent: Option<Spanned<u8>>,
    zone: Option<String>,
}

/// A policy by its name: which of [`POLICIES`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PolicyName(usize);

type Make = fn() -> AnyPolicy;

const POLICIES: [(&str, Make); 10] = [
    ("peak_ewma", || LeastLoad::peak_ewma().into()),
    ("least_connections", || LeastLoad::connections().into()),
    ("least_response_time", || LeastLoad::response_time().into()),
    ("hot_cold", || LeastLoad::hot_cold().into()),
    ("round_robin", || Static::round_robin().into()),
    ("random", || Static::random().into()),
    ("ring", || ConsistentHash::ring().into()),
    ("nginx_ring", || ConsistentHash::ring().preset(buttress::balance::Ring::NginxCrc32).into()),
    ("maglev", || ConsistentHash::maglev().into()),
    ("rendezvous", || ConsistentHash::rendezvous().into()),
];

impl FromText for PolicyName {
    const EXPECTED: &'static str = "\"peak_ewma\", \"least_connections\", \"least_response_time\", \"hot_cold\", \
                                    \"round_robin\", \"random\", \"ring\", \"nginx_ring\", \"maglev\" or \"rendezvous\"";

    fn from_text(text: &str) -> Option<Self> {
        POLICIES.iter().position(|(name, _)| *name == text).map(Self)
    }
}

impl Balance {
    pub(crate) fn policy(&self) -> AnyPolicy {
        let PolicyName(number) = self.policy.as_ref().map(|policy| policy.0).unwrap_or_default();
        let (_, policy) = POLICIES[number];
        policy()
    }

    pub(crate) fn key(&self) -> BalanceKey {
        self.key.as_ref().map_or(BalanceKey::None, |key| key.0.clone())
    }

    /// What it says, over the defaults of the balancer.
    pub(crate) fn settings(&self, name: impl Into<Name>) -> Settings {
        let mut settings = Settings::default().name(name);
        let mut priorities = Priorities::default();
        if let Some(percent) = &self.panic_percent {
            priorities = priorities.panic_below((*percent.get_ref()).min(100));
        }
        if let Some(zone) = &self.zone {
            priorities = priorities.prefer_zone(zone.clone());
        }
        if let Some(factor) = &self.bounded_load {
            settings = settings.bounded_load(*factor.get_ref());
        }
        if let Some(calls) = self.max_in_flight.and_then(|calls| NonZeroU32::new(calls.at_most_u32())) {
            settings = settings.max_in_flight(calls);
        }
        if let Some(time) = said(self.fail_fast.as_ref()) {
            settings = settings.fail_fast(time);
        }
        if let Some(time) = said(self.slow_start.as_ref()) {
            settings = settings.slow_start(SlowStart::new(time));
        }
        if let Some(time) = said(self.drain.as_ref()) {
            settings = settings.drain(time);
        }
        settings.priorities(priorities)
    }

    pub(super) fn check(&self, nodes: Vec<buttress::Endpoint>) -> Result<(), super::Finding> {
        super::check::wait("fail_fast", self.fail_fast.as_ref())?;
        super::check::wait("slow_start", self.slow_start.as_ref())?;
        super::check::wait("drain", self.drain.as_ref())?;
        if let Some(percent) = self.panic_percent.as_ref().filter(|percent| *percent.get_ref() > 100) {
            let message = format!("panic_percent is {}; make it 100 at most", percent.get_ref());
            return Err((Some(percent.span()), message));
        }
        let members = Members::from(nodes.into_iter().map(|endpoint| (endpoint, ())).collect::<Vec<_>>());
        Balancer::try_new(members)
            .and_then(|balancer| balancer.try_policy(self.policy()))
            .and_then(|balancer| balancer.try_settings(self.settings("check")))
            .map(drop)
            .map_err(|error| (self.bounded_load.as_ref().map(Spanned::span), error.to_string()))
    }
}
