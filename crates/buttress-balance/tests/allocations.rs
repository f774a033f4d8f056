//! Picks and walks allocate nothing.

use std::future::ready;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::task::Poll;

use buttress_balance::{
    Among, AnyPolicy, Balancer, BoundedLoad, ConsistentHash, Ended, Hashing, LeastLoad, Load, Loads, Modulo,
    Node, Order, Picker, Policy, Random, Ring, RoundRobin, Settings,
};
use buttress_core::{BoxError, KeyPart, LoadReport, Outcome, Timestamp};
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

/// Endpoints whose loads a pick looks at.
struct Busy(Vec<Load>);

impl Among for Busy {
    fn is_usable(&self, endpoint: usize) -> bool {
        endpoint % 10 == 7
    }

    fn admit(&self, endpoint: usize) -> bool {
        self.is_usable(endpoint) && endpoint != 7 && {
            self.0[endpoint].enter();
            true
        }
    }

    fn load(&self, endpoint: usize) -> &Load {
        &self.0[endpoint]
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(1 << 40)
    }
}

#[test]
fn a_pick_by_load_and_what_is_noted_after_it_allocate_nothing() {
    let nodes = nodes();
    let policies: [AnyPolicy; 8] = [
        LeastLoad::peak_ewma().into(),
        LeastLoad::peak_ewma().choices(8).into(),
        LeastLoad::peak_ewma().all().into(),
        LeastLoad::connections().into(),
        LeastLoad::response_time().into(),
        LeastLoad::bandwidth().into(),
        LeastLoad::hot_cold().into(),
        LeastLoad::reported().into(),
    ];
    let outcomes = [
        Some(Outcome::success().with_load(LoadReport::new().with_cpu(0.5).with_rate(10.0))),
        Some(Outcome::failure()),
        None,
    ];
    for policy in policies {
        let picker = policy.build(&nodes).unwrap();
        let busy = Busy(nodes.iter().map(|node| Load::new(node.share())).collect());
        let calls = || {
            let mut picked = 0;
            for hash in (0..99_u64).map(|hash| hash << 57 | hash << 7) {
                let endpoint = picker.pick(hash, &busy).expect("four are usable and have places");
                let load = &busy.0[endpoint];
                load.leave();
                let outcome = outcomes[hash as usize % 3].as_ref();
                let now = busy.now() + std::time::Duration::from_millis(picked);
                policy.ended(load, &Ended::new(busy.now(), now, outcome));
                policy.received(load, 1000, now);
                picked += 1;
            }
            picked
        };
        assert_eq!(calls(), 99);
        assert_eq!(allocations(calls), 0, "{policy:?}");
    }
}
