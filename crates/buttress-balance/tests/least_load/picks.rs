//! Which endpoint a pick takes, whatever the score is.

use std::collections::HashMap;

use buttress_balance::{AnyPolicy, LeastLoad, LeastLoadRules, Policy, Score};
use buttress_core::Outcome;
use proptest::prelude::*;

use crate::{Farm, is_chance, ms, scatter};

/// Each score, with so many choices, or all.
fn every(choices: Option<usize>) -> Vec<AnyPolicy> {
    fn with<S: Score>(rules: LeastLoadRules<S>, choices: Option<usize>) -> LeastLoadRules<S> {
        match choices {
            Some(choices) => rules.choices(choices),
            None => rules.all(),
        }
    }
    vec![
        with(LeastLoad::connections(), choices).into(),
        with(LeastLoad::response_time(), choices).into(),
        with(LeastLoad::bandwidth(), choices).into(),
        with(LeastLoad::peak_ewma(), choices).into(),
        with(LeastLoad::hot_cold(), choices).into(),
    ]
}

fn all_and_reported(choices: Option<usize>) -> Vec<AnyPolicy> {
    every(choices).into_iter().chain([LeastLoad::reported().into()]).collect()
}

#[test]
fn without_load_endpoints_share_by_their_weights() {
    const PICKS: u64 = 40_000;
    let weights = [1, 2, 5, 0, 8, 4];
    let farm = Farm::new(&weights);
    let total = f64::from(weights.iter().sum::<u32>());
    for policy in [Some(1), Some(2), Some(3), None].into_iter().flat_map(every) {
        // By the others an idle endpoint of more weight is better than one of less.
        if !matches!(policy, AnyPolicy::Connections(_) | AnyPolicy::Bandwidth(_)) {
            continue;
        }
        let shares = farm.shares(&farm.picker(&policy), PICKS);
        for (share, weight) in shares.iter().zip(weights) {
            assert!(is_chance(*share, PICKS, f64::from(weight) / total, 3.0), "{policy:?}: {shares:?}");
        }
    }
}

#[test]
fn calls_that_stay_are_shared_by_weights() {
    let weights = [1, 2, 5, 0, 8, 4];
    for choices in [Some(2), None] {
        for policy in every(choices) {
            // Bytes do not tell of calls, and a cold one takes them until it is hot.
            if matches!(policy, AnyPolicy::Bandwidth(_) | AnyPolicy::HotCold(_)) {
                continue;
            }
            let farm = Farm::new(&weights);
            let picker = farm.picker(&policy);
            for hash in (0..20_000).map(scatter) {
                farm.pick(&picker, hash).unwrap();
            }
            for (load, weight) in farm.loads.iter().zip(weights) {
                let ideal = f64::from(weight) * 1000.0;
                let calls = f64::from(load.in_flight());
                assert!((calls - ideal).abs() <= 0.05 * ideal + 20.0, "{policy:?}: {calls} of {ideal}");
            }
        }
    }
}

#[test]
fn two_choices_are_two_others_each_time_and_every_pair_comes_as_often() {
    const COUNT: usize = 6;
    const PICKS: u64 = 60_000;
    let farm = Farm::new(&[3; COUNT]);
    let picker = farm.picker(&LeastLoad::peak_ewma());
    let mut pairs = HashMap::<_, u64>::new();
    for hash in (0..PICKS).map(scatter) {
        farm.glance(&picker, hash);
        let looked = farm.looked.borrow();
        assert_eq!(looked.len(), 2);
        assert_ne!(looked[0], looked[1]);
        *pairs.entry((looked[0], looked[1])).or_default() += 1;
    }
    assert_eq!(pairs.len(), COUNT * (COUNT - 1));
    for (pair, count) in &pairs {
        // 30 pairs, of which one in a thousand runs has one beyond four deviations.
        assert!(is_chance(*count, PICKS, 1.0 / pairs.len() as f64, 4.0), "{pair:?} came {count} times");
    }
}

#[test]
fn equals_are_taken_as_often_as_each_other() {
    const PICKS: u64 = 30_000;
    // Equals in a clump, among others that are worse.
    let farm = Farm::new(&[1; 9]);
    for worse in [0, 4, 5, 6, 7] {
        farm.loads[worse].enter();
    }
    let shares = farm.shares(&farm.picker(&LeastLoad::connections().all()), PICKS);
    for equal in [1, 2, 3, 8] {
        assert!(is_chance(shares[equal], PICKS, 0.25, 3.5), "{shares:?}");
    }
    assert_eq!(shares.iter().sum::<u64>(), PICKS);
    assert_eq!(shares[0] + shares[4..8].iter().sum::<u64>(), 0);
}

#[test]
fn the_better_one_is_taken() {
    for choices in [Some(2), Some(8), None] {
        for policy in every(choices) {
            let farm = Farm::new(&[1, 1]);
            farm.loads[1].enter();
            policy.received(&farm.loads[1], 1000, farm.now.get());
            farm.ended(&policy, 1, ms(1), &Some(Outcome::failure()));
            let picker = farm.picker(&policy);
            let shares = farm.shares(&picker, 100);
            assert_eq!(shares, [100, 0], "{policy:?}");
        }
    }
}

