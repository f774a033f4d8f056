//! What holds of all endpoints in all conditions.

use buttress_balance::{Outlook, Part, Priorities};
use buttress_core::{Endpoint, Health, Timestamp};
use proptest::prelude::*;

use crate::{hashes, look, outlook, percents};

const ZONES: [&str; 3] = ["own", "b", "c"];

#[derive(Clone, Debug)]
struct Given {
    priority: u32,
    zone: usize,
    weight: u32,
    health: u8,
    draining: bool,
    percent: u8,
}

fn given() -> impl Strategy<Value = Vec<Given>> {
    let weight = prop_oneof![4 => 1..10_u32, 1 => Just(0), 1 => Just(u32::MAX)];
    let percent = prop_oneof![6 => Just(100_u8), 1 => any::<u8>()];
    let one = (0..4_u32, 0..4_usize, weight, 0..4_u8, prop::bool::weighted(0.1), percent).prop_map(
        |(priority, zone, weight, health, draining, percent)| Given {
            priority,
            zone,
            weight,
            health,
            draining,
            percent,
        },
    );
    prop::collection::vec(one, 0..40)
}

fn endpoints(given: &[Given]) -> Vec<Endpoint> {
    let endpoint = |(at, one): (usize, &Given)| {
        let mut endpoint = Endpoint::new(format!("{at}")).with_priority(one.priority).with_weight(one.weight);
        if let Some(&zone) = ZONES.get(one.zone) {
            endpoint = endpoint.with_zone(zone);
        }
        let health =
            [Health::Unknown, Health::Healthy, Health::Degraded, Health::Unhealthy][usize::from(one.health)];
        endpoint.set_health(health, Timestamp::ZERO);
        endpoint.set_weight_percent(one.percent, Timestamp::ZERO);
        if one.draining {
            endpoint.drain(Timestamp::ZERO);
        }
        endpoint
    };
    given.iter().enumerate().map(endpoint).collect()
}

fn rules() -> impl Strategy<Value = Priorities> {
    (any::<bool>(), any::<bool>(), prop_oneof![Just(0_u8), Just(50), Just(100)], 0.0..=1.0).prop_map(
        |(active_active, zone, panic, fair)| {
            let rules =
                if active_active { Priorities::active_active() } else { Priorities::active_passive() };
            let rules = rules.panic_below(panic).fair_part(fair);
            if zone { rules.prefer_zone("own") } else { rules }
        },
    )
}

proptest! {
    #[test]
    fn a_hash_goes_to_a_tier_that_has_someone_if_any_tier_has(given in given(), rules in rules(), hash in any::<u64>()) {
        let endpoints = endpoints(&given);
        let levels = rules.levels(&endpoints);
        let outlook = outlook(&levels, &endpoints);

        let serves = |tier: buttress_balance::Tier| {
            (0..endpoints.len()).any(|at| {
                endpoints[at].weight() > 0 && levels.of(at) == tier.level() && tier.takes(endpoints[at].condition())
            })
        };
        let all: Vec<_> = outlook.order(hash).collect();
        prop_assert!(all.iter().all(|&tier| serves(tier)));
        prop_assert_eq!(outlook.pick(hash), all.first().copied());
        prop_assert_eq!(all.len(), outlook.tiers().len());
        prop_assert!(outlook.tiers().iter().all(|tier| all.contains(tier)), "each comes once");

        // Everyone who is usable belongs to one tier, and with a threshold everyone in service keeps someone.
        for (at, endpoint) in endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.weight() > 0) {
            let of = all.iter().filter(|tier| tier.level() == levels.of(at) && tier.takes(endpoint.condition())).count();
            prop_assert!(of <= 1);
            prop_assert!(of == 1 || !endpoint.condition().is_usable());
        }
    }

    #[test]
    fn shares_add_up_to_all_and_picks_follow_them(given in given(), rules in rules()) {
        let endpoints = endpoints(&given);
        let levels = rules.levels(&endpoints);
        let outlook = outlook(&levels, &endpoints);
        prop_assume!(!outlook.is_empty());

        let shares = percents(&outlook, levels.all().len());
        let all: f64 = (0..levels.all().len()).map(|level| outlook.share(level)).sum();
        prop_assert_eq!(all, 1.0, "to the last part, so that no hash is without a level");

        let mut picks = vec![0_u32; shares.len()];
        hashes(2000).for_each(|hash| picks[outlook.pick(hash).expect("there is someone").level()] += 1);
        for (share, &count) in shares.iter().zip(&picks) {
            // Five standard deviations, and one for small numbers.
            let off = 5.0 * (2000.0 * share / 100.0 * (1.0 - share / 100.0)).sqrt() + 1.0;
            prop_assert!((f64::from(count) - 20.0 * share).abs() <= off, "{shares:?} {picks:?}");
        }
    }

    #[test]
    fn hashes_move_to_earlier_priorities_alone_as_the_first_recovers(
        healthy in prop::collection::vec(0..=10_usize, 2..4), more in 1..=10_usize,
    ) {
        // Enough in the last one that nothing is ever in panic.
        let with = |first: usize| {
            let mut percents: Vec<usize> = healthy.iter().map(|tenths| tenths * 10).collect();
            percents[0] = first * 10;
            percents.push(100);
            look(&Priorities::default(), &crate::healthy(&percents))
        };
        let (before, after) = (with(healthy[0]), with((healthy[0] + more).min(10)));

        for hash in hashes(500) {
            let level = |outlook: &Outlook| outlook.pick(hash).expect("the last is well").level();
            prop_assert!(level(&after) <= level(&before));
        }
    }

    #[test]
    fn health_is_believed_or_all_in_service_are_used(given in given(), rules in rules()) {
        let endpoints = endpoints(&given);
        let outlook = look(&rules, &endpoints);

        for tier in outlook.tiers() {
            prop_assert_eq!(outlook.panics(tier.level()), tier.part() == Part::InService);
        }
    }
}

#[test]
fn keys_that_spill_are_spread_over_all_hashes() {
    let outlook = look(&Priorities::default(), &crate::healthy(&[50, 100]));

    // The upper bits of a hash say where on a ring it is.
    let mut spilled = [0_u32; 16];
    let mut all = [0_u32; 16];
    for hash in hashes(16_000) {
        let sixteenth = (hash >> 60) as usize;
        all[sixteenth] += 1;
        spilled[sixteenth] += u32::from(outlook.pick(hash).expect("most are well").level() == 1);
    }
    for (spilled, all) in spilled.into_iter().zip(all) {
        let share = f64::from(spilled) / f64::from(all);
        assert!((share - 0.3).abs() < 0.08, "{share}");
    }
}
