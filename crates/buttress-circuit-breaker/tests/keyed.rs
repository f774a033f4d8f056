//! Breakers by key: apart from one another, bounded, and given up when they are idle.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, Judged, Keyed, Mode, Recorded, Rules, Settings, State, Window};
use buttress_core::{HashSink, KeyPart, Timestamp};

const MILLI: Duration = Duration::from_millis(1);
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
        call(&keyed, &rules, key, Judged::Success, START + key as u32 * MILLI);
    }
    call(&keyed, &rules, 0, Judged::Success, START + 8 * MILLI);

    call(&keyed, &rules, 100, Judged::Success, START + 9 * MILLI);

    assert!(keyed.get(hash(0)).is_some(), "it was asked since");
    assert!(keyed.get(hash(1)).is_none());
    assert_eq!(keyed.evicted(), 1);
}

#[test]
fn a_key_that_is_asked_all_the_time_stays_whatever_keys_come() {
    let (rules, keyed) = (rules(), Keyed::new(100, IDLE));
    call(&keyed, &rules, 0, Judged::Success, START);
    call(&keyed, &rules, 0, Judged::Success, START);

    for key in 1..10_000 {
        let now = START + key as u32 * MILLI;
        call(&keyed, &rules, key, Judged::Success, now);
        call(&keyed, &rules, 0, Judged::Ignored, now);
    }

    let breaker = keyed.get(hash(0)).expect("it is there");
    assert_eq!(breaker.view(&rules, START).sums.total, 2);
}

#[test]
fn an_open_breaker_is_kept_whatever_keys_come_until_its_wait_is_over() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    call(&keyed, &rules, 0, Judged::Failure, START);

    // It waits for five seconds.
    for key in 1..5_000 {
        assert!(call(&keyed, &rules, key, Judged::Success, START + key as u32 * MILLI));
    }

    assert!(!call(&keyed, &rules, 0, Judged::Success, START + 4_999 * MILLI));
    assert_eq!((keyed.len(), keyed.crowded()), (8, 0));
    for key in 5_000..5_008 {
        call(&keyed, &rules, key, Judged::Success, START + 10 * SECOND);
    }
    assert!(keyed.get(hash(0)).is_none(), "then it is one that was left alone");
}

#[test]
fn where_all_are_open_a_new_key_goes_without_and_is_counted() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        call(&keyed, &rules, key, Judged::Failure, START);
    }

    assert!(call(&keyed, &rules, 100, Judged::Failure, START + MILLI));

    assert!(keyed.get(hash(100)).is_none());
    assert_eq!((keyed.evicted(), keyed.crowded()), (0, 1));
    assert!((0..8).all(|key| !call(&keyed, &rules, key, Judged::Success, START + MILLI)));
}

#[test]
fn a_call_that_has_read_the_clock_a_moment_before_it_opened_does_not_make_it_go() {
    // All of its wait is left, and more.
    let rules = Settings::default().open_for(60 * SECOND, 60 * SECOND).jitter(0.0).rules().unwrap();
    for micros in [0, 3, 900_000] {
        let keyed = Keyed::new(1, IDLE);
        let opened = START + Duration::from_micros(micros);
        for key in 0..8 {
            let open = |breaker: &Breaker| breaker.open_for(&rules, 60 * SECOND, opened, |_| {});
            keyed.steer(&rules, hash(key), opened, open);
        }

        let asked = keyed.admit(&rules, hash(100), START, || 0, |_| {});

        assert_eq!((asked.place, keyed.evicted(), keyed.crowded()), (None, 0, 1), "{micros} µs before");
    }
}

#[test]
fn nor_one_that_has_just_become_half_open_before_one_that_is_closed() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    call(&keyed, &rules, 0, Judged::Failure, START);
    let later = START + 5 * SECOND;
    for key in 1..8 {
        call(&keyed, &rules, key, Judged::Success, later);
    }
    // The probe has the latest time of all, and its key is the one that was left alone for longest.
    let probe = keyed.get(hash(0)).unwrap().admit(&rules, || later + MILLI, || 0, |_| {});
    assert!(probe.unwrap().is_probe());

    call(&keyed, &rules, 100, Judged::Success, later);

    assert_eq!(keyed.get(hash(0)).map(Breaker::state), Some(State::HalfOpen));
    assert_eq!(keyed.evicted(), 1);
}

#[test]
fn a_probe_of_a_key_is_answered_as_that_of_a_single_breaker() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    call(&keyed, &rules, 0, Judged::Failure, START);
    let asked = keyed.admit(&rules, hash(0), START + 5 * SECOND, || 0, |_| {});
    let (place, mut probe) = (asked.place.unwrap(), asked.answer.unwrap().unwrap());

    keyed.answered(place, &mut probe, START + 6 * SECOND, None);

    assert!(call(&keyed, &rules, 0, Judged::Success, START + 10 * SECOND));
    assert_eq!(keyed.get(hash(0)).map(Breaker::state), Some(State::Closed));
}

#[test]
fn one_that_is_closed_makes_way_before_one_that_is_half_open() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    call(&keyed, &rules, 0, Judged::Failure, START);
    let later = START + 5 * SECOND;
    call(&keyed, &rules, 0, Judged::Success, later);
    for key in 1..8 {
        call(&keyed, &rules, key, Judged::Success, later + SECOND);
    }

    for key in 100..200 {
        call(&keyed, &rules, key, Judged::Success, later + 2 * SECOND);
    }

    let breaker = keyed.get(hash(0)).expect("it is there");
    assert_eq!(breaker.state(), State::HalfOpen);
    // Its time is over.
    for key in 200..208 {
        call(&keyed, &rules, key, Judged::Success, later + 10 * SECOND);
    }
    assert!(keyed.get(hash(0)).is_none());
}

#[test]
fn keys_that_were_not_asked_since_the_clock_has_gone_back_make_way_first() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        call(&keyed, &rules, key, Judged::Success, START);
    }
    let back = Timestamp::ZERO + IDLE;
    for key in 0..7 {
        call(&keyed, &rules, key, Judged::Success, back);
    }

    call(&keyed, &rules, 100, Judged::Success, back + SECOND);

    assert!(keyed.get(hash(7)).is_none());
    assert_eq!(keyed.evicted(), 0);
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
        call(&keyed, &rules, key, Judged::Success, START + 5 * SECOND);
    }

    assert!(call(&keyed, &rules, 0, Judged::Success, START + 5 * SECOND));

    let breaker = keyed.get(hash(0)).unwrap();
    assert_eq!(breaker.view(&rules, START).sums.total, 1);
}

#[test]
fn breakers_set_by_hand_are_kept_and_others_go_without() {
    let (rules, keyed) = (rules(), Keyed::new(1, IDLE));
    for key in 0..8 {
        let forced = keyed.steer(&rules, hash(key), START, |breaker| {
            breaker.force(&rules, Mode::Isolated, START, |_| {});
        });
        assert_eq!(forced, Some(()));
    }

    assert!(call(&keyed, &rules, 100, Judged::Failure, START + 100 * IDLE));

    assert!(keyed.get(hash(100)).is_none());
    assert_eq!((keyed.len(), keyed.evicted(), keyed.crowded()), (8, 0, 1));
    assert!(!call(&keyed, &rules, 0, Judged::Success, START));
    assert_eq!(keyed.steer(&rules, hash(101), START, |_| {}), None, "nor can one be steered");
    assert_eq!(keyed.crowded(), 2);
}
