//! An endpoint that fails fast does not look like a fast one.

use std::time::Duration;

use buttress_balance::{LeastLoad, LeastLoadRules, PeakEwma, Policy};
use buttress_core::Outcome;

use crate::{Farm, ms, scatter};

const FAILS: usize = 4;

/// A minute of a hundred calls a second, one after the other, of which those at one endpoint of ten end at once with this outcome: how many
/// these are.
fn calls_that_fail(policy: &impl Policy, outcome: &Outcome) -> u64 {
    let farm = Farm::new(&[1; 10]);
    let picker = farm.picker(policy);
    let mut failed = 0;
    for hash in (0..6000).map(scatter) {
        farm.advance(ms(10));
        let endpoint = farm.glance(&picker, hash).unwrap();
        let (took, outcome) =
            if endpoint == FAILS { (ms(1), outcome.clone()) } else { (ms(20), Outcome::success()) };
        failed += u64::from(endpoint == FAILS);
        farm.ended(policy, endpoint, took, &Some(outcome));
    }
    failed
}

/// As in Tower.
fn without_a_penalty() -> LeastLoadRules<PeakEwma> {
    LeastLoad::peak_ewma().penalty(Duration::ZERO).most_penalty(Duration::ZERO)
}

#[test]
fn an_endpoint_that_fails_fast_is_avoided_and_not_preferred() {
    for outcome in [Outcome::failure(), Outcome::soft()] {
        let plain = calls_that_fail(&without_a_penalty(), &outcome);
        assert!(plain > 1000, "without a penalty it draws twice its share: {plain}");
        for failed in [
            calls_that_fail(&LeastLoad::peak_ewma(), &outcome),
            calls_that_fail(&LeastLoad::hot_cold(), &outcome),
            calls_that_fail(&LeastLoad::peak_ewma().all(), &outcome),
        ] {
            assert!((1..=3).contains(&failed), "{failed} of 6000");
            assert!(failed * 10 < plain);
        }
    }
}

#[test]
fn a_response_time_is_not_lowered_by_fast_failures() {
    let failed = calls_that_fail(&LeastLoad::response_time(), &Outcome::failure());
    // It keeps what it began with, a little more than the others take.
    assert!(failed < 600, "{failed} of 6000, of which a tenth is a fair share");
}

#[test]
fn an_endpoint_that_works_again_gets_calls_again() {
    let farm = Farm::new(&[1; 10]);
    let policy = LeastLoad::peak_ewma();
    let picker = farm.picker(&policy);
    farm.ended(&policy, FAILS, ms(1), &Some(Outcome::failure()));
    let mut came = Vec::new();
    for (call, hash) in (0..30_000).map(scatter).enumerate() {
        farm.advance(ms(10));
        let endpoint = farm.glance(&picker, hash).unwrap();
        farm.ended(&policy, endpoint, ms(20), &Some(Outcome::success()));
        if endpoint == FAILS {
            came.push(call / 100);
        }
    }
    // 5 s sink to 20 ms in 10 s · ln 250.
    assert!((50..=65).contains(&came[0]), "tried again after {} s", came[0]);
    assert!(came.len() > 1000, "{} of 30 000 after that", came.len());
}

#[test]
fn an_endpoint_that_hangs_is_avoided_as_soon_as_a_caller_gives_up() {
    let farm = Farm::new(&[1; 10]);
    let policy = LeastLoad::peak_ewma();
    let picker = farm.picker(&policy);
    for endpoint in (0..10).filter(|&endpoint| endpoint != FAILS) {
        farm.ended(&policy, endpoint, ms(20), &Some(Outcome::success()));
    }
    farm.ended(&policy, FAILS, ms(1000), &None);
    assert_eq!(farm.shares(&picker, 1000)[FAILS], 0);
}
