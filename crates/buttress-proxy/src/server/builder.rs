use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::Clock;
use tokio::net::ToSocketAddrs;

use super::options::Options;
use super::serve::Ended;
use super::{Event, Handler, Listener, Workers};

pub(super) type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Accepts connections and serves HTTP/1.1 and HTTP/2 on them.
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use buttress_proxy::server::{Body, Server};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
///
/// # async fn run() -> std::io::Result<()> {
/// let hello = tower::service_fn(|_: Request<Body>| async {
///     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
/// });
/// Server::bind("127.0.0.1:8080").await?.serve(hello).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Defaults
///
/// | option | default | why |
/// |---|---|---|
/// | [`workers`](Self::workers) | [`Workers::Here`] | works in every program; [`Workers::per_core`] spares what is locked and woken across threads |
/// | [`head_timeout`](Self::head_timeout) | 10 s | several lost packets on a slow line; a slowloris holds its place no longer |
/// | [`keep_alive`](Self::keep_alive) | 75 s | nginx's; above the 60 s of the usual load balancers, so that they close first |
/// | `handshake_timeout` | 10 s | as for the head: a TLS handshake is two or three round trips |
/// | `max_handshakes` | 1 000 | bounds memory; as many as one client may have connections |
/// | [`body_timeout`](Self::body_timeout) | 30 s | between two pieces of a body, and not for the whole: uploads may take hours |
/// | [`send_timeout`](Self::send_timeout) | 30 s | a client that takes nothing for so long is gone |
/// | [`drain`](Self::drain) | 30 s | what Kubernetes gives a process to end |
/// | [`max_head`](Self::max_head) | 16 KiB | twice what browsers and proxies keep to |
/// | [`max_fields`](Self::max_fields) | 100 | hyper's and Apache's |
/// | [`max_buffer`](Self::max_buffer) | 64 KiB | large reads for large bodies, small memory for many connections |
/// | [`normalize_paths`](Self::normalize_paths) | no | an upstream may tell `%7E` from `~`, and signatures cover the path as sent |
/// | [`max_connections`](Self::max_connections) | 10 000 | bounds memory; raise it together with the limit of open files |
/// | [`max_per_client`](Self::max_per_client) | 1 000 | a tenth of all: enough for an office behind one address |
/// | [`accept_rate`](Self::accept_rate) | none | how many a machine bears only its operator knows |
/// | `max_streams` | 128 | nginx's; RFC 9113 asks for no less than 100 |
/// | `extended_connect` | no | a browser that is told of it asks for a WebSocket in no other way |
/// | `reset_rate` | 33 per second, 1 000 at once | nghttp2's |
/// | `control_rate` | 330 per second, 10 000 at once | nghttp2's |
///
/// # Cancel safety
///
/// Dropping the future of [`serve`](Self::serve) cuts all connections off. [`shutdown`](Self::shutdown) ends in order.
#[must_use = "a server does nothing unless it serves"]
pub struct Server {
    pub(super) listeners: Vec<Listener>,
    pub(super) options: Options,
    pub(super) workers: Workers,
    pub(super) shutdown: Option<Told>,
    pub(super) abort: Option<Told>,
    #[cfg(target_os = "linux")]
    pub(super) takeover: Option<super::Takeover>,
}

