use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{BoxError, Clock, Rejection, RejectionKind};
use buttress_http::Problem;
use buttress_http::key::Net;
use buttress_http::reject::Form;
use bytes::Bytes;
use http::header::PROXY_AUTHENTICATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use super::credentials::Credentials;
use super::hosts::Hosts;
use super::rules::Rules;
use super::target::Target;
use super::tunnels::Opening;
use crate::connection::Permit;
use crate::dial::dial;
use crate::error::Unusable;
use crate::policy::Via;
use crate::tunnel::Limits;
use crate::{Address, Draining, Error, ErrorKind, Proxy};

/// The body of an answer: the target's, or bytes of ours where a request is refused.
pub type Body = Either<Full<Bytes>, crate::Body>;

/// Of so many addresses the connections are kept for the next request.
const ADDRESSES: usize = 1024;

/// How often a `CONNECT` may have passed here, as [`Proxy::max_passes`] has it.
const PASSES: usize = 8;

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Sends requests on to where their clients want them, and opens tunnels for `CONNECT`.
///
/// What it refuses it answers itself, as `application/problem+json`; what fails later is an [`Error`], as a
/// [`Proxy`]'s is. `Proxy-Authorization` and all other fields of the connection stay here, and `Via` is appended.
///
/// A clone shares the connections and the count of tunnels. Each method that sets an option begins anew with both, so
/// they stand where the proxy is made. Tunnels need a server that gives its connections away (`with_upgrades` of hyper;
/// the [`server`](crate::server) does).
///
/// # Defaults
///
/// | option | default | why |
/// |---|---|---|
/// | [`ports`](Self::ports) | 80 and 443 | what the web is at: no mail is sent, no shell opened |
/// | [`allow_hosts`](Self::allow_hosts) | all | |
/// | addresses | public ones | what is private was not meant for who asks a proxy |
/// | [`credentials`](Self::credentials) | none asked for | no password is a good default; so listen where only those are who may use it |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s | the Internet is wider than a data centre; a lost SYN is sent again after 1 and 3 s |
/// | [`idle_timeout`](Self::idle_timeout) | 5 min | connections of browsers rest, and those of programs ping every few minutes at least |
/// | [`grace`](Self::grace) | 30 s | as long as the server drains |
/// | [`max_tunnels`](Self::max_tunnels) | 10 000 | below the 28 000 ports that Linux has for one destination |
///
/// # Cancel safety
///
/// Dropping the future closes what was opened. A tunnel that was answered goes on until it ends.
pub struct Forward<B = Incoming> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    options: Options,
    proxies: Mutex<HashMap<SocketAddr, Proxy<B>>>,
    tunnels: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Options {
    rules: Rules,
    credentials: Credentials,
    challenge: HeaderValue,
    via: (String, Via),
    look_up: Option<Arc<dyn Fn(String) -> Found + Send + Sync>>,
    limits: Limits,
    connect_timeout: Duration,
    max_tunnels: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            credentials: Credentials::default(),
            challenge: HeaderValue::from_static("Basic realm=\"proxy\""),
            via: ("buttress".to_owned(), Via::new("buttress").expect("the name is a token")),
            look_up: None,
            limits: Limits {
                clock: Clock::default(),
                idle_timeout: Duration::from_secs(300),
                grace: Duration::from_secs(30),
            },
            connect_timeout: Duration::from_secs(5),
            max_tunnels: 10_000,
        }
    }
}

