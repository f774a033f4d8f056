//! The own zone comes first, where it is large enough.

use buttress_balance::{Part, Place, Priorities};
use buttress_core::{Endpoint, Health, Timestamp};

use crate::{assert_about, look, percents};

fn zone(name: &'static str, count: usize) -> impl Iterator<Item = Endpoint> {
    (0..count).map(move |at| Endpoint::new(format!("{name}{at}")).with_zone(name))
}

fn own() -> Priorities {
    Priorities::default().prefer_zone("own")
}

fn fail(endpoints: &[Endpoint]) {
    endpoints.iter().for_each(|endpoint| assert!(endpoint.set_health(Health::Unhealthy, Timestamp::ZERO)));
}

#[test]
fn the_own_zone_takes_everything_it_can_and_the_others_the_rest() {
    let endpoints: Vec<Endpoint> = zone("own", 10).chain(zone("b", 10)).chain(zone("c", 10)).collect();
    let levels = own().levels(&endpoints);
    assert_eq!(
        levels.all().iter().map(|level| level.place).collect::<Vec<_>>(),
        [Place::Local, Place::Remote]
    );
    assert_eq!([levels.of(9), levels.of(10), levels.of(29)], [0, 1, 1]);
    assert_about(&percents(&look(&own(), &endpoints), 2), &[100.0, 0.0], 1e-9);

    fail(&endpoints[..5]);
    assert_about(&percents(&look(&own(), &endpoints), 2), &[70.0, 30.0], 1e-6);

    fail(&endpoints[5..10]);
    assert_about(&percents(&look(&own(), &endpoints), 2), &[0.0, 100.0], 1e-6);
}

#[test]
fn a_zone_that_has_little_beside_others_is_not_preferred() {
    let endpoints =
        |own| zone("own", own).chain(zone("b", 25)).chain(zone("c", 25)).collect::<Vec<Endpoint>>();

    assert_eq!(own().levels(&endpoints(9)).all().len(), 1, "9 of 59 are less than a sixth");
    assert_eq!(own().levels(&endpoints(10)).all().len(), 2, "10 of 60 are a sixth");
    assert_eq!(own().fair_part(0.0).levels(&endpoints(1)).all().len(), 2);
    assert_eq!(own().fair_part(1.0).levels(&endpoints(24)).all().len(), 1);
    assert_eq!(own().levels(&zone("own", 3).collect::<Vec<_>>()).all().len(), 1, "there is no other");
    assert_eq!(own().levels(&zone("b", 3).collect::<Vec<_>>()).all()[0].place, Place::Any);
}

#[test]
fn zones_are_preferred_within_a_priority_and_not_across() {
    let spares =
        zone("own", 10).map(|endpoint| Endpoint::new(format!("spare {}", endpoint.name())).with_priority(1));
    let endpoints: Vec<Endpoint> =
        zone("b", 5).chain(zone("c", 5)).chain(spares.map(|s| s.with_zone("own"))).collect();
    assert_about(&percents(&look(&own(), &endpoints), 2), &[100.0, 0.0], 1e-9);

    fail(&endpoints[..5]);
    assert_about(&percents(&look(&own(), &endpoints), 2), &[70.0, 30.0], 1e-6);
}

#[test]
fn healthy_endpoints_of_other_zones_come_before_degraded_ones_of_the_own() {
    let endpoints: Vec<Endpoint> = zone("own", 10).chain(zone("b", 10)).collect();
    endpoints[..10]
        .iter()
        .for_each(|endpoint| assert!(endpoint.set_health(Health::Degraded, Timestamp::ZERO)));

    let outlook = look(&own(), &endpoints);

    assert_about(&[outlook.share(1), outlook.share(0), outlook.degraded_share(0)], &[0.7, 0.3, 0.3], 1e-6);
    let tiers: Vec<_> = outlook.tiers().iter().map(|tier| (tier.level(), tier.part())).collect();
    assert_eq!(tiers, [(1, Part::Healthy), (0, Part::Degraded)]);
}

#[test]
fn in_panic_no_zone_is_preferred() {
    let endpoints: Vec<Endpoint> = zone("own", 10).chain(zone("b", 30)).collect();
    fail(&endpoints[..30]);

    let outlook = look(&own(), &endpoints);

    assert!(outlook.panics(0) && outlook.panics(1));
    assert_about(&percents(&outlook, 2), &[25.0, 75.0], 1e-6);
}
