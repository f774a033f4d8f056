use std::fmt;

use crate::hash::{fold, scale};
use crate::node::weighted_by_name;
use crate::{Node, Order, PolicyError};

/// How many endpoints a walk remembers to have yielded before it goes through all the others.
const REMEMBERED: usize = 8;

/// How often a walk draws in vain before it goes through all the others.
const DRAWS: u8 = 32;

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
    /// One for each endpoint of a weight above 0, in order of their names.
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
        Ok(Self { endpoints: nodes.len(), columns: columns.into() })
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
pub struct RandomWalk {
    random: u64,
    draws: u8,
    yielded: u8,
    seen: [u32; REMEMBERED],
    rest: Option<Rest>,
}

/// A walk through all columns, in steps of a width that has no divisor in common with their number.
#[derive(Clone, Copy, Debug)]
struct Rest {
    column: u32,
    stride: u32,
    left: u32,
}

impl RandomWalk {
    fn has_seen(&self, endpoint: u32) -> bool {
        self.seen[..usize::from(self.yielded)].contains(&endpoint)
    }

    /// The next number of a sequence that the first one begins (Weyl's, mixed as in wyrand).
    fn advance(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        fold(self.random, self.random ^ 0xe703_7ed1_a0b4_28db)
    }
}

impl Order for Random {
    type Walk = RandomWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.endpoints
    }

    #[inline]
    fn walk(&self, random: u64) -> RandomWalk {
        RandomWalk { random, draws: 0, yielded: 0, seen: [0; REMEMBERED], rest: None }
    }

    #[inline]
    fn step(&self, walk: &mut RandomWalk) -> Option<usize> {
        if walk.draws == 0 && !self.columns.is_empty() {
            let first = self.draw(walk.random);
            (walk.draws, walk.yielded, walk.seen[0]) = (1, 1, first);
            return Some(first as usize);
        }
        self.another(walk)
    }
}

impl Random {
    fn another(&self, walk: &mut RandomWalk) -> Option<usize> {
        let count = self.columns.len() as u32;
        while usize::from(walk.yielded) < REMEMBERED.min(self.columns.len()) && walk.draws < DRAWS {
            let random = walk.advance();
            walk.draws += 1;
            let next = self.draw(random);
            if !walk.has_seen(next) {
                walk.seen[usize::from(walk.yielded)] = next;
                walk.yielded += 1;
                return Some(next as usize);
            }
        }
        let mut rest = walk.rest.take().unwrap_or_else(|| {
            let random = walk.advance();
            let mut stride = 1 + scale(random << u32::BITS, u64::from(count)) as u32;
            while has_common_divisor(stride, count) {
                stride += 1;
            }
            Rest { column: scale(random, u64::from(count)) as u32, stride, left: count }
        });
        while rest.left > 0 {
            rest.left -= 1;
            let own = self.columns[(rest.column % count) as usize].own;
            rest.column = ((u64::from(rest.column) + u64::from(rest.stride)) % u64::from(count)) as u32;
            if !walk.has_seen(own) {
                walk.rest = Some(rest);
                return Some(own as usize);
            }
        }
        walk.rest = Some(rest);
        None
    }
}

const fn has_common_divisor(mut a: u32, mut b: u32) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a > 1
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
