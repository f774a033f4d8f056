//! What watches the gateway: one value that sees every event of every layer, and stands around each route and around the
//! whole service. It outlives a configuration: reloads ask it anew for what watches a route or an upstream.
//!
//! ```text
//! request ──► around the whole: the access log's record begins ──► router ──► around a route: its counts
//!                                                                               │
//!             an endpoint is chosen: the record learns which  ◄── attempts ◄────┘
//! ```
//!
//! Where neither the log nor the admin port is on, a request passes all three by a test of nothing there.

mod attempt;
mod routed;
mod said;
mod whole;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use buttress::{
    Clock, Endpoint,
    answer::AnswerEvent,
    balance::{self, BalanceEvent, MirrorEvent, SplitEvent, StickyEvent},
    circuit_breaker::{self, CircuitBreakerEvent},
    health::{HealthEvent, Readiness},
    key,
    proxy::{self, server},
    rate_limit::{self, RateLimitEvent},
    retry::{self, RetryEvent},
    timeout::TimeoutEvent,
};

use crate::{
    access_log::{AccessLog, Call},
    config::Config,
    erased::Erased,
    faults,
    inbound::Inbound,
    metrics::{self, Metrics, RouteCounts},
    print::note,
    stack::Stack,
};
use attempt::AttemptLayer;
use routed::Routed;
use whole::{Logging, Whole};

/// What the access log gets to write what it holds, at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// All that is watched. A clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    clock: Clock,
    metrics: Option<Metrics>,
    logging: Arc<ArcSwapOption<Logging>>,
    readiness: Readiness,
    copies: bool,
}

/// Where something happened.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At a route, above its upstream.
    Route { route: Arc<str>, upstream: Arc<str> },
    /// At an upstream, for all routes to it.
    Upstream(Arc<str>),
}

/// What happened, by the layer that tells it.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the log has no line for some of them")]
pub(crate) enum Event<'a> {
    Answer(&'a AnswerEvent<'a>),
    RateLimit(&'a RateLimitEvent<'a>),
    Retry(&'a RetryEvent<'a>),
    Timeout(&'a TimeoutEvent<'a>),
    CircuitBreaker(&'a CircuitBreakerEvent<'a>),
    Health(&'a HealthEvent<'a>),
    Balance(&'a BalanceEvent<'a>),
    Sticky(&'a StickyEvent<'a>),
    Split(&'a SplitEvent<'a>),
    Mirror(&'a MirrorEvent<'a>),
}

/// What watches one place. A clone watches it too.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    place: Arc<Place>,
    metrics: Option<Metrics>,
    counts: Option<Arc<RouteCounts>>,
    copies: bool,
    /// Whether requests are counted or logged.
    tells: bool,
}

impl Watch {
    /// Counts for the admin port, where there is one; writes the access log of `config`, where it asks for one.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let clock = Clock::default();
        let metrics = config.admin().map(|_| Metrics::new(clock.clone()));
        let watch =
            Self { clock, metrics, logging: Arc::default(), readiness: Readiness::starting(), copies: false };
        watch.take(config)?;
        Ok(watch)
    }

    /// Follows another configuration: its access log, and what of routes and upstreams is still there to be counted.
    ///
    /// # Errors
    ///
    /// When the file of the log cannot be opened. Nothing changes then.
    pub(crate) fn take(&self, config: &Config) -> io::Result<()> {
        let settings = config.access_log();
        let present = self.logging.load_full();
        let log = match (settings, &present) {
            (None, _) => None,
            (Some(settings), Some(present)) if present.settings == settings => Some(present.log.clone()),
            (Some(settings), _) => Some(AccessLog::open(&settings)?),
        };
        let logging = log.zip(config.access_log()).map(|(log, settings)| {
            let client = key::client_ip().x_forwarded_for(config.trusted_proxies());
            Arc::new(Logging { settings, client, log })
        });
        if let Some(metrics) = &self.metrics {
            metrics.access_log(logging.as_ref().map(|logging| logging.log.clone()));
            metrics.retain(config);
        }
        self.logging.store(logging);
        Ok(())
    }

    /// The counts, where they are kept.
    pub(crate) fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref()
    }

    /// Whether this is a place for requests: what the admin port tells.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Opens the file of the access log anew.
    pub(crate) fn reopen_log(&self) {
        if let Some(logging) = &*self.logging.load() {
            logging.log.reopen();
        }
    }

    /// Has the access log write what it holds, before the program ends.
    pub(crate) fn flush_log(&self) {
        if let Some(logging) = &*self.logging.load() {
            logging.log.flush(FLUSH);
        }
    }

    /// A configuration was read while the program runs, and taken or refused.
    pub(crate) fn reloaded(&self, taken: bool) {
        if let Some(metrics) = &self.metrics {
            metrics.reloaded(taken);
        }
    }

    /// The same for what gets copies alone: that is not among what is counted and written.
    pub(crate) fn of_copies(&self) -> Self {
        Self { metrics: None, copies: true, ..self.clone() }
    }

    /// What watches a route, by its name and that of its upstream.
    pub(crate) fn route(&self, route: &str, upstream: &str) -> Watching {
        let route: Arc<str> = route.into();
        let counts = self.metrics.as_ref().map(|metrics| metrics.route(&route));
        let place = Arc::new(Place::Route { route, upstream: upstream.into() });
        let tells = counts.is_some() || self.logging.load().is_some();
        Watching { place, metrics: self.metrics.clone(), counts, copies: self.copies, tells }
    }

    /// What watches an upstream.
    pub(crate) fn upstream(&self, name: &str) -> Watching {
        let place = Arc::new(Place::Upstream(name.into()));
        Watching { place, metrics: self.metrics.clone(), counts: None, copies: self.copies, tells: false }
    }

    /// Is told what happens at the door.
    pub(crate) fn saw_at_the_door(&self, event: &server::Event<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.server().saw(event);
        }
        match event {
            server::Event::AcceptFailed { error, .. } => {
                note(format_args!("cannot accept a connection: {error}"));
            }
            server::Event::BadRequest(bad) => {
                if let Some(logging) = &*self.logging.load() {
                    let client = bad.peer.map(|peer| peer.ip());
                    let now = (self.clock.wall(), self.clock.now());
                    logging.log.write(Arc::new(Call::refused(client, bad.violation, now)));
                }
            }
            _ => {}
        }
    }

    /// Stands around the whole service: it sees what no route takes, too.
    pub(crate) fn around<S: Stack>(&self, service: S) -> impl Stack + use<S> {
        let unrouted = self.metrics.as_ref().map(Metrics::unrouted);
        Whole::new(service, self.clock.clone(), Arc::clone(&self.logging), unrouted)
    }
}

