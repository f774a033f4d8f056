//! The service of the present configuration.
//!
//! A request takes the configuration that is present when it comes, and ends with it; a reload makes another one present.
//! Limits, retry budgets and upstreams whose settings stay are handed on, with all that they know.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use buttress::Clock;
use tower::{Layer, Service, util::option_layer};

use crate::{
    config::{Config, Route, Target},
    extras,
    kept::Kept,
    routing,
    stack::{self, Stack},
    upstream,
    watch::Watch,
};

/// Passes each request to the service that is present.
#[derive(Debug)]
pub(crate) struct Live<S>(Arc<ArcSwap<S>>);

impl<S> Clone for Live<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service<R> + Clone, R> Service<R> for Live<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    /// Routers are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> S::Future {
        S::clone(&self.0.load()).call(request)
    }
}

/// The service of `config`, and what makes another configuration the present one.
pub(crate) fn live(
    config: &Config,
    watch: Watch,
) -> (impl Stack + use<>, impl FnMut(&Config) + Send + 'static) {
    let (mut upstreams, mut limits, mut budgets) = (Kept::new(), Kept::new(), Kept::new());
    let mut make = move |config: &Config| {
        let now = Clock::default().now();
        let whole: HashMap<&str, _> = config
            .upstreams
            .iter()
            .filter(|upstream| upstream.split().is_empty())
            .map(|upstream| {
                let settings = upstream.settings(config);
                let (service, endpoints) =
                    upstreams.keep(upstream.name(), settings, || upstream::whole(config, upstream, &watch));
                // Those that stay keep their connections, breakers and loads; those that are gone drain.
                endpoints.replace(upstream.list(), now).expect("checked when the configuration was read");
                (upstream.name(), service)
            })
            .collect();
        let by_name = upstream::by_name(config, &whole, &watch);
        if config.routes().any(Route::trace) {
            extras::start_tracing();
        }
        let routes = routing::routes(config, |route| {
            let Some(Target::Upstream(name)) = route.target() else {
                unreachable!("only these have a stack")
            };
            let watching = watch.route(&route.name(), name.get_ref());
            let limit = route.rate_limit().map(|limit| {
                let settings = (limit.clone(), config.trusted_proxies().collect::<Vec<_>>());
                let make = || stack::limit(config, route, limit, &watching);
                limits.keep(&route.name(), settings, make)
            });
            let budget =
                route.retry().map(|retry| budgets.keep(&route.name(), retry.clone(), || retry.budget()));
            let stack = stack::stack(route, limit, budget, by_name[name.get_ref()].clone(), &watching);
            watching.around(extras::around(route, stack))
        });
        upstreams.turn();
        limits.turn();
        budgets.turn();
        // Before anything reads who the caller is said to be.
        option_layer(config.identity()).layer(routes.expect("checked when the configuration was read"))
    };
    let live = Live(Arc::new(ArcSwap::from_pointee(make(config))));
    let present = live.clone();
    (live, move |config: &Config| present.0.store(Arc::new(make(config))))
}
