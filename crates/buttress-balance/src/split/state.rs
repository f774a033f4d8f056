use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use buttress_core::{Chance, Counters, Name};

use super::{Chosen, SplitError, SplitEvent};
use crate::{ConsistentHash, Hashing, Node, Order, Rendezvous};

/// What the clones of a split share.
pub(crate) struct State {
    pub(crate) setup: Setup,
    pub(crate) chance: Chance,
    weights: ArcSwap<Weights>,
    /// Held by who changes the weights.
    changing: Mutex<()>,
    sides: Box<[Side]>,
    chosen: Counters<{ Chosen::ALL.len() }>,
    no_such_side: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) name: Name,
    pub(crate) hashing: Hashing,
    pub(crate) first_without_key: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) observer: Option<Observer>,
}

pub(crate) type Observer = Arc<dyn Fn(&SplitEvent<'_>) + Send + Sync>;

/// The count of a side, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Side(AtomicU64);

/// The weights of all sides, and who has which key by them.
pub(crate) struct Weights {
    pub(crate) each: Box<[u32]>,
    /// A side is known by its place, so it keeps its keys from one process to the next.
    order: Rendezvous,
}

/// The bound of Envoy's weighted clusters, so that a configuration may go from one to the other.
const MOST: u64 = u32::MAX as u64;

impl Weights {
    pub(crate) fn new(each: impl IntoIterator<Item = u32>) -> Result<Self, SplitError> {
        let each: Box<[u32]> = each.into_iter().collect();
        if each.is_empty() {
            return Err(SplitError::NoSides);
        }
        let total = each.iter().fold(0_u64, |total, weight| total.saturating_add(u64::from(*weight)));
        if total == 0 {
            return Err(SplitError::NoWeight);
        }
        if total > MOST {
            return Err(SplitError::TooHeavy { total, most: MOST });
        }
        let nodes: Vec<Node> = each
            .iter()
            .enumerate()
            .map(|(side, weight)| Node::new(side.to_string()).weight(*weight))
            .collect();
        let order = ConsistentHash::rendezvous().build(&nodes).expect("the names are numbers, each once");
        Ok(Self { each, order })
    }

    /// The side of a hash.
    #[inline]
    pub(crate) fn side(&self, hash: u64) -> usize {
        self.order.pick(hash, |_| true).expect("a weight is above 0")
    }

    /// The first side that has a weight.
    fn first(&self) -> usize {
        self.each.iter().position(|weight| *weight > 0).expect("a weight is above 0")
    }
}

impl State {
    pub(crate) fn new(setup: Setup, weights: Weights) -> Self {
        Self {
            chance: Chance::new(setup.seed),
            setup,
            sides: weights.each.iter().map(|_| Side::default()).collect(),
            weights: ArcSwap::from_pointee(weights),
            changing: Mutex::new(()),
            chosen: Counters::new(),
            no_such_side: AtomicU64::new(0),
        }
    }

    pub(crate) fn sides(&self) -> usize {
        self.sides.len()
    }

    pub(crate) fn weights(&self) -> Arc<Weights> {
        self.weights.load_full()
    }

    /// The side of a key's hash now.
    pub(crate) fn side_of(&self, hash: u64) -> usize {
        self.weights.load().side(hash)
    }

    /// The side for a request with this override and this hash of its key.
    #[inline]
    pub(crate) fn choose(&self, said: Option<usize>, hash: impl FnOnce() -> Option<u64>) -> usize {
        let said = said.filter(|side| self.is_side(*side));
        let (side, by) = match said {
            Some(side) => (side, Chosen::Override),
            None => match hash() {
                Some(hash) => (self.weights.load().side(hash), Chosen::Key),
                None if self.setup.first_without_key => (self.weights.load().first(), Chosen::First),
                None => (self.weights.load().side(self.chance.draw()), Chosen::Chance),
            },
        };
        self.sides[side].0.fetch_add(1, Ordering::Relaxed);
        self.chosen.add_one(by as usize);
        self.tell(|policy| SplitEvent::Chose { policy, side, by });
        side
    }

    fn is_side(&self, side: usize) -> bool {
        if side < self.sides.len() {
            return true;
        }
        self.no_such_side.fetch_add(1, Ordering::Relaxed);
        self.tell(|policy| SplitEvent::NoSuchSide { policy, side });
        false
    }

    /// Puts other weights in the place of those that are there.
    pub(crate) fn change(
        &self,
        to: impl FnOnce(&[u32]) -> Result<Vec<u32>, SplitError>,
    ) -> Result<(), SplitError> {
        let (from, to) = {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let from = self.weights.load_full();
            let to = to(&from.each)?;
            if to.len() != from.each.len() {
                return Err(SplitError::Weights { given: to.len(), sides: from.each.len() });
            }
            let to = Arc::new(Weights::new(to)?);
            self.weights.store(Arc::clone(&to));
            (from, to)
        };
        self.tell(|policy| SplitEvent::Weights { policy, from: &from.each, to: &to.each });
        Ok(())
    }

    pub(crate) fn count(&self, side: usize) -> u64 {
        self.sides[side].0.load(Ordering::Relaxed)
    }

    pub(crate) fn chosen(&self, by: Chosen) -> u64 {
        self.chosen.sum(by as usize)
    }

    pub(crate) fn no_such_side(&self) -> u64 {
        self.no_such_side.load(Ordering::Relaxed)
    }

    fn tell<'a>(&'a self, event: impl FnOnce(&'a Name) -> SplitEvent<'a>) {
        if let Some(observer) = &self.setup.observer {
            observer(&event(&self.setup.name));
        }
    }
}
