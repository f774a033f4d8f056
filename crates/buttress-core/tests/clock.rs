//! What the four sources of a clock promise.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use buttress_core::{Clock, ManualClock, Sleep, Timestamp, nanos};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(sleep: std::pin::Pin<&mut Sleep>, waker: &Waker) -> Poll<()> {
    sleep.poll(&mut Context::from_waker(waker))
}

#[test]
fn system_clocks_share_an_origin_and_never_go_back() {
    let (monotonic, coarse) = (Clock::monotonic(), Clock::coarse());
    let mut latest = monotonic.now();
    let mut latest_coarse = coarse.now();
    for _ in 0..10_000 {
        let (now, now_coarse) = (monotonic.now(), coarse.now());
        assert!(now >= latest && now_coarse >= latest_coarse);
        (latest, latest_coarse) = (now, now_coarse);
    }
    // The coarse clock lags behind by its resolution and by what the scheduler makes of it, but it is the same time.
    assert!(coarse.now() <= monotonic.now());
    assert!(monotonic.now() - coarse.now() < 60 * SECOND);
    assert!(Clock::monotonic().now() >= latest);
}

#[test]
fn system_clocks_tell_todays_date() {
    let year_2026 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    assert!(Clock::monotonic().wall() > year_2026 && Clock::coarse().wall() > year_2026);
}

#[test]
fn the_coarse_clock_moves_on() {
    let coarse = Clock::coarse();
    let start = coarse.now();
    let monotonic = Clock::monotonic();
    let begun = monotonic.now();
    while coarse.now() == start {
        assert!(monotonic.now() - begun < 30 * SECOND, "the upkeep thread does not run");
        std::thread::yield_now();
    }
}

#[tokio::test(start_paused = true)]
async fn the_tokio_clock_follows_pause_and_advance() {
    let clock = Clock::tokio();
    let (start, wall) = (clock.now(), clock.wall());

    tokio::time::advance(10 * SECOND).await;

    assert_eq!(clock.now() - start, 10 * SECOND);
    assert_eq!(clock.wall().duration_since(wall).unwrap(), 10 * SECOND);
}

#[test]
fn the_tokio_clock_never_goes_back_between_runtimes() {
    let clock = Clock::tokio();
    let runtime = |paused| {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(paused).build().unwrap()
    };
    let ahead = runtime(true).block_on(async {
        tokio::time::advance(5 * SECOND).await;
        clock.now()
    });
    // Here tokio's own time is five seconds behind what was seen.
    assert!(clock.now() >= ahead);
    assert!(runtime(false).block_on(async { clock.now() }) >= ahead);
}

#[test]
fn what_is_built_inside_with_default_takes_that_clock_and_only_there() {
    let (outer, inner) = (ManualClock::new(), ManualClock::new());
    outer.advance(SECOND);

    Clock::with_default(outer.clock(), || {
        let seen = Clock::with_default(inner.clock(), || Clock::default().now());
        assert_eq!(seen, Timestamp::ZERO);
        assert_eq!(Clock::default().now(), Timestamp::ZERO + SECOND);
        let elsewhere = std::thread::spawn(|| format!("{:?}", Clock::default())).join().unwrap();
        assert_eq!(elsewhere, r#"Clock("monotonic")"#);
    });
    assert_eq!(format!("{:?}", Clock::default()), r#"Clock("monotonic")"#);
}

#[test]
fn a_panic_inside_with_default_puts_the_former_clock_back() {
    let time = ManualClock::new();
    let clock = time.clock();
    let result = std::panic::catch_unwind(move || Clock::with_default(clock, || panic!("on purpose")));
    assert!(result.is_err());
    assert_eq!(format!("{:?}", Clock::default()), r#"Clock("monotonic")"#);
}

#[test]
fn a_manual_sleeper_is_woken_once_its_moment_has_come_and_not_before() {
    let time = ManualClock::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut sleep = pin!(time.clock().sleep(10 * SECOND));
    assert_eq!(poll(sleep.as_mut(), &waker), Poll::Pending);

    time.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    assert_eq!(poll(sleep.as_mut(), &waker), Poll::Pending);

    time.advance(Duration::from_nanos(1));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(sleep.as_mut(), &waker), Poll::Ready(()));
}

#[test]
fn all_sleepers_of_one_moment_are_woken() {
    let time = ManualClock::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut sleepers: Vec<_> = (0..10).map(|_| Box::pin(time.clock().sleep(SECOND))).collect();
    for sleep in &mut sleepers {
        assert_eq!(poll(sleep.as_mut(), &waker), Poll::Pending);
    }

    time.advance(SECOND);

    assert_eq!(wakes.0.load(Ordering::SeqCst), 10);
}

#[test]
fn a_dropped_or_moved_sleeper_is_not_woken_for_its_former_moment() {
    let time = ManualClock::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut moved = pin!(time.clock().sleep(SECOND));
    let mut dropped = Box::pin(time.clock().sleep(SECOND));
    assert_eq!(poll(moved.as_mut(), &waker), Poll::Pending);
    assert_eq!(poll(dropped.as_mut(), &waker), Poll::Pending);

    drop(dropped);
    moved.as_mut().reset(time.now() + 5 * SECOND);
    assert_eq!(poll(moved.as_mut(), &waker), Poll::Pending);
    time.advance(2 * SECOND);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);

    time.advance(3 * SECOND);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(moved.as_mut(), &waker), Poll::Ready(()));
}

