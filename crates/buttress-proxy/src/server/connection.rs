//! One connection, from its first byte to its last.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress_core::{BoxError, Clock, Sleep};
use buttress_http::Peer;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::front::Front;
use super::listener::Transport;
use super::options::Options;
use super::shared::{Secured, Shared};
use super::sniff::Sniffed;
use super::socket::Socket;
use super::stage::{House, Stage};
use super::wire::{Checked, Limits, Wire};
use super::{Event, Handler};

/// What a client that connected before a drain, or has its connection idle, gets to ask once more: a request that is on
/// its way when the drain begins is answered.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What all connections of a server have in common.
pub(super) struct Common {
    pub(super) options: Arc<Options>,
    pub(super) house: Arc<House>,
    http1: http1::Builder,
    #[cfg(feature = "tls")]
    handshakes: super::tls::Handshakes,
    wire: Wire,
    #[cfg(feature = "http2")]
    http2: hyper::server::conn::http2::Builder<super::streams::Streams>,
}

impl Common {
    pub(super) fn new(options: Arc<Options>, house: Arc<House>) -> Self {
        let mut http1 = http1::Builder::new();
        let wire = wire(&options);
        wire.prepare(&mut http1);
        // A head has to fit.
        http1.max_buf_size(options.max_buffer.max(options.max_head));
        Self {
            #[cfg(feature = "tls")]
            handshakes: super::tls::Handshakes::new(options.max_handshakes),
            #[cfg(feature = "http2")]
            http2: super::http2::builder(&options),
            options,
            house,
            http1,
            wire,
        }
    }

    /// Ends with the connection.
    pub(super) async fn serve<S: Handler>(
        self: Arc<Self>,
        socket: Socket,
        transport: Transport,
        peer: Peer,
        service: S,
    ) {
        let served = match transport {
            // Boxed, so that a plain connection does not have the size of one with TLS.
            #[cfg(feature = "tls")]
            Transport { tls: Some(tls) } => Box::pin(self.tls(socket, &tls, peer, service)).await,
            _ => self.plain(socket, peer, service).await,
        };
        if let Err(error) = served {
            self.options.tell(&Event::Failed { peer: peer.0, error: &error });
        }
    }

    async fn plain<S: Handler>(&self, socket: Socket, peer: Peer, service: S) -> Result<(), BoxError> {
        let mut socket = Sniffed::new(socket);
        let Some(is_http2) = self.protocol(&mut socket).await? else { return Ok(()) };
        #[cfg(feature = "http2")]
        if is_http2 {
            return self.http2(socket, self.shared(peer, None, true), service).await;
        }
        // Where HTTP/2 is not built in, hyper's HTTP/1 refuses it.
        let _ = is_http2;
        self.http1(socket, self.shared(peer, None, false), service).await
    }

    #[cfg(feature = "tls")]
    async fn tls<S: Handler>(
        &self,
        socket: Socket,
        tls: &super::TlsHandle,
        peer: Peer,
        service: S,
    ) -> Result<(), BoxError> {
        let options = &self.options;
        let handshake = tokio_rustls::TlsAcceptor::from(tls.config()).accept(socket);
        let stream = self.handshakes.run(&options.clock, options.handshake_timeout, handshake).await?;
        let connection = stream.get_ref().1;
        let secured = super::TlsSession::of(connection).ok_or("the client's certificate cannot be read")?;
        #[cfg(feature = "http2")]
        if connection.alpn_protocol() == Some(b"h2") {
            return self.http2(stream, self.shared(peer, Some(secured), true), service).await;
        }
        self.http1(stream, self.shared(peer, Some(secured), false), service).await
    }

    /// A client that sends nothing never gets to a timeout of hyper's. `None`: it has nothing to say.
    async fn protocol(&self, socket: &mut Sniffed<Socket>) -> Result<Option<bool>, BoxError> {
        let clock = &self.options.clock;
        let mut late = pin!(None::<Sleep>);
        let mut last_word = pin!(None::<Sleep>);
        poll_fn(|cx| {
            if let Poll::Ready(known) = socket.poll_http2(cx) {
                return Poll::Ready(known.map_err(Into::into));
            }
            if after(late.as_mut(), clock, self.options.head_timeout, cx).is_ready() {
                return Poll::Ready(Err("no request within the time for its head".into()));
            }
            if self.house.stage() != Stage::Serving {
                ready!(after(last_word.as_mut(), clock, LAST_WORD, cx));
                return Poll::Ready(Ok(None));
            }
            Poll::Pending
        })
        .await
    }

    /// No `async fn`, which would hold its arguments and the connection twice for as long as that lives.
    fn http1<S, IO>(
        &self,
        io: IO,
        shared: Arc<Shared>,
        service: S,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + use<S, IO>
    where
        S: Handler,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = self.wire.connection(Some(shared.peer.0));
        let io = TokioIo::new(connection.guard(io));
        let front = connection.check(Front::new(service, Arc::clone(&shared)));
        let conn = self.http1.serve_connection(io, front).with_upgrades();
        Http1 { conn, shared, told: false, last_word: None }
    }

    #[cfg(feature = "http2")]
    /// Boxed, so that a connection of HTTP/1, of which there are more, does not have the size of one of HTTP/2.
    fn http2<S, IO>(
        &self,
        io: IO,
        shared: Arc<Shared>,
        service: S,
    ) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>
    where
        S: Handler,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let front = Front::new(service, Arc::clone(&shared));
        let io = super::frames::Frames::new(io, &self.options);
        let conn = self.http2.serve_connection(TokioIo::new(io), front);
        Box::pin(Http2 { conn, shared, told: false, tick: None, begun: 0, quiet: 0 })
    }

    fn shared(&self, peer: Peer, secured: Secured, is_http2: bool) -> Arc<Shared> {
        let (options, house) = (Arc::clone(&self.options), Arc::clone(&self.house));
        Arc::new(Shared::new(options, house, peer, secured, is_http2))
    }
}

