use std::sync::{Arc, Mutex};

use buttress_balance::{
    Chosen, Hashing, NoKey, NoOverride, Split, SplitCounts, SplitError, SplitEvent, SplitHandle,
};
use buttress_core::{OnCall, OnCallFuture};
use buttress_testkit::{StrictService, Task, allocations, assert_send, assert_send_sync_clone_unpin};
use tower::{Service, ServiceExt};

use super::{Side, ask, sides, user};

const _: () = {
    assert_send_sync_clone_unpin::<Split<Side>>();
    assert_send_sync_clone_unpin::<SplitHandle>();
    assert_send::<OnCallFuture<Side, u64>>();
};

/// How many of so many users are on a side.
fn share(handle: &SplitHandle, side: usize) -> f64 {
    const USERS: u64 = 20_000;
    (0..USERS).filter(|user| handle.side_of(*user) == side).count() as f64 / USERS as f64
}

#[test]
fn a_user_stays_on_its_side() {
    let split = Split::new(sides(&[50, 50])).by(user());
    let again = Split::new(sides(&[50, 50])).by(user());

    for user in 0..1000_u64 {
        let side = ask(&split, user);
        assert_eq!(ask(&split, user), side);
        assert_eq!(ask(&again, user), side, "in another process as well");
        assert_eq!(split.handle().side_of(user), side);
    }
}

#[test]
fn sides_of_known_users_are_the_same_in_every_release() {
    let split = Split::new(sides(&[60, 30, 10]));

    let known: Vec<usize> = ["ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal"]
        .map(|user| split.handle().side_of(user))
        .into();

    assert_eq!(known, [0, 2, 0, 0, 1, 0, 0, 1]);
}

#[test]
fn shares_are_those_of_the_weights() {
    let handle = Split::new(sides(&[70, 25, 5])).handle();

    for (side, expected) in [0.70, 0.25, 0.05].into_iter().enumerate() {
        let share = share(&handle, side);
        assert!((share - expected).abs() < 0.01, "side {side} has {share}");
    }
}

#[test]
fn a_canary_grows_by_users_of_the_stable_side_alone() {
    let split = Split::new(sides(&[95, 5])).by(user());
    let handle = split.handle();
    let before: Vec<usize> = (0..10_000_u64).map(|user| ask(&split, user)).collect();

    handle.set_weights([90, 10]).unwrap();

    let after = (0..10_000_u64).map(|user| ask(&split, user));
    let moved: Vec<(usize, usize)> = before.into_iter().zip(after).filter(|(from, to)| from != to).collect();
    assert!(moved.iter().all(|moved| *moved == (0, 1)), "none comes back");
    assert!((400..600).contains(&moved.len()), "one in twenty goes, not {} of 10 000", moved.len());
}

#[test]
fn blue_and_green_change_places_at_once_and_back() {
    let split = Split::new(sides(&[100, 0])).by(user());
    let (handle, other) = (split.handle(), split.clone());

    assert!((0..500_u64).all(|user| ask(&split, user) == 0));
    handle.set_weights([0, 100]).unwrap();
    assert!((0..500_u64).all(|user| ask(&other, user) == 1), "clones share the weights");
    handle.set_weights([100, 0]).unwrap();
    assert!((0..500_u64).all(|user| ask(&split, user) == 0));
    assert_eq!(handle.counts().sides, [1000, 500]);
}

#[test]
fn calls_without_a_key_are_split_by_chance_and_a_seed_repeats_it() {
    let draw = |seed| {
        let split = Split::new(sides(&[80, 20])).seed(seed);
        (0..10_000_u64).map(|call| ask(&split, call)).collect::<Vec<_>>()
    };

    let (one, again, other) = (draw(7), draw(7), draw(8));

    assert_eq!(one, again);
    assert_ne!(one, other);
    let second = one.iter().filter(|side| **side == 1).count();
    assert!((1_850..2_150).contains(&second), "{second} of 10 000 are a fifth");
}

#[test]
fn without_a_seed_two_splits_draw_differently() {
    let draw = || {
        let split = Split::new(sides(&[50, 50]));
        (0..64_u64).map(|call| ask(&split, call)).collect::<Vec<_>>()
    };
    assert_ne!(draw(), draw());
}

