use std::error::Error as StdError;
use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Clock, OnCall, Sleep, Timestamp};
use buttress_http::key::Net;
use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::JoinSet;
use tower_service::Service;

use super::client_hello::{self, ClientHello, Found};
use super::proxy_protocol::{self, Header, ProxyProtocolError};
use super::{Connection, Event, Refused, Upstream, Why, sockets};
use crate::tunnel::{self, Ended, Limits, drained};
use crate::{Drain, Draining};

/// How long nothing is accepted after the system could not: file descriptors come back as connections end.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts TCP connections, asks a stack for an upstream of each, and carries bytes between the two.
///
/// # Defaults
///
/// | option | default | why |
/// |---|---|---|
/// | [`idle_timeout`](Self::idle_timeout) | 10 min | a pool of database connections rests for minutes; nginx's `proxy_timeout` |
/// | [`begin_timeout`](Self::begin_timeout) | 5 s | a header and a ClientHello are one packet each; a lost one is sent again after 1 and 3 s |
/// | [`max_connections`](Self::max_connections) | 10 000 | two file descriptors each, below the usual limit of 65 536, and 28 000 ports to one upstream |
/// | [`grace`](Self::grace) | 25 s | Kubernetes kills after 30 s |
/// | [`proxy_protocol`](Self::proxy_protocol) | not read | whom to trust is the operator's to say |
/// | [`read_client_hello`](Self::read_client_hello) | no | a protocol in which the server speaks first would wait for ever |
pub struct Server {
    listener: TcpListener,
    options: Options,
}

#[derive(Clone)]
struct Options {
    limits: Limits,
    begin_timeout: Duration,
    max_connections: usize,
    proxy_protocol: Option<ProxyProtocol>,
    client_hello: bool,
    observer: Option<Arc<dyn Fn(&Event<'_>) + Send + Sync>>,
}

/// From whom a [`Server`] takes PROXY protocol headers.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    nets: Arc<[Net]>,
    required: bool,
}

impl ProxyProtocol {
    /// Every connection comes from one of `nets`, which are the proxies in front, and begins with a header; all others
    /// are closed.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn required<N>(nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        Self::new(nets, true)
    }

    /// A connection from one of `nets` may begin with a header. What begins in another way, and what comes from
    /// elsewhere, is forwarded as it is: a client that writes a header of its own is believed by nobody.
    ///
    /// Where the server speaks first, a proxy in front that sends no header has to wait for the
    /// [`begin_timeout`](Server::begin_timeout).
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn optional<N>(nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        Self::new(nets, false)
    }

    fn new<N>(nets: impl IntoIterator<Item = N>, required: bool) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        let parse = |net: N| net.try_into().unwrap_or_else(|error| panic!("proxy_protocol: {error}"));
        Self { nets: nets.into_iter().map(parse).collect(), required }
    }

    fn trusts(&self, peer: SocketAddr) -> bool {
        self.nets.iter().any(|net| net.contains(peer.ip()))
    }
}

