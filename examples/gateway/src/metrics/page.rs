//! The page in the text form that Prometheus reads.

use std::{
    fmt::Result,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use buttress::{circuit_breaker::State, health::EndpointHealth as Health, retry::Skip};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    Counts, Upstream, Views,
    histogram::Histogram,
    route::{CLASSES, REASONS, RouteCounts},
    server::ServerCounts,
};

pub(super) fn page(counts: &Arc<Counts>) -> String {
    let mut registry = Registry::with_prefix("gateway");
    registry.register_collector(Box::new(Read(Arc::clone(counts))));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a text can be written into memory");
    page
}

/// Reads all counts when the page is made.
#[derive(Debug)]
struct Read(Arc<Counts>);

impl Collector for Read {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut page = Page(encoder);
        let counts = &self.0;
        let views = &*counts.views();
        // A route has no name without a path, so this is none.
        server(&mut page, &counts.server)?;
        let of_router = [("", &counts.unrouted)];
        let routes: Vec<_> =
            of_router.into_iter().chain(views.routes.iter().map(|(name, of)| (&**name, of))).collect();
        requests(&mut page, &routes)?;
        limits(&mut page, views)?;
        retries(&mut page, views)?;
        endpoints(&mut page, views)?;
        breakers(&mut page, views)?;
        page.counters("config_reloads", "Configurations that were read while the gateway ran.", |add| {
            add(&[("result", "taken")], counts.reloads.load(Relaxed))?;
            add(&[("result", "refused")], counts.reloads_refused.load(Relaxed))
        })?;
        let taken = counts.last_reload_was_taken.load(Relaxed);
        page.gauge(
            "config_last_reload_successful",
            "Whether the last configuration was taken.",
            taken.into(),
        )?;
        if let Some(log) = &views.log {
            let help = "Requests that have no line in the access log.";
            page.counters("access_log_lost", help, |add| add(&[], log.lost()))?;
        }
        Ok(())
    }
}

fn server(page: &mut Page<'_>, server: &ServerCounts) -> Result {
    page.gauge("connections", "Connections of clients that are open.", server.open())?;
    page.counters("connections_opened", "Connections of clients.", |add| {
        add(&[], server.opened.load(Relaxed))
    })?;
    page.counters(
        "connections_refused",
        "Connections that were closed at once, or could not be had.",
        |add| {
            add(&[("reason", "client_connections")], server.refused.load(Relaxed))?;
            add(&[("reason", "system")], server.not_accepted.load(Relaxed))
        },
    )?;
    page.counters("connections_failed", "Connections that ended with an error.", |add| {
        add(&[], server.failed.load(Relaxed))
    })?;
    page.counters(
        "bad_requests",
        "Requests that were refused before a route was looked for, by the rule.",
        |add| server.violations().try_for_each(|(rule, count)| add(&[("rule", rule)], count)),
    )
}

fn requests(page: &mut Page<'_>, routes: &[(&str, &Arc<RouteCounts>)]) -> Result {
    page.counters("requests", "Requests that are over, by the first figure of the status.", |add| {
        for (route, counts) in routes {
            for (class, count) in CLASSES.iter().zip(&counts.classes) {
                add(&[("route", route), ("status", class)], count.load(Relaxed))?;
            }
        }
        Ok(())
    })?;
    page.gauges("requests_in_flight", "Requests under way, to the last byte of the answer.", |add| {
        routes.iter().try_for_each(|(route, counts)| add(&[("route", route)], counts.in_flight()))
    })?;
    page.counters(
        "refusals",
        "Answers of the gateway in the place of the upstream, by their reason.",
        |add| {
            for (route, counts) in routes {
                for (reason, count) in REASONS.iter().zip(&counts.refusals) {
                    let count = count.load(Relaxed);
                    // The reasons are many, and most of them never come up.
                    if count > 0 {
                        add(&[("route", route), ("reason", reason)], count)?;
                    }
                }
            }
            Ok(())
        },
    )?;
    page.times("head_seconds", "From the request to the head of the answer.", routes, |counts| &counts.head)?;
    page.times("request_duration_seconds", "From the request to the end of the answer.", routes, |counts| {
        &counts.whole
    })
}

