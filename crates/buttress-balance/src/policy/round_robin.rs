use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use super::draws::Draws;
use crate::hash::scale;
use crate::node::weighted_by_name;
use crate::{Node, Order, PolicyError};

/// 8 MiB of turns.
const MOST_TURNS: u64 = 1 << 20;

/// Endpoints by turns, as often as their weights say, and spread evenly over a round: a weighted round robin.
///
/// The round is laid out once, and the number of a turn says whose it is. So there is no state and no lock: a caller counts
/// its picks in one atomic that all its clones share, and gives the count as the hash. Of any number of consecutive turns
/// each endpoint has its share to less than two turns, from the start of a round to less than one, and of a round's
/// length (the sum of weights, by their greatest common divisor) exactly its share.
///
/// An endpoint that cannot serve leaves its turns to all others by their weights: who takes one is drawn by a chance that the number
/// of the turn decides, so that no neighbour gets them all.
///
/// A round is laid out by earliest deadlines: turn `k` of an endpoint of weight `w` falls between `k·W/w` and
/// `(k+1)·W/w`, which works out for every set of weights (Tijdeman 1980; P-fair scheduling, Baruah et al. 1996). nginx'
/// smooth weighted round robin aims at the same without this bound.
#[derive(Clone, PartialEq, Eq)]
pub struct RoundRobin {
    endpoints: usize,
    /// The positions of those of weights above 0, in order of their names.
    order: Box<[u32]>,
    /// Whose turn is when.
    round: Box<[u32]>,
}

impl RoundRobin {
    /// Of these endpoints.
    ///
    /// # Errors
    ///
    /// When there are none, two have one name, or a round has more than 2^20 turns.
    pub fn new(nodes: &[Node]) -> Result<Self, PolicyError> {
        let order = weighted_by_name(nodes)?;
        let weights: Vec<u64> = order.iter().map(|&at| u64::from(nodes[at as usize].share())).collect();
        let common = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<u64> = weights.into_iter().map(|weight| weight / common).collect();
        let turns: u64 = weights.iter().sum();
        if turns > MOST_TURNS {
            return Err(PolicyError::RoundTooLong { turns, most: MOST_TURNS });
        }
        let round = lay_out(&weights, turns).into_iter().map(|rank| order[rank]).collect();
        Ok(Self { endpoints: nodes.len(), order: order.into(), round })
    }

    /// How many turns a round has.
    #[must_use]
    pub const fn turns(&self) -> usize {
        self.round.len()
    }
}

/// Whose turn is when: at each one the earliest deadline of those that may begin.
fn lay_out(weights: &[u64], turns: u64) -> Vec<usize> {
    let begin = |rank: usize, turn: u64| turn * turns / weights[rank];
    let deadline = |rank: usize, turn: u64| ((turn + 1) * turns).div_ceil(weights[rank]);
    let mut waiting: BinaryHeap<Reverse<(u64, usize, u64)>> =
        (0..weights.len()).map(|rank| Reverse((0, rank, 0))).collect();
    let mut ready = BinaryHeap::new();
    (0..turns)
        .map(|now| {
            while let Some(&Reverse((_, rank, turn))) = waiting.peek().filter(|first| first.0.0 <= now) {
                waiting.pop();
                ready.push(Reverse((deadline(rank, turn), rank, turn)));
            }
            let Reverse((_, rank, turn)) = ready.pop().expect("turns are as many as weights sum up to");
            if turn + 1 < weights[rank] {
                waiting.push(Reverse((begin(rank, turn + 1), rank, turn + 1)));
            }
            rank
        })
        .collect()
}

pub(crate) const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How far a walk through a [`RoundRobin`] has come.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobinWalk(Draws);

impl Order for RoundRobin {
    type Walk = RoundRobinWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.endpoints
    }

    #[inline]
    fn walk(&self, turn: u64) -> RoundRobinWalk {
        RoundRobinWalk(Draws::new(turn))
    }

    #[inline]
    fn step(&self, walk: &mut RoundRobinWalk) -> Option<usize> {
        let turns = self.round.len() as u64;
        if walk.0.is_new() && turns > 0 {
            let first = self.round[(walk.0.random() % turns) as usize];
            walk.0.first(first);
            return Some(first as usize);
        }
        let draw = |random| self.round[scale(random, turns) as usize];
        walk.0.next(&self.order, draw).map(|next| next as usize)
    }
}

impl fmt::Debug for RoundRobin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobin")
            .field("endpoints", &self.endpoints)
            .field("turns", &self.round.len())
            .finish_non_exhaustive()
    }
}
