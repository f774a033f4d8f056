//! What a budget allows, told with a hand on the clock.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use buttress_core::{BoxError, ManualClock, Timestamp};
use buttress_retry::{Backoff, Budget, HedgeLayer, RetryLayer};
use buttress_testkit::Task;
use proptest::prelude::*;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + SECOND * seconds as u32
}

fn deposit(budget: &Budget, n: u64, now: Timestamp) {
    (0..n).for_each(|_| budget.deposit(now));
}

/// How many withdrawals in a row are allowed.
fn drain(budget: &Budget, now: Timestamp) -> u64 {
    (0..).take_while(|_| budget.withdraw(now)).count() as u64
}

#[test]
fn each_ratio_is_what_it_says() {
    // Among them those that become another when 1 / ratio is cut to a whole number, or the product of floats is.
    for hundredths in 1..=100 {
        let budget = Budget::ratio(hundredths as f64 / 100.0);
        deposit(&budget, 100, at(0));

        assert_eq!(budget.left(at(0)), hundredths);
        assert_eq!(drain(&budget, at(0)), hundredths);
    }
}

#[test]
fn parts_of_an_attempt_add_up() {
    let budget = Budget::ratio(0.3).min_per_second(1).window(Duration::from_millis(1500));
    deposit(&budget, 1, at(0));
    assert_eq!(budget.left(at(0)), 1, "0.3 + 1.5");

    deposit(&budget, 1, at(0));
    assert_eq!(budget.left(at(0)), 2, "0.6 + 1.5");
}

#[test]
fn a_new_budget_has_its_minimum_at_once() {
    assert_eq!(drain(&Budget::default(), at(0)), 100);
    assert_eq!(drain(&Budget::default(), at(1_000_000)), 100);
    assert_eq!(drain(&Budget::ratio(0.2), at(0)), 0);
    assert_eq!(drain(&Budget::ratio(0.2).min_per_second(3).window(SECOND), at(0)), 3);
}

#[test]
fn an_original_pays_for_nothing_once_the_window_has_passed() {
    let budget = Budget::ratio(1.0);
    budget.deposit(at(0));

    assert_eq!(budget.left(at(9)), 1);
    assert_eq!(budget.left(at(10)), 0);
}

#[test]
fn an_extra_attempt_is_held_against_the_window_until_it_has_passed() {
    let budget = Budget::ratio(1.0).min_per_second(1).window(SECOND);
    assert!(budget.withdraw(at(0)));

    let nearly = Timestamp::from_nanos(1_049_999_999);
    assert_eq!(budget.left(nearly), 0, "the window, and a step of it");
    assert_eq!(budget.left(Timestamp::from_nanos(1_050_000_000)), 1);
}

#[test]
fn clones_share_and_changed_ones_do_not() {
    let budget = Budget::ratio(1.0);
    let clone = budget.clone();
    let other = budget.clone().min_per_second(1);

    deposit(&clone, 3, at(0));
    assert!(budget.withdraw(at(0)));

    assert_eq!(clone.left(at(0)), 2);
    assert_eq!(other.left(at(0)), 10);
}

#[test]
fn a_layer_below_another_spends_what_the_upper_one_counts() {
    let above = Budget::ratio(0.5);
    let below = above.without_deposits();

    deposit(&above, 10, at(0));
    deposit(&below, 10, at(0));

    assert_eq!(drain(&below, at(0)), 5);
    assert_eq!(above.left(at(0)), 0);

    let changed = below.min_per_second(1);
    deposit(&changed, 10, at(0));
    assert_eq!(changed.left(at(0)), 10, "it counts no calls when a setting changes either");
}

#[test]
fn a_budget_without_a_bound_has_none() {
    let budget = Budget::unlimited().min_per_second(1).window(SECOND);
    assert!((0..10_000).all(|_| budget.withdraw(at(0))));
    assert_eq!(budget.left(at(0)), u64::MAX);
}

#[test]
fn nothing_that_cannot_work_is_taken() {
    for ratio in [f64::NAN, -0.1, 0.0, -0.0, 1.01, f64::INFINITY, f64::NEG_INFINITY, 1e-10] {
        let error = Budget::try_ratio(ratio).unwrap_err();
        assert_eq!((error.field(), error.value()), ("ratio", format!("{ratio:?}").as_str()));
    }
    let refused = |window| {
        let build = move || Budget::default().window(window);
        let panic = std::panic::catch_unwind(build).expect_err("it cannot work");
        panic.downcast_ref::<String>().expect("a sentence").clone()
    };
    assert_eq!(refused(Duration::ZERO), "retry budget with `window` = 0ns: must be from 1 s to 1 h");
    assert!(refused(Duration::MAX).contains("`window`"));
    assert!(Budget::try_ratio(1e-9).is_ok() && Budget::try_ratio(1.0).is_ok());
}

