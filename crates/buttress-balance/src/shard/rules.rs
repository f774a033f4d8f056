//! What the calls of a service go by, besides where keys are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use buttress_core::Name;

use super::ShardsEvent;

pub(crate) type Observer = Arc<dyn Fn(&ShardsEvent<'_>) + Send + Sync>;

/// Shared with the directory, which is there before the observer.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<OnceLock<Observer>>);

impl Watch {
    pub(crate) fn set(&self, observer: Observer) {
        assert!(
            self.0.set(observer).is_ok(),
            "the service and its clones have an observer: give them one that tells both"
        );
    }

    pub(crate) fn tell(&self, event: &ShardsEvent<'_>) {
        if let Some(observer) = self.0.get() {
            observer(event);
        }
    }
}

#[derive(Clone)]
pub(crate) struct Rules<M, J> {
    pub(crate) moves: M,
    pub(crate) reject: J,
    pub(crate) name: Name,
    pub(crate) watch: Watch,
    pub(crate) tally: Arc<Tally>,
}

/// Things that happen seldom: no need for counts on lines of their own.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; 7]);

#[derive(Clone, Copy)]
pub(crate) enum Count {
    NoShard,
    Unknown,
    Fallback,
    LookedUp,
    Joined,
    Failed,
    Late,
}

impl Tally {
    pub(crate) fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }
}
