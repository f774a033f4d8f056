//! What cannot work is refused when it is built, by a type that says why.

use std::time::Duration;

use buttress_balance::{
    BoundedLoad, ConsistentHash, HashRing, LeastLoad, Modulo, Node, Order, Policy, PolicyError, Random, Ring,
    RoundRobin,
};

fn nodes<const N: usize>(names: [&str; N]) -> [Node; N] {
    names.map(Node::new)
}

/// What each policy says to these endpoints.
fn errors(nodes: &[Node]) -> Vec<Option<PolicyError>> {
    let ring = |preset| ConsistentHash::ring().preset(preset).build(nodes).err();
    vec![
        ring(Ring::Native),
        ring(Ring::NginxCrc32),
        ring(Ring::EnvoyXxh64),
        ring(Ring::LibketamaMd5),
        ConsistentHash::maglev().build(nodes).err(),
        ConsistentHash::rendezvous().build(nodes).err(),
        Modulo::new(nodes).err(),
        RoundRobin::new(nodes).err(),
        Random::new(nodes).err(),
        BoundedLoad::new(1.25, nodes).err(),
    ]
}

#[test]
fn every_policy_needs_an_endpoint() {
    for error in errors(&[]) {
        assert_eq!(error, Some(PolicyError::NoEndpoints));
    }
}

#[test]
fn every_policy_refuses_a_name_that_is_given_twice() {
    for error in errors(&nodes(["b", "a", "c", "a"])) {
        assert_eq!(error, Some(PolicyError::DuplicateEndpoint { name: "a".into() }));
    }
}

#[test]
fn endpoints_of_weight_0_alone_are_a_policy_without_candidates() {
    fn none(order: &impl Order) {
        assert_eq!(order.endpoints(), 2);
        for hash in [0, 1, u64::MAX] {
            assert_eq!(order.candidates(hash).next(), None);
        }
    }

    let idle = nodes(["a", "b"]).map(|node| node.weight(0));
    for preset in [Ring::Native, Ring::NginxCrc32, Ring::EnvoyXxh64, Ring::LibketamaMd5] {
        none(&ConsistentHash::ring().preset(preset).build(&idle).unwrap());
    }
    none(&ConsistentHash::maglev().build(&idle).unwrap());
    none(&ConsistentHash::rendezvous().build(&idle).unwrap());
    none(&Modulo::new(&idle).unwrap());
    none(&RoundRobin::new(&idle).unwrap());
    none(&Random::new(&idle).unwrap());
}

#[test]
fn weights_that_ask_for_too_many_points_are_refused() {
    let build = |weights: &[u32]| -> Result<HashRing, PolicyError> {
        let nodes: Vec<Node> = weights
            .iter()
            .enumerate()
            .map(|(at, &weight)| Node::new(at.to_string()).weight(weight))
            .collect();
        ConsistentHash::ring().build(&nodes)
    };
    let points = u64::from(u32::MAX) * 160 * 2;
    assert_eq!(build(&[u32::MAX, u32::MAX]), Err(PolicyError::TooManyPoints { points, most: 8_388_608 }));
    let points = 8_388_608 / 160 * 160 + 160;
    assert_eq!(build(&[52_428, 1]), Err(PolicyError::TooManyPoints { points, most: 8_388_608 }));
    assert_eq!(
        build(&[1, 2]).unwrap().with(Node::new("x").weight(u32::MAX)),
        Err(PolicyError::TooManyPoints { points: u64::from(u32::MAX) * 160 + 480, most: 8_388_608 })
    );

    // More than 64 bits can count.
    let nodes: Vec<Node> = (0..3).map(|at| Node::new(at.to_string()).weight(u32::MAX)).collect();
    assert_eq!(
        ConsistentHash::ring().points(u32::MAX).build(&nodes),
        Err(PolicyError::TooManyPoints { points: u64::MAX, most: 8_388_608 })
    );
}

