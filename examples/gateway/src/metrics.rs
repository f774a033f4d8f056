//! What is counted, and what is read when somebody asks for it.
//!
//! A route's requests are counted here, by a few atomics each. All else the layers count anyway: their handles are read
//! when the page is made. Labels are names of the configuration and of ours, never what a client has sent, so there are as
//! many series as there are routes and endpoints.

mod histogram;
mod page;
mod route;
mod server;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use buttress::{Clock, balance, circuit_breaker, rate_limit, retry};

use crate::{
    access_log::AccessLog,
    config::{self, Config, Route},
};
pub(crate) use route::{InFlight, RouteCounts, failure, rejection};
use server::ServerCounts;

/// All counts of the program. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    clock: Clock,
    /// What the router answers: no route takes it, or one that leads nowhere.
    unrouted: Arc<RouteCounts>,
    server: ServerCounts,
    views: Mutex<Views>,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    last_reload_was_taken: AtomicBool,
}

/// By the name of a route, or of an upstream.
#[derive(Default)]
struct Views {
    routes: BTreeMap<Arc<str>, Arc<RouteCounts>>,
    limits: BTreeMap<Arc<str>, Box<dyn Fn() -> rate_limit::Snapshot + Send>>,
    retries: BTreeMap<Arc<str>, retry::Handle>,
    upstreams: BTreeMap<Arc<str>, Upstream>,
    log: Option<AccessLog>,
}

#[derive(Default)]
struct Upstream {
    balancer: Option<balance::Handle>,
    /// By endpoint.
    breakers: BTreeMap<Arc<str>, circuit_breaker::Handle>,
    ejections: BTreeMap<Arc<str>, u64>,
}

impl Upstream {
    fn forget_endpoints_that_left(&mut self) {
        let Some(balancer) = &self.balancer else { return };
        let views = balancer.endpoints();
        let is_there = |name: &Arc<str>| views.iter().any(|view| view.endpoint.name().as_str() == &**name);
        self.breakers.retain(|name, _| is_there(name));
        self.ejections.retain(|name, _| is_there(name));
    }
}

impl Metrics {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(Counts {
            unrouted: Arc::new(RouteCounts::new(clock.clone())),
            server: ServerCounts::new(),
            clock,
            views: Mutex::default(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            last_reload_was_taken: AtomicBool::new(true),
        }))
    }

    /// The counts of a route. They go on when the configuration is read anew.
    pub(crate) fn route(&self, route: &Arc<str>) -> Arc<RouteCounts> {
        let mut views = self.0.views();
        let counts = views.routes.entry(Arc::clone(route));
        Arc::clone(counts.or_insert_with(|| Arc::new(RouteCounts::new(self.0.clock.clone()))))
    }

    /// The counts of connections, and of what is refused at the door.
    pub(crate) fn server(&self) -> &ServerCounts {
        &self.0.server
    }

    /// The counts of what no route takes, and of what the router answers itself.
    pub(crate) fn unrouted(&self) -> Arc<RouteCounts> {
        Arc::clone(&self.0.unrouted)
    }

    /// The limit of a route.
    pub(crate) fn limit(
        &self,
        route: &Arc<str>,
        snapshot: impl Fn() -> rate_limit::Snapshot + Send + 'static,
    ) {
        self.0.views().limits.insert(Arc::clone(route), Box::new(snapshot));
    }

    /// The retries of a route.
    pub(crate) fn retries(&self, route: &Arc<str>, handle: retry::Handle) {
        self.0.views().retries.insert(Arc::clone(route), handle);
    }

    /// The balancer of an upstream.
    pub(crate) fn balancer(&self, upstream: &Arc<str>, handle: balance::Handle) {
        self.0.upstream(upstream, |upstream| upstream.balancer = Some(handle));
    }

    /// The breaker of one endpoint of an upstream.
    pub(crate) fn breaker(&self, upstream: &Arc<str>, endpoint: &str, handle: circuit_breaker::Handle) {
        self.0.upstream(upstream, |upstream| {
            upstream.breakers.insert(endpoint.into(), handle);
        });
    }

    /// An endpoint was ejected.
    pub(crate) fn ejected(&self, upstream: &Arc<str>, endpoint: &str) {
        self.0.upstream(upstream, |upstream| *upstream.ejections.entry(endpoint.into()).or_default() += 1);
    }

    /// The access log that is in use from now on.
    pub(crate) fn access_log(&self, log: Option<AccessLog>) {
        self.0.views().log = log;
    }

    /// Forgets what `config` does not have any more.
    pub(crate) fn retain(&self, config: &Config) {
        let views = &mut *self.0.views();
        let routes: HashMap<String, &Route> = config.routes().map(|route| (route.name(), route)).collect();
        let route = |name: &str| routes.get(name).copied();
        views.routes.retain(|name, _| route(name).is_some());
        views.limits.retain(|name, _| route(name).and_then(Route::rate_limit).is_some());
        views.retries.retain(|name, _| route(name).and_then(Route::retry).is_some());
        views.upstreams.retain(|name, upstream| {
            let known = config.upstream(name);
            if known.and_then(config::Upstream::circuit_breaker).is_none() {
                upstream.breakers.clear();
            }
            known.is_some()
        });
    }

    /// A configuration was read while the program runs, and taken or refused.
    pub(crate) fn reloaded(&self, taken: bool) {
        let count = if taken { &self.0.reloads } else { &self.0.reloads_refused };
        count.fetch_add(1, Relaxed);
        self.0.last_reload_was_taken.store(taken, Relaxed);
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> String {
        for upstream in self.0.views().upstreams.values_mut() {
            upstream.forget_endpoints_that_left();
        }
        page::page(&self.0)
    }
}

impl Counts {
    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self, name: &Arc<str>, change: impl FnOnce(&mut Upstream)) {
        change(self.views().upstreams.entry(Arc::clone(name)).or_default());
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("routes", &self.routes.keys()).finish_non_exhaustive()
    }
}
