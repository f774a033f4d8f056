//! What does one check of a limit cost, with one budget and by key, beside governor?
//!
//! All checks are allowed: the rate is far above what one thread can ask for. Both sides read the time stamp counter.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use buttress_core::{Answer, Clock, Decided, KeyPart, Store};
use buttress_rate_limit::{Limit, Memory};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::{Quota, RateLimiter};

const RATE: u32 = 1_000_000_000;
const KEYS: usize = 1000;

fn check(memory: &Memory, clock: &Clock, key: impl KeyPart) -> bool {
    let mut sink = memory.sink();
    key.write(&mut sink);
    match memory.decide(sink, 1, clock.now()) {
        Answer::Now(decision) => decision.admitted(),
        Answer::Later(_) => unreachable!("local state answers at once"),
    }
}

fn addresses() -> Vec<IpAddr> {
    (0..KEYS as u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n * 7919))).collect()
}

fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(RATE).expect("not 0"))
}

fn direct(c: &mut Criterion) {
    let mut group = c.benchmark_group("one budget");
    group.bench_function("buttress", |b| {
        let (memory, clock) = (Memory::new(Limit::per_second(RATE.into())), Clock::monotonic());
        b.iter(|| match memory.decide(memory.sink(), black_box(1), clock.now()) {
            Answer::Now(decision) => decision.admitted(),
            Answer::Later(_) => unreachable!("local state answers at once"),
        });
    });
    group.bench_function("peer: governor", |b| {
        let limiter = RateLimiter::direct(quota());
        b.iter(|| limiter.check().is_ok());
    });
    group.finish();
}

fn keyed(c: &mut Criterion) {
    let addresses = addresses();
    let mut group = c.benchmark_group("by address, 1000 keys");
    group.bench_function("buttress", |b| {
        let (memory, clock) = (Memory::new(Limit::per_second(RATE.into())), Clock::monotonic());
        let mut keys = addresses.iter().cycle();
        b.iter(|| check(&memory, &clock, *keys.next().expect("a cycle has no end")));
    });
    group.bench_function("peer: governor", |b| {
        let limiter = RateLimiter::dashmap(quota());
        let mut keys = addresses.iter().cycle();
        b.iter(|| limiter.check_key(keys.next().expect("a cycle has no end")).is_ok());
    });
    group.finish();

    let names: Vec<String> = (0..KEYS).map(|n| format!("api-key-{n:010}")).collect();
    let mut group = c.benchmark_group("by string, 1000 keys");
    group.bench_function("buttress", |b| {
        let (memory, clock) = (Memory::new(Limit::per_second(RATE.into())), Clock::monotonic());
        let mut keys = names.iter().cycle();
        b.iter(|| check(&memory, &clock, keys.next().expect("a cycle has no end")));
    });
    group.bench_function("peer: governor", |b| {
        let limiter = RateLimiter::dashmap(quota());
        let mut keys = names.iter().cycle();
        b.iter(|| limiter.check_key(keys.next().expect("a cycle has no end")).is_ok());
    });
    group.finish();
}

criterion_group!(benches, direct, keyed);
criterion_main!(benches);
