//! What each score is, by numbers that were calculated by hand: e^-1 is 0.36788.

use std::time::Duration;

use buttress_balance::{Bandwidth, Ended, Least, LeastLoad, LeastLoadRules, Load, Policy, Score};
use buttress_core::{Outcome, Rejection, RejectionKind, Timestamp};
use proptest::prelude::*;

use crate::{Farm, START, about, ms};

/// One endpoint of this weight.
struct One<S: Score> {
    rules: LeastLoadRules<S>,
    picker: Least<S>,
    load: Load,
    now: Timestamp,
}

impl<S: Score> One<S> {
    fn new(rules: LeastLoadRules<S>, weight: u32) -> Self {
        let picker = Farm::new(&[weight]).picker(&rules);
        Self { rules, picker, load: Load::new(weight), now: START }
    }

    fn score(&self) -> f64 {
        self.picker.score(&self.load, self.now)
    }

    fn ended(&self, took: Duration, outcome: &Option<Outcome>) {
        self.rules.ended(&self.load, &Ended::new(self.now - took, self.now, outcome.as_ref()));
    }

    /// Ends a call after another ten seconds.
    fn later(&mut self, took: Duration, outcome: &Option<Outcome>) -> f64 {
        self.now += Duration::from_secs(10);
        self.ended(took, outcome);
        self.score()
    }
}

const SUCCESS: Option<Outcome> = Some(Outcome::success());

#[test]
fn connections_are_those_in_flight_by_the_weight() {
    let one = One::new(LeastLoad::connections(), 4);
    assert!(!one.rules.is_timed());
    assert_eq!(one.score(), 0.0);
    for _ in 0..6 {
        one.load.enter();
    }
    assert_eq!(one.score(), 1.5);
    one.load.leave();
    assert_eq!(one.score(), 1.25);
}

#[test]
fn a_peak_begins_with_30_ms_rises_at_once_and_sinks_with_time() {
    let mut one = One::new(LeastLoad::peak_ewma(), 2);
    about(one.score(), 15e6);
    for _ in 0..3 {
        one.load.enter();
    }
    about(one.score(), 30e6 * 4.0 / 2.0);
    for _ in 0..3 {
        one.load.leave();
    }

    // 30 ms, ten seconds ago.
    one.now += Duration::from_secs(10);
    about(one.score(), 30e6 * 0.36788 / 2.0);
    one.ended(ms(100), &SUCCESS);
    about(one.score(), 50e6);
    about(one.later(ms(20), &SUCCESS), (100e6 * 0.36788 + 20e6 * 0.63212) / 2.0);
}

#[test]
fn a_failure_counts_as_the_longest_of_its_time_the_penalty_and_the_retry_after_up_to_its_cap() {
    let refused = |kind| Some(Outcome::rejected(Rejection::new(kind)));
    for (took, outcome, seconds) in [
        (ms(1), Some(Outcome::failure()), 5.0),
        (ms(10_000), Some(Outcome::failure()), 10.0),
        (ms(1), Some(Outcome::soft()), 5.0),
        (ms(1), Some(Outcome::soft().with_retry_after(ms(2_000))), 5.0),
        (ms(1), Some(Outcome::soft().with_retry_after(ms(60_000))), 60.0),
        (ms(1), Some(Outcome::failure().with_retry_after(ms(400_000))), 300.0),
        (ms(1), refused(RejectionKind::CircuitOpen), 5.0),
        (ms(1), refused(RejectionKind::RateLimited), 5.0),
        // These say nothing of the endpoint: it stays at its first 30 ms.
        (ms(100), refused(RejectionKind::Denied), 0.03),
        (ms(100), refused(RejectionKind::CostTooHigh), 0.03),
        (ms(100), Some(Outcome::ignored()), 0.03),
        // And these that it did not answer for so long.
        (ms(20), refused(RejectionKind::DeadlineExceeded), 0.03),
        (ms(100), refused(RejectionKind::DeadlineExceeded), 0.1),
        (ms(20), None, 0.03),
        (ms(100), None, 0.1),
    ] {
        let one = One::new(LeastLoad::peak_ewma(), 1);
        one.score();
        one.ended(took, &outcome);
        let score = one.score();
        assert!((score - seconds * 1e9).abs() < seconds * 1e6, "{took:?} {outcome:?}: {score}");
    }
}