impl Server {
    /// Listens at `address`.
    ///
    /// # Errors
    ///
    /// When the system does not let it: the port is taken, or needs rights.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::from)
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Closes a connection on which no byte has moved either way for `timeout`. Default: 10 min; [`Duration::MAX`] is for
    /// ever.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "idle_timeout must be longer than zero");
        self.options.limits.idle_timeout = timeout;
        self
    }

    /// Closes a connection whose header and ClientHello are not there after `timeout`, where it has to begin with one.
    /// Default: 5 s.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero.
    #[must_use]
    pub fn begin_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "begin_timeout must be longer than zero");
        self.options.begin_timeout = timeout;
        self
    }

    /// Has at most so many connections at a time; more wait in the listener's backlog. Default: 10 000.
    ///
    /// # Panics
    ///
    /// When `connections` is zero: none could be served.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "max_connections must be at least 1");
        self.options.max_connections = connections;
        self
    }

    /// Lets connections go on for `grace` after the server was told to stop. Default: 25 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.limits.grace = grace;
        self
    }

    /// Reads the PROXY protocol, version 1 or 2, that the proxies in front speak: the client is then whom they name.
    ///
    /// Headers of up to 4 KiB are read; values beside the addresses are passed over, and a checksum must be right.
    #[must_use]
    pub fn proxy_protocol(mut self, proxy_protocol: ProxyProtocol) -> Self {
        self.options.proxy_protocol = Some(proxy_protocol);
        self
    }

    /// Reads the first message of TLS, so that [`Connection::server_name`] and [`Connection::alpn`] are known. It is
    /// forwarded as it came.
    ///
    /// What begins in another way, or with a message of more than 16 KiB, is closed.
    #[must_use]
    pub fn read_client_hello(mut self) -> Self {
        self.options.client_hello = true;
        self
    }

    /// Tells `observer` what happens. It runs on the connection's task, so it should not block.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.options.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock`. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.options.limits.clock = clock;
        self
    }

    /// Serves for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and every connection at once.
    pub async fn serve<S>(self, service: S)
    where
        S: Service<Connection, Response = Upstream, Error: Into<BoxError> + Send, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        self.serve_until(service, pending()).await;
    }

    /// Serves until `stop` completes; then accepts no more, and returns when every connection has ended, at the latest
    /// after the [`grace`](Self::grace).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and every connection at once.
    pub async fn serve_until<S>(self, service: S, stop: impl Future<Output = ()>)
    where
        S: Service<Connection, Response = Upstream, Error: Into<BoxError> + Send, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let Self { listener, options } = self;
        let options = Arc::new(options);
        let drain = Drain::new();
        let mut connections = JoinSet::new();
        let (mut stop, mut stopped) = (pin!(stop), false);
        let mut paused: Option<Pin<Box<Sleep>>> = None;
        loop {
            let accepted = poll_fn(|cx| {
                while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
                // Once it has completed it must not be asked again.
                stopped = stopped || stop.as_mut().poll(cx).is_ready();
                if !stopped && let Some(pause) = &mut paused {
                    if pause.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    paused = None;
                }
                if connections.len() < options.max_connections {
                    // After the stop as well, until nobody waits in the backlog: they came before it.
                    if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                        return Poll::Ready(Some(accepted));
                    }
                }
                if stopped { Poll::Ready(None) } else { Poll::Pending }
            });
            match accepted.await {
                Some(Ok((socket, peer))) => {
                    let (options, service, draining) = (options.clone(), service.clone(), drain.draining());
                    connections.spawn(async move { options.forward(socket, peer, service, draining).await });
                }
                // The client has gone again.
                Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Some(Err(error)) => {
                    options.tell(&Event::Accept { error: &error });
                    paused = Some(Box::pin(options.limits.clock.sleep(PAUSE)));
                }
                None => break,
            }
        }
        drop(listener);
        drain.begin();
        while connections.join_next().await.is_some() {}
    }
}

