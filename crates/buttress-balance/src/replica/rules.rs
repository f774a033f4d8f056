//! What the calls of a service share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use buttress_core::{Clock, Counters, Name};

use super::{Diverted, ReplicaPolicy, ReplicaSplitEvent, Route};
use crate::{Hashing, Order};

pub(crate) type Observer = Arc<dyn Fn(&ReplicaSplitEvent<'_>) + Send + Sync>;
type Pick = Arc<dyn Fn(u64, &mut dyn FnMut(usize) -> bool) -> Option<usize> + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) policy: ReplicaPolicy,
    pub(crate) clock: Clock,
    pub(crate) counts: Counters<7>,
    pub(crate) observer: OnceLock<Observer>,
    turns: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Rules<K, A, T, J> {
    pub(crate) key: K,
    pub(crate) access: A,
    pub(crate) tokens: T,
    pub(crate) reject: J,
    pub(crate) name: Name,
    pub(crate) order: Chosen,
}

/// An order of the replicas, whatever its type.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub(crate) pick: Pick,
    pub(crate) by: By,
}

/// What an order is asked with.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Turn,
    Chance,
    Key(Hashing),
}

/// The indices of the counts.
pub(crate) const WRITES: usize = 0;
pub(crate) const REPLICAS: usize = 1;
pub(crate) const RECENT: usize = 2;
pub(crate) const TOKEN: usize = 3;
pub(crate) const NO_REPLICA: usize = 4;
pub(crate) const REFUSED: usize = 5;
pub(crate) const EXCEEDED: usize = 6;

impl Chosen {
    pub(crate) fn new(order: impl Order + Send + Sync + 'static, by: By) -> Self {
        Self { pick: Arc::new(move |hash, usable| order.pick(hash, usable)), by }
    }
}

impl Shared {
    pub(crate) fn new(policy: ReplicaPolicy, clock: Clock) -> Self {
        let (counts, observer) = (Counters::new(), OnceLock::new());
        Self { policy, clock, counts, observer, turns: AtomicU64::new(0) }
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, event: &ReplicaSplitEvent<'_>) {
        if let Some(observer) = self.observer.get() {
            observer(event);
        }
    }

    /// Counts where a read goes, and tells of what is not as usual.
    pub(crate) fn note(&self, route: Route, policy: &Name) {
        let count = match route {
            Route::Replica(_) => return self.counts.add_one(REPLICAS),
            Route::Primary(Diverted::Recent) => RECENT,
            Route::Primary(Diverted::Token) => TOKEN,
            Route::Primary(Diverted::NoReplica) => NO_REPLICA,
            Route::Refused => REFUSED,
        };
        self.counts.add_one(count);
        self.tell(&match route {
            Route::Primary(why) => ReplicaSplitEvent::Diverted { policy, why },
            _ => ReplicaSplitEvent::Refused { policy },
        });
    }
}
