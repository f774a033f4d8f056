//! A client's own part of many endpoints.

use buttress_balance::Subset;
use buttress_core::Endpoint;
use proptest::prelude::*;

fn named(names: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
    names.into_iter().map(|name| Endpoint::new(format!("10.0.0.{name}:80"))).collect()
}

fn names(endpoints: &[Endpoint]) -> Vec<&str> {
    let mut names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name().as_str()).collect();
    names.sort_unstable();
    names
}

proptest! {
    #[test]
    fn one_that_joins_or_leaves_changes_one_entry_at_most(count in 1..60_u32, gone in 0..60_u32, size in 1..20_usize, seed in any::<u64>()) {
        let all = named(0..count);
        let rest = named((0..count).filter(|&name| name != gone % count));
        let (before, after) = (Subset::rendezvous(size, seed).choose(&all), Subset::rendezvous(size, seed).choose(&rest));

        prop_assert_eq!(before.len(), size.min(all.len()));
        prop_assert_eq!(after.len(), size.min(rest.len()));
        let (before, after) = (names(&before), names(&after));
        prop_assert!(before.iter().filter(|name| !after.contains(name)).count() <= 1);
        prop_assert!(after.iter().filter(|name| !before.contains(name)).count() <= 1);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(count in 1..40_u32, size in 1..20_usize, seed in any::<u64>()) {
        let (one, other) = (named(0..count), named((0..count).rev()));
        let subset = Subset::rendezvous(size, seed);

        let (one, other) = (subset.choose(&one), subset.choose(&other));
        prop_assert_eq!(names(&one), names(&other));
    }
}

#[test]
fn clients_draw_different_parts_and_all_endpoints_are_used() {
    let all = named(0..100);
    let mut clients = vec![0_i32; 100];
    for seed in 0..400 {
        for chosen in Subset::rendezvous(20, seed).choose(&all) {
            clients[all.iter().position(|one| one.id() == chosen.id()).expect("it is one of them")] += 1;
        }
    }

    // 80 each on average; five standard deviations.
    assert!(clients.iter().all(|&count| (count - 80).abs() <= 40), "{clients:?}");
}

#[test]
fn each_priority_has_its_part() {
    let spares = named(100..200).into_iter().map(|spare| spare.with_priority(1));
    let all: Vec<Endpoint> = named(0..5).into_iter().chain(spares).collect();

    let chosen = Subset::rendezvous(10, 7).choose(&all);

    assert_eq!(chosen.iter().filter(|endpoint| endpoint.priority() == 0).count(), 5);
    assert_eq!(chosen.iter().filter(|endpoint| endpoint.priority() == 1).count(), 10);
}

#[test]
fn a_part_keeps_the_order_and_the_endpoints_of_the_list() {
    let all = named(0..10);

    assert_eq!(names(&Subset::rendezvous(10, 1).choose(&all)), names(&all));
    assert_eq!(Subset::rendezvous(0, 1).choose(&all).len(), 1);
    let chosen = Subset::rendezvous(4, 1).choose(&all);
    let places: Vec<_> =
        chosen.iter().map(|one| all.iter().position(|other| one.id() == other.id())).collect();
    assert!(places.is_sorted());
}
