//! An upstream: its endpoints, which of them gets a call, and what a call of an endpoint goes through.

use std::{
    collections::HashMap,
    task::{Context, Poll},
};

use buttress::{
    Balancer, CircuitBreakerLayer, Endpoint, Endpoints, Fail, Global, Key, KeySink, Proxy, ServiceBuilderExt,
    TimeoutLayer,
    balance::{Members, MirrorLayer, Split},
    body::ReplyBody,
    classify::{self, Status},
    health::{Finding, HealthEvent, Outliers},
    key::{self, ClientIp, Header},
    proxy,
    timeout::{AfterUpload, AtEnd, UploadBody},
};
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Body;
use tower::{BoxError, Layer, Service, ServiceBuilder, util::option_layer};

use crate::{
    config::{BalanceKey, Config, Timeout, Upstream},
    erased::Erased,
    sent::Sent,
    watch::{Event, Watch, Watching},
};

/// A breaker that judges answers by their status.
type Breaker = CircuitBreakerLayer<Global, Fail, Status>;

/// What an upstream is to the layers above it, which give it requests with bodies of this type.
pub(crate) trait Forwarding<B>:
    Service<Request<B>, Response = Response<Self::Answer>, Error = proxy::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    type Answer: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static;
}

impl<S, B, A> Forwarding<B> for S
where
    S: Service<Request<B>, Response = Response<A>, Error = proxy::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError>> + ReplyBody + Send + 'static,
{
    type Answer = A;
}

/// A body of a request, on its way to an upstream.
pub(crate) trait Upload: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static> Upload for B {}

/// An upstream, to those who send to it.
pub(crate) type Upstreamed = Erased<Sent, proxy::Error>;

/// The timeouts at the endpoints, which are the route's own: the request carries them there.
#[derive(Clone, Debug)]
pub(crate) struct RouteTimes(Times);

type Times = TimeoutLayer<Fail, AfterUpload<AtEnd>>;

impl RouteTimes {
    pub(crate) fn new(timeout: &Timeout, watching: &Watching) -> Self {
        let watching = watching.clone();
        // The head time begins when the request has been sent; until then it must keep moving.
        let times = TimeoutLayer::head(timeout.head()).and_upload(timeout.idle()).and_idle(timeout.idle());
        Self(times.observe(move |event| watching.saw(Event::Timeout(event))))
    }
}

/// All upstreams of `config` by their names, the `whole` ones and those that split their traffic over these. An upstream is made
/// once: all routes to it share its connections, its loads, and what is known of its endpoints.
pub(crate) fn by_name(
    config: &Config,
    whole: &HashMap<&str, Upstreamed>,
    watch: &Watch,
) -> HashMap<String, Upstreamed> {
    let split = |upstream: &Upstream| {
        let sides = upstream.split().iter();
        let sides = sides.map(|side| (side.weight, whole[side.upstream.get_ref().as_str()].clone()));
        let watching = watch.upstream(upstream.name());
        Split::new(sides)
            .by(CallKey::new(config, &upstream.split_key()))
            .named(upstream.name().to_owned())
            .observe(move |event| watching.saw(Event::Split(event)))
    };
    let upstreams = config.upstreams.iter().map(|upstream| {
        let service = match whole.get(upstream.name()) {
            Some(whole) => whole.clone(),
            None => Erased::again(split(upstream)),
        };
        (upstream.name().to_owned(), service)
    });
    upstreams.collect()
}

