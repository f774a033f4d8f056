//! How much of tower's, tower-resilience's and backon's time does a retry budget take, and a call through a layer that has
//! nothing to try again?
//!
//! The first rows compare budgets: ours reads the time stamp counter, or a coarse clock, or is given the time; `TpsBudget`
//! reads the system's clock by itself.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use buttress_core::{Clock, Timestamp};
use tower::retry::budget::Budget as _;

mod race;
mod retriers;
mod sides;
use race::{Ask, Races, time, times};
use retriers::{Calls, turn, turn_tps};
use sides::{call, fixed, poll};

const TPS: &str = "tower's TpsBudget";
const RESILIENCE: &str = "tower-resilience";

fn main() {
    let races = Races::new(Ask::from_args());
    deposits(&races);
    turns(&races);
    two_threads(&races);
    idle(&races);
    retries(&races);
    hedges(&races);
}

fn deposits(races: &Races) {
    let (clock, ours, peer) = (Clock::monotonic(), retriers::ours(), retriers::tps());
    races.row(
        "deposit",
        TPS,
        Some(0.7),
        20_000,
        |n| times(n, |_| ours.deposit(clock.now())),
        |n| times(n, |_| peer.deposit()),
    );

    let (ours, peer) = (retriers::ours(), retriers::tps());
    races.row(
        "deposit alone",
        TPS,
        None,
        20_000,
        |n| times(n, |_| ours.deposit(fixed())),
        |n| times(n, |_| peer.deposit()),
    );

    let (clock, ours, peer) = (Clock::monotonic(), retriers::ours(), retriers::resilience());
    races.row(
        "deposit",
        RESILIENCE,
        None,
        20_000,
        |n| times(n, |_| ours.deposit(clock.now())),
        |n| times(n, |_| peer.deposit()),
    );
}

/// A deposit and a withdrawal.
fn turns(races: &Races) {
    let clocks = [("monotonic", Clock::monotonic(), 0.7), ("coarse", Clock::coarse(), 0.25)];
    for (name, clock, goal) in clocks {
        let (ours, peer) = (retriers::ours(), retriers::tps());
        races.row(
            &format!("deposit and withdraw, {name} clock"),
            TPS,
            Some(goal),
            20_000,
            |n| times(n, |_| turn(&ours, || clock.now())),
            |n| times(n, |_| turn_tps(&peer)),
        );
    }

    let (clock, ours, peer) = (Clock::coarse(), retriers::ours(), retriers::resilience());
    races.row(
        "deposit and withdraw, coarse clock",
        RESILIENCE,
        None,
        20_000,
        |n| times(n, |_| turn(&ours, || clock.now())),
        |n| {
            times(n, |_| {
                peer.deposit();
                peer.try_withdraw()
            })
        },
    );
}

fn two_threads(races: &Races) {
    let (clock, ours, peer) = (Clock::coarse(), retriers::ours(), retriers::tps());
    races.row(
        "two threads, coarse clock",
        TPS,
        Some(0.25),
        20_000,
        |n| both(|| times(n, |_| turn(&ours, || clock.now()))),
        |n| both(|| times(n, |_| turn_tps(&peer))),
    );
}

/// How long two threads take that begin at the same time.
fn both(work: impl Fn() -> Duration + Sync) -> Duration {
    let barrier = Barrier::new(2);
    let run = || {
        barrier.wait();
        work()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let mine = run();
        mine.max(other.join().expect("it does not panic"))
    })
}

/// A deposit and a withdrawal after a month in which nothing happened. That of tower is made once for all that are asked
/// for.
fn idle(races: &Races) {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("it needs nothing");
    let (ours, peer) = (retriers::ours(), runtime.block_on(async { retriers::tps() }));
    let now = AtomicU64::new(0);
    races.row(
        "first turn after 30 idle days",
        TPS,
        None,
        200,
        |n| {
            times(n, |_| {
                let step = MONTH.as_nanos() as u64;
                let now = Timestamp::from_nanos(now.fetch_add(step, Ordering::Relaxed) % (u64::MAX / 2));
                turn(&ours, || now)
            })
        },
        |n| {
            runtime.block_on(async {
                tokio::time::advance(MONTH).await;
                time(|| {
                    black_box(turn_tps(&peer));
                }) * n as u32
            })
        },
    );
}

fn calls<S: Calls>(mut service: S) -> impl FnMut(u64) -> Duration {
    move |n| times(n, |_| call(&mut service, ()).expect("it never fails"))
}

fn retries(races: &Races) {
    let monotonic = || retriers::retry(Clock::monotonic());
    races.row(
        "retry, nothing fails",
        "tower",
        None,
        20_000,
        calls(monotonic()),
        calls(retriers::tower_retry()),
    );
    races.row(
        "retry, nothing fails, coarse clock",
        "tower",
        None,
        20_000,
        calls(retriers::retry(Clock::coarse())),
        calls(retriers::tower_retry()),
    );
    races.row(
        "retry, nothing fails",
        RESILIENCE,
        None,
        20_000,
        calls(monotonic()),
        calls(retriers::resilience_retry()),
    );
    let policy = ExponentialBuilder::default();
    races.row("retry, nothing fails", "backon, without a budget", None, 20_000, calls(monotonic()), |n| {
        times(n, |_| poll((|| std::future::ready(Ok::<(), u8>(()))).retry(policy)))
    });
}

fn hedges(races: &Races) {
    for (name, fixed) in [("hedge, fixed delay", true), ("hedge, moving quantile", false)] {
        races.row(
            name,
            "tower",
            None,
            20_000,
            calls(retriers::hedge(Clock::monotonic(), fixed)),
            calls(retriers::tower_hedge()),
        );
    }
}