impl<B> Forward<B> {
    /// A proxy to every public address, at the ports 80 and 443.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Options::default())
    }

    /// Lets clients reach these ports alone. Default: 80 and 443.
    #[must_use]
    pub fn ports(self, ports: impl IntoIterator<Item = u16>) -> Self {
        let ports = ports.into_iter().collect();
        self.with(|options| options.rules.ports = Some(ports))
    }

    /// Lets clients reach every port: mail servers, shells and databases too, as far as their addresses are allowed.
    #[must_use]
    pub fn any_port(self) -> Self {
        self.with(|options| options.rules.ports = None)
    }

    /// Lets clients reach these hosts alone: names, `*.` and a name for all below it, addresses as clients write them.
    /// Called again, it adds to them. Default: all.
    ///
    /// Their addresses must be allowed as well.
    ///
    /// # Panics
    ///
    /// When one is neither a name nor an address.
    #[must_use]
    pub fn allow_hosts(self, hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.with(|options| {
            options.rules.allowed_hosts.get_or_insert_with(Hosts::default).add("allow_hosts", hosts);
        })
    }

    /// Keeps clients from these hosts, written as for [`allow_hosts`](Self::allow_hosts), which it wins over.
    ///
    /// A host has other names and its address: to keep clients from a place, deny its
    /// [network](Self::deny_networks).
    ///
    /// # Panics
    ///
    /// When one is neither a name nor an address.
    #[must_use]
    pub fn deny_hosts(self, hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.with(|options| options.rules.denied_hosts.add("deny_hosts", hosts))
    }

    /// Lets clients reach these networks besides the public addresses.
    ///
    /// Not public are, and so refused unless they are in such a network: private and link-local addresses (where clouds
    /// keep their metadata), this machine's own, multicast, those shared by carriers, those for documentation and
    /// benchmarks, and every IPv6 address that leads to such an IPv4 address (mapped, NAT64, 6to4).
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn allow_networks<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        self.with(|options| options.rules.allowed_nets.extend(parse("allow_networks", nets)))
    }

    /// Keeps clients from these networks, whatever else is allowed.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn deny_networks<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        self.with(|options| options.rules.denied_nets.extend(parse("deny_networks", nets)))
    }

    /// Asks clients for one of these pairs of a user and a password, by the `Basic` scheme (RFC 7617): 407, else.
    ///
    /// They are compared in constant time. `Basic` hides nothing: clients should come over TLS, or a network that nobody
    /// listens to.
    ///
    /// # Panics
    ///
    /// When there are none, or a user name has a colon in it.
    #[must_use]
    pub fn credentials<U, P>(self, pairs: impl IntoIterator<Item = (U, P)>) -> Self
    where
        U: AsRef<str>,
        P: AsRef<str>,
    {
        self.with(|options| options.credentials = Credentials::basic(pairs))
    }

    /// Asks `allow` of the value of `Proxy-Authorization`, if there is one: 407 where it says no.
    ///
    /// It takes the place of [`credentials`](Self::credentials): the one called last counts. It runs on every request, so
    /// it should not block.
    #[must_use]
    pub fn authorize(self, allow: impl Fn(Option<&HeaderValue>) -> bool + Send + Sync + 'static) -> Self {
        self.with(|options| options.credentials = Credentials::By(Arc::new(allow)))
    }

    /// What a 407 asks for, in place of `Basic realm="proxy"`: the whole value of `Proxy-Authenticate`.
    ///
    /// # Panics
    ///
    /// When `value` is no value of a field.
    #[must_use]
    pub fn challenge(self, value: &str) -> Self {
        let value = HeaderValue::try_from(value)
            .unwrap_or_else(|_| panic!("challenge must be a field's value, not `{}`", value.escape_debug()));
        self.with(|options| options.challenge = value)
    }

    /// The name of this proxy in `Via`. Default: `buttress`. By it a loop is found.
    ///
    /// # Panics
    ///
    /// When `name` is neither a token (RFC 9110 §5.6.2) nor a host with a port.
    #[must_use]
    pub fn via(self, name: &str) -> Self {
        let via = Via::new(name);
        assert!(via.is_some(), "via must be a token or a host with a port, not `{name}`");
        self.with(|options| options.via = (name.to_owned(), via.expect("looked at above")))
    }

    /// Looks names up by `look_up` in place of the system's resolver. It is asked once for each request.
    #[must_use]
    pub fn look_up<F>(self, look_up: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.with(|options| options.look_up = Some(Arc::new(move |host| Box::pin(look_up(host)))))
    }

    /// Gives up connecting after `timeout`; the look-up of a name has as long. Default: 5 s.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero: no connection could be made.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "connect_timeout must be longer than zero");
        self.with(|options| options.connect_timeout = timeout)
    }

    /// Ends a tunnel in which no byte has moved either way for `timeout`. Default: 5 min; [`Duration::MAX`] is for ever.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero: nothing could pass.
    #[must_use]
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "idle_timeout must be longer than zero");
        self.with(|options| options.limits.idle_timeout = timeout)
    }

    /// How long a tunnel may go on after the server has begun to drain, which it says by the request's extension
    /// [`Draining`]. Default: 30 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.with(|options| options.limits.grace = grace)
    }

    /// Has at most so many tunnels at a time; more are refused with
    /// [`RejectionKind::Overloaded`]. Default: 10 000.
    ///
    /// # Panics
    ///
    /// When `tunnels` is zero.
    #[must_use]
    pub fn max_tunnels(self, tunnels: usize) -> Self {
        assert!(tunnels > 0, "max_tunnels must be at least 1");
        self.with(|options| options.max_tunnels = tunnels)
    }

    /// Reads the time from `clock`. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|options| options.limits.clock = clock)
    }

    /// How many tunnels there are now.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.shared.tunnels.load(Ordering::Relaxed)
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.shared.options.clone();
        change(&mut options);
        Self::of(options)
    }

    fn of(options: Options) -> Self {
        Self { shared: Arc::new(Shared { options, proxies: Mutex::default(), tunnels: Arc::default() }) }
    }
}

fn parse<N>(option: &str, nets: impl IntoIterator<Item = N>) -> impl Iterator<Item = Net>
where
    N: TryInto<Net, Error: fmt::Display>,
{
    nets.into_iter().map(move |net| net.try_into().unwrap_or_else(|error| panic!("{option}: {error}")))
}

