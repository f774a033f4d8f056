use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AccessOf, BySafety, Fail, Key, Name, Reject};
use tower_service::Service;

use super::epoch::Epochs;
use super::rules::{Rules, Tally, Watch};
use super::{
    Directory, DirectoryHandle, HashMod, Hashed, Jump, Locate, Lookups, Mapped, Movable, Mover, Moves,
    Places, Ranges, ShardBy, ShardMap, ShardsError, ShardsEvent, ShardsFuture, ShardsHandle, Still,
};
use crate::HashRing;

/// Sends each call to the one of several services that has its key.
///
/// | made by | a key's shard is | when |
/// |---|---|---|
/// | [`by_range`](Self::by_range) | that of the range it is in | keys are ordered, and neighbours are read together |
/// | [`by_modulo`](Self::by_modulo) | `hash mod N` | the store does it so |
/// | [`by_jump`](Self::by_jump) | its jump consistent hash | shards are numbered, and more will come |
/// | [`by_ring`](Self::by_ring) | its owner on a ring | any shard may leave, or their sizes differ |
/// | [`by_directory`](Self::by_directory) | what a lookup service says | keys are placed one by one |
/// | [`by_place`](Self::by_place) | the one at a named place | a zone, region or tenant is part of the request |
///
/// A shard is no endpoint: only it has the key, so there is no second choice. Put a balancer over the replicas of a shard
/// *below* this, as the shard's service.
///
/// A key without a shard is refused with [`NoShard`](buttress_core::RejectionKind::NoShard), through
/// [`on_reject`](Self::on_reject); one whose lookup failed with [`NoEndpoint`](buttress_core::RejectionKind::NoEndpoint).
///
/// All clones share the services, the map and the counts, and a clone is cheap however many shards there are. Each call
/// clones the service of its shard, readies that and calls it, so `poll_ready` is always ready and holds nothing. Services
/// are `Clone`, and `Sync` where this is to go to other threads; beyond their clone a call allocates nothing, but for a lookup. To
/// move keys while calls go on: [`movable`](Self::movable).
///
/// Use the store's own client where it knows its shards, as those of Redis Cluster, Cassandra or MongoDB do.
///
/// ```
/// use buttress_balance::{Ranges, Shards};
/// use buttress_core::BoxError;
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let store = |name: &'static str| service_fn(move |id: u64| async move { Ok::<_, BoxError>(format!("{id} in {name}")) });
/// let services = ["a", "b"].map(store);
///
/// let ranges = Ranges::new().with(..1000, 0)?.with(1000..5000, 1)?;
/// let users = Shards::by_range(services, ranges, |id: &u64| Some(*id))?;
///
/// assert_eq!(users.clone().oneshot(999).await?, "999 in a");
/// assert_eq!(users.clone().oneshot(1000).await?, "1000 in b");
/// assert_eq!(users.oneshot(5000).await.unwrap_err().to_string(), "no shard for the key by `shards`");
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Nothing is held between calls.
pub struct Shards<S, L, M = Still, J = Fail> {
    services: Arc<[S]>,
    locate: Arc<L>,
    epochs: Arc<Epochs>,
    rules: Arc<Rules<M, J>>,
}

impl<S, F, K> Shards<S, Mapped<F, Ranges<K>>>
where
    K: Ord + Clone + fmt::Debug,
{
    /// By the range that a key is in; `key` reads the key of a request.
    ///
    /// # Errors
    ///
    /// When there are no services or no ranges, or a range has a shard that is not there.
    pub fn by_range<Req>(
        services: impl IntoIterator<Item = S>,
        ranges: Ranges<K>,
        key: F,
    ) -> Result<Self, ShardsError>
    where
        F: Fn(&Req) -> Option<K>,
    {
        Self::by_map(services, key, ranges)
    }
}

