use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{BoxError, Clock};
use http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

#[cfg(feature = "tls")]
use crate::ClientTls;
use crate::body::RequestBody;
use crate::connect::connect;
use crate::expect::Gate;
use crate::future::State;
use crate::options::{Options, Protocol};
use crate::policy::forward_request;
use crate::pool::Pool;
use crate::preconnect::fill;
use crate::upgrade::Asked;
use crate::{Address, AddressError, Body, Connections, Error, ResponseFuture};

/// Sends requests on to one upstream and hands its answers back.
///
/// A clone shares the pool of connections. Each method that sets an option gives a proxy with a pool of its own, so
/// they stand where the proxy is made. It must be called inside a tokio runtime, since each upstream connection is
/// driven by one task.
///
/// `B` is the type of the requests' bodies; it is inferred from the calls.
///
/// # Defaults
///
/// | option | default | why |
/// |---|---|---|
/// | [`connect_timeout`](Self::connect_timeout) | 1 s | a round trip within a region takes milliseconds; one lost SYN is sent again after 1 s |
/// | [`idle_timeout`](Self::idle_timeout) | 4 s | below the 5 s after which Node.js and Apache close, so that they rarely close first |
/// | [`max_idle`](Self::max_idle) | 1024 | a burst does not close what the next one needs; the idle timeout clears what no one does |
/// | [`max_connections`](Self::max_connections) | 10 000 | below the 28 000 ports that Linux has for one destination |
/// | [`max_age`](Self::max_age) | 1 h | a connection in use all the time finds new addresses, and new upstreams behind one address |
/// | `max_streams` | 100 | the least that HTTP/2 recommends upstreams to allow |
/// | `stream_window` | 128 KiB | as the receive buffer of a connection of its own |
/// | [`max_buffer`](Self::max_buffer) | 64 KiB | large reads for large bodies, small memory for many |
/// | [`receive_buffer`](Self::receive_buffer) | 128 KiB | an upstream notices within one mebibyte that the client has gone |
/// | [`preserve_host`](Self::preserve_host) | yes | an upstream makes links and picks sites by the name the client used |
/// | [`x_forwarded`](Self::x_forwarded) | [`Keep`](crate::XForwarded::Keep) | whom to trust is the operator's to say |
/// | [`via`](Self::via) | `buttress` | RFC 9110 §7.6.3 demands a `Via` |
/// | [`upgrades`](Self::upgrades) | [`WebSocket`](crate::Upgrades::WebSocket) | nothing looks into a tunnel, so it is opened for what is named |
/// | [`tunnel_idle_timeout`](Self::tunnel_idle_timeout) | 5 min | a WebSocket that lives sends a ping at least every minute |
/// | [`expect_timeout`](Self::expect_timeout) | 1 s | as long as `curl` waits; an upstream that knows `Expect` says its word in a round trip |
/// | [`max_passes`](Self::max_passes) | 8 | gateways one behind the other are no loop, and a loop ends |
///
/// # Cancel safety
///
/// Dropping the future or the body of the answer closes the upstream connection at once. See [`ResponseFuture`].
pub struct Proxy<B = Incoming> {
    pool: Arc<Pool<B>>,
}

