//! Walks, weights of 0, order of the list, and what moves when endpoints come and go.

use buttress_balance::{ConsistentHash, HashRing, Node, Order, Rendezvous, Ring};
use proptest::prelude::*;

use crate::{Any, all, endpoints, hashes, named, ring};

/// Those whose keys move no more than they must: they have a name for each owner.
fn minimal(nodes: &[Node]) -> [Any; 3] {
    [
        Any::Ring(ring(Ring::Native, nodes)),
        Any::Ring(ring(Ring::NginxCrc32, nodes)),
        Any::Rendezvous(ConsistentHash::rendezvous().build(nodes).expect("these endpoints make a policy")),
    ]
}

/// libketama leaves an endpoint without points when its share is below a fortieth of an even one.
fn has_bare_endpoints(ring: &HashRing, nodes: &[Node]) -> bool {
    let total: u32 = nodes.iter().map(Node::share).sum();
    let served = nodes.iter().filter(|node| node.share() > 0).count() as u32;
    let is_bare = |node: &Node| node.share() > 0 && node.share() * 40 * served < total;
    *ring == crate::ring(Ring::LibketamaMd5, nodes) && nodes.iter().any(is_bare)
}

fn owner<'a>(policy: &Any, nodes: &'a [Node], hash: u64) -> Option<&'a str> {
    policy.pick(hash, |_| true).map(|at| nodes[at].name())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Group 3, and group 6 as to weights of 0.
    #[test]
    fn a_walk_yields_each_endpoint_of_a_weight_once_and_no_other(nodes in endpoints(5), from in any::<u64>()) {
        let mut served: Vec<usize> = (0..nodes.len()).filter(|&at| nodes[at].share() > 0).collect();
        for policy in all(&nodes) {
            if matches!(&policy, Any::Ring(ring) if has_bare_endpoints(ring, &nodes)) {
                continue;
            }
            for hash in hashes(20).chain([0, 1, from, u64::MAX]) {
                let mut order = policy.order(hash);
                order.sort_unstable();
                served.sort_unstable();
                prop_assert_eq!(&order, &served, "{:?}", policy);
            }
        }
    }

    /// Group 3: whatever is usable is found.
    #[test]
    fn a_usable_endpoint_is_found_if_there_is_one(nodes in endpoints(5), usable in any::<u32>()) {
        let usable = |at: usize| usable >> at & 1 == 1;
        for policy in all(&nodes) {
            for hash in hashes(20) {
                let order = policy.order(hash);
                let first = order.iter().copied().find(|&at| usable(at));
                prop_assert_eq!(policy.pick(hash, usable), first);
            }
        }
    }

    /// Groups 1 and 7: what a process does depends on names and weights, and not on the order of its list.
    #[test]
    fn the_order_of_the_list_does_not_matter(
        (nodes, other) in endpoints(5).prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
    ) {
        for (one, another) in all(&nodes).into_iter().zip(all(&other)) {
            for hash in hashes(40) {
                prop_assert_eq!(named(&nodes, &one.order(hash)), named(&other, &another.order(hash)));
            }
        }
    }

    /// Groups 1 and 2. The fallback order of all others is the same as well.
    #[test]
    fn passing_over_an_endpoint_is_as_good_as_removing_it(nodes in endpoints(5), gone in any::<prop::sample::Index>()) {
        prop_assume!(nodes.len() > 1);
        let gone = gone.index(nodes.len());
        let rest = [&nodes[..gone], &nodes[gone + 1..]].concat();
        for (with, without) in minimal(&nodes).into_iter().zip(minimal(&rest)) {
            for hash in hashes(200) {
                let mut order = named(&nodes, &with.order(hash));
                order.retain(|&name| name != nodes[gone].name());
                prop_assert_eq!(order, named(&rest, &without.order(hash)));
            }
        }
    }

    /// Group 1.
    #[test]
    fn keys_move_to_an_endpoint_that_joins_and_to_no_other(nodes in endpoints(5), weight in 1_u32..5) {
        let joins = Node::new("joins").weight(weight);
        let more = [nodes.as_slice(), std::slice::from_ref(&joins)].concat();
        for (before, after) in minimal(&nodes).into_iter().zip(minimal(&more)) {
            for hash in hashes(200) {
                let owner_after = owner(&after, &more, hash);
                prop_assert!(owner_after == Some("joins") || owner_after == owner(&before, &nodes, hash));
            }
        }
    }

    #[test]
    fn a_ring_with_one_more_or_one_fewer_is_the_ring_built_anew(
        nodes in endpoints(5),
        weight in 0_u32..40,
        gone in any::<prop::sample::Index>(),
    ) {
        for preset in crate::PRESETS {
            let old = ring(preset, &nodes);

            let joins = Node::new("joins").weight(weight);
            let more = [nodes.as_slice(), std::slice::from_ref(&joins)].concat();
            let grown = old.with(joins).unwrap();
            prop_assert!(grown == ring(preset, &more), "{:?} with one more", preset);

            for gone in [gone.index(more.len()), nodes.len()] {
                let rest = [&more[..gone], &more[gone + 1..]].concat();
                prop_assert!(grown.without(gone).unwrap() == ring(preset, &rest), "{:?} without {}", preset, gone);
            }
        }
    }
}

