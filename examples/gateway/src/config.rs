//! What `gateway.toml` says: read by serde, then checked as a whole.

mod admin;
mod balance;
mod breaker;
mod check;
mod extras;
mod files;
mod health;
mod limit;
mod problem;
mod retry;
mod route;
mod server;
mod tcp;
mod tls;
mod traffic;
mod value;

use std::{
    io::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use buttress::{
    Endpoint,
    key::Net,
    proxy::{Address, ClientTls, IdentityLayer},
};
use serde::Deserialize;
use toml::Spanned;

pub(crate) use admin::Admin;
use admin::Log;
pub(crate) use balance::Balance;
pub(crate) use breaker::CircuitBreaker;
use check::Finding;
use files::{Files, Made};
pub(crate) use health::{Health, Outlier};
pub(crate) use limit::RateLimit;
pub(crate) use problem::Problem;
pub(crate) use retry::Retry;
pub(crate) use route::{Route, Target};
use server::Bounds;
pub(crate) use server::{Port, Serving};
pub(crate) use tcp::TcpPort;
use tls::UpstreamTls;
pub(crate) use traffic::{Mirror, Side, Sticky};
pub(crate) use value::{BalanceKey, Key, Rate};
use value::{FieldNames, Text, Url};

use crate::{access_log, reload::Stamp};

/// One whole configuration, checked: each route names an upstream that exists, no name comes twice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    listen: Option<Spanned<Text<SocketAddr>>>,
    #[serde(default, rename = "listener")]
    listeners: Vec<Port>,
    server: Option<Spanned<Bounds>>,
    #[serde(default)]
    tcp: Vec<Spanned<TcpPort>>,
    header_timeout: Option<Spanned<Text<Duration>>>,
    send_timeout: Option<Spanned<Text<Duration>>>,
    drain: Option<Spanned<Text<Duration>>>,
    pre_drain: Option<Spanned<Text<Duration>>>,
    #[serde(default)]
    trusted_proxies: Vec<Text<Net>>,
    #[serde(default)]
    identity_fields: Vec<Text<FieldNames>>,
    admin: Option<Spanned<Admin>>,
    access_log: Option<Spanned<Log>>,
    #[serde(default, rename = "upstream")]
    pub(crate) upstreams: Vec<Upstream>,
    #[serde(default, rename = "route")]
    routes: Vec<Spanned<Route>>,
    #[serde(skip)]
    files: Vec<(PathBuf, Stamp)>,
}

/// A service that answers, at one address or several; or several upstreams under one name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    name: Spanned<String>,
    url: Option<Text<Url>>,
    #[serde(default)]
    http2: bool,
    #[serde(default, rename = "endpoint")]
    endpoints: Vec<Spanned<EndpointOf>>,
    #[serde(default)]
    split: Vec<Side>,
    split_key: Option<Text<BalanceKey>>,
    balance: Option<Spanned<Balance>>,
    health: Option<Spanned<Health>>,
    sticky: Option<Spanned<Sticky>>,
    mirror: Option<Spanned<Mirror>>,
    outlier: Option<Spanned<Outlier>>,
    circuit_breaker: Option<Spanned<CircuitBreaker>>,
    tls: Option<Spanned<UpstreamTls>>,
    #[serde(skip)]
    made_tls: Option<Made<ClientTls>>,
}

/// One of the addresses of an upstream.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointOf {
    url: Text<Url>,
    weight: Option<u32>,
    zone: Option<String>,
    priority: Option<u32>,
}

impl EndpointOf {
    fn at(url: Url) -> Self {
        Self { url: Text(url), weight: None, zone: None, priority: None }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.url.0.address
    }

    /// As it stands in the file.
    pub(crate) fn url(&self) -> &str {
        &self.url.0.text
    }

    /// As a balancer has it: its name is its address, and its address is what stands in the file.
    fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::new(self.address().to_string())
            .with_address(self.url.0.text.clone())
            .with_weight(self.weight.unwrap_or(1))
            .with_priority(self.priority.unwrap_or(0));
        match &self.zone {
            Some(zone) => endpoint.with_zone(zone.clone()),
            None => endpoint,
        }
    }
}

/// How long a call may take; see `gateway.toml` for what each one bounds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeout {
    head: Option<Spanned<Text<Duration>>>,
    idle: Option<Spanned<Text<Duration>>>,
    total: Option<Spanned<Text<Duration>>>,
}

