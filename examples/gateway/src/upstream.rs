//! An upstream: its endpoints, which of them gets a call, and what a call of an endpoint goes through.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use buttress::{
    Balancer, CircuitBreakerLayer, Endpoint, Endpoints, Fail, Global, Key, KeySink, OnCall, OnCallFuture,
    Proxy, ServiceBuilderExt, TimeoutLayer,
    balance::Members,
    body::ReplyBody,
    classify::{self, Status},
    health::Outliers,
    key::{self, ClientIp, Header},
    proxy,
    retry::ReplayBody,
    timeout::UploadBody,
};
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::{Body, Incoming};
use tower::{BoxError, Service, ServiceBuilder, util::option_layer};

use crate::{
    config::{BalanceKey, Config, Timeout, Upstream},
    faults::{balancing, health, transitions},
};

/// What forwards: it gets the requests' bodies from the retries, through the timeouts.
type Forward = Proxy<UploadBody<ReplayBody<Incoming>>>;

/// A breaker that judges answers by their status.
type Breaker = CircuitBreakerLayer<Global, Fail, Status>;

/// What an upstream is to the layers above it.
pub(crate) trait Forwarding:
    Service<
        Request<ReplayBody<Incoming>>,
        Response = Response<Self::Answer>,
        Error = proxy::Error,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
    type Answer: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static;
}

impl<S, B> Forwarding for S
where
    S: Service<Request<ReplayBody<Incoming>>, Response = Response<B>, Error = proxy::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static,
{
    type Answer = B;
}

/// The number of the route that a request took: it says which timeouts are its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteNumber(pub(crate) usize);

/// The upstream of this configuration, made once: all routes to it share its connections, its loads, and what is known of its
/// endpoints. `timeouts` are those of the routes, by their numbers.
///
/// It starts the tasks that look after the endpoints; they end with it.
pub(crate) fn upstream(
    config: &Config,
    upstream: &Upstream,
    timeouts: &[Timeout],
) -> impl Forwarding + use<> {
    let endpoints = Endpoints::new(upstream.list()).expect("checked when the configuration was read");
    let outliers = upstream.outlier().map(|outlier| {
        let name = upstream.name().to_owned();
        let outliers = outlier.detection().named(name).observe(health).follow(&endpoints);
        tokio::spawn(outliers.run());
        outliers
    });
    let addresses: HashMap<String, proxy::Address> =
        upstream.endpoints().iter().map(|one| (one.address().to_string(), one.address().clone())).collect();
    let proxy = {
        let behind: Vec<_> = config.trusted_proxies().collect();
        move |endpoint: &Endpoint| {
            let address = addresses[endpoint.name().as_str()].clone();
            let proxy = Proxy::to(address).expect("checked when the configuration was read");
            // The list of a proxy of ours is continued. For everyone else we begin it: what a client made up ends here.
            proxy.x_forwarded_behind(behind.iter().copied())
        }
    };
    let (timeouts, breaker) = (timeouts.to_vec(), breaker(upstream));
    let make = move |endpoint: &Endpoint| {
        let breaker = breaker.as_ref().map(|breaker| breaker(endpoint));
        let gate = gate(breaker.as_ref());
        (stack(&timeouts, breaker, outliers.as_ref(), endpoint, proxy(endpoint)), gate)
    };
    let balance = upstream.balance();
    Balancer::new(Members::gated(endpoints, make))
        .policy(balance.policy())
        .settings(balance.settings(upstream.name().to_owned()).observe(balancing(upstream)))
        .classify(classify::status())
        .by(CallKey::new(config, &balance.key()))
        // A call is in flight until the last byte of its answer.
        .at_end()
}

/// Makes the breaker of an endpoint, where the configuration asks for one.
fn breaker(upstream: &Upstream) -> Option<impl Fn(&Endpoint) -> Breaker + Send + Sync + use<>> {
    let settings = upstream.circuit_breaker()?.settings();
    let (name, has_one) = (upstream.name().to_owned(), upstream.endpoints().len() == 1);
    Some(move |endpoint: &Endpoint| {
        let breaker = CircuitBreakerLayer::try_new(settings.clone());
        let breaker = breaker.expect("checked when the configuration was read");
        let name = if has_one { name.clone() } else { format!("{name} {}", endpoint.name()) };
        breaker.named(name).classify(classify::status()).observe(transitions)
    })
}

/// Whether the breaker would let a call through, so that one that is open is passed over.
fn gate(breaker: Option<&Breaker>) -> impl Fn() -> bool + Send + Sync + use<> {
    let handle = breaker.map(Breaker::handle);
    move || handle.as_ref().is_none_or(|breaker| breaker.might_pass())
}

/// The layers of one endpoint on top of its proxy.
fn stack(
    timeouts: &[Timeout],
    breaker: Option<Breaker>,
    outliers: Option<&Outliers>,
    endpoint: &Endpoint,
    proxy: Forward,
) -> impl Forwarding + use<> {
    let timed = |timeout: &Timeout| {
        ServiceBuilder::new()
            .layer(
                TimeoutLayer::head(timeout.head())
                    // The head time begins when the request has been sent; until then it must keep moving.
                    .and_upload(timeout.idle())
                    .and_idle(timeout.idle()),
            )
            // The upstream's body cannot be made from bytes; what the layers answer with can.
            .lift_bodies()
            .service(proxy.clone())
    };
    let timed: Arc<[_]> = timeouts.iter().map(timed).collect();
    ServiceBuilder::new()
        .layer(option_layer(breaker))
        .layer(option_layer(outliers.map(|outliers| outliers.layer(endpoint).over_http())))
        .service(ByRoute(timed))
}

/// One service for each route; a request says which route it took.
struct ByRoute<S>(Arc<[S]>);

impl<S, B> Service<Request<B>> for ByRoute<S>
where
    S: Service<Request<B>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OnCallFuture<S, Request<B>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let number = request.extensions().get().map_or(0, |&RouteNumber(number)| number);
        OnCall::new(self.0[number].clone()).call(request)
    }
}

impl<S> Clone for ByRoute<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What decides about the endpoint of a call.
#[derive(Clone, Debug)]
enum CallKey {
    None,
    Ip(ClientIp),
    Path,
    Header(Header),
    Cookie(String),
}

impl CallKey {
    fn new(config: &Config, key: &BalanceKey) -> Self {
        match key {
            BalanceKey::None => Self::None,
            BalanceKey::Ip => Self::Ip(key::client_ip().x_forwarded_for(config.trusted_proxies())),
            BalanceKey::Path => Self::Path,
            BalanceKey::Header(name) => Self::Header(key::header(name)),
            BalanceKey::Cookie(name) => Self::Cookie(name.clone()),
        }
    }
}

impl<B> Key<Request<B>> for CallKey {
    fn key<K: KeySink>(&self, request: &Request<B>, to: &mut K) -> bool {
        match self {
            Self::None => false,
            Self::Ip(client) => client.key(request, to),
            Self::Path => {
                to.bytes(request.uri().path().as_bytes());
                true
            }
            Self::Header(field) => field.key(request, to),
            Self::Cookie(name) => {
                let fields = request.headers().get_all(header::COOKIE);
                let mut pairs = fields.iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
                let value = pairs
                    .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
                value.is_some_and(|value| {
                    to.bytes(value);
                    true
                })
            }
        }
    }
}
