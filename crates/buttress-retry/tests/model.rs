//! Every interleaving of two threads on one budget. Runs under `--cfg buttress_loom` alone, where a window has two steps.
#![cfg(buttress_loom)]

use std::time::Duration;

use buttress_core::Timestamp;
use buttress_retry::Budget;
use loom::thread;

/// The start of the `n`th step of a window of one second.
fn step(n: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(500 * n)
}

/// `n` extra attempts per window of one second, and one for each original.
fn budget(n: u32) -> Budget {
    Budget::ratio(1.0).min_per_second(n).window(Duration::from_secs(1))
}

/// How many of the withdrawals at these moments pass.
fn withdraw(budget: &Budget, moments: &[Timestamp]) -> u64 {
    moments.iter().filter(|now| budget.withdraw(**now)).count() as u64
}

/// The same on two threads.
fn race(budget: &Budget, one: &'static [u64], other: &'static [u64]) -> u64 {
    let moments = |steps: &[u64]| steps.iter().map(|n| step(*n)).collect::<Vec<_>>();
    let (shared, one, other) = (budget.clone(), moments(one), moments(other));
    let thread = thread::spawn(move || withdraw(&shared, &one));
    withdraw(budget, &other) + thread.join().unwrap()
}

#[test]
fn two_threads_take_exactly_what_is_there() {
    loom::model(|| {
        let budget = budget(3);
        assert_eq!(race(&budget, &[0, 0], &[0, 0]), 3);
        assert_eq!(budget.left(step(0)), 0);
    });
}

#[test]
fn a_turn_of_the_window_gives_no_one_more() {
    loom::model(|| {
        let budget = budget(0);
        budget.deposit(step(0));
        budget.deposit(step(0));

        // In step 1 the originals of step 0 are still there.
        assert_eq!(race(&budget, &[0, 1], &[1, 0]), 2);
        assert_eq!(budget.left(step(1)), 0);
    });
}

#[test]
fn what_has_passed_is_given_again_once() {
    loom::model(|| {
        let budget = budget(1);
        assert!(budget.withdraw(step(0)));

        // In step 2 it is still counted, and no longer in step 3.
        assert_eq!(race(&budget, &[2], &[3]), 1);
        assert_eq!(budget.left(step(3)), 0);
        assert_eq!(budget.left(step(5)), 0, "the second is still counted");
        assert_eq!(budget.left(step(6)), 1);
    });
}

#[test]
fn two_threads_that_wake_at_different_times_after_a_long_idle_one_take_no_more_than_each_window_has() {
    loom::model(|| {
        let budget = budget(1);
        assert!(budget.withdraw(step(0)));

        let taken = race(&budget, &[100], &[200]);

        // Two windows, unless the first thread came so late that the second had moved time on.
        assert!(taken == 1 || taken == 2);
        assert_eq!(budget.left(step(200)), 0);
        assert_eq!(budget.left(step(203)), 1);
    });
}

#[test]
fn an_original_is_never_lost_to_a_turn_of_the_window() {
    loom::model(|| {
        let budget = budget(0);
        let shared = budget.clone();
        let thread = thread::spawn(move || shared.deposit(step(7)));

        let taken = withdraw(&budget, &[step(7)]);
        thread.join().unwrap();

        assert_eq!(taken + budget.left(step(7)), 1);
        assert_eq!(taken + budget.left(step(8)), 1);
        assert_eq!(budget.left(step(9)), 0);
    });
}

#[test]
fn originals_on_two_sides_of_a_turn_each_count_in_their_window() {
    loom::model(|| {
        let budget = budget(0);
        let shared = budget.clone();
        let thread = thread::spawn(move || shared.deposit(step(5)));

        budget.deposit(step(6));
        thread.join().unwrap();

        assert_eq!(budget.left(step(6)), 2);
        // The first counts with step 6 if it came so late.
        assert!((1..=2).contains(&budget.left(step(7))));
        assert_eq!(budget.left(step(8)), 0);
    });
}

#[test]
fn who_comes_late_takes_nothing_by_marks_that_are_being_raised() {
    loom::model(|| {
        let budget = budget(1);
        assert!(budget.withdraw(step(0)));
        assert_eq!(budget.left(step(1)), 0);

        // In step 1 nothing is left, whatever is known of step 100 by then.
        let mover = budget.clone();
        let late = thread::spawn(move || withdraw(&mover, &[step(1), step(100)]));
        budget.left(step(100));
        let taken = late.join().unwrap();

        assert_eq!(taken, 1);
        assert_eq!(budget.left(step(103)), 1);
    });
}