#[test]
fn a_clock_set_back_lets_sleepers_wait_for_their_moment_again() {
    let time = ManualClock::new();
    time.advance(100 * SECOND);
    let mut sleep = pin!(time.clock().sleep(SECOND));
    time.set(Timestamp::ZERO);
    assert_eq!(poll(sleep.as_mut(), Waker::noop()), Poll::Pending);
    time.advance(101 * SECOND);
    assert_eq!(poll(sleep.as_mut(), Waker::noop()), Poll::Ready(()));
}

#[test]
fn sleeping_until_the_end_of_time_is_never() {
    let time = ManualClock::new();
    let mut sleep = pin!(time.clock().sleep(Duration::MAX));
    assert_eq!(poll(sleep.as_mut(), Waker::noop()), Poll::Pending);
    time.advance(Duration::from_secs(u32::MAX.into()));
    assert_eq!(poll(sleep.as_mut(), Waker::noop()), Poll::Pending);
}

#[tokio::test(start_paused = true)]
async fn sleeping_on_tokios_time_ends_at_the_deadline() {
    let clock = Clock::tokio();
    let start = clock.now();
    clock.sleep(3 * SECOND).await;
    let slept = clock.now() - start;
    assert!(slept >= 3 * SECOND && slept <= 3 * SECOND + Duration::from_millis(2), "{slept:?}");
}

/// Runs a future on this thread, without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_precise_sleep_needs_no_runtime_and_never_ends_early() {
    let clock = Clock::monotonic();
    for micros in [0, 1, 50, 300, 1100] {
        let sleep = clock.sleep(Duration::from_micros(micros)).precise();
        let deadline = sleep.deadline();
        block_on(sleep);
        assert!(clock.now() >= deadline);
    }
}

#[test]
fn precise_sleepers_are_woken_in_the_order_of_their_moments() {
    struct Note(u8, Arc<std::sync::Mutex<Vec<u8>>>);
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    let (clock, notes) = (Clock::monotonic(), Arc::default());
    let begun = clock.now();
    let mut sleepers = Vec::new();
    for (name, millis) in [(3, 3), (1, 1), (2, 2)] {
        let mut sleep = Box::pin(clock.sleep_until(begun + Duration::from_millis(millis)).precise());
        let _ = poll(sleep.as_mut(), &Waker::from(Arc::new(Note(name, Arc::clone(&notes)))));
        sleepers.push(sleep);
    }
    block_on(clock.sleep_until(begun + Duration::from_millis(4)).precise());

    // Those whose moment was past when they were polled were ready at once.
    assert!(notes.lock().unwrap().is_sorted(), "{notes:?}");
    for mut sleep in sleepers {
        assert!(poll(sleep.as_mut(), Waker::noop()).is_ready());
    }
}

#[test]
fn a_dropped_or_moved_precise_sleeper_leaves_no_waker_behind() {
    let clock = Clock::monotonic();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut sleep = Box::pin(clock.sleep(SECOND * 3600).precise());

    assert!(poll(sleep.as_mut(), &waker).is_pending());
    assert!(poll(sleep.as_mut(), &waker).is_pending(), "polled again");
    assert_eq!(Arc::strong_count(&wakes), 3, "ours, the waker, and its clone");
    sleep.as_mut().reset(clock.now() + SECOND * 7200);
    assert_eq!(Arc::strong_count(&wakes), 2, "moved");
    assert!(poll(sleep.as_mut(), &waker).is_pending());
    drop(sleep);
    assert_eq!(Arc::strong_count(&wakes), 2, "dropped");
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
}

