use std::fmt;
use std::sync::Arc;

use super::epoch::Epochs;
use super::rules::{Count, Tally};
use super::{Mapped, MoveError, Settled, ShardLayout};

/// Watches a [`Shards`](crate::Shards) while it is used.
#[derive(Clone)]
pub struct ShardsHandle {
    epochs: Arc<Epochs>,
    tally: Arc<Tally>,
}

/// What a [`Shards`](crate::Shards) has done, over all of its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardsCounts {
    /// Calls that were refused because no shard has their key.
    pub no_shard: u64,
    /// Calls that were refused because a lookup failed.
    pub unknown: u64,
    /// Reads that asked the former place of a key that moves.
    pub fallbacks: u64,
}

/// What the lookups of a directory have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupCounts {
    /// Lookups that were begun.
    pub begun: u64,
    /// Calls that joined a lookup that was under way.
    pub joined: u64,
    /// Lookups that failed.
    pub failed: u64,
    /// Answers that came after their key was invalidated.
    pub late: u64,
}

impl LookupCounts {
    pub(crate) fn of(tally: &Tally) -> Self {
        Self {
            begun: tally.get(Count::LookedUp),
            joined: tally.get(Count::Joined),
            failed: tally.get(Count::Failed),
            late: tally.get(Count::Late),
        }
    }
}

impl ShardsHandle {
    pub(crate) const fn new(epochs: Arc<Epochs>, tally: Arc<Tally>) -> Self {
        Self { epochs, tally }
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> ShardsCounts {
        ShardsCounts {
            no_shard: self.tally.get(Count::NoShard),
            unknown: self.tally.get(Count::Unknown),
            fallbacks: self.tally.get(Count::Fallback),
        }
    }

    /// Ends when every call that began before now is over.
    pub fn settle(&self) -> Settled {
        self.epochs.next()
    }
}

/// Moves keys from shard to shard while calls go on. From [`Shards::mover`](crate::Shards::mover).
///
/// A move goes from one map to the next; the keys that move are those that the two have in different places. So a range, one
/// shard more, or a new ring are all moved alike:
///
/// 1. [`begin`](Self::begin). From here on writes of these keys go to their new place; reads go there as well, and where
///    that has no such key, to the former one.
/// 2. Wait for the [`Settled`] that it gives: no write to the former places is under way any more.
/// 3. Copy. Put each key into its new place *unless it is there*, in one step of the store: what is there is newer.
/// 4. [`finish`](Self::finish). From here on only the new place is asked.
/// 5. Wait for the [`Settled`] that this gives: no read of the former places is under way. What was moved can be deleted there.
///
/// At each moment of this a key that was written is found with its latest value.
///
/// What it takes:
///
/// - A new place begins without the keys that come to it: what is left there from former times would hide what is copied.
/// - A write sets the whole value. One that depends on what is there (an increment, a patch) needs its key copied first.
/// - A removal leaves a mark (a tombstone) while keys move, which the classifier of [`Shards::movable`](crate::Shards::movable)
///   does not take for "not found"; else the former place would give back what was removed.
/// - Where several processes route calls, all of them begin before the first copies, and none writes these keys from the first
///   begin to the last: each process knows only its own calls.
/// - A move does not turn back, as the former place lacks what was written since. Finish it, and move back.
/// - A write whose future was dropped may still reach the former place after all has settled, and is then lost. Nobody
///   was told that it was done.
pub struct Mover<B, M> {
    mapped: Arc<Mapped<B, M>>,
    epochs: Arc<Epochs>,
    shards: usize,
}

impl<B, M> Mover<B, M> {
    pub(crate) const fn new(mapped: Arc<Mapped<B, M>>, epochs: Arc<Epochs>, shards: usize) -> Self {
        Self { mapped, epochs, shards }
    }

    /// Begins to move all keys that `next` has elsewhere. Ends when all calls that were routed before are over: then copy.
    ///
    /// `next` has to have a shard for each key that the present map has one for, as those of [`Ranges::moved`](crate::Ranges::moved) do: a key
    /// that it leaves out is served where it is until the move is [finished](Self::finish), and refused after that.
    ///
    /// # Errors
    ///
    /// When keys are moving, `next` gives keys to a shard that is not there, or has another hashing.
    pub fn begin(&self, next: M) -> Result<Settled, MoveError>
    where
        M: ShardLayout + Clone,
    {
        if next.shards() > self.shards {
            return Err(MoveError::NoSuchShard { shard: next.shards() - 1, shards: self.shards });
        }
        if self.mapped.map(|now| now.hashing() != next.hashing()) {
            return Err(MoveError::OtherHashing);
        }
        self.mapped.begin(next)?;
        Ok(self.epochs.next())
    }

    /// Ends the move: everything is copied. Ends when no call asks the former places any more: then delete.
    ///
    /// # Errors
    ///
    /// When nothing moves.
    pub fn finish(&self) -> Result<Settled, MoveError>
    where
        M: Clone,
    {
        self.mapped.finish()?;
        Ok(self.epochs.next())
    }

    /// Whether keys are moving.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.mapped.is_moving()
    }

    /// The map now; while keys move, the one that they move from.
    #[must_use]
    pub fn map(&self) -> M
    where
        M: Clone,
    {
        self.mapped.map(M::clone)
    }

    /// The map that keys move to, while they do.
    #[must_use]
    pub fn next_map(&self) -> Option<M>
    where
        M: Clone,
    {
        self.mapped.next_map()
    }
}

impl<B, M> Clone for Mover<B, M> {
    fn clone(&self) -> Self {
        Self { mapped: Arc::clone(&self.mapped), epochs: Arc::clone(&self.epochs), shards: self.shards }
    }
}

impl fmt::Debug for ShardsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardsHandle").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl<B, M: fmt::Debug> fmt::Debug for Mover<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mover").field("mapped", &self.mapped).finish_non_exhaustive()
    }
}
