#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod consistent_hash;
mod error;
mod hash;
mod node;
mod order;
mod policy;
mod sync;

pub use consistent_hash::{ConsistentHash, MaglevRules, RendezvousRules, RingRules};
pub use error::PolicyError;
pub use hash::{Hashing, KeyHasher};
pub use node::Node;
pub use order::{Candidates, Order};
pub use policy::{
    BoundedLoad, HashRing, Loads, Maglev, MaglevWalk, Modulo, ModuloWalk, Random, RandomWalk, Rendezvous,
    RendezvousWalk, Ring, RingWalk, RoundRobin, RoundRobinWalk, jump,
};
