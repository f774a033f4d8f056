//! A service ends in order: not ready, pre-drain, no new connections, grace, abort.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use buttress_health::{Aborted, Ended, HealthEvent, Phase, Readiness, Shutdown, Stage};
use buttress_testkit::{poll_once, settle};

const SECOND: Duration = Duration::from_secs(1);

fn shutdown() -> Shutdown {
    Shutdown::new(&Readiness::new().clock(Clock::tokio()))
}

/// What came of a shutdown, and after how many seconds.
#[derive(Clone)]
struct Diary {
    clock: Clock,
    start: Timestamp,
    pages: Arc<Mutex<Vec<(&'static str, u64)>>>,
}

impl Diary {
    fn of(shutdown: &Shutdown) -> Self {
        let clock = Clock::tokio();
        let diary = Self { start: clock.now(), clock, pages: Arc::default() };
        let (stopping, aborting, finished) = (shutdown.stopping(), shutdown.aborting(), shutdown.finished());
        diary.keep(async {
            stopping.await;
            "stop accepting"
        });
        diary.keep(async {
            aborting.await;
            "abort"
        });
        diary.keep(async {
            match finished.await {
                Ended::Drained => "drained",
                _ => "cut off",
            }
        });
        diary
    }

    fn keep(&self, comes: impl Future<Output = &'static str> + Send + 'static) {
        let diary = self.clone();
        tokio::spawn(async move {
            let what = comes.await;
            let when = (diary.clock.now() - diary.start).as_secs();
            diary.pages.lock().unwrap().push((what, when));
        });
    }

