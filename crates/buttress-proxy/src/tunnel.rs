//! What a connection becomes once nobody reads messages in it any more: an upgrade, a `CONNECT`, plain TCP.
//!
//! ```text
//! client ──read──▶ bytes on their way ──write──▶ upstream     one direction; the other is its mirror image
//!
//!   Open ──end of the reader──▶ Closing ──shutdown of the writer──▶ Done
//!   Open ──the writer takes no more──▶ Done: what the other direction brings still arrives
//! ```
//!
//! Both directions done end the tunnel. So do a reader that fails, a reset, a time without a byte either way, and a drain.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress_core::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Draining;

/// How much is read at once, and held at most, in each direction.
const CHUNK: usize = 16 * 1024;

/// How long a tunnel may last.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) clock: Clock,
    /// Ends it when no byte has moved in either direction for so long. [`Duration::MAX`] is for ever.
    pub(crate) idle_timeout: Duration,
    /// How long it may go on after a drain has begun.
    pub(crate) grace: Duration,
}

/// How a tunnel ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Bytes from the client that the upstream's socket has taken.
    pub(crate) sent: u64,
    /// Bytes from the upstream that the client's socket has taken.
    pub(crate) received: u64,
    pub(crate) why: Why,
}

#[derive(Debug)]
pub(crate) enum Why {
    /// Each side has ended what it had to say.
    Closed,
    Idle,
    Drained,
    Failed(io::Error),
}

/// Carries bytes both ways until both sides have ended, one fails, nothing moves, or the drain is over.
///
/// The end of one side becomes the shutdown of the other, and the opposite direction goes on.
///
/// # Cancel safety
///
/// Dropping the future drops both sides, and what was on its way between them.
pub(crate) async fn tunnel<A, B>(
    mut client: A,
    mut upstream: B,
    limits: &Limits,
    draining: Option<Draining>,
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let why = until(limits, draining, |cx| {
        let before = (up.written, down.written);
        // The answer first: what an upstream said before it broke off still arrives.
        let ended = down.poll(cx, &mut upstream, &mut client)?;
        let ended = up.poll(cx, &mut client, &mut upstream)? && ended;
        // What was read without being written moves at the next write, or is too little to count.
        Ok(if ended { Step::Ended } else { Step::of(before != (up.written, down.written)) })
    })
    .await;
    let why = match (why, up.failed.or(down.failed)) {
        (Why::Closed, Some(error)) => Why::Failed(error),
        (why, _) => why,
    };
    Ended { sent: up.written, received: down.written, why }
}

/// What one look at both directions has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ended,
    Moved,
    Waits,
}

impl Step {
    pub(crate) fn of(moved: bool) -> Self {
        if moved { Self::Moved } else { Self::Waits }
    }
}

