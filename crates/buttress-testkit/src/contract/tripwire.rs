use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a closure of the layer's user panic when the suite says so.
///
/// Give it to each closure the layer takes (key, classifier, observer, …) and touch it there; see
/// [`Contract::with_closures`](super::Contract::with_closures).
#[derive(Clone, Debug, Default)]
pub struct Tripwire(Arc<Wire>);

#[derive(Debug, Default)]
struct Wire {
    touched: AtomicU64,
    /// The touch that panics, counted from 1; 0 when none does.
    trap: AtomicU64,
}

impl Tripwire {
    /// Does nothing, or panics.
    ///
    /// # Panics
    ///
    /// When the suite armed this touch. The panic prints nothing on stderr.
    pub fn touch(&self) {
        let touched = self.0.touched.fetch_add(1, Ordering::AcqRel) + 1;
        if touched == self.0.trap.load(Ordering::Acquire) {
            resume_unwind(Box::new("a closure of the user panics, as scripted"));
        }
    }

    pub(super) fn touched(&self) -> u64 {
        self.0.touched.load(Ordering::Acquire)
    }

    /// The `nth` touch from now on panics.
    pub(super) fn arm(&self, nth: u64) {
        self.0.trap.store(self.touched() + nth, Ordering::Release);
    }

    pub(super) fn disarm(&self) {
        self.0.trap.store(0, Ordering::Release);
    }
}
