//! What holds of every set of endpoints.

mod balance;
mod every;
mod turns;

use buttress_balance::{
    ConsistentHash, HashRing, Maglev, Modulo, Node, Order, Random, Rendezvous, Ring, RoundRobin,
};
use buttress_core::Chance;
use proptest::collection::btree_map;
use proptest::prelude::*;

/// One of the policies, to hold them all to what is true of all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Any {
    Ring(HashRing),
    Maglev(Maglev),
    Rendezvous(Rendezvous),
    Modulo(Modulo),
    RoundRobin(RoundRobin),
    Random(Random),
}

pub(crate) fn ring(preset: Ring, nodes: &[Node]) -> HashRing {
    ConsistentHash::ring().preset(preset).build(nodes).expect("these endpoints make a ring")
}

pub(crate) const PRESETS: [Ring; 4] = [Ring::Native, Ring::NginxCrc32, Ring::EnvoyXxh64, Ring::LibketamaMd5];

/// All policies over these endpoints.
pub(crate) fn all(nodes: &[Node]) -> Vec<Any> {
    let maglev = ConsistentHash::maglev().slots(5003).build(nodes).expect("these endpoints make a table");
    let rendezvous = ConsistentHash::rendezvous().build(nodes).expect("these endpoints make a policy");
    let mut all = vec![
        Any::Maglev(maglev),
        Any::Rendezvous(rendezvous),
        Any::Modulo(Modulo::new(nodes).expect("these endpoints make a policy")),
        Any::RoundRobin(RoundRobin::new(nodes).expect("these endpoints make a round")),
        Any::Random(Random::new(nodes).expect("these endpoints make a table")),
    ];
    all.extend(PRESETS.map(|preset| Any::Ring(ring(preset, nodes))));
    all
}

impl Any {
    pub(crate) fn order(&self, hash: u64) -> Vec<usize> {
        match self {
            Self::Ring(policy) => policy.candidates(hash).collect(),
            Self::Maglev(policy) => policy.candidates(hash).collect(),
            Self::Rendezvous(policy) => policy.candidates(hash).collect(),
            Self::Modulo(policy) => policy.candidates(hash).collect(),
            Self::RoundRobin(policy) => policy.candidates(hash).collect(),
            Self::Random(policy) => policy.candidates(hash).collect(),
        }
    }

    pub(crate) fn pick(&self, hash: u64, usable: impl FnMut(usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(policy) => policy.pick(hash, usable),
            Self::Maglev(policy) => policy.pick(hash, usable),
            Self::Rendezvous(policy) => policy.pick(hash, usable),
            Self::Modulo(policy) => policy.pick(hash, usable),
            Self::RoundRobin(policy) => policy.pick(hash, usable),
            Self::Random(policy) => policy.pick(hash, usable),
        }
    }
}

/// A hash, or a random value, for a number.
pub(crate) fn scatter(number: u64) -> u64 {
    Chance::new(Some(number)).draw()
}

pub(crate) fn hashes(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(scatter)
}

/// As many endpoints as weights.
pub(crate) fn weighted(weights: &[u32]) -> Vec<Node> {
    weights
        .iter()
        .enumerate()
        .map(|(at, &weight)| Node::new(format!("10.0.0.{at}:443")).weight(weight))
        .collect()
}

/// One to 24 endpoints in some order, of weights up to `most`, one of 0 now and then.
pub(crate) fn endpoints(most: u32) -> impl Strategy<Value = Vec<Node>> {
    let name = prop_oneof![
        "10\\.[0-9]\\.[0-9]\\.[0-9]:80[0-9]{2}",
        "\\[::[0-9a-f]{1,4}\\]:443",
        "[a-z]{1,8}\\.example",
        ".{0,6}",
    ];
    let weight = prop_oneof![4 => Just(1), 4 => 1..=most, 1 => Just(0)];
    btree_map(name, weight, 1..24)
        .prop_map(|nodes| {
            nodes.into_iter().map(|(name, weight)| Node::new(name).weight(weight)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

pub(crate) fn named<'a>(nodes: &'a [Node], order: &[usize]) -> Vec<&'a str> {
    order.iter().map(|&at| nodes[at].name()).collect()
}
