use std::fmt;

use crate::consistent_hash::RendezvousRules;
use crate::hash::{fold, xxh3};
use crate::node::weighted_by_name;
use crate::{Hashing, Node, Order, PolicyError};

/// Every endpoint draws a number for the key, and the highest one wins: highest random weight (Thaler and Ravishankar
/// 1998), with weights exact: the number is `-w / ln(u)` (Schindelhauer and Schomaker 2005).
///
/// The whole order of endpoints is as good as its first: the best `k` are the replicas of a key
/// (`candidates(hash).take(k)`), each endpoint's keys go to all others alike when it leaves, and no key moves without need.
/// There is no table to build. In return a step looks at all endpoints: take it for some 64 of them at most, or for
/// choosing a subset once; a ring or [`Maglev`](crate::Maglev) for more.
#[derive(Clone, PartialEq)]
pub struct Rendezvous {
    nodes: Box<[Node]>,
    /// Those of weights above 0, in order of their names.
    rivals: Box<[Rival]>,
    equal: bool,
    rules: RendezvousRules,
}

#[derive(Clone, PartialEq)]
struct Rival {
    seeds: (u64, u64),
    weight: f64,
    position: u32,
}

/// What a rival drew: the cost `-ln(u) / w` as bits, which sort as the number does; the complement of the hash that made
/// it, for costs that are equal; and its rank by name. The lowest wins.
type Draw = (u64, u64, u32);

impl Rendezvous {
    pub(crate) fn new(rules: RendezvousRules, nodes: &[Node]) -> Result<Self, PolicyError> {
        let rivals: Box<[Rival]> = weighted_by_name(nodes)?
            .into_iter()
            .map(|position| {
                let node = &nodes[position as usize];
                let seed = rules.hashing().of(node.name().as_bytes());
                // An odd factor loses nothing of what it multiplies.
                let seeds = (seed, xxh3(seed, b"factor") | 1);
                Rival { seeds, weight: node.share().into(), position }
            })
            .collect();
        let equal = rivals.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        Ok(Self { nodes: nodes.into(), rivals, equal, rules })
    }

    /// How keys are hashed for this policy.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        self.rules.hashing()
    }

    /// The endpoints, as they were given.
    #[must_use]
    pub const fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The lowest draw of all.
    #[inline]
    fn first(&self, hash: u64) -> Option<Draw> {
        if !self.equal {
            return self.draws(hash).min();
        }
        // Where all weigh the same the hashes alone decide: there is no logarithm to take, and little to compare.
        let mut best = None;
        for (rank, rival) in (0..).zip(&self.rivals) {
            let own = rival.draw(hash);
            if best.is_none_or(|(other, _)| own > other) {
                best = Some((own, rank));
            }
        }
        best.map(|(own, rank)| (0, !own, rank))
    }

    fn draws(&self, hash: u64) -> impl Iterator<Item = Draw> {
        (0..).zip(&self.rivals).map(move |(rank, rival)| {
            let own = rival.draw(hash);
            let cost = if self.equal { 0 } else { (minus_ln(own) / rival.weight).to_bits() };
            (cost, !own, rank)
        })
    }
}

impl Rival {
    #[inline]
    const fn draw(&self, hash: u64) -> u64 {
        fold(hash ^ self.seeds.0, self.seeds.1)
    }
}

/// `-ln(u)` for the `u` in (0, 1] that the upper 53 bits of `hash` say.
///
/// It is made of operations that IEEE 754 fixes to the last bit, as the logarithm of the platform is not: every machine
/// gets the same order. The series is that of the inverse hyperbolic tangent; 1e-14 is left out.
fn minus_ln(hash: u64) -> f64 {
    let u = ((hash >> 11) + 1) as f64 * (0.5_f64).powi(53);
    let bits = u.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series =
        [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0].iter().fold(0.0, |sum, odd| sum * square + 1.0 / odd);
    // Not negated: that would make the zero of `u` = 1 a negative one, whose bits are above all others.
    0.0 - (2.0 * z * series + f64::from(exponent) * std::f64::consts::LN_2)
}

/// How far a walk through a [`Rendezvous`] has come.
#[derive(Clone, Copy, Debug)]
pub struct RendezvousWalk {
    hash: u64,
    after: Option<Draw>,
    over: bool,
}

impl Order for Rendezvous {
    type Walk = RendezvousWalk;

    #[inline]
    fn endpoints(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    fn walk(&self, hash: u64) -> RendezvousWalk {
        RendezvousWalk { hash, after: None, over: false }
    }

    #[inline]
    fn step(&self, walk: &mut RendezvousWalk) -> Option<usize> {
        if walk.over {
            return None;
        }
        let best = match walk.after {
            None => self.first(walk.hash),
            Some(after) => self.draws(walk.hash).filter(|draw| *draw > after).min(),
        };
        walk.over = best.is_none();
        walk.after = best;
        best.map(|(_, _, rank)| self.rivals[rank as usize].position as usize)
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous")
            .field("rules", &self.rules)
            .field("endpoints", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_twelve_digits_near_one_as_far_from_it() {
        let near_one = (0..64).map(|bit| u64::MAX - ((1_u64 << bit) - 1));
        let near_zero = (0..64).map(|bit| 1_u64 << bit);
        for hash in near_one.chain(near_zero).chain([0, u64::MAX / 3, u64::MAX / 5 * 3]) {
            let u = ((hash >> 11) + 1) as f64 / 9_007_199_254_740_992.0;
            let (ours, exact) = (minus_ln(hash), -u.ln());
            assert!(ours.is_sign_positive());
            assert!((ours - exact).abs() <= 1e-12 * exact.abs(), "{hash:x}: {ours} {exact}");
        }
    }
}
