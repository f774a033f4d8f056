use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{Clock, Endpoint, EndpointId, Endpoints, Name};
use tower::discover::{Change, Discover};

use super::DiscoverEvent;
use super::feed::Feed;
use crate::Members;
use crate::backoff::backoff;

type BoxError = Box<dyn Error + Send + Sync>;

/// So many changes that come at once make one new list.
const BATCH: usize = 1024;

/// The endpoints of a `tower::discover::Discover`, which come with a service each.
///
/// It is driven by its [`run`](Self::run), with or without traffic. An error that it yields is an event and not the end: after 100 ms,
/// or twice as long each time up to 10 s, it is asked again. It ends when its stream does.
///
/// Where a service is inserted for a key that has one, the new one takes its place, and the endpoint's condition stays. For those who
/// make something of each endpoint each service that is inserted gives its endpoint another number, under `instance` in its
/// [metadata](Endpoint::metadata).
///
/// ```
/// use buttress_balance::discover::Discovered;
/// use buttress_core::Endpoint;
/// use tower::discover::ServiceList;
/// # use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let services = vec![service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) })];
/// let source = Discovered::new(ServiceList::new(services), |key: &usize| Endpoint::new(key.to_string()));
/// let (endpoints, services) = (source.endpoints(), source.services());
/// tokio::spawn(source.run());
///
/// let (_, list) = endpoints.newer_than(0).await;
/// assert!(services.of(&list[0]).is_some());
/// # }
/// ```
#[must_use = "it does nothing until it runs"]
pub struct Discovered<D: Discover, N> {
    feed: Feed,
    discover: D,
    name: N,
    services: Services<D::Service>,
}

impl<D, N> Discovered<D, N>
where
    D: Discover,
    D::Error: Into<BoxError>,
    N: Fn(&D::Key) -> Endpoint,
{
    /// The endpoints of `discover`, each of which `name` makes of its key. Keys whose endpoints have one name are one endpoint: the
    /// one that came last serves, and when it goes, the one before it. So an endpoint may move from one key to another in any order.
    pub fn new(discover: D, name: N) -> Self {
        Self { feed: Feed::empty(Name::from_static("discover")), discover, name, services: Services::new() }
    }

    /// Calls it `name` in its events, and not `discover`.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.feed.source = name.into();
        self
    }

    /// Tells `observer` of each new list, of each error, and of the end. There is none unless said otherwise.
    pub fn observe(mut self, observer: impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) -> Self {
        self.feed.observe(observer);
        self
    }

    /// Reads the time from `clock` instead of [`Clock::default`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.feed.clock = clock;
        self
    }

    /// The endpoints that it keeps up to date while it [runs](Self::run).
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.feed.endpoints.clone()
    }

    /// The services of its endpoints.
    #[must_use]
    pub fn services(&self) -> Services<D::Service> {
        self.services.clone()
    }

    /// The endpoints with their services, as a balancer takes them.
    #[must_use]
    pub fn members(&self) -> Members<D::Service>
    where
        D::Service: Clone + Send + Sync + 'static,
    {
        let services = self.services();
        Members::looked_up(self.endpoints(), move |endpoint| services.of(endpoint))
    }

    /// Drives the discovery to its end.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the endpoints and their services stay as they are.
    pub async fn run(self) {
        let Self { feed, discover, name, services } = self;
        let mut discover = pin!(discover);
        let (mut list, mut instance, mut failures) = (Vec::new(), 0_u64, 0_u32);
        let mut held: HashMap<EndpointId, Vec<Held<D::Key, D::Service>>> = HashMap::new();
        loop {
            let mut changes = Vec::new();
            let paused = poll_fn(|cx| {
                while changes.len() < BATCH {
                    match discover.as_mut().poll_discover(cx) {
                        Poll::Ready(Some(Ok(change))) => changes.push(change),
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Paused::Failed(error.into())),
                        Poll::Ready(None) => return Poll::Ready(Paused::Ended),
                        Poll::Pending if changes.is_empty() => return Poll::Pending,
                        Poll::Pending => break,
                    }
                }
                Poll::Ready(Paused::Briefly)
            })
            .await;

            if !changes.is_empty() {
                failures = 0;
                let mut gone = Vec::new();
                for change in changes {
                    let (key, service) = match change {
                        Change::Insert(key, service) => (key, Some(Arc::new(service))),
                        Change::Remove(key) => (key, None),
                    };
                    let id = name(&key).id();
                    let keys = held.entry(id).or_default();
                    let before = keys.last().map(|held| held.instance);
                    keys.retain(|held| held.key != key);
                    if let Some(service) = service {
                        instance += 1;
                        keys.push(Held { key, instance, service });
                    }
                    // What another key has taken over is still there when this one goes.
                    if keys.last().map(|held| held.instance) == before {
                        if before.is_none() {
                            held.remove(&id);
                        }
                        continue;
                    }
                    if before.is_some() {
                        list.retain(|present: &Endpoint| present.id() != id);
                    }
                    if let Some(Held { key, instance, service }) = keys.last() {
                        list.push(name(key).with_metadata("instance", instance.to_string()));
                        gone.retain(|&other| other != id);
                        // Before those who follow the list ask for it.
                        services.insert(id, Arc::clone(service));
                    } else {
                        held.remove(&id);
                        gone.push(id);
                    }
                }
                if let Err(error) = feed.put(list.clone()) {
                    feed.failed(&error, None);
                }
                // After the last of those who follow the list could ask for it.
                gone.into_iter().for_each(|id| services.remove(id));
            }
            match paused {
                // A stream that always has something leaves others their turn.
                Paused::Briefly => tokio::task::yield_now().await,
                Paused::Failed(error) => {
                    failures += 1;
                    let wait = backoff(Duration::from_millis(100), Duration::from_secs(10), failures);
                    feed.failed(&*error, Some(wait));
                    feed.clock.sleep(wait).await;
                }
                Paused::Ended => return feed.ended(),
            }
        }
    }
}

/// A key that is there. Of those of one endpoint the last that came is in use.
struct Held<K, S> {
    key: K,
    instance: u64,
    service: Arc<S>,
}

/// Why a discovery yields no more changes.
enum Paused {
    /// It has none now.
    Briefly,
    Failed(BoxError),
    Ended,
}

impl<D: Discover, N> fmt::Debug for Discovered<D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered").field("feed", &self.feed).finish_non_exhaustive()
    }
}

/// The services of discovered endpoints.
pub struct Services<S>(Arc<Mutex<HashMap<EndpointId, Arc<S>>>>);

impl<S> Services<S> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// The service of this endpoint; `None` once it has left. Those who follow the list of endpoints, as a balancer does, find
    /// one for each endpoint of the list that they are shown.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint) -> Option<S>
    where
        S: Clone,
    {
        let service = self.lock().get(&endpoint.id()).cloned();
        // Outside the lock: to clone a service is somebody else's code.
        service.map(|service| S::clone(&service))
    }

    fn insert(&self, endpoint: EndpointId, service: Arc<S>) {
        let before = self.lock().insert(endpoint, service);
        drop(before);
    }

    fn remove(&self, endpoint: EndpointId) {
        let before = self.lock().remove(&endpoint);
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Services<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Services<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("endpoints", &self.lock().len()).finish()
    }
}