#[test]
fn settings_of_a_peak_are_taken() {
    let rules = LeastLoad::peak_ewma().decay(ms(1000)).initial(ms(1)).penalty(ms(50)).most_penalty(ms(70));
    let mut one = One::new(rules, 1);
    about(one.score(), 1e6);
    one.ended(ms(1), &Some(Outcome::failure()));
    about(one.score(), 50e6);
    one.ended(ms(1), &Some(Outcome::failure().with_retry_after(ms(60))));
    about(one.score(), 60e6);
    one.ended(ms(1), &Some(Outcome::failure().with_retry_after(ms(90))));
    about(one.score(), 70e6);
    one.now += ms(1000);
    about(one.score(), 70e6 * 0.36788);
}

#[test]
fn a_response_time_is_a_mean_over_time_that_fast_failures_do_not_lower() {
    let mut one = One::new(LeastLoad::response_time(), 1);
    about(one.score(), 30e6);
    let mean = 30e6 * 0.36788 + 100e6 * 0.63212;
    about(one.later(ms(100), &SUCCESS), mean);
    about(one.later(ms(1), &Some(Outcome::failure())), mean);
    let failed = mean * 0.36788 + 200e6 * 0.63212;
    about(one.later(ms(200), &Some(Outcome::failure())), failed);
    // Dropped: sooner than it would have been answered, and later.
    about(one.later(ms(10), &None), failed * 0.36788);
    one.ended(ms(900), &None);
    let dropped = failed * 0.36788 + 900e6 * 0.63212;
    about(one.score(), dropped);
    one.load.enter();
    about(one.score(), dropped * 2.0);
}

#[test]
fn bandwidth_is_what_came_in_the_last_ten_seconds() {
    let mut one: One<Bandwidth> = One::new(LeastLoad::bandwidth(), 2);
    let at = |millis| START + ms(millis);
    assert_eq!(one.score(), 0.0);
    one.rules.received(&one.load, 600, at(0));
    one.rules.received(&one.load, 400, at(400));
    one.rules.received(&one.load, 500, at(5000));
    for (millis, bytes) in [
        (5000, 1500.0),
        (9999, 1500.0),
        // Half of the first second has left the window.
        (10_500, 1000.0),
        (11_000, 500.0),
        (15_250, 375.0),
        (16_000, 0.0),
        // The clock goes back a little.
        (4000, 1500.0),
    ] {
        one.now = at(millis);
        assert_eq!(one.score(), bytes / 2.0, "after {millis} ms");
    }

    // The same place of the window, eleven seconds on.
    one.rules.received(&one.load, 7, at(11_000));
    one.now = at(11_000);
    assert_eq!(one.score(), 507.0 / 2.0);
}

#[test]
fn a_cold_endpoint_scores_by_its_time_and_a_hot_one_above_all_of_these_by_its_calls() {
    let one = One::new(LeastLoad::hot_cold(), 2);
    about(one.score(), 30e6);
    one.load.enter();
    about(one.score(), 1e30 * 1.5);
    one.load.leave();
    one.ended(ms(1), &Some(Outcome::failure()));
    about(one.score(), 5e9);
}

#[test]
fn an_endpoint_is_hot_above_the_quantile_of_the_loads_that_were_seen() {
    let farm = Farm::new(&[1; 100]);
    for (calls, load) in farm.loads.iter().enumerate() {
        (0..calls).for_each(|_| load.enter());
    }
    let is_hot = |picker: &Least<_>, calls: usize| picker.score(&farm.loads[calls], farm.now.get()) >= 1e30;
    let seen = |quantile| {
        let picker = farm.picker(&LeastLoad::hot_cold().quantile(quantile));
        farm.shares(&picker, 2000);
        picker
    };

    let usual = seen(0.84);
    assert!(!is_hot(&usual, 60) && is_hot(&usual, 98));
    let half = seen(0.5);
    assert!(!is_hot(&half, 25) && is_hot(&half, 75));
    let (none, all) = (seen(0.0), seen(1.0));
    assert!(is_hot(&none, 0) && !is_hot(&all, 99));

    // What was seen outlives a change of the set.
    let rules = LeastLoad::hot_cold().quantile(0.5);
    let rebuilt = rules.rebuild(&half, &farm.nodes).unwrap();
    assert!(!is_hot(&rebuilt, 25) && is_hot(&rebuilt, 75));
}