impl Watching {
    /// Is told of each event, in the midst of a call.
    pub(crate) fn saw(&self, event: Event<'_>) {
        match event {
            Event::Answer(AnswerEvent::Failed { error, .. }) if self.tells => {
                let error = error.and_then(|error| error.downcast_ref::<proxy::Error>());
                said::failed(error.map_or("other", |error| metrics::failure(error.kind())));
            }
            Event::Health(HealthEvent::Ejected { endpoint, .. }) => {
                self.at_upstream(|metrics, upstream| metrics.ejected(upstream, endpoint.name()));
            }
            _ => {}
        }
        faults::note_event(&self.place, event);
    }

    /// The limit of the route, to be read when somebody asks.
    pub(crate) fn limit(&self, snapshot: impl Fn() -> rate_limit::Snapshot + Send + 'static) {
        self.at_route(|metrics, route| metrics.limit(route, snapshot));
    }

    /// The retries of the route.
    pub(crate) fn retries(&self, handle: impl FnOnce() -> retry::Handle) {
        self.at_route(|metrics, route| metrics.retries(route, handle()));
    }

    /// The balancer of the upstream.
    pub(crate) fn balancer(&self, handle: impl FnOnce() -> balance::Handle) {
        self.at_upstream(|metrics, upstream| metrics.balancer(upstream, handle()));
    }

    /// The circuit breaker of an endpoint.
    pub(crate) fn breaker(&self, endpoint: &Endpoint, handle: impl FnOnce() -> circuit_breaker::Handle) {
        self.at_upstream(|metrics, upstream| metrics.breaker(upstream, endpoint.name(), handle()));
    }

    /// Stands around all layers of an endpoint.
    pub(crate) fn attempts(&self, endpoint: &Endpoint) -> AttemptLayer {
        AttemptLayer::new((!self.copies).then_some(endpoint))
    }

    /// Stands around all layers of a route, where there is somebody to tell.
    pub(crate) fn around(&self, stack: Erased<Inbound, Infallible>) -> Erased<Inbound, Infallible> {
        if !self.tells {
            return stack;
        }
        let (Place::Route { route, .. } | Place::Upstream(route)) = &*self.place;
        Erased::new(Routed::new(stack, Arc::clone(route), self.counts.clone()))
    }

    fn at_route(&self, tell: impl FnOnce(&Metrics, &Arc<str>)) {
        if let (Some(metrics), Place::Route { route, .. }) = (&self.metrics, &*self.place) {
            tell(metrics, route);
        }
    }

    fn at_upstream(&self, tell: impl FnOnce(&Metrics, &Arc<str>)) {
        if let (Some(metrics), Place::Upstream(upstream)) = (&self.metrics, &*self.place) {
            tell(metrics, upstream);
        }
    }
}
