use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const STRIPES: usize = 8;

/// Counts what was decided. Each thread counts on one of a few cache lines, so that cores do not fight for one.
#[derive(Debug, Default)]
pub(crate) struct Tally([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    allowed: AtomicU64,
    refused: AtomicU64,
    unkeyed: AtomicU64,
}

impl Tally {
    #[inline]
    pub(crate) fn decided(&self, admitted: bool) {
        let stripe = self.mine();
        let count = if admitted { &stripe.allowed } else { &stripe.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    pub(crate) fn unkeyed(&self) {
        self.mine().unkeyed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn allowed(&self) -> u64 {
        self.sum(|stripe| &stripe.allowed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.sum(|stripe| &stripe.refused)
    }

    pub(crate) fn unkeyed_calls(&self) -> u64 {
        self.sum(|stripe| &stripe.unkeyed)
    }

    fn sum(&self, count: impl Fn(&Stripe) -> &AtomicU64) -> u64 {
        self.0.iter().map(|stripe| count(stripe).load(Ordering::Relaxed)).sum()
    }

    #[inline]
    fn mine(&self) -> &Stripe {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        &self.0[STRIPE.with(|stripe| *stripe)]
    }
}
