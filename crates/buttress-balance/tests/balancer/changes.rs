//! Endpoints that come and go.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use buttress_balance::{BalanceEvent, Balancer, ConsistentHash, Settings, Static, Subset};
use buttress_core::{Endpoint, Health, Timestamp};
use tower::Service;

use crate::support::{Rig, SECOND, by_key, in_flight, owners, query, tally};

fn watched(rig: &Rig) -> (Settings, Arc<Mutex<Vec<String>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&events);
    let observe = move |event: &BalanceEvent<'_>| to.lock().unwrap().push(format!("{event:?}"));
    (Settings::default().clock(rig.clock()).observe(observe), events)
}

#[tokio::test]
async fn the_next_call_sees_who_has_joined_and_who_has_left() {
    let rig = Rig::of(&["a", "b"]);
    let (settings, events) = watched(&rig);
    let balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);
    assert_eq!(tally(&owners(&balancer, 0..10).await), [("a", 5), ("b", 5)].into());

    rig.endpoints.replace(["b", "c"].map(Endpoint::new), rig.now()).unwrap();
    rig.time.advance(31 * SECOND);

    assert_eq!(tally(&owners(&balancer, 0..10).await), [("b", 5), ("c", 5)].into());
    let events = events.lock().unwrap();
    assert!(events[0].starts_with("Drained"), "it had no calls: {events:?}");
    assert!(events[1].contains("endpoints: 2, joined: 1, left: 1"), "{events:?}");
}

#[tokio::test]
async fn only_the_keys_of_the_one_that_left_move_and_new_ones_take_their_part_alone() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    let balancer = Balancer::new(rig.members())
        .policy(ConsistentHash::ring())
        .settings(Settings::default().clock(rig.clock()))
        .by(by_key);
    let before = owners(&balancer, 0..1000).await;

    rig.endpoints.remove("b", rig.now());
    let without = owners(&balancer, 0..1000).await;
    assert!(before.iter().zip(&without).all(|(before, after)| before == after || before == "b"));

    rig.endpoints.insert(Endpoint::new("e"), rig.now());
    rig.time.advance(31 * SECOND);
    let with = owners(&balancer, 0..1000).await;
    assert!(without.iter().zip(&with).all(|(before, after)| before == after || after == "e"));
    assert!(tally(&with)["e"] > 100);
}

#[tokio::test]
async fn an_endpoint_that_left_is_kept_until_its_last_call_is_over() {
    let rig = Rig::of(&["a", "b"]);
    let (settings, events) = watched(&rig);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);
    let handle = balancer.handle();
    let (a, b) = (balancer.call(query(1)), balancer.call(query(1)));

    rig.endpoints.remove("a", rig.now());
    let left = handle.endpoint("a").expect("it drains");
    assert_eq!((left.has_left, left.in_flight), (true, 1));

    drop(a);
    assert!(handle.endpoint("a").is_none());
    assert!(events.lock().unwrap().last().unwrap().contains("in_flight: 0"));
    drop(b);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_left_is_let_go_when_its_time_to_drain_is_over() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let clock = buttress_core::Clock::tokio();
    let settings = Settings::default().clock(clock.clone());
    let mut balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);
    let call = balancer.call(query(1));
    rig.endpoints.remove("a", clock.now());
    assert!(balancer.handle().endpoint("a").is_some());

    tokio::time::advance(31 * SECOND).await;
    tokio::task::yield_now().await;

    assert!(balancer.handle().endpoint("a").is_none());
    drop(call);
}