#[test]
fn a_load_takes_two_cache_lines() {
    assert!(size_of::<Load>() <= 128);
}

/// Something that happens to an endpoint: how far time goes, and whether back, how long a call took, how it ended, and its bytes.
type Step = (u64, bool, u64, Option<Outcome>, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Some(Outcome::success())),
        1 => Just(Some(Outcome::failure())),
        1 => any::<u64>().prop_map(|wait| Some(Outcome::soft().with_retry_after(Duration::from_nanos(wait)))),
        1 => Just(Some(Outcome::ignored())),
        1 => Just(None),
    ];
    let span = || prop_oneof![Just(0), 0..2_000_000_000_u64, any::<u64>()];
    let bytes = prop_oneof![0..100_000_u64, any::<u64>()];
    proptest::collection::vec((span(), proptest::bool::weighted(0.2), span(), outcome, bytes), 1..60)
}

fn survives<S: Score>(rules: LeastLoadRules<S>, weight: u32, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut one = One::new(rules, weight);
    for (span, is_back, took, outcome, bytes) in steps {
        let span = Duration::from_nanos(*span);
        one.now = if *is_back { one.now - span } else { one.now + span };
        one.load.enter();
        one.ended(Duration::from_nanos(*took), outcome);
        one.rules.received(&one.load, *bytes, one.now);
        let score = one.score();
        prop_assert!(score.is_finite() && score >= 0.0, "{score}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn scores_are_numbers_from_0_whatever_the_clock_does(
        steps in steps(),
        weight in prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()],
    ) {
        survives(LeastLoad::peak_ewma(), weight, &steps)?;
        survives(LeastLoad::response_time(), weight, &steps)?;
        survives(LeastLoad::bandwidth(), weight, &steps)?;
        survives(LeastLoad::hot_cold().quantile(1.0), weight, &steps)?;
        survives(LeastLoad::connections(), weight, &steps)?;
    }

    #[test]
    fn a_score_never_rises_without_a_call(
        took in 0..u64::MAX / 2,
        mut spans in proptest::collection::vec(prop_oneof![0..5_000_000_000_u64, 0..50 * 86_400_000_000_000_u64], 2..20),
    ) {
        fn sinks<S: Score>(rules: LeastLoadRules<S>, took: u64, spans: &[u64]) -> Result<(), TestCaseError> {
            let mut one = One::new(rules, 1);
            one.now = START + Duration::from_nanos(u64::MAX / 2);
            one.ended(Duration::from_nanos(took), &SUCCESS);
            one.rules.received(&one.load, took, one.now);
            let (start, mut last) = (one.now, f64::INFINITY);
            for span in spans {
                one.now = start + Duration::from_nanos(*span);
                prop_assert!(one.score() <= last, "{} after {last}", one.score());
                last = one.score();
            }
            Ok(())
        }
        spans.sort_unstable();
        sinks(LeastLoad::peak_ewma(), took, &spans)?;
        sinks(LeastLoad::response_time(), took, &spans)?;
        sinks(LeastLoad::bandwidth(), took, &spans)?;
        sinks(LeastLoad::hot_cold(), took, &spans)?;
    }

    #[test]
    fn a_peak_lies_between_the_least_and_the_largest_sample(times in proptest::collection::vec(1..10_000_u64, 1..40)) {
        let mut one = One::new(LeastLoad::peak_ewma().initial(ms(times[0])), 1);
        for &took in &times {
            one.now += ms(300);
            one.ended(ms(took), &SUCCESS);
        }
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        let score = one.score() / 1e6;
        prop_assert!(*least as f64 * 0.999 <= score && score <= *most as f64 * 1.001, "{score}");
        prop_assert!(score >= *times.last().unwrap() as f64 * 0.999 * (1.0 - (-0.03_f64).exp()));
    }
}
