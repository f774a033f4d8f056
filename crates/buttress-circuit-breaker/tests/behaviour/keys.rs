use super::*;

/// The tens are the upstream; below ten there is none.
fn upstream(n: &u32) -> Option<u32> {
    (*n >= 10).then_some(n / 10)
}

fn fails(result: Result<&u32, &BoxError>) -> Outcome {
    if result.is_ok_and(|n| n % 10 == 0) { Outcome::success() } else { Outcome::failure() }
}

macro_rules! by_upstream {
    ($layer:expr) => {
        rig_of($layer.by(upstream).classify(fails))
    };
}

#[test]
fn each_key_has_a_breaker_of_its_own() {
    let rig = by_upstream!(simple());

    for _ in 0..2 {
        rig.call(11).unwrap();
    }

    assert!(rig.call(11).is_err() && rig.call(12).is_err(), "the first upstream has failed twice");
    assert!(rig.call(20).is_ok(), "the second has not");
    assert_eq!((rig.handle.key(1_u32).state(), rig.handle.key(2_u32).state()), (State::Open, State::Closed));
    assert_eq!(rig.handle.state(), State::Closed);
}

#[test]
fn new_settings_leave_the_key_the_classifier_and_the_name_as_they_are() {
    let once = Settings::default().no_failure_rate().consecutive_failures(1).jitter(0.0);
    let rig = rig_of(simple().by(upstream).classify(fails).named("stock").settings(once));

    rig.call(11).unwrap();

    let refused = rig.call(10).unwrap_err();
    assert_eq!(refused.rejection().unwrap().policy.as_deref(), Some("stock"));
    assert!(rig.call(20).is_ok(), "another upstream");
}

#[test]
fn a_probe_of_one_key_says_nothing_of_another() {
    let rig = by_upstream!(simple());
    for n in [11, 11, 21, 21] {
        rig.call(n).unwrap();
    }
    rig.time.advance(5 * SECOND);

    rig.call(10).unwrap();

    assert_eq!((rig.handle.key(1_u32).state(), rig.handle.key(2_u32).state()), (State::Closed, State::Open));
}

#[test]
fn calls_without_a_key_share_one() {
    let rig = by_upstream!(simple());

    rig.call(3).unwrap();
    rig.call(4).unwrap();

    assert!(rig.call(5).is_err());
    assert!(rig.call(10).is_ok(), "keys are not concerned");
    assert_eq!((rig.handle.state(), rig.handle.key(Global).state()), (State::Open, State::Open));
}

#[test]
fn one_key_is_steered_before_its_first_call() {
    let rig = by_upstream!(simple());

    rig.handle.key(1_u32).isolate("it moves house");

    assert!(rig.call(10).is_err() && rig.call(20).is_ok());
    assert_eq!(rig.handle.key(1_u32).note().as_deref(), Some("it moves house"));
    rig.handle.key(1_u32).reset();
    assert!(rig.call(10).is_ok());
}

#[test]
fn all_keys_are_steered_at_once() {
    let rig = by_upstream!(simple());
    rig.call(10).unwrap();

    rig.handle.isolate("maintenance");
    assert!([10, 20, 5].map(|n| rig.call(n).is_err()).iter().all(|refused| *refused));
    rig.handle.disable();
    assert!((0..10).all(|_| rig.call(11).is_ok()));

    rig.handle.reset();
    rig.call(11).unwrap();
    rig.call(11).unwrap();
    assert!(rig.call(11).is_err());
    rig.handle.reset();
    assert!(rig.call(11).is_ok(), "what keys had counted is gone as well");
}

#[test]
fn the_keys_that_are_there_are_listed_by_name() {
    let rig = by_upstream!(simple());
    for n in [10, 20, 30] {
        rig.call(n).unwrap();
    }
    rig.handle.key(2_u32).force_open();

    let mut names: Vec<_> = rig
        .handle
        .keys()
        .iter()
        .map(|key| (key.name().expect("it has one").to_string(), key.state()))
        .collect();
    names.sort_by(|one, other| one.0.cmp(&other.0));

    // Four bytes read as an address; see `Handle::name`.
    assert_eq!(
        names,
        [
            ("0.0.0.1".to_owned(), State::Closed),
            ("0.0.0.2".to_owned(), State::ForcedOpen),
            ("0.0.0.3".to_owned(), State::Closed)
        ]
    );
    assert_eq!(rig.handle.counts().keys, 3);
}

#[test]
fn a_flood_of_keys_is_bounded_and_what_is_set_by_hand_stays() {
    let rig = by_upstream!(simple().capacity(16));
    rig.handle.key(1_u32).isolate("maintenance");

    for n in 2..10_000 {
        rig.call(10 * n).unwrap();
    }

    let counts = rig.handle.counts();
    assert!(counts.keys <= 24, "{counts:?}");
    assert!(counts.evicted > 9_000, "{counts:?}");
    assert!(rig.call(10).is_err());
}

#[test]
fn a_flood_of_keys_does_not_close_one_that_is_open() {
    let rig = by_upstream!(simple().capacity(16));
    rig.call(11).unwrap();
    rig.call(11).unwrap();

    for n in 2..4_000 {
        rig.time.advance(Duration::from_millis(1));
        rig.call(10 * n).unwrap();
    }

    assert!(rig.call(10).is_err(), "it is open for five seconds");
}

#[test]
fn a_key_for_which_there_is_no_room_is_not_steered_and_that_is_told_and_counted() {
    let rig = by_upstream!(simple().capacity(1));
    let isolated = (1..=9_u32).filter(|key| rig.handle.key(*key).isolate("maintenance")).count();

    assert_eq!((isolated, rig.handle.counts().crowded), (8, 1));
    assert_eq!(rig.handle.key(9_u32).state(), State::Closed);
    assert!(rig.handle.isolate("all of them"), "the layer's own has room always");
}

#[test]
fn what_is_steered_is_listed_by_its_name_and_reset_with_all_others() {
    let rig = by_upstream!(simple().capacity(1));
    for key in 1..=8_u32 {
        rig.handle.key(key).force_open();
    }
    assert_eq!(rig.handle.keys().len(), 8);

    rig.handle.reset();

    assert!(rig.handle.keys().iter().all(|key| key.state() == State::Closed));
    assert!((1..=100).all(|n| rig.call(10 * n).is_ok()));
    assert_eq!(rig.handle.counts().crowded, 0);
}

#[test]
fn to_reset_a_key_that_is_not_there_makes_no_breaker_for_it() {
    let rig = by_upstream!(simple());
    rig.call(10).unwrap();

    rig.handle.key(2_u32).reset();

    assert_eq!(rig.handle.counts().keys, 1);
}

#[test]
fn the_longest_open_time_is_no_idle_time() {
    let rig = by_upstream!(simple().open_for(Duration::from_secs(3600), Duration::from_secs(7200)));
    rig.call(11).unwrap();
    rig.call(11).unwrap();
    rig.time.advance(Duration::from_secs(3599));

    for n in 2..10_000 {
        rig.call(10 * n).unwrap();
    }

    assert!(rig.call(10).is_err());
}
