//! Turns by what endpoints report of their load, by the rules of gRPC's A58.

use std::time::Duration;

use buttress_balance::{LeastLoad, Policy, Reported, ReportedRules};
use buttress_core::{LoadReport, Outcome};

use crate::{Farm, ms, scatter};

const RULES: ReportedRules = LeastLoad::reported();

fn report(rate: f32, utilization: f32, errors: f32) -> LoadReport {
    LoadReport::new().with_rate(rate).with_cpu(utilization).with_errors(errors)
}

/// Each endpoint reports in this moment; one of `None` does not.
fn tell(farm: &Farm, rules: &ReportedRules, reports: &[Option<LoadReport>]) {
    for (endpoint, report) in reports.iter().enumerate() {
        let outcome = report.map_or(Outcome::success(), |report| Outcome::success().with_load(report));
        farm.ended(rules, endpoint, ms(5), &Some(outcome));
    }
}

/// The shares that the next pick goes by, of the largest.
fn shares(farm: &Farm, picker: &Reported) -> Vec<f64> {
    farm.glance(picker, 7);
    (0..farm.nodes.len()).map(|endpoint| f64::from(picker.share(endpoint)) / 65_535.0).collect()
}

#[track_caller]
fn close(shares: &[f64], expected: &[f64]) {
    assert_eq!(shares.len(), expected.len());
    let is_close = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(is_close, "{shares:?} are not {expected:?}");
}

/// Reports for longer than the blackout: the shares after it.
fn shares_of(weights: &[u32], rules: ReportedRules, reports: &[Option<LoadReport>]) -> Vec<f64> {
    let farm = Farm::new(weights);
    let picker = farm.picker(&rules);
    tell(&farm, &rules, reports);
    farm.advance(ms(10_000));
    tell(&farm, &rules, reports);
    shares(&farm, &picker)
}

#[test]
fn a_weight_is_qps_by_utilization_and_failures() {
    // 100 / 0.5 = 200, 100 / 0.25 = 400, 100 / (0.25 + 10 / 100 · 1) = 285.7, 50 / 1.25 = 40.
    let reports = [
        report(100.0, 0.5, 0.0),
        report(100.0, 0.25, 0.0),
        report(100.0, 0.25, 10.0),
        report(50.0, 1.25, 0.0),
    ];
    let reports = reports.map(Some);
    close(&shares_of(&[1; 4], RULES, &reports), &[0.5, 1.0, 0.7143, 0.1]);
    // 100 / (0.25 + 0.1 · 2) = 222.2.
    close(&shares_of(&[1; 4], RULES.error_penalty(2.0), &reports), &[0.5, 1.0, 0.5556, 0.1]);
    close(&shares_of(&[1; 4], RULES.error_penalty(0.0), &reports), &[0.5, 1.0, 1.0, 0.1]);

    // The application knows better than the processors.
    let own = Some(report(100.0, 0.5, 0.0).with_application(1.0));
    close(&shares_of(&[1; 2], RULES, &[own, Some(report(100.0, 0.5, 0.0))]), &[0.5, 1.0]);
}

#[test]
fn one_without_a_weight_gets_the_mean_times_its_configured_weight_by_theirs() {
    let reports = [Some(report(100.0, 1.0, 0.0)), Some(report(300.0, 1.0, 0.0)), None];
    close(&shares_of(&[1; 3], RULES, &reports), &[1.0 / 3.0, 1.0, 2.0 / 3.0]);
    close(&shares_of(&[2, 2, 1], RULES, &reports), &[1.0 / 3.0, 1.0, 1.0 / 3.0]);
    for nothing in [report(0.0, 1.0, 0.0), report(100.0, 0.0, 50.0), LoadReport::new()] {
        let reports = [reports[0], reports[1], Some(nothing)];
        close(&shares_of(&[1; 3], RULES, &reports), &[1.0 / 3.0, 1.0, 2.0 / 3.0]);
    }
}

#[test]
fn where_fewer_than_two_report_configured_weights_stand() {
    let one = Some(report(1.0, 1.0, 0.0));
    close(&shares_of(&[1, 4, 2], RULES, &[None, None, None]), &[0.25, 1.0, 0.5]);
    close(&shares_of(&[1, 4, 2], RULES, &[one, None, None]), &[0.25, 1.0, 0.5]);
    close(&shares_of(&[1, 4, 0], RULES, &[None, None, one]), &[0.25, 1.0, 0.0]);
}

#[test]
fn no_weight_counts_for_more_than_ten_times_the_mean_or_less_than_a_hundredth() {
    let mut reports = vec![Some(report(1.0, 1.0, 0.0)); 99];
    reports.push(Some(report(1e9, 1.0, 0.0)));
    let shares = shares_of(&[1; 100], RULES, &reports);
    // The mean is 10 million: 10^8 and 10^5 are left.
    close(&shares, &[&[0.001; 99][..], &[1.0]].concat());
}