impl<B> Shared<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn serve(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        let Options { rules, credentials, .. } = &self.options;
        let form = Form::of(&request);
        let refuse = |status, why| Ok(Problem::new(status).with_detail(why).reply(form));
        if !credentials.allow(request.headers()) {
            let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            let mut answer: Response<Body> =
                Problem::new(status).with_detail("this proxy wants to know who you are").reply(form);
            answer.headers_mut().insert(PROXY_AUTHENTICATE, self.options.challenge.clone());
            return Ok(answer);
        }
        let target = match Target::of(request.method(), request.uri()) {
            Ok(target) => target,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
        };
        if let Err(why) = rules.check(&target) {
            return refuse(StatusCode::FORBIDDEN, why);
        }
        let found = self.in_time(self.options.look_up(&target)).await?;
        let addresses = rules.filter(found);
        let Some(&first) = addresses.first() else {
            return refuse(StatusCode::FORBIDDEN, "the target's address is not allowed");
        };
        if *request.method() == Method::CONNECT {
            return self.connect(request, &addresses, form).await;
        }
        let answer = self.proxy(first).call(request).await?;
        Ok(answer.map(Either::Right))
    }

    async fn connect(
        &self,
        mut request: Request<B>,
        addresses: &[SocketAddr],
        form: Form,
    ) -> Result<Response<Body>, Error> {
        let at = Address::from(addresses[0]);
        if self.options.via.1.passes(request.headers()) >= PASSES {
            return Err(Error::unsent(ErrorKind::Loop, Unusable::Loop).at(&at));
        }
        let Some(client) = request.extensions_mut().remove::<OnUpgrade>() else {
            let why = "the server cannot give this connection away for a tunnel";
            return Ok(Problem::new(StatusCode::NOT_IMPLEMENTED).with_detail(why).reply(form));
        };
        let Some(permit) = Permit::take(&self.tunnels, self.options.max_tunnels) else {
            let full = Rejection::new(RejectionKind::Overloaded).with_policy("tunnels");
            return Err(Error::unsent(ErrorKind::Rejected, full).at(&at));
        };
        let upstream = self.in_time(dial(addresses.iter().copied())).await.map_err(|error| error.at(&at))?;
        let draining = request.extensions().get::<Draining>().cloned();
        let limits = self.options.limits.clone();
        let until = Opening { client, upstream, draining, permit, limits }.spawn();
        let mut answer = Response::new(Either::Left(Full::default()));
        answer.extensions_mut().insert(until);
        Ok(answer)
    }

    /// Gives `work` the time that connecting may take.
    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
        let Options { limits, connect_timeout, .. } = &self.options;
        let (mut work, mut alarm) = (pin!(work), pin!(limits.clock.sleep(*connect_timeout)));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done.map_err(|error| Error::unsent(ErrorKind::Connect, error))),
            Poll::Pending => alarm.as_mut().poll(cx).map(|()| {
                Err(Error::unsent(ErrorKind::ConnectTimeout, io::Error::from(io::ErrorKind::TimedOut)))
            }),
        })
        .await
    }

    /// The proxy to an address, with its connections.
    fn proxy(&self, address: SocketAddr) -> Proxy<B> {
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proxy) = proxies.get(&address) {
            return proxy.clone();
        }
        let Options { limits, connect_timeout, via: (via, _), .. } = &self.options;
        let proxy = Proxy::to(address)
            .expect("the port of a target is not zero")
            .clock(limits.clock.clone())
            .connect_timeout(*connect_timeout)
            .tunnel_idle_timeout(limits.idle_timeout)
            .tunnel_grace(limits.grace)
            .via(via);
        if proxies.len() >= ADDRESSES {
            proxies.retain(|_, proxy| proxy.connections().open > 0);
        }
        // Beyond that a connection serves one request.
        if proxies.len() < ADDRESSES {
            proxies.insert(address, proxy.clone());
        }
        proxy
    }
}

impl Options {
    async fn look_up(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let Target { host, port } = target;
        let found: Vec<SocketAddr> = match (&self.look_up, host.parse::<IpAddr>()) {
            (_, Ok(address)) => vec![SocketAddr::new(address, *port)],
            (Some(look_up), _) => {
                look_up(host.clone()).await?.into_iter().map(|address| (address, *port).into()).collect()
            }
            (None, _) => tokio::net::lookup_host((host.as_str(), *port)).await?.collect(),
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}

impl<B> Service<Request<B>> for Forward<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ForwardFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ForwardFuture {
        let shared = self.shared.clone();
        ForwardFuture(SyncWrapper::new(Box::pin(async move { shared.serve(request).await })))
    }
}

/// The future of a call to [`Forward`]. It is boxed, since a name is looked up and a connection opened in it.
#[must_use = "futures do nothing unless polled"]
pub struct ForwardFuture(SyncWrapper<Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>>);

impl Future for ForwardFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.get_mut().as_mut().poll(cx)
    }
}

impl fmt::Debug for ForwardFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}

impl<B> Clone for Forward<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B> Default for Forward<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> fmt::Debug for Forward<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("rules", &self.shared.options.rules)
            .field("credentials", &self.shared.options.credentials)
            .field("tunnels", &self.tunnels())
            .finish_non_exhaustive()
    }
}
