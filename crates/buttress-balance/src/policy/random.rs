use std::fmt;

use super::draws::Draws;
use crate::node::weighted_by_name;
use crate::{Node, Order, PolicyError};

/// An endpoint by chance, as often as its weight says.
///
/// The chance comes in as the hash: a random value, even over 64 bits, which the caller draws. One table entry is read,
/// whatever the number of endpoints (the alias method: Walker 1977, Vose 1991). When an endpoint cannot serve, its share falls
/// to all others by their weights: further candidates are drawn in the same way until there are eight, and only then come
/// the rest, in an order that no longer knows weights.
///
/// Over few calls chance is less even than turns are: take [`RoundRobin`](crate::RoundRobin) unless many balancers that
/// know nothing of each other could march in step.
#[derive(Clone, PartialEq, Eq)]
pub struct Random {
    endpoints: usize,
    /// The positions of those of weights above 0, in order of their names.
    order: Box<[u32]>,
    /// One for each of them.
    columns: Box<[Column]>,
}

/// A column of the alias table: below its mark it is its own endpoint, above it another.
#[derive(Clone, PartialEq, Eq)]
struct Column {
    mark: u64,
    own: u32,
    alias: u32,
}

impl Random {
    /// Of these endpoints.
    ///
    /// # Errors
    ///
    /// When there are none, or two have one name.
    pub fn new(nodes: &[Node]) -> Result<Self, PolicyError> {
        let order = weighted_by_name(nodes)?;
        let count = order.len() as u128;
        let total: u128 = order.iter().map(|&at| u128::from(nodes[at as usize].share())).sum();
        // In units of one weight's `count`th part, a column holds `total`, and an endpoint has `weight * count` of it.
        let mut rest: Vec<u128> =
            order.iter().map(|&at| u128::from(nodes[at as usize].share()) * count).collect();
        let mut columns: Vec<Column> =
            order.iter().map(|&at| Column { mark: u64::MAX, own: at, alias: at }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..order.len()).partition(|&at| rest[at] < total);
        while let (Some(&lesser), Some(&larger)) = (small.last(), large.last()) {
            small.pop();
            columns[lesser].mark = ((rest[lesser] << u64::BITS) / total) as u64;
            columns[lesser].alias = order[larger];
            rest[larger] -= total - rest[lesser];
            if rest[larger] < total {
                large.pop();
                small.push(larger);
            }
        }
        Ok(Self { endpoints: nodes.len(), order: order.into(), columns: columns.into() })
    }

    /// The positions of those of weights above 0, in order of their names.
    #[inline]
    pub(crate) fn positions(&self) -> &[u32] {
        &self.order
    }

    #[inline]
    fn draw(&self, random: u64) -> u32 {
        // The product's upper half says which column, and its lower half where in the column.
        let product = u128::from(random) * self.columns.len() as u128;
        let column = &self.columns[(product >> u64::BITS) as usize];
        if product as u64 <= column.mark { column.own } else { column.alias }
    }
}

/// How far a walk through a [`Random`] has come.
#[derive(Clone, Copy, Debug)]
pub struct RandomWalk(Draws);

impl Order for Random {
    type Walk = RandomWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.endpoints
    }

    #[inline]
    fn walk(&self, random: u64) -> RandomWalk {
        RandomWalk(Draws::new(random))
    }

    #[inline]
    fn step(&self, walk: &mut RandomWalk) -> Option<usize> {
        if walk.0.is_new() && !self.columns.is_empty() {
            let first = self.draw(walk.0.random());
            walk.0.first(first);
            return Some(first as usize);
        }
        walk.0.next(&self.order, |random| self.draw(random)).map(|next| next as usize)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
