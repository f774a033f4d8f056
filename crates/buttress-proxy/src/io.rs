use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use buttress_core::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

/// What the socket and the request's body tell the call they serve.
#[derive(Debug)]
pub(crate) struct Link {
    /// How often the socket took and gave bytes. The task that drives it alone counts.
    writes: AtomicU64,
    reads: AtomicU64,
    /// What `writes` was when the present request began.
    begun: AtomicU64,
    /// How many bytes may come before the head of the answer is whole, and how many of them are left.
    before_answer: AtomicU64,
    left: AtomicU64,
    request_done: AtomicBool,
    /// TLS was ended by the upstream, since it does not take us. `h2` hands on no more than the text of an error.
    #[cfg(feature = "tls")]
    refused: AtomicBool,
    /// In nanoseconds; [`IN_USE`] while a request is under way.
    idle_since: AtomicU64,
}

const IN_USE: u64 = u64::MAX;
const NO_BOUND: u64 = u64::MAX;

impl Default for Link {
    fn default() -> Self {
        Self {
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            before_answer: AtomicU64::new(NO_BOUND),
            left: AtomicU64::new(NO_BOUND),
            request_done: AtomicBool::new(false),
            #[cfg(feature = "tls")]
            refused: AtomicBool::new(false),
            idle_since: AtomicU64::new(IN_USE),
        }
    }
}

impl Link {
    pub(crate) fn begin(&self) {
        self.begun.store(self.writes(), Ordering::Relaxed);
        self.left.store(self.before_answer.load(Ordering::Relaxed), Ordering::Relaxed);
        self.request_done.store(false, Ordering::Release);
        self.set_in_use();
    }

    /// Takes at most so many bytes before the head of each answer is whole. Hyper bounds one head, but not how many
    /// informational ones come before it.
    pub(crate) fn bound_heads(&self, bytes: u64) {
        self.before_answer.store(bytes, Ordering::Relaxed);
    }

    /// The head of the answer is whole.
    pub(crate) fn set_answered(&self) {
        self.left.store(NO_BOUND, Ordering::Relaxed);
    }

    /// Takes notice of bytes that have come; whether they may.
    fn read(&self, bytes: usize) -> bool {
        count(&self.reads);
        // In one step: the call lifts the bound meanwhile, and a bound that came back would end a long body.
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left != NO_BOUND).then(|| left.saturating_sub(bytes as u64))
        });
        left.map_or(true, |left| left >= bytes as u64)
    }

    pub(crate) fn set_in_use(&self) {
        self.idle_since.store(IN_USE, Ordering::Relaxed);
    }

    pub(crate) fn set_idle(&self, since: Timestamp) {
        self.idle_since.store(since.as_nanos(), Ordering::Relaxed);
    }

    /// Since when no request is under way. A hint: whether the connection is in the pool, its lock alone tells.
    pub(crate) fn idle_since(&self) -> Option<Timestamp> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != IN_USE).then(|| Timestamp::from_nanos(since))
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    #[cfg(feature = "http2")]
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Acquire)
    }

    /// Whether a byte was handed to the socket since the present request began.
    pub(crate) fn wrote(&self) -> bool {
        self.writes() != self.begun.load(Ordering::Relaxed)
    }

    /// Whether the upstream has refused the TLS handshake after our side was done with it.
    #[cfg(feature = "http2")]
    pub(crate) fn tls_refused(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.refused.load(Ordering::Relaxed);
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Whether hyper has let go of the request's body: it has been read to its end, or the connection is gone.
    pub(crate) fn request_done(&self) -> bool {
        self.request_done.load(Ordering::Acquire)
    }

    pub(crate) fn set_request_done(&self) {
        self.request_done.store(true, Ordering::Release);
    }
}

/// Adds one, where nobody else writes.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A socket that notes whether bytes go through it. TLS lies above, so what it has not yet encrypted was not written.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    link: Arc<Link>,
}

impl Socket {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), link: Arc::default() }
    }

    #[cfg(unix)]
    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), link: Arc::default() }
    }

    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            count(&self.link.writes);
        }
        written
    }
}

macro_rules! stream {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = stream!(self, stream => Pin::new(stream).poll_read(cx, buf));
        let bytes = buf.filled().len() - before;
        if bytes > 0 && !self.link.read(bytes) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "informational answers without end");
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = stream!(self, stream => Pin::new(stream).poll_write(cx, bytes));
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, parts));
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A connection to an upstream, as HTTP is spoken over it.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(Socket),
    // It is large, and would make every plain connection as large.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Socket>>),
}

impl Io {
    #[cfg(feature = "http2")]
    pub(crate) const fn is_tls(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        match self {
            Self::Plain(socket) => socket.link(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.link(),
        }
    }
}

macro_rules! io {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Io::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let read = Pin::new(&mut *stream).poll_read(cx, buf);
                if let Poll::Ready(Err(error)) = &read
                    && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref())
                    && crate::tls::handshake_refused(error)
                {
                    stream.get_ref().0.link().refused.store(true, Ordering::Relaxed);
                }
                read
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        io!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        io!(self, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        io!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        io!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_lifted_while_bytes_came_stays_lifted() {
        let link = Link::default();
        link.bound_heads(1 << 40);
        let over = AtomicBool::new(false);
        let pause = || (0..100).for_each(|_| std::hint::spin_loop());

        let came_back = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    link.read(1);
                }
            });
            let came_back = (0..100_000).find(|_| {
                link.begin();
                pause();
                link.set_answered();
                pause();
                link.left.load(Ordering::Relaxed) != NO_BOUND
            });
            over.store(true, Ordering::Relaxed);
            came_back
        });

        assert_eq!(came_back, None, "in this round");
    }
}
