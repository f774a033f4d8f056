//! Endpoints come and go.

use super::*;

fn replace(rig: &Rig, names: &str) {
    rig.endpoints.replace(named(names), rig.time.now()).expect("each has a name of its own");
}

#[test]
fn a_new_endpoint_is_watched_from_its_first_call() {
    let rig = rig("a b", plain());

    replace(&rig, "a b c");
    rig.calls("c", Failed, 5);

    assert_eq!(rig.ejected(), "c");
}

#[test]
fn a_layer_that_was_made_before_its_endpoint_was_listed_is_its_layer_once_it_is() {
    let rig = rig("a b", plain());
    let early = Endpoint::new("c");
    let mut service = rig.outliers.layer(&early).classify(judge).blame(blame).layer(Asked);
    let mut fail = || assert!(Task::new(service.call(Failed)).run().is_ready());

    (0..10).for_each(|_| fail());
    assert!(!early.condition().is_ejected(), "it is not in the list");

    rig.endpoints.insert(early.clone(), rig.time.now());
    (0..5).for_each(|_| fail());
    assert!(early.condition().is_ejected());
    assert_eq!(rig.handle.ejected().len(), 1);
}

#[test]
fn an_endpoint_that_leaves_the_list_is_no_longer_ejected_nor_ever_again() {
    let rig = rig("a b c", plain());
    let a = rig.endpoint("a");
    rig.calls("a", Failed, 5);

    replace(&rig, "b c");
    rig.calls("b", Failed, 5);

    assert_eq!(rig.ejected(), "b", "the place of the one that left is free");
    assert!(!a.condition().is_ejected());
    (0..10).for_each(|_| call(&rig.outliers, &a, Failed));
    assert!(!a.condition().is_ejected());
    assert!(rig.handle.view("a").is_none());
}

#[test]
fn a_shorter_list_brings_back_who_may_no_longer_be_out_the_shortest_first() {
    let names: Vec<String> = (10..30).map(|n| format!("n{n}")).collect();
    let rig = rig(&names.join(" "), plain());
    rig.calls("n11", Failed, 5);
    rig.time.advance(SECOND);
    rig.calls("n10", Failed, 5);
    assert_eq!(rig.ejected(), "n10 n11", "a tenth of twenty");

    replace(&rig, &names[..10].join(" "));
    rig.look();

    assert_eq!(rig.ejected(), "n10");
    assert_eq!(rig.told().last().unwrap(), "n11 back: fewer may be ejected");
}

#[test]
fn when_the_last_usable_one_leaves_an_ejected_one_comes_back() {
    let rig = rig("a b", plain());
    rig.calls("a", Failed, 5);

    replace(&rig, "a");
    rig.look();

    assert_eq!(rig.ejected(), "");
}

#[test]
fn a_new_configuration_keeps_the_ejection_and_its_end() {
    let rig = rig("a b c", plain());
    rig.calls("a", Failed, 5);

    let heavier = named("a b c").into_iter().map(|endpoint| endpoint.with_weight(7));
    rig.endpoints.replace(heavier, rig.time.now()).unwrap();
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "a");
    assert_eq!(rig.endpoint("a").weight(), 7);

    rig.time.advance(30 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "");
}

#[test]
fn an_endpoint_that_moves_to_another_priority_counts_there() {
    let list = ["a", "b", "x", "y"].map(|name| Endpoint::new(name).with_priority(u32::from(name >= "x")));
    let rig = rig_of(list.to_vec(), plain());
    rig.calls("a", Failed, 5);

    let moved = list.map(|endpoint| endpoint.with_priority(1));
    rig.endpoints.replace(moved, rig.time.now()).unwrap();
    rig.calls("x", Failed, 5);

    assert_eq!(rig.ejected(), "a", "one of the four of its new priority is out");
}

#[test]
fn one_of_the_same_name_that_came_back_as_another_begins_anew() {
    let rig = rig("a b c", plain());
    let before = rig.endpoint("a");
    rig.calls("a", Failed, 5);

    // Nobody looks between the two.
    replace(&rig, "b c");
    replace(&rig, "a b c");
    rig.call("b", Good);
    rig.look();

    assert_eq!(rig.ejected(), "");
    assert!(!before.condition().is_ejected(), "and so does whoever holds the former one");
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "a");
}

#[test]
fn what_others_eject_takes_a_place_and_what_they_end_frees_one() {
    let rig = rig("a b c", plain());
    rig.endpoint("c").eject(rig.time.now());
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "c");

    rig.endpoint("c").uneject(rig.time.now());
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "a");

    rig.endpoint("a").uneject(rig.time.now());
    rig.calls("b", Failed, 5);
    assert_eq!(rig.ejected(), "b");
    assert!(rig.told().contains(&String::from("a back: ended elsewhere")));
}

#[test]
fn when_nobody_watches_any_more_all_ejections_end() {
    let rig = rig("a b c", plain());
    let (endpoints, layer) = (rig.endpoints.clone(), rig.outliers.layer(&rig.endpoint("a")));
    rig.handle.eject("a").unwrap();
    let out = || endpoints.list().iter().filter(|endpoint| endpoint.condition().is_ejected()).count();

    drop(rig);
    assert_eq!(out(), 1, "a layer is left, and its calls would end it");

    drop(layer);
    assert_eq!(out(), 0);
}

#[test]
fn no_endpoints_at_all_are_a_list_too() {
    let rig = rig("", plain());

    call(&rig.outliers, &Endpoint::new("stranger"), Failed);
    rig.time.advance(MINUTE);
    assert!(rig.handle.ejected().is_empty());

    replace(&rig, "a b");
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "a");
}

/// Another one takes the place of `a`: a pod of the same name, say.
fn replace_a(rig: &Rig) {
    rig.endpoints.insert(Endpoint::new("a").with_address("10.0.0.9:80"), rig.time.now());
}

#[test]
fn a_new_address_is_not_out_for_what_the_old_one_did() {
    let rig = rig("a b c", plain());
    for _ in 0..2 {
        rig.calls("a", Failed, 5);
        assert!(rig.handle.uneject("a"));
    }
    rig.calls("a", Failed, 5);
    assert_eq!(rig.told().last().unwrap(), "a ejected by consecutive_5xx for 90s, the 3. time");

    replace_a(&rig);
    rig.look();

    assert_eq!(rig.ejected(), "");
    assert_eq!(rig.told(), ["a back: its address has changed"]);
    assert_eq!(rig.handle.counts().unejections, 3);
    rig.calls("a", Failed, 5);
    assert_eq!(rig.told(), ["a ejected by consecutive_5xx for 30s, the 1. time"]);
    assert_eq!(rig.ejected(), "a");
}

#[test]
fn a_new_address_is_not_judged_by_the_calls_of_the_old_one() {
    let rig = rig("a b c", plain());
    rig.calls("a", Failed, 4);
    let mut late = Task::new(rig.service("a").call(Failed));

    replace_a(&rig);
    rig.look();

    rig.call("a", Failed);
    assert!(late.run().is_ready());
    assert_eq!(rig.ejected(), "");
    let view = rig.view("a");
    assert_eq!((view.succeeded, view.failed), (0, 1), "that of the old one is too late");
    rig.calls("a", Failed, 4);
    assert_eq!(rig.ejected(), "a");
}
