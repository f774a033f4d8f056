use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress_core::Timestamp;
use futures_util::future::{FutureExt, Shared, WeakShared};

use super::multiplexer::{Multiplexer, Place, Room};
use crate::Error;
use crate::connection::{Home, home};

/// Opening one connection for all who wait for it. It goes on as long as one of them does.
type Dialing = Pin<Box<dyn Future<Output = Result<(), Arc<Error>>> + Send>>;

/// The HTTP/2 connections to one upstream.
///
/// The first that has room gets the call, so that those that a quiet hour does not need are idle and end.
#[derive(Default)]
pub(crate) struct Multiplexed {
    connections: Mutex<Vec<Arc<Multiplexer>>>,
    dialing: Mutex<Option<(Home, WeakShared<Dialing>)>>,
    /// The last connection was HTTP/1.1, by the choice of the upstream: nothing is shared then.
    http1: AtomicBool,
}

impl Multiplexed {
    /// A place on a connection of this runtime.
    pub(crate) fn place(&self, now: Timestamp, home: Home) -> Option<Place> {
        // Connections are dropped after the lock is: that wakes their tasks.
        let mut gone = Vec::new();
        let mut connections = self.connections();
        let mut at = 0;
        let mut found = None;
        while found.is_none() && at < connections.len() {
            if connections[at].home() != home {
                at += 1;
                continue;
            }
            match connections[at].room(now) {
                Room::Place(place) => found = Some(place),
                Room::Full => at += 1,
                Room::Leaving => gone.push(connections.remove(at)),
            }
        }
        drop(connections);
        drop(gone);
        found
    }

    pub(crate) fn add(&self, connection: Arc<Multiplexer>) {
        self.connections().push(connection);
    }

    /// Lets go of those that have been idle too long, or are too old: what is still on them goes on.
    pub(crate) fn close_old(&self, now: Timestamp, idle_timeout: Duration) {
        let mut gone = Vec::new();
        self.connections().retain(|connection| {
            let over = connection.is_over(now, idle_timeout);
            if over {
                gone.push(connection.clone());
            }
            !over
        });
        drop(gone);
    }

    /// How many would take a call at once.
    pub(crate) fn at_hand(&self, now: Timestamp, home: Home) -> usize {
        let takes = |connection: &&Arc<Multiplexer>| connection.home() == home && connection.has_room(now);
        self.connections().iter().filter(takes).count()
    }

    /// How many calls are under way, and how many connections have none.
    pub(crate) fn count(&self) -> (usize, usize) {
        self.connections().iter().fold((0, 0), |(streams, idle), connection| match connection.streams() {
            0 => (streams, idle + 1),
            more => (streams + more, idle),
        })
    }

    /// The opening that is under way, or the one that `begin` makes.
    pub(crate) async fn dial(&self, begin: impl FnOnce() -> Dialing) -> Result<(), Arc<Error>> {
        let here = home();
        let dialing = {
            let mut dialing = self.dialing.lock().unwrap_or_else(PoisonError::into_inner);
            let under_way = dialing
                .as_ref()
                .filter(|(home, _)| *home == here)
                .and_then(|(_, dialing)| dialing.upgrade())
                .filter(|shared| shared.peek().is_none());
            under_way.unwrap_or_else(|| {
                let shared: Shared<Dialing> = begin().shared();
                *dialing = shared.downgrade().map(|shared| (here, shared));
                shared
            })
        };
        dialing.await
    }

    pub(crate) fn speaks_http1(&self) -> bool {
        self.http1.load(Ordering::Relaxed)
    }

    pub(crate) fn set_http1(&self, http1: bool) {
        self.http1.store(http1, Ordering::Relaxed);
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Multiplexer>>> {
        // Nothing under this lock leaves the list half changed.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