#[test]
fn policies_that_do_not_lay_weights_out_take_the_largest() {
    let huge = nodes(["a", "b"]).map(|node| node.weight(u32::MAX));
    let mixed = [Node::new("a").weight(1), Node::new("b").weight(u32::MAX)];
    for nodes in [&huge, &mixed] {
        let ring = ConsistentHash::ring();
        assert!(ring.preset(Ring::EnvoyXxh64).sizes(1024, 4096).build(nodes).is_ok());
        assert!(ring.preset(Ring::LibketamaMd5).build(nodes).is_ok());
        assert!(ConsistentHash::maglev().build(nodes).is_ok());
        assert!(ConsistentHash::rendezvous().build(nodes).is_ok());
        assert!(Modulo::new(nodes).is_ok());
        assert!(Random::new(nodes).is_ok());
        assert!(BoundedLoad::new(1.0, nodes).is_ok());
    }
    assert_eq!(RoundRobin::new(&huge).unwrap().turns(), 2);
    assert_eq!(
        RoundRobin::new(&mixed).unwrap_err(),
        PolicyError::RoundTooLong { turns: 1 << 32, most: 1 << 20 }
    );
}

#[test]
fn a_ring_needs_points() {
    assert_eq!(ConsistentHash::ring().points(0).build(&nodes(["a"])), Err(PolicyError::NoPoints));
}

#[test]
fn what_a_preset_fixes_cannot_be_set() {
    let ring = ConsistentHash::ring().preset(Ring::NginxCrc32);
    for (rules, field) in
        [(ring.points(100), "points"), (ring.seed(7), "hash_by"), (ring.sizes(1, 2), "sizes")]
    {
        let error = rules.build(&nodes(["a"])).unwrap_err();
        assert_eq!(error, PolicyError::NotOfPreset { field, preset: Ring::NginxCrc32 });
    }
}

#[test]
fn sizes_of_a_ring_of_envoy_are_in_order_and_in_range() {
    let ring = ConsistentHash::ring().preset(Ring::EnvoyXxh64);
    for (least, largest) in [(0, 1), (2, 1), (1, 8_388_609)] {
        let error = ring.sizes(least, largest).build(&nodes(["a"])).unwrap_err();
        assert_eq!(error, PolicyError::Sizes { least, largest, most: 8_388_608 });
    }
    assert_eq!(ring.sizes(1, 1).build(&nodes(["a"])).unwrap().points(), 1);
}

#[test]
fn a_maglev_table_has_a_prime_number_of_slots() {
    for slots in [0, 1, 65_536, 65_537 * 251, 16_777_259, u32::MAX] {
        let error = ConsistentHash::maglev().slots(slots).build(&nodes(["a"])).unwrap_err();
        assert_eq!(error, PolicyError::NotPrime { slots, most: 16_777_213 });
    }
    for slots in [2, 251, 65_537, 655_373] {
        assert!(ConsistentHash::maglev().slots(slots).build(&nodes(["a"])).is_ok());
    }
}

#[test]
fn a_maglev_table_has_a_slot_for_each_endpoint() {
    let error = ConsistentHash::maglev().slots(3).build(&nodes(["a", "b", "c", "d"])).unwrap_err();
    assert_eq!(error, PolicyError::TooManyEndpoints { endpoints: 4, most: 3 });
    assert!(ConsistentHash::maglev().slots(3).build(&nodes(["a", "b", "c"])).unwrap().is_crowded());
    assert!(!ConsistentHash::maglev().build(&nodes(["a", "b", "c"])).unwrap().is_crowded());
}

#[test]
fn a_bound_is_a_number_that_leaves_room_for_an_even_spread() {
    for factor in [0.0, 0.999, -1.0, 1000.1, f64::INFINITY, f64::NAN] {
        let error = BoundedLoad::new(factor, &nodes(["a"])).unwrap_err();
        assert!(matches!(error, PolicyError::Factor { most: 1000.0, .. }), "{error}");
    }
    assert!(BoundedLoad::new(1.0, &nodes(["a"])).is_ok());
}

#[test]
fn the_last_endpoint_cannot_leave_and_a_name_cannot_come_twice() {
    let ring = ConsistentHash::ring().build(&nodes(["a"])).unwrap();
    assert_eq!(ring.without(0), Err(PolicyError::NoEndpoints));
    assert_eq!(ring.with(Node::new("a")), Err(PolicyError::DuplicateEndpoint { name: "a".into() }));
}

