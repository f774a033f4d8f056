//! One of N services by the key of a request: for stores whose data is split between them.

mod cache;
mod directory;
mod epoch;
mod error;
mod event;
mod future;
mod handle;
mod locate;
mod maps;
mod moving;
mod places;
mod ranges;
mod rules;
mod service;

pub use directory::{Directory, DirectoryHandle, Lookup, Lookups};
pub use epoch::Settled;
pub use error::{MoveError, RangeError, ShardsError};
pub use event::ShardsEvent;
pub use future::ShardsFuture;
pub use handle::{LookupCounts, Mover, ShardsCounts, ShardsHandle};
pub use locate::{Locate, Located};
pub use maps::{HashMod, Hashed, Jump, Mapped, ShardBy, ShardLayout, ShardMap};
pub use moving::{Movable, Moves, Moving, Still};
pub use places::Places;
pub use ranges::Ranges;
pub use service::Shards;
