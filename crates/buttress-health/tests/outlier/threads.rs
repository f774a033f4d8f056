//! Eight threads at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

const THREADS: usize = 8;
const CALLS: usize = 4_000;

/// Conditions that all held at one moment: nothing has changed between the looks.
fn at_one_moment<R>(look: impl Fn() -> R) -> Option<R> {
    (0..1000).find_map(|_| {
        let before = Endpoint::changes();
        let seen = look();
        (Endpoint::changes() == before).then_some(seen)
    })
}

#[test]
fn while_all_fail_no_more_are_out_than_may_be_and_never_the_last_usable_one() {
    // In one priority six of which three may go, in the other two of which both might but for the last.
    let list: Vec<Endpoint> =
        (0..8).map(|n| Endpoint::new(format!("n{n}")).with_priority(u32::from(n > 5))).collect();
    let endpoints = Endpoints::new(list.clone()).unwrap();
    let time = ManualClock::new();
    let outliers = plain()
        .clock(time.clock())
        .consecutive_5xx(2)
        .max_ejection_percent(50)
        .base_ejection_time(Duration::from_millis(5))
        .max_ejection_time(Duration::from_millis(20))
        .follow(&endpoints);
    let (done, looks) = (AtomicBool::new(false), AtomicUsize::new(0));

    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let seen = at_one_moment(|| {
                    [0, 1].map(|priority| {
                        let members = || list.iter().filter(move |endpoint| endpoint.priority() == priority);
                        let out = members().filter(|endpoint| endpoint.condition().is_ejected()).count();
                        (out, members().filter(|endpoint| endpoint.condition().is_usable()).count())
                    })
                });
                if let Some([(out, usable), (second_out, second_usable)]) = seen {
                    assert!(out <= 3 && usable >= 3, "{out} of six are out");
                    assert!(second_out <= 1 && second_usable >= 1, "{second_out} of two are out");
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let callers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let services: Vec<_> = list.iter().map(|endpoint| judged(&outliers, endpoint)).collect();
                let time = &time;
                scope.spawn(move || {
                    for n in 0..CALLS {
                        through(services[(n * 7 + thread) % services.len()].clone(), Failed);
                        if n % 16 == 0 {
                            time.advance(Duration::from_millis(1));
                        }
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });

    let counts = outliers.handle().counts();
    assert!(looks.into_inner() > 0, "it was looked at");
    assert!(counts.all_ejections() > 50, "{counts:?}");
    assert!(counts.over_max_ejection_percent > 50, "{counts:?}");
    time.advance(SECOND);
    assert!(outliers.handle().ejected().is_empty());
    let counts = outliers.handle().counts();
    assert_eq!(counts.all_ejections(), counts.unejections, "each has ended once");
}

#[test]
fn with_only_two_of_which_any_may_go_one_always_stays() {
    let list = named("a b");
    let endpoints = Endpoints::new(list.clone()).unwrap();
    let time = ManualClock::new();
    let detection = plain().clock(time.clock()).consecutive_5xx(1).max_ejection_percent(100);
    let outliers = detection.base_ejection_time(Duration::from_millis(1)).follow(&endpoints);
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let usable = || list.iter().filter(|endpoint| endpoint.condition().is_usable()).count();
                if let Some(usable) = at_one_moment(usable) {
                    assert!(usable >= 1, "both are out");
                }
            }
        });
        let callers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let services: Vec<_> = list.iter().map(|endpoint| judged(&outliers, endpoint)).collect();
                let time = &time;
                scope.spawn(move || {
                    for n in 0..CALLS {
                        through(services[(n + thread) % 2].clone(), Failed);
                        time.advance(Duration::from_micros(300));
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });

    let counts = outliers.handle().counts();
    assert!(counts.all_ejections() > 50 && counts.last_usable > 50, "{counts:?}");
}

#[test]
fn no_result_is_lost_and_none_is_counted_twice() {
    let rig = rig("a b", plain());

    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    rig.call("a", Soft);
                    rig.calls("a", Good, 2);
                }
            });
        }
    });

    let view = rig.view("a");
    assert_eq!(view.succeeded, (2 * THREADS * CALLS) as u64);
    assert_eq!(view.failed, (THREADS * CALLS) as u64);
}