/// An upstream with addresses of its own, and with what gets a copy of its traffic; and the list of its endpoints.
///
/// Tasks look after the endpoints; they end with the upstream.
pub(crate) fn whole(config: &Config, upstream: &Upstream, watch: &Watch) -> (Upstreamed, Endpoints) {
    if upstream.is_plain() && watch.metrics().is_none() {
        return plain(config, upstream, watch);
    }
    let Some(mirror) = upstream.mirror() else {
        return balanced(config, upstream, watch);
    };
    let target = config.upstream(mirror.upstream.get_ref()).expect("checked when the configuration was read");
    let watching = watch.upstream(upstream.name());
    let layer = MirrorLayer::new(balanced(config, target, &watch.of_copies()).0)
        .sample(mirror.share())
        .observe(move |event| watching.saw(Event::Mirror(event)))
        .named(upstream.name().to_owned())
        .by(CallKey::new(config, &mirror.key()));
    let layer = if mirror.safe_only { layer.safe_only() } else { layer };
    let (balanced, endpoints) = balanced(config, upstream, watch);
    (Erased::again(layer.layer(balanced)), endpoints)
}

/// One address of which nothing is asked: nothing has to be chosen, so there is no balancer.
fn plain(config: &Config, upstream: &Upstream, watch: &Watch) -> (Upstreamed, Endpoints) {
    let watching = watch.upstream(upstream.name());
    let endpoints = Endpoints::new(upstream.list()).expect("checked when the configuration was read");
    let endpoint = endpoints.list().first().cloned().expect("it has one");
    let times = RouteTimes::new(&Timeout::default(), &watching);
    let lifted = ServiceBuilder::new().lift_bodies().service(proxies(config, upstream)(&endpoint));
    let service =
        ServiceBuilder::new().layer(watching.attempts(&endpoint)).service(Timed { lifted, otherwise: times });
    (Erased::new(service), endpoints)
}

/// What makes the proxies of an upstream.
fn proxies<B: Upload>(
    config: &Config,
    upstream: &Upstream,
) -> impl Fn(&Endpoint) -> Proxy<UploadBody<B>> + Send + Sync + use<B> {
    let behind: Vec<_> = config.trusted_proxies().collect();
    let (http2, tls) = (upstream.http2(), upstream.tls().cloned());
    move |endpoint| {
        let proxy = Proxy::to(endpoint.address().as_str());
        // The list of a proxy of ours is continued. For everyone else we begin it: what a client made up ends here.
        let proxy = proxy
            .expect("checked when the configuration was read")
            .x_forwarded_behind(behind.iter().copied());
        let proxy = if http2 { proxy.http2() } else { proxy };
        match tls.clone() {
            Some(tls) => proxy.tls(tls),
            None => proxy,
        }
    }
}

/// An upstream with addresses of its own: which of its endpoints gets a call.
fn balanced<B: Upload>(
    config: &Config,
    upstream: &Upstream,
    watch: &Watch,
) -> (Erased<B, proxy::Error>, Endpoints) {
    let watching = watch.upstream(upstream.name());
    let endpoints = Endpoints::new(upstream.list()).expect("checked when the configuration was read");
    let name = upstream.name().to_owned();
    let outliers = upstream.outlier().map(|outlier| {
        let outliers = outlier.detection().named(name.clone());
        let watching = watching.clone();
        let outliers = outliers.observe(move |event| watching.saw(Event::Health(event))).follow(&endpoints);
        tokio::spawn(outliers.run());
        outliers
    });
    let checks = upstream.health().map(|check| {
        let ejected = outliers.as_ref().map(Outliers::handle);
        let watching = watching.clone();
        let check = check.check_of().named(name.clone()).observe(move |event| {
            if let (Some(ejected), HealthEvent::Probed { endpoint, finding: Finding::Pass, .. }) =
                (&ejected, event)
            {
                ejected.check_passed(endpoint.name());
            }
            watching.saw(Event::Health(event));
        });
        check.run(&endpoints).expect("checked when the configuration was read").spawn()
    });
    let sticky = upstream.sticky().map(|sticky| {
        let layer = sticky.layer(&name, &endpoints).expect("checked when the configuration was read");
        let watching = watching.clone();
        layer.observe(move |event| watching.saw(Event::Sticky(event)))
    });
    let times = RouteTimes::new(&Timeout::default(), &watching);
    let breaker = breaker(upstream, watching.clone());
    let (whole, at_endpoints) = (watching.clone(), watching.clone());
    let proxy = proxies(config, upstream);
    let make = move |endpoint: &Endpoint| {
        // They go on as long as services may be made.
        let _ = &checks;
        let proxy = proxy(endpoint);
        let breaker = breaker.as_ref().map(|breaker| breaker(endpoint));
        if let Some(breaker) = &breaker {
            at_endpoints.breaker(endpoint, || breaker.handle());
        }
        let gate = gate(breaker.as_ref());
        (stack(times.clone(), breaker, outliers.as_ref(), endpoint, proxy, &at_endpoints), gate)
    };
    let balance = upstream.balance();
    let balancer = Balancer::new(Members::gated(endpoints.clone(), make))
        .policy(balance.policy())
        .settings(balance.settings(name).observe(move |event| watching.saw(Event::Balance(event))))
        .classify(classify::status())
        .by(CallKey::new(config, &balance.key()))
        // A call is in flight until the last byte of its answer.
        .at_end();
    whole.balancer(|| balancer.handle());
    let service = match sticky {
        None => Erased::new(balancer),
        Some(sticky) => Erased::new(sticky.layer(balancer)),
    };
    (service, endpoints)
}

