//! Where keys are, by a service that knows.

use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{Answer, BoxError, Clock, Timestamp};
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tower_service::Service;

use super::cache::Cache;
use super::rules::{Count, Tally, Watch};
use super::{Locate, Located, LookupCounts, ShardsError, ShardsEvent};

/// Asks a lookup service which shard has a key, and remembers the answers.
///
/// `key` reads the key of a request: anything that can be compared and hashed. `lookup` is a service from such a key to
/// whatever says where it is: a position, an `Option` of one, a [`Moving`](crate::Moving), or a [`Located`].
///
/// - Calls that ask for one key at the same time make one lookup. It goes on as long as any of them waits, whichever
///   began it.
/// - An error or a panic of the lookup refuses all calls that wait for it (`NoEndpoint`), and is not remembered: the next call
///   looks again.
/// - An answer that comes after its key was [invalidated](DirectoryHandle::invalidate) goes to the calls that waited for it, and
///   is not remembered.
///
/// | setting | default | because |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | 30 s | a key that moved without a word is found again soon, and a busy key is looked up twice a minute |
/// | [`negative_ttl`](Self::negative_ttl) | 1 s | a new key is seen soon, and a flood of calls for one that is not there makes one lookup a second |
/// | [`patience`](Self::patience) | 2 s | a lookup that hangs holds up the calls that wait for it, and no later ones |
/// | [`capacity`](Self::capacity) | 10 000 | about a megabyte with short keys |
///
/// At the bound, the keys that were not asked for longest make way: they are looked up again.
pub struct Directory<F, D> {
    key: F,
    lookup: D,
    ttl: Duration,
    negative_ttl: Duration,
    patience: Duration,
    capacity: usize,
    clock: Clock,
}

impl<F, D> Directory<F, D> {
    /// Asks `lookup` for the key that `key` reads.
    pub fn new(key: F, lookup: D) -> Self {
        Self {
            key,
            lookup,
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            capacity: 10_000,
            clock: Clock::default(),
        }
    }

    /// Remembers where a key is for so long; zero is not at all.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Remembers for so long that no shard has a key; zero is not at all.
    #[must_use]
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Lets calls join a lookup that has been under way for less than this; a later call looks anew. Those that wait go on
    /// waiting: give the lookup, or the call, a timeout of its own.
    #[must_use]
    pub const fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Remembers this many keys at most. Must be 2 or more.
    #[must_use]
    pub const fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// Reads the time from `clock`. The default is [`Clock::default`] at the time the directory is made.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn open<K: Hash + Eq>(self, watch: Watch) -> Result<Lookups<F, K, D>, ShardsError> {
        let Self { key, lookup, ttl, negative_ttl, patience, capacity, clock } = self;
        if capacity < 2 {
            return Err(ShardsError::Capacity { capacity });
        }
        let cache = Mutex::new(Cache::new(capacity));
        let desk = Desk { lookup, ttl, negative_ttl, patience, clock, cache, watch, tally: Tally::default() };
        Ok(Lookups { key, desk: Arc::new(desk) })
    }
}

impl<F, D> fmt::Debug for Directory<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("ttl", &self.ttl)
            .field("negative_ttl", &self.negative_ttl)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Finds shards by a [`Directory`].
pub struct Lookups<F, K, D> {
    key: F,
    desk: Arc<Desk<K, D>>,
}

/// What the lookups of a directory share.
pub(crate) struct Desk<K, D> {
    lookup: D,
    ttl: Duration,
    negative_ttl: Duration,
    patience: Duration,
    clock: Clock,
    cache: Mutex<Cache<K, WeakShared<Flight>>>,
    watch: Watch,
    tally: Tally,
}

type Flight = Pin<Box<dyn Future<Output = Located> + Send>>;

/// The answer of a [`Directory`] that has to be waited for.
///
/// # Cancel safety
///
/// Dropping it leaves the lookup to the others that wait for it. When the last of them is dropped, so is the lookup.
#[derive(Clone)]
#[must_use = "futures do nothing unless polled"]
pub struct Lookup(Shared<Flight>);

impl Future for Lookup {
    type Output = Located;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Located> {
        self.0.poll_unpin(cx)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

impl<F, K, D> Lookups<F, K, D> {
    pub(crate) fn desk(&self) -> &Arc<Desk<K, D>> {
        &self.desk
    }
}

impl<Req, F, K, D> Locate<Req> for Lookups<F, K, D>
where
    F: Fn(&Req) -> Option<K>,
    K: Hash + Eq + Clone + Send + 'static,
    D: Service<K, Response: Into<Located>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Wait = Lookup;

    fn locate(&self, req: &Req) -> Answer<Located, Lookup> {
        let Some(key) = (self.key)(req) else { return Answer::Now(Located::Nowhere) };
        self.desk.find(key)
    }
}

impl<K, D> Desk<K, D>
where
    K: Hash + Eq + Clone + Send + 'static,
    D: Service<K, Response: Into<Located>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn find(self: &Arc<Self>, key: K) -> Answer<Located, Lookup> {
        let now = self.clock.now();
        let id = {
            let mut cache = self.lock();
            if let Some(known) = self.known(&mut cache, &key, now) {
                return known;
            }
            cache.next_id()
        };
        // Made before the lock is taken again, so that it is never dropped under the lock, which its `Landing` takes.
        let landing = Landing { desk: Arc::clone(self), key: key.clone(), id };
        let flight = Self::fly(landing, key.clone()).shared();
        let mut cache = self.lock();
        if let Some(known) = self.known(&mut cache, &key, now) {
            return known;
        }
        cache.begin(key, id, flight.downgrade().expect("it was not polled yet"), now);
        drop(cache);
        self.tally.add(Count::LookedUp);
        Answer::Later(Lookup(flight))
    }