impl Config {
    /// Reads and checks the file at `path`, and the files that it names.
    pub(crate) fn load(path: &Path) -> Result<Self, Problem> {
        let mut files = Files::beside(path);
        let text = files.read_at(path).and_then(|text| String::from_utf8(text).map_err(Error::other));
        let text = text.map_err(|error| Problem::unreadable(path, &error))?;
        let mut config = Self::parse(path, &text)?;
        config.read(&mut files).map_err(|(span, message)| Problem::at(path, &text, span, message))?;
        config.files = files.into_read();
        Ok(config)
    }

    /// Checks `text`; `path` is what its problems are reported under. The files that it names are not read.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let config: Self = toml::from_str(text)
            .map_err(|error| Problem::at(path, text, error.span(), error.message().to_owned()))?;
        check::check(&config, text).map_err(|(span, message)| Problem::at(path, text, span, message))?;
        Ok(config)
    }

    fn read(&mut self, files: &mut Files) -> Result<(), Finding> {
        for port in &mut self.listeners {
            port.load(files)?;
        }
        for upstream in &mut self.upstreams {
            if let Some(tls) = &upstream.tls {
                let made = tls.get_ref().load(files);
                let made = made.map_err(|(at, message)| (at.or(Some(tls.span())), message))?;
                upstream.made_tls = Some(made);
            }
        }
        Ok(())
    }

    /// The files that it was read from, each as it was a little before.
    pub(crate) fn files(&self) -> &[(PathBuf, Stamp)] {
        &self.files
    }

    /// Where clients connect: at the `default` where nothing is said.
    pub(crate) fn ports(&self, default: SocketAddr) -> Vec<Port> {
        if self.listeners.is_empty() {
            vec![Port::plain(self.listen.as_ref().map_or(default, |listen| listen.get_ref().0))]
        } else {
            self.listeners.clone()
        }
    }

    /// Ports whose connections are forwarded as they are.
    pub(crate) fn tcp(&self) -> impl Iterator<Item = &TcpPort> + Clone {
        self.tcp.iter().map(Spanned::get_ref)
    }

    /// What clients get at each port.
    pub(crate) fn serving(&self) -> Serving {
        Serving::of(self)
    }

    /// 30 s: ample for a phone on a train, and an end for a client that never means to finish.
    pub(crate) fn header_timeout(&self) -> Duration {
        said(self.header_timeout.as_ref()).unwrap_or(Duration::from_secs(30))
    }

    /// 60 s, as nginx' `send_timeout`: a kernel asks for more only when a third of its buffer is free, which is up to
    /// 1 MiB, and a slow client that does read needs its time for that.
    pub(crate) fn send_timeout(&self) -> Duration {
        said(self.send_timeout.as_ref()).unwrap_or(Duration::from_secs(60))
    }

    /// 30 s: as long as an answer's head may take, and what process managers grant before they kill.
    pub(crate) fn drain(&self) -> Duration {
        said(self.drain.as_ref()).unwrap_or(Duration::from_secs(30))
    }

    /// None: a balancer in front that has to hear of the drain first is told to the file.
    pub(crate) fn pre_drain(&self) -> Duration {
        said(self.pre_drain.as_ref()).unwrap_or_default()
    }

    pub(crate) fn trusted_proxies(&self) -> impl Iterator<Item = Net> + '_ {
        self.trusted_proxies.iter().map(|net| net.0)
    }

    /// The routes, in the order of the file.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> + Clone {
        self.routes.iter().map(Spanned::get_ref)
    }

    /// Where operators connect, if anywhere.
    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.admin.as_ref().map(Spanned::get_ref)
    }

    /// What is written of each request, if anything.
    pub(crate) fn access_log(&self) -> Option<access_log::Settings> {
        self.access_log.as_ref().map(|log| log.get_ref().settings())
    }

    /// What removes the fields that say who the caller is, where there are any, or certificates that say it.
    pub(crate) fn identity(&self) -> Option<IdentityLayer> {
        let asks_clients = self.listeners.iter().any(Port::asks_clients);
        (asks_clients || !self.identity_fields.is_empty()).then(|| {
            let layer = IdentityLayer::new().behind(self.trusted_proxies());
            self.identity_fields.iter().fold(layer, |layer, field| match &field.0 {
                FieldNames::One(name) => layer.field(name),
                FieldNames::Beginning(prefix) => layer.prefix(prefix),
            })
        })
    }

    /// The upstream called `name`.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| upstream.name() == name)
    }
}

