//! What Envoy has published of its rules, and what is ours.
//!
//! Envoy's numbers are whole percents, so they are right to one percent. Two of its rows do not follow from its rule and its
//! source, and are left out: 50 % and 60 % healthy as 50/50, and 25 % and 100 % as 25/75.

use buttress_balance::{Part, Priorities};
use buttress_core::{Endpoint, Health, Timestamp};

use crate::{assert_about, healthy, look, percents, priority};

#[test]
fn priorities_share_traffic_as_in_envoys_tables() {
    let rows: [(&[usize], &[f64]); 20] = [
        (&[100, 100], &[100.0, 0.0]),
        (&[72, 100], &[100.0, 0.0]),
        (&[71, 100], &[99.0, 1.0]),
        (&[50, 100], &[70.0, 30.0]),
        (&[25, 100], &[35.0, 65.0]),
        (&[0, 100], &[0.0, 100.0]),
        (&[72, 72], &[100.0, 0.0]),
        (&[71, 71], &[99.0, 1.0]),
        (&[50, 50], &[70.0, 30.0]),
        (&[25, 25], &[50.0, 50.0]),
        (&[5, 65], &[7.0, 93.0]),
        (&[100, 100, 100], &[100.0, 0.0, 0.0]),
        (&[72, 72, 100], &[100.0, 0.0, 0.0]),
        (&[71, 71, 100], &[99.0, 1.0, 0.0]),
        (&[50, 50, 100], &[70.0, 30.0, 0.0]),
        (&[25, 100, 100], &[35.0, 65.0, 0.0]),
        (&[25, 25, 100], &[35.0, 35.0, 30.0]),
        (&[25, 25, 20], &[36.0, 36.0, 28.0]),
        (&[5], &[100.0]),
        (&[0], &[100.0]),
    ];
    for (percent, traffic) in rows {
        let outlook = look(&Priorities::default(), &healthy(percent));
        let actual = percents(&outlook, traffic.len());
        assert_about(&actual, traffic, 1.0);
        assert_about(&[actual.iter().sum()], &[100.0], 1e-6);
    }
}

#[test]
fn a_share_is_exact_where_envoy_rounds() {
    let outlook = look(&Priorities::default(), &healthy(&[71, 100]));

    assert_about(&percents(&outlook, 2), &[99.4, 0.6], 1e-6);
}

#[test]
fn a_priority_panics_as_in_envoys_tables() {
    let rows: [(&[usize], &[bool]); 13] = [
        (&[72, 100], &[false, false]),
        (&[71, 100], &[false, false]),
        (&[25, 100], &[false, false]),
        (&[0, 100], &[false, false]),
        (&[72, 72], &[false, false]),
        (&[50, 60], &[false, false]),
        (&[25, 25], &[true, true]),
        (&[5, 65], &[true, false]),
        (&[71], &[false]),
        (&[50], &[false]),
        (&[49], &[true]),
        (&[0], &[true]),
        (&[0, 0], &[true, true]),
    ];
    for (percent, panics) in rows {
        let outlook = look(&Priorities::default(), &healthy(percent));
        let actual: Vec<bool> = (0..panics.len()).map(|level| outlook.panics(level)).collect();
        assert_eq!(actual, panics, "{percent:?}");
    }
}

#[test]
fn degraded_endpoints_take_what_healthy_ones_cannot_as_in_envoys_table() {
    let rows = [
        ((100, 0), (100.0, 0.0)),
        ((71, 0), (100.0, 0.0)),
        ((71, 29), (99.0, 1.0)),
        ((25, 65), (35.0, 65.0)),
        ((5, 0), (100.0, 0.0)),
    ];
    for ((healthy, degraded), (to_healthy, to_degraded)) in rows {
        let outlook = look(&Priorities::default(), &priority(0, 100, healthy, degraded));
        let degraded = 100.0 * outlook.degraded_share(0);
        assert_about(&[percents(&outlook, 1)[0] - degraded, degraded], &[to_healthy, to_degraded], 1.0);
    }
}

#[test]
fn degraded_endpoints_take_traffic_before_the_next_priority_does() {
    let endpoints = [priority(0, 100, 50, 10), priority(1, 100, 100, 0)].concat();

    let outlook = look(&Priorities::default(), &endpoints);

    assert_about(&percents(&outlook, 2), &[84.0, 16.0], 1e-6);
    assert_about(&[outlook.degraded_share(0)], &[0.14], 1e-6);
}

#[test]
fn active_active_priorities_share_by_weight_as_in_envoys_table_of_localities() {
    let rows = [(100, 33.0), (70, 33.0), (69, 32.0), (50, 26.0), (25, 15.0), (0, 0.0)];
    for (percent, share) in rows {
        let light = priority(0, 100, percent, 0);
        let heavy = priority(1, 100, 100, 0).into_iter().map(|endpoint| endpoint.with_weight(2));
        let endpoints: Vec<_> = light.into_iter().chain(heavy).collect();

        let outlook = look(&Priorities::active_active(), &endpoints);

        assert_about(&percents(&outlook, 2), &[share, 100.0 - share], 1.0);
        assert!(!outlook.panics(0) && !outlook.panics(1));
    }
}

