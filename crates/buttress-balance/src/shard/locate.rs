use buttress_core::Answer;

use super::Moving;

/// Says which shard has the key of a request.
///
/// A map answers at once ([`Mapped`](crate::Mapped)), a directory may have to ask first ([`Lookups`](crate::Lookups)).
pub trait Locate<Req> {
    /// The answer that comes later; [`std::future::Pending`] where none does.
    type Wait: Future<Output = Located>;

    /// Finds the shard of `req`.
    fn locate(&self, req: &Req) -> Answer<Located, Self::Wait>;
}

/// Where a key is. Shards are told by their positions in the list of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Located {
    /// On this shard.
    At(usize),
    /// On its way from one shard to another.
    Moving(Moving),
    /// No shard has it, or the request has no key.
    Nowhere,
    /// The directory could not tell.
    Unknown,
}

impl From<usize> for Located {
    fn from(shard: usize) -> Self {
        Self::At(shard)
    }
}

impl From<Option<usize>> for Located {
    fn from(shard: Option<usize>) -> Self {
        shard.map_or(Self::Nowhere, Self::At)
    }
}

impl From<Moving> for Located {
    fn from(moving: Moving) -> Self {
        Self::Moving(moving)
    }
}
