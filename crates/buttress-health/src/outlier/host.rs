use std::sync::atomic::Ordering;

use buttress_core::EndpointId;

use crate::policy::outlier::{Full, Rows, Rules, Seen, Tally};
use crate::sync::AtomicU64;

/// What calls write of one endpoint: a line of its own, no lock, no clock.
///
/// The two buckets change places at each interval (A50): calls count in one, while the other, whose interval is over, is
/// judged and emptied. A call that was about to count when they changed is in the interval after the next.
#[repr(align(128))]
pub(crate) struct Host {
    pub(crate) id: EndpointId,
    rows: AtomicU64,
    buckets: [Bucket; 2],
}

struct Bucket {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What became of a result.
pub(crate) enum Recorded {
    Counted(Full),
    /// The call was admitted in another epoch, or while the endpoint was ejected: nothing has moved.
    Late,
}

impl Host {
    pub(crate) fn new(id: EndpointId) -> Self {
        let bucket = || Bucket { succeeded: AtomicU64::new(0), failed: AtomicU64::new(0) };
        Self { id, rows: AtomicU64::new(Rows::default().bits()), buckets: [bucket(), bucket()] }
    }

    #[inline]
    pub(crate) fn rows(&self) -> Rows {
        Rows::from_bits(self.rows.load(Ordering::Acquire))
    }

    /// Counts the result of a call that was admitted in `epoch`. `turn` says which bucket is filled.
    #[inline]
    pub(crate) fn record(&self, rules: &Rules, epoch: u32, turn: u64, seen: Seen) -> Recorded {
        let mut present = self.rows();
        let full = loop {
            if present.epoch() != epoch || present.is_ejected() {
                return Recorded::Late;
            }
            let (next, full) = present.after(seen, rules);
            // Most calls succeed after others that did.
            if next == present {
                break full;
            }
            match self.rows.compare_exchange_weak(
                present.bits(),
                next.bits(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break full,
                Err(other) => present = Rows::from_bits(other),
            }
        };
        let bucket = &self.buckets[(turn % 2) as usize];
        let count = if seen == Seen::Success { &bucket.succeeded } else { &bucket.failed };
        count.fetch_add(1, Ordering::Relaxed);
        Recorded::Counted(full)
    }

    /// Begins the next epoch: results of calls that are on their way come too late.
    pub(crate) fn next_epoch(&self) {
        let mut present = self.rows();
        while let Err(other) = self.rows.compare_exchange(
            present.bits(),
            present.next_epoch().bits(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            present = Rows::from_bits(other);
        }
    }

    /// What was counted in the bucket of `turn`, so far.
    pub(crate) fn tally(&self, turn: u64) -> Tally {
        let bucket = &self.buckets[(turn % 2) as usize];
        Tally {
            succeeded: bucket.succeeded.load(Ordering::Relaxed),
            failed: bucket.failed.load(Ordering::Relaxed),
        }
    }

    /// Empties the bucket of `turn`.
    pub(crate) fn take(&self, turn: u64) -> Tally {
        let bucket = &self.buckets[(turn % 2) as usize];
        Tally {
            succeeded: bucket.succeeded.swap(0, Ordering::Relaxed),
            failed: bucket.failed.swap(0, Ordering::Relaxed),
        }
    }
}