#[test]
fn active_active_priorities_panic_together() {
    let outlook = look(&Priorities::active_active(), &healthy(&[80, 10]));
    assert!(outlook.panics(0) && outlook.panics(1), "45 % are well");
    assert_about(&percents(&outlook, 2), &[50.0, 50.0], 1e-6);

    let outlook = look(&Priorities::active_active(), &healthy(&[90, 10]));
    assert!(!outlook.panics(0) && !outlook.panics(1), "50 % are well");
}

#[test]
fn in_panic_all_that_is_in_service_is_used_and_nothing_else() {
    let endpoints = priority(0, 10, 40, 0);
    endpoints[0].drain(Timestamp::ZERO);
    endpoints[9].maintain(Timestamp::ZERO);

    let outlook = look(&Priorities::default(), &endpoints);

    let tier = outlook.pick(1).expect("in panic everyone is used");
    assert_eq!(tier.part(), Part::InService);
    let used: Vec<usize> = (0..10).filter(|&at| tier.takes(endpoints[at].condition())).collect();
    assert_eq!(used, (1..9).collect::<Vec<_>>());
}

#[test]
fn what_is_out_of_service_spills_and_does_not_cause_panic() {
    let endpoints = [priority(0, 10, 100, 0), priority(1, 10, 20, 0)].concat();
    endpoints[..7].iter().for_each(|endpoint| assert!(endpoint.maintain(Timestamp::ZERO)));

    let outlook = look(&Priorities::default(), &endpoints);

    assert_about(&percents(&outlook, 2), &[100.0 * 3.0 / 5.0, 100.0 * 2.0 / 5.0], 1e-6);
    assert!(!outlook.panics(0), "all three that are in service are well");
    assert!(outlook.panics(1));
}

#[test]
fn where_no_one_is_well_traffic_goes_by_weight() {
    let endpoints = [priority(0, 10, 0, 0), priority(1, 30, 0, 0)].concat();

    let outlook = look(&Priorities::default(), &endpoints);

    assert_about(&percents(&outlook, 2), &[25.0, 75.0], 1e-6);
}

#[test]
fn without_panic_there_may_be_no_one() {
    let endpoints = healthy(&[0, 0]);
    let rules = Priorities::default().panic_below(0);

    let outlook = look(&rules, &endpoints);
    assert!(outlook.is_empty());
    assert_eq!(outlook.pick(7), None);
    assert_eq!(outlook.order(7).count(), 0);

    endpoints[150].set_health(Health::Degraded, Timestamp::ZERO);
    let outlook = look(&rules, &endpoints);
    assert_eq!(outlook.pick(7).map(|tier| (tier.level(), tier.part())), Some((1, Part::Degraded)));
}

#[test]
fn no_endpoints_are_no_levels() {
    let outlook = look(&Priorities::default().prefer_zone("a"), &[]);

    assert!(outlook.is_empty());
    assert_eq!(outlook.pick(7), None);
}

#[test]
fn endpoints_count_by_their_weight_and_by_what_they_ask_for() {
    let endpoints = [
        Endpoint::new("a").with_weight(3),
        Endpoint::new("b"),
        Endpoint::new("spare").with_priority(1),
        Endpoint::new("off").with_weight(0),
    ];
    endpoints[0].set_weight_percent(50, Timestamp::ZERO);

    let outlook = look(&Priorities::default(), &endpoints);
    assert_about(&percents(&outlook, 2), &[87.5, 12.5], 1e-6);
    assert_about(&[outlook.usable_weight(0), outlook.usable_weight(1)], &[2.5, 1.0], 1e-9);

    endpoints[0].set_weight_percent(u8::MAX, Timestamp::ZERO);
    assert_about(&percents(&look(&Priorities::default(), &endpoints), 2), &[100.0, 0.0], 1e-9);
}

#[test]
fn the_smallest_weight_beside_the_largest_is_not_lost() {
    let heavy = (0..1000).map(|n| Endpoint::new(format!("{n}")).with_weight(u32::MAX));
    let endpoints: Vec<Endpoint> = heavy.chain([Endpoint::new("light")]).collect();
    endpoints[..1000]
        .iter()
        .for_each(|endpoint| assert!(endpoint.set_health(Health::Unhealthy, Timestamp::ZERO)));

    for rules in [Priorities::active_passive(), Priorities::active_active()] {
        let outlook = look(&rules.panic_below(0), &endpoints);
        assert_eq!(outlook.pick(u64::MAX).map(|tier| tier.part()), Some(Part::Healthy));
        assert_about(&percents(&outlook, 1), &[100.0], 1e-9);
    }
}

#[test]
fn a_factor_of_one_moves_traffic_at_the_first_failure() {
    let outlook = look(&Priorities::default().spill_factor(1.0), &healthy(&[99, 100]));

    assert_about(&percents(&outlook, 2), &[99.0, 1.0], 1e-6);
}

#[test]
#[should_panic(expected = "spill factor 0.9: must be from 1 to 1000")]
fn a_factor_below_one_is_refused() {
    let _ = Priorities::default().spill_factor(0.9);
}

#[test]
#[should_panic(expected = "panic below 101 %")]
fn a_threshold_above_all_is_refused() {
    let _ = Priorities::default().panic_below(101);
}

#[test]
#[should_panic(expected = "fair part NaN")]
fn a_part_that_is_no_number_is_refused() {
    let _ = Priorities::default().fair_part(f64::NAN);
}