impl Options {
    async fn forward<S>(&self, mut socket: TcpStream, peer: SocketAddr, service: S, draining: Draining)
    where
        S: Service<Connection, Response = Upstream, Error: Into<BoxError>>,
        S: Clone,
    {
        let accepted = self.limits.clock.now();
        let opening = async {
            let (connection, first) = match self.begin(&mut socket, peer).await {
                Ok(begun) => begun,
                Err(why) => {
                    self.tell(&Event::Refused { peer, why: &why });
                    return None;
                }
            };
            match OnCall::new(service).call(connection.clone()).await {
                Ok(upstream) => Some((connection, first, upstream)),
                Err(error) => {
                    let error: BoxError = error.into();
                    self.tell(&Event::Failed {
                        connection: &connection,
                        error: &*error as &(dyn StdError + 'static),
                    });
                    None
                }
            }
        };
        let Some(opened) = race(opening, drained(&self.limits, Some(draining.clone()))).await else {
            self.tell(&Event::Refused { peer, why: &Refused::Draining });
            return;
        };
        if let Some((connection, first, upstream)) = opened {
            self.carry(socket, &connection, &first, upstream, draining, accepted).await;
        }
    }

    async fn carry(
        &self,
        mut socket: TcpStream,
        connection: &Connection,
        first: &[u8],
        upstream: Upstream,
        draining: Draining,
        accepted: Timestamp,
    ) {
        let (mut upstream, guards) = upstream.into_parts();
        let address = upstream.peer_addr().ok();
        let idle = self.limits.clock.sleep(self.limits.idle_timeout);
        let mut ended = match race(upstream.write_all(first), idle).await {
            Some(Ok(())) => sockets::between(&mut socket, &mut upstream, &self.limits, draining).await,
            Some(Err(error)) => Ended { sent: 0, received: 0, why: tunnel::Why::Failed(error) },
            None => Ended { sent: 0, received: 0, why: tunnel::Why::Idle },
        };
        ended.sent += first.len() as u64;
        if let tunnel::Why::Failed(error) = &ended.why
            && error.kind() == io::ErrorKind::ConnectionReset
        {
            // Were it closed in order, the other side would take what it got for all there is. Where the system
            // cannot reset, it is closed all the same.
            let _ = socket.set_zero_linger();
            let _ = upstream.set_zero_linger();
        }
        drop((socket, upstream));
        guards.end(ended.received, matches!(ended.why, tunnel::Why::Closed));
        let why = match &ended.why {
            tunnel::Why::Closed => Why::Closed,
            tunnel::Why::Idle => Why::Idle,
            tunnel::Why::Drained => Why::Drained,
            tunnel::Why::Failed(error) => Why::Failed(error),
        };
        self.tell(&Event::Ended {
            connection,
            upstream: address,
            sent: ended.sent,
            received: ended.received,
            lasted: self.limits.clock.now() - accepted,
            why,
        });
    }

    /// Reads what the connection has to begin with; with what was read beyond the PROXY header.
    async fn begin(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<(Connection, Vec<u8>), Refused> {
        // A connection is as quick as its client lets it be.
        socket.set_nodelay(true).map_err(Refused::Read)?;
        let local = socket.local_addr().map_err(Refused::Read)?;
        let mut first =
            First { socket, bytes: Vec::new(), alarm: Box::pin(self.limits.clock.sleep(self.begin_timeout)) };
        let (client, destination) = match self.header(&mut first, peer).await? {
            Header::Proxied { source, destination } => (source, destination),
            Header::Local => (peer, local),
        };
        let hello = if self.client_hello { first.hello().await? } else { ClientHello::default() };
        Ok((Connection::accepted(peer, client, destination, hello), first.bytes))
    }

    async fn header(&self, first: &mut First<'_>, peer: SocketAddr) -> Result<Header, Refused> {
        let Some(proxies) = &self.proxy_protocol else { return Ok(Header::Local) };
        if !proxies.trusts(peer) {
            return if proxies.required { Err(Refused::Untrusted) } else { Ok(Header::Local) };
        }
        loop {
            match proxy_protocol::read(&first.bytes) {
                Ok(Some((header, length))) => {
                    first.bytes.drain(..length);
                    return Ok(header);
                }
                Ok(None) => {}
                Err(ProxyProtocolError::Missing) if !proxies.required => return Ok(Header::Local),
                Err(error) => return Err(error.into()),
            }
            match first.more(proxy_protocol::LONGEST).await {
                Ok(()) => {}
                // The server speaks first, it seems.
                Err(Refused::Timeout | Refused::Ended) if !proxies.required && first.bytes.is_empty() => {
                    return Ok(Header::Local);
                }
                Err(why) => return Err(why),
            }
        }
    }

    fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

/// The first bytes of a connection.
struct First<'a> {
    socket: &'a mut TcpStream,
    bytes: Vec<u8>,
    alarm: Pin<Box<Sleep>>,
}

impl First<'_> {
    /// Waits for more of them, of which there are never more than `most`.
    async fn more(&mut self, most: usize) -> Result<(), Refused> {
        let room = most.saturating_sub(self.bytes.len());
        let mut bytes = (&mut self.bytes).limit(room);
        match race(self.socket.read_buf(&mut bytes), self.alarm.as_mut()).await {
            Some(Ok(0)) => Err(Refused::Ended),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(Refused::Read(error)),
            None => Err(Refused::Timeout),
        }
    }

    async fn hello(&mut self) -> Result<ClientHello, Refused> {
        loop {
            let needed = match client_hello::read(&self.bytes)? {
                Found::Hello(hello) => return Ok(hello),
                Found::Needs(needed) => needed,
            };
            while self.bytes.len() < needed {
                self.more(client_hello::LONGEST).await?;
            }
        }
    }
}

/// What `future` gives, unless `end` completes first.
async fn race<T>(future: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(cx).map(|_| None),
    })
    .await
}

impl From<TcpListener> for Server {
    fn from(listener: TcpListener) -> Self {
        let limits = Limits {
            clock: Clock::default(),
            idle_timeout: Duration::from_secs(600),
            grace: Duration::from_secs(25),
        };
        let options = Options {
            limits,
            begin_timeout: Duration::from_secs(5),
            max_connections: 10_000,
            proxy_protocol: None,
            client_hello: false,
            observer: None,
        };
        Self { listener, options }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}