#[test]
fn a_weight_counts_after_the_blackout_and_until_it_expires() {
    let farm = Farm::new(&[1, 1]);
    let picker = farm.picker(&RULES);
    let reports = [Some(report(100.0, 1.0, 0.0)), Some(report(50.0, 1.0, 0.0))];

    tell(&farm, &RULES, &reports);
    farm.advance(ms(9_900));
    tell(&farm, &RULES, &reports);
    close(&shares(&farm, &picker), &[1.0, 1.0]);
    farm.advance(ms(1_100));
    close(&shares(&farm, &picker), &[1.0, 0.5]);

    // 178.9 s and 180.1 s after the last report.
    farm.advance(ms(177_800));
    close(&shares(&farm, &picker), &[1.0, 0.5]);
    farm.advance(ms(1_200));
    close(&shares(&farm, &picker), &[1.0, 1.0]);

    // A new blackout.
    tell(&farm, &RULES, &reports);
    farm.advance(ms(9_000));
    close(&shares(&farm, &picker), &[1.0, 1.0]);
    farm.advance(ms(2_000));
    close(&shares(&farm, &picker), &[1.0, 0.5]);
}

#[test]
fn weights_are_taken_anew_once_a_second_and_when_the_clock_went_back() {
    let rules = RULES.blackout(Duration::ZERO);
    let farm = Farm::new(&[1, 1]);
    let picker = farm.picker(&rules);
    let told = |a, b| tell(&farm, &rules, &[Some(report(a, 1.0, 0.0)), Some(report(b, 1.0, 0.0))]);

    told(100.0, 50.0);
    close(&shares(&farm, &picker), &[1.0, 0.5]);
    told(50.0, 100.0);
    farm.advance(ms(999));
    close(&shares(&farm, &picker), &[1.0, 0.5]);
    farm.advance(ms(1));
    close(&shares(&farm, &picker), &[0.5, 1.0]);

    farm.now.set(farm.now.get() - Duration::from_secs(500));
    told(100.0, 50.0);
    close(&shares(&farm, &picker), &[1.0, 0.5]);
}

#[test]
fn turns_come_as_often_as_shares_say_and_evenly() {
    let reports = [report(100.0, 1.0, 0.0), report(50.0, 1.0, 0.0), report(25.0, 1.0, 0.0)].map(Some);
    let rules = RULES.blackout(Duration::ZERO);
    let farm = Farm::new(&[1; 3]);
    let picker = farm.picker(&rules);
    tell(&farm, &rules, &reports);
    let turns: Vec<usize> = (0..7000).map(|_| farm.glance(&picker, 7).unwrap()).collect();
    for (endpoint, expected) in [4, 2, 1].into_iter().enumerate() {
        let count = |turns: &[usize]| turns.iter().filter(|&&turn| turn == endpoint).count();
        assert!(count(&turns).abs_diff(expected * 1000) <= 2, "{endpoint}: {}", count(&turns));
        // In each stretch of seven too, but for one or two.
        assert!(turns.chunks(7).all(|turns| count(turns).abs_diff(expected) <= 2));
    }
}

#[test]
fn schedules_begin_at_a_place_by_chance_and_go_on_where_the_set_changes() {
    let farm = Farm::new(&[1; 10]);
    let first = |hash| farm.glance(&farm.picker(&RULES), hash).unwrap();
    let mut firsts: Vec<usize> = (0..100).map(|at| first(scatter(at))).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 10);

    let picker = farm.picker(&RULES);
    let last = farm.glance(&picker, scatter(3)).unwrap();
    let rebuilt = RULES.rebuild(&picker, &farm.nodes).unwrap();
    assert_eq!(farm.glance(&rebuilt, scatter(4)), Some((last + 1) % 10));
}

#[test]
fn where_most_are_down_the_others_share_by_what_they_report() {
    let rules = RULES.blackout(Duration::ZERO);
    let mut farm = Farm::new(&[1; 200]);
    farm.down = (4..200).collect();
    let picker = farm.picker(&rules);
    let reports: Vec<_> =
        (0..200).map(|at| Some(report(if at % 2 == 0 { 30.0 } else { 10.0 }, 1.0, 0.0))).collect();
    tell(&farm, &rules, &reports);
    let shares = farm.shares(&picker, 4000);
    assert_eq!(shares[4..].iter().sum::<u64>(), 0);
    for (endpoint, expected) in [0.375, 0.125, 0.375, 0.125].into_iter().enumerate() {
        assert!(crate::is_chance(shares[endpoint], 4000, expected, 4.0), "{:?}", &shares[..4]);
    }
}