    /// What is remembered, or is being looked up. Nobody waits for a lookup that cannot be upgraded, and it is over.
    fn known(
        &self,
        cache: &mut Cache<K, WeakShared<Flight>>,
        key: &K,
        now: Timestamp,
    ) -> Option<Answer<Located, Lookup>> {
        if let Some(located) = cache.get(key, now) {
            return Some(Answer::Now(located));
        }
        let flight = cache.flight(key, now, self.patience).and_then(WeakShared::upgrade)?;
        self.tally.add(Count::Joined);
        Some(Answer::Later(Lookup(flight)))
    }

    /// One lookup: nothing of the user's runs before it is polled, which is outside the lock.
    fn fly(landing: Landing<K, D>, key: K) -> Flight {
        Box::pin(async move {
            let desk = Arc::clone(&landing.desk);
            let asked = async move {
                let mut lookup = desk.lookup.clone();
                poll_fn(|cx| lookup.poll_ready(cx)).await.map_err(Into::into)?;
                lookup.call(key).await.map(Into::into).map_err(Into::<BoxError>::into)
            };
            match AssertUnwindSafe(asked).catch_unwind().await {
                Ok(Ok(located)) => landing.land(located),
                Ok(Err(error)) => landing.fail(Some(&*error)),
                // The panic has been printed. To pass it on to one caller would leave the others without an answer.
                Err(_) => landing.fail(None),
            }
        })
    }
}

impl<K, D> Desk<K, D> {
    fn lock(&self) -> MutexGuard<'_, Cache<K, WeakShared<Flight>>> {
        // What a panicking `Hash` or `Eq` leaves behind is a map that may lack an entry, which is as good as any.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &ShardsEvent<'_>) {
        // An observer that panics must not take the answer from those who wait for it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.watch.tell(event)));
    }
}

/// A lookup under way. Dropped before it has landed, it was given up by all who waited for it.
struct Landing<K: Hash + Eq, D> {
    desk: Arc<Desk<K, D>>,
    key: K,
    id: u64,
}

impl<K: Hash + Eq + Clone, D> Landing<K, D> {
    fn land(&self, located: Located) -> Located {
        let desk = &*self.desk;
        let now = desk.clock.now();
        let mut cache = desk.lock();
        let current = cache.end(&self.key, self.id);
        match located {
            Located::Unknown => {}
            Located::Nowhere if current => cache.remember(self.key.clone(), located, desk.negative_ttl, now),
            _ if current => cache.remember(self.key.clone(), located, desk.ttl, now),
            _ => {}
        }
        drop(cache);
        if !current {
            desk.tally.add(Count::Late);
            desk.tell(&ShardsEvent::Late { located });
        }
        located
    }

    fn fail(&self, error: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> Located {
        self.desk.lock().end(&self.key, self.id);
        self.desk.tally.add(Count::Failed);
        self.desk.tell(&ShardsEvent::LookupFailed { error });
        Located::Unknown
    }
}

impl<K: Hash + Eq, D> Drop for Landing<K, D> {
    fn drop(&mut self) {
        self.desk.lock().end(&self.key, self.id);
    }
}

/// Forgets what a [`Directory`] remembers, and looks at it.
///
/// When a key moves, tell the directory's source first, then [invalidate](Self::invalidate) the key here, and then wait for
/// [`ShardsHandle::settle`](crate::ShardsHandle::settle): after that no call is under way that goes by the former answer.
pub struct DirectoryHandle<K, D> {
    desk: Arc<Desk<K, D>>,
}

impl<K: Hash + Eq, D> DirectoryHandle<K, D> {
    pub(crate) const fn new(desk: Arc<Desk<K, D>>) -> Self {
        Self { desk }
    }

    /// Forgets one key: the next call looks it up anew, also where a lookup is under way, whose answer is not remembered.
    pub fn invalidate(&self, key: &K) {
        self.desk.lock().invalidate(key);
    }

    /// Forgets all keys.
    pub fn invalidate_all(&self) {
        self.desk.lock().clear();
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> LookupCounts {
        LookupCounts::of(&self.desk.tally)
    }

    /// How many keys are remembered, those among them whose time is over and that nobody has asked for since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.desk.lock().len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lookups are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.desk.lock().under_way()
    }

    /// How many keys were forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.desk.lock().evicted()
    }
}

impl<K, D> Clone for DirectoryHandle<K, D> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk) }
    }
}

impl<F, K, D> fmt::Debug for Lookups<F, K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("ttl", &self.desk.ttl).finish_non_exhaustive()
    }
}

impl<K, D> fmt::Debug for DirectoryHandle<K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryHandle").finish_non_exhaustive()
    }
}
