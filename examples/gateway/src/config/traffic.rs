//! Upstreams in front of upstreams: sessions that stay, traffic that is split, copies of it.

use std::time::Duration;

use buttress::{
    Endpoints,
    balance::{StickyError, StickyLayer},
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    said,
    value::{BalanceKey, Text},
};

/// Keeps a client at its endpoint by a cookie; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sticky {
    cookie: Option<String>,
    key: String,
    former_key: Option<String>,
    max_age: Option<Spanned<Text<Duration>>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    survive_drain: bool,
}

impl Sticky {
    pub(crate) fn layer(&self, upstream: &str, endpoints: &Endpoints) -> Result<StickyLayer, StickyError> {
        let cookie = self.cookie.clone().unwrap_or_else(|| "SERVERID".to_owned());
        let mut keys = StickyLayer::cookie(cookie).try_key(&self.key)?;
        if let Some(former) = &self.former_key {
            keys = keys.try_former_key(former)?;
        }
        let mut layer = keys.try_over(endpoints)?.pool(upstream.to_owned()).named(upstream.to_owned());
        if let Some(age) = said(self.max_age.as_ref()) {
            layer = layer.max_age(age);
        }
        if self.insecure {
            layer = layer.insecure();
        }
        Ok(if self.survive_drain { layer.survive_drain() } else { layer })
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        super::check::wait("max_age", self.max_age.as_ref())?;
        let nothing = Endpoints::new([]).expect("no name comes twice");
        self.layer("check", &nothing).map(drop).map_err(|error| (None, error.to_string()))
    }
}

/// One of the upstreams that traffic is split over.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Side {
    pub(crate) upstream: Spanned<String>,
    pub(crate) weight: u32,
}

/// What gets a copy of the traffic.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mirror {
    pub(crate) upstream: Spanned<String>,
    percent: Option<Spanned<u8>>,
    key: Option<Text<BalanceKey>>,
    #[serde(default)]
    pub(crate) safe_only: bool,
}

impl Mirror {
    /// The share of the requests that is mirrored, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        f64::from(self.percent.as_ref().map_or(100, |percent| *percent.get_ref()).min(100)) / 100.0
    }

    pub(crate) fn key(&self) -> BalanceKey {
        self.key.as_ref().map_or(BalanceKey::None, |key| key.0.clone())
    }

    pub(super) fn check(&self) -> Result<(), super::Finding> {
        match &self.percent {
            Some(percent) if *percent.get_ref() > 100 => {
                Err((Some(percent.span()), format!("percent is {}; make it 100 at most", percent.get_ref())))
            }
            _ => Ok(()),
        }
    }
}
