//! Names of hosts, looked up by the system.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::Failure;

/// How many threads may look up names at a time: an eighth of those that a runtime has for what blocks.
const MOST: usize = 64;

static LOOKUPS: LazyLock<Lookups> = LazyLock::new(|| Lookups::new(MOST));

/// Looks up a host, and gives its addresses this port.
pub(super) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = LOOKUPS.by(host, |host| (host, 0).to_socket_addrs().map(Vec::from_iter)).await?;
    addresses.iter_mut().for_each(|address| address.set_port(port));
    Ok(addresses)
}

type Found = Result<Vec<SocketAddr>, Failure>;

/// Lookups under way: of each host one, and of all hosts no more than there are places.
///
/// The system's resolver blocks a thread for as long as it likes, and who gives it up cannot end it. So a lookup has its
/// place until its thread is done, and who asks again meanwhile waits for that one.
struct Lookups {
    places: Arc<Semaphore>,
    under_way: Arc<UnderWay>,
}

#[derive(Default)]
struct UnderWay(Mutex<HashMap<String, watch::Receiver<Option<Found>>>>);

impl Lookups {
    fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), under_way: Arc::default() }
    }

    async fn by<R>(&self, host: &str, resolve: R) -> Found
    where
        R: FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    {
        let present = self.under_way.get(host);
        let mut found = match present {
            Some(found) => found,
            None => {
                let place = Arc::clone(&self.places).acquire_owned().await.expect("it is never closed");
                self.begin(host, resolve, place)
            }
        };
        // It ends without a result where its runtime does.
        let found = found.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or(Err(Failure::Io(io::ErrorKind::Interrupted)))
    }

    /// Begins one, unless another has meanwhile.
    fn begin<R>(&self, host: &str, resolve: R, place: OwnedSemaphorePermit) -> watch::Receiver<Option<Found>>
    where
        R: FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(found) = under_way.get(host).filter(|found| lives(found)) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        under_way.insert(host.to_owned(), found.clone());
        drop(under_way);

        let (under_way, host) = (Arc::clone(&self.under_way), host.to_owned());
        tokio::task::spawn_blocking(move || {
            let found = resolve(&host).map_err(|error| super::dial::io(&error));
            under_way.lock().remove(&host);
            drop(place);
            tell.send_replace(Some(found));
        });
        found
    }
}

impl UnderWay {
    fn get(&self, host: &str) -> Option<watch::Receiver<Option<Found>>> {
        self.lock().get(host).filter(|found| lives(found)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Found>>>> {
        // Nothing under this lock can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether its thread may still tell: one that waited for a thread when its runtime ended never does.
fn lives(found: &watch::Receiver<Option<Found>>) -> bool {
    found.has_changed().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// A resolver that hangs while the gate is closed, and counts how often it is asked.
    #[derive(Clone, Default)]
    struct Resolver {
        gate: Arc<RwLock<()>>,
        asked: Arc<AtomicUsize>,
    }

    impl Resolver {
        async fn by(&self, lookups: &Lookups, host: &str) -> Found {
            let Self { gate, asked } = self.clone();
            let resolve = move |_: &str| {
                asked.fetch_add(1, Ordering::SeqCst);
                drop(gate.read());
                Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))])
            };
            lookups.by(host, resolve).await
        }

        /// Gives it up at once, as a probe does at its timeout.
        async fn given_up(&self, lookups: &Lookups, host: &str) {
            assert!(self.by(lookups, host).now_or_never().is_none());
            tokio::task::yield_now().await;
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn lookups_that_hang_are_one_for_each_host_and_no_more_than_there_are_places() {
        let (runtime, lookups, resolver) = (runtime(), Lookups::new(2), Resolver::default());
        let closed = resolver.gate.write().unwrap();
        runtime.block_on(async {
            for host in ["a", "a", "a", "b", "b", "c", "d"] {
                resolver.given_up(&lookups, host).await;
            }
            while resolver.asked() < 2 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(lookups.places.available_permits(), 0, "the threads hang, though nobody waits for them");

        drop(closed);
        runtime.block_on(async {
            assert!(resolver.by(&lookups, "c").await.is_ok());
            assert!(resolver.by(&lookups, "c").await.is_ok(), "and again, as the first is over");
            while lookups.places.available_permits() < 2 {
                tokio::task::yield_now().await;
            }
        });

        assert_eq!(resolver.asked(), 4, "a, b, c, and c");
        assert!(lookups.under_way.lock().is_empty());
    }

    #[test]
    fn who_asks_for_a_host_that_is_looked_up_is_told_what_is_found() {
        let (runtime, lookups, resolver) = (runtime(), Lookups::new(1), Resolver::default());
        let closed = resolver.gate.write().unwrap();
        runtime.block_on(resolver.given_up(&lookups, "a"));
        let mut second = Box::pin(resolver.by(&lookups, "a"));
        assert!(second.as_mut().now_or_never().is_none());

        drop(closed);

        assert_eq!(runtime.block_on(second), Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))]));
        assert_eq!(resolver.asked(), 1);
    }

    #[test]
    fn a_lookup_that_ended_with_its_runtime_is_made_anew() {
        let (lookups, resolver) = (Lookups::new(1), Resolver::default());
        let ended = runtime();
        // What blocks is no longer begun.
        let handle = ended.handle().clone();
        ended.shutdown_background();
        {
            let _within = handle.enter();
            let _ = resolver.by(&lookups, "a").now_or_never();
        }
        assert_eq!(resolver.asked(), 0);

        assert!(runtime().block_on(resolver.by(&lookups, "a")).is_ok());
        assert_eq!(resolver.asked(), 1);
    }
}