impl<B> Proxy<B> {
    /// A proxy to the upstream at `address`.
    ///
    /// Nothing is looked up or connected before the first request.
    ///
    /// # Errors
    ///
    /// When `address` is none: without a port or with port 0, with a path, with a scheme that is not known.
    pub fn to<A>(address: A) -> Result<Self, AddressError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into()?.checked()?;
        let options = Options {
            #[cfg(feature = "tls")]
            tls: address.tls().then(ClientTls::new),
            ..Options::default()
        };
        Ok(Self { pool: Arc::new(Pool::new(address, options)) })
    }

    /// Speaks TLS to the upstream, and as `tls` says. An address of `https` does so by itself, by the roots of the
    /// system.
    ///
    /// HTTP/2 is spoken where the upstream agrees to it, else HTTP/1.1.
    ///
    /// # Panics
    ///
    /// When the upstream is a UNIX socket and `tls` names no server: nobody knows whose certificate to expect.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(self, tls: ClientTls) -> Self {
        assert!(tls.knows_name_of(self.upstream()), "tls to a UNIX socket needs ClientTls::server_name");
        self.with(|options| options.tls = Some(tls))
    }

    /// Speaks HTTP/2 to the upstream, and nothing else.
    ///
    /// Over TLS the upstream has to agree (ALPN). Without TLS it has to know: nothing is asked before (RFC 9113 §3.3).
    /// Requests share connections, each of which carries as many at a time as the upstream allows, at most
    /// [`max_streams`](Self::max_streams).
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    #[must_use]
    pub fn http2(self) -> Self {
        self.with(|options| options.protocol = Some(Protocol::Http2))
    }

    /// Speaks HTTP/1.1 to the upstream, though it might agree to HTTP/2 over TLS.
    #[must_use]
    pub fn http1(self) -> Self {
        self.with(|options| options.protocol = Some(Protocol::Http1))
    }

    /// Has at most `streams` requests under way on one HTTP/2 connection, fewer where the upstream allows fewer.
    /// Default: 100.
    ///
    /// With more of them there are more connections, and so more cores that drive them.
    ///
    /// # Panics
    ///
    /// When `streams` is zero: no request could be served.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    #[must_use]
    pub fn max_streams(self, streams: usize) -> Self {
        assert!(streams > 0, "max_streams must be at least 1");
        self.with(|options| options.max_streams = streams)
    }

    /// Lets an upstream of HTTP/2 send `bytes` of the body of an answer ahead of its reader. Default: 128 KiB.
    ///
    /// So much memory may be held for each request whose client is slow, [`max_streams`](Self::max_streams) times as
    /// much for a connection; a slow client holds up no other. It bounds how fast one body comes over a long way:
    /// 128 KiB are 12 MiB/s at a round trip of 10 ms.
    ///
    /// # Panics
    ///
    /// When `bytes` is zero or more than 2³¹ − 1, the most that HTTP/2 knows.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    #[must_use]
    pub fn stream_window(self, bytes: u32) -> Self {
        assert!((1..=i32::MAX as u32).contains(&bytes), "stream_window must be from 1 to 2147483647");
        self.with(|options| options.stream_window = bytes)
    }

    /// Sends no more requests on a connection that was opened `age` ago, and closes it when it has none. Default: 1 h;
    /// [`Duration::MAX`] is never.
    ///
    /// New connections find new addresses of a name, and spread over what stands behind one address. So that those
    /// that were opened together do not end together, each ends somewhere in the last tenth of its time.
    ///
    /// # Panics
    ///
    /// When `age` is zero: no request could be served.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        assert!(!age.is_zero(), "max_age must be longer than zero");
        self.with(|options| options.max_age = age)
    }

    /// Gives up opening a connection after `timeout`: the look-up of a name, TLS and the settings of HTTP/2 included, and
    /// the time for which a request waits for a connection that another has begun to open. Default: 1 s.
    ///
    /// How long the answer may take is not its business: that is what `buttress-timeout` is for.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero: no connection could be made.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "connect_timeout must be longer than zero");
        self.with(|options| options.connect_timeout = timeout)
    }

    /// Closes a connection that has been idle for `timeout`. Default: 4 s; with zero none of HTTP/1.1 is used again.
    ///
    /// Make it shorter than the upstream's own: a connection that the upstream closes in the moment a request is
    /// written fails that request with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    #[must_use]
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.idle_timeout = timeout)
    }

    /// Keeps at most `connections` idle; zero opens one for each request. Default: 1024. It is about HTTP/1.1: those of
    /// HTTP/2 are few.
    #[must_use]
    pub fn max_idle(self, connections: usize) -> Self {
        self.with(|options| options.max_idle = connections)
    }

    /// Keeps `connections` open and unused, so that a request need not wait for the round trips of opening one. Default:
    /// 0, they are opened when they are needed.
    ///
    /// A task begins with the first request, or with [`warm_up`](Self::warm_up): it opens a connection for each that is
    /// taken or has ended, at most ten times a second, and after a failure in 1 s, 2 s, up to 30 s. What is not used
    /// is opened anew each [`idle_timeout`](Self::idle_timeout), since an old connection may be dead. There are never more
    /// than [`max_idle`](Self::max_idle), nor any with an idle timeout of zero. Of HTTP/2 connections those count
    /// that have room for one request more. Where there are several runtimes, it is done for the one where it began; when
    /// that has ended, for that of the next request.
    #[must_use]
    pub fn preconnect(self, connections: usize) -> Self {
        self.with(|options| options.preconnect = connections)
    }

    /// Opens at most `connections` at a time. Default: 10 000.
    ///
    /// A request that would need one more is refused at once with
    /// [`RejectionKind::Overloaded`](buttress_core::RejectionKind::Overloaded).
    ///
    /// # Panics
    ///
    /// When `connections` is zero: no request could be served.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        assert!(connections > 0, "max_connections must be at least 1");
        self.with(|options| options.max_connections = connections)
    }

    /// Reads and writes through buffers of at most `bytes` for each connection. Default: 64 KiB.
    ///
    /// The head of an answer must fit as well: one that is still not whole when so much has been read is
    /// [`ErrorKind::BadResponse`](crate::ErrorKind::BadResponse); so is one of more than 100 fields, and one that has not
    /// come after four times as much of informational answers (1xx). A body is never held as a whole; besides this
    /// buffer the kernel keeps its own for each socket, which do not count as memory of the process.
    ///
    /// # Panics
    ///
    /// When `bytes` is less than 8192, the least that hyper works with.
    #[must_use]
    pub fn max_buffer(self, bytes: usize) -> Self {
        assert!(bytes >= 8192, "max_buffer must be at least 8192");
        self.with(|options| options.max_buffer = bytes)
    }

    /// Asks the kernel for a receive buffer of `bytes` on each upstream socket; `None` leaves its size to the kernel.
    /// Default: 128 KiB, of which Linux makes 256.
    ///
    /// What the kernel buffers, an upstream has written: left to itself Linux lets that grow to several mebibytes, which
    /// are then written, and held in the kernel, for a client that is slow or gone. A small buffer bounds what one
    /// connection carries over a long way: 256 KiB are 25 MiB/s at a round trip of 10 ms.
    ///
    /// # Panics
    ///
    /// When `bytes` is zero.
    #[must_use]
    pub fn receive_buffer(self, bytes: impl Into<Option<u32>>) -> Self {
        let bytes = bytes.into();
        assert!(bytes != Some(0), "receive_buffer must be more than zero");
        self.with(|options| options.receive_buffer = bytes)
    }

    /// Reads the time from `clock`. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|options| options.clock = clock)
    }

    /// The upstream that requests go to.
    #[must_use]
    pub fn upstream(&self) -> &Address {
        self.pool.address()
    }

    /// How many connections to the upstream there are now.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.pool.connections()
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.pool.options().clone();
        change(&mut options);
        Self { pool: Arc::new(Pool::new(self.pool.address().clone(), options)) }
    }
}

