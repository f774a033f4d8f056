//! How far from their schedule do calls leave that wait their turn, and how many pass in a second, beside
//! `leaky-bucket`?
//!
//! Tasks of one thread call again as soon as they are through. `tokio's timer` and `precise timer` know the schedule and
//! just sleep: nobody comes nearer by these. `leaky-bucket` refills by steps: once with a step for each departure, once
//! with ten departures for a step.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use buttress_rate_limit::{Limit, RateLimitLayer};
use leaky_bucket::RateLimiter;
use tokio::task::LocalSet;
use tower::{Layer, ServiceExt};

mod race;
mod sides;
use race::{Ask, Races, times};
use sides::{RATE, call};

/// When the next departure is due: no multiple of the timer's millisecond, so that each meets it at another point.
const STEP: Duration = Duration::from_micros(1100);
const WAITERS: u32 = 256;

fn main() {
    let ask = Ask::from_args();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    if ask.wants("departures") {
        let lasting = if ask.test { Duration::from_millis(20) } else { Duration::from_secs(3) };
        println!(
            "{:<34} {:>8} {:>8} {:>8} {:>14}",
            "departures, us behind schedule", "p50", "p99", "worst", "rate reached"
        );

        for (who, precise) in [("tokio's timer", false), ("precise timer", true)] {
            let start = Clock::monotonic().now();
            let next = Rc::new(Cell::new(0));
            departures(&runtime, who, lasting, move || {
                let sleep = Clock::monotonic().sleep_until(start + STEP * next.replace(next.get() + 1));
                if precise { sleep.precise() } else { sleep }
            });
        }

        let limit = Limit::new(10, 10 * STEP).burst(1);
        let layer = RateLimitLayer::new(limit).wait(Duration::from_secs(1)).queue(2 * WAITERS);
        let service = layer.layer(sides::Unit);
        departures(&runtime, "buttress", lasting, move || {
            let service = service.clone();
            async move {
                let passed = service.oneshot(()).await;
                assert!(passed.is_ok(), "the queue has room for all");
            }
        });

        for (who, step) in [("leaky-bucket", 1), ("leaky-bucket by tens", 10)] {
            let limiter =
                RateLimiter::builder().max(step).initial(1).refill(step).interval(STEP * step as u32).build();
            let limiter = Rc::new(limiter);
            departures(&runtime, who, lasting, move || {
                let limiter = Rc::clone(&limiter);
                async move { limiter.acquire_one().await }
            });
        }
    }

    println!();
    let races = Races::new(ask);
    let _entered = runtime.enter();
    let layer = RateLimitLayer::per_second(RATE.into()).wait(Duration::from_secs(1)).queue(WAITERS);
    let mut service = layer.layer(sides::Unit);
    let limiter = RateLimiter::builder().max(RATE as usize).initial(RATE as usize).build();
    races.row(
        "nobody waits",
        "leaky-bucket",
        Some(1.0),
        20_000,
        |n| times(n, |_| call(&mut service, ())),
        |n| times(n, |_| sides::ready_now(pin!(limiter.acquire_one()))),
    );
}

/// Lets tasks pass for some time and tells how far each departure was behind its place in the schedule, which starts
/// with the first.
fn departures<F: Future<Output = ()> + 'static>(
    runtime: &tokio::runtime::Runtime,
    who: &str,
    lasting: Duration,
    pass: impl Fn() -> F + Clone + 'static,
) {
    let clock = Clock::monotonic();
    let left: Rc<RefCell<Vec<Timestamp>>> = Rc::default();
    let end = clock.now() + lasting;
    let tasks = LocalSet::new();
    for _ in 0..WAITERS {
        let (clock, left, pass) = (clock.clone(), Rc::clone(&left), pass.clone());
        tasks.spawn_local(async move {
            while clock.now() < end {
                pass().await;
                left.borrow_mut().push(clock.now());
            }
        });
    }
    runtime.block_on(tasks);

    let left = left.borrow();
    let behind = |(at, left_at): (usize, &Timestamp)| *left_at - (left[0] + STEP * at as u32);
    let mut behind: Vec<Duration> = left.iter().enumerate().map(behind).collect();
    behind.sort_unstable();
    let at = |share: f64| behind[((behind.len() - 1) as f64 * share) as usize].as_micros();
    let due = (left[left.len() - 1] - left[0]).as_secs_f64() / STEP.as_secs_f64();
    let reached = 100.0 * (left.len() - 1) as f64 / due;
    println!("{who:<34} {:>8} {:>8} {:>8} {reached:>12.1} %", at(0.5), at(0.99), at(1.0));
}