impl<S, F> Shards<S, Mapped<F, Places>> {
    /// By the name of a place; `place` reads it off a request.
    ///
    /// ```
    /// use buttress_balance::Shards;
    /// # use buttress_core::BoxError;
    /// # use tower::{ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let store = |region: &'static str| service_fn(move |_: String| async move { Ok::<_, BoxError>(region) });
    /// # let (eu, us) = (store("eu"), store("us"));
    /// let region = |user: &String| user.split('/').next().map(str::to_owned);
    /// let users = Shards::by_place([("eu", eu), ("us", us)], region)?;
    /// assert_eq!(users.oneshot("us/jane".into()).await?, "us");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there are no services, or a place is given twice.
    pub fn by_place<Req, P, N>(
        services: impl IntoIterator<Item = (N, S)>,
        place: F,
    ) -> Result<Self, ShardsError>
    where
        F: Fn(&Req) -> Option<P>,
        P: AsRef<str>,
        N: Into<Name>,
    {
        let (names, services): (Vec<Name>, Vec<S>) =
            services.into_iter().map(|(name, service)| (name.into(), service)).unzip();
        let mut places = Places::default();
        for (shard, name) in names.into_iter().enumerate() {
            if ShardMap::<str>::shard(&places, name.as_str()).is_some() {
                return Err(ShardsError::DuplicatePlace { place: name });
            }
            places = places.with(name, shard);
        }
        Self::by_map(services, place, places)
    }
}

impl<S, K> Shards<S, Mapped<Hashed<K>, HashMod>> {
    /// By the hash of the key, modulo the number of services.
    ///
    /// # Errors
    ///
    /// When there are no services.
    pub fn by_modulo<Req>(services: impl IntoIterator<Item = S>, key: K) -> Result<Self, ShardsError>
    where
        K: Key<Req>,
    {
        let (services, shards) = counted(services)?;
        Self::by_hash(services, HashMod::new(shards), key)
    }
}

impl<S, K> Shards<S, Mapped<Hashed<K>, Jump>> {
    /// By the jump consistent hash of the key, over all services.
    ///
    /// # Errors
    ///
    /// When there are no services.
    pub fn by_jump<Req>(services: impl IntoIterator<Item = S>, key: K) -> Result<Self, ShardsError>
    where
        K: Key<Req>,
    {
        let (services, shards) = counted(services)?;
        Self::by_hash(services, Jump::new(shards), key)
    }
}

impl<S, K> Shards<S, Mapped<Hashed<K>, HashRing>> {
    /// By the owner of the key on `ring`, whose endpoints are the services, in their order.
    ///
    /// # Errors
    ///
    /// When there are fewer services than endpoints.
    pub fn by_ring<Req>(
        services: impl IntoIterator<Item = S>,
        ring: HashRing,
        key: K,
    ) -> Result<Self, ShardsError>
    where
        K: Key<Req>,
    {
        Self::by_hash(services, ring, key)
    }
}

impl<S, K, M> Shards<S, Mapped<Hashed<K>, M>> {
    /// By the hash of the key, over as many of the services as the map knows: for one that is to grow later, or has another
    /// hashing.
    ///
    /// ```
    /// use buttress_balance::{Hashing, Jump, Shards};
    /// use std::num::NonZeroU32;
    /// # fn main() -> Result<(), buttress_balance::ShardsError> {
    /// # let services = [0; 4].map(|_| tower::service_fn(|_: String| async { Ok::<_, buttress_core::BoxError>(()) }));
    /// // Four services, three of which have keys so far.
    /// let map = Jump::new(NonZeroU32::new(3).unwrap()).hash_by(Hashing::sip([7; 16]));
    /// let shards = Shards::by_hash(services, map, |user: &String| Some(user.clone()))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there are fewer services than the map takes.
    pub fn by_hash<Req>(services: impl IntoIterator<Item = S>, map: M, key: K) -> Result<Self, ShardsError>
    where
        K: Key<Req>,
        M: ShardMap<u64>,
    {
        let hashing = map.hashing().unwrap_or_default();
        Self::by_map(services, Hashed::new(key, hashing), map)
    }
}

impl<S, B, M> Shards<S, Mapped<B, M>> {
    /// By a map of your own.
    ///
    /// # Errors
    ///
    /// When there are no services, or not those that the map takes.
    pub fn by_map<Req>(services: impl IntoIterator<Item = S>, by: B, map: M) -> Result<Self, ShardsError>
    where
        B: ShardBy<Req>,
        M: ShardMap<B::Key>,
    {
        let services: Arc<[S]> = services.into_iter().collect();
        match map.shards() {
            _ if services.is_empty() => Err(ShardsError::NoShards),
            0 => Err(ShardsError::EmptyMap),
            taken if taken > services.len() => {
                Err(ShardsError::NoSuchShard { shard: taken - 1, shards: services.len() })
            }
            _ => Ok(Self::with(services, Mapped::new(by, map), Watch::default())),
        }
    }
}

