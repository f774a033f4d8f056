use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::sync::watch;

use crate::{Aborted, Aborting, Shutdown, Stopping};

/// A connection that a [`Shutdown`] waits for: until this is dropped.
///
/// In an accept loop of one's own over hyper:
///
/// ```
/// use std::time::Duration;
///
/// use buttress_health::Shutdown;
/// use hyper::{server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # async fn hello(_: Request<hyper::body::Incoming>) -> Result<Response<Full<bytes::Bytes>>, std::convert::Infallible> {
/// #     Ok(Response::default())
/// # }
///
/// async fn serve(listener: tokio::net::TcpListener, shutdown: Shutdown) {
///     let mut stopping = shutdown.stopping();
///     loop {
///         let stream = tokio::select! {
///             () = &mut stopping => break,
///             accepted = listener.accept() => match accepted {
///                 Ok((stream, _)) => stream,
///                 // Most often too many files are open, and some of them are closed in a moment.
///                 Err(_) => {
///                     tokio::time::sleep(Duration::from_millis(10)).await;
///                     continue;
///                 }
///             },
///         };
///         let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
///         // `Connection: close` on the next answer, and over HTTP/2 GOAWAY.
///         let guarded = shutdown.guard().serve(connection, |connection| connection.graceful_shutdown());
///         tokio::spawn(guarded);
///     }
///     drop(listener);
///     shutdown.finished().await;
/// }
/// ```
#[derive(Debug)]
pub struct ConnectionGuard {
    shutdown: Shutdown,
    /// Counted by the channel. It goes after `drop` has said how.
    _alive: watch::Receiver<()>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.shutdown.guard_drops();
    }
}

impl ConnectionGuard {
    pub(crate) const fn new(shutdown: Shutdown, alive: watch::Receiver<()>) -> Self {
        Self { shutdown, _alive: alive }
    }

    /// Completes when the connection is to end its requests, and take no more.
    pub fn stopping(&self) -> Stopping {
        self.shutdown.stopping()
    }

    /// Completes when the connection is to be cut off.
    pub fn aborting(&self) -> Aborting {
        self.shutdown.aborting()
    }

    /// Runs a connection to its end: `graceful` is called once when it is to end its requests, and at the abort it is
    /// dropped.
    ///
    /// With hyper, `graceful` is `|connection| connection.graceful_shutdown()`.
    pub fn serve<C, G>(self, connection: C, graceful: G) -> Connection<C, G>
    where
        C: Future,
        G: FnOnce(Pin<&mut C>),
    {
        let connection = Connection::new(connection, Some(graceful), &self.shutdown);
        Connection { guard: Some(self), ..connection }
    }
}

/// A connection that ends with its [`Shutdown`]: made by [`ConnectionGuard::serve`]. It gives what the connection gives, or
/// [`Aborted`].
///
/// # Cancel safety
///
/// Dropped, it drops the connection and no longer counts.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Connection<C, G> {
    #[pin]
    connection: Option<C>,
    graceful: Option<G>,
    stopping: Stopping,
    aborting: Aborting,
    /// Dropped last, and so after the connection: then no one waits for it any more.
    guard: Option<ConnectionGuard>,
}

impl<C, G> Connection<C, G> {
    pub(crate) fn new(connection: C, graceful: Option<G>, shutdown: &Shutdown) -> Self {
        let (stopping, aborting) = (shutdown.stopping(), shutdown.aborting());
        Self { connection: Some(connection), graceful, stopping, aborting, guard: None }
    }
}

impl<C, G> Future for Connection<C, G>
where
    C: Future,
    G: FnOnce(Pin<&mut C>),
{
    type Output = Result<C::Output, Aborted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut connection = this.connection.as_mut().as_pin_mut().expect("polled after it was ready");
        // First of all, as a connection that is always busy never gives way.
        let ended = if Pin::new(this.aborting).poll(cx).is_ready() {
            Err(Aborted)
        } else {
            if this.graceful.is_some()
                && Pin::new(this.stopping).poll(cx).is_ready()
                && let Some(graceful) = this.graceful.take()
            {
                graceful(connection.as_mut());
            }
            match connection.poll(cx) {
                Poll::Ready(output) => Ok(output),
                Poll::Pending => return Poll::Pending,
            }
        };
        this.connection.set(None);
        *this.guard = None;
        Poll::Ready(ended)
    }
}

impl<C, G> fmt::Debug for Connection<C, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("told_to_end", &self.graceful.is_none()).finish_non_exhaustive()
    }
}
