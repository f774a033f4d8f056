use std::fmt;

use crate::sync::{AtomicU32, Ordering};

/// What a balancer knows of the load of one endpoint, on a cache line of its own.
#[repr(align(64))]
pub struct Load {
    in_flight: AtomicU32,
    weight: AtomicU32,
}

impl Load {
    /// That of an endpoint of this weight, which has no calls.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self { in_flight: AtomicU32::new(0), weight: AtomicU32::new(weight) }
    }

    /// How many calls are in flight.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The endpoint's weight.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The endpoint was configured anew.
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// The count of the calls in flight.
    #[inline]
    pub(crate) const fn count(&self) -> &AtomicU32 {
        &self.in_flight
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