impl<S, F, K: Hash + Eq, D> Shards<S, Lookups<F, K, D>> {
    /// By what a lookup service says: see [`Directory`].
    ///
    /// ```
    /// use buttress_balance::{Directory, Shards};
    /// # use buttress_core::BoxError;
    /// # use tower::{ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let services = ["a", "b"].map(|name| service_fn(move |_: (String, u32)| async move { Ok::<_, BoxError>(name) }));
    /// let lookup = service_fn(|tenant: String| async move { Ok::<_, BoxError>((tenant == "acme").then_some(1)) });
    /// let directory = Directory::new(|req: &(String, u32)| Some(req.0.clone()), lookup);
    /// let shards = Shards::by_directory(services, directory)?;
    ///
    /// assert_eq!(shards.clone().oneshot(("acme".into(), 5)).await?, "b");
    /// assert!(shards.oneshot(("nobody".into(), 5)).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there are no services, or the directory has no room.
    pub fn by_directory<Req>(
        services: impl IntoIterator<Item = S>,
        directory: Directory<F, D>,
    ) -> Result<Self, ShardsError>
    where
        F: Fn(&Req) -> Option<K>,
    {
        let services: Arc<[S]> = services.into_iter().collect();
        if services.is_empty() {
            return Err(ShardsError::NoShards);
        }
        let watch = Watch::default();
        let lookups = directory.open(watch.clone())?;
        Ok(Self::with(services, lookups, watch))
    }
}

impl<S, L> Shards<S, L> {
    fn with(services: Arc<[S]>, locate: L, watch: Watch) -> Self {
        let rules = Rules {
            moves: Still,
            reject: Fail,
            name: Name::from_static("shards"),
            watch,
            tally: Arc::new(Tally::default()),
        };
        Self { services, locate: Arc::new(locate), epochs: Arc::new(Epochs::new()), rules: Arc::new(rules) }
    }
}

impl<S, L, M, J> Shards<S, L, M, J> {
    fn ruled<M2, J2>(self, rules: impl FnOnce(Rules<M, J>) -> Rules<M2, J2>) -> Shards<S, L, M2, J2>
    where
        M: Clone,
        J: Clone,
    {
        let Self { services, locate, epochs, rules: former } = self;
        Shards { services, locate, epochs, rules: Arc::new(rules(Arc::unwrap_or_clone(former))) }
    }

    /// Refuses with `reject` instead of with an error.
    #[must_use]
    pub fn on_reject<J2>(self, reject: J2) -> Shards<S, L, M, J2>
    where
        M: Clone,
        J: Clone,
    {
        self.ruled(|Rules { moves, name, watch, tally, .. }| Rules { moves, reject, name, watch, tally })
    }

    /// Names the service, in rejections and events. The default is `shards`.
    #[must_use]
    pub fn named(self, name: impl Into<Name>) -> Self
    where
        M: Clone,
        J: Clone,
    {
        self.ruled(|rules| Rules { name: name.into(), ..rules })
    }

    /// Tells `observer` of what happens here, in all clones, and in the directory. The default is none.
    ///
    /// # Panics
    ///
    /// When there is one.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&ShardsEvent<'_>) + Send + Sync + 'static) -> Self {
        self.rules.watch.set(Arc::new(observer));
        self
    }

    /// Reads and settles what goes on.
    #[must_use]
    pub fn handle(&self) -> ShardsHandle {
        ShardsHandle::new(Arc::clone(&self.epochs), Arc::clone(&self.rules.tally))
    }

    /// The services, in their order.
    #[must_use]
    pub fn services(&self) -> &[S] {
        &self.services
    }
}

