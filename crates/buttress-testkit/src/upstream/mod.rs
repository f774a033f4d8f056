mod reply;
mod wire;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use buttress_core::Clock;
use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use reply::Reply;
pub use wire::Received;

use crate::server::AbortOnDrop;
use reply::{Cut, Head};

/// Small, so that few bytes count as sent that the client has not taken.
const SEND_BUFFER: u32 = 32 * 1024;
const PIECE: usize = 16 * 1024;

/// An HTTP/1.1 server that misbehaves as told: the other end of a proxy or client under test.
///
/// Each request is answered with the [`Reply`] that the closure makes of it: any status, after a delay, with a
/// stall, a short body, trailers, a reset at byte n, or a head that is none. It counts what it got and sent.
/// Dropping it resets what is open.
///
/// ```
/// use buttress_testkit::{Reply, Upstream};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let upstream = Upstream::start(|request| match request.target.as_str() {
///     "/flaky" => Reply::new(200).body("half of it").reset_at(4),
///     _ => Reply::new(200).body("all of it"),
/// })
/// .await;
///
/// // Let the client under test call `upstream.url("/flaky")` here.
/// assert_eq!(upstream.requests(), 0);
/// # });
/// ```
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDrop,
}

struct Shared {
    script: Box<dyn Fn(&Received) -> Reply + Send + Sync>,
    clock: Clock,
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    resume: Notify,
    aborts: watch::Sender<usize>,
}

impl Shared {
    fn aborted(&self) {
        self.aborts.send_modify(|aborts| *aborts += 1);
    }
}

impl Upstream {
    /// Listens on a free loopback port, on the runtime of the caller.
    ///
    /// # Panics
    ///
    /// When no loopback port is free, or outside a tokio runtime.
    pub async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = listen().expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            clock: Clock::tokio(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            resume: Notify::new(),
            aborts: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        // The listener is ready by now; let its task start.
        tokio::task::yield_now().await;
        Self { address, shared, _task: AbortOnDrop(task) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>` and `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Requests read to their end so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// Bytes of reply bodies that the operating system took so far (at most some 100 KiB of them on their way).
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes_sent.load(Ordering::Acquire)
    }

    /// Bytes of request bodies read so far.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.shared.bytes_received.load(Ordering::Acquire)
    }

    /// How often a client went away during a request or a reply: closed or reset its connection, or shut its
    /// half. A request that cannot be read counts as well.
    #[must_use]
    pub fn aborts(&self) -> usize {
        *self.shared.aborts.borrow()
    }

    /// Waits until [`aborts`](Self::aborts) is at least `times`.
    pub async fn aborted(&self, times: usize) {
        let mut aborts = self.shared.aborts.subscribe();
        // The sender lives in `self`.
        let _ = aborts.wait_for(|aborts| *aborts >= times).await;
    }

    /// Lets every reply go on that has stalled.
    pub fn resume(&self) {
        self.shared.resume.notify_waiters();
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .field("connections", &self.connections())
            .field("requests", &self.requests())
            .field("bytes_sent", &self.bytes_sent())
            .finish_non_exhaustive()
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(128)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::AcqRel);
        let shared = shared.clone();
        connections.spawn(async move {
            let _open = Open::new(&shared);
            // An error here is the client's doing, or was scripted; the client under test tells the tale.
            let _ = serve(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = BytesMut::with_capacity(PIECE);
    loop {
        let request = match wire::read_request(&mut reader, &mut buffer, &shared.bytes_received).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                shared.aborted();
                return Err(error);
            }
        };
        shared.requests.fetch_add(1, Ordering::AcqRel);
        let reply = (shared.script)(&request);
        let head_only = request.method == Method::HEAD;

        let ended = tokio::select! {
            biased;
            ended = send(&reply, head_only, &mut writer, shared) => ended,
            () = gone(&mut reader, &mut buffer) => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        match ended {
            Ok(Ended::Complete) if request.field("connection").is_none_or(|option| option != "close") => {}
            Ok(Ended::Complete | Ended::Closed) => return writer.shutdown().await,
            Ok(Ended::Reset) => {
                // Closing without linger makes it a reset, unless the writer says a proper end first.
                writer.as_ref().set_zero_linger()?;
                writer.forget();
                return Ok(());
            }
            Err(error) => {
                shared.aborted();
                return Err(error);
            }
        }
    }
}

/// How a reply ended.
enum Ended {
    Complete,
    Closed,
    Reset,
}

async fn send(
    reply: &Reply,
    head_only: bool,
    to: &mut (impl AsyncWriteExt + Unpin),
    shared: &Shared,
) -> io::Result<Ended> {
    if !reply.delay.is_zero() {
        shared.clock.sleep(reply.delay).await;
    }
    to.write_all(&wire::head(reply)).await?;
    if let Head::Raw(_) = reply.head {
        return Ok(Ended::Closed);
    }
    if head_only {
        return Ok(Ended::Complete);
    }

    let mut sent = 0;
    let mut cut = reply.cut;
    loop {
        let until = cut.map_or(usize::MAX, |(at, _)| at);
        let piece = piece(reply, sent, until);
        if !piece.is_empty() {
            write_piece(reply.chunked, &piece, to, shared).await?;
            sent += piece.len();
            continue;
        }
        match cut.take() {
            Some((_, Cut::Close)) => return Ok(Ended::Closed),
            Some((_, Cut::Reset)) => return Ok(Ended::Reset),
            Some((_, Cut::Stall)) => shared.resume.notified().await,
            None => break,
        }
    }
    if reply.chunked {
        to.write_all(&wire::last_chunk(&reply.trailers)).await?;
    }
    Ok(Ended::Complete)
}

/// The next bytes of the body, at most up to byte `until`.
fn piece(reply: &Reply, sent: usize, until: usize) -> Bytes {
    static ZEROS: [u8; PIECE] = [0; PIECE];

    let most = until.saturating_sub(sent).min(PIECE);
    if reply.endless {
        return Bytes::from_static(&ZEROS[..most]);
    }
    let end = reply.body.len().min(sent.saturating_add(most));
    reply.body.slice(sent.min(end)..end)
}

async fn write_piece(
    chunked: bool,
    piece: &[u8],
    to: &mut (impl AsyncWriteExt + Unpin),
    shared: &Shared,
) -> io::Result<()> {
    if chunked {
        to.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
    }
    let mut left = piece;
    while !left.is_empty() {
        let written = to.write(left).await?;
        shared.bytes_sent.fetch_add(written as u64, Ordering::AcqRel);
        left = &left[written..];
    }
    if chunked {
        to.write_all(b"\r\n").await?;
    }
    Ok(())
}

/// Returns when the client goes away. What it sends meanwhile is kept for the next request.
async fn gone(reader: &mut OwnedReadHalf, buffer: &mut BytesMut) {
    while let Ok(1..) = reader.read_buf(buffer).await {}
}
