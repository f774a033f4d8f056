//! Picks and walks allocate nothing.

use std::future::ready;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::task::Poll;

use buttress_balance::{
    Balancer, BoundedLoad, ConsistentHash, Hashing, Loads, Modulo, Node, Order, Random, Ring, RoundRobin,
    Settings,
};
use buttress_core::{BoxError, KeyPart};
use buttress_testkit::{allocations, poll_once};
use tower::{Service, service_fn};

fn nodes() -> Vec<Node> {
    (0..50).map(|at| Node::new(format!("10.0.0.{at}:443")).weight(1 + at % 3)).collect()
}

/// A pick, a pick that passes over most, and a whole walk.
fn walks(order: &impl Order) {
    let walk = || {
        let picks = (0..100_u64).filter_map(|hash| order.pick(hash << 57, |at| at % 10 == 7)).count();
        picks + order.candidates(1 << 60).count()
    };
    assert_eq!(walk(), 150);
    assert_eq!(allocations(walk), 0);
}

#[test]
fn a_walk_allocates_nothing() {
    let nodes = nodes();
    for preset in [Ring::Native, Ring::NginxCrc32, Ring::EnvoyXxh64, Ring::LibketamaMd5] {
        walks(&ConsistentHash::ring().preset(preset).build(&nodes).unwrap());
    }
    walks(&ConsistentHash::maglev().build(&nodes).unwrap());
    walks(&ConsistentHash::rendezvous().build(&nodes).unwrap());
    walks(&Modulo::new(&nodes).unwrap());
    walks(&RoundRobin::new(&nodes).unwrap());
    walks(&Random::new(&nodes).unwrap());
}

#[test]
fn the_hash_of_a_key_allocates_nothing() {
    let ring = |preset| ConsistentHash::ring().preset(preset).build(&nodes()).unwrap().hashing();
    let presets = [Ring::NginxCrc32, Ring::EnvoyXxh64, Ring::LibketamaMd5].map(ring);
    let long = vec![b'x'; 4096];
    for hashing in [Hashing::xxh3(1), Hashing::sip([1; 16])].into_iter().chain(presets) {
        let hash = || {
            let mut sink = hashing.sink();
            ("tenant-3", 17_u64, &*long).write(&mut sink);
            sink.finish() ^ hashing.of(&long) ^ hashing.of(b"short")
        };
        hash();
        assert_eq!(allocations(hash), 0, "{hashing:?}");
    }
}

struct InFlight(Vec<AtomicU32>, AtomicUsize);

impl Loads for InFlight {
    fn load(&self, endpoint: usize) -> &AtomicU32 {
        &self.0[endpoint]
    }

    fn total(&self) -> &AtomicUsize {
        &self.1
    }
}

#[test]
fn a_bound_allocates_nothing() {
    let nodes = nodes();
    let ring = ConsistentHash::ring().build(&nodes).unwrap();
    let bound = BoundedLoad::new(1.25, &nodes).unwrap();
    let loads = InFlight(nodes.iter().map(|_| AtomicU32::new(0)).collect(), AtomicUsize::new(0));
    let place = || {
        let place = || bound.place(&ring, 42, &loads, bound.weight(), |at| at != 3);
        let placed: [Option<usize>; 64] = std::array::from_fn(|_| place());
        placed.into_iter().flatten().for_each(|at| bound.release(at, &loads));
        placed.iter().flatten().count()
    };
    assert_eq!(place(), 64);
    assert_eq!(allocations(place), 0);
}

#[test]
fn a_call_through_a_balancer_allocates_nothing() {
    let echo = service_fn(|request: u64| ready(Ok::<_, BoxError>(request)));
    let members: Vec<_> = (0..50).map(|at| (format!("10.0.0.{at}:443"), echo)).collect();
    let settings = Settings::default().max_in_flight(NonZeroU32::MAX).bounded_load(1.25);
    let mut plain = Balancer::new(members.clone());
    let mut bounded =
        Balancer::new(members).policy(ConsistentHash::ring()).settings(settings).by(|n: &u64| Some(*n));
    let calls = |balancer: &mut dyn FnMut(u64) -> bool| (0..100).filter(|&n| balancer(n)).count();
    let mut by_chance = |n| matches!(poll_once(&mut pin!(plain.call(n))), Poll::Ready(Ok(_)));
    let mut by_key = |n| matches!(poll_once(&mut pin!(bounded.call(n))), Poll::Ready(Ok(_)));
    assert_eq!(calls(&mut by_chance) + calls(&mut by_key), 200);

    assert_eq!(allocations(|| calls(&mut by_chance)), 0);
    assert_eq!(allocations(|| calls(&mut by_key)), 0);
}