#[tokio::test]
async fn one_that_comes_back_while_it_drains_goes_on_counting_its_calls() {
    let rig = Rig::of(&["a"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members()).settings(Settings::default().clock(rig.clock()));
    let call = balancer.call(query(1));
    rig.endpoints.remove("a", rig.now());
    rig.endpoints.insert(Endpoint::new("a").with_weight(2), rig.now());

    let view = balancer.handle().endpoint("a").unwrap();
    assert_eq!((view.in_flight, view.has_left, view.endpoint.weight()), (1, false, 2));
    drop(call);
    assert_eq!(balancer.handle().endpoint("a").unwrap().in_flight, 0);
    assert_eq!(balancer.handle().endpoints().len(), 1);
}

#[tokio::test]
async fn a_list_that_the_policy_cannot_take_is_refused_and_the_last_one_stays() {
    let rig = Rig::of(&["a", "b"]);
    let (settings, events) = watched(&rig);
    let balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);

    rig.endpoints.insert(Endpoint::new("c").with_weight(u32::MAX), rig.now());

    assert_eq!(tally(&owners(&balancer, 0..10).await).len(), 2);
    assert!(events.lock().unwrap()[0].starts_with("Refused"), "{events:?}");
    rig.endpoints.insert(Endpoint::new("c"), rig.now());
    rig.time.advance(31 * SECOND);
    assert_eq!(tally(&owners(&balancer, 0..9).await).len(), 3);
}

#[tokio::test]
async fn panic_and_its_end_are_told() {
    let rig = Rig::of(&["a", "b", "c"]);
    let (settings, events) = watched(&rig);
    let balancer = Balancer::new(rig.members()).settings(settings);
    for name in ["a", "b"] {
        rig.get(name).set_health(Health::Unhealthy, rig.now());
        owners(&balancer, 0..1).await;
    }
    rig.get("a").set_health(Health::Healthy, rig.now());
    owners(&balancer, 0..1).await;

    let events = events.lock().unwrap();
    assert_eq!(*events, ["Panic { priority: 0 }", "Calm { priority: 0 }"]);
}

#[tokio::test]
async fn an_observer_that_panics_leaves_what_has_to_be_done_done() {
    for at in ["Panic", "Drained", "Changed"] {
        let rig = Rig::of(&["a", "b"]);
        rig.hangs.store(true, Ordering::SeqCst);
        let observe = move |event: &BalanceEvent<'_>| {
            assert!(!format!("{event:?}").starts_with(at), "as scripted");
        };
        let settings = Settings::default().clock(rig.clock()).observe(observe);
        let mut balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);
        let calls = [balancer.call(query(1)), balancer.call(query(1))];

        rig.get("b").set_health(Health::Unhealthy, rig.now());
        let _ = catch_unwind(AssertUnwindSafe(|| rig.endpoints.remove("a", rig.now())));

        let services = || Arc::strong_count(&rig.hangs) - 2;
        let before = services();
        drop(calls);
        assert_eq!((before, services()), (4, 1), "{at}: `a` is dropped with its last call");
    }
}

#[tokio::test]
async fn panic_ends_with_the_priority_that_had_it() {
    let rig = Rig::of(&["a"]);
    let (settings, events) = watched(&rig);
    let balancer = Balancer::new(rig.members()).settings(settings);
    rig.get("a").set_health(Health::Unhealthy, rig.now());
    owners(&balancer, 0..1).await;

    rig.endpoints.replace([Endpoint::new("b").with_priority(1)], rig.now()).unwrap();

    let events = events.lock().unwrap();
    let told: Vec<&String> = events.iter().filter(|event| event.contains("priority")).collect();
    assert_eq!(told, ["Panic { priority: 0 }", "Calm { priority: 0 }"]);
}

#[test]
fn what_is_told_of_panic_comes_in_its_order_though_the_observer_ends_it() {
    let rig = Rig::of(&["a"]);
    let (endpoints, told) = (rig.endpoints.clone(), Arc::new(Mutex::new(Vec::new())));
    let to = Arc::clone(&told);
    let observe = move |event: &BalanceEvent<'_>| {
        let text = match event {
            BalanceEvent::Panic { .. } => "panic",
            BalanceEvent::Calm { .. } => "calm",
            _ => return,
        };
        if text == "panic" {
            // As someone does who starts others where most are down.
            endpoints.replace(["a", "b", "c"].map(Endpoint::new), Timestamp::ZERO).unwrap();
        }
        to.lock().unwrap().push(text);
    };
    let balancer = Balancer::new(rig.members()).settings(Settings::default().observe(observe));

    rig.get("a").set_health(Health::Unhealthy, rig.now());
    let _ = balancer.handle().outlook();

    assert_eq!(*told.lock().unwrap(), ["panic", "calm"]);
}