fn limits(page: &mut Page<'_>, views: &Views) -> Result {
    let limits: Vec<_> = views.limits.iter().map(|(route, snapshot)| (route, snapshot())).collect();
    page.counters("rate_limit_calls", "Requests by what the rate limit of the route has decided.", |add| {
        for (route, limit) in &limits {
            let counts = [
                ("allowed", limit.allowed),
                ("refused", limit.refused),
                ("denied", limit.denied),
                ("shadowed", limit.shadowed),
            ];
            for (decision, count) in counts {
                add(&[("route", route), ("decision", decision)], count)?;
            }
        }
        Ok(())
    })?;
    page.gauges("rate_limit_keys", "Keys that something is held against now.", |add| {
        limits.iter().try_for_each(|(route, limit)| add(&[("route", route)], limit.keys as u64))
    })
}

fn retries(page: &mut Page<'_>, views: &Views) -> Result {
    let retries: Vec<_> =
        views.retries.iter().map(|(route, handle)| (route, handle, handle.snapshot())).collect();
    page.counters("retries", "Attempts after the first of a call.", |add| {
        retries.iter().try_for_each(|(route, _, counts)| add(&[("route", route)], counts.retries))
    })?;
    page.counters("retries_recovered", "Calls that succeeded after more than one attempt.", |add| {
        retries.iter().try_for_each(|(route, _, counts)| add(&[("route", route)], counts.recovered))
    })?;
    page.counters("retries_skipped", "Calls that failed and were not tried again, by the reason.", |add| {
        for (route, handle, _) in &retries {
            for reason in Skip::ALL {
                let count = handle.skipped(reason);
                if count > 0 {
                    add(&[("route", route), ("reason", &word(&reason))], count)?;
                }
            }
        }
        Ok(())
    })?;
    page.gauges("retry_budget_left", "How many retries the budget allows now.", |add| {
        retries.iter().try_for_each(|(route, _, counts)| add(&[("route", route)], counts.budget_left))
    })
}

fn endpoints(page: &mut Page<'_>, views: &Views) -> Result {
    let mut endpoints = Vec::new();
    for (upstream, Upstream { balancer, .. }) in &views.upstreams {
        let views = balancer.iter().flat_map(|balancer| balancer.endpoints());
        endpoints.extend(views.filter(|view| !view.has_left).map(|view| (upstream, view)));
    }
    let gauges = |page: &mut Page<'_>, name, help, value: &dyn Fn(&buttress::balance::View) -> u64| {
        page.gauges(name, help, |add| {
            endpoints.iter().try_for_each(|(upstream, view)| {
                add(&[("upstream", upstream), ("endpoint", view.endpoint.name())], value(view))
            })
        })
    };
    gauges(page, "endpoint_in_flight", "Calls that an endpoint has in flight.", &|view| {
        view.in_flight.into()
    })?;
    gauges(page, "endpoint_usable", "Whether an endpoint gets calls.", &|view| {
        view.endpoint.condition().is_usable().into()
    })?;
    gauges(
        page,
        "endpoint_ejected",
        "Whether an endpoint is taken out because its calls failed.",
        &|view| view.endpoint.condition().is_ejected().into(),
    )?;
    page.gauges("endpoint_health", "What health checks say of an endpoint: 1 for what holds.", |add| {
        for (upstream, view) in &endpoints {
            let endpoint = view.endpoint.name();
            for health in [Health::Unknown, Health::Healthy, Health::Degraded, Health::Unhealthy] {
                let labels = [("upstream", &***upstream), ("endpoint", endpoint), ("health", &word(&health))];
                add(&labels, (view.endpoint.condition().health() == health).into())?;
            }
        }
        Ok(())
    })?;
    page.counters(
        "endpoint_ejections",
        "How often an endpoint was taken out because its calls failed.",
        |add| {
            for (upstream, of) in &views.upstreams {
                for (endpoint, count) in &of.ejections {
                    add(&[("upstream", upstream), ("endpoint", endpoint)], *count)?;
                }
            }
            Ok(())
        },
    )?;
    page.gauges("upstream_waiting", "Calls that wait for an endpoint.", |add| {
        for (upstream, of) in &views.upstreams {
            if let Some(balancer) = &of.balancer {
                add(&[("upstream", upstream)], balancer.waiting() as u64)?;
            }
        }
        Ok(())
    })
}

