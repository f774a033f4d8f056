//! How much of governor's time does one check of a limit take: with one budget, by key, by many keys, from two
//! threads, at first sight?
//!
//! All checks are allowed: the rate is far above what two threads can ask for. Both sides read the time stamp counter;
//! rows that end in `alone` give both a time that costs nothing, since one reading takes a good part of the rest.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use buttress_core::{Clock, Store, Timestamp};
use buttress_rate_limit::{Limit, Memory};
use governor::RateLimiter;

mod race;
mod sides;
use race::{Ask, Races, time, times};
use sides::{Fixed, KEYS, RATE, admitted, check, fixed, scatter};

const GOVERNOR: &str = "governor";

fn main() {
    let ask = Ask::from_args();
    let races = Races::new(ask.clone());
    one_budget(&races);
    by_key(&races);
    alone(&races);
    many_keys(&races, ask.scale(1 << 20));
    two_threads(&races);
    first_sight(&races);
}

/// The keys by turns.
fn key(i: u64) -> usize {
    i as usize % KEYS
}

fn one_budget(races: &Races) {
    let (memory, clock) = (sides::memory(), Clock::monotonic());
    let limiter = RateLimiter::direct(sides::quota());
    races.row(
        "one budget",
        GOVERNOR,
        None,
        20_000,
        |n| times(n, |_| admitted(&memory, memory.sink(), clock.now())),
        |n| times(n, |_| limiter.check().is_ok()),
    );
}