#[test]
fn the_end_of_time_and_a_step_back_are_ordinary() {
    let budget = Budget::ratio(0.5).min_per_second(u32::MAX).window(Duration::from_secs(3600));
    deposit(&budget, 2, Timestamp::MAX);
    assert_eq!(budget.left(Timestamp::MAX), 1 + 3600 * u64::from(u32::MAX));
    assert!(budget.withdraw(Timestamp::MAX));

    // Time stands until it has caught up; calls go on.
    let budget = Budget::ratio(0.5);
    deposit(&budget, 2, Timestamp::MAX);
    deposit(&budget, 2, at(5));
    assert_eq!(drain(&budget, at(5)), 2);
}

#[test]
fn sixty_four_threads_take_exactly_what_is_there() {
    for ratio in [0.1, 0.2, 0.6] {
        let (budget, taken) = (Budget::ratio(ratio), AtomicU64::new(0));
        deposit(&budget, 1000, at(0));

        thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        taken.fetch_add(u64::from(budget.withdraw(at(0))), Ordering::Relaxed);
                    }
                });
            }
        });

        assert_eq!(taken.into_inner(), (ratio * 1000.0) as u64);
    }
}

/// All calls fail, and each is tried again as often as it may be, while time passes.
#[test]
fn at_64_threads_the_load_is_at_most_the_ratio_more() {
    const CALLS: u64 = 2_000;
    let budget = Budget::ratio(0.2).window(SECOND);
    let (clock, extras) = (AtomicU64::new(0), AtomicU64::new(0));
    // Some 13 s in all, a little for each call.
    let tick = || Timestamp::from_nanos(clock.fetch_add(100_000, Ordering::SeqCst));
    let now = || Timestamp::from_nanos(clock.load(Ordering::SeqCst));

    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    budget.deposit(tick());
                    let again = (0..3).take_while(|_| budget.withdraw(now())).count();
                    extras.fetch_add(again as u64, Ordering::SeqCst);
                }
            });
        }
    });

    let (originals, extras) = (64 * CALLS, extras.into_inner());
    assert!(5 * extras <= originals, "{extras} extra attempts for {originals} calls");
    assert!(6 * extras >= originals, "{extras} extra attempts: the budget is there to be used");
}