impl Server {
    /// Listens at `address`: the first of them that can be had; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When none can be had, with what the system said of the last.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Listener::bind(address).await.map(Self::on)
    }

    /// Accepts connections at `listener`.
    pub fn on(listener: Listener) -> Self {
        Self {
            listeners: vec![listener],
            options: Options::default(),
            workers: Workers::default(),
            shutdown: None,
            abort: None,
            #[cfg(target_os = "linux")]
            takeover: None,
        }
    }

    /// Accepts connections at `listener` too.
    pub fn and(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Where it listens, in the order in which the listeners were given.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(Listener::address)
    }

    /// What serves the connections. Default: the runtime that [`serve`](Self::serve) is called on.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    /// Begins the drain when `begun` completes: nothing more is accepted, HTTP/1 answers say `Connection: close`,
    /// HTTP/2 clients get a GOAWAY, what is under way is finished. [`serve`](Self::serve) completes with the last
    /// connection, and with the end of the [drain time](Self::drain) at the latest.
    ///
    /// The `stopping()` of `buttress-health`'s `Shutdown` is such a future.
    pub fn shutdown(mut self, begun: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Some(Box::pin(begun));
        self
    }

    /// Cuts off what is left when `aborted` completes, whether or not a drain has begun.
    ///
    /// The `aborting()` of `buttress-health`'s `Shutdown` is such a future.
    pub fn abort(mut self, aborted: impl Future<Output = ()> + Send + 'static) -> Self {
        self.abort = Some(Box::pin(aborted));
        self
    }

    /// Tells the process before this one to drain once this one serves, and drains itself once a process after it does.
    ///
    /// Where the drain is begun by [`shutdown`](Self::shutdown), the socket at the path is left as it is, and the next
    /// process finds nobody there.
    #[cfg(target_os = "linux")]
    #[cfg_attr(docsrs, doc(cfg(target_os = "linux")))]
    pub fn takeover(mut self, takeover: super::Takeover) -> Self {
        self.takeover = Some(takeover);
        self
    }

    /// How long a drain may take. Default: 30 s.
    pub fn drain(self, time: Duration) -> Self {
        self.with(|options| options.drain = time)
    }

    /// How long a client has from its connecting to its first byte, and from the first byte of a head to its last.
    /// Default: 10 s.
    ///
    /// # Panics
    ///
    /// When `time` is zero: no request could be read.
    pub fn head_timeout(self, time: Duration) -> Self {
        assert!(!time.is_zero(), "head_timeout must be longer than zero");
        self.with(|options| options.head_timeout = time)
    }

    /// How long a connection may wait for its next request; an HTTP/2 connection without a stream up to a quarter
    /// longer. Default: 75 s.
    ///
    /// # Panics
    ///
    /// When `time` is zero: no request could be read.
    pub fn keep_alive(self, time: Duration) -> Self {
        assert!(!time.is_zero(), "keep_alive must be longer than zero");
        self.with(|options| options.keep_alive = time)
    }

    /// How long a TLS handshake may take, the wait for its place among [`max_handshakes`](Self::max_handshakes) included.
    /// Default: 10 s.
    ///
    /// # Panics
    ///
    /// When `time` is zero: no handshake could be made.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn handshake_timeout(self, time: Duration) -> Self {
        assert!(!time.is_zero(), "handshake_timeout must be longer than zero");
        self.with(|options| options.handshake_timeout = time)
    }

    /// How many TLS handshakes may be under way at a time. Default: 1 000.
    ///
    /// More wait, first come first served. As long as some wait, a handshake has one second and not the whole timeout:
    /// clients that begin handshakes and do not go on with them hold the others up for no longer.
    ///
    /// # Panics
    ///
    /// When it is zero: no handshake could be made.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn max_handshakes(self, handshakes: usize) -> Self {
        assert!(handshakes > 0, "max_handshakes must be at least one");
        self.with(|options| options.max_handshakes = handshakes)
    }

    /// How long a client may send nothing of a body that is being read. Default: 30 s.
    pub fn body_timeout(self, time: Duration) -> Self {
        self.with(|options| options.body_timeout = time)
    }

    /// How long a client may take nothing of what is sent to it. Default: 30 s.
    ///
    /// It holds for the connection, and for each stream of HTTP/2 alone.
    pub fn send_timeout(self, time: Duration) -> Self {
        self.with(|options| options.send_timeout = time)
    }

    /// The most bytes of a request's head. Default: 16 KiB. A larger one is answered with 431.
    ///
    /// # Panics
    ///
    /// When it is less than 256 bytes or more than 1 MiB.
    pub fn max_head(self, bytes: usize) -> Self {
        assert!((256..=1024 * 1024).contains(&bytes), "max_head must be from 256 bytes to 1 MiB");
        self.with(|options| options.max_head = bytes)
    }

    /// The most fields of a request's head. Default: 100. One with more is answered with 431.
    pub fn max_fields(self, fields: usize) -> Self {
        self.with(|options| options.max_fields = fields)
    }

    /// The most bytes of one message that a connection holds, either way. Default: 64 KiB.
    ///
    /// # Panics
    ///
    /// When it is less than 8 KiB, which is hyper's least.
    pub fn max_buffer(self, bytes: usize) -> Self {
        assert!(bytes >= 8192, "max_buffer must be at least 8 KiB");
        self.with(|options| options.max_buffer = bytes)
    }

    /// Gives the service each path in one spelling (RFC 3986 §6.2.2): `/a/./b/../%7eme` is `/a/~me`. Default: as it came.
    ///
    /// Whoever limits or routes by path here needs to read it as the upstream does. So a path that servers read
    /// differently is refused with 400: one with an escaped slash, a backslash, an empty segment, an escaped NUL, `..;x`,
    /// or with `..` beyond its root. The query stays as it came. `buttress-route` refuses such paths by itself, and then
    /// this is not needed.
    pub fn normalize_paths(self) -> Self {
        self.with(|options| options.normalize_paths = true)
    }

    /// The most connections that are served at a time, tunnels included. Default: 10 000. More wait, most of them in the
    /// kernel's queue.
    ///
    /// # Panics
    ///
    /// When it is zero: nobody would be served.
    pub fn max_connections(self, connections: usize) -> Self {
        assert!(connections > 0, "max_connections must be at least one");
        self.with(|options| options.max_connections = connections)
    }

    /// The most connections of one client: of an IPv4 address, or of an IPv6 /64. Default: 1 000. More are closed at
    /// once. `None` where all clients come through a balancer, and so from few addresses.
    pub fn max_per_client(self, connections: impl Into<Option<usize>>) -> Self {
        self.with(|options| options.max_per_client = connections.into())
    }

    /// Accepts at most `per_second` connections on average and `burst` at once, over all listeners. Default: no bound.
    /// Those beyond wait in the kernel's queue.
    ///
    /// # Panics
    ///
    /// When one of them is zero: nobody would be served.
    pub fn accept_rate(self, per_second: u32, burst: u32) -> Self {
        assert!(per_second > 0 && burst > 0, "accept_rate must be at least one per second, one at once");
        self.with(|options| options.accept_rate = Some((per_second, burst)))
    }

    /// The most streams that a client may have open on one HTTP/2 connection. Default: 128.
    ///
    /// # Panics
    ///
    /// When it is zero: no request could be sent.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn max_streams(self, streams: u32) -> Self {
        assert!(streams > 0, "max_streams must be at least one");
        self.with(|options| options.http2.max_streams = streams)
    }

    /// Whether clients of HTTP/2 may ask for a WebSocket by an extended `CONNECT` (RFC 8441). Default: no.
    ///
    /// Browsers that are told so ask in this way alone, so it is for services that know it: a
    /// [`Proxy`](crate::Proxy) makes the handshake of HTTP/1.1 of it. The request is a `CONNECT` with a path and the
    /// extension `hyper::ext::Protocol`, and so it must find its route.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn extended_connect(self, allow: bool) -> Self {
        self.with(|options| options.http2.extended_connect = allow)
    }

    /// How many of its streams a client may reset on one HTTP/2 connection: `per_second` on average, `burst` at once. A
    /// connection with more is closed. Default: 33 and 1 000, which is nghttp2's.
    ///
    /// Each reset stream has cost a call of the service (CVE-2023-44487, "rapid reset"). Raise it for clients that give up
    /// many calls by design, such as gateways that hedge.
    ///
    /// # Panics
    ///
    /// When one of them is zero.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn reset_rate(self, per_second: u32, burst: u32) -> Self {
        assert!(per_second > 0 && burst > 0, "reset_rate must be at least one per second, one at once");
        self.with(|options| options.http2.reset_rate = (per_second, burst))
    }

    /// How many frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA) a client may send on one HTTP/2
    /// connection: `per_second` on average, `burst` at once. A connection with more is closed. Default: 330 and 10 000,
    /// which is nghttp2's.
    ///
    /// # Panics
    ///
    /// When one of them is zero.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn control_rate(self, per_second: u32, burst: u32) -> Self {
        assert!(per_second > 0 && burst > 0, "control_rate must be at least one per second, one at once");
        self.with(|options| options.http2.control_rate = (per_second, burst))
    }

    /// Tells what happens to connections; a second observer replaces the first.
    pub fn observe(self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.with(|options| options.observe = Some(Arc::new(observe)))
    }

    /// Takes the time from `clock`. Default: [`Clock::default`].
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|options| options.clock = clock)
    }

    fn with(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }

    /// Serves until it is told to end, and for ever where nobody tells it.
    ///
    /// Each request carries as extensions: [`Peer`](buttress_http::Peer) and [`Draining`](crate::Draining); where it came
    /// over TLS [`Scheme`](crate::Scheme) and `TlsSession` too; where the client has shown a certificate,
    /// [`ClientCertificate`](crate::ClientCertificate).
    ///
    /// # Errors
    ///
    /// When a worker cannot be started, or the [takeover](Self::takeover)'s socket not be opened. What goes wrong later concerns one connection, and is told to the
    /// [observer](Self::observe).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts all connections off.
    pub async fn serve<S: Handler>(self, service: S) -> io::Result<Ended> {
        super::serve::serve(self, service).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