/// The check without the clock.
fn alone(races: &Races) {
    let (memory, limiter) = (sides::memory(), RateLimiter::direct_with_clock(sides::quota(), Fixed));
    races.row(
        "one budget alone",
        GOVERNOR,
        None,
        20_000,
        |n| times(n, |_| admitted(&memory, memory.sink(), fixed())),
        |n| times(n, |_| limiter.check().is_ok()),
    );

    let governor = || RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
    let (keys, memory, limiter) = (sides::numbers(KEYS), sides::memory(), governor());
    races.row(
        "by u64 alone",
        GOVERNOR,
        Some(0.25),
        20_000,
        |n| times(n, |i| check(&memory, fixed(), keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );

    let governor = || RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
    let (keys, memory, limiter) = (sides::addresses(KEYS), sides::memory(), governor());
    races.row(
        "by address alone",
        GOVERNOR,
        Some(0.30),
        20_000,
        |n| times(n, |i| check(&memory, fixed(), keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );

    let governor = || RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
    let (keys, memory, limiter) = (sides::names(KEYS), sides::memory(), governor());
    races.row(
        "by string alone",
        GOVERNOR,
        None,
        20_000,
        |n| times(n, |i| check(&memory, fixed(), &keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );
}

fn by_key(races: &Races) {
    let clock = Clock::monotonic();

    let (keys, memory, limiter) =
        (sides::numbers(KEYS), sides::memory(), RateLimiter::dashmap(sides::quota()));
    races.row(
        "by u64",
        GOVERNOR,
        Some(0.25),
        20_000,
        |n| times(n, |i| check(&memory, clock.now(), keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );

    let (keys, memory, limiter) =
        (sides::addresses(KEYS), sides::memory(), RateLimiter::dashmap(sides::quota()));
    races.row(
        "by address",
        GOVERNOR,
        Some(0.30),
        20_000,
        |n| times(n, |i| check(&memory, clock.now(), keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );

    let (keys, memory, limiter) = (sides::names(KEYS), sides::memory(), RateLimiter::dashmap(sides::quota()));
    races.row(
        "by string",
        GOVERNOR,
        None,
        20_000,
        |n| times(n, |i| check(&memory, clock.now(), &keys[key(i)])),
        |n| times(n, |i| limiter.check_key(&keys[key(i)]).is_ok()),
    );
}

/// Keys in an order like chance, so that nearly every check misses the caches.
fn many_keys(races: &Races, count: u64) {
    let clock = Clock::monotonic();
    let pick = |i: u64| scatter(scatter(i) % count);
    let roomy = || Memory::with_capacity(Limit::per_second(RATE.into()), count as usize);
    // Each turn goes on where the one before it ended.
    let from = AtomicU64::new(0);

    let (memory, limiter) = (roomy(), RateLimiter::dashmap(sides::quota()));
    for i in 0..count {
        check(&memory, Timestamp::ZERO, scatter(i));
        let _ = limiter.check_key(&scatter(i));
    }
    races.row(
        "1 M keys by u64",
        GOVERNOR,
        Some(0.50),
        100_000,
        |n| {
            let from = from.fetch_add(n, Ordering::Relaxed);
            times(n, |i| check(&memory, clock.now(), pick(from + i)))
        },
        |n| {
            let from = from.fetch_add(n, Ordering::Relaxed);
            times(n, |i| limiter.check_key(&pick(from + i)).is_ok())
        },
    );

    let address = |n: u64| IpAddr::V4(Ipv4Addr::from_bits(n as u32));
    let (memory, limiter) = (roomy(), RateLimiter::dashmap(sides::quota()));
    for i in 0..count {
        check(&memory, Timestamp::ZERO, address(scatter(i)));
        let _ = limiter.check_key(&address(scatter(i)));
    }
    races.row(
        "1 M keys by address",
        GOVERNOR,
        Some(0.50),
        100_000,
        |n| {
            let from = from.fetch_add(n, Ordering::Relaxed);
            times(n, |i| check(&memory, clock.now(), address(pick(from + i))))
        },
        |n| {
            let from = from.fetch_add(n, Ordering::Relaxed);
            times(n, |i| limiter.check_key(&address(pick(from + i))).is_ok())
        },
    );
}

/// How long two threads take for `count` operations each, started together.
fn both(count: u64, work: impl Fn(u64) -> bool + Sync) -> Duration {
    let start = Barrier::new(2);
    let run = || {
        start.wait();
        times(count, &work)
    };
    thread::scope(|threads| {
        let other = threads.spawn(run);
        let mine = run();
        mine.max(other.join().expect("the work does not panic"))
    })
}

fn two_threads(races: &Races) {
    let clock = Clock::monotonic();
    let keys = sides::addresses(KEYS);

    let (memory, limiter) = (sides::memory(), RateLimiter::dashmap(sides::quota()));
    races.row(
        "two threads on one key",
        GOVERNOR,
        Some(1.0),
        50_000,
        |n| both(n, |_| check(&memory, clock.now(), keys[7])),
        |n| both(n, |_| limiter.check_key(&keys[7]).is_ok()),
    );

    let (memory, limiter) = (sides::memory(), RateLimiter::dashmap(sides::quota()));
    races.row(
        "two threads on 1000 keys",
        GOVERNOR,
        Some(0.50),
        50_000,
        |n| both(n, |i| check(&memory, clock.now(), keys[scatter(i) as usize % 1000])),
        |n| both(n, |i| limiter.check_key(&keys[scatter(i) as usize % 1000]).is_ok()),
    );
}

/// New keys for a new limiter, its making and its growth included.
fn first_sight(races: &Races) {
    let clock = Clock::monotonic();
    races.row(
        "first sight of 100 000 keys",
        GOVERNOR,
        Some(0.30),
        100_000,
        |n| {
            let mut memory = None;
            let spent = time(|| {
                let table = Memory::with_capacity(Limit::per_second(RATE.into()), n as usize);
                times(n, |i| check(&table, clock.now(), scatter(i)));
                memory = Some(table);
            });
            drop(memory);
            spent
        },
        |n| {
            let mut limiter = None;
            let spent = time(|| {
                let map = RateLimiter::dashmap(sides::quota());
                times(n, |i| map.check_key(&scatter(i)).is_ok());
                limiter = Some(map);
            });
            drop(limiter);
            spent
        },
    );
}
