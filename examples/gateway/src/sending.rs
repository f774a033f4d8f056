//! A client that stops reading.
//!
//! The timeouts of a route act when the answer's body is polled, and hyper does not poll it while the client has to take
//! what came before. So the wait for the client has a bound of its own: one for the socket, and one for each HTTP/2
//! stream, whose client may read the socket and leave the stream's window closed. Past it the connection or the stream
//! is reset, which frees the upstream.

use std::{
    future::poll_fn,
    io::{ErrorKind, IoSlice, Result},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress::{Clock, Sleep};
use hyper::{
    body::{Body, Frame, SizeHint},
    rt::Executor,
};
use pin_project::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How long a client may take nothing.
#[derive(Clone)]
pub(crate) struct Patience {
    pub(crate) clock: Clock,
    pub(crate) timeout: Duration,
}

impl Patience {
    fn sleep(&self) -> Sleep {
        self.clock.sleep(self.timeout)
    }
}

/// A socket that fails when a write to it has waited too long. There is a timer only while one waits.
pub(crate) struct Socket {
    stream: TcpStream,
    patience: Patience,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, patience: Patience) -> Self {
        Self { stream, patience, alarm: None }
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(self.patience.sleep()));
        ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        // A reset: else the kernel keeps what was written, and goes on offering it for many minutes.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Spawns the HTTP/2 streams of a connection, and drops one whose client takes nothing for too long.
#[derive(Clone)]
pub(crate) struct Streams(pub(crate) Patience);

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(attend(self.0.clone(), stream));
    }
}

tokio::task_local! {
    /// The stream that the present task answers.
    static STREAM: Arc<Offer>;
}

/// The number of the piece of the body that hyper has got and not let the client have yet; 0 where there is none.
#[derive(Default)]
struct Offer(AtomicU64);

async fn attend(patience: Patience, stream: impl Future) {
    let offer = Arc::new(Offer::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&offer), stream));
    let mut alarm = pin!(None::<Sleep>);
    let mut alarm_for = 0;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let piece = offer.0.load(Relaxed);
        if piece != alarm_for {
            alarm_for = piece;
            alarm.set((piece > 0).then(|| patience.sleep()));
        }
        alarm.as_mut().as_pin_mut().map_or(Poll::Pending, |alarm| alarm.poll(cx))
    })
    .await;
}

/// A body that tells the task of its HTTP/2 stream whether hyper waits for the client or for the upstream.
#[pin_project]
pub(crate) struct Told<B> {
    #[pin]
    body: B,
    stream: Option<Arc<Offer>>,
    pieces: u64,
}

impl<B> Told<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, stream: STREAM.try_with(Arc::clone).ok(), pieces: 0 }
    }
}

impl<B: Body> Body for Told<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(stream) = this.stream {
            let offered = if matches!(frame, Poll::Ready(Some(Ok(_)))) {
                *this.pieces += 1;
                *this.pieces
            } else {
                0
            };
            stream.0.store(offered, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
