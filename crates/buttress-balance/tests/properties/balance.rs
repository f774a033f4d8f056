//! How even shares are: group 4 and group 6.

use buttress_balance::{ConsistentHash, Node, Order, Random, Ring, RoundRobin};

use crate::{Any, all, hashes, ring, weighted};

/// How many of `hashes` each endpoint gets.
fn shares(order: &impl Order, hashes: impl Iterator<Item = u64>) -> Vec<f64> {
    let mut shares = vec![0.0; order.endpoints()];
    for hash in hashes {
        shares[order.pick(hash, |_| true).expect("something is usable")] += 1.0;
    }
    shares
}

/// The standard deviation and the maximum, by the mean.
fn spread(shares: &[f64]) -> (f64, f64) {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
    (variance.sqrt() / mean, shares.iter().copied().fold(0.0, f64::max) / mean)
}

/// Hashes at equal distances: they measure the arcs of a ring, and nothing is left to chance.
fn grid(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |at| (u128::from(at) * (1 << 64) / u128::from(count)) as u64)
}

/// The hosts of a set, at one of 20 places.
fn hosts(set: u32, count: u32) -> Vec<Node> {
    (0..count).map(|at| Node::new(format!("10.{set}.{}.{}:443", at / 250, at % 250))).collect()
}

#[test]
fn a_ring_spreads_keys_as_evenly_as_its_points_are_many() {
    for (points, keys, sets, goal) in
        [(100, 200_000, 20, 1.40), (160, 200_000, 20, 1.30), (1000, 400_000, 4, 1.12)]
    {
        let mut largest = 0.0;
        for set in 0..sets {
            let ring = ConsistentHash::ring().points(points).build(&hosts(set, 100)).unwrap();
            let (deviation, most) = spread(&shares(&ring, grid(keys)));
            assert!(deviation < 1.3 / f64::from(points).sqrt(), "{points} points: deviation {deviation}");
            largest += most / f64::from(sets);
        }
        assert!(largest <= goal, "{points} points: the largest share is {largest} on average");
    }
}

#[test]
fn rings_of_other_programs_are_as_even() {
    for preset in [Ring::NginxCrc32, Ring::LibketamaMd5] {
        let (deviation, _) = spread(&shares(&ring(preset, &hosts(0, 100)), grid(200_000)));
        assert!(deviation < 1.3 / 160_f64.sqrt(), "{preset:?}: deviation {deviation}");
    }
}

#[test]
fn a_maglev_table_gives_equal_endpoints_the_same_number_of_slots_but_for_one() {
    for (slots, counts) in [(65_537_u64, [1, 3, 10, 100, 650]), (5003, [2, 7, 10, 49, 50])] {
        for count in counts {
            let maglev = ConsistentHash::maglev().slots(slots as u32).build(&hosts(1, count)).unwrap();
            // The lowest hash of each slot.
            let slot = |at: u64| (u128::from(at) << 64).div_ceil(u128::from(slots)) as u64;
            let shares = shares(&maglev, (0..slots).map(slot));
            let (least, most) = shares
                .iter()
                .fold((f64::MAX, 0.0_f64), |(least, most), &share| (least.min(share), most.max(share)));
            assert!(most - least <= 1.0, "{count} endpoints have from {least} to {most} of {slots} slots");
        }
    }
}

/// Group 4, as stated for large sets.
#[test]
fn a_maglev_table_of_1000_endpoints_is_even_to_a_hundredth() {
    let maglev = ConsistentHash::maglev().build(&hosts(1, 1000)).unwrap();
    let (_, most) = spread(&shares(&maglev, grid(655_370)));
    assert!(most <= 1.01, "the largest share is {most}");
}

/// Group 6: three standard deviations of what chance makes of it.
#[test]
fn every_policy_gives_endpoints_the_shares_that_their_weights_say() {
    let keys = 60_000_u64;
    for weights in [&[1_u32, 1, 1, 1][..], &[1, 2, 3, 4], &[10, 1, 1], &[5, 0, 3, 0, 1]] {
        let nodes = weighted(weights);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for policy in all(&nodes) {
            // Turns go by number, and a hash modulo a small number by chance as well.
            let inputs: Box<dyn Iterator<Item = u64>> = match &policy {
                Any::RoundRobin(_) => Box::new(0..keys),
                _ => Box::new(hashes(keys)),
            };
            let mut shares = vec![0.0; nodes.len()];
            inputs.for_each(|hash| shares[policy.pick(hash, |_| true).unwrap()] += 1.0 / keys as f64);
            for (&weight, share) in weights.iter().zip(shares) {
                let fair = f64::from(weight) / total;
                let by_chance = (fair * (1.0 - fair) / keys as f64).sqrt();
                let by_points = match &policy {
                    Any::Ring(ring) => {
                        fair * (1.0 - fair).sqrt() / (ring.points() as f64 * fair).max(1.0).sqrt()
                    }
                    Any::Maglev(_) => 1.0 / 5003.0,
                    _ => 0.0,
                };
                let deviation = by_chance.hypot(by_points);
                assert!(
                    (share - fair).abs() <= 3.0 * deviation,
                    "{policy:?} of {weights:?}: {share}, not {fair}"
                );
            }
        }
    }
}

/// Group 6: the largest weights, which take part in every sum.
#[test]
fn the_largest_weights_are_shared_out_as_small_ones_are() {
    let nodes = weighted(&[u32::MAX, u32::MAX / 2, u32::MAX / 4, 1]);
    let fair = [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0];
    let rendezvous = ConsistentHash::rendezvous().build(&nodes).unwrap();
    let maglev = ConsistentHash::maglev().build(&nodes).unwrap();
    let random = Random::new(&nodes).unwrap();
    let modulo = buttress_balance::Modulo::new(&nodes).unwrap();
    let all = [
        shares(&rendezvous, hashes(50_000)),
        shares(&maglev, hashes(50_000)),
        shares(&random, hashes(50_000)),
        shares(&modulo, hashes(50_000)),
    ];
    for shares in all {
        for (share, fair) in shares.iter().zip(fair) {
            assert!((share / 50_000.0 - fair).abs() < 0.01, "{shares:?}");
        }
    }
}

/// The share of one that cannot serve falls to the others by their weights, whatever it was chosen by.
#[test]
fn the_share_of_one_that_is_down_falls_to_the_others_by_their_weights() {
    let nodes = weighted(&[4, 1, 2, 3]);
    let fair = [0.0, 1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0];
    let rounds = RoundRobin::new(&nodes).unwrap();
    let random = Random::new(&nodes).unwrap();
    let rendezvous = ConsistentHash::rendezvous().build(&nodes).unwrap();
    let maglev = ConsistentHash::maglev().build(&nodes).unwrap();
    let keys = 60_000;
    let share = |pick: &dyn Fn(u64) -> Option<usize>| {
        let mut shares = [0.0; 4];
        (0..keys).for_each(|turn| shares[pick(turn).unwrap()] += 1.0 / keys as f64);
        shares
    };
    let up = |at: usize| at != 0;
    let all = [
        share(&|turn| rounds.pick(turn, up)),
        share(&|turn| random.pick(crate::scatter(turn), up)),
        share(&|turn| rendezvous.pick(crate::scatter(turn), up)),
        share(&|turn| maglev.pick(crate::scatter(turn), up)),
    ];
    for shares in all {
        for (share, fair) in shares.iter().zip(fair) {
            assert!((share - fair).abs() < 0.02, "{shares:?}");
        }
    }
}
