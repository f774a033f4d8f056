use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use super::cycle::{Around, Cycle};
use crate::consistent_hash::MaglevRules;
use crate::hash::{scale, xxh3};
use crate::node::weighted_by_name;
use crate::{Hashing, Node, Order, PolicyError};

/// 64 MiB of slots; the paper's large table has 655 373.
const MOST_SLOTS: u32 = (1 << 24) - 3;

/// A slot holds its endpoint in 16 bits: half the cache lines.
const MOST_NODES: usize = 1 << 16;

/// A table of slots that endpoints fill by turns, each by a permutation of its own (Eisenbud et al., NSDI 2016).
///
/// Shares are even to a slot, and a pick is one look into the table whatever the number of endpoints. What a ring does
/// and this does not: when an endpoint leaves, some keys of others move as well (about 0.6 % of all with 65 537 slots and
/// 1 000 endpoints), and passing over an endpoint is not the same as a table without it: it gives its keys to the owners of
/// the slots that follow. Have 100 slots for each endpoint or more, or shares get coarse; [`is_crowded`](Self::is_crowded)
/// says when there are fewer.
///
/// A slot takes 6 bytes, 2 of which a first pick reads.
#[derive(Clone, PartialEq)]
pub struct Maglev {
    nodes: Box<[Node]>,
    slots: Cycle<u16>,
    rules: MaglevRules,
}

impl Maglev {
    pub(crate) fn new(rules: MaglevRules, nodes: &[Node]) -> Result<Self, PolicyError> {
        let count = rules.size();
        if !(2..=MOST_SLOTS).contains(&count) || !is_prime(count) {
            return Err(PolicyError::NotPrime { slots: count, most: MOST_SLOTS });
        }
        let order = weighted_by_name(nodes)?;
        if nodes.len() > MOST_NODES || order.len() > count as usize {
            let most = MOST_NODES.min(count as usize);
            return Err(PolicyError::TooManyEndpoints { endpoints: nodes.len(), most });
        }
        let slots = if order.is_empty() { Vec::new() } else { fill(&rules, nodes, &order) };
        Ok(Self { nodes: nodes.into(), slots: Cycle::new(slots, nodes.len()), rules })
    }

    /// How keys are hashed for this table.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        self.rules.hashing()
    }

    /// The endpoints, as they were given.
    #[must_use]
    pub const fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether there are fewer than 100 slots for each endpoint, so that shares are off by more than 1 %.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let served = self.nodes.iter().filter(|node| node.share() > 0).count();
        served * 100 > self.rules.size() as usize
    }

    /// How many bytes the table takes; endpoints' names are shared and not counted.
    #[must_use]
    pub const fn table_bytes(&self) -> usize {
        self.slots.bytes()
    }
}

/// Lets each endpoint take the next free slot of its permutation, when it is its turn.
fn fill(rules: &MaglevRules, nodes: &[Node], order: &[u32]) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let count = rules.size();
    let mut permutations: Vec<Permutation> =
        order.iter().map(|&at| Permutation::new(rules.hashing(), nodes[at as usize].name(), count)).collect();
    let weights: Vec<u64> = order.iter().map(|&at| u64::from(nodes[at as usize].share())).collect();

    let mut slots = vec![FREE; count as usize];
    // 65 536 endpoints leave no number for a free slot, so which ones are taken is kept apart; it is smaller, too.
    let mut taken = vec![0_u64; slots.len().div_ceil(64)];
    let mut turns = Turns::new(&weights);
    for _ in 0..count {
        let turn = turns.next();
        let slot = loop {
            let slot = permutations[turn].next(count);
            let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
            if taken[word] & bit == 0 {
                taken[word] |= bit;
                break slot;
            }
        };
        slots[slot as usize] = order[turn] as u16;
    }
    slots
}

/// All slots in an order of their own: since their number is a prime, steps of any width come to each of them.
struct Permutation {
    slot: u32,
    skip: u32,
}

impl Permutation {
    fn new(hashing: Hashing, name: &str, count: u32) -> Self {
        let offset = hashing.of(name.as_bytes());
        let skip = xxh3(offset, b"skip");
        Self {
            slot: scale(offset, u64::from(count)) as u32,
            skip: 1 + scale(skip, u64::from(count) - 1) as u32,
        }
    }

    fn next(&mut self, count: u32) -> u32 {
        let slot = self.slot;
        let next = slot + self.skip;
        self.slot = if next < count { next } else { next - count };
        slot
    }
}

/// Whose turn it is: each endpoint has one at first, so that all are in the table, and from then on as many as its weight
/// says, halves rounded.
struct Turns<'a> {
    weights: &'a [u64],
    heaviest: u64,
    /// The round of its next turn and the endpoint, the earliest first. Empty where all weights are equal.
    rounds: BinaryHeap<Reverse<(u64, usize)>>,
    taken: Vec<u64>,
    next: usize,
}

impl<'a> Turns<'a> {
    fn new(weights: &'a [u64]) -> Self {
        let heaviest = weights.iter().copied().max().unwrap_or(1);
        let equal = weights.iter().all(|&weight| weight == heaviest);
        let rounds =
            if equal { BinaryHeap::new() } else { (0..weights.len()).map(|at| Reverse((0, at))).collect() };
        Self { weights, heaviest, rounds, taken: vec![0; weights.len()], next: 0 }
    }

    fn next(&mut self) -> usize {
        let Some(mut first) = self.rounds.peek_mut() else {
            let turn = self.next;
            self.next = if turn + 1 < self.weights.len() { turn + 1 } else { 0 };
            return turn;
        };
        let turn = first.0.1;
        self.taken[turn] += 1;
        first.0.0 = (2 * self.taken[turn] + 1) * self.heaviest * PARTS / self.weights[turn];
        turn
    }
}

/// Half a round is reckoned in this many parts, which tell nearly equal weights apart; twice a turn times a weight has 57
/// bits.
const PARTS: u64 = 1 << 6;

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

/// How far a walk through a [`Maglev`] table has come.
#[derive(Clone, Copy, Debug)]
pub struct MaglevWalk(Around);

impl Order for Maglev {
    type Walk = MaglevWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    fn walk(&self, hash: u64) -> MaglevWalk {
        MaglevWalk(Around::from(scale(hash, self.slots.len() as u64) as u32))
    }

    #[inline]
    fn step(&self, walk: &mut MaglevWalk) -> Option<usize> {
        self.slots.step(&mut walk.0)
    }
}

impl fmt::Debug for Maglev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maglev")
            .field("rules", &self.rules)
            .field("endpoints", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_other_numbers() {
        let primes: Vec<u32> = (0..30).filter(|&number| is_prime(number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(655_373) && is_prime(MOST_SLOTS));
        assert!(!is_prime(65_536) && !is_prime(65_537 * 251));
    }

    #[test]
    fn a_permutation_comes_to_each_slot_once() {
        let mut permutation = Permutation::new(Hashing::default(), "a", 251);
        let mut slots: Vec<u32> = (0..251).map(|_| permutation.next(251)).collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..251));
    }
}
