//! What no single value can tell: names that must exist, names that must not come twice, times too long for a key.

use std::{collections::HashSet, ops::Range, time::Duration};

use buttress::balance::Split;
use humantime::format_duration;
use toml::Spanned;

use super::{
    Bounds, CircuitBreaker, Config, Health, Log, Mirror, Outlier, Problem, Rate, RateLimit, Retry, Route,
    Side, Sticky, Target, Upstream, extras::Cors, value::Text,
};
use crate::routing;

/// What is wrong, and where if not everywhere.
pub(super) type Finding = (Option<Range<usize>>, String);

/// The longest wait: what takes longer is a mistake, and far beyond it the timers below overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time that a rate counts over: a year, leap or not.
const LONGEST_RATE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) fn check(config: &Config, text: &str) -> Result<(), Finding> {
    upstreams(config)?;
    wait("header_timeout", config.header_timeout.as_ref())?;
    wait("send_timeout", config.send_timeout.as_ref())?;
    wait("drain", config.drain.as_ref())?;
    within(&config.access_log, Log::check)?;
    wait("pre_drain", config.pre_drain.as_ref())?;
    ports(config)?;
    for port in &config.tcp {
        port.get_ref().check(config).map_err(|(at, message)| (at.or(Some(port.span())), message))?;
    }
    within(&config.server, Bounds::check)?;
    if config.routes.is_empty() && config.tcp.is_empty() {
        let message = "no [[route]]: every request would be a 404; write at least one with path and upstream";
        return Err((None, message.to_owned()));
    }
    for spanned in &config.routes {
        let (route, span) = (spanned.get_ref(), spanned.span());
        route.check().map_err(|(at, message)| (at.or(Some(span)), message))?;
        known_upstream(config, route)?;
        timeout(route)?;
        within(&route.retry, Retry::check)?;
        within(&route.rate_limit, RateLimit::check)?;
        within(&route.cors, Cors::check)?;
    }
    which_route(config, text)
}

/// Each port is opened once.
fn ports(config: &Config) -> Result<(), Finding> {
    if let (Some(listen), [_, ..]) = (&config.listen, &config.listeners[..]) {
        let message = "listen is short for one [[listener]]: make it one of those that are there";
        return Err((Some(listen.span()), message.to_owned()));
    }
    let mut seen = HashSet::new();
    let all = config.listeners.iter().map(|port| (port.address(), port.span()));
    let all = all.chain(config.tcp().map(|port| (port.address(), port.span())));
    match all.filter(|(address, _)| address.port() != 0).find(|(address, _)| !seen.insert(*address)) {
        Some((address, span)) => Err((Some(span), format!("{address} is listened to already"))),
        None => Ok(()),
    }
}

/// Each request has one route at most.
fn which_route(config: &Config, text: &str) -> Result<(), Finding> {
    let Some((numbers, error)) = routing::mistake(config) else { return Ok(()) };
    let place = |number: usize| config.routes[number].span();
    match numbers[..] {
        [first, second] => {
            let (one, other) =
                (config.routes[first].get_ref().name(), config.routes[second].get_ref().name());
            let line = Problem::line(text, place(first).start);
            let message = format!(
                "route {other:?} and route {one:?} of line {line} take the same requests, and neither is the more specific \
                 one; give one of them another path, host, method or condition"
            );
            Err((Some(place(second)), message))
        }
        _ => Err((numbers.first().map(|&number| place(number)), error.to_string())),
    }
}

fn upstreams(config: &Config) -> Result<(), Finding> {
    let mut seen = HashSet::new();
    for upstream in &config.upstreams {
        if !seen.insert(upstream.name()) {
            let name = upstream.name();
            let message = format!("duplicate upstream {name:?}: give this one a name of its own");
            return Err((Some(upstream.name.span()), message));
        }
        match upstream.split() {
            [] => addresses(upstream)?,
            sides => split(config, upstream, sides)?,
        }
        if let Some(mirror) = upstream.mirror() {
            target(config, upstream, &mirror.upstream)?;
        }
        within(&upstream.health, Health::check)?;
        reachable(upstream)?;
        within(&upstream.sticky, Sticky::check)?;
        within(&upstream.mirror, Mirror::check)?;
        within(&upstream.outlier, Outlier::check)?;
        within(&upstream.circuit_breaker, CircuitBreaker::check)?;
        if upstream.split().is_empty() {
            within(&upstream.balance, |balance| balance.check(upstream.list()))?;
        }
    }
    Ok(())
}

/// An upstream has addresses, and each once.
fn addresses(upstream: &Upstream) -> Result<(), Finding> {
    let name = upstream.name();
    let wrong = |span, message: String| Err((Some(span), message));
    if upstream.url.is_none() && upstream.endpoints.is_empty() {
        let message =
            format!("upstream {name:?} has no address; write url, or [[upstream.endpoint]] with a url");
        return wrong(upstream.name.span(), message);
    }
    if upstream.url.is_some() && !upstream.endpoints.is_empty() {
        let message = format!("upstream {name:?} has a url and endpoints; make the url one of the endpoints");
        return wrong(upstream.name.span(), message);
    }
    let mut seen = HashSet::new();
    for endpoint in &upstream.endpoints {
        let address = endpoint.get_ref().address().to_string();
        if !seen.insert(address.clone()) {
            let message =
                format!("duplicate endpoint {address:?}: write it once, with a weight if it is larger");
            return wrong(endpoint.span(), message);
        }
    }
    Ok(())
}

