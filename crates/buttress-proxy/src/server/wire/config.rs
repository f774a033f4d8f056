use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use buttress_core::Clock;
use hyper::server::conn::http1;

use super::connection::Connection;
use super::{BadRequest, Limits};

pub(super) type Observer = Arc<dyn Fn(&BadRequest<'_>) + Send + Sync>;

/// How the bytes of HTTP/1 connections are read and checked before hyper gets them.
///
/// | | default | why |
/// |---|---|---|
/// | [`limits`](Self::limits) | [`Limits::new`] | see there |
/// | [`first_byte_timeout`](Self::first_byte_timeout) | 10 s | a client connects because it has something to ask |
/// | [`head_timeout`](Self::head_timeout) | 10 s | from the first byte of a head to its last: what a slow client drips in is refused with 408 |
/// | [`keep_alive_timeout`](Self::keep_alive_timeout) | 75 s | as nginx; longer than what most load balancers and browsers keep |
/// | [`body_timeout`](Self::body_timeout) | 30 s | between two bytes of a body, counted while the service reads it |
///
/// One is for a server, and gives each connection its [`Guard`](super::Guard), which reads, and its
/// [`Checked`](super::Checked) service, which answers what the guard has refused:
///
/// ```
/// use buttress_proxy::server::wire::Wire;
/// use bytes::Bytes;
/// use http::Response;
/// use http_body_util::Full;
/// use hyper::{server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
/// use std::convert::Infallible;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let wire = Wire::new();
/// let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))));
///
/// let (mut client, server) = tokio::io::duplex(1024);
/// let connection = wire.connection(None);
/// let mut builder = http1::Builder::new();
/// wire.prepare(&mut builder);
/// let guard = TokioIo::new(connection.guard(server));
/// tokio::spawn(builder.serve_connection(guard, connection.check(service)));
///
/// client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
/// let mut answer = [0; 12];
/// client.read_exact(&mut answer).await.unwrap();
/// assert_eq!(answer, *b"HTTP/1.1 400");
/// # }
/// ```
#[derive(Clone)]
pub struct Wire {
    pub(super) limits: Limits,
    pub(super) first_byte: Duration,
    pub(super) head: Duration,
    pub(super) keep_alive: Duration,
    pub(super) body: Duration,
    pub(super) clock: Clock,
    pub(super) observer: Option<Observer>,
}

impl Wire {
    /// The defaults, with [`Clock::default`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            limits: Limits::new(),
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body: Duration::from_secs(30),
            clock: Clock::default(),
            observer: None,
        }
    }

    /// How much of a head is read before the request is refused.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a new connection may stay silent. Then it is closed without a word.
    #[must_use]
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.first_byte = timeout;
        self
    }

    /// How long a head may take from its first byte to its last. Then it is refused with 408.
    #[must_use]
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.head = timeout;
        self
    }

    /// How long a connection may stay silent after an answer. Then it is closed without a word.
    #[must_use]
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keep_alive = timeout;
        self
    }

    /// How long nothing may come of a body that the service waits for. Then the body fails, and the request is answered
    /// with 408 where no answer has begun.
    ///
    /// There is no rate that a body must keep: `buttress-timeout` bounds the call as a whole.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body = timeout;
        self
    }

    /// The clock that all of these follow.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Tells `observer` of each request that is refused.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&BadRequest<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Makes hyper's own bounds wide enough for ours, so that what is over them is told in our words. Its timer for
    /// heads stays off: ours runs from the first byte, tells a slow head from an idle connection, and is not set anew for
    /// each request. `max_buf_size` is left as it is; a head has to fit into it.
    pub fn prepare(&self, builder: &mut http1::Builder) {
        // Hyper puts the table of fields on the stack for as many as its default, which is ours too.
        if self.limits.fields > Limits::new().fields {
            builder.max_headers(self.limits.fields);
        }
        builder.header_read_timeout(None);
    }

    /// What the guard and the service of one connection share. `peer` is for the observer.
    #[must_use]
    pub fn connection(&self, peer: Option<SocketAddr>) -> Connection {
        Connection::new(self.clone(), peer)
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("limits", &self.limits)
            .field("first_byte_timeout", &self.first_byte)
            .field("head_timeout", &self.head)
            .field("keep_alive_timeout", &self.keep_alive)
            .field("body_timeout", &self.body)
            .finish_non_exhaustive()
    }
}

/// The error of a body that is refused, to who reads it.
pub(super) fn body_error(violation: super::Violation) -> io::Error {
    let kind = match violation {
        super::Violation::BodyTimeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, violation)
}
