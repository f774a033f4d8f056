//! What no single value can tell: names that must exist, names that must not come twice.

use std::{collections::HashSet, ops::Range};

use super::{Algorithm, Config, Route, Upstream};

type Finding = (Option<Range<usize>>, String);

pub(super) fn check(config: &Config) -> Result<(), Finding> {
    upstreams(config)?;
    if config.routes.is_empty() {
        let message = "no [[route]]: every request would be a 404; write at least one with path and upstream";
        return Err((None, message.to_owned()));
    }
    let mut seen = HashSet::new();
    for route in &config.routes {
        known_upstream(config, route)?;
        if !seen.insert(route.prefix().as_str()) {
            let path = route.prefix().as_str();
            let message =
                format!("duplicate route {path:?}: one [[route]] per path; remove or rename this one");
            return Err((Some(route.path.span()), message));
        }
        timeout(route)?;
        rate_limit(route)?;
    }
    Ok(())
}

fn upstreams(config: &Config) -> Result<(), Finding> {
    let mut seen = HashSet::new();
    for upstream in &config.upstreams {
        if !seen.insert(upstream.name()) {
            let name = upstream.name();
            let message = format!("duplicate upstream {name:?}: give this one a name of its own");
            return Err((Some(upstream.name.span()), message));
        }
    }
    Ok(())
}

fn known_upstream(config: &Config, route: &Route) -> Result<(), Finding> {
    if config.address(route.upstream()).is_some() {
        return Ok(());
    }
    let known = config.upstreams.iter().map(Upstream::name).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    let name = route.upstream();
    let message = format!("no [[upstream]] is called {name:?} (known: {known}); add one with name and url");
    Err((Some(route.upstream.span()), message))
}

fn timeout(route: &Route) -> Result<(), Finding> {
    let Some(timeout) = &route.timeout else { return Ok(()) };
    let (span, timeout) = (timeout.span(), timeout.get_ref());
    match (timeout.head, timeout.total) {
        (Some(head), Some(total)) if head.0 > total.0 => Err((
            Some(span),
            "timeout head is above total and could never pass; make head at most total".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn rate_limit(route: &Route) -> Result<(), Finding> {
    let Some(limit) = &route.rate_limit else { return Ok(()) };
    let (span, limit) = (limit.span(), limit.get_ref());
    if limit.algorithm == Algorithm::FixedWindow && limit.burst.is_some() {
        let message =
            "a fixed_window has no burst: its rate is its size; leave burst out, or take token_bucket";
        return Err((Some(span), message.to_owned()));
    }
    limit.limit().map(drop).map_err(|error| (Some(span), error.to_string()))
}
