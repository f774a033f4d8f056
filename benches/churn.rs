//! What is the longest that a single check takes while new keys keep coming, and where does it come from?
//!
//! Nine of ten checks are of keys never seen before, under a limit that keeps each for a while, so that our table is
//! full of live keys throughout. `governor` has a thread that drops what has expired twenty times a second, as its
//! documentation asks for.
//!
//! The first table takes each check's time as it comes, and with it whatever interrupts this thread; `nothing` is what
//! the machine does to two readings of the clock. The second runs the same checks several times over, each time on a
//! fresh limiter and the same time stamps, and takes the least time of each check: an interruption strikes elsewhere
//! the next time, a pause of the limiter's own comes back at the same place. Governor drops nothing there.

use std::hash::RandomState;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use buttress_rate_limit::{Limit, Memory};
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

mod race;
mod sides;
use race::Ask;
use sides::{check, scatter};

const REPEATS: usize = 7;

fn main() {
    let ask = Ask::from_args();
    let count = ask.scale(1_000_000);

    head("ns, as they come");
    line("nothing", each(count, |_, _| true));
    let memory = Memory::with_capacity(limit(), Memory::DEFAULT_CAPACITY);
    line("buttress", each(count, |i, now| check(&memory, now, key(i))));
    let limiter = RateLimiter::dashmap(quota());
    let over = AtomicBool::new(false);
    let times = thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                limiter.retain_recent();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "governor's own upkeep, at the pace it asks for"
                )]
                thread::park_timeout(Duration::from_millis(50));
            }
        });
        let times = each(count, |i, _| limiter.check_key(&key(i)).is_ok());
        over.store(true, Ordering::Relaxed);
        times
    });
    line("governor", times);

    println!();
    head("ns, least of several runs");
    line("nothing", least(count, || |_, _| true));
    let ours = || {
        let memory = Memory::with_capacity(limit(), Memory::DEFAULT_CAPACITY);
        move |i, _| check(&memory, step(i), key(i))
    };
    line("buttress", least(count, ours));
    let hasher = RandomState::new();
    let theirs = || {
        let limiter = RateLimiter::dashmap_with_clock_and_hasher(quota(), Steps::default(), hasher.clone());
        move |i, _| {
            limiter.clock().0.set(i);
            limiter.check_key(&key(i)).is_ok()
        }
    };
    line("governor", least(count, theirs));
}

/// 10 a second, so that a key is held for a tenth of a second at least.
fn limit() -> Limit {
    Limit::per_second(10)
}

fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(10).expect("not 0"))
}

fn key(i: u64) -> u64 {
    if i.is_multiple_of(10) { scatter(i % 1000) } else { scatter(i | 1 << 32) }
}

/// As if a check came every 200 ns.
fn step(i: u64) -> Timestamp {
    Timestamp::from_nanos(i * 200)
}

/// The same for governor.
#[derive(Clone, Debug, Default)]
struct Steps(std::rc::Rc<std::cell::Cell<u64>>);

impl governor::clock::Clock for Steps {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(step(self.0.get()).as_nanos())
    }
}

/// How long each check takes.
fn each(count: u64, mut check: impl FnMut(u64, Timestamp) -> bool) -> Vec<u64> {
    let clock = Clock::monotonic();
    let mut times = Vec::with_capacity(count as usize);
    for i in 0..count {
        let start = clock.now();
        black_box(check(black_box(i), start));
        times.push((clock.now() - start).as_nanos() as u64);
    }
    times
}

/// The least that each check takes, of several runs of the same.
fn least<C: FnMut(u64, Timestamp) -> bool>(count: u64, fresh: impl Fn() -> C) -> Vec<u64> {
    let mut times = each(count, fresh());
    for _ in 1..REPEATS {
        for (least, time) in times.iter_mut().zip(each(count, fresh())) {
            *least = time.min(*least);
        }
    }
    times
}

fn head(unit: &str) {
    println!("{unit:<26} {:>8} {:>8} {:>8} {:>10} {:>12}", "p50", "p99", "p99.99", "worst", "over 20 us");
}

fn line(who: &str, mut times: Vec<u64>) {
    let over = times.iter().filter(|time| **time > 20_000).count();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{who:<26} {:>8} {:>8} {:>8} {:>10} {over:>12}", at(0.5), at(0.99), at(0.9999), at(1.0));
}