/// Group 1: as many keys move as the endpoint that joins is to have, within what chance makes of it.
#[test]
fn as_many_keys_move_as_must() {
    let keys = 20_000;
    for count in [1_u32, 3, 10, 50] {
        let nodes: Vec<Node> = (0..count).map(|at| Node::new(format!("10.0.0.{at}:443"))).collect();
        let more = [nodes.as_slice(), &[Node::new("10.0.1.0:443")]].concat();
        for (before, after) in minimal(&nodes).into_iter().zip(minimal(&more)) {
            let moved = hashes(keys)
                .filter(|&hash| owner(&before, &nodes, hash) != owner(&after, &more, hash))
                .count();
            let even = keys as f64 / f64::from(count + 1);
            assert!(
                (moved as f64) < even * (1.0 + 5.0 / 160_f64.sqrt()),
                "{moved} of {keys} to one of {}",
                count + 1
            );
        }
    }
}

#[test]
fn modulo_moves_n_of_n_plus_1_keys_where_a_ring_moves_1_of_them() {
    let nodes: Vec<Node> = (0..11).map(|at| Node::new(format!("10.0.0.{at:02}:443"))).collect();
    let moved = |before: &Any, after: &Any| {
        let moves = |hash: &u64| owner(before, &nodes, *hash) != owner(after, &nodes, *hash);
        hashes(20_000).filter(moves).count() as f64 / 20_000.0
    };
    let modulo = |count: usize| Any::Modulo(buttress_balance::Modulo::new(&nodes[..count]).unwrap());
    let rings = |count: usize| Any::Ring(ring(Ring::Native, &nodes[..count]));

    let (by_modulo, by_ring) = (moved(&modulo(10), &modulo(11)), moved(&rings(10), &rings(11)));
    assert!((by_modulo - 10.0 / 11.0).abs() < 0.01, "{by_modulo}");
    assert!((by_ring - 1.0 / 11.0).abs() < 0.02, "{by_ring}");
}

/// Two names of one CRC32 have all their points in one place: the first by name has the keys, the other has them when it
/// cannot serve.
#[test]
fn endpoints_whose_points_collide_are_told_apart_by_name() {
    let nodes: Vec<Node> = ["10.10.191.249:443", "10.56.227.15:80", "10.0.0.1:80"].map(Node::new).into();
    let reversed: Vec<Node> = nodes.iter().rev().cloned().collect();
    let (one, other) = (ring(Ring::NginxCrc32, &nodes), ring(Ring::NginxCrc32, &reversed));

    let mut firsts = 0;
    for hash in hashes(2000) {
        let order: Vec<usize> = one.candidates(hash).collect();
        assert_eq!(named(&nodes, &order), named(&reversed, &other.candidates(hash).collect::<Vec<_>>()));
        assert_eq!(order.len(), 3);
        let place = |at| order.iter().position(|&other| other == at).unwrap();
        assert!(place(0) < place(1));
        firsts += usize::from(order[0] == 0);
    }
    assert!(firsts > 500, "{firsts}");
    assert!(one.without(1).unwrap().with(nodes[1].clone()).unwrap().points() == one.points());
    let moved = [nodes[0].clone(), nodes[2].clone(), nodes[1].clone()];
    assert!(one.without(1).unwrap().with(nodes[1].clone()).unwrap() == ring(Ring::NginxCrc32, &moved));
    let moved = [nodes[1].clone(), nodes[2].clone(), nodes[0].clone()];
    assert!(one.without(0).unwrap().with(nodes[0].clone()).unwrap() == ring(Ring::NginxCrc32, &moved));
}

