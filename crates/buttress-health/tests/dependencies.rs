//! A dependency's check: once for all who ask, kept for a while, given up in time.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{Clock, ManualClock, Timestamp};
use buttress_health::{Dependency, DependencyState, HealthEvent, Readiness, Report, Status};
use buttress_testkit::poll_once;

const MS: Duration = Duration::from_millis(1);

fn readiness() -> Readiness {
    Readiness::new().clock(Clock::tokio())
}

/// How often something was done.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped.
struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add();
    }
}

fn state(report: &Report) -> DependencyState {
    report.dependencies[0].state
}

/// A check that passes after a while, and counts its runs.
fn slow(runs: &Count, time: Duration) -> Dependency {
    let runs = runs.clone();
    Dependency::critical("database", move || {
        runs.add();
        async move {
            Clock::tokio().sleep(time).await;
            Ok::<_, &str>(())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_probes_runs_a_check_once_in_each_ttl() {
    let runs = Count::default();
    let readiness = readiness().depends_on(slow(&runs, 100 * MS));

    for storm in 1..=3 {
        let asked: Vec<_> = (0..1_000)
            .map(|_| {
                let readiness = readiness.clone();
                tokio::spawn(async move { readiness.report().await.status })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Status::Ready);
        }
        tokio::time::advance(999 * MS).await;
        assert_eq!(readiness.report().await.status, Status::Ready);
        assert_eq!(runs.get(), storm, "within the ttl");
        tokio::time::advance(MS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn checks_run_at_the_same_time() {
    let clock = Clock::tokio();
    let mut readiness = readiness();
    for name in ["a", "b", "c"] {
        let check = || async {
            Clock::tokio().sleep(300 * MS).await;
            Ok::<_, &str>(())
        };
        readiness = readiness.depends_on(Dependency::critical(name, check));
    }
    let start = clock.now();

    readiness.report().await;

    assert_eq!(clock.now() - start, 300 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_holds_the_answer_up_for_its_timeout_and_is_dropped() {
    let clock = Clock::tokio();
    let dropped = Count::default();
    let held = dropped.clone();
    let hangs = Dependency::critical("database", move || {
        let held = Counted(held.clone());
        async move {
            let _held = held;
            pending::<Result<(), &str>>().await
        }
    });
    let readiness = readiness().depends_on(hangs);
    let start = clock.now();

    let report = readiness.report().await;

    assert_eq!(clock.now() - start, 800 * MS);
    assert_eq!((state(&report), report.status), (DependencyState::TimedOut, Status::NotReady));
    tokio::task::yield_now().await;
    assert_eq!(dropped.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_check_has_a_timeout_of_its_own() {
    let clock = Clock::tokio();
    let readiness = readiness()
        .depends_on(Dependency::critical("a", pending::<Result<(), &str>>).timeout(50 * MS))
        .depends_on(Dependency::optional("b", pending::<Result<(), &str>>).timeout(200 * MS));
    let start = clock.now();

    let report = readiness.report().await;

    assert_eq!(clock.now() - start, 200 * MS);
    assert_eq!(report.dependencies[0].took, 50 * MS);
    assert_eq!(report.dependencies[0].age, 150 * MS);
    assert_eq!(report.dependencies[1].took, 200 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_has_failed_and_says_why() {
    let at_once = |_: ()| -> std::future::Ready<Result<(), String>> { panic!("out of {}", "paper") };
    let readiness = readiness()
        .depends_on(Dependency::critical("when it is made", move || at_once(())))
        .depends_on(Dependency::critical("when it is polled", || async {
            let fails: Result<(), &str> = Err("never made");
            assert!(fails.is_ok(), "out of ink");
            fails
        }));

    let report = readiness.report().await;

    for (found, why) in report.dependencies.iter().zip(["out of paper", "out of ink"]) {
        assert_eq!(found.state, DependencyState::Panicked);
        assert_eq!(found.error.as_deref(), Some(why));
    }
}

/// Panics when it is asked what it says.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("unspeakable")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_shown_and_a_destructor_that_does_are_contained() {
    struct Explodes;
    impl Drop for Explodes {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    let explodes = || async {
        let _explodes = Explodes;
        pending::<Result<(), &str>>().await
    };
    let readiness = readiness()
        .depends_on(Dependency::critical("unspeakable", || async { Err(Unspeakable) }))
        .depends_on(Dependency::critical("explodes", explodes));

    let report = readiness.report().await;

    assert_eq!(report.dependencies[0].state, DependencyState::Panicked);
    assert_eq!(report.dependencies[1].state, DependencyState::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_goes_away_does_not_end_the_check_for_the_others() {
    let runs = Count::default();
    let readiness = readiness().depends_on(slow(&runs, 300 * MS));
    {
        let mut gone = pin!(readiness.report());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        tokio::task::yield_now().await;
        tokio::time::advance(100 * MS).await;
    }

    let report = readiness.report().await;

    assert_eq!((state(&report), runs.get()), (DependencyState::Passing, 1));
    assert_eq!(report.dependencies[0].took, 300 * MS);
}

#[test]
fn a_check_whose_runtime_ends_was_cancelled_and_is_run_again_on_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let manual = ManualClock::new();
    let runs = Count::default();
    let counted = runs.clone();
    // The first run hangs, the second passes.
    let dependency = Dependency::critical("database", move || {
        let hangs = counted.add() == 1;
        async move { if hangs { pending().await } else { Ok::<_, &str>(()) } }
    });
    let readiness = Readiness::new().clock(manual.clock()).depends_on(dependency);

    let first = runtime();
    first.block_on(async {
        let mut asked = pin!(readiness.report());
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::task::yield_now().await;
    });
    drop(first);

    let second = runtime();
    assert_eq!(state(&second.block_on(readiness.report())), DependencyState::Cancelled);
    manual.advance(Duration::from_secs(1));
    assert_eq!(state(&second.block_on(readiness.report())), DependencyState::Passing);
    assert_eq!(runs.get(), 2);
}

#[test]
fn without_a_runtime_a_check_is_cancelled_at_once() {
    let readiness =
        Readiness::new().depends_on(Dependency::critical("database", || async { Ok::<_, &str>(()) }));
    let mut asked = pin!(readiness.report());

    let Poll::Ready(report) = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for a check that nobody runs");
    };

    assert_eq!(state(&report), DependencyState::Cancelled);
}

#[test]
fn a_check_that_blocks_its_thread_is_given_up_in_time_and_never_run_twice_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let manual = ManualClock::new();
    let runs = Count::default();
    let (began, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (counted, released) = (runs.clone(), Mutex::new(released));
    let dependency = Dependency::critical("database", move || {
        let first = counted.add() == 1;
        began.send(()).unwrap();
        if first {
            released.lock().unwrap().recv().unwrap();
        }
        async move { if first { Err("long overdue") } else { Ok(()) } }
    });
    let (changes, changed) = mpsc::channel();
    let readiness = Readiness::new().clock(manual.clock()).observe(move |event| {
        if let HealthEvent::Dependency { to, .. } = event {
            changes.send(*to).unwrap();
        }
    });
    let readiness = readiness.depends_on(dependency);

    runtime.block_on(async {
        let mut asked = pin!(readiness.report());
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        has_begun.recv().unwrap();
        manual.advance(800 * MS);
        assert_eq!(state(&asked.await), DependencyState::TimedOut);
        for _ in 0..3 {
            manual.advance(Duration::from_secs(10));
            assert_eq!(state(&readiness.report().await), DependencyState::TimedOut);
        }
        assert_eq!(runs.get(), 1);

        release.send(()).unwrap();
        while runs.get() < 2 {
            manual.advance(Duration::from_secs(1));
            readiness.report().await;
            tokio::task::yield_now().await;
        }
    });

    // What the first run came back with, long overdue, was not believed.
    assert_eq!(changed.recv().unwrap(), DependencyState::TimedOut);
    assert_eq!(changed.recv().unwrap(), DependencyState::Passing);
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_degrades_and_what_is_critical_ends_readiness() {
    let fails = |_: ()| async { Err::<(), _>("gone") };
    let optional = readiness().depends_on(Dependency::optional("search", move || fails(())));
    let critical = optional.clone().depends_on(Dependency::optional("mail", || async { Ok::<_, &str>(()) }));

    assert_eq!(critical.report().await.status, Status::Degraded);

    let critical = critical.depends_on(Dependency::critical("database", move || fails(())));
    let report = critical.report().await;

    assert_eq!(report.status, Status::NotReady);
    assert_eq!(report.dependencies.len(), 3);
    // A clone is the same state.
    assert_eq!(optional.report().await.dependencies.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_once() {
    let up = Arc::new(AtomicUsize::new(1));
    let told = Arc::new(Mutex::new(Vec::new()));
    let (looked, heard) = (up.clone(), told.clone());
    let readiness = readiness().named("shop").observe(move |event| {
        if let HealthEvent::Dependency { name, dependency, critical, from, to, error, .. } = *event {
            assert_eq!((&**name, &**dependency, critical), ("shop", "database", true));
            heard.lock().unwrap().push((from, to, error.map(str::to_owned)));
        }
    });
    let readiness = readiness.depends_on(Dependency::critical("database", move || {
        let up = looked.load(Ordering::SeqCst) == 1;
        async move { if up { Ok(()) } else { Err("gone") } }
    }));

    for is_up in [1, 1, 0, 0, 1] {
        up.store(is_up, Ordering::SeqCst);
        readiness.report().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    use DependencyState::{Failing, Passing};
    let expected = [
        (None, Passing, None),
        (Some(Passing), Failing, Some("gone".to_owned())),
        (Some(Failing), Passing, None),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_ends_no_check() {
    let readiness = readiness().observe(|_| panic!("in the observer"));
    let readiness = readiness.depends_on(Dependency::critical("database", || async { Ok::<_, &str>(()) }));

    assert_eq!(state(&readiness.report().await), DependencyState::Passing);
}

#[tokio::test(start_paused = true)]
async fn all_the_time_and_no_ttl_are_ordinary() {
    let runs = Count::default();
    let readiness =
        readiness().depends_on(slow(&runs, 3600 * 1000 * MS).timeout(Duration::MAX).ttl(Duration::ZERO));

    for run in 1..=3 {
        assert_eq!(readiness.report().await.status, Status::Ready);
        assert_eq!(runs.get(), run);
    }
}

#[test]
#[should_panic(expected = "a dependency named `database` is there already")]
fn two_dependencies_of_one_name_are_refused() {
    let dependency = || Dependency::critical("database", || async { Ok::<_, &str>(()) });
    let _ = Readiness::new().depends_on(dependency()).depends_on(dependency());
}

#[test]
#[should_panic(expected = "named `traffic`")]
fn the_name_of_the_services_own_calls_is_taken() {
    let _ = Readiness::new().depends_on(Dependency::critical("traffic", || async { Ok::<_, &str>(()) }));
}

#[test]
#[should_panic(expected = "timeout is 0s")]
fn a_timeout_that_no_check_can_keep_is_refused() {
    let _ = Dependency::critical("database", || async { Ok::<_, &str>(()) }).timeout(Duration::ZERO);
}

#[tokio::test]
async fn a_result_from_the_future_of_a_clock_that_was_set_back_is_too_old() {
    let (manual, runs) = (ManualClock::new(), Count::default());
    manual.advance(Duration::from_secs(7_200));
    let count = runs.clone();
    let check = Dependency::critical("database", move || {
        let passes = count.add() > 1;
        async move { if passes { Ok(()) } else { Err("gone") } }
    });
    let readiness = Readiness::new().clock(manual.clock()).depends_on(check);
    assert_eq!(readiness.report().await.status, Status::NotReady);

    manual.set(Timestamp::ZERO);

    assert_eq!(readiness.report().await.status, Status::Ready);
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn a_run_that_hangs_is_given_up_in_time_although_the_clock_was_set_back() {
    let manual = ManualClock::new();
    manual.advance(Duration::from_secs(7_200));
    let hangs = Dependency::critical("database", pending::<Result<(), &str>>);
    let readiness = Readiness::new().clock(manual.clock()).depends_on(hangs);
    let mut first = pin!(readiness.report());
    assert!(poll_once(&mut first).is_pending());

    manual.set(Timestamp::ZERO);
    let mut second = pin!(readiness.report());
    assert!(poll_once(&mut second).is_pending());
    manual.advance(800 * MS);

    let Poll::Ready(report) = poll_once(&mut second) else { panic!("it waits for the former time") };
    assert_eq!(state(&report), DependencyState::TimedOut);
}
