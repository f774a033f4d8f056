//! How much memory does a key take, and does it stop growing when random keys keep coming?
//!
//! Each line is a process of its own, which reads its resident set from Linux. Elsewhere there is nothing to read.
//!
//!     BUTTRESS_KEYS=100000000 cargo bench -p buttress-benches --bench memory

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use buttress_core::Timestamp;
use buttress_rate_limit::{Limit, Memory};
use governor::RateLimiter;

mod race;
mod sides;
use race::Ask;
use sides::{Fixed, check, scatter};

const CAPACITY: u64 = 1 << 20;

/// The process that measures one side is this one again, with these in its environment.
const SIDE: &str = "BUTTRESS_MEMORY_SIDE";
const COUNT: &str = "BUTTRESS_KEYS";

fn main() {
    let ask = Ask::from_args();
    let count = std::env::var(COUNT).ok().and_then(|count| count.parse().ok());
    let flood = ask.scale(count.unwrap_or(10_000_000));
    let fill = ask.scale(CAPACITY);
    if let Ok(side) = std::env::var(SIDE) {
        measure(&side, fill, flood);
        return;
    }
    if resident() == 0 {
        println!("skipped: this system does not say how large the resident set is");
        return;
    }
    println!("{:<24} {:>12} {:>10} {:>24}", "", "keys", "bytes/key", format!("{flood} more, MB"));
    for side in ["buttress", "governor by u64", "governor by address", "governor by string"] {
        if !ask.wants(side) {
            continue;
        }
        let mut again = Command::new(std::env::current_exe().expect("this program has a path"));
        again.args(std::env::args().skip(1)).env(SIDE, side).env(COUNT, flood.to_string());
        assert!(again.status().expect("this program runs again").success());
    }
}

fn measure(side: &str, fill: u64, flood: u64) {
    warm_up();
    let start = resident();
    match side {
        "buttress" => {
            let memory = Memory::with_capacity(Limit::per_minute(1), fill as usize);
            report(side, start, fill, flood, |i| check(&memory, now(i), scatter(i)));
        }
        "governor by u64" => {
            let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
            report(side, start, fill, fill, |i| limiter.check_key(&scatter(i)).is_ok());
        }
        "governor by address" => {
            let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
            let address = |i| IpAddr::V4(Ipv4Addr::from_bits(scatter(i) as u32));
            report(side, start, fill, fill, |i| limiter.check_key(&address(i)).is_ok());
        }
        _ => {
            let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
            report(side, start, fill, fill, |i| limiter.check_key(&format!("api-key-{i:011}")).is_ok());
        }
    }
}

/// Brings in the pages of the program itself, which are no key's.
fn warm_up() {
    let memory = Memory::with_capacity(Limit::per_minute(1), 100);
    let limiter = RateLimiter::dashmap_with_clock(sides::quota(), Fixed);
    for i in 0..1000 {
        check(&memory, now(i), scatter(i));
        let _ = limiter.check_key(&scatter(i));
    }
}

/// A check every 100 ns: every key of the flood is still held when the last one comes.
fn now(i: u64) -> Timestamp {
    Timestamp::from_nanos(i * 100)
}

fn report(side: &str, start: u64, fill: u64, flood: u64, mut check: impl FnMut(u64) -> bool) {
    (0..fill).for_each(|i| _ = check(i));
    let full = resident();
    (fill..fill + flood).for_each(|i| _ = check(i));
    let after = resident();
    println!(
        "{side:<24} {fill:>12} {:>10.1} {:>24}",
        full.saturating_sub(start) as f64 / fill as f64,
        format!("{:+.1} after {flood}", (after as f64 - full as f64) / 1e6),
    );
}

/// The resident set in bytes, or 0 where it cannot be read.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
