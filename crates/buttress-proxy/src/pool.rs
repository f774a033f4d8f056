use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress_core::{BoxError, Timestamp};
#[cfg(all(feature = "http2", feature = "tls"))]
use http::header::UPGRADE;
use http::{HeaderValue, Request};
#[cfg(feature = "tls")]
use rustls::ClientConfig;
#[cfg(feature = "tls")]
use tokio::sync::OnceCell;

use crate::Address;
use crate::age::PACE;
use crate::connection::{Checkout, Home, Permit, home};
#[cfg(feature = "http2")]
use crate::http2::{Exchange, Multiplexed};
use crate::options::{Options, Protocol};
use crate::preconnect::Keeper;
#[cfg(feature = "tls")]
use crate::{ClientTls, Error};

/// The connections to one upstream.
///
/// The idle ones are a stack: the one used last is used next, so those that a quiet hour does not need grow old at
/// the bottom and leave there. Each serves the runtime that it was opened on, see [`Home`]. Age is looked at when a connection is taken, and by the task that drives it.
pub(crate) struct Pool<B> {
    address: Address,
    host: HeaderValue,
    options: Options,
    idle: Mutex<VecDeque<Idle<B>>>,
    open: Arc<AtomicUsize>,
    protocol: Protocol,
    keeper: Keeper,
    #[cfg(feature = "http2")]
    multiplexed: Multiplexed,
    #[cfg(feature = "tls")]
    tls: OnceCell<Arc<ClientConfig>>,
}

struct Idle<B> {
    connection: Checkout<B>,
    since: Timestamp,
    until: Timestamp,
    home: Home,
    /// Its task has not had its turn yet: it takes a request all the same.
    new: bool,
}

/// How many connections to the upstream there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Being opened, in use, or idle.
    pub open: usize,
    /// Kept for the next request.
    pub idle: usize,
    /// Requests that are under way on connections of HTTP/2, which many of them share.
    pub streams: usize,
}

