//! A client that stops reading.
//!
//! The timeouts of a stack act when the answer's body is polled, and hyper does not poll it while the client has to take
//! what came before. So the wait for the client has a bound of its own: here for the socket, and in `streams.rs` for each
//! HTTP/2 stream, whose client may read the socket and leave the stream's window closed. Past it the connection or the
//! stream is reset, which frees what stands behind it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::Sleep;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Event;
use super::caps::Place;
use super::options::Options;
use super::stage::Seat;

/// A client's socket. It keeps its place among the connections until it is dropped, also when the connection has become
/// a tunnel in somebody else's hands, and it fails when the server has no more time.
pub(super) struct Socket {
    stream: TcpStream,
    options: Arc<Options>,
    /// There is a timer only while a write waits.
    alarm: Option<Pin<Box<Sleep>>>,
    seat: Seat,
    _place: Place,
    peer: SocketAddr,
}

impl Socket {
    /// A socket that was just accepted from `peer`.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        options: Arc<Options>,
        seat: Seat,
        place: Place,
    ) -> Self {
        options.tell(&Event::Opened { peer });
        Self { stream, options, alarm: None, seat, _place: place, peer }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let options = &self.options;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(options.clock.sleep(options.send_timeout)));
        ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        // A reset: else the kernel keeps what was written, and goes on offering it for many minutes.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.options.tell(&Event::Closed { peer: self.peer });
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seat.is_cut(cx) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(cx, written)
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