/// Makes the breaker of an endpoint, where the configuration asks for one.
fn breaker(
    upstream: &Upstream,
    watching: Watching,
) -> Option<impl Fn(&Endpoint) -> Breaker + Send + Sync + use<>> {
    let settings = upstream.circuit_breaker()?.settings();
    let (name, has_one) = (upstream.name().to_owned(), upstream.endpoints().len() == 1);
    Some(move |endpoint: &Endpoint| {
        let breaker = CircuitBreakerLayer::try_new(settings.clone());
        let breaker = breaker.expect("checked when the configuration was read");
        let name = if has_one { name.clone() } else { format!("{name} {}", endpoint.name()) };
        let watching = watching.clone();
        let breaker = breaker.named(name).classify(classify::status());
        breaker.observe(move |event| watching.saw(Event::CircuitBreaker(event)))
    })
}

/// Whether the breaker would let a call through, so that one that is open is passed over.
fn gate(breaker: Option<&Breaker>) -> impl Fn() -> bool + Send + Sync + use<> {
    let handle = breaker.map(Breaker::handle);
    move || handle.as_ref().is_none_or(|breaker| breaker.might_pass())
}

/// The layers of one endpoint on top of its proxy.
fn stack<B: Upload>(
    times: RouteTimes,
    breaker: Option<Breaker>,
    outliers: Option<&Outliers>,
    endpoint: &Endpoint,
    proxy: Proxy<UploadBody<B>>,
    watching: &Watching,
) -> impl Forwarding<B> + use<B> {
    // The upstream's body cannot be made from bytes; what the layers answer with can.
    let lifted = ServiceBuilder::new().lift_bodies().service(proxy);
    ServiceBuilder::new()
        .layer(watching.attempts(endpoint))
        .layer(option_layer(breaker))
        .layer(option_layer(outliers.map(|outliers| outliers.layer(endpoint).over_http())))
        .service(Timed { lifted, otherwise: times })
}

/// Gives each request the timeouts of its route.
#[derive(Clone)]
struct Timed<S> {
    lifted: S,
    otherwise: RouteTimes,
}

impl<S, B> Service<Request<B>> for Timed<S>
where
    S: Clone,
    Times: Layer<S, Service: Service<Request<B>>>,
{
    type Response = <<Times as Layer<S>>::Service as Service<Request<B>>>::Response;
    type Error = <<Times as Layer<S>>::Service as Service<Request<B>>>::Error;
    type Future = <<Times as Layer<S>>::Service as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let RouteTimes(times) = request.extensions().get().unwrap_or(&self.otherwise);
        // A layer readies what it calls.
        times.layer(self.lifted.clone()).call(request)
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