    /// What is written, in order of time and then of name.
    fn read(&self) -> Vec<(&'static str, u64)> {
        let mut pages = self.pages.lock().unwrap().clone();
        pages.sort_by_key(|&(what, when)| (when, what));
        pages
    }
}

async fn pass(time: Duration) {
    settle().await;
    Clock::tokio().sleep(time).await;
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn by_default_it_is_five_seconds_and_thirty() {
    let shutdown = shutdown();
    let _open = shutdown.guard();
    let diary = Diary::of(&shutdown);
    pass(1000 * SECOND).await;
    assert_eq!((diary.read(), shutdown.stage()), (vec![], Stage::Serving));
    let diary = Diary::of(&shutdown);

    shutdown.begin();
    assert_eq!((shutdown.stage(), shutdown.readiness().phase()), (Stage::PreDrain, Phase::Stopping));
    pass(4 * SECOND).await;
    assert_eq!((diary.read(), shutdown.stage()), (vec![], Stage::PreDrain));
    pass(SECOND).await;
    assert_eq!((diary.read(), shutdown.stage()), (vec![("stop accepting", 5)], Stage::Draining));
    pass(29 * SECOND).await;
    assert_eq!((diary.read().len(), shutdown.stage()), (1, Stage::Draining));
    pass(SECOND).await;

    assert_eq!(diary.read(), [("stop accepting", 5), ("abort", 35), ("cut off", 35)]);
    assert_eq!(shutdown.stage(), Stage::Aborting);
}

#[tokio::test(start_paused = true)]
async fn each_time_is_a_setting() {
    let shutdown = shutdown().pre_drain(30 * SECOND).grace(7 * SECOND);
    let _open = shutdown.guard();
    let diary = Diary::of(&shutdown);

    shutdown.begin();
    pass(100 * SECOND).await;

    assert_eq!(diary.read(), [("stop accepting", 30), ("abort", 37), ("cut off", 37)]);
}

#[tokio::test(start_paused = true)]
async fn the_readiness_is_told_before_anything_else_happens() {
    let shutdown = Arc::new(Mutex::new(None::<Shutdown>));
    let asked = shutdown.clone();
    let readiness = Readiness::new().clock(Clock::tokio()).observe(move |event| {
        let HealthEvent::Phase { phase: Phase::Stopping, .. } = event else { return };
        assert_eq!(asked.lock().unwrap().as_ref().unwrap().stage(), Stage::Serving);
    });
    let told = Shutdown::new(&readiness).pre_drain(Duration::ZERO).grace(Duration::ZERO);
    *shutdown.lock().unwrap() = Some(told.clone());

    told.begin();

    assert_eq!(told.stage(), Stage::Aborting);
    assert_eq!(readiness.phase(), Phase::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_service_with_nothing_left_to_do_ends_before_the_grace_does() {
    let shutdown = shutdown();
    let early = shutdown.guard();
    let late = shutdown.guard();
    let diary = Diary::of(&shutdown);
    assert_eq!(shutdown.guards(), 2);

    shutdown.begin();
    pass(SECOND).await;
    drop(early);
    pass(6 * SECOND).await;
    assert_eq!(diary.read(), [("stop accepting", 5)], "one is open");
    drop(late);
    settle().await;

    assert_eq!(diary.read(), [("stop accepting", 5), ("drained", 7)]);
}

#[tokio::test(start_paused = true)]
async fn without_connections_it_ends_after_the_pre_drain_and_not_before() {
    let shutdown = shutdown();
    let diary = Diary::of(&shutdown);

    shutdown.begin();
    pass(10 * SECOND).await;

    assert_eq!(diary.read(), [("drained", 5), ("stop accepting", 5)]);
}

#[tokio::test(start_paused = true)]
async fn the_second_signal_aborts_at_once() {
    for (signals_at, expected) in [
        ([0, 2], [("abort", 2), ("cut off", 2), ("stop accepting", 2)]),
        ([0, 9], [("stop accepting", 5), ("abort", 9), ("cut off", 9)]),
    ] {
        let shutdown = shutdown();
        let _open = shutdown.guard();
        let diary = Diary::of(&shutdown);

        shutdown.signal();
        pass((signals_at[1] - signals_at[0]) * SECOND).await;
        shutdown.signal();
        settle().await;
        assert_eq!(shutdown.stage(), Stage::Aborting);
        pass(100 * SECOND).await;
        shutdown.signal();

        assert_eq!(diary.read(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_administrator_began_takes_two_signals_to_abort() {
    let shutdown = shutdown();

    shutdown.begin();
    shutdown.begin();
    shutdown.signal();
    assert_eq!(shutdown.stage(), Stage::PreDrain);
    shutdown.signal();

    assert_eq!(shutdown.stage(), Stage::Aborting);
}

#[tokio::test(start_paused = true)]
async fn a_second_beginning_does_not_put_the_end_off() {
    let shutdown = shutdown();
    let diary = Diary::of(&shutdown);

    shutdown.begin();
    pass(3 * SECOND).await;
    shutdown.clone().begin();
    pass(2 * SECOND).await;
    assert_eq!(shutdown.stage(), Stage::Draining);
    pass(8 * SECOND).await;

    assert_eq!(diary.read(), [("drained", 5), ("stop accepting", 5)]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_needs_no_beginning() {
    let shutdown = shutdown();
    let mut stopping = shutdown.stopping();
    assert!(poll_once(&mut stopping).is_pending());

    shutdown.abort();

    assert!(poll_once(&mut stopping).is_ready());
    assert!(poll_once(&mut shutdown.aborting()).is_ready());
    assert_eq!(shutdown.readiness().phase(), Phase::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_grace_without_end_waits_for_ever() {
    let shutdown = shutdown().grace(Duration::MAX);
    let open = shutdown.guard();
    let diary = Diary::of(&shutdown);

    shutdown.begin();
    pass(1_000_000 * SECOND).await;
    assert_eq!(diary.read(), [("stop accepting", 5)]);
    drop(open);
    settle().await;

    assert_eq!(diary.read().last(), Some(&("drained", 1_000_000)));
}

#[tokio::test(start_paused = true)]
async fn what_runs_under_it_ends_by_itself_or_is_dropped_at_the_abort() {
    let shutdown = shutdown();
    assert_eq!(shutdown.run(async { 7 }).await, Ok(7));
    let token = Arc::new(());
    let held = token.clone();
    let server = async move {
        let _held = held;
        pending::<()>().await
    };

    let clock = Clock::tokio();
    let start = clock.now();
    shutdown.begin();
    assert_eq!(shutdown.run(server).await, Err(Aborted));

    assert_eq!(clock.now() - start, 35 * SECOND);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// Never idle: ready to be polled again each time, as a connection under load is.
async fn busy() {
    loop {
        tokio::task::yield_now().await;
        Clock::tokio().sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_told_to_end_once_and_is_cut_off_at_the_abort() {
    let shutdown = shutdown();
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let connection = shutdown.guard().serve(Box::pin(busy()), move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let connection = tokio::spawn(connection);

    shutdown.begin();
    pass(4 * SECOND).await;
    assert_eq!(told.load(Ordering::SeqCst), 0);
    pass(30 * SECOND).await;
    assert_eq!((told.load(Ordering::SeqCst), shutdown.guards()), (1, 1));
    pass(SECOND).await;

    assert_eq!(connection.await.unwrap(), Err(Aborted));
    assert_eq!((told.load(Ordering::SeqCst), shutdown.guards()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_or_is_dropped_counts_no_more() {
    let shutdown = shutdown();
    let ends = shutdown.guard().serve(Box::pin(async { 3 }), |_| ());
    let dropped = shutdown.guard().serve(Box::pin(pending::<()>()), |_| ());
    assert_eq!(shutdown.guards(), 2);

    let mut ends = pin!(ends);
    assert_eq!(ends.as_mut().await, Ok(3));
    drop(dropped);

    // Even while the future that has ended is still there.
    assert_eq!(shutdown.guards(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_asks_when_all_is_over_is_told_at_once_how_it_ended() {
    for (lasts, expected) in [(6, Ended::Drained), (40, Ended::Aborted)] {
        let shutdown = shutdown();
        let guard = shutdown.guard();
        shutdown.begin();
        pass(lasts * SECOND).await;
        drop(guard);
        pass(50 * SECOND).await;

        assert_eq!(poll_once(&mut shutdown.finished()), std::task::Poll::Ready(expected));
    }
    let shutdown = shutdown();
    shutdown.begin();
    pass(50 * SECOND).await;

    assert!(poll_once(&mut shutdown.stopping()).is_ready());
    assert!(poll_once(&mut shutdown.aborting()).is_ready());
    assert!(poll_once(&mut shutdown.finished()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn times_at_the_end_of_time_are_ordinary() {
    let manual = buttress_core::ManualClock::new();
    manual.set(Timestamp::from_nanos(u64::MAX - 1));
    let shutdown = Shutdown::new(&Readiness::new().clock(manual.clock()));

    shutdown.begin();

    // What would be after the end of time never is; a hand can end it.
    assert_eq!(shutdown.stage(), Stage::PreDrain);
    shutdown.abort();
    assert_eq!(shutdown.stage(), Stage::Aborting);
}

#[cfg(all(unix, feature = "signal"))]
#[test]
fn the_signals_of_the_system_begin_it_and_abort_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shutdown = Shutdown::new(&Readiness::new()).pre_drain(3600 * SECOND);
        shutdown.on_signals().unwrap();
        let raise = |signal: &str| {
            let pid = std::process::id().to_string();
            assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        };
        let stopped = async {
            while shutdown.readiness().phase() != Phase::Stopping {
                tokio::task::yield_now().await;
            }
        };

        raise("-TERM");
        stopped.await;
        assert_eq!(shutdown.stage(), Stage::PreDrain);
        raise("-INT");
        shutdown.aborting().await;

        assert_eq!(shutdown.stage(), Stage::Aborting);
    });
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_keeps_nothing_from_beginning_nor_the_second_signal_from_coming() {
    let readiness = Readiness::new().clock(Clock::tokio()).observe(|event| {
        if let HealthEvent::Phase { .. } = event {
            std::panic::resume_unwind(Box::new("the observer panics"));
        }
    });
    let shutdown = Shutdown::new(&readiness);

    shutdown.signal();
    assert_eq!((shutdown.stage(), readiness.phase()), (Stage::PreDrain, Phase::Stopping));
    shutdown.signal();

    assert_eq!(shutdown.stage(), Stage::Aborting);
}