/// Group 7: these are the same in each process on each machine, or keys lose their owners with the next release.
#[test]
fn the_whole_order_of_a_key_is_known_for_ever() {
    let nodes: Vec<Node> = ["a", "b", "c", "d", "e", "f"].map(Node::new).into();
    let ring: HashRing = ConsistentHash::ring().build(&nodes).unwrap();
    let maglev = ConsistentHash::maglev().build(&nodes).unwrap();
    let rendezvous: Rendezvous = ConsistentHash::rendezvous().build(&nodes).unwrap();
    let orders = |key: &[u8]| {
        (
            named(&nodes, &ring.candidates(ring.hashing().of(key)).collect::<Vec<_>>()).concat(),
            named(&nodes, &maglev.candidates(maglev.hashing().of(key)).collect::<Vec<_>>()).concat(),
            named(&nodes, &rendezvous.candidates(rendezvous.hashing().of(key)).collect::<Vec<_>>()).concat(),
        )
    };
    let known = |ring: &str, maglev: &str, rendezvous: &str| {
        (ring.to_owned(), maglev.to_owned(), rendezvous.to_owned())
    };
    assert_eq!(orders(b"user-1"), known("cebfad", "ecdafb", "cebdfa"));
    assert_eq!(orders(b"user-2"), known("adcebf", "edfcab", "decafb"));
}

/// 95 of 100 endpoints are down: each key still has an owner of its own, and the same one each time.
#[test]
fn keys_keep_an_owner_of_their_own_when_nearly_all_are_down() {
    let nodes: Vec<Node> = (0..100).map(|at| Node::new(format!("10.0.0.{at}:443"))).collect();
    let up = |at: usize| at % 20 == 7;
    let survivors: Vec<Node> =
        nodes.iter().enumerate().filter(|&(at, _)| up(at)).map(|(_, node)| node.clone()).collect();
    for (policy, rest) in minimal(&nodes).into_iter().zip(minimal(&survivors)) {
        for hash in hashes(2000) {
            let owner_now = policy.pick(hash, up).map(|at| nodes[at].name());
            assert_eq!(owner_now, owner(&rest, &survivors, hash));
        }
    }
}

/// A walk is kept while the set changes: it goes on over the new one, without harm.
#[test]
fn a_walk_that_a_larger_set_began_ends_in_a_smaller_one() {
    fn goes_on<O: Order>(larger: &O, smaller: &O, none: &O) {
        for hash in hashes(50) {
            let mut walk = larger.walk(hash);
            for _ in 0..20 {
                larger.step(&mut walk);
            }
            for other in [smaller, none] {
                let mut walk = walk.clone();
                let left = std::iter::from_fn(|| other.step(&mut walk)).take(100).collect::<Vec<_>>();
                assert!(left.len() < 100 && left.iter().all(|&at| at < other.endpoints()), "{left:?}");
            }
        }
    }

    let nodes = |count: u32, weight| -> Vec<Node> {
        (0..count).map(|at| Node::new(format!("10.0.0.{at}:443")).weight(weight)).collect()
    };
    let sets = [nodes(50, 1), nodes(3, 1), nodes(2, 0)];
    let [larger, smaller, none] = sets.each_ref().map(|nodes| ring(Ring::Native, nodes));
    goes_on(&larger, &smaller, &none);
    let [larger, smaller, none] = sets.each_ref().map(|nodes| ConsistentHash::maglev().build(nodes).unwrap());
    goes_on(&larger, &smaller, &none);
    let [larger, smaller, none] =
        sets.each_ref().map(|nodes| ConsistentHash::rendezvous().build(nodes).unwrap());
    goes_on(&larger, &smaller, &none);
    let [larger, smaller, none] = sets.each_ref().map(|nodes| buttress_balance::Modulo::new(nodes).unwrap());
    goes_on(&larger, &smaller, &none);
    let [larger, smaller, none] =
        sets.each_ref().map(|nodes| buttress_balance::RoundRobin::new(nodes).unwrap());
    goes_on(&larger, &smaller, &none);
    let [larger, smaller, none] = sets.each_ref().map(|nodes| buttress_balance::Random::new(nodes).unwrap());
    goes_on(&larger, &smaller, &none);
}