#[test]
fn a_precise_sleeper_can_be_moved_back() {
    let clock = Clock::monotonic();
    let mut sleep = Box::pin(clock.sleep(SECOND * 3600).precise());
    assert!(poll(sleep.as_mut(), Waker::noop()).is_pending());

    sleep.as_mut().reset(clock.now() + Duration::from_millis(1));

    block_on(sleep);
}

#[test]
fn a_waker_that_panics_does_not_keep_others_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of somebody else's");
        }
    }

    let clock = Clock::monotonic();
    let moment = clock.now() + Duration::from_millis(1);
    let mut first = Box::pin(clock.sleep_until(moment).precise());
    let _ = poll(first.as_mut(), &Waker::from(Arc::new(Panics)));

    block_on(clock.sleep_until(moment + Duration::from_millis(1)).precise());
    block_on(clock.sleep(Duration::from_millis(1)).precise());
}

#[tokio::test(start_paused = true)]
async fn a_precise_sleep_on_tokios_time_follows_it() {
    let clock = Clock::tokio();
    let deadline = clock.now() + SECOND * 3600;
    clock.sleep_until(deadline).precise().await;
    assert!(clock.now() >= deadline);
}

#[test]
fn a_precise_sleep_on_a_manual_clock_follows_it() {
    let time = ManualClock::new();
    let mut sleep = Box::pin(time.clock().sleep(SECOND).precise());
    assert!(poll(sleep.as_mut(), Waker::noop()).is_pending());
    time.advance(SECOND);
    assert!(poll(sleep.as_mut(), Waker::noop()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_tokio_sleeper_can_be_moved_on_and_back() {
    let clock = Clock::tokio();
    let start = clock.now();
    let mut sleep = pin!(clock.sleep(SECOND));
    assert!(poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await.is_pending());

    sleep.as_mut().reset(start + 10 * SECOND);
    assert_eq!(sleep.deadline(), start + 10 * SECOND);
    sleep.as_mut().await;
    assert!(clock.now() - start >= 10 * SECOND);

    sleep.as_mut().reset(start);
    sleep.await;
    assert!(clock.now() - start < 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_tokio_sleep_for_ever_neither_panics_nor_ends() {
    let clock = Clock::tokio();
    let mut sleep = pin!(clock.sleep_until(Timestamp::MAX));
    for _ in 0..3 {
        assert!(poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await.is_pending());
        sleep.as_mut().reset(Timestamp::MAX);
        tokio::time::advance(Duration::from_secs(86_400)).await;
    }
}

proptest! {
    #[test]
    fn arithmetic_saturates_at_both_ends(a: u64, b: u64, secs: u64, sub in 0u32..1_000_000_000) {
        let (a, b, by) = (Timestamp::from_nanos(a), Timestamp::from_nanos(b), Duration::new(secs, sub));

        prop_assert!(a + by >= a && a - by <= a);
        prop_assert_eq!((a + by).as_nanos(), a.as_nanos().saturating_add(nanos(by)));
        prop_assert_eq!(a - b, Duration::from_nanos(a.as_nanos().saturating_sub(b.as_nanos())));
        if a <= b {
            prop_assert_eq!(a + (b - a), b);
        }
    }

    #[test]
    fn any_walk_of_the_manual_clock_leaves_no_sleeper_behind(steps in prop::collection::vec((0u8..4, 0u64..50), 1..60)) {
        let time = ManualClock::new();
        let mut sleepers: Vec<(Timestamp, std::pin::Pin<Box<Sleep>>)> = Vec::new();
        for (what, amount) in steps {
            match what {
                0 => time.set(Timestamp::from_nanos(amount)),
                1 => time.advance(Duration::from_nanos(amount)),
                2 => {
                    let deadline = Timestamp::from_nanos(amount);
                    sleepers.push((deadline, Box::pin(time.clock().sleep_until(deadline))));
                }
                _ if (amount as usize) < sleepers.len() => drop(sleepers.swap_remove(amount as usize)),
                _ => {}
            }
            for (deadline, sleep) in &mut sleepers {
                let done = poll(sleep.as_mut(), Waker::noop()).is_ready();
                prop_assert_eq!(done, time.now() >= *deadline);
            }
        }
    }
}
