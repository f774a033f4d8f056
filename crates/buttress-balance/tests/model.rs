//! Every interleaving of two calls that are placed under one bound. Runs under `--cfg buttress_loom` alone.
#![cfg(buttress_loom)]

use buttress_balance::{
    BoundedLoad, ConsistentHash, Diverted, HashRing, Loads, Node, ReplicaPolicy, ReplicaRules, Route,
};
use buttress_core::Timestamp;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    ring: HashRing,
    bound: BoundedLoad,
    loads: [AtomicU32; 2],
    total: AtomicUsize,
}

impl Loads for Shared {
    fn load(&self, endpoint: usize) -> &AtomicU32 {
        &self.loads[endpoint]
    }

    fn total(&self) -> &AtomicUsize {
        &self.total
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let nodes = ["a", "b"].map(Node::new);
        Arc::new(Self {
            ring: ConsistentHash::ring().points(2).build(&nodes).unwrap(),
            bound: BoundedLoad::new(1.0, &nodes).unwrap(),
            loads: [AtomicU32::new(0), AtomicU32::new(0)],
            total: AtomicUsize::new(0),
        })
    }

    fn place(&self) -> usize {
        self.bound.place(&self.ring, 7, self, 2, |_| true).expect("all are up")
    }

    fn now(&self) -> (u32, u32, usize) {
        let load = |at: usize| self.loads[at].load(Ordering::SeqCst);
        (load(0), load(1), self.total.load(Ordering::SeqCst))
    }
}

#[test]
fn two_calls_of_one_key_have_an_endpoint_each() {
    loom::model(|| {
        let shared = Shared::new();
        let other = shared.clone();
        let thread = thread::spawn(move || other.place());
        let here = shared.place();
        let there = thread.join().unwrap();

        assert_ne!(here, there);
        assert_eq!(shared.now(), (1, 1, 2));
    });
}

#[test]
fn a_call_that_ends_while_another_is_placed_leaves_its_place() {
    loom::model(|| {
        let shared = Shared::new();
        let first = shared.place();
        let other = shared.clone();
        let thread = thread::spawn(move || other.place());
        shared.bound.release(first, &*shared);
        let second = thread.join().unwrap();
        shared.bound.release(second, &*shared);

        assert_eq!(shared.now(), (0, 0, 0));
    });
}

#[test]
fn a_read_after_two_writes_that_share_a_place_is_held_by_both() {
    loom::model(|| {
        let now = Timestamp::ZERO;
        let rules = ReplicaRules::default().recent(1).trusting();
        let policy = Arc::new(ReplicaPolicy::new(1, rules).unwrap());
        policy.report_position(0, 1);
        let other = policy.clone();
        let thread = thread::spawn(move || other.wrote(Some(1), Some(2), now));
        policy.wrote(Some(2), Some(1), now);
        let read =
            |policy: &ReplicaPolicy, key| policy.read(Some(key), None, now, |usable| usable(0).then_some(0));
        let own = read(&policy, 2);
        thread.join().unwrap();

        assert!(matches!(own, Route::Replica(0) | Route::Primary(Diverted::Token)));
        assert_eq!(read(&policy, 1), Route::Primary(Diverted::Token), "the higher token stays");
        policy.report_position(0, 2);
        assert_eq!(read(&policy, 1), Route::Replica(0));
    });
}

#[test]
fn while_another_primary_takes_over_no_read_goes_to_a_replica() {
    loom::model(|| {
        let now = Timestamp::ZERO;
        let rules = ReplicaRules::default().recent(1).trusting();
        let policy = Arc::new(ReplicaPolicy::new(1, rules).unwrap());
        policy.report_position(0, 4);
        policy.wrote(Some(1), Some(5), now);
        let other = policy.clone();
        let thread = thread::spawn(move || other.fail_over(now));
        let route = policy.read(Some(1), None, now, |usable| usable(0).then_some(0));
        thread.join().unwrap();

        assert!(matches!(route, Route::Primary(_)), "{route:?}");
    });
}