impl<B> Pool<B> {
    pub(crate) fn new(address: Address, options: Options) -> Self {
        let protocol = options.protocol();
        let host = HeaderValue::try_from(address.host()).expect("an address is visible ASCII");
        Self {
            address,
            host,
            options,
            idle: Mutex::default(),
            open: Arc::default(),
            protocol,
            keeper: Keeper::default(),
            #[cfg(feature = "http2")]
            multiplexed: Multiplexed::default(),
            #[cfg(feature = "tls")]
            tls: OnceCell::new(),
        }
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// What the TLS connections have in common.
    #[cfg(feature = "tls")]
    pub(crate) async fn tls(&self, tls: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
        let config = || crate::tls::config(tls, &self.options.clock);
        self.tls.get_or_try_init(config).await.cloned()
    }

    pub(crate) fn connections(&self) -> Connections {
        #[cfg(feature = "http2")]
        let (streams, unused) = self.multiplexed.count();
        #[cfg(not(feature = "http2"))]
        let (streams, unused) = (0, 0);
        Connections { idle: self.idle().len() + unused, open: self.open.load(Ordering::Relaxed), streams }
    }

    pub(crate) const fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// How many connections are to be ready for a request.
    pub(crate) fn wanted_at_hand(&self) -> usize {
        if self.options.idle_timeout.is_zero() {
            0
        } else {
            self.options.preconnect.min(self.options.max_idle)
        }
    }

    /// How many connections would take a request of this runtime at once. Those that have died leave.
    pub(crate) fn at_hand(&self) -> usize {
        let (now, here) = (self.options.clock.now(), home());
        let mut idle = self.idle();
        let (live, dead): (VecDeque<_>, VecDeque<_>) =
            idle.drain(..).partition(|one| one.until > now && !one.connection.is_closed());
        *idle = live;
        let count = idle.iter().filter(|one| one.home == here).count();
        drop(idle);
        drop(dead);
        #[cfg(feature = "http2")]
        let count = count + self.multiplexed.at_hand(now, here);
        count
    }

    /// A connection was taken, or has ended.
    pub(crate) fn one_less(&self) {
        if self.options.preconnect > 0 {
            self.keeper.look();
        }
    }

    /// A place for a new connection that can wait.
    pub(crate) fn spare(&self) -> Option<Permit> {
        Permit::take(&self.open, self.options.max_connections)
    }

    /// A place for a new connection, unless there are as many as allowed.
    pub(crate) fn permit(&self) -> Option<Permit> {
        self.spare().or_else(|| {
            // One that is idle but still busy, or has not been seen to be dead, must not keep a request out.
            let oldest = self.idle().pop_front();
            drop(oldest);
            self.spare()
        })
    }

    /// The connection of this runtime that became idle last, of those that live and are young enough.
    pub(crate) fn take_idle(&self) -> Option<Checkout<B>> {
        let (now, home) = (self.options.clock.now(), home());
        // Connections are dropped after the lock is: that wakes their tasks.
        let mut gone = Vec::new();
        let mut idle = self.idle();
        self.remove_old(&mut idle, now, &mut gone);
        let mut place = idle.len();
        let mut found = None;
        while found.is_none() && place > 0 {
            place -= 1;
            let one = &idle[place];
            if one.until <= now || one.connection.is_closed() {
                gone.extend(idle.remove(place));
            } else if one.home == home && (one.new || one.connection.is_ready()) {
                found = idle.remove(place);
            }
        }
        drop(idle);
        drop(gone);
        self.one_less();
        found.map(|idle| idle.connection)
    }

    /// Closes the connections that have been idle too long. None that is being taken is among them.
    pub(crate) fn close_old(&self, now: Timestamp) {
        let mut gone = Vec::new();
        let mut idle = self.idle();
        self.remove_old(&mut idle, now, &mut gone);
        let mut place = 0;
        while place < idle.len() {
            if idle[place].until <= now {
                gone.extend(idle.remove(place));
            } else {
                place += 1;
            }
        }
        drop(idle);
        drop(gone);
        #[cfg(feature = "http2")]
        self.multiplexed.close_old(now, self.options.idle_timeout);
        self.one_less();
    }

    fn remove_old(&self, idle: &mut VecDeque<Idle<B>>, now: Timestamp, gone: &mut Vec<Idle<B>>) {
        while let Some(oldest) = idle.front()
            && now - oldest.since >= self.options.idle_timeout.max(PACE)
        {
            gone.extend(idle.pop_front());
        }
    }

    /// Keeps a connection for the next request; the oldest makes room for it.
    pub(crate) fn put(&self, connection: Checkout<B>) {
        self.keep(connection, false);
    }

    /// Keeps a connection that no request has been on, for the one who waits for it.
    pub(crate) fn put_new(&self, connection: Checkout<B>) {
        self.keep(connection, true);
    }

    fn keep(&self, connection: Checkout<B>, new: bool) {
        let since = self.options.clock.now();
        let (until, home) = (connection.until(), connection.home());
        if !new && self.options.idle_timeout.is_zero() || until <= since {
            return;
        }
        connection.idle_since(since);
        let mut idle = self.idle();
        idle.push_back(Idle { connection, since, until, home, new });
        let oldest = if !new && idle.len() > self.options.max_idle { idle.pop_front() } else { None };
        drop(idle);
        drop(oldest);
    }

    /// The version of HTTP that `request` is to be sent in. An upgrade is one of HTTP/1.1.
    pub(crate) fn protocol_for<R>(&self, request: &Request<R>) -> Protocol {
        #[cfg(all(feature = "http2", feature = "tls"))]
        if self.protocol == Protocol::Either && request.headers().contains_key(UPGRADE) {
            return Protocol::Http1;
        }
        let _ = request;
        self.protocol
    }

    #[cfg(feature = "http2")]
    pub(crate) const fn multiplexed(&self) -> &Multiplexed {
        &self.multiplexed
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle<B>>> {
        // Nothing under this lock leaves the queue half changed, so a poisoned lock is as good as a sound one.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Pool<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// A connection that takes a request at once.
    pub(crate) fn take(self: &Arc<Self>, protocol: Protocol) -> Option<Checkout<B>> {
        #[cfg(feature = "http2")]
        if protocol != Protocol::Http1
            && let Some(place) = self.multiplexed.place(self.options.clock.now(), home())
        {
            self.one_less();
            return Some(Exchange::checkout(place, Arc::downgrade(self)));
        }
        let _ = protocol;
        self.take_idle()
    }
}
