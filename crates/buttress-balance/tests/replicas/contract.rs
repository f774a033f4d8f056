//! The contract of every service, for each way that a call can go.

use std::time::Duration;

use buttress_balance::{
    ConsistentHash, Node, PolicyError, ReplicaError, ReplicaRules, ReplicaSplit, RoundRobin,
};
use buttress_core::Access;
use buttress_testkit::{Contract, Inner, Plain, Point};
use tower_layer::layer_fn;

const CLONES: &str = "all clones share the services, so each call has a clone of its own";

fn alternating(n: &u32) -> Access {
    if n.is_multiple_of(2) { Access::Read } else { Access::Write }
}

#[test]
fn reads_and_writes_keep_the_contract() {
    for rules in
        [ReplicaRules::default(), ReplicaRules::default().trusting(), ReplicaRules::default().recent(1)]
    {
        Contract::new(move || {
            layer_fn(move |inner: Inner<Plain>| {
                ReplicaSplit::new(inner.clone(), [inner.clone(), inner], rules)
                    .unwrap()
                    .access(alternating)
                    .by(|n: &u32| Some(*n))
                    .tokens(|res: &u32| Some(u64::from(*res)))
            })
        })
        .exempt(Point::Instance, CLONES)
        .run();
    }
}

#[test]
fn every_closure_may_panic() {
    Contract::with_closures(|wire| {
        let wire = wire.clone();
        layer_fn(move |inner: Inner<Plain>| {
            let [key, access, asked, written, observer] = std::array::from_fn(|_| wire.clone());
            ReplicaSplit::new(inner.clone(), [inner], ReplicaRules::default())
                .unwrap()
                .by(move |n: &u32| {
                    key.touch();
                    Some(*n)
                })
                .access(move |n: &u32| {
                    access.touch();
                    alternating(n)
                })
                .carried_tokens(
                    move |n: &u32| {
                        asked.touch();
                        Some(u64::from(*n))
                    },
                    move |res: &u32| {
                        written.touch();
                        Some(u64::from(*res))
                    },
                )
                .observe(move |_| observer.touch())
        })
    })
    .exempt(Point::Instance, CLONES)
    .run();
}

#[test]
fn what_cannot_work_is_refused_with_what_would() {
    let refused = |rules| ReplicaSplit::new((), [()], rules).map(drop).unwrap_err().to_string();

    assert_eq!(
        ReplicaSplit::new((), [], ReplicaRules::default()).map(drop).unwrap_err().to_string(),
        "no replicas: give at least one, or call the primary itself"
    );
    let rule = "must be from 1 to 67108864; 65536 is the default and takes 1 MiB";
    assert_eq!(refused(ReplicaRules::default().recent(0)), format!("`recent` = 0: {rule}"));
    assert_eq!(
        refused(ReplicaRules::default().recent(usize::MAX)),
        format!("`recent` = {}: {rule}", usize::MAX)
    );
    let split = || ReplicaSplit::new((), [(), ()], ReplicaRules::default()).unwrap();
    let three = ["a", "b", "c"].map(Node::new);
    let text = "an order of 3 endpoints for 2 replicas: it must be built of the replicas alone";
    assert_eq!(split().order(RoundRobin::new(&three).unwrap()).map(drop).unwrap_err().to_string(), text);
    let ring = ConsistentHash::ring().build(&three).unwrap();
    let hashing = ring.hashing();
    assert!(matches!(
        split().order_by_key(ring, hashing),
        Err(ReplicaError::Order { endpoints: 3, replicas: 2, .. })
    ));
    let many = ReplicaSplit::new((), vec![(); (1 << 20) + 1], ReplicaRules::default()).map(drop);
    assert!(matches!(many, Err(ReplicaError::TooMany(PolicyError::RoundTooLong { .. }))));
}

#[test]
fn times_without_end_are_ordinary() {
    let rules = ReplicaRules::default().lag_bound(Duration::MAX).margin(Duration::MAX);
    Contract::new(move || {
        layer_fn(move |inner: Inner<Plain>| {
            let split = ReplicaSplit::new(inner.clone(), [inner], rules).unwrap().access(alternating);
            split.handle().report_lag(0, Duration::MAX);
            split
        })
    })
    .exempt(Point::Instance, CLONES)
    .run();
}