impl<B> Proxy<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Opens the connections that [`preconnect`](Self::preconnect) wants, and sees to it from now on that they are
    /// there. Without it that begins with the first request.
    ///
    /// It is for the time before the first listener is opened. Where `preconnect` wants none it does nothing.
    ///
    /// # Errors
    ///
    /// What a call would fail with that has to open a connection. It is tried again all the same, later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the connection that is being opened; those that are open stay.
    pub async fn warm_up(&self) -> Result<(), Error> {
        if self.pool.options().preconnect == 0 {
            return Ok(());
        }
        let filled = fill(&self.pool).await;
        self.pool.keeper().begin(&self.pool);
        filled
    }
}

impl<B> Service<Request<B>> for Proxy<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<B> {
        let pool = self.pool.clone();
        if pool.options().preconnect > 0 {
            pool.keeper().begin(&pool);
        }
        let options = pool.options();
        let mut asked = None;
        let state = match forward_request(&mut request, &options.fields, options.upgrade.allowed, pool.host())
        {
            Ok(wishes) => {
                asked = wishes.upgrade.and_then(|wish| Asked::offer(&mut request, wish));
                let timeout = options.fields.expect_timeout;
                let gate = wishes.go_ahead.then(|| Gate::new(&mut request, &options.clock, timeout));
                let mut request = request.map(RequestBody::new);
                if let Some(gate) = gate {
                    request.body_mut().wait_for(gate);
                }
                begin(&pool, request)
            }
            Err(unusable) => State::Failed(unusable.request().at(pool.address())),
        };
        ResponseFuture::new(state, pool, asked)
    }
}

fn begin<B>(pool: &Arc<Pool<B>>, request: Request<RequestBody<B>>) -> State<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    if let Some(mut connection) = pool.take(pool.protocol_for(&request)) {
        connection.as_mut().begin(request);
        return State::Waiting { connection, fresh: false };
    }
    match connect(pool.clone(), request) {
        Ok(connecting) => State::Connecting(connecting),
        Err(error) => State::Failed(error),
    }
}

impl<B> Clone for Proxy<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<B> fmt::Debug for Proxy<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("upstream", &format_args!("{}", self.pool.address()))
            .field("options", self.pool.options())
            .finish_non_exhaustive()
    }
}