impl<S, L, J: Clone> Shards<S, L, Still, J> {
    /// Lets keys move while calls go on, and reads fall back to their former place where `not_found` says of an answer that
    /// there is no such key.
    ///
    /// Clones that were made before this share the map and do not move: they refuse keys that do. Requests are cloned while their keys
    /// move. Which of them read goes by the method of HTTP requests; for others say it by
    /// [`movable_by`](Self::movable_by).
    ///
    /// ```
    /// use buttress_balance::{Ranges, Shards};
    /// use buttress_core::BoxError;
    /// use http::{Request, Response, StatusCode};
    /// # use tower::service_fn;
    /// # type Body = String;
    ///
    /// # fn main() -> Result<(), BoxError> {
    /// # let store = || service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::new())) });
    /// # let services = [store(), store()];
    /// let by_user = |req: &Request<Body>| req.uri().path().strip_prefix("/users/")?.parse().ok();
    /// let shards = Shards::by_range(services, Ranges::new().with(..1000_u64, 0)?.with(1000.., 1)?, by_user)?
    ///     .movable(|answer: Result<&Response<Body>, &BoxError>| {
    ///         answer.is_ok_and(|response| response.status() == StatusCode::NOT_FOUND)
    ///     });
    ///
    /// let mover = shards.mover();
    /// let copying = mover.begin(mover.map().moved(900..1000, 1)?)?;
    /// // copying.await; copy what is not there yet; mover.finish()?.await; delete what was copied
    /// # drop((copying, shards));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn movable<N, Res, Err>(self, not_found: N) -> Shards<S, L, Movable<N>, J>
    where
        N: Fn(Result<&Res, &Err>) -> bool,
    {
        self.moved_by(Movable::new(not_found, BySafety))
    }

    /// As [`movable`](Self::movable), and `access` tells reads from writes: a closure that gives an
    /// [`Access`](buttress_core::Access).
    #[must_use]
    pub fn movable_by<N, A, Req, Res, Err>(self, not_found: N, access: A) -> Shards<S, L, Movable<N, A>, J>
    where
        N: Fn(Result<&Res, &Err>) -> bool,
        A: AccessOf<Req>,
    {
        self.moved_by(Movable::new(not_found, access))
    }

    fn moved_by<M2>(self, moves: M2) -> Shards<S, L, M2, J> {
        self.ruled(|Rules { reject, name, watch, tally, .. }| Rules { moves, reject, name, watch, tally })
    }
}

impl<S, B, M, N, A, J> Shards<S, Mapped<B, M>, Movable<N, A>, J> {
    /// Moves keys while calls go on: see [`Mover`].
    #[must_use]
    pub fn mover(&self) -> Mover<B, M> {
        Mover::new(Arc::clone(&self.locate), Arc::clone(&self.epochs), self.services.len())
    }
}

impl<S, F, K: Hash + Eq, D, M, J> Shards<S, Lookups<F, K, D>, M, J> {
    /// Forgets what the directory remembers, and looks at it.
    #[must_use]
    pub fn directory(&self) -> DirectoryHandle<K, D> {
        DirectoryHandle::new(Arc::clone(self.locate.desk()))
    }
}

fn counted<S>(services: impl IntoIterator<Item = S>) -> Result<(Vec<S>, NonZeroU32), ShardsError> {
    let services: Vec<S> = services.into_iter().collect();
    let shards = u32::try_from(services.len()).unwrap_or(u32::MAX);
    let shards = NonZeroU32::new(shards).ok_or(ShardsError::NoShards)?;
    Ok((services, shards))
}

impl<S, L, M, J, Req> Service<Req> for Shards<S, L, M, J>
where
    S: Service<Req> + Clone,
    L: Locate<Req>,
    M: Moves<Req, S::Response, S::Error>,
    J: Reject<Req, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ShardsFuture<S, Req, L, M, J>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Before the look: whoever changes where keys are does so first and begins the next epoch then.
        let epoch = self.epochs.enter();
        let answer = self.locate.locate(&req);
        ShardsFuture::new(&self.services, &self.rules, epoch, answer, req)
    }
}

impl<S, L, M, J> Clone for Shards<S, L, M, J> {
    fn clone(&self) -> Self {
        Self {
            services: Arc::clone(&self.services),
            locate: Arc::clone(&self.locate),
            epochs: Arc::clone(&self.epochs),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl<S, L: fmt::Debug, M, J> fmt::Debug for Shards<S, L, M, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("name", &self.rules.name)
            .field("shards", &self.services.len())
            .field("locate", &self.locate)
            .finish_non_exhaustive()
    }
}
