//! Which endpoint gets a call.

use std::future::ready;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buttress_balance::{
    Balancer, ConsistentHash, Members, PolicyError, Priorities, Settings, SlowStart, Static,
};
use buttress_core::{BoxError, Endpoint, Endpoints, Facts, Health, Trail};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{Named, Query, Rig, SECOND, assert_shared, by_key, in_flight, owners, query, tally};

fn no_waiting(rig: &Rig) -> Settings {
    Settings::default().fail_fast(std::time::Duration::ZERO).clock(rig.clock())
}

#[tokio::test]
async fn a_list_of_pairs_is_enough() {
    let say = |name: &'static str| service_fn(move |_: u32| async move { Ok::<_, BoxError>(name) });
    let balancer = Balancer::new([("a", say("a")), ("b", say("b"))]).policy(Static::round_robin());

    assert_eq!(balancer.clone().oneshot(1).await.unwrap(), "a");
    assert_eq!(balancer.oneshot(2).await.unwrap(), "b");
}

#[test]
fn a_list_without_endpoints_or_with_one_twice_is_refused() {
    let empty: Vec<(&str, Named)> = Vec::new();
    assert!(matches!(Balancer::try_new(empty), Err(PolicyError::NoEndpoints)));

    let say = service_fn(|_: u32| async { Ok::<_, BoxError>(()) });
    let error = Balancer::try_new([("a", say), ("a", say)]).unwrap_err();
    assert!(error.to_string().contains("`a`"), "{error}");
}

#[tokio::test]
async fn a_key_stays_with_its_owner_and_moves_only_when_that_cannot_serve() {
    let rig = Rig::of(&["a", "b", "c"]);
    let balancer =
        Balancer::new(rig.members()).policy(ConsistentHash::ring()).settings(no_waiting(&rig)).by(by_key);
    let before = owners(&balancer, 0..300).await;
    assert_eq!(before, owners(&balancer, 0..300).await);

    rig.get("b").set_health(Health::Unhealthy, rig.now());
    let after = owners(&balancer, 0..300).await;

    for (before, after) in before.iter().zip(&after) {
        assert!(after != "b" && (before == after || before == "b"));
    }
    rig.get("b").set_health(Health::Healthy, rig.now());
    rig.time.advance(31 * SECOND);
    assert_eq!(before, owners(&balancer, 0..300).await, "all have come back");
}

#[tokio::test]
async fn calls_without_a_key_are_spread_by_chance() {
    let rig = Rig::of(&["a", "b"]);
    let balancer = Balancer::new(rig.members()).policy(ConsistentHash::ring());
    let owners = owners(&balancer, (0..200).map(|_| 7)).await;
    let tally = tally(&owners);
    assert!(tally["a"] > 40 && tally["b"] > 40, "{tally:?}");
    assert_shared(&balancer);
}

#[tokio::test]
async fn what_was_tried_is_passed_over_while_there_is_another() {
    let rig = Rig::of(&["a", "b", "c"]);
    let balancer = Balancer::new(rig.members()).policy(ConsistentHash::ring()).by(by_key);
    let mut facts = Facts::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let query = Query { key: 5, facts: Some(facts.clone()) };
        let owner = balancer.clone().oneshot(query).await.unwrap();
        facts.tried.push(rig.get(&owner).id());
        assert!(!seen.contains(&owner));
        seen.push(owner);
    }
    let query = Query { key: 5, facts: Some(facts) };
    assert_eq!(balancer.oneshot(query).await.unwrap(), seen[0], "once more there is better than not at all");
}

#[tokio::test]
async fn a_call_goes_where_it_is_bound_to_and_says_where_it_went() {
    let rig = Rig::of(&["a", "b", "c"]);
    let balancer = Balancer::new(rig.members()).settings(no_waiting(&rig)).by(by_key);
    let mut facts = Facts::new();
    let trail = facts.trail.insert(Trail::new()).clone();
    facts.prefer = Some(rig.get("c").id());
    let bound = |facts: &Facts| Query { key: 1, facts: Some(facts.clone()) };

    for _ in 0..20 {
        assert_eq!(balancer.clone().oneshot(bound(&facts)).await.unwrap(), "c");
    }
    assert_eq!(trail.endpoints(), [rig.get("c").id()]);

    rig.get("c").drain(rig.now());
    assert_eq!(balancer.clone().oneshot(bound(&facts)).await.unwrap(), "c", "who is bound to it may stay");
    rig.get("c").maintain(rig.now());
    assert_ne!(balancer.clone().oneshot(bound(&facts)).await.unwrap(), "c");
    rig.get("c").resume(rig.now());
    rig.get("c").set_health(Health::Unhealthy, rig.now());
    assert_ne!(balancer.oneshot(bound(&facts)).await.unwrap(), "c");
}

