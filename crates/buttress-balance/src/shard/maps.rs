use std::fmt;
use std::future::Pending;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use buttress_core::{Answer, Key};

use super::{Locate, Located, MoveError, Moving};
use crate::{HashRing, Hashing, Order, jump};

/// Which shard has which key.
///
/// Maps are values: while a service runs, one is exchanged for another by moving the keys that it has elsewhere
/// ([`Mover`](crate::Mover)).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not map keys of the type `{K}` to shards",
    note = "`Ranges<K>` maps the keys that its closure gives, `Places` names, and `HashMod`, `Jump` and `HashRing` hashes"
)]
pub trait ShardMap<K: ?Sized>: ShardLayout {
    /// The position of the shard that has `key`, or `None` where no one has it.
    fn shard(&self, key: &K) -> Option<usize>;
}

/// What a [`ShardMap`] needs, whatever its keys are.
pub trait ShardLayout {
    /// How many services it takes: one more than the last position that it gives.
    fn shards(&self) -> usize;

    /// The hashing that its keys come from, where they are hashes.
    fn hashing(&self) -> Option<Hashing> {
        None
    }
}

/// Numbered shards by the remainder of the key's hash: `hash mod N`.
///
/// The simplest, and what many stores have. With one shard more, `N` of `N + 1` keys move; [`Jump`] moves 1 of `N + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashMod {
    shards: NonZeroU32,
    hashing: Hashing,
}

/// Numbered shards by [jump consistent hash](crate::jump()).
///
/// With one shard more, 1 of `N + 1` keys move, all of them to the new one. Only the last shard can leave; where any may, take a
/// [`HashRing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    shards: NonZeroU32,
    hashing: Hashing,
}

macro_rules! numbered {
    ($map:ident, $of:expr) => {
        impl $map {
            /// Spreads keys over the first `shards` of the services.
            #[must_use]
            pub const fn new(shards: NonZeroU32) -> Self {
                Self { shards, hashing: Hashing::xxh3(0) }
            }

            /// Hashes keys in this way instead of by [`Hashing::default`]. All processes that are to agree need the same.
            #[must_use]
            pub const fn hash_by(mut self, hashing: Hashing) -> Self {
                self.hashing = hashing;
                self
            }
        }

        impl ShardMap<u64> for $map {
            #[inline]
            fn shard(&self, hash: &u64) -> Option<usize> {
                let of: fn(u64, NonZeroU32) -> u32 = $of;
                Some(of(*hash, self.shards) as usize)
            }
        }

        impl ShardLayout for $map {
            fn shards(&self) -> usize {
                self.shards.get() as usize
            }

            fn hashing(&self) -> Option<Hashing> {
                Some(self.hashing)
            }
        }
    };
}

numbered!(HashMod, |hash, shards| (hash % u64::from(shards.get())) as u32);
numbered!(Jump, jump);

/// The owner on the ring; its endpoints are the shards, in the order in which they were given.
impl ShardMap<u64> for HashRing {
    #[inline]
    fn shard(&self, hash: &u64) -> Option<usize> {
        self.pick(*hash, |_| true)
    }
}

impl ShardLayout for HashRing {
    fn shards(&self) -> usize {
        self.endpoints()
    }

    fn hashing(&self) -> Option<Hashing> {
        Some(Self::hashing(self))
    }
}

/// Reads the key of a request that its shard goes by. A closure that gives an optional key is one, and [`Hashed`] is.
pub trait ShardBy<Req> {
    /// The key.
    type Key;

    /// The key of `req`, or `None` where it has none.
    fn shard_key(&self, req: &Req) -> Option<Self::Key>;
}

impl<Req, F, K> ShardBy<Req> for F
where
    F: Fn(&Req) -> Option<K>,
{
    type Key = K;

    #[inline]
    fn shard_key(&self, req: &Req) -> Option<K> {
        self(req)
    }
}

/// The hash of a [`Key`].
#[derive(Clone, Copy, Debug)]
pub struct Hashed<K> {
    key: K,
    hashing: Hashing,
}

impl<K> Hashed<K> {
    pub(crate) const fn new(key: K, hashing: Hashing) -> Self {
        Self { key, hashing }
    }
}

impl<Req, K: Key<Req>> ShardBy<Req> for Hashed<K> {
    type Key = u64;

    #[inline]
    fn shard_key(&self, req: &Req) -> Option<u64> {
        let mut sink = self.hashing.sink();
        self.key.key(req, &mut sink).then(|| sink.finish())
    }
}

/// Finds shards by a map, and while keys move by two.
pub struct Mapped<B, M> {
    by: B,
    maps: ArcSwap<Maps<M>>,
}

struct Maps<M> {
    now: M,
    /// What is to be, while keys move.
    next: Option<M>,
}

impl<B, M> Mapped<B, M> {
    pub(crate) fn new(by: B, map: M) -> Self {
        Self { by, maps: ArcSwap::from_pointee(Maps { now: map, next: None }) }
    }

    /// Looks at the map now.
    pub(crate) fn map<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.maps.load().now)
    }

    pub(crate) fn next_map(&self) -> Option<M>
    where
        M: Clone,
    {
        self.maps.load().next.clone()
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.maps.load().next.is_some()
    }

    // At rest -> copying: two maps, and what they do not agree on moves.
    pub(crate) fn begin(&self, next: M) -> Result<(), MoveError>
    where
        M: Clone,
    {
        let now = self.maps.load_full();
        if now.next.is_some() {
            return Err(MoveError::Moving);
        }
        let both = Maps { now: now.now.clone(), next: Some(next) };
        self.exchange(&now, both).map_err(|()| MoveError::Moving)
    }

    // Copying -> at rest: the next map is the map.
    pub(crate) fn finish(&self) -> Result<(), MoveError>
    where
        M: Clone,
    {
        let both = self.maps.load_full();
        let next = both.next.clone().ok_or(MoveError::NotMoving)?;
        self.exchange(&both, Maps { now: next, next: None }).map_err(|()| MoveError::NotMoving)
    }

    /// Fails where someone else was first.
    fn exchange(&self, former: &Arc<Maps<M>>, maps: Maps<M>) -> Result<(), ()> {
        let found = self.maps.compare_and_swap(former, Arc::new(maps));
        if Arc::ptr_eq(&found, former) { Ok(()) } else { Err(()) }
    }
}

impl<Req, B, M> Locate<Req> for Mapped<B, M>
where
    B: ShardBy<Req>,
    M: ShardMap<B::Key>,
{
    type Wait = Pending<Located>;

    #[inline]
    fn locate(&self, req: &Req) -> Answer<Located, Pending<Located>> {
        let Some(key) = self.by.shard_key(req) else { return Answer::Now(Located::Nowhere) };
        let maps = self.maps.load();
        let now = maps.now.shard(&key);
        let next = maps.next.as_ref().and_then(|next| next.shard(&key));
        Answer::Now(match (now, next) {
            (Some(from), Some(to)) if from != to => Located::Moving(Moving { from, to }),
            (Some(shard), _) | (None, Some(shard)) => Located::At(shard),
            (None, None) => Located::Nowhere,
        })
    }
}

impl<B, M: fmt::Debug> fmt::Debug for Mapped<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maps = self.maps.load();
        f.debug_struct("Mapped").field("map", &maps.now).field("next", &maps.next).finish_non_exhaustive()
    }
}
