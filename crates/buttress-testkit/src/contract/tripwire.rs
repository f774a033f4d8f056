use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

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
    look: OnceLock<Look>,
}

struct Look(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

impl Tripwire {
    /// Does nothing, or panics.
    ///
    /// # Panics
    ///
    /// When the suite armed this touch. The panic prints nothing on stderr.
    pub fn touch(&self) {
        let touched = self.0.touched.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(Look(look)) = self.0.look.get() {
            look();
        }
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

    /// From now on each touch does this first.
    pub(super) fn look(&self, look: impl Fn() + Send + Sync + 'static) {
        // Set once per scenario.
        let _ = self.0.look.set(Look(Box::new(look)));
    }

    pub(super) fn disarm(&self) {
        self.0.trap.store(0, Ordering::Release);
    }
}