/// How HTTP/1 is read. Who it is that connects, and that it says something at all, is known before.
fn wire(options: &Arc<Options>) -> Wire {
    let wire = Wire::new()
        .clock(options.clock.clone())
        .limits(Limits::new().head_bytes(options.max_head).fields(options.max_fields))
        .first_byte_timeout(options.head_timeout)
        .head_timeout(options.head_timeout)
        .keep_alive_timeout(options.keep_alive)
        .body_timeout(options.body_timeout);
    if options.observe.is_none() {
        return wire;
    }
    let options = Arc::clone(options);
    wire.observe(move |request| options.tell(&Event::BadRequest(request)))
}

/// Sleeps, from the first time it is asked.
fn after(
    mut sleep: Pin<&mut Option<Sleep>>,
    clock: &Clock,
    time: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if sleep.is_none() {
        sleep.set(Some(clock.sleep(time)));
    }
    sleep.as_pin_mut().expect("set above").poll(cx)
}

/// A connection of hyper's that can be told to end in order.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful(self: Pin<&mut Self>);
}

impl<S, IO> Graceful for http1::UpgradeableConnection<IO, Checked<Front<S>>>
where
    S: Handler,
    IO: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    fn graceful(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// An HTTP/1 connection.
///
/// While the server drains, each answer says `Connection: close`. A connection whose client has not been told so yet,
/// because it was idle or its answer had begun, is closed when nothing has come for [`LAST_WORD`] (RFC 9112 §9.6: a
/// client must expect that of an idle connection).
#[pin_project]
struct Http1<C> {
    #[pin]
    conn: C,
    shared: Arc<Shared>,
    told: bool,
    #[pin]
    last_word: Option<Sleep>,
}

impl<C: Graceful> Future for Http1<C> {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(ended) = this.conn.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(Into::into));
            }
            match this.shared.stage() {
                Stage::Serving => return Poll::Pending,
                Stage::Cut => return Poll::Ready(Ok(())),
                Stage::Draining if *this.told => return Poll::Pending,
                Stage::Draining if this.shared.open() > 0 => {
                    // Its end wakes this task: hyper drops the body here.
                    this.last_word.set(None);
                    return Poll::Pending;
                }
                Stage::Draining => {
                    ready!(after(this.last_word.as_mut(), &this.shared.options.clock, LAST_WORD, cx));
                    this.conn.as_mut().graceful();
                    *this.told = true;
                }
            }
        }
    }
}

#[cfg(feature = "http2")]
impl<S, IO> Graceful for hyper::server::conn::http2::Connection<IO, Front<S>, super::streams::Streams>
where
    S: Handler,
    IO: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    fn graceful(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// An HTTP/2 connection.
///
/// A drain sends GOAWAY, which takes the requests that are on their way and no more (RFC 9113 §6.8). So does a
/// connection without a stream for the keep-alive time: hyper has no such timeout, and a client that answers pings would
/// keep it for ever. The time is looked at four times, so that a request costs nothing; it ends up to a quarter late.
///
/// h2 ends the connection when the client has answered the ping that comes with GOAWAY, and before that it waits for the
/// client's preface. A client that does neither has the time of a pong, and is dropped.
#[cfg(feature = "http2")]
#[pin_project]
struct Http2<C> {
    #[pin]
    conn: C,
    shared: Arc<Shared>,
    told: bool,
    #[pin]
    tick: Option<Sleep>,
    /// How many requests had begun at the last tick, and how many ticks ago one was open.
    begun: u32,
    quiet: u8,
}

#[cfg(feature = "http2")]
const TICKS: u8 = 4;

#[cfg(feature = "http2")]
impl<C: Graceful> Future for Http2<C> {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(ended) = this.conn.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(Into::into));
            }
            let options = &this.shared.options;
            let patience = match this.shared.stage() {
                Stage::Cut => return Poll::Ready(Ok(())),
                _ if *this.told => Some(super::http2::PONG),
                Stage::Draining => None,
                Stage::Serving => Some(options.keep_alive),
            };
            if let Some(patience) = patience {
                ready!(after(this.tick.as_mut(), &options.clock, patience / u32::from(TICKS), cx));
                this.tick.set(None);
                let (begun, open) = (this.shared.begun(), this.shared.open());
                let busy = open > 0 || *this.begun != begun;
                *this.begun = begun;
                *this.quiet = if busy { 0 } else { *this.quiet + 1 };
                if *this.quiet < TICKS {
                    continue;
                }
                if *this.told {
                    return Poll::Ready(Ok(()));
                }
            }
            this.conn.as_mut().graceful();
            *this.told = true;
            *this.quiet = 0;
            this.tick.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;
    use crate::server::caps::Caps;

    #[tokio::test]
    async fn a_plain_connection_is_small() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = stream.peer_addr().unwrap();
        let (options, house) = (Arc::new(Options::default()), House::new());
        let place = Caps::new(1, None).client(peer.ip()).unwrap();
        let socket = Socket::new(stream, peer, Arc::clone(&options), house.seat(), place);
        let service = tower::service_fn(async |_: http::Request<crate::server::Body>| {
            Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default()))
        });

        let common = Arc::new(Common::new(options, house));
        let served = common.serve(socket, Transport::default(), Peer(peer), service);

        // hyper's buffers, of 8 KiB each, come on top.
        assert!(size_of_val(&served) <= 3 * 1024, "{} bytes", size_of_val(&served));
    }
}