/// Steps until that ends, and no longer than the limits allow.
pub(crate) async fn until(
    limits: &Limits,
    draining: Option<Draining>,
    mut step: impl FnMut(&mut Context<'_>) -> io::Result<Step>,
) -> Why {
    let mut drained = pin!(drained(limits, draining));
    let mut idle = pin!(limits.clock.sleep(limits.idle_timeout));
    // One timer, moved only when it rings: most bytes cost a look at the clock and nothing else.
    let mut moved = limits.clock.now();
    poll_fn(|cx| {
        match step(cx) {
            Err(error) => return Poll::Ready(Why::Failed(error)),
            Ok(Step::Ended) => return Poll::Ready(Why::Closed),
            Ok(Step::Moved) => moved = limits.clock.now(),
            Ok(Step::Waits) => {}
        }
        if drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Why::Drained);
        }
        while idle.as_mut().poll(cx).is_ready() {
            let deadline = moved + limits.idle_timeout;
            if deadline <= limits.clock.now() {
                return Poll::Ready(Why::Idle);
            }
            idle.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
}

/// Completes when a drain is over, with its grace.
pub(crate) async fn drained(limits: &Limits, draining: Option<Draining>) {
    match draining {
        Some(mut draining) => draining.begun().await,
        None => std::future::pending().await,
    }
    limits.clock.sleep(limits.grace).await;
}

/// One way through a tunnel.
#[derive(Debug, Default)]
struct Direction {
    /// Read, and not yet taken by the writer. Without capacity unless the writer was slower than the reader.
    held: Vec<u8>,
    /// How much of `held` the writer has taken.
    taken: usize,
    written: u64,
    state: State,
    /// Something was written since the last flush.
    dirty: bool,
    /// Why the writer takes nothing more.
    failed: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Closing,
    Done,
}

impl Direction {
    /// Moves what can be moved now; whether this direction is done. An error ends the other one too.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.state == State::Done {
            return Ok(true);
        }
        match self.poll_move(cx, reader, writer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => {
                self.state = State::Done;
                Ok(true)
            }
            Poll::Ready(Err(Fault::Read(error))) => Err(error),
            // The other direction would read of it as of an end in order.
            Poll::Ready(Err(Fault::Write(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(error)
            }
            Poll::Ready(Err(Fault::Write(error))) => {
                self.failed = Some(error);
                self.held = Vec::new();
                self.state = State::Done;
                Ok(true)
            }
        }
    }

    fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        ready!(self.poll_held(cx, writer)).map_err(Fault::Write)?;
        while self.state == State::Open {
            // On the stack and never cleared: a tunnel that waits holds no buffer.
            let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            let Poll::Ready(read) = Pin::new(&mut *reader).poll_read(cx, &mut chunk) else {
                self.held = Vec::new();
                ready!(self.poll_flush(cx, writer)).map_err(Fault::Write)?;
                return Poll::Pending;
            };
            read.map_err(Fault::Read)?;
            if chunk.filled().is_empty() {
                self.state = State::Closing;
                break;
            }
            ready!(self.poll_chunk(cx, writer, chunk.filled())).map_err(Fault::Write)?;
        }
        // Shutting down flushes first.
        Pin::new(writer).poll_shutdown(cx).map_err(Fault::Write)
    }

    /// Writes what was just read; what the writer does not take is held.
    fn poll_chunk<W>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut chunk: &[u8],
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while !chunk.is_empty() {
            let Poll::Ready(written) = self.poll_write(cx, writer, chunk) else {
                self.held.extend_from_slice(chunk);
                return Poll::Pending;
            };
            chunk = &chunk[written?..];
        }
        Poll::Ready(Ok(()))
    }

    fn poll_held<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.taken < self.held.len() {
            let held = std::mem::take(&mut self.held);
            let written = self.poll_write(cx, writer, &held[self.taken..]);
            self.held = held;
            self.taken += ready!(written)?;
        }
        self.held.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_write<W>(&mut self, cx: &mut Context<'_>, writer: &mut W, bytes: &[u8]) -> Poll<io::Result<usize>>
    where
        W: AsyncWrite + Unpin,
    {
        let written = ready!(Pin::new(writer).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += written as u64;
        self.dirty = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.dirty {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::Drain;

    const IDLE: Duration = Duration::from_secs(60);

    /// The far ends of a tunnel, and the tunnel.
    struct Between {
        client: DuplexStream,
        upstream: DuplexStream,
        tunnel: JoinHandle<Ended>,
    }

    fn between(room: usize, draining: Option<Draining>) -> Between {
        let (client, near_client) = duplex(room);
        let (upstream, near_upstream) = duplex(room);
        let limits = Limits { clock: Clock::tokio(), idle_timeout: IDLE, grace: Duration::from_secs(5) };
        let tunnel = async move { tunnel(near_client, near_upstream, &limits, draining).await };
        Between { client, upstream, tunnel: tokio::spawn(tunnel) }
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn text(side: &mut DuplexStream) -> String {
        let mut text = String::new();
        side.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_client_leaves_the_upstream_its_say() {
        let Between { mut client, mut upstream, tunnel } = between(64, None);

        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(text(&mut upstream).await, "question");
        upstream.write_all(b"the answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(text(&mut client).await, "the answer");

        let ended = tunnel.await.unwrap();
        assert!(matches!(ended, Ended { sent: 8, received: 10, why: Why::Closed }), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_upstream_leaves_the_client_its_say() {
        let Between { mut client, mut upstream, tunnel } = between(64, None);

        upstream.write_all(b"hello").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(text(&mut client).await, "hello");
        client.write_all(b"good bye").await.unwrap();
        drop(client);
        assert_eq!(text(&mut upstream).await, "good bye");

        let ended = tunnel.await.unwrap();
        assert!(matches!(ended, Ended { sent: 8, received: 5, why: Why::Closed }), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_has_moved_either_way_for_the_idle_timeout_and_not_before() {
        let Between { mut client, mut upstream, tunnel } = between(64, None);

        // A byte in one direction keeps both.
        for _ in 0..5 {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            upstream.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
        settle().await;
        tokio::time::advance(IDLE - Duration::from_millis(1)).await;
        settle().await;
        assert!(!tunnel.is_finished());
        tokio::time::advance(Duration::from_millis(2)).await;

        let ended = tunnel.await.unwrap();
        assert!(matches!(ended, Ended { sent: 0, received: 5, why: Why::Idle }), "{ended:?}");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_is_not_kept_for_ever() {
        let Between { mut client, upstream, tunnel } = between(64, None);

        client.shutdown().await.unwrap();

        let ended = tunnel.await.unwrap();
        assert!(matches!(ended.why, Why::Idle), "{ended:?}");
        drop(upstream);
    }

    #[tokio::test(start_paused = true)]
    async fn it_outlives_the_beginning_of_a_drain_by_the_grace() {
        let drain = Drain::new();
        let Between { mut client, mut upstream, tunnel } = between(64, Some(drain.draining()));

        drain.begin();
        settle().await;
        tokio::time::advance(Duration::from_millis(4_999)).await;
        client.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        upstream.read_exact(&mut late).await.unwrap();
        assert!(!tunnel.is_finished());
        tokio::time::advance(Duration::from_millis(2)).await;

        let ended = tunnel.await.unwrap();
        assert!(matches!(ended, Ended { sent: 4, received: 0, why: Why::Drained }), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn everything_arrives_in_order_though_it_does_not_fit() {
        let Between { mut client, mut upstream, tunnel } = between(1000, None);
        let flood: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();

        let send = async {
            client.write_all(&flood).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let ((), all) = tokio::join!(send, upstream.read_to_end(&mut read));
        all.unwrap();

        assert!(read == flood);
        drop(upstream);
        assert_eq!(tunnel.await.unwrap().sent, 200_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_for_a_slow_reader_stays_below_a_chunk() {
        let Between { mut client, upstream, tunnel } = between(1024, None);

        let mut taken = 0;
        for _ in 0..1000 {
            let mut write = pin!(client.write(&[7; 512]));
            if let Poll::Ready(written) = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
                taken += written.unwrap();
            }
            settle().await;
        }

        assert!(taken <= 2 * 1024 + CHUNK, "{taken} bytes were taken for a side that reads none");
        drop((client, upstream));
        drop(tunnel);
    }

    /// A side whose reads wait for ever or fail, and whose writes may fail.
    #[derive(Debug)]
    struct Broken {
        reads: bool,
        writes: bool,
        dropped: Arc<AtomicBool>,
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            self.dropped.store(true, Ordering::Relaxed);
        }
    }

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.reads { Poll::Pending } else { Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) }
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(if self.writes { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn limits() -> Limits {
        Limits { clock: Clock::tokio(), idle_timeout: IDLE, grace: Duration::ZERO }
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_breaks_off_ends_both() {
        let dropped = Arc::new(AtomicBool::new(false));
        let upstream = Broken { reads: false, writes: true, dropped: dropped.clone() };
        let (mut client, near) = duplex(64);

        let ended = tunnel(near, upstream, &limits(), None).await;

        assert!(matches!(&ended.why, Why::Failed(error) if error.kind() == io::ErrorKind::ConnectionReset));
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    /// Reads what a test has prepared, and takes no byte.
    struct Deaf<'a>(&'a [u8]);

    impl AsyncRead for Deaf<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Deaf<'_> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_upstream_said_before_it_stopped_listening_still_arrives() {
        let (mut client, near) = duplex(4);
        client.write_all(b"more").await.unwrap();

        let tunnel = tokio::spawn(async move { tunnel(near, Deaf(b"413 too large"), &limits(), None).await });
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();

        assert_eq!(answer, "413 too large");
        let ended = tunnel.await.unwrap();
        assert!(
            matches!(&ended.why, Why::Failed(error) if error.kind() == io::ErrorKind::BrokenPipe),
            "{ended:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_it_drops_both_sides() {
        let client_gone = Arc::new(AtomicBool::new(false));
        let upstream_gone = Arc::new(AtomicBool::new(false));
        let client = Broken { reads: true, writes: true, dropped: client_gone.clone() };
        let upstream = Broken { reads: true, writes: true, dropped: upstream_gone.clone() };
        let limits = limits();

        {
            let mut tunnel = pin!(tunnel(client, upstream, &limits, None));
            assert!(poll_fn(|cx| Poll::Ready(tunnel.as_mut().poll(cx).is_pending())).await);
            assert!(!client_gone.load(Ordering::Relaxed));
        }

        assert!(client_gone.load(Ordering::Relaxed) && upstream_gone.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_buffers_is_flushed_when_the_reader_pauses() {
        let (mut client, near_client) = duplex(64);
        let (mut upstream, near_upstream) = duplex(64);
        let near_upstream = tokio::io::BufWriter::new(near_upstream);
        let near = tokio::spawn(async move { tunnel(near_client, near_upstream, &limits(), None).await });

        client.write_all(b"ping").await.unwrap();
        let mut ping = [0; 4];
        upstream.read_exact(&mut ping).await.unwrap();

        assert_eq!(&ping, b"ping");
        near.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_waits_is_small() {
        let limits = limits();
        let (_client, near_client) = duplex(64);
        let (_upstream, near_upstream) = duplex(64);

        let tunnel = tunnel(near_client, near_upstream, &limits, None);

        assert!(size_of_val(&tunnel) < 2048, "{} bytes", size_of_val(&tunnel));
    }
}
