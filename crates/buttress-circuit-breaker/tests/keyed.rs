//! Breakers by key: apart from one another, bounded, and given up when they are idle.

use std::time::Duration;

use buttress_circuit_breaker::{Judged, Keyed, Mode, Recorded, Rules, Settings, State, Window};
use buttress_core::{HashSink, KeyPart, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp::from_nanos(3_600_000_000_000);

fn rules() -> Rules {
    Settings::default().window(Window::last(10)).minimum_calls(1).jitter(0.0).rules().unwrap()
}

fn hash(key: u64) -> u64 {
    let mut sink = HashSink::new();
    key.write(&mut sink);
    sink.finish()
}

/// Whether a call passes; it then ends at once.
fn call(keyed: &Keyed, rules: &Rules, key: u64, judged: Judged, now: Timestamp) -> bool {
    let asked = keyed.admit(rules, hash(key), now, || 0, |_| {});
    match asked.answer {
        Some(Ok(admission)) => {
            let place = asked.place.expect("there is an answer");
            keyed.record(rules, place, admission, judged, false, || now, || 0, |_| {});
            true
        }
        Some(Err(_)) => false,
        None => true,
    }
}

#[test]
fn each_key_has_a_breaker_of_its_own() {
    let (rules, keyed) = (rules(), Keyed::new(100, IDLE));

    assert!(call(&keyed, &rules, 1, Judged::Failure, START));

    assert!(!call(&keyed, &rules, 1, Judged::Success, START));
    assert!(call(&keyed, &rules, 2, Judged::Success, START));
    assert_eq!(keyed.get(hash(1)).map(|breaker| breaker.state()), Some(State::Open));
    assert_eq!(keyed.get(hash(2)).map(|breaker| breaker.state()), Some(State::Closed));
    assert!(keyed.get(hash(3)).is_none());
    assert_eq!(keyed.len(), 2);
    assert_eq!(keyed.iter().count(), 2);
}

#[test]
fn as_many_keys_as_were_asked_for_find_room() {
    for capacity in [1, 6, 100, 1000, 10_000] {
        let (rules, keyed) = (rules(), Keyed::new(capacity, IDLE));

        for key in 0..capacity as u64 {
            call(&keyed, &rules, key, Judged::Success, START);
        }

        // Chance may fill both groups of a key first.
        assert!(keyed.evicted() <= capacity as u64 / 100, "{} of {capacity}", keyed.evicted());
        assert_eq!(keyed.len() as u64 + keyed.evicted(), capacity as u64);
    }
}

#[test]
fn however_many_keys_come_so_many_are_held() {
    let (rules, keyed) = (rules(), Keyed::new(100, IDLE));

    for key in 0..100_000 {
        call(&keyed, &rules, key, Judged::Success, START);
    }

    assert!(keyed.len() <= keyed.capacity());
    assert_eq!(keyed.len() as u64 + keyed.evicted(), 100_000);
    assert!(keyed.capacity() <= 136);
}

#[test]
fn idle_keys_make_way_first_and_are_not_counted() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        call(&keyed, &rules, key, Judged::Failure, START);
    }
    let later = START + IDLE;
    for key in 0..7 {
        call(&keyed, &rules, key, Judged::Failure, later);
    }

    call(&keyed, &rules, 100, Judged::Success, later);

    assert!(keyed.get(hash(7)).is_none(), "it was idle");
    assert_eq!((keyed.len(), keyed.evicted()), (8, 0));
    call(&keyed, &rules, 101, Judged::Success, later);
    assert_eq!((keyed.len(), keyed.evicted()), (8, 1));
}

#[test]
fn of_those_in_use_the_one_left_alone_for_longest_makes_way() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        call(&keyed, &rules, key, Judged::Success, START + key as u32 * 5 * SECOND);
    }
    call(&keyed, &rules, 0, Judged::Success, START + 50 * SECOND);

    call(&keyed, &rules, 100, Judged::Success, START + 55 * SECOND);

    assert!(keyed.get(hash(0)).is_some(), "it was asked since");
    assert!(keyed.get(hash(1)).is_none());
    assert_eq!(keyed.evicted(), 1);
}

#[test]
fn a_call_of_a_key_that_made_way_comes_too_late() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    let asked = keyed.admit(&rules, hash(0), START, || 0, |_| {});
    let (place, admission) = (asked.place.unwrap(), asked.answer.unwrap().unwrap());
    for key in 1..=8 {
        call(&keyed, &rules, key, Judged::Success, START + SECOND);
    }
    assert!(keyed.get(hash(0)).is_none());

    let now = || START + SECOND;
    let recorded = keyed.record(&rules, place, admission, Judged::Failure, false, now, || 0, |_| {});

    assert_eq!(recorded, Recorded::Stale);
    assert!(keyed.iter().all(|(_, breaker)| breaker.state() == State::Closed));
}

#[test]
fn a_key_comes_back_with_a_closed_breaker() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    call(&keyed, &rules, 0, Judged::Failure, START);
    for key in 1..=8 {
        call(&keyed, &rules, key, Judged::Success, START + SECOND);
    }

    assert!(call(&keyed, &rules, 0, Judged::Success, START + SECOND));

    let breaker = keyed.get(hash(0)).unwrap();
    assert_eq!(breaker.view(&rules, START).sums.total, 1);
}

#[test]
fn breakers_set_by_hand_are_kept_and_others_go_without() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        let breaker = keyed.get_or_make(&rules, hash(key), START).unwrap();
        breaker.force(&rules, Mode::Isolated, START, |_| {});
    }

    assert!(call(&keyed, &rules, 100, Judged::Failure, START + 100 * IDLE));

    assert!(keyed.get(hash(100)).is_none());
    assert_eq!((keyed.len(), keyed.evicted(), keyed.crowded()), (8, 0, 1));
    assert!(!call(&keyed, &rules, 0, Judged::Success, START));
}