#[tokio::test]
async fn in_panic_a_call_stays_where_it_is_bound_to() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    let balancer = Balancer::new(rig.members()).settings(no_waiting(&rig)).by(by_key);
    for name in ["a", "b", "c"] {
        rig.get(name).set_health(Health::Unhealthy, rig.now());
    }
    let mut facts = Facts::new();
    facts.prefer = Some(rig.get("b").id());
    for key in 0..20 {
        let bound = Query { key, facts: Some(facts.clone()) };
        assert_eq!(balancer.clone().oneshot(bound).await.unwrap(), "b");
    }
}

#[tokio::test]
async fn the_next_priority_is_used_as_the_first_fails() {
    let mut list: Vec<Endpoint> = ["a", "b", "c", "d"].map(Endpoint::new).to_vec();
    list.push(Endpoint::new("spare").with_priority(1));
    let rig = Rig::new(list);
    let balancer = Balancer::new(rig.members()).settings(no_waiting(&rig)).by(by_key);

    assert_eq!(tally(&owners(&balancer, 0..1000).await).get("spare"), None);
    rig.get("a").set_health(Health::Unhealthy, rig.now());
    assert_eq!(tally(&owners(&balancer, 0..1000).await).get("spare"), None, "75 % bear it all");
    rig.get("b").set_health(Health::Unhealthy, rig.now());

    let owners = owners(&balancer, 0..1000).await;
    let spilled = tally(&owners)["spare"];
    assert!((250..350).contains(&spilled), "half of the endpoints bear 70 %: {spilled}");
    assert!(balancer.handle().outlook().share(1) > 0.29);
}

#[tokio::test]
async fn when_too_few_are_well_all_are_used() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    let balancer = Balancer::new(rig.members()).settings(no_waiting(&rig));
    for name in ["a", "b", "c"] {
        rig.get(name).set_health(Health::Unhealthy, rig.now());
    }
    let panicking = owners(&balancer, 0..400).await;
    assert_eq!(tally(&panicking).len(), 4);

    let calm = no_waiting(&rig).priorities(Priorities::default().panic_below(0));
    let balancer = balancer.settings(calm);
    let calm = owners(&balancer, 0..400).await;
    assert_eq!(tally(&calm), [("d", 400)].into());
}

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_its_keys_bit_by_bit_and_each_key_once() {
    let rig = Rig::of(&["a", "b", "c"]);
    let balancer =
        Balancer::new(rig.members()).policy(ConsistentHash::ring()).settings(no_waiting(&rig)).by(by_key);
    let before = owners(&balancer, 0..600).await;
    rig.time.advance(SECOND);
    rig.get("b").eject(rig.now());
    rig.get("b").uneject(rig.now());

    let all = before.iter().filter(|owner| *owner == "b").count();
    let mut back: Vec<usize> = Vec::new();
    let mut last = Vec::new();
    for _ in 0..7 {
        let now = owners(&balancer, 0..600).await;
        let there: Vec<u64> = (0..600).filter(|&key| now[key as usize] == "b").collect();
        assert!(last.iter().all(|key| there.contains(key)), "a key that has come stays");
        back.push(there.len());
        last = there;
        rig.time.advance(5 * SECOND);
    }
    assert!(back[0] < all / 4, "{back:?} of {all}");
    assert!((all / 3..all).contains(&back[3]), "{back:?} of {all}");
    assert_eq!(back[6], all);
}

#[tokio::test]
async fn alone_an_endpoint_starts_at_once() {
    let rig = Rig::of(&["a"]);
    let settings = no_waiting(&rig).slow_start(SlowStart::default());
    let balancer = Balancer::new(rig.members()).settings(settings);
    rig.time.advance(SECOND);
    rig.get("a").eject(rig.now());
    rig.get("a").uneject(rig.now());
    assert_eq!(owners(&balancer, 0..100).await.len(), 100);
}

