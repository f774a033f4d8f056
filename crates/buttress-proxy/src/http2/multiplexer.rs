use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use http::uri::Scheme;

use crate::connection::{Driver, Held, Home, Permit};
use crate::io::{Io, Link};
use crate::options::Options;
use crate::{Error, ErrorKind};

/// One HTTP/2 connection, which many calls share. It is closed when the last of them and the pool have let go of it.
pub(crate) struct Multiplexer {
    sender: Mutex<Sender>,
    /// How many calls have a place on it.
    streams: AtomicUsize,
    max_streams: usize,
    /// How long it may be silent after a call on it was given up.
    patience: Duration,
    clock: Clock,
    link: Arc<Link>,
    scheme: Scheme,
    /// From when on it takes no more calls.
    until: Timestamp,
    // Dropped in this order: the task is told to close the socket before its place is free.
    driver: Driver,
    _permit: Permit,
}

struct Sender {
    requests: SendRequest<Bytes>,
    pings: Option<PingPong>,
    doubt: Option<Doubt>,
}

/// A call got no answer in the time that it was given, and nothing else has come on the connection: it may be dead.
struct Doubt {
    since: Timestamp,
    reads: u64,
}

/// What is to be known of a connection that is there.
pub(crate) struct Ready {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) pings: Option<PingPong>,
}

/// Makes an HTTP/2 connection of `io`, and waits for the settings of the upstream: only then it is sure to speak
/// HTTP/2, and how many streams it takes. Nothing of a request has been written so far.
pub(crate) async fn handshake(io: Io, options: &Options) -> Result<(Ready, Connection<Io, Bytes>), Error> {
    let link = io.link().clone();
    let failed = |error: h2::Error| {
        let kind = match error.is_io() {
            true if link.tls_refused() => ErrorKind::Tls,
            true => ErrorKind::Connect,
            false => ErrorKind::BadResponse,
        };
        Error::unsent(kind, error)
    };
    let max_header = u32::try_from(options.max_buffer).unwrap_or(u32::MAX);
    let streams = u32::try_from(options.max_streams).unwrap_or(u32::MAX);
    // However slow the readers of the others are, each stream has its whole window: the largest is 2^31 - 1.
    let window = options.stream_window.saturating_mul(streams).min(i32::MAX as u32);
    let (requests, mut connection) = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(0)
        .initial_window_size(options.stream_window)
        .initial_connection_window_size(window)
        .max_header_list_size(max_header)
        .max_send_buffer_size(options.max_buffer)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(failed)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Ready(Ok(())) => {
            let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
            Poll::Ready(Err(Error::unsent(ErrorKind::Connect, ended)))
        }
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let pings = connection.ping_pong();
    Ok((Ready { requests, pings }, connection))
}

/// Whether a connection can take a call.
pub(super) enum Room {
    Place(Place),
    Full,
    /// It takes no more: it has ended, the upstream is leaving it, it is too old or seems dead.
    Leaving,
}

impl Multiplexer {
    /// Whose calls it serves.
    pub(super) const fn home(&self) -> Home {
        self.driver.home()
    }

    pub(crate) fn new<B>(ready: Ready, options: &Options, scheme: Scheme, held: Held<B>) -> Arc<Self> {
        let Held { link, until, driver, permit, .. } = held;
        let sender = Sender { requests: ready.requests, pings: ready.pings, doubt: None };
        link.set_idle(options.clock.now());
        Arc::new(Self {
            sender: Mutex::new(sender),
            streams: AtomicUsize::new(0),
            max_streams: options.max_streams,
            patience: options.connect_timeout,
            clock: options.clock.clone(),
            link,
            scheme,
            until,
            driver,
            _permit: permit,
        })
    }

    /// Takes a place.
    pub(super) fn room(self: &Arc<Self>, now: Timestamp) -> Room {
        let Some(max) = self.allowed(now) else { return Room::Leaving };
        let taken = self.streams.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |streams| {
            (streams < max).then_some(streams + 1)
        });
        if taken.is_err() {
            return Room::Full;
        }
        self.link.set_in_use();
        Room::Place(Place(self.clone()))
    }

    /// Whether a call would get a place.
    pub(super) fn has_room(&self, now: Timestamp) -> bool {
        self.allowed(now).is_some_and(|max| self.streams() < max)
    }

    /// How many calls may be on it; `None` when it takes no more at all.
    fn allowed(&self, now: Timestamp) -> Option<usize> {
        let mut sender = self.sender();
        let dead = sender.silent_for(&self.link, now) >= self.patience;
        if dead || self.until <= now {
            return None;
        }
        match sender.requests.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Some(sender.requests.current_max_send_streams().min(self.max_streams)),
            Poll::Ready(Err(_)) => None,
            Poll::Pending => Some(0),
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// Whether no call is on it, and it need not be kept any longer.
    pub(super) fn is_over(&self, now: Timestamp, idle_timeout: Duration) -> bool {
        let idle = self.link.idle_since().is_some_and(|since| now - since >= idle_timeout);
        self.until <= now || idle && self.streams() == 0
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        // Nothing under this lock leaves it half changed.
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// How long nothing has come since a call was given up.
    fn silent_for(&mut self, link: &Link, now: Timestamp) -> Duration {
        match &self.doubt {
            Some(doubt) if doubt.reads == link.reads() => now - doubt.since,
            _ => {
                self.doubt = None;
                Duration::ZERO
            }
        }
    }
}

/// A place for one call on a connection.
pub(crate) struct Place(Arc<Multiplexer>);

impl Place {
    pub(super) fn home(&self) -> Home {
        self.0.home()
    }

    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.0.scheme.clone()
    }

    /// Whether a stream can be opened now.
    pub(super) fn ready(&self) -> Result<(), h2::Error> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.0.sender().requests.poll_ready(&mut cx) {
            Poll::Ready(ready) => ready,
            // It waits in the queue of the connection then.
            Poll::Pending => Ok(()),
        }
    }

    pub(super) fn open(
        &self,
        head: Request<()>,
        ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A handle of its own: one that has a stream in the queue takes no other.
        let mut requests = self.0.sender().requests.clone();
        requests.send_request(head, ended)
    }

    /// The call that began when `reads` had come in was given up. Where nothing has come since, the connection may be
    /// dead, and the upstream is asked for a sign of life.
    pub(super) fn given_up(&self, reads: u64) {
        let link = &self.0.link;
        if link.reads() != reads {
            return;
        }
        let mut sender = self.0.sender();
        if sender.doubt.as_ref().is_some_and(|doubt| doubt.reads == reads) {
            return;
        }
        sender.doubt = Some(Doubt { since: self.0.clock.now(), reads });
        if let Some(pings) = &mut sender.pings {
            // The answer to the one before has come, or it is still on its way and does for this one too.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = pings.send_ping(Ping::opaque());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.link.set_idle(self.0.clock.now());
        }
    }
}
