//! How many instructions does one check take, ours and the peers'?
//!
//! `benches/instructions.sh` runs each case under callgrind for two counts; the difference, less that of the case's
//! own loop, is what one operation takes.
//!
//!     instructions list         the cases, as the script reads them
//!     instructions CASE COUNT   runs one

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use buttress_core::{Clock, Store};
use buttress_proxy::server::wire::{Limits, Scanner, Step};
use buttress_rate_limit::{Limit, RateLimitLayer};
use governor::RateLimiter;
use governor::clock::{Clock as _, QuantaClock};
use governor::middleware::StateInformationMiddleware;
use leaky_bucket::RateLimiter as LeakyBucket;
use tower::Layer;

mod breakers;
mod retriers;
mod sides;
use sides::layers::{self, Api};
use sides::{AMPLE, Fixed, Hello, KEYS, RATE, Unit, admitted, check, check_and_tell, fixed};

/// One line of the table: what, who, the loop that is not its own, the goal, and what runs.
struct Case(&'static str, &'static str, &'static str, Option<u32>, fn(u64));

/// Cases that stand for the work around the measured one.
const LOOPS: &[(&str, fn(u64))] = &[
    ("loop", |n| repeat(n, || true)),
    ("loop u64", |n| by(n, &sides::numbers(KEYS), |_| true)),
    ("loop address", |n| by(n, &sides::addresses(KEYS), |_| true)),
    ("loop string", |n| by(n, &sides::names(KEYS), |_| true)),
    ("request", |n| by(n, &sides::addresses(KEYS), |key| sides::request(*key))),
    ("request and answer", |n| layer(n, Hello)),
    ("unit", |n| units(n, Unit)),
    ("call", |n| repeat(n, || breakers::through(&mut breakers::Fails, false))),
];

/// A request as browsers send it, 322 bytes long.
const HEAD: &[u8] = b"GET /api/resource/12345?page=2 HTTP/1.1\r\nHost: shop.example.com:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: application/json, text/plain, */*\r\n\
    Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n";

const CASES: &[Case] = &[
    Case("head of 322 bytes", "buttress", "loop", Some(2_500), |n| {
        let mut scanner = Scanner::new(Limits::new());
        repeat(n, || scanner.scan(black_box(HEAD)) == Step::Pass(HEAD.len()));
    }),
    Case("head of 322 bytes", "httparse", "loop", None, |n| {
        repeat(n, || {
            let mut fields = [const { MaybeUninit::uninit() }; 100];
            let mut request = httparse::Request::new(&mut []);
            request.parse_with_uninit_headers(black_box(HEAD), &mut fields)
                == Ok(httparse::Status::Complete(HEAD.len()))
        });
    }),
    Case("clock", "buttress", "loop", None, |n| {
        let clock = Clock::monotonic();
        repeat(n, || black_box(&clock).now());
    }),
    Case("clock", "governor", "loop", None, |n| {
        let clock = QuantaClock::default();
        repeat(n, || black_box(&clock).now());
    }),
    Case("one budget without the clock", "buttress", "loop", Some(40), |n| {
        let memory = sides::memory();
        repeat(n, || admitted(&memory, memory.sink(), fixed()));
    }),
    Case("one budget without the clock", "governor", "loop", None, |n| {
        let limiter = RateLimiter::direct_with_clock(sides::quota(), Fixed);
        repeat(n, || limiter.check().is_ok());
    }),
    Case("one budget", "buttress", "loop", None, |n| {
        let (memory, clock) = (sides::memory(), Clock::monotonic());
        repeat(n, || admitted(&memory, memory.sink(), clock.now()));
    }),
    Case("one budget", "governor", "loop", None, |n| {
        let limiter = RateLimiter::direct(sides::quota());
        repeat(n, || limiter.check().is_ok());
    }),
    Case("one budget refused without the clock", "buttress", "loop", None, |n| {
        let memory = buttress_rate_limit::Memory::new(sides::tight());
        repeat(n, || admitted(&memory, memory.sink(), fixed()));
    }),
    Case("one budget refused without the clock", "governor", "loop", None, |n| {
        let limiter = RateLimiter::direct_with_clock(sides::tight_quota(), Fixed);
        repeat(n, || limiter.check().is_ok());
    }),
    Case("by u64 without the clock", "buttress", "loop u64", None, |n| {
        let memory = sides::memory();
        by(n, &sides::numbers(KEYS), |key| check(&memory, fixed(), *key));
    }),
    Case("by u64 without the clock", "governor", "loop u64", None, |n| {
        let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
        by(n, &sides::numbers(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("by u64", "buttress", "loop u64", None, |n| {
        let (memory, clock) = (sides::memory(), Clock::monotonic());
        by(n, &sides::numbers(KEYS), |key| check(&memory, clock.now(), *key));
    }),
    Case("by u64", "governor", "loop u64", None, |n| {
        let limiter = RateLimiter::dashmap(sides::quota());
        by(n, &sides::numbers(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("by address without the clock", "buttress", "loop address", Some(80), |n| {
        let memory = sides::memory();
        by(n, &sides::addresses(KEYS), |key| check(&memory, fixed(), *key));
    }),
    Case("by address without the clock", "governor", "loop address", None, |n| {
        let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
        by(n, &sides::addresses(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("by address", "buttress", "loop address", None, |n| {
        let (memory, clock) = (sides::memory(), Clock::monotonic());
        by(n, &sides::addresses(KEYS), |key| check(&memory, clock.now(), *key));
    }),
    Case("by address", "governor", "loop address", None, |n| {
        let limiter = RateLimiter::dashmap(sides::quota());
        by(n, &sides::addresses(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("by address and what is left without the clock", "buttress", "loop address", Some(110), |n| {
        let memory = sides::memory();
        by(n, &sides::addresses(KEYS), |key| check_and_tell(&memory, fixed(), *key));
    }),
    Case("by address and what is left without the clock", "governor", "loop address", None, |n| {
        let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed)
            .with_middleware::<StateInformationMiddleware>();
        by(n, &sides::addresses(KEYS), |key| {
            limiter.check_key(key).map_or(0, |left| left.remaining_burst_capacity())
        });
    }),
    Case("by string without the clock", "buttress", "loop string", None, |n| {
        let memory = sides::memory();
        by(n, &sides::names(KEYS), |key| check(&memory, fixed(), key));
    }),
    Case("by string without the clock", "governor", "loop string", None, |n| {
        let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
        by(n, &sides::names(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("by string", "buttress", "loop string", None, |n| {
        let (memory, clock) = (sides::memory(), Clock::monotonic());
        by(n, &sides::names(KEYS), |key| check(&memory, clock.now(), key));
    }),
    Case("by string", "governor", "loop string", None, |n| {
        let limiter = RateLimiter::dashmap(sides::quota());
        by(n, &sides::names(KEYS), |key| limiter.check_key(key).is_ok());
    }),
    Case("layer: allowed without fields", "buttress", "request and answer", Some(400), |n| {
        layer(n, layers::answered(sides::ample(), false));
    }),
    Case("layer: allowed without fields", "tower_governor", "request and answer", None, |n| {
        layer(n, layers::governor_silent(Duration::from_micros(1), AMPLE));
    }),
    Case("layer: allowed without fields", "tower-resilience", "request and answer", None, |n| {
        layer(n, layers::resilience(RATE as usize, Duration::from_secs(1)));
    }),
    Case("layer: allowed with both fields", "buttress", "request and answer", Some(1500), |n| {
        layer(n, layers::answered(sides::ample(), true));
    }),
    Case("layer: allowed with both fields", "tower_governor", "request and answer", None, |n| {
        layer(n, layers::governor(Duration::from_micros(1), AMPLE));
    }),
    Case("layer: refused as an error", "buttress", "request", Some(600), |n| {
        layer(n, layers::typed(sides::tight()));
    }),
    Case("layer: refused as an error", "tower-resilience", "request", None, |n| {
        layer(n, layers::resilience(1, Duration::from_secs(60)));
    }),
    // Not a goal that was set before, but what it is: no change may make it more.
    Case("layer: refused as a response", "buttress", "request", Some(5700), |n| {
        layer(n, layers::answered(sides::tight(), false));
    }),
    Case("queue: nobody waits", "buttress", "loop", None, |n| {
        let limit = Limit::per_second(RATE.into());
        let mut service = RateLimitLayer::new(limit).wait(Duration::from_secs(1)).layer(Unit);
        repeat(n, || sides::call(&mut service, ()).is_ok());
    }),
    Case("queue: nobody waits", "leaky-bucket", "loop", None, |n| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let _entered = runtime.as_ref().expect("a runtime starts").enter();
        let limiter = LeakyBucket::builder().max(RATE as usize).initial(RATE as usize).build();
        repeat(n, || sides::ready_now(pin!(limiter.acquire_one())));
    }),
    Case("layer: refused as a response", "tower_governor", "request", None, |n| {
        layer(n, layers::governor(Duration::from_secs(60), 1));
    }),
    Case("breaker: closed", "buttress", "loop", Some(130), |n| {
        let ours = breakers::last(100);
        repeat(n, || ours.call(true, fixed));
    }),
    Case("breaker: closed", "recloser", "loop", None, |n| {
        let peer = breakers::recloser(100);
        repeat(n, || breakers::call_recloser(&peer, true));
    }),
    Case("breaker: closed by time without the clock", "buttress", "loop", Some(140), |n| {
        let ours = breakers::ten_seconds();
        repeat(n, || ours.call(true, fixed));
    }),
    Case("breaker: closed by time", "buttress", "loop", None, |n| {
        let (ours, clock) = (breakers::ten_seconds(), Clock::monotonic());
        repeat(n, || ours.call(true, || clock.now()));
    }),
    Case("breaker: closed by time", "failsafe", "loop", None, |n| {
        let peer = breakers::failsafe();
        repeat(n, || breakers::call_failsafe(&peer));
    }),
    Case("breaker: refused without the clock", "buttress", "loop", Some(190), |n| {
        let ours = breakers::last(20).opened();
        repeat(n, || ours.call(true, fixed));
    }),
    Case("breaker: refused", "recloser", "loop", None, |n| {
        let peer = breakers::opened_recloser();
        repeat(n, || breakers::call_recloser(&peer, true));
    }),
    Case("breaker layer: closed", "buttress", "call", Some(173), |n| {
        let mut ours = breakers::layer(breakers::by_calls());
        repeat(n, || breakers::through(&mut ours, false));
    }),
    Case("breaker layer: closed", "tower-resilience", "call", None, |n| {
        let mut peer = breakers::resilience(Some(100));
        repeat(n, || breakers::through(&mut peer, false));
    }),
    Case("budget: deposit without the clock", "buttress", "loop", Some(40), |n| {
        let ours = retriers::ours();
        repeat(n, || ours.deposit(fixed()));
    }),
    Case("budget: deposit", "tower", "loop", None, |n| {
        let peer = retriers::tps();
        repeat(n, || tower::retry::budget::Budget::deposit(&peer));
    }),
    Case("budget: deposit and withdraw without the clock", "buttress", "loop", Some(100), |n| {
        let ours = retriers::ours();
        repeat(n, || retriers::turn(&ours, fixed));
    }),
    Case("budget: deposit and withdraw", "tower", "loop", None, |n| {
        let peer = retriers::tps();
        repeat(n, || retriers::turn_tps(&peer));
    }),
    Case("budget: deposit and withdraw", "tower-resilience", "loop", None, |n| {
        let peer = retriers::resilience();
        repeat(n, || {
            peer.deposit();
            peer.try_withdraw()
        });
    }),
    Case("retry layer: nothing fails", "buttress", "unit", None, |n| {
        units(n, retriers::retry(Clock::monotonic()))
    }),
    Case("retry layer: nothing fails", "tower", "unit", None, |n| units(n, retriers::tower_retry())),
    Case("retry layer: nothing fails", "tower-resilience", "unit", None, |n| {
        units(n, retriers::resilience_retry());
    }),
    Case("hedge layer: fixed delay", "buttress", "unit", None, |n| {
        units(n, retriers::hedge(Clock::monotonic(), true));
    }),
    Case("hedge layer: moving quantile", "buttress", "unit", None, |n| {
        units(n, retriers::hedge(Clock::monotonic(), false));
    }),
    Case("hedge layer: moving quantile", "tower", "unit", None, |n| units(n, retriers::tower_hedge())),
];

/// Callgrind counts inside functions called `measured` and nowhere else: a clock that calibrates itself first, for
/// as many turns as that takes, is left out.
#[inline(never)]
fn measured_repeat<T>(n: u64, work: &mut impl FnMut() -> T) {
    for _ in 0..n {
        black_box(work());
    }
}

#[inline(never)]
fn measured_by<K, T>(n: u64, keys: &[K], work: &mut impl FnMut(&K) -> T) {
    for i in 0..n {
        black_box(work(black_box(&keys[i as usize % KEYS])));
    }
}

fn repeat<T>(n: u64, mut work: impl FnMut() -> T) {
    measured_repeat(n, &mut work);
}

fn by<K, T>(n: u64, keys: &[K], mut work: impl FnMut(&K) -> T) {
    measured_by(n, keys, &mut work);
}

fn layer(n: u64, mut service: impl Api) {
    let addresses: Vec<IpAddr> = sides::addresses(KEYS);
    by(n, &addresses, |key| sides::call(&mut service, sides::request(*key)));
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    if name == "list" {
        for (name, _) in LOOPS {
            println!("{name}\t\t\t");
        }
        for Case(what, side, around, goal, _) in CASES {
            println!("{what}\t{side}\t{around}\t{}", goal.map_or_else(String::new, |goal| goal.to_string()));
        }
        return;
    }
    let side = args.next().unwrap_or_default();
    let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let loops = LOOPS.iter().filter(|(loop_name, _)| *loop_name == name && side.is_empty());
    let mut found = loops.map(|(_, run)| *run);
    let case = CASES.iter().find(|case| case.0 == name && case.1 == side).map(|case| case.4);
    match found.next().or(case) {
        Some(run) => run(count),
        None => {
            eprintln!("there is no case '{name}' of '{side}'; see `instructions list`");
            std::process::exit(2);
        }
    }
}

/// Calls of a layer over a service that does nothing.
fn units(count: u64, mut service: impl retriers::Calls) {
    repeat(count, || sides::call(&mut service, ()).is_ok());
}
