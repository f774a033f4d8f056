//! What does a health check cost per probe, without the I/O of the probe?
//!
//! 10 000 endpoints at the default interval of 5 s, by a probe that passes at once: timers, queue, state, counts, and the
//! two allocations of a probe under way. Time is turned by hand in steps of 5 ms.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use buttress_core::{Endpoint, Endpoints, ManualClock};
use buttress_health::HealthCheck;

mod race;
use race::{Ask, time};

/// The share of a core that is the goal at 2 000 probes a second.
const GOAL: f64 = 0.03;

fn main() {
    let ask = Ask::from_args();
    println!("{:<36} {:>12} {:>12} {:>6}", "", "µs/probe", "of a core", "goal");
    for (what, count) in [("1 000 endpoints", 1_000), ("10 000 endpoints", 10_000)] {
        if ask.wants(what) {
            row(what, count, if ask.test { 1 } else { 100 });
        }
    }
}

fn row(what: &str, count: u32, seconds: u64) {
    let list = (0..count).map(|at| Endpoint::new(format!("10.0.{}.{}:443", at / 250, at % 250)));
    let endpoints = Endpoints::new(list).expect("the names differ");
    let hands = ManualClock::new();
    let check = HealthCheck::with(|_| async { true }).clock(hands.clock()).seed(7);
    let checker = check.run(&endpoints).expect("the defaults fit together");
    let handle = checker.handle();
    let mut checker = pin!(checker);
    let mut turn = |seconds: u64| {
        for _ in 0..seconds * 200 {
            hands.advance(Duration::from_millis(5));
            let _ = checker.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    };
    // The first results say more than those that follow.
    turn(6);

    let before = handle.counts().probes;
    let took = time(|| turn(seconds));
    let probes = handle.counts().probes - before;

    let each = took.as_secs_f64() / probes.max(1) as f64;
    println!("{what:<36} {:>12.2} {:>11.2}% {:>5.0}%", each * 1e6, each * 2_000.0 * 100.0, GOAL * 100.0);
}