/// 64 threads race for what is left at each moment, and the window that ends with it is looked at.
#[test]
fn at_64_threads_no_window_has_more_extra_attempts_than_its_originals_pay_for() {
    const MOMENTS: u64 = 1_500;
    let budget = Budget::ratio(0.25).min_per_second(3).window(SECOND);
    let [originals, extras] = [(); 2].map(|()| (0..MOMENTS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    let all_there = Barrier::new(64);

    thread::scope(|scope| {
        for thread in 0..64 {
            let (budget, originals, extras, all_there) = (&budget, &originals, &extras, &all_there);
            scope.spawn(move || {
                for moment in 0..MOMENTS {
                    let (now, at) = (Timestamp::from_nanos(moment * 150_000_000), moment as usize);
                    // Bursts and calm.
                    let calls = (moment * 7 + thread) % 5 * u64::from(moment % 11 < 6);
                    deposit(budget, calls, now);
                    originals[at].fetch_add(calls, Ordering::SeqCst);
                    all_there.wait();
                    extras[at].fetch_add(drain(budget, now), Ordering::SeqCst);
                    all_there.wait();
                }
            });
        }
    });

    let sum = |of: &[AtomicU64]| of.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u64>();
    for last in (0..MOMENTS as usize).filter(|last| extras[*last].load(Ordering::SeqCst) > 0) {
        // Those of the last second: 0, 150, ... 900 ms ago.
        let window = last.saturating_sub(6)..=last;
        let (originals, extras) = (sum(&originals[window.clone()]), sum(&extras[window]));
        assert!(4 * extras <= originals + 4 * 3, "{extras} for {originals} at moment {last}");
    }
    assert!(5 * sum(&extras) > sum(&originals), "it is there to be used");
}

/// The same through layers: half of the threads retry and half of them hedge, on one budget.
#[test]
fn at_64_threads_retries_and_hedges_together_add_at_most_the_ratio() {
    const CALLS: u64 = 500;
    let (budget, time, attempts) = (Budget::ratio(0.2), ManualClock::new(), AtomicU64::new(0));
    let any: fn(&u32) -> bool = |_| true;
    let retry = RetryLayer::cloning(any)
        .attempts(4)
        .backoff(Backoff::constant(Duration::ZERO))
        .clock(time.clock())
        .budget(budget.clone());
    let hedge = HedgeLayer::cloning(any).at_most(3).clock(time.clock()).budget(budget.clone());

    thread::scope(|scope| {
        for at in 0..64 {
            let (retry, hedge, attempts) = (&retry, &hedge, &attempts);
            let failing = tower::service_fn(move |_: u32| {
                attempts.fetch_add(1, Ordering::Relaxed);
                ready(Err::<(), BoxError>("no".into()))
            });
            scope.spawn(move || {
                let (mut retry, mut hedge) = (retry.layer(failing), hedge.layer(failing));
                for _ in 0..CALLS {
                    if at % 2 == 0 {
                        assert!(Task::new(retry.call(1)).run().is_ready());
                    } else {
                        assert!(Task::new(hedge.call(1)).run().is_ready());
                    }
                }
            });
        }
    });

    // Time stands still, and the last call finds all originals.
    let (calls, attempts) = (64 * CALLS, attempts.into_inner());
    assert_eq!(budget.left(time.now()), 0);
    assert_eq!(attempts, calls + calls / 5);
}

/// What a budget should count, by the book.
#[derive(Default)]
struct Book {
    latest: u64,
    originals: VecDeque<u64>,
    extras: VecDeque<u64>,
}

impl Book {
    fn see(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn count(of: &VecDeque<u64>, from: u64) -> u64 {
        of.iter().filter(|at| **at >= from).count() as u64
    }
}

proptest! {
    #[test]
    fn what_is_allowed_is_what_the_last_steps_pay_for(
        thousandths in 1_u64..=1000,
        min in 0_u32..4,
        window in prop::sample::select(vec![1000_u64, 1234, 10_000]),
        steps in prop::collection::vec((prop::bool::ANY, step()), 1..400),
    ) {
        let window = Duration::from_millis(window);
        let bucket = window.as_nanos() as u64 / 20;
        let budget = Budget::ratio(thousandths as f64 / 1000.0).min_per_second(min).window(window);
        let mut book = Book::default();
        let mut now = 0_i128;
        for (is_deposit, step) in steps {
            now = (now + i128::from(step)).clamp(0, i128::from(u64::MAX));
            let seen = book.see(now as u64);
            let moment = Timestamp::from_nanos(now as u64);

            let open = seen / bucket;
            let of_window = (open + 1).saturating_sub(20) * bucket;
            let and_before = open.saturating_sub(20) * bucket;
            let pays = thousandths * 1_000_000 * Book::count(&book.originals, of_window)
                + u64::from(min) * window.as_nanos() as u64;
            let spent = Book::count(&book.extras, and_before);
            prop_assert_eq!(budget.left(moment), (pays / 1_000_000_000).saturating_sub(spent));

            if is_deposit {
                budget.deposit(moment);
                book.originals.push_back(seen);
            } else {
                let allowed = (spent + 1) * 1_000_000_000 <= pays;
                prop_assert_eq!(budget.withdraw(moment), allowed);
                if allowed {
                    book.extras.push_back(seen);
                }
            }
        }
    }

    /// The invariant in its own words, of the window itself and not of its steps.
    #[test]
    fn extra_attempts_in_a_window_are_at_most_the_ratio_of_its_originals_and_the_minimum(
        percent in 1_u64..=100,
        min in 0_u32..3,
        steps in prop::collection::vec((prop::bool::weighted(0.6), 0_u64..200_000_000), 1..600),
    ) {
        let budget = Budget::ratio(percent as f64 / 100.0).min_per_second(min).window(SECOND);
        let (mut now, mut book) = (1_000_000_000_u64, Book::default());
        for (is_deposit, step) in steps {
            now += step;
            let moment = Timestamp::from_nanos(now);
            if is_deposit {
                budget.deposit(moment);
                book.originals.push_back(now);
            } else if budget.withdraw(moment) {
                book.extras.push_back(now);
                // Half open: (now - 1 s, now].
                let from = now - 1_000_000_000 + 1;
                let (originals, extras) =
                    (Book::count(&book.originals, from), Book::count(&book.extras, from));
                prop_assert!(100 * extras <= percent * originals + 100 * u64::from(min));
            }
        }
    }
}

/// A step in time: mostly on by a part of a window, at times back, or far on.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 0_i64..300_000_000,
        2 => 0_i64..3_000_000_000,
        1 => -2_000_000_000_i64..0,
        1 => Just(30 * 24 * 3600 * 1_000_000_000_i64),
        1 => Just(i64::MAX),
        1 => Just(1_i64 << 56),
    ]
}
