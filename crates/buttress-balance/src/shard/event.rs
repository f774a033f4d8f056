use std::error::Error;

use buttress_core::Name;

use super::{Located, Moving};

/// What [`Shards`](crate::Shards) tells its observer. All of it is told outside every lock, in the task of the call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ShardsEvent<'a> {
    /// A call was refused: no shard has its key, it has none, or the place that was found is not one of the services.
    #[non_exhaustive]
    NoShard {
        /// The service's name.
        policy: &'a Name,
        /// What was found.
        located: Located,
    },
    /// A call was refused, as the lookup that it waited for has failed.
    #[non_exhaustive]
    Unknown {
        /// The service's name.
        policy: &'a Name,
    },
    /// A read did not find its key at the new place, and asks the former one.
    #[non_exhaustive]
    Fallback {
        /// The service's name.
        policy: &'a Name,
        /// From where to where the key moves.
        moving: Moving,
    },
    /// A lookup has failed; told once for all who wait for it.
    #[non_exhaustive]
    LookupFailed {
        /// Its error, or `None` when it panicked.
        error: Option<&'a (dyn Error + Send + Sync + 'static)>,
    },
    /// The answer of a lookup came after its key was invalidated, and is not remembered.
    #[non_exhaustive]
    Late {
        /// What it says.
        located: Located,
    },
}
