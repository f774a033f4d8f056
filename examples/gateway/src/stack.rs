//! Between a request and its upstream: the layers of one route, outermost first. The README draws them.

use std::{convert::Infallible, error::Error, iter::successors, time::Duration};

use buttress::{
    Budget, Key, KeySink, Problem, RateLimitLayer, RetryLayer, TimeoutLayer,
    answer::AnswerErrorsLayer,
    body::ReplyBody,
    key::{self, ClientIp, Header},
    proxy,
    rate_limit::{
        Memory,
        rules::{KeyCost, PlanBy, Rules},
    },
    reject::{self, Respond},
    retry::ReplayBody,
};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::LengthLimitError;
use hyper::body::Body;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    util::{MapRequestLayer, option_layer},
};

use crate::{
    config::{self, Config, RateLimit, Route, Timeout},
    erased::{Answer, Erased},
    inbound::Inbound,
    sent::Sent,
    upstream::{Forwarding, RouteTimes, Upstreamed},
    watch::{Event, Watching},
};

/// What a route's service is, and what stands around all routes.
pub(crate) trait Stack:
    Service<Request<Inbound>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static;
}

impl<S, B> Stack for S
where
    S: Service<Request<Inbound>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static,
{
    type Body = B;
}

/// The budgets of a route's callers, over all its connections. A clone is the same one.
pub(crate) type Limit<P> = RateLimitLayer<BudgetKey, Respond, Memory, Rules<KeyCost, PlanBy<P>>>;

/// Which plan a request is on.
pub(crate) trait PlanOf: Fn(&Request<Inbound>) -> usize + Clone + Send + Sync + 'static {}

impl<F: Fn(&Request<Inbound>) -> usize + Clone + Send + Sync + 'static> PlanOf for F {}

/// The limit of `route`.
pub(crate) fn limit(
    config: &Config,
    route: &Route,
    limit: &RateLimit,
    watching: &Watching,
) -> Limit<impl PlanOf + use<>> {
    let plans = limit.plans(route.path()).expect("checked when the configuration was read");
    let (key, plan, watching) = (BudgetKey::new(config, limit), limit.clone(), watching.clone());
    let field = key.field().filter(|_| plans.len() > 1);
    RateLimitLayer::plans(plans)
        .plan(move |req: &Request<Inbound>| {
            let key = field.as_ref().and_then(|field| req.headers().get(field));
            key.map_or(0, |key| plan.plan_of(key.as_bytes()))
        })
        .by(key)
        .on_missing_key(limit.missing_key())
        .on_reject(reject::respond())
        .observe(move |event| watching.saw(Event::RateLimit(event)))
}

/// The layers of `route` on top of `upstream`, with its limit and the budget of its retries, if it has them.
pub(crate) fn stack<P: PlanOf>(
    route: &Route,
    limit: Option<Limit<P>>,
    budget: Option<Budget>,
    upstream: Upstreamed,
    watching: &Watching,
) -> Erased<Inbound, Infallible> {
    if let Some(handle) = limit.as_ref().map(RateLimitLayer::handle) {
        watching.limit(move || handle.snapshot());
    }
    let (Some(retry), Some(budget)) = (route.retry(), budget) else {
        let once = |request: Request<Inbound>| request.map(Sent::Once);
        return over(route, limit, upstream.map_request(once), watching);
    };
    let layer = RetryLayer::default().attempts(retry.attempts()).elsewhere().observe({
        let watching = watching.clone();
        move |event| watching.saw(Event::Retry(event))
    });
    let mut layer = layer.backoff(retry.backoff()).budget(budget);
    if let Some(name) = retry.attempt_header() {
        layer = layer.attempt_header(name);
    }
    if let Some(name) = retry.no_retry_header() {
        layer = layer.no_retry_header(name);
    }
    if let Some(statuses) = retry.statuses() {
        layer = layer.on_status(statuses);
    }
    watching.retries(|| layer.handle());
    let again = |request: Request<ReplayBody<Inbound>>| request.map(Sent::Again);
    // Around the balancer: each attempt goes to an endpoint that was not tried, and is counted there.
    let attempts = ServiceBuilder::new()
        .layer(layer.overall(route.timeout().total().unwrap_or(Duration::MAX)))
        .service(upstream.map_request(again));
    over(route, limit, attempts, watching)
}

/// What stands over the attempts. A place that is not asked for is not there.
fn over<S: Forwarding<Inbound, Answer = Answer>, P: PlanOf>(
    route: &Route,
    limit: Option<Limit<P>>,
    attempts: S,
    watching: &Watching,
) -> Erased<Inbound, Infallible> {
    let timeout = route.timeout();
    // Upstreams go by the defaults unless a request says otherwise.
    let at_endpoints = (timeout != Timeout::default()).then(|| RouteTimes::new(&timeout, watching));
    let told = MapRequestLayer::new(move |mut request: Request<Inbound>| {
        if let Some(times) = &at_endpoints {
            request.extensions_mut().insert(times.clone());
        }
        request
    });
    // What the layers below and the proxy give up on leaves as an answer. It names no address: that is for the
    // operator, not for the client.
    let answers = AnswerErrorsLayer::new().describe(problem).observe({
        let watching = watching.clone();
        move |event| watching.saw(Event::Answer(event))
    });
    let total = |total| {
        TimeoutLayer::total(total).observe({
            let watching = watching.clone();
            move |event| watching.saw(Event::Timeout(event))
        })
    };
    let stack = ServiceBuilder::new().layer(answers);
    // Before the timeouts: a refused request costs no timer and no connection.
    match (limit, timeout.total()) {
        (None, None) => Erased::again(stack.layer(told).service(attempts)),
        (Some(limit), None) => Erased::again(stack.layer(limit).layer(told).service(attempts)),
        (limit, Some(time)) => {
            Erased::new(stack.layer(option_layer(limit)).layer(total(time)).layer(told).service(attempts))
        }
    }
}

/// What a client is told of an error.
fn problem(error: &proxy::Error) -> Option<Problem> {
    let mut causes = successors(error.source(), |&cause| cause.source());
    if causes.any(|cause| cause.is::<LengthLimitError>()) {
        let detail = "the body is longer than what is taken here";
        return Some(Problem::new(StatusCode::PAYLOAD_TOO_LARGE).with_detail(detail));
    }
    error.problem()
}

/// Whose budget a request is charged to. A request without the field shares one budget with its like.
#[derive(Clone, Debug)]
pub(crate) struct BudgetKey {
    whose: Whose,
    cost: u32,
}

#[derive(Clone, Debug)]
enum Whose {
    Ip(ClientIp),
    Header(HeaderName, Header),
    Route,
}

impl BudgetKey {
    fn new(config: &Config, limit: &RateLimit) -> Self {
        let whose = match limit.key() {
            config::Key::Ip => Whose::Ip(key::client_ip().x_forwarded_for(config.trusted_proxies())),
            config::Key::Header(name) => Whose::Header(name.clone(), key::header(name)),
            config::Key::Route => Whose::Route,
        };
        Self { whose, cost: limit.cost() }
    }

    /// The field that it reads, if it reads one.
    fn field(&self) -> Option<HeaderName> {
        match &self.whose {
            Whose::Header(name, _) => Some(name.clone()),
            Whose::Ip(_) | Whose::Route => None,
        }
    }
}

impl<B> Key<Request<B>> for BudgetKey {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        match &self.whose {
            Whose::Ip(client) => client.key(request, to),
            Whose::Header(_, field) => field.key(request, to),
            Whose::Route => true,
        }
    }

    fn cost(&self, _: &Request<B>) -> u32 {
        self.cost
    }
}