#[test]
fn calls_without_a_key_go_to_the_first_side_of_a_weight_by_option() {
    let split = Split::new(sides(&[10, 90])).by(|_: &u64| None::<u64>).first_without_key();

    assert!((0..100_u64).all(|call| ask(&split, call) == 0));
    split.handle().set_weights([0, 1]).unwrap();
    assert_eq!(ask(&split, 0), 1, "the first has none");
    assert_eq!(split.handle().counts().to_first, 101);
}

#[test]
fn the_override_comes_first_and_may_choose_a_side_of_weight_0() {
    let split = Split::new(sides(&[1, 0])).by(user()).override_by(|user: &u64| (*user == 13).then_some(1));

    assert_eq!(ask(&split, 12), 0);
    assert_eq!(ask(&split, 13), 1);
    let SplitCounts { sides, by_key, overridden, .. } = split.handle().counts();
    assert_eq!((sides, by_key, overridden), (vec![1, 1], 1, 1));
}

#[test]
fn an_override_to_a_side_that_is_not_there_counts_as_none() {
    let split = Split::new(sides(&[1, 0])).by(user()).override_by(|_: &u64| Some(2));

    assert_eq!(ask(&split, 1), 0);
    let counts = split.handle().counts();
    assert_eq!((counts.no_such_side, counts.overridden, counts.by_key), (1, 0, 1));
}

#[test]
fn one_weight_is_changed_alone() {
    let handle = Split::new(sides(&[80, 10, 10])).handle();

    handle.set_weight(1, 30).unwrap();
    assert_eq!(handle.weights(), [80, 30, 10]);
    assert_eq!(handle.set_weight(3, 1), Err(SplitError::NoSuchSide { side: 3, sides: 3 }));
    assert_eq!(handle.weights(), [80, 30, 10]);
}

#[test]
fn weights_that_cannot_work_are_refused_and_change_nothing() {
    let most = u64::from(u32::MAX);
    let new = |weights: &[u32]| Split::try_new(sides(weights)).map(drop);
    assert_eq!(new(&[]), Err(SplitError::NoSides));
    assert_eq!(new(&[0, 0]), Err(SplitError::NoWeight));
    assert_eq!(new(&[u32::MAX, 1]), Err(SplitError::TooHeavy { total: most + 1, most }));
    assert_eq!(new(&[u32::MAX, 0]), Ok(()));
    assert_eq!(new(&[u32::MAX; 4]), Err(SplitError::TooHeavy { total: 4 * most, most }));

    let handle = Split::new(sides(&[3, 1])).handle();
    assert_eq!(handle.set_weights([]), Err(SplitError::Weights { given: 0, sides: 2 }));
    assert_eq!(handle.set_weights([1, 1, 1]), Err(SplitError::Weights { given: 3, sides: 2 }));
    assert_eq!(handle.set_weights([0, 0]), Err(SplitError::NoWeight));
    assert_eq!(handle.set_weights([u32::MAX; 2]), Err(SplitError::TooHeavy { total: 2 * most, most }));
    assert_eq!(handle.weights(), [3, 1]);
    assert_eq!(
        SplitError::NoWeight.to_string(),
        "split whose weights are all 0: at least one must be above 0"
    );
}

#[test]
fn splits_of_other_seeds_have_nothing_to_do_with_each_other() {
    let one = Split::new(sides(&[50, 50])).handle();
    let other = Split::new(sides(&[50, 50])).hash_by(Hashing::xxh3(1)).handle();

    let both = (0..10_000_u64).filter(|user| one.side_of(*user) == 1 && other.side_of(*user) == 1).count();

    assert!((2_300..2_700).contains(&both), "{both} of 10 000 are a quarter");
}

