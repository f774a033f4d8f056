//! How much of recloser's, failsafe's and tower-resilience's time does one call through a breaker take: closed, by one
//! thread and by two, with a short window and a long one, and refused?
//!
//! Rows that end in `by time` read the clock once a call, as a window of time has to; where the last calls are judged,
//! a closed call of ours reads none.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use buttress_circuit_breaker::Settings;
use buttress_core::Clock;

mod breakers;
mod race;
mod sides;
use breakers::{Ours, call_failsafe, call_recloser, through};
use race::{Ask, Races, times};

const RECLOSER: &str = "recloser";
const FAILSAFE: &str = "failsafe";
const RESILIENCE: &str = "tower-resilience";

fn main() {
    let ask = Ask::from_args();
    let races = Races::new(ask.clone());
    closed(&races);
    two_threads(&races);
    windows(&races, &ask);
    layers(&races, &ask);
    refused(&races, &ask);
}

fn closed(races: &Races) {
    let clock = Clock::monotonic();
    let (ours, peer) = (breakers::last(100), breakers::recloser(100));
    races.row(
        "closed",
        RECLOSER,
        Some(1.2),
        20_000,
        |n| times(n, |_| ours.call(true, || clock.now())),
        |n| times(n, |_| call_recloser(&peer, true)),
    );

    let (ours, peer) = (breakers::ten_seconds(), breakers::recloser(100));
    races.row(
        "closed by time",
        RECLOSER,
        None,
        20_000,
        |n| times(n, |_| ours.call(true, || clock.now())),
        |n| times(n, |_| call_recloser(&peer, true)),
    );

    let (coarse, ours, peer) = (Clock::coarse(), breakers::ten_seconds(), breakers::recloser(100));
    races.row(
        "closed by time, coarse clock",
        RECLOSER,
        Some(1.2),
        20_000,
        |n| times(n, |_| ours.call(true, || coarse.now())),
        |n| times(n, |_| call_recloser(&peer, true)),
    );

    let (ours, peer) = (breakers::ten_seconds(), breakers::failsafe());
    races.row(
        "closed by time",
        FAILSAFE,
        Some(0.3),
        20_000,
        |n| times(n, |_| ours.call(true, || clock.now())),
        |n| times(n, |_| call_failsafe(&peer)),
    );

    // Every tenth call fails, so that the sums change.
    let (ours, peer) = (breakers::last(100), breakers::recloser(100));
    races.row(
        "closed, one of ten fails",
        RECLOSER,
        Some(1.2),
        20_000,
        |n| times(n, |i| ours.call(i % 10 != 0, || clock.now())),
        |n| times(n, |i| call_recloser(&peer, i % 10 != 0)),
    );
}

fn two_threads(races: &Races) {
    let clock = Clock::monotonic();
    let (ours, peer) = (breakers::last(100), breakers::recloser(100));
    races.row(
        "closed, two threads",
        RECLOSER,
        Some(0.5),
        1_000_000,
        |n| both(n, || ours.call(true, || clock.now())),
        |n| both(n, || call_recloser(&peer, true)),
    );

    let (ours, peer) = (breakers::ten_seconds(), breakers::recloser(100));
    races.row(
        "closed by time, two threads",
        RECLOSER,
        Some(0.5),
        1_000_000,
        |n| both(n, || ours.call(true, || clock.now())),
        |n| both(n, || call_recloser(&peer, true)),
    );

    let (coarse, ours, peer) = (Clock::coarse(), breakers::ten_seconds(), breakers::recloser(100));
    races.row(
        "closed by time, coarse, two threads",
        RECLOSER,
        Some(0.5),
        1_000_000,
        |n| both(n, || ours.call(true, || coarse.now())),
        |n| both(n, || call_recloser(&peer, true)),
    );
}

fn windows(races: &Races, ask: &Ask) {
    let clock = Clock::monotonic();
    let full = |calls: u32| {
        let ours = breakers::last(calls);
        (0..calls).for_each(|_| _ = ours.call(true, || clock.now()));
        ours
    };
    let (long, short) = (full(20_000), full(20));
    races.row(
        "20 000 calls in the window",
        "buttress with 20",
        Some(1.1),
        20_000,
        |n| times(n, |i| long.call(i % 10 != 0, || clock.now())),
        |n| times(n, |i| short.call(i % 10 != 0, || clock.now())),
    );

    let calls = ask.scale(20_000);
    let (mut ours, mut peer) = (breakers::layer(Settings::default()), breakers::resilience(None));
    for _ in 0..calls {
        assert!(through(&mut ours, false) && through(&mut peer, false));
    }
    races.row(
        "layer, 20 000 calls in ten seconds",
        RESILIENCE,
        Some(0.01),
        200,
        |n| times(n, |_| through(&mut ours, false)),
        |n| times(n, |_| through(&mut peer, false)),
    );
}

fn layers(races: &Races, ask: &Ask) {
    let (mut ours, mut peer) = (breakers::layer(breakers::by_calls()), breakers::resilience(Some(100)));
    races.row(
        "layer, closed",
        RESILIENCE,
        Some(0.12),
        ask.scale(5_000),
        |n| times(n, |_| through(&mut ours, false)),
        |n| times(n, |_| through(&mut peer, false)),
    );

    let (mut ours, mut peer) = (breakers::layer(breakers::by_calls()), breakers::resilience(Some(100)));
    for _ in 0..200 {
        let _ = (through(&mut ours, true), through(&mut peer, true));
    }
    races.row(
        "layer, refused",
        RESILIENCE,
        None,
        ask.scale(5_000),
        |n| times(n, |_| through(&mut ours, false)),
        |n| times(n, |_| through(&mut peer, false)),
    );
}

fn refused(races: &Races, ask: &Ask) {
    let clock = Clock::monotonic();
    let (ours, peer) = (breakers::last(20).opened(), breakers::opened_recloser());
    races.row(
        "refused",
        RECLOSER,
        None,
        20_000,
        |n| times(n, |_| ours.call(true, || clock.now())),
        |n| times(n, |_| call_recloser(&peer, true)),
    );
    if ask.wants("refused, less one clock read") {
        let less = less_a_clock_read(&ours, &clock, ask.scale(100_000));
        println!(
            "{:<36} {less:>12.1} {:>12}  {:>5}  {:>5}  a goal in ns",
            "refused, less one clock read", "", "", 30
        );
    }
}

/// The median of how much longer a refusal takes than the one reading of the clock that it makes.
fn less_a_clock_read(ours: &Ours, clock: &Clock, count: u64) -> f64 {
    let mut differences: Vec<f64> = (0..15)
        .map(|_| {
            let refused = times(count, |_| ours.call(true, || clock.now()));
            let read = times(count, |_| clock.now());
            (refused.as_secs_f64() - read.as_secs_f64()) * 1e9 / count as f64
        })
        .collect();
    differences.sort_unstable_by(f64::total_cmp);
    differences[7]
}

/// How long it takes two threads that start together to do `count` calls each.
fn both(count: u64, call: impl Fn() -> bool + Sync) -> Duration {
    let start = Barrier::new(2);
    let run = || {
        start.wait();
        times(count, |_| call())
    };
    thread::scope(|threads| {
        let other = threads.spawn(run);
        let mine = run();
        mine.max(other.join().expect("the work does not panic"))
    })
}
