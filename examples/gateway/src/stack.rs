//! Between a request and its upstream: the layers of one route, outermost first. The README draws them.

use std::{convert::Infallible, time::Duration};

use buttress::{
    CircuitBreakerLayer, Fail, Global, Key, KeySink, Proxy, RateLimitLayer, RetryLayer, ServiceBuilderExt,
    TimeoutLayer,
    answer::AnswerErrorsLayer,
    body::ReplyBody,
    classify::{self, Status},
    key::{self, ClientIp, Header},
    proxy, reject,
    retry::ReplayBody,
    timeout::UploadBody,
};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use hyper::body::{Body, Incoming};
use tower::{BoxError, Service, ServiceBuilder, util::option_layer};

use crate::{
    config::{self, Config, RateLimit, Route, Upstream},
    faults::{faults, shadows, transitions},
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

/// What forwards: it gets the requests' bodies from the retries, through the timeouts.
pub(crate) type Forward = Proxy<UploadBody<ReplayBody<Incoming>>>;

/// A breaker that judges answers by their status.
pub(crate) type Breaker = CircuitBreakerLayer<Global, Fail, Status>;

/// The breaker of `upstream`, made once: all routes to it share what is known of it.
pub(crate) fn breaker(upstream: &Upstream) -> Option<Breaker> {
    let settings = upstream.circuit_breaker()?.settings();
    let breaker = CircuitBreakerLayer::try_new(settings).expect("checked when the configuration was read");
    Some(breaker.named(upstream.name().to_owned()).classify(classify::status()).observe(transitions))
}

/// The layers of `route` on top of `breaker` and `proxy`.
pub(crate) fn stack(config: &Config, route: &Route, breaker: Option<Breaker>, proxy: Forward) -> impl Stack {
    let timeout = route.timeout();
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
            .observe(shadows)
    });
    let retry = match route.retry() {
        None => RetryLayer::default().attempts(1),
        Some(retry) => {
            let layer = RetryLayer::default().attempts(retry.attempts());
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
    ServiceBuilder::new()
        // What the layers below and the proxy give up on leaves as an answer. It names no address: that is for the
        // operator, not for the client.
        .layer(AnswerErrorsLayer::new().describe(proxy::Error::problem).observe(faults(route)))
        // Before the timeouts: a refused request costs no timer and no connection.
        .layer(option_layer(limit))
        .layer(TimeoutLayer::total(timeout.total().unwrap_or(Duration::MAX)))
        // Around the breaker, which so sees each attempt.
        .layer(retry)
        .layer(option_layer(breaker))
        .layer(
            TimeoutLayer::head(timeout.head())
                // The head time begins when the request has been sent; until then it must keep moving.
                .and_upload(timeout.idle())
                .and_idle(timeout.idle()),
        )
        // The upstream's body cannot be made from bytes; what the layers answer with can.
        .lift_bodies()
        .service(proxy)
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