/// TLS knows whose certificate to expect, and who asks for health can reach the endpoints.
fn reachable(upstream: &Upstream) -> Result<(), Finding> {
    for url in upstream.urls() {
        let (tls, unix) =
            (upstream.tls.is_some() || url.text.starts_with("https:"), url.text.contains("unix:"));
        if let Some(health) = upstream.health.as_ref().filter(|_| tls || unix) {
            let message = format!(
                "health is asked for over plain TCP, which {:?} does not speak: leave it out",
                url.text
            );
            return Err((Some(health.span()), message));
        }
        if let Some(tls) = upstream.tls.as_ref().filter(|tls| unix && !tls.get_ref().names_server()) {
            let message = format!("TLS to {:?} needs server_name: whose certificate to expect", url.text);
            return Err((Some(tls.span()), message));
        }
    }
    Ok(())
}

/// What splits its traffic has none of what an upstream with addresses has.
fn split(config: &Config, upstream: &Upstream, sides: &[Side]) -> Result<(), Finding> {
    let name = upstream.name();
    let Upstream { url, endpoints, balance, health, sticky, outlier, circuit_breaker, tls, .. } = upstream;
    let has_more = url.is_some()
        || !endpoints.is_empty()
        || balance.is_some()
        || health.is_some()
        || sticky.is_some()
        || outlier.is_some()
        || circuit_breaker.is_some()
        || tls.is_some();
    if has_more {
        let message = format!(
            "upstream {name:?} splits its traffic, so its addresses and how they are used stand at the upstreams that it names"
        );
        return Err((Some(upstream.name.span()), message));
    }
    for side in sides {
        target(config, upstream, &side.upstream)?;
    }
    let split = Split::try_new(sides.iter().map(|side| (side.weight, ())));
    split.map(drop).map_err(|error| (Some(upstream.name.span()), error.to_string()))
}

/// Traffic goes on to an upstream with addresses, and not to the one that it comes from.
fn target(config: &Config, from: &Upstream, to: &Spanned<String>) -> Result<(), Finding> {
    let name = to.get_ref();
    match config.upstream(name) {
        Some(upstream) if upstream.split().is_empty() && upstream.name() != from.name() => Ok(()),
        Some(_) => {
            Err((Some(to.span()), format!("{name:?} has no addresses of its own; name an upstream that has")))
        }
        None => {
            Err((Some(to.span()), format!("no [[upstream]] is called {name:?}; add one with name and url")))
        }
    }
}

fn known_upstream(config: &Config, route: &Route) -> Result<(), Finding> {
    let Some(Target::Upstream(upstream)) = route.target() else { return Ok(()) };
    let name = upstream.get_ref();
    if config.upstream(name).is_some() {
        return Ok(());
    }
    let known = config.upstreams.iter().map(Upstream::name).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    let message = format!("no [[upstream]] is called {name:?} (known: {known}); add one with name and url");
    Err((Some(upstream.span()), message))
}

fn timeout(route: &Route) -> Result<(), Finding> {
    let Some(timeout) = &route.timeout else { return Ok(()) };
    let (span, timeout) = (timeout.span(), timeout.get_ref());
    wait("timeout head", timeout.head.as_ref())?;
    wait("timeout idle", timeout.idle.as_ref())?;
    wait("timeout total", timeout.total.as_ref())?;
    match timeout.total() {
        Some(total) if timeout.head() > total => Err((
            Some(span),
            "timeout head is above total and could never pass; make head at most total".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn wait(key: &str, value: Option<&Spanned<Text<Duration>>>) -> Result<(), Finding> {
    value.map_or(Ok(()), |value| at_most(LONGEST_WAIT, key, value.get_ref().0, value.span()))
}

fn at_most(most: Duration, key: &str, given: Duration, span: Range<usize>) -> Result<(), Finding> {
    if given <= most {
        return Ok(());
    }
    let (given, most) = (format_duration(given), format_duration(most));
    Err((Some(span), format!("{key} is {given}; make it {most} at most")))
}

/// Checks a table, if it is there. What it cannot place itself is at its beginning.
fn within<T>(
    table: &Option<Spanned<T>>,
    check: impl FnOnce(&T) -> Result<(), Finding>,
) -> Result<(), Finding> {
    let Some(table) = table else { return Ok(()) };
    check(table.get_ref()).map_err(|(span, message)| (span.or_else(|| Some(table.span())), message))
}

pub(super) fn rate(rate: &Spanned<Text<Rate>>) -> Result<(), Finding> {
    at_most(LONGEST_RATE, "the time of a rate", rate.get_ref().0.per, rate.span())
}