fn said(value: Option<&Spanned<Text<Duration>>>) -> Option<Duration> {
    value.map(|value| value.get_ref().0)
}

impl Upstream {
    pub(crate) fn name(&self) -> &str {
        self.name.get_ref()
    }

    /// Its addresses: one at least, unless it splits its traffic.
    pub(crate) fn endpoints(&self) -> Vec<EndpointOf> {
        let one = self.url.iter().map(|url| EndpointOf::at(url.0.clone()));
        one.chain(self.endpoints.iter().map(|endpoint| endpoint.get_ref().clone())).collect()
    }

    fn urls(&self) -> impl Iterator<Item = &Url> {
        let endpoints = self.endpoints.iter().map(|endpoint| &endpoint.get_ref().url.0);
        self.url.iter().map(|url| &url.0).chain(endpoints)
    }

    /// The same as a balancer has them.
    pub(crate) fn list(&self) -> Vec<Endpoint> {
        self.endpoints().iter().map(EndpointOf::endpoint).collect()
    }

    /// Whether it is spoken to in HTTP/2 alone.
    pub(crate) fn http2(&self) -> bool {
        self.http2
    }

    pub(crate) fn balance(&self) -> Balance {
        self.balance.as_ref().map(|balance| balance.get_ref().clone()).unwrap_or_default()
    }

    /// How it is spoken to over TLS, where that is said.
    pub(crate) fn tls(&self) -> Option<&ClientTls> {
        self.made_tls.as_ref().map(|made| &made.value)
    }

    /// The upstreams that it splits its traffic over; none where it has addresses of its own.
    pub(crate) fn split(&self) -> &[Side] {
        &self.split
    }

    pub(crate) fn split_key(&self) -> BalanceKey {
        self.split_key.as_ref().map_or(BalanceKey::None, |key| key.0.clone())
    }

    pub(crate) fn health(&self) -> Option<&Health> {
        self.health.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn outlier(&self) -> Option<&Outlier> {
        self.outlier.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn circuit_breaker(&self) -> Option<&CircuitBreaker> {
        self.circuit_breaker.as_ref().map(Spanned::get_ref)
    }

    /// Whether it is one address, and nothing is asked of it but to send requests there.
    pub(crate) const fn is_plain(&self) -> bool {
        self.url.is_some()
            && self.split.is_empty()
            && self.balance.is_none()
            && self.health.is_none()
            && self.sticky.is_none()
            && self.mirror.is_none()
            && self.outlier.is_none()
            && self.circuit_breaker.is_none()
    }

    /// All that makes it what it is, its addresses apart: these may change while it stays. Where there is nothing but an
    /// address, there is nothing to keep.
    pub(crate) fn settings(&self, config: &Config) -> impl PartialEq + use<> {
        let copies = self.mirror().and_then(|mirror| config.upstream(mirror.upstream.get_ref())).cloned();
        let has_one = self.endpoints().len() == 1;
        let plain = self.url.clone().filter(|_| self.is_plain());
        (self.apart(), has_one, plain, copies, config.trusted_proxies().collect::<Vec<_>>())
    }

    /// Itself without its addresses.
    pub(crate) fn apart(&self) -> Self {
        Self { url: None, endpoints: Vec::new(), ..self.clone() }
    }

    /// Puts these addresses in the place of those it has, in order.
    pub(crate) fn set_addresses(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let places = self.url.iter_mut().map(|url| &mut url.0);
        let places = places.chain(self.endpoints.iter_mut().map(|endpoint| &mut endpoint.get_mut().url.0));
        places.zip(addresses).for_each(|(place, address)| *place = address.into());
    }
}

impl Timeout {
    /// 30 s: long enough for a slow report, short enough that a hung upstream does not pile calls up.
    pub(crate) fn head(&self) -> Duration {
        let default = self.total().unwrap_or(Duration::MAX).min(Duration::from_secs(30));
        said(self.head.as_ref()).unwrap_or(default)
    }

    /// 60 s: twice the usual heartbeat of event streams.
    pub(crate) fn idle(&self) -> Duration {
        said(self.idle.as_ref()).unwrap_or(Duration::from_secs(60))
    }

    pub(crate) fn total(&self) -> Option<Duration> {
        said(self.total.as_ref())
    }
}
