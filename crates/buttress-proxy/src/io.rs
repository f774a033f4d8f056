use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use buttress_core::Timestamp;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What the socket and the request's body tell the call they serve.
#[derive(Debug)]
pub(crate) struct Link {
    wrote: AtomicBool,
    request_done: AtomicBool,
    /// In nanoseconds; [`IN_USE`] while a request is under way.
    idle_since: AtomicU64,
}

const IN_USE: u64 = u64::MAX;

impl Default for Link {
    fn default() -> Self {
        Self {
            wrote: AtomicBool::new(false),
            request_done: AtomicBool::new(false),
            idle_since: AtomicU64::new(IN_USE),
        }
    }
}

impl Link {
    pub(crate) fn begin(&self) {
        self.wrote.store(false, Ordering::Release);
        self.request_done.store(false, Ordering::Release);
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

    /// Whether a byte of the present request was handed to the socket.
    pub(crate) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Acquire)
    }

    /// Whether hyper has let go of the request's body: it has been read to its end, or the connection is gone.
    pub(crate) fn request_done(&self) -> bool {
        self.request_done.load(Ordering::Acquire)
    }

    pub(crate) fn set_request_done(&self) {
        self.request_done.store(true, Ordering::Release);
    }
}

/// A socket that notes whether anything was written to it.
#[derive(Debug)]
pub(crate) struct Io {
    stream: TokioIo<TcpStream>,
    link: Arc<Link>,
}

impl Io {
    pub(crate) fn new(stream: TcpStream, link: Arc<Link>) -> Self {
        Self { stream: TokioIo::new(stream), link }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.link.wrote.store(true, Ordering::Release);
        }
        written
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
