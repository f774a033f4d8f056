use std::fmt;

use crate::node::weighted_by_name;
use crate::{Node, Order, PolicyError};

/// The hash modulo the number of endpoints, or of the sum of their weights: the plain IP hash or URL hash.
///
/// It is here to be compared with: when the number of endpoints changes from N to N + 1, N of N + 1 keys move, where
/// consistent hashing moves 1 of N + 1. Take it where the set never changes, or a move costs nothing. Keys of an endpoint
/// that cannot serve all go to the next by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Modulo {
    endpoints: usize,
    /// The positions of those of weights above 0, in order of their names.
    order: Box<[u32]>,
    /// For each of them the sum of weights up to and with it; empty where all are equal.
    sums: Box<[u64]>,
}

impl Modulo {
    /// Of these endpoints.
    ///
    /// # Errors
    ///
    /// When there are none, or two have one name.
    pub fn new(nodes: &[Node]) -> Result<Self, PolicyError> {
        let order = weighted_by_name(nodes)?;
        let weights = || order.iter().map(|&at| u64::from(nodes[at as usize].share()));
        let first = weights().next();
        let equal = weights().all(|weight| Some(weight) == first);
        let sums = if equal { Box::default() } else { weights().scan(0, sum_up).collect() };
        Ok(Self { endpoints: nodes.len(), order: order.into(), sums })
    }
}

fn sum_up(sum: &mut u64, weight: u64) -> Option<u64> {
    *sum += weight;
    Some(*sum)
}

/// How far a walk through a [`Modulo`] has come.
#[derive(Clone, Copy, Debug)]
pub struct ModuloWalk {
    next: usize,
    left: usize,
}

impl Order for Modulo {
    type Walk = ModuloWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.endpoints
    }

    #[inline]
    fn walk(&self, hash: u64) -> ModuloWalk {
        let next = match self.sums.last() {
            Some(total) => {
                let rest = hash % total;
                self.sums.partition_point(|&sum| sum <= rest)
            }
            None if self.order.is_empty() => 0,
            None => (hash % self.order.len() as u64) as usize,
        };
        ModuloWalk { next, left: self.order.len() }
    }

    #[inline]
    fn step(&self, walk: &mut ModuloWalk) -> Option<usize> {
        walk.left = walk.left.checked_sub(1)?;
        let position = *self.order.get(walk.next)?;
        walk.next = if walk.next + 1 < self.order.len() { walk.next + 1 } else { 0 };
        Some(position as usize)
    }
}

impl fmt::Debug for Modulo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modulo").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
