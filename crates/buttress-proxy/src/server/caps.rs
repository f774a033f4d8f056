//! How many connections there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of all listeners together, and those of each client.
pub(super) struct Caps {
    total: Arc<Semaphore>,
    max_per_client: Option<usize>,
    clients: Mutex<HashMap<Client, usize>>,
}

/// One IPv4 address, or the /64 that one IPv6 customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client(u64, bool);

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u32::from(address).into(), true),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64, false),
        }
    }
}

impl Caps {
    pub(super) fn new(max_connections: usize, max_per_client: Option<usize>) -> Arc<Self> {
        let total = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { total, max_per_client, clients: Mutex::default() })
    }

    /// A place for a connection of `address`; `None` where that client has as many as it may.
    pub(super) fn client(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = Client::of(address);
        if let Some(max) = self.max_per_client {
            let mut clients = self.clients();
            let count = clients.entry(client).or_insert(0);
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        Some(Place { caps: Arc::clone(self), client, _total: None })
    }

    /// Waits until one connection more is within the total.
    pub(super) async fn enter(&self, place: &mut Place) {
        // Never closed.
        place._total = Arc::clone(&self.total).acquire_owned().await.ok();
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection among those of its client and of all.
pub(super) struct Place {
    caps: Arc<Caps>,
    client: Client,
    _total: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.caps.max_per_client.is_none() {
            return;
        }
        let mut clients = self.caps.clients();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_share_a_count_and_others_do_not() {
        let caps = Caps::new(10, Some(2));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();

        let first = caps.client(ip("192.0.2.1")).unwrap();
        let _mapped = caps.client(ip("::ffff:192.0.2.1")).unwrap();
        assert!(caps.client(ip("192.0.2.1")).is_none());
        let _other = caps.client(ip("192.0.2.2")).unwrap();
        drop(first);
        assert!(caps.client(ip("192.0.2.1")).is_some());

        let _a = caps.client(ip("2001:db8:0:1::1")).unwrap();
        let _b = caps.client(ip("2001:db8:0:1:ffff::2")).unwrap();
        assert!(caps.client(ip("2001:db8:0:1::3")).is_none());
        assert!(caps.client(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn clients_that_have_left_are_forgotten() {
        let caps = Caps::new(10, Some(2));

        drop(caps.client("192.0.2.1".parse().unwrap()));

        assert!(caps.clients().is_empty());
    }
}
