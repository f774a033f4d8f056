use buttress_core::Name;

/// Ranges that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// A range without keys.
    #[error("range {range} is empty: its start must be below its end")]
    Empty {
        /// The range.
        range: String,
    },
    /// Two ranges have keys in common.
    #[error("range {range} overlaps {other}: each key has one shard")]
    Overlap {
        /// The range that was to be added.
        range: String,
        /// One that is there.
        other: String,
    },
    /// A range that is to move, of which no shard has some part.
    #[error("some key of the range {range} has no shard that it could move from")]
    Gap {
        /// The range.
        range: String,
    },
    /// A range that has its end, or not its start.
    #[error("range with the bounds {range}: must have its start and not its end, as 10..20")]
    Form {
        /// Its bounds.
        range: String,
    },
}

/// Shards that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardsError {
    /// No services are given.
    #[error("no shards: give at least one service")]
    NoShards,
    /// The map gives no key to any shard.
    #[error("an empty map: no key would have a shard")]
    EmptyMap,
    /// The map gives keys to a shard that is not there.
    #[error("the map gives keys to shard {shard}, but there are {shards}: positions count from 0")]
    NoSuchShard {
        /// The shard.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// Two services are at one place.
    #[error("place `{place}` is given twice: each has one service")]
    DuplicatePlace {
        /// The place.
        place: Name,
    },
    /// A directory with no room to remember in.
    #[error("directory with `capacity` = {capacity}: must be 2 or more; 10000 is the default")]
    Capacity {
        /// The capacity given.
        capacity: usize,
    },
}

/// A move that cannot begin or finish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The move before is not finished.
    #[error("keys are moving: finish that move before the next one begins")]
    Moving,
    /// Nothing moves that could be finished.
    #[error("no keys are moving: begin a move first")]
    NotMoving,
    /// The next map gives keys to a shard that is not there.
    #[error("the next map gives keys to shard {shard}, but there are {shards}: positions count from 0")]
    NoSuchShard {
        /// The shard.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// The next map takes other hashes than those that keys are given.
    #[error("the next map has another hashing: keys would be looked for where they never were")]
    OtherHashing,
}
