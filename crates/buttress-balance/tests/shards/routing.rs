//! Calls go to the shard of their key.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use buttress_balance::{Hashing, Located, Places, Ranges, ShardMap, Shards, ShardsEvent};
use buttress_core::{BoxError, RejectionKind, reject};
use buttress_testkit::{StrictService, Task};
use tower::service_fn;
use tower_service::Service;

use super::{kind, now};

/// Not HTTP: a key-value store that is asked by a line.
fn store(
    name: &'static str,
) -> impl Service<&'static str, Response = &'static str, Error = BoxError, Future: Send> + Clone {
    service_fn(move |_: &'static str| async move { Ok::<_, BoxError>(name) })
}

fn first(line: &&'static str) -> Option<char> {
    line.chars().next()
}

#[test]
fn a_line_goes_to_the_store_of_its_range_and_one_in_a_gap_is_refused() {
    let ranges = Ranges::new().with('a'..'k', 0).unwrap().with('m'..'{', 1).unwrap();
    let stores = Shards::by_range([store("low"), store("high")], ranges, first).unwrap().named("users");

    assert_eq!(now(&stores, "adam").unwrap(), "low");
    assert_eq!(now(&stores, "zoe").unwrap(), "high");
    let error = now(&stores, "lea").unwrap_err();
    assert_eq!(error.to_string(), "no shard for the key by `users`");
    assert_eq!(kind(&error), RejectionKind::NoShard);
    assert_eq!(kind(&now(&stores, "").unwrap_err()), RejectionKind::NoShard, "no key");
    assert_eq!(stores.handle().counts().no_shard, 2);
}

#[test]
fn each_key_has_the_shard_that_its_hash_says() {
    let stores = ["0", "1", "2", "3", "4"].map(store);
    let key = |line: &&'static str| Some(*line);
    let modulo = Shards::by_modulo(stores, key).unwrap();

    for line in ["adam", "berta", "carl", "doris"] {
        let shard = Hashing::default().of(line.as_bytes()) % 5;
        assert_eq!(now(&modulo, line).unwrap(), shard.to_string());
    }
}

#[test]
fn a_ring_gives_each_key_to_its_owner_in_the_order_of_its_endpoints() {
    use buttress_balance::{ConsistentHash, Node, Order};

    let names = ["a", "b", "c"];
    let ring = ConsistentHash::ring().hash_by(Hashing::sip([3; 16])).build(&names.map(Node::new)).unwrap();
    let stores = Shards::by_ring(names.map(store), ring.clone(), |line: &&'static str| Some(*line)).unwrap();

    for line in ["adam", "berta", "carl", "doris", "emil", "fritz"] {
        let owner = ring.pick(ring.hashing().of(line.as_bytes()), |_| true).unwrap();
        assert_eq!(now(&stores, line).unwrap(), names[owner]);
    }
}

#[test]
fn a_place_is_found_by_its_name_and_several_may_have_one_shard() {
    let by = |line: &&'static str| line.split_once(' ').map(|(place, _)| place);
    let places = Places::default().with("eu", 0).with("us", 1).with("uk", 0);
    assert_eq!(ShardMap::<str>::shard(&places, "uk"), Some(0));
    let stores = Shards::by_map([store("Frankfurt"), store("Virginia")], by, places).unwrap();

    assert_eq!(now(&stores, "uk GET x").unwrap(), "Frankfurt");
    assert_eq!(now(&stores, "us GET x").unwrap(), "Virginia");
    assert_eq!(kind(&now(&stores, "mars GET x").unwrap_err()), RejectionKind::NoShard);
}

#[test]
fn a_service_that_cannot_fail_answers_what_it_refuses() {
    let shard = service_fn(|n: u32| async move { Ok::<_, Infallible>(n) });
    let ranges = Ranges::new().with(..10, 0).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let shards = Shards::by_range([shard], ranges, |n: &u32| Some(*n))
        .unwrap()
        .on_reject(reject::with(|_| Ok(404)))
        .observe(move |event| {
            if let ShardsEvent::NoShard { policy, located, .. } = event {
                log.lock().unwrap().push((*policy == "shards", *located));
            }
        });

    assert_eq!(now(&shards, 5), Ok(5));
    assert_eq!(now(&shards, 50), Ok(404));
    let events = events.lock().unwrap();
    assert_eq!(*events, [(true, Located::Nowhere)]);
}

#[test]
#[should_panic(expected = "have an observer")]
fn a_second_observer_is_refused() {
    let shards = Shards::by_modulo([store("a")], |line: &&'static str| Some(*line)).unwrap();
    drop(shards.observe(|_: &ShardsEvent<'_>| {}).observe(|_| {}));
}

#[test]
fn a_call_readies_a_clone_of_its_shard_and_touches_no_other() {
    let (one, first) = StrictService::<u32, u32>::new(|n| n);
    let (two, second) = StrictService::<u32, u32>::new(|n| n);
    let ranges = Ranges::new().with(..10, 0).unwrap().with(10.., 1).unwrap();
    let mut shards = Shards::by_range([one, two], ranges, |n: &u32| Some(*n)).unwrap();
    second.not_ready();

    assert_eq!(now(&shards, 1).unwrap(), 1);
    assert_eq!((first.calls(), first.clones()), (1, 1));
    assert_eq!((second.polls(), second.clones()), (0, 0));

    // What waits for one shard does not keep calls of another.
    let mut waiting = Task::new(shards.call(10));
    assert!(waiting.poll().is_pending());
    assert_eq!(now(&shards, 2).unwrap(), 2);
    second.ready();
    assert!(waiting.poll().is_ready());
}
