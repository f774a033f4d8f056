//! Between a request and its upstream: the layers of one route, outermost first. The README draws them.

use std::{convert::Infallible, time::Duration};

use buttress::{
    Key, KeySink, RateLimitLayer, RetryLayer, TimeoutLayer,
    answer::AnswerErrorsLayer,
    body::ReplyBody,
    key::{self, ClientIp, Header},
    proxy, reject,
    retry::ReplayBody,
};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use hyper::body::{Body, Incoming};
use tower::{
    BoxError, Service, ServiceBuilder,
    util::{MapRequestLayer, option_layer},
};

use crate::{
    config::{self, Config, RateLimit, Route},
    upstream::{Forwarding, RouteNumber},
    watch::{Event, Watch},
};

/// What a route's service is. Nothing in it is boxed, and a clone of it is a few counters up.
pub(crate) trait Stack:
    Service<Request<Incoming>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static;
}

impl<S, B> Stack for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static,
{
    type Body = B;
}

/// The layers of `route`, whose number is given, on top of `upstream`.
pub(crate) fn stack<U: Forwarding<ReplayBody<Incoming>>>(
    config: &Config,
    number: usize,
    route: &Route,
    upstream: U,
    watch: &Watch,
) -> impl Stack + use<U> {
    let timeout = route.timeout();
    let watching = watch.route(route.prefix().as_str(), route.upstream());
    // One value per route, made once: one budget over all connections.
    let limit = route.rate_limit().map(|limit| {
        let plans = limit.plans(route.prefix().as_str()).expect("checked when the configuration was read");
        let (cost, key, plan) = (limit.cost(), BudgetKey::new(config, limit), limit.clone());
        let field = key.field();
        RateLimitLayer::plans(plans)
            .plan(move |req: &Request<Incoming>| {
                let key = field.as_ref().and_then(|field| req.headers().get(field));
                key.map_or(0, |key| plan.plan_of(key.as_bytes()))
            })
            .by(key)
            .cost(move |_: &Request<Incoming>| cost)
            .on_missing_key(limit.missing_key())
            .on_reject(reject::respond())
            .observe({
                let watching = watching.clone();
                move |event| watching.saw(Event::RateLimit(event))
            })
    });
    let retry = match route.retry() {
        None => RetryLayer::default().attempts(1),
        Some(retry) => {
            let layer = RetryLayer::default().attempts(retry.attempts()).elsewhere().observe({
                let watching = watching.clone();
                move |event| watching.saw(Event::Retry(event))
            });
            let mut layer = layer.backoff(retry.backoff()).budget(retry.budget());
            if let Some(name) = retry.attempt_header() {
                layer = layer.attempt_header(name);
            }
            if let Some(name) = retry.no_retry_header() {
                layer = layer.no_retry_header(name);
            }
            match retry.statuses() {
                Some(statuses) => layer.on_status(statuses),
                None => layer,
            }
        }
    };
    let stack = ServiceBuilder::new()
        // What the layers below and the proxy give up on leaves as an answer. It names no address: that is for the
        // operator, not for the client.
        .layer(AnswerErrorsLayer::new().describe(proxy::Error::problem).observe({
            let watching = watching.clone();
            move |event| watching.saw(Event::Answer(event))
        }))
        // Before the timeouts: a refused request costs no timer and no connection.
        .layer(option_layer(limit))
        .layer(TimeoutLayer::total(timeout.total().unwrap_or(Duration::MAX)).observe({
            let watching = watching.clone();
            move |event| watching.saw(Event::Timeout(event))
        }))
        .layer(MapRequestLayer::new(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(RouteNumber(number));
            request
        }))
        // Around the balancer: each attempt goes to an endpoint that was not tried, and is counted there.
        .layer(retry.overall(timeout.total().unwrap_or(Duration::MAX)))
        .service(upstream);
    watching.around(stack)
}

/// Whose budget a request is charged to. A request without the field shares one budget with its like.
#[derive(Clone, Debug)]
enum BudgetKey {
    Ip(ClientIp),
    Header(HeaderName, Header),
    Route,
}

impl BudgetKey {
    fn new(config: &Config, limit: &RateLimit) -> Self {
        match limit.key() {
            config::Key::Ip => Self::Ip(key::client_ip().x_forwarded_for(config.trusted_proxies())),
            config::Key::Header(name) => Self::Header(name.clone(), key::header(name)),
            config::Key::Route => Self::Route,
        }
    }

    /// The field that it reads, if it reads one.
    fn field(&self) -> Option<HeaderName> {
        match self {
            Self::Header(name, _) => Some(name.clone()),
            Self::Ip(_) | Self::Route => None,
        }
    }
}

impl<B> Key<Request<B>> for BudgetKey {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        match self {
            Self::Ip(client) => client.key(request, to),
            Self::Header(_, field) => field.key(request, to),
            Self::Route => true,
        }
    }
}