#[tokio::test]
async fn an_endpoint_that_asks_for_less_gets_less() {
    let rig = Rig::of(&["a", "b"]);
    let balancer = Balancer::new(rig.members()).settings(no_waiting(&rig)).by(by_key);
    rig.get("a").set_weight_percent(20, rig.now());
    let owners = owners(&balancer, 0..1000).await;
    assert!((80..250).contains(&tally(&owners)["a"]), "{:?}", tally(&owners));
}

#[tokio::test]
async fn no_endpoint_gets_more_calls_at_a_time_than_it_may_have() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let settings = no_waiting(&rig).max_in_flight(NonZeroU32::new(3).unwrap());
    let mut balancer =
        Balancer::new(rig.members()).policy(ConsistentHash::ring()).settings(settings).by(by_key);
    let handle = balancer.handle();

    let calls: Vec<_> = (0..6).map(|_| balancer.call(query(1))).collect();
    assert!(handle.endpoints().iter().all(|view| view.in_flight == 3));
    let error = balancer.call(query(1)).await.unwrap_err();
    assert!(error.to_string().contains("overloaded"), "{error}");

    drop(calls);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn no_endpoint_gets_much_more_than_its_share_where_loads_are_bounded() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members())
        .policy(ConsistentHash::maglev())
        .settings(no_waiting(&rig))
        .bounded_load(1.25)
        .by(by_key);
    let handle = balancer.handle();

    let calls: Vec<_> = (0..100).map(|_| balancer.call(query(1))).collect();
    assert!(handle.endpoints().iter().all(|view| view.in_flight <= 32), "{handle:?}");
    assert_eq!(in_flight(&handle), 100);

    rig.get("a").set_health(Health::Unhealthy, rig.now());
    let more: Vec<_> = (0..60).map(|_| balancer.call(query(1))).collect();
    assert_eq!(in_flight(&handle), 160, "those that are left bear it");
    drop((calls, more));
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn an_endpoint_whose_gate_is_shut_is_passed_over_unless_all_are() {
    let gates: [Arc<AtomicBool>; 2] = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
    let of = gates.clone();
    let make = move |endpoint: &Endpoint| {
        let (name, gate) =
            (endpoint.name().to_string(), Arc::clone(&of[usize::from(&**endpoint.name() == "b")]));
        let service = service_fn(move |_: u64| ready(Ok::<_, BoxError>(name.clone())));
        (service, move || gate.load(Ordering::SeqCst))
    };
    let endpoints = Endpoints::new(["a", "b"].map(Endpoint::new)).unwrap();
    let balancer =
        Balancer::new(Members::gated(endpoints, make)).policy(ConsistentHash::ring()).by(|n: &u64| Some(*n));
    let owners = async || {
        let mut owners = Vec::new();
        for key in 0..50 {
            owners.push(balancer.clone().oneshot(key).await.unwrap());
        }
        owners
    };
    let before = owners().await;

    gates[1].store(false, Ordering::SeqCst);
    assert!(owners().await.iter().all(|owner| owner == "a"));
    gates[0].store(false, Ordering::SeqCst);
    assert_eq!(owners().await, before, "each goes to its owner, which says why it cannot");
}

#[tokio::test]
async fn what_health_checks_need_not_ask_is_noted_where_the_clock_is_read_or_when_it_is_wanted() {
    let rig = Rig::of(&["a"]);
    rig.time.advance(10 * SECOND);
    let turns = Balancer::new(rig.members()).policy(Static::round_robin()).settings(no_waiting(&rig));
    owners(&turns, 0..1).await;
    assert_eq!(rig.get("a").activity().used, None);

    rig.hangs.store(true, Ordering::SeqCst);
    let mut noting = turns.settings(no_waiting(&rig).note_activity());
    drop(noting.call(query(1)));
    assert_eq!(rig.get("a").activity().used, Some(rig.now()));
    assert_eq!(rig.get("a").activity().succeeded, None);

    rig.hangs.store(false, Ordering::SeqCst);
    rig.time.advance(SECOND);
    let by_load = Balancer::new(rig.members()).settings(no_waiting(&rig));
    owners(&by_load, 0..1).await;
    assert_eq!(rig.get("a").activity().succeeded, Some(rig.now()));
}
