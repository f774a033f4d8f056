//! Endpoints, their conditions, and lists of them that change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use buttress_core::{Endpoint, Endpoints, EndpointsError, Health, Timestamp};
use tokio::task;

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn a_new_endpoint_is_usable_and_always_was() {
    let endpoint =
        Endpoint::new("a:1").with_weight(3).with_zone("z").with_priority(2).with_metadata("k", "v");

    assert!(endpoint.condition().is_usable());
    assert_eq!(endpoint.condition().health(), Health::Unknown);
    assert_eq!(endpoint.condition().weight_percent(), 100);
    assert_eq!(endpoint.usable_since(), Timestamp::ZERO);
    assert_eq!(endpoint.address().as_str(), "a:1");
    assert_eq!((endpoint.weight(), endpoint.priority()), (3, 2));
    assert_eq!(endpoint.zone().map(|zone| zone.as_str()), Some("z"));
    assert_eq!(endpoint.metadata("k").map(|value| value.as_str()), Some("v"));
    assert_eq!(endpoint.metadata("other"), None);
}

#[test]
fn each_reason_alone_takes_an_endpoint_out_and_its_end_brings_it_back() {
    type Flip = fn(&Endpoint, Timestamp) -> bool;
    let flips: [(Flip, Flip); 5] = [
        (|e, t| e.set_health(Health::Unhealthy, t), |e, t| e.set_health(Health::Healthy, t)),
        (Endpoint::eject, Endpoint::uneject),
        (Endpoint::drain, Endpoint::resume),
        (Endpoint::maintain, Endpoint::resume),
        (|e, t| e.set_weight_percent(0, t), |e, t| e.set_weight_percent(100, t)),
    ];
    for (out, back) in flips {
        let endpoint = Endpoint::new("a");

        assert!(out(&endpoint, at(1)));
        assert!(!out(&endpoint, at(2)), "it was out");
        assert!(!endpoint.condition().is_usable());
        assert_eq!(endpoint.usable_since(), Timestamp::ZERO);

        assert!(back(&endpoint, at(3)));
        assert!(!back(&endpoint, at(4)), "it was back");
        assert!(endpoint.condition().is_usable());
        assert_eq!(endpoint.usable_since(), at(3));
    }
}

#[test]
fn two_reasons_have_to_end_both() {
    let endpoint = Endpoint::new("a");
    endpoint.eject(at(1));
    endpoint.set_health(Health::Unhealthy, at(2));
    endpoint.uneject(at(3));
    assert!(!endpoint.condition().is_usable());

    endpoint.set_health(Health::Degraded, at(4));
    assert!(endpoint.condition().is_usable() && endpoint.condition().is_degraded());
    assert_eq!(endpoint.usable_since(), at(4));
}

#[test]
fn an_agent_and_a_check_each_say_their_own_and_the_worse_counts() {
    let all = [Health::Unknown, Health::Healthy, Health::Degraded, Health::Unhealthy];
    for (n, check) in all.into_iter().enumerate() {
        for (m, agent) in all.into_iter().enumerate() {
            let endpoint = Endpoint::new("a");
            endpoint.set_health(check, at(1));
            endpoint.set_agent_health(agent, at(1));
            let condition = endpoint.condition();
            assert_eq!((condition.check_health(), condition.agent_health()), (check, agent));
            assert_eq!(condition.health(), all[n.max(m)]);
            assert_eq!(condition.is_usable(), n.max(m) < 3, "{condition:?}");
            assert_eq!(condition.is_degraded(), n.max(m) == 2, "{condition:?}");
            assert_eq!(condition.weight_percent(), 100);
        }
    }
}

#[test]
fn draining_and_maintenance_end_each_for_itself_or_together() {
    let endpoint = Endpoint::new("a");
    let is = || (endpoint.condition().is_draining(), endpoint.condition().is_in_maintenance());
    let both = || {
        endpoint.drain(at(1));
        endpoint.maintain(at(1));
        assert_eq!(is(), (true, true));
    };
    both();
    assert!(endpoint.end_drain(at(2)) && !endpoint.end_drain(at(3)));
    assert_eq!(is(), (false, true));
    both();
    assert!(endpoint.end_maintenance(at(4)) && !endpoint.end_maintenance(at(5)));
    assert_eq!((is(), endpoint.usable_since()), ((true, false), Timestamp::ZERO));
    assert!(endpoint.end_drain(at(6)));
    assert_eq!((is(), endpoint.usable_since()), ((false, false), at(6)));
}

#[test]
fn no_change_is_lost_when_several_are_made_at_once() {
    for _ in 0..200 {
        let endpoint = Endpoint::new("a");
        thread::scope(|scope| {
            scope.spawn(|| endpoint.eject(at(1)));
            scope.spawn(|| endpoint.set_health(Health::Degraded, at(1)));
            scope.spawn(|| endpoint.set_weight_percent(40, at(1)));
        });
        let condition = endpoint.condition();
        assert!(condition.is_ejected());
        assert_eq!((condition.health(), condition.weight_percent()), (Health::Degraded, 40));
    }
}

