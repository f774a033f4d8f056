use std::collections::HashMap;
use std::fmt;

use buttress_core::Name;

use super::{ShardLayout, ShardMap};

/// Which shard is at which named place: a zone, a region, a tenant's own cluster.
///
/// ```
/// use buttress_balance::{Places, ShardMap};
///
/// let places: Places = ["eu", "us"].into_iter().enumerate().map(|(shard, name)| (name, shard)).collect();
/// assert_eq!(places.shard(&"us"), Some(1));
/// assert_eq!(places.shard(&"moon"), None);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Places(HashMap<Name, usize>);

impl Places {
    /// Puts a shard at a place, instead of the one that is there. Several places may have one shard.
    #[must_use]
    pub fn with(mut self, place: impl Into<Name>, shard: usize) -> Self {
        self.0.insert(place.into(), shard);
        self
    }
}

impl<P: AsRef<str> + ?Sized> ShardMap<P> for Places {
    fn shard(&self, place: &P) -> Option<usize> {
        self.0.get(place.as_ref()).copied()
    }
}

impl ShardLayout for Places {
    fn shards(&self) -> usize {
        self.0.values().map(|shard| shard.saturating_add(1)).max().unwrap_or(0)
    }
}

impl<N: Into<Name>> FromIterator<(N, usize)> for Places {
    fn from_iter<I: IntoIterator<Item = (N, usize)>>(places: I) -> Self {
        places.into_iter().fold(Self::default(), |all, (place, shard)| all.with(place, shard))
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}