#[test]
fn more_choices_look_at_more_and_all_looks_at_all() {
    let farm = Farm::new(&[1; 50]);
    for choices in 1..=8 {
        farm.glance(&farm.picker(&LeastLoad::connections().choices(choices)), 7);
        assert_eq!(farm.looked.borrow().len(), choices);
    }
    farm.glance(&farm.picker(&LeastLoad::connections().all()), 7);
    let mut looked = farm.looked.take();
    looked.sort_unstable();
    looked.dedup();
    assert_eq!(looked, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_key_has_choices_of_its_own() {
    let farm = Farm::new(&[1; 20]);
    let picker = farm.picker(&LeastLoad::peak_ewma());
    let choices = |key| {
        farm.glance(&picker, scatter(key));
        farm.looked.take()
    };
    for key in 0..100 {
        assert_eq!(choices(key), choices(key));
    }
    assert!((1..100).any(|key| choices(key) != choices(0)));
}

#[test]
fn hashes_of_one_part_of_the_range_reach_all_endpoints() {
    // Whoever splits traffic by the upper bits of the hash leaves a policy a part of the range.
    let farm = Farm::new(&[1; 10]);
    for policy in [LeastLoad::connections().into(), AnyPolicy::from(LeastLoad::connections().all())] {
        let picker = farm.picker(&policy);
        let mut shares = [0; 10];
        for hash in (0..10_000).map(scatter) {
            shares[farm.glance(&picker, hash >> 4).unwrap()] += 1;
        }
        assert!(shares.iter().all(|&share| is_chance(share, 10_000, 0.1, 4.0)), "{shares:?}");
    }
}

#[test]
fn with_95_of_100_down_the_others_share_the_calls_and_a_pick_asks_each_once_at_most() {
    for policy in [Some(2), None].into_iter().flat_map(all_and_reported) {
        let mut farm = Farm::new(&[1; 100]);
        farm.down = (0..100).filter(|at| at % 20 != 3).collect();
        let picker = farm.picker(&policy);
        let mut shares = [0; 100];
        for hash in (0..5000).map(scatter) {
            shares[farm.glance(&picker, hash).unwrap()] += 1;
            assert!(farm.checks.get() <= 100 && farm.asked.borrow().len() <= 9, "{policy:?}");
        }
        let up: Vec<u64> = shares.iter().skip(3).step_by(20).copied().collect();
        assert_eq!(up.iter().sum::<u64>(), 5000, "{policy:?}");
        assert!(up.iter().all(|&share| share > 700), "{policy:?}: {up:?}");
    }
}

#[test]
fn the_next_best_is_asked_where_the_best_has_no_place() {
    let mut farm = Farm::new(&[1; 6]);
    for (calls, load) in farm.loads.iter().enumerate() {
        (0..calls).for_each(|_| load.enter());
    }
    farm.full = [0, 1, 2].into();
    let picker = farm.picker(&LeastLoad::connections().all());
    for hash in (0..50).map(scatter) {
        assert_eq!(farm.glance(&picker, hash), Some(3));
        assert_eq!(*farm.asked.borrow(), [0, 1, 2, 3]);
    }
}

#[test]
fn endpoints_of_weight_0_alone_take_no_call() {
    for policy in [Some(2), None].into_iter().flat_map(all_and_reported) {
        let farm = Farm::new(&[0, 0]);
        assert_eq!(farm.pick(&farm.picker(&policy), 7), None, "{policy:?}");
    }
}

#[test]
fn a_score_of_ones_own_is_gone_by() {
    #[derive(Clone, Debug)]
    struct MostWeight;
    impl Score for MostWeight {
        type Seen = ();
        const TIMED: bool = false;
        fn score(&self, (): &(), load: &buttress_balance::Load, _: buttress_core::Timestamp) -> f64 {
            -f64::from(load.weight())
        }
    }
    let farm = Farm::new(&[3, 9, 5]);
    let picker = farm.picker(&LeastLoad::by(MostWeight).all());
    assert_eq!(farm.shares(&picker, 100), [0, 100, 0]);
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![4 => Just(1), 2 => 1..10_u32, 1 => Just(0), 1 => Just(u32::MAX)];
    proptest::collection::vec(weight, 1..40)
}

proptest! {
    #[test]
    fn an_endpoint_that_takes_calls_is_found_if_there_is_one(
        weights in weights(),
        state in proptest::collection::vec(0..10_u8, 40),
        choices in prop_oneof![Just(None), (1..=8_usize).prop_map(Some)],
        hash in any::<u64>(),
        mostly_down in any::<bool>(),
    ) {
        let mut farm = Farm::new(&weights);
        let up = if mostly_down { 9 } else { 4 };
        farm.down = (0..weights.len()).filter(|&at| state[at] < up && state[at] % 2 == 0).collect();
        farm.full = (0..weights.len()).filter(|&at| state[at] < up && state[at] % 2 == 1).collect();
        let takes = |at: usize| weights[at] > 0 && state[at] >= up;
        for policy in all_and_reported(choices) {
            let picked = farm.glance(&farm.picker(&policy), hash);
            prop_assert_eq!(picked.is_some(), (0..weights.len()).any(takes), "{:?}", policy);
            prop_assert!(picked.is_none_or(takes));
        }
    }
}