#[tokio::test]
async fn of_a_subset_one_change_of_the_list_changes_one_endpoint_at_most() {
    let rig = Rig::new((0..40).map(|number| Endpoint::new(format!("e{number}"))));
    let settings = Settings::default().clock(rig.clock()).subset(Subset::rendezvous(8, 7));
    let balancer = Balancer::new(rig.members()).policy(Static::round_robin()).settings(settings);
    let used = || -> BTreeSet<String> {
        balancer.handle().endpoints().iter().map(|view| view.endpoint.name().to_string()).collect()
    };
    let before = used();
    assert_eq!(before.len(), 8);

    rig.endpoints.remove(before.first().unwrap(), rig.now());
    let after = used();
    assert_eq!((after.len(), after.intersection(&before).count()), (8, 7));
}

#[tokio::test]
async fn a_list_that_says_the_same_again_changes_nothing() {
    let rig = Rig::of(&["a", "b"]);
    let (settings, events) = watched(&rig);
    let balancer = Balancer::new(rig.members()).settings(settings);
    rig.endpoints.replace(["b", "a"].map(Endpoint::new), rig.now()).unwrap();
    owners(&balancer, 0..1).await;
    assert!(events.lock().unwrap().is_empty());

    rig.endpoints.insert(Endpoint::new("a").with_weight(2), rig.now());
    assert_eq!(events.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_observer_that_panics_takes_nothing_along_but_its_call() {
    let rig = Rig::of(&["a", "b", "c"]);
    let observe = |event: &BalanceEvent<'_>| assert!(!matches!(event, BalanceEvent::Panic { .. }));
    let settings = Settings::default().clock(rig.clock()).observe(observe);
    let mut balancer = Balancer::new(rig.members()).settings(settings);
    for name in ["a", "b"] {
        rig.get(name).set_health(Health::Unhealthy, rig.now());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| balancer.call(query(1)))).is_err());
    assert_eq!(in_flight(&balancer.handle()), 0);

    let all = owners(&balancer, 0..100).await;
    assert_eq!(tally(&all).len(), 3, "it has seen the panic of endpoints");
    rig.get("c").maintain(rig.now());
    let rest = owners(&balancer, 0..100).await;
    assert_eq!(tally(&rest).len(), 2, "and goes on to see changes");
}

#[test]
fn many_threads_call_while_the_list_changes_and_nothing_is_lost() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    let balancer = Balancer::new(rig.members()).by(by_key);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut balancer = balancer.clone();
            scope.spawn(move || {
                for key in 0..2000 {
                    let call = balancer.call(query(key * 4 + thread));
                    let call = std::pin::pin!(call);
                    let mut call = call;
                    let answer = buttress_testkit::poll_once(&mut call);
                    assert!(matches!(answer, std::task::Poll::Ready(Ok(_))));
                }
            });
        }
        for round in 0..200_u32 {
            let name = ["a", "b", "c", "d"][round as usize % 3];
            if round % 2 == 0 {
                rig.endpoints.remove(name, rig.now());
            } else {
                rig.endpoints.insert(Endpoint::new(name), rig.now());
            }
            rig.get("d").set_health([Health::Healthy, Health::Degraded][round as usize % 2], rig.now());
        }
    });
    assert_eq!(in_flight(&balancer.handle()), 0);
    assert!(balancer.handle().endpoints().iter().all(|view| !view.has_left));
}
