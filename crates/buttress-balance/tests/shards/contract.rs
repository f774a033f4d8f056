//! The contract of every service, for each way of finding a shard.

use buttress_balance::{ConsistentHash, Directory, HashMod, Located, Node, Ranges, Shards, ShardsError};
use buttress_core::{Access, BoxError};
use buttress_testkit::{Contract, Point};
use std::num::NonZeroU32;
use tower_layer::layer_fn;

const CLONES: &str = "all clones share the shards, so each call has a clone of its own";

fn key(n: &u32) -> Option<u32> {
    Some(*n)
}

fn ranges() -> Ranges<u32> {
    Ranges::new().with(..7, 0).unwrap().with(7.., 1).unwrap()
}

#[test]
fn shards_by_hash_keep_the_contract() {
    Contract::new(|| layer_fn(|inner| Shards::by_modulo([inner], key).unwrap()))
        .exempt(Point::Instance, CLONES)
        .run();
    Contract::new(|| layer_fn(|inner| Shards::by_jump([inner], key).unwrap()))
        .exempt(Point::Instance, CLONES)
        .run();
    Contract::new(|| {
        layer_fn(|inner| {
            let ring = ConsistentHash::ring().build(&[Node::new("a")]).unwrap();
            Shards::by_ring([inner], ring, key).unwrap()
        })
    })
    .exempt(Point::Instance, CLONES)
    .run();
}

#[test]
fn shards_by_range_or_place_keep_the_contract_also_while_keys_move() {
    Contract::new(|| layer_fn(|inner| Shards::by_place([("eu", inner)], |_: &u32| Some("eu")).unwrap()))
        .exempt(Point::Instance, CLONES)
        .run();
    Contract::with_closures(|wire| {
        let wire = wire.clone();
        layer_fn(move |inner: buttress_testkit::Inner<buttress_testkit::Plain>| {
            let (key, not_found, access, observer) = (wire.clone(), wire.clone(), wire.clone(), wire.clone());
            let by = move |n: &u32| {
                key.touch();
                Some(*n)
            };
            let shards = Shards::by_range([inner.clone(), inner], ranges(), by)
                .unwrap()
                .observe(move |_| observer.touch())
                .movable_by(
                    move |_: Result<&u32, &BoxError>| {
                        not_found.touch();
                        // The suite counts on one inner call for each of its own.
                        false
                    },
                    move |_: &u32| {
                        access.touch();
                        Access::Read
                    },
                );
            drop(shards.mover().begin(ranges().moved(.., 1).unwrap().moved(7.., 0).unwrap()).unwrap());
            shards
        })
    })
    .exempt(Point::Instance, CLONES)
    .run();
}

#[test]
fn shards_by_directory_keep_the_contract() {
    let layer = || {
        layer_fn(|inner: buttress_testkit::Inner<buttress_testkit::Plain>| {
            let lookup = tower::service_fn(|n: u32| async move { Ok::<_, BoxError>((n % 2) as usize) });
            Shards::by_directory([inner.clone(), inner], Directory::new(key, lookup)).unwrap()
        })
    };
    Contract::new(layer).exempt(Point::Instance, CLONES).run();
}

#[test]
fn a_directory_holds_nothing_of_calls_that_are_over_and_no_more_keys_than_it_may() {
    Contract::with_closures(|wire| {
        let wire = wire.clone();
        layer_fn(move |inner: buttress_testkit::Inner<buttress_testkit::Plain>| {
            let (lookup, observer) = (wire.clone(), wire.clone());
            let lookup = tower::service_fn(move |_: u32| {
                lookup.touch();
                async { Ok::<_, BoxError>(Located::At(0)) }
            });
            let directory = Directory::new(key, lookup).ttl(std::time::Duration::ZERO).capacity(16);
            Shards::by_directory([inner], directory).unwrap().observe(move |_| observer.touch())
        })
    })
    .exempt(Point::Instance, CLONES)
    .exempt(Point::HotPath, "every call makes a lookup here")
    .run();
}

#[test]
fn what_cannot_work_is_refused_with_what_would() {
    let services = || [(), ()];
    let refused = |made: Result<(), ShardsError>| made.unwrap_err().to_string();

    assert_eq!(refused(Shards::by_modulo([(); 0], key).map(drop)), "no shards: give at least one service");
    assert_eq!(
        refused(Shards::by_range(services(), Ranges::new(), key).map(drop)),
        "an empty map: no key would have a shard"
    );
    let three = HashMod::new(NonZeroU32::new(3).unwrap());
    assert_eq!(
        refused(Shards::by_hash(services(), three, key).map(drop)),
        "the map gives keys to shard 2, but there are 2: positions count from 0"
    );
    assert_eq!(
        refused(Shards::by_place([("eu", ()), ("eu", ())], |_: &u32| Some("eu")).map(drop)),
        "place `eu` is given twice: each has one service"
    );
    let lookup = || tower::service_fn(|_: u32| async { Ok::<_, BoxError>(0) });
    assert_eq!(
        refused(Shards::by_directory(services(), Directory::new(key, lookup()).capacity(1)).map(drop)),
        "directory with `capacity` = 1: must be 2 or more; 10000 is the default"
    );
    let ring = ConsistentHash::ring().build(&["a", "b", "c"].map(Node::new)).unwrap();
    assert!(matches!(
        Shards::by_ring(services(), ring, key).unwrap_err(),
        ShardsError::NoSuchShard { shard: 2, shards: 2, .. }
    ));
}
