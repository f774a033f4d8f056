use std::array;
use std::fmt;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What a balancer knows of the load of one endpoint: how many calls it has, and what the [`LeastLoad`](crate::LeastLoad) policies note
/// of those that ended.
///
/// A [`Balancer`](crate::Balancer) keeps one for each endpoint, over all changes of the set, on cache lines of its own.
#[repr(C)]
pub struct Load {
    in_flight: AtomicU32,
    weight: AtomicU32,
    /// A mean of response times (`policy/average.rs`).
    pub(crate) latency: AtomicU64,
    /// The last weight that was reported, and when.
    pub(crate) report: AtomicU64,
    /// When the reports began that `report` is one of, in nanoseconds.
    pub(crate) reported_since: AtomicU64,
    /// The bytes of the last seconds.
    pub(crate) traffic: [AtomicU64; SECONDS],
}

/// Ten seconds, and the one that the window leaves.
pub(crate) const SECONDS: usize = 11;

impl Load {
    /// That of an endpoint of this weight, which has no calls.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            weight: AtomicU32::new(weight),
            latency: AtomicU64::new(0),
            report: AtomicU64::new(0),
            reported_since: AtomicU64::new(0),
            traffic: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// How many calls are in flight.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call that begins, for whoever drives a policy without a [`Balancer`](crate::Balancer), which does this itself.
    #[inline]
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a call away again that was [counted](Self::enter).
    #[inline]
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
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

    /// What scores are divided by. One that has just lost its weight may still be among the candidates.
    #[inline]
    pub(crate) fn divisor(&self) -> f64 {
        f64::from(self.weight().max(1))
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