#[test]
fn messages_name_the_field_the_value_and_the_rule() {
    let told = |error: PolicyError| error.to_string();
    assert_eq!(told(PolicyError::NoEndpoints), "no endpoints: give at least one");
    assert_eq!(
        told(ConsistentHash::maglev().slots(65_536).build(&nodes(["a"])).unwrap_err()),
        "Maglev table with `slots` = 65536: must be a prime number up to 16777213, such as 65537 or 655373"
    );
    assert_eq!(
        told(BoundedLoad::new(0.5, &nodes(["a"])).unwrap_err()),
        "bounded load with `factor` = 0.5: must be from 1 to 1000, and 1.25 is usual"
    );
    assert_eq!(
        told(ConsistentHash::ring().preset(Ring::EnvoyXxh64).points(3).build(&nodes(["a"])).unwrap_err()),
        "`points` cannot be set on a ring of the preset EnvoyXxh64: it would own other keys than its model"
    );
}

/// What a policy says to these endpoints.
fn error_of(policy: &impl Policy, nodes: &[Node]) -> Option<PolicyError> {
    policy.build(nodes).err()
}

#[test]
fn policies_by_load_refuse_what_the_others_refuse() {
    for (nodes, error) in [
        (&[][..], PolicyError::NoEndpoints),
        (&nodes(["b", "a", "c", "a"]), PolicyError::DuplicateEndpoint { name: "a".into() }),
    ] {
        assert_eq!(error_of(&LeastLoad::peak_ewma(), nodes), Some(error.clone()));
        assert_eq!(error_of(&LeastLoad::connections().all(), nodes), Some(error.clone()));
        assert_eq!(error_of(&LeastLoad::reported(), nodes), Some(error));
    }
}

#[test]
fn choices_are_one_to_eight() {
    let one = nodes(["a"]);
    for choices in [0, 9, usize::MAX] {
        let error = error_of(&LeastLoad::connections().choices(choices), &one);
        assert_eq!(error, Some(PolicyError::Choices { choices, most: 8 }));
    }
    assert_eq!(error_of(&LeastLoad::connections().choices(1), &one), None);
    let error = PolicyError::Choices { choices: 0, most: 8 };
    let text =
        "least load with `choices` = 0: must be from 1 to 8, and 2 is usual; `all` looks at every endpoint";
    assert_eq!(error.to_string(), text);
}

#[test]
fn times_of_policies_by_load_have_a_range() {
    fn refused(policy: &impl Policy, setting: &str, text: &str) {
        match error_of(policy, &nodes(["a"])) {
            Some(PolicyError::Setting { field, .. }) if text.is_empty() => assert_eq!(field, setting),
            Some(error @ PolicyError::Setting { .. }) => assert_eq!(error.to_string(), text),
            other => panic!("{setting}: {other:?}"),
        }
    }
    let (none, long) = (Duration::ZERO, Duration::MAX);
    let (peak, mean, reported) = (LeastLoad::peak_ewma(), LeastLoad::response_time(), LeastLoad::reported());
    refused(&peak.decay(none), "decay", "least load with `decay` = 0ns: must be from 1ms to 3600s");
    for wrong in [none, long] {
        refused(&peak.decay(wrong), "decay", "");
        refused(&peak.initial(wrong), "initial", "");
        refused(&mean.decay(wrong), "decay", "");
        refused(&mean.initial(wrong), "initial", "");
        refused(&reported.expiry(wrong), "expiry", "");
        refused(&reported.update(wrong), "update", "");
    }
    refused(&peak.penalty(long), "penalty", "");
    refused(&peak.most_penalty(long), "most_penalty", "");
    refused(&LeastLoad::hot_cold().latency(peak.decay(none)), "decay", "");
    refused(&reported.blackout(long), "blackout", "");
    refused(&reported.update(Duration::from_millis(99)), "update", "");
}

#[test]
fn quantiles_and_penalties_are_numbers_of_their_range() {
    let one = nodes(["a"]);
    for quantile in [-0.1, 1.1, f64::INFINITY] {
        let error = error_of(&LeastLoad::hot_cold().quantile(quantile), &one);
        assert_eq!(error, Some(PolicyError::Quantile { quantile }));
    }
    for penalty in [-0.1, f64::INFINITY] {
        let error = error_of(&LeastLoad::reported().error_penalty(penalty), &one);
        assert_eq!(error, Some(PolicyError::ErrorPenalty { penalty }));
    }
    assert!(error_of(&LeastLoad::hot_cold().quantile(f64::NAN), &one).is_some());
    assert!(error_of(&LeastLoad::reported().error_penalty(f64::NAN), &one).is_some());
}
