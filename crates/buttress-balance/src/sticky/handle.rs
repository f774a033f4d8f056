use std::fmt;
use std::sync::Arc;

use super::state::{Count, State};

/// Reads what a [`StickyLayer`](crate::StickyLayer) has done, while its services serve.
#[derive(Clone)]
pub struct StickyHandle(pub(super) Arc<State>);

/// What a sticky layer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StickyCounts {
    /// Requests without a cookie.
    pub absent: u64,
    /// Requests whose cookie stands for no endpoint: forged, or of an endpoint or a key that is gone.
    pub unknown: u64,
    /// Requests that are bound to an endpoint, be it well or not.
    pub known: u64,
    /// Of these, those that were not kept at their endpoint because it drains.
    pub released: u64,
    /// Answers that came from the endpoint that the client is bound to.
    pub kept: u64,
    /// Answers that bound a client which was bound to none.
    pub bound: u64,
    /// Answers that bound a client to another endpoint.
    pub moved: u64,
    /// Answers that gave a client a cookie of the first key for one of the former. They are among the kept ones as well.
    pub renewed: u64,
}

impl StickyHandle {
    /// What the layer has done.
    #[must_use]
    pub fn counts(&self) -> StickyCounts {
        let sum = |count| self.0.sum(count);
        StickyCounts {
            absent: sum(Count::Absent),
            unknown: sum(Count::Unknown),
            known: sum(Count::Known),
            released: sum(Count::Released),
            kept: sum(Count::Kept),
            bound: sum(Count::Bound),
            moved: sum(Count::Moved),
            renewed: sum(Count::Renewed),
        }
    }
}

impl fmt::Debug for StickyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyHandle").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