#[test]
fn a_change_counts_and_no_change_does_not() {
    let endpoint = Endpoint::new("a");
    let before = Endpoint::changes();
    endpoint.eject(at(1));
    assert!(Endpoint::changes() > before, "other tests may change endpoints too");
}

#[tokio::test]
async fn a_change_between_the_asking_and_the_waiting_is_not_missed() {
    let endpoint = Endpoint::new("a");
    let changed = Endpoint::changed();
    endpoint.drain(at(1));
    changed.await;
}

#[test]
fn an_endpoint_that_stays_keeps_its_condition_and_a_new_one_begins_slowly() {
    let endpoints = Endpoints::new(["a", "b"].map(Endpoint::new)).unwrap();
    let a = endpoints.get("a").unwrap();
    a.eject(at(1));

    endpoints.replace([Endpoint::new("a").with_weight(5), Endpoint::new("c")], at(2)).unwrap();

    let list = endpoints.list();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0].weight(), 5);
    assert!(list[0].condition().is_ejected());
    a.uneject(at(3));
    assert!(list[0].condition().is_usable(), "it is the same endpoint");
    assert_eq!(list[1].usable_since(), at(2));
}

#[test]
fn the_first_of_a_list_that_was_empty_do_not_begin_slowly() {
    let endpoints = Endpoints::new([]).unwrap();
    endpoints.replace([Endpoint::new("a")], at(9)).unwrap();
    assert_eq!(endpoints.list()[0].usable_since(), Timestamp::ZERO);
}

#[test]
fn a_list_with_one_name_twice_is_refused_and_changes_nothing() {
    let endpoints = Endpoints::new([Endpoint::new("a")]).unwrap();
    let error = endpoints.replace(["b", "c", "b"].map(Endpoint::new), at(1)).unwrap_err();

    assert_eq!(error, EndpointsError::Duplicate { name: "b".into() });
    assert!(error.to_string().contains("`b`"));
    assert_eq!(endpoints.list().len(), 1);
    assert!(Endpoints::new(["a", "a"].map(Endpoint::new)).is_err());
}

#[test]
fn followers_see_each_list_until_they_are_dropped() {
    let endpoints = Endpoints::new([]).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    let following = endpoints.follow(move |version, list| to.lock().unwrap().push((version, list.len())));

    endpoints.insert(Endpoint::new("a"), at(1));
    endpoints.insert(Endpoint::new("b"), at(2));
    assert!(endpoints.remove("a", at(3)).is_some());
    assert!(endpoints.remove("a", at(4)).is_none());
    drop(following);
    endpoints.insert(Endpoint::new("z"), at(5));

    assert_eq!(*seen.lock().unwrap(), [(1, 1), (2, 2), (3, 1)], "the second removal changed nothing");
}

#[test]
fn a_follower_may_change_the_list() {
    let endpoints = Endpoints::new([]).unwrap();
    let (again, calls) = (endpoints.clone(), AtomicU64::new(0));
    let _following = endpoints.follow(move |_, _| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            again.insert(Endpoint::new("b"), at(2));
        }
    });
    endpoints.insert(Endpoint::new("a"), at(1));
    assert_eq!(endpoints.list().len(), 2);
}

#[tokio::test]
async fn who_waits_for_a_newer_list_gets_the_newest() {
    let endpoints = Endpoints::new([]).unwrap();
    let waiting = task::spawn({
        let endpoints = endpoints.clone();
        async move { endpoints.newer_than(0).await }
    });
    task::yield_now().await;
    assert!(!waiting.is_finished());

    endpoints.insert(Endpoint::new("a"), at(1));
    let (version, list) = waiting.await.unwrap();
    assert_eq!((version, list.len()), (1, 1));
    assert_eq!(endpoints.newer_than(0).await.0, 1, "who comes late has not missed it");
}

#[test]
fn what_calls_note_of_an_endpoint_is_known_to_a_tenth_of_a_second_and_stays_with_it() {
    let endpoint = Endpoint::new("a");
    assert_eq!(endpoint.activity().used, None);
    assert_eq!(endpoint.activity().succeeded, None);

    let second = Timestamp::from_nanos(1_000_000_000);
    endpoint.note_use(second);
    endpoint.note_use(second + Duration::from_millis(99));
    assert_eq!(endpoint.activity().used, Some(second));
    assert_eq!(endpoint.activity().succeeded, None);

    endpoint.note_success(second + Duration::from_millis(100));
    endpoint.note_use(Timestamp::from_nanos(5));
    let again = Endpoint::new("a").with_weight(2).in_place_of(&endpoint);
    assert_eq!(again.activity().used, Some(Timestamp::from_nanos(5)), "a clock may go back");
    assert_eq!(again.activity().succeeded, Some(second + Duration::from_millis(100)));
}