fn breakers(page: &mut Page<'_>, views: &Views) -> Result {
    let breakers = || {
        let upstreams = views.upstreams.iter();
        upstreams
            .flat_map(|(upstream, of)| of.breakers.iter().map(move |(at, handle)| (upstream, at, handle)))
    };
    page.gauges(
        "breaker_state",
        "The state of an endpoint's circuit breaker: 1 for the one it is in.",
        |add| {
            for (upstream, endpoint, handle) in breakers() {
                let now = handle.state();
                for state in State::ALL {
                    let labels =
                        [("upstream", &**upstream), ("endpoint", endpoint), ("state", &word(&state))];
                    add(&labels, (state == now).into())?;
                }
            }
            Ok(())
        },
    )?;
    page.counters(
        "breaker_transitions",
        "How often a circuit breaker went from a state into another.",
        |add| {
            for (upstream, endpoint, handle) in breakers() {
                for from in State::ALL {
                    for to in State::ALL {
                        let count = handle.transitions(from, to);
                        if count > 0 {
                            let (from, to) = (word(&from), word(&to));
                            let labels = [
                                ("upstream", &**upstream),
                                ("endpoint", endpoint),
                                ("from", &from),
                                ("to", &to),
                            ];
                            add(&labels, count)?;
                        }
                    }
                }
            }
            Ok(())
        },
    )?;
    page.counters("breaker_refused", "Calls that a circuit breaker has refused.", |add| {
        for (upstream, endpoint, handle) in breakers() {
            add(&[("upstream", upstream), ("endpoint", endpoint)], handle.counts().refused)?;
        }
        Ok(())
    })
}

/// A word of ours as a label: in small letters, with `_` between its parts.
fn word(of: &impl std::fmt::Debug) -> String {
    let mut word = String::new();
    for letter in format!("{of:?}").chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// A page that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

type Labels<'a> = [(&'static str, &'a str)];
/// Adds one value.
type Add<'a> = dyn FnMut(&Labels<'_>, u64) -> Result + 'a;

impl Page<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> Result,
    ) -> Result {
        write(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn counters(&mut self, name: &str, help: &str, all: impl FnOnce(&mut Add<'_>) -> Result) -> Result {
        self.family(name, help, MetricType::Counter, |family| {
            all(&mut |labels, value| match labels {
                [] => family.encode_counter::<NoLabelSet, _, f64>(&value, None),
                _ => family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None),
            })
        })
    }

    fn gauges(&mut self, name: &str, help: &str, all: impl FnOnce(&mut Add<'_>) -> Result) -> Result {
        self.family(name, help, MetricType::Gauge, |family| {
            all(&mut |labels, value| family.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result {
        self.family(name, help, MetricType::Gauge, |family| family.encode_gauge(&value))
    }

    fn times(
        &mut self,
        name: &str,
        help: &str,
        routes: &[(&str, &Arc<RouteCounts>)],
        of: impl Fn(&RouteCounts) -> &Histogram,
    ) -> Result {
        self.family(name, help, MetricType::Histogram, |family| {
            for (route, counts) in routes {
                let read = of(counts).read();
                let labels = [("route", *route)];
                let mut family = family.encode_family(&labels)?;
                family.encode_histogram::<NoLabelSet>(read.sum, read.count, &read.buckets, None)?;
            }
            Ok(())
        })
    }
}