#[test]
fn who_is_in_the_canary_is_spread_over_a_ring_below_by_the_same_key() {
    use buttress_balance::{ConsistentHash, Node, Order};

    let split = Split::new(sides(&[90, 10])).handle();
    let ring = ConsistentHash::maglev().build(&["a", "b", "c", "d"].map(Node::new)).unwrap();
    let mut load = [0; 4];
    for user in (0..20_000_u64).filter(|user| split.side_of(*user) == 1) {
        let hash = ring.hashing().of(&user.to_be_bytes());
        load[ring.pick(hash, |_| true).unwrap()] += 1;
    }
    assert!(load.iter().all(|load| (400..600).contains(load)), "{load:?}");
}

#[test]
fn choices_and_changes_are_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let split = Split::new(sides(&[1, 0])).by(user()).named("checkout").observe(move |event| {
        seen.lock().unwrap().push(match *event {
            SplitEvent::Chose { policy, side, by, .. } => format!("{policy}: {side} by {by:?}"),
            SplitEvent::Weights { policy, from, to, .. } => format!("{policy}: {from:?} -> {to:?}"),
            SplitEvent::NoSuchSide { policy, side, .. } => format!("{policy}: no {side}"),
            _ => "?".into(),
        });
    });

    ask(&split, 1);
    split.handle().set_weights([1, 3]).unwrap();
    ask(&split.clone().override_by(|_: &u64| Some(1)), 1);
    ask(&split.override_by(|_: &u64| Some(5)).by(NoKey).first_without_key(), 1);

    let told = told.lock().unwrap().join("\n");
    assert_eq!(
        told,
        "checkout: 0 by Key\ncheckout: [1, 0] -> [1, 3]\ncheckout: 1 by Override\n\
         checkout: no 5\ncheckout: 0 by First"
    );
    assert_ne!(Chosen::Key, Chosen::Chance);
}

#[test]
fn the_observer_may_change_the_weights() {
    let handle = Arc::new(std::sync::OnceLock::<SplitHandle>::new());
    let seen = Arc::clone(&handle);
    let split = Split::new(sides(&[1, 0])).observe(move |event| {
        if let (SplitEvent::Chose { .. }, Some(handle)) = (event, seen.get()) {
            handle.set_weights([0, 1]).unwrap();
        }
    });
    handle.set(split.handle()).unwrap();

    assert_eq!((ask(&split, 1), ask(&split, 1)), (0, 1));
}

#[test]
fn the_chosen_side_alone_is_readied_and_waited_for() {
    let (stable, of_stable) = StrictService::<u64, u64>::new(|n| n);
    let (canary, of_canary) = StrictService::<u64, u64>::new(|n| n + 100);
    of_canary.not_ready();
    let mut split = Split::new([(1, stable), (1, canary)]).override_by(|n: &u64| Some(*n as usize));

    let mut waits = Task::new(split.call(1));
    assert!(waits.run().is_pending(), "its side is not ready");
    let mut goes = Task::new(split.call(0));
    assert!(matches!(goes.run(), std::task::Poll::Ready(Ok(0))), "the other side is");
    assert_eq!(of_canary.waiting(), 1);
    of_canary.ready();
    assert!(matches!(waits.run(), std::task::Poll::Ready(Ok(101))));
    assert_eq!((of_stable.calls(), of_canary.calls()), (1, 1));
}

#[test]
fn a_call_allocates_nothing() {
    let mut split = Split::new(sides(&[70, 20, 10])).by(user());
    let mut chance = Split::new(sides(&[70, 20, 10]));
    let mut run = || {
        for n in 0..100_u64 {
            drop(split.call(n));
            drop(chance.call(n));
        }
    };
    run();
    assert_eq!(allocations(run), 0);
}

#[test]
fn types_can_be_named() {
    struct Held {
        _split: Split<Side, NoKey, NoOverride>,
        _call: OnCallFuture<Side, u64>,
    }
    let mut split = Split::new(sides(&[1]));
    let call = split.call(1_u64);
    assert!(format!("{split:?} {:?}", split.handle()).contains("default"));
    let _ = Held { _split: split, _call: call };
    let _: Vec<OnCall<Side>> = Vec::new();
}

#[tokio::test]
async fn it_is_a_service_of_a_stack() {
    let split = tower::ServiceBuilder::new().map_request(|n: u64| n).service(Split::new(sides(&[0, 1])));
    assert_eq!(split.oneshot(1).await.unwrap(), 1);
}
