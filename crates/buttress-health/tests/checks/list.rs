//! Endpoints that come, go and change while they are probed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use buttress_core::{Clock, Endpoint, Endpoints, Health, ManualClock, Timestamp};
use buttress_health::HealthCheck;
use tokio::sync::oneshot;

use super::{endpoints, health, ms, secs};

/// Probes that end when the test says so.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<(String, oneshot::Sender<bool>)>>>);

impl Held {
    fn check(&self, clock: &Clock) -> HealthCheck<buttress_health::Custom> {
        let held = self.0.clone();
        let check = HealthCheck::with(move |endpoint: Endpoint| {
            let (end, ended) = oneshot::channel();
            held.lock().unwrap().push((endpoint.address().to_string(), end));
            async move { ended.await.unwrap_or(false) }
        });
        check.clock(clock.clone()).initial_jitter(ms(10))
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    fn take(&self) -> oneshot::Sender<bool> {
        self.0.lock().unwrap().remove(0).1
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_is_probed_no_more_and_its_probe_under_way_ends() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints(["a", "b"]));
    let checker = held.check(&clock).run(&list).unwrap();
    let handle = checker.handle();
    let _guard = checker.spawn();
    clock.sleep(ms(20)).await;
    assert_eq!(held.names().len(), 2);

    let removed = list.remove("a", clock.now()).unwrap();
    clock.sleep(ms(20)).await;

    let ends: Vec<_> = std::mem::take(&mut *held.0.lock().unwrap());
    for (name, end) in ends {
        assert_eq!(end.is_closed(), name == "a");
        let _ = end.send(false);
    }
    clock.sleep(secs(60)).await;
    assert_eq!(removed.condition().health(), Health::Unknown);
    assert!(held.names().iter().all(|name| name == "b"));
    assert_eq!(handle.endpoints().len(), 1);
    assert_eq!(handle.counts().stopped, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_comes_later_is_probed_within_the_initial_jitter() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints([]));
    let _guard = held.check(&clock).run(&list).unwrap().spawn();
    clock.sleep(secs(60)).await;
    assert!(held.names().is_empty());

    list.insert(Endpoint::new("a"), clock.now());
    clock.sleep(ms(11)).await;

    assert_eq!(held.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn another_address_is_probed_soon_its_first_result_decides_and_that_of_the_former_is_ignored() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints(["a"]));
    let _guard = held.check(&clock).run(&list).unwrap().spawn();
    clock.sleep(ms(20)).await;
    held.take().send(true).unwrap();
    clock.sleep(secs(6)).await;
    assert_eq!(health(&list, "a"), Health::Healthy);
    let former = held.take();

    list.replace([Endpoint::new("a").with_address("10.0.0.9:80")], clock.now()).unwrap();
    clock.sleep(ms(1)).await;
    assert!(former.is_closed());
    clock.sleep(secs(1)).await;

    assert_eq!(held.names(), ["10.0.0.9:80"]);
    assert_eq!(health(&list, "a"), Health::Healthy, "until it is known");
    held.take().send(false).unwrap();
    clock.sleep(ms(1)).await;
    assert_eq!(health(&list, "a"), Health::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn another_weight_leaves_the_state_as_it_is_and_the_new_endpoint_is_told_of_it() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints(["a"]));
    let _guard = held.check(&clock).run(&list).unwrap().spawn();
    clock.sleep(ms(20)).await;
    held.take().send(false).unwrap();
    clock.sleep(ms(1)).await;
    assert_eq!(health(&list, "a"), Health::Unhealthy);

    list.replace([Endpoint::new("a").with_weight(7)], clock.now()).unwrap();
    clock.sleep(ms(1)).await;
    assert_eq!(health(&list, "a"), Health::Unhealthy);

    // Another one of the same name and configuration, between two looks at the list.
    list.remove("a", clock.now());
    list.insert(Endpoint::new("a").with_weight(7), clock.now());
    assert_eq!(health(&list, "a"), Health::Unknown);
    clock.sleep(ms(1)).await;
    assert_eq!(health(&list, "a"), Health::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_when_the_guard_is_dropped() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let (clock, list) = (Clock::tokio(), endpoints(["a", "b", "c"]));
    let alive = Arc::new(AtomicUsize::new(0));
    let count = alive.clone();
    let check = HealthCheck::with(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(count.clone());
        async move {
            let _counted = counted;
            std::future::pending::<bool>().await
        }
    });
    let guard = check.clock(clock.clone()).initial_jitter(ms(10)).run(&list).unwrap().spawn();
    clock.sleep(ms(20)).await;
    assert_eq!(alive.load(Ordering::SeqCst), 3);

    drop(guard);
    clock.sleep(ms(1)).await;

    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&alive), 1, "the closure is gone as well");
    clock.sleep(secs(60)).await;
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_checker_that_is_never_polled_does_nothing_and_goes() {
    let list = endpoints(["a"]);
    let checker = HealthCheck::with(|_| async { false }).clock(Clock::tokio()).run(&list).unwrap();

    drop(checker);

    assert_eq!(health(&list, "a"), Health::Unknown);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_while_it_waits_for_its_turn_has_one_turn() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints(["a"]));
    let check = held.check(&clock).max_concurrent_probes(1).timeout(secs(5));
    let _guard = check.run(&list).unwrap().spawn();
    clock.sleep(ms(20)).await;
    list.insert(Endpoint::new("b"), clock.now());
    clock.sleep(ms(20)).await;
    list.remove("b", clock.now());
    clock.sleep(ms(20)).await;
    list.insert(Endpoint::new("b"), clock.now());
    clock.sleep(ms(20)).await;
    assert_eq!(held.names(), ["a"], "the other waits");

    held.take().send(true).unwrap();
    clock.sleep(ms(20)).await;
    assert_eq!(held.names(), ["b"]);
    held.take().send(true).unwrap();
    clock.sleep(secs(1)).await;

    assert_eq!(held.names(), [""; 0], "both wait for the interval");
}

#[test]
fn when_the_clock_goes_back_probes_go_on() {
    let (time, list) = (ManualClock::new(), endpoints(["a"]));
    time.set(Timestamp::from_nanos(0) + secs(3_600));
    let check = HealthCheck::with(|_| async { true }).clock(time.clock());
    let mut checker = Box::pin(check.run(&list).unwrap());
    let handle = checker.handle();
    let mut turn = |by| {
        time.advance(by);
        assert!(checker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    };
    turn(secs(5));
    assert_eq!(handle.counts().probes, 1);

    time.set(Timestamp::ZERO);
    turn(secs(0));
    turn(secs(6));

    assert_eq!(handle.counts().probes, 2, "the wait is as long as it was");
}

#[test]
fn when_the_clock_goes_back_a_probe_that_hangs_ends_in_time_all_the_same() {
    let (time, list) = (ManualClock::new(), endpoints(["a"]));
    time.set(Timestamp::from_nanos(0) + secs(3_600));
    let check = HealthCheck::with(|_| std::future::pending::<bool>()).clock(time.clock());
    let mut checker = Box::pin(check.run(&list).unwrap());
    let handle = checker.handle();
    let mut turn = |by| {
        time.advance(by);
        assert!(checker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        (handle.counts().probes, handle.counts().stopped, handle.counts().failed)
    };
    assert_eq!(turn(secs(5)), (1, 0, 0));

    time.set(Timestamp::ZERO);
    assert_eq!(turn(secs(0)), (2, 1, 0), "asked anew");
    assert_eq!(turn(secs(1)), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn probes_go_on_however_often_weights_change() {
    let clock = Clock::tokio();
    let weighing = |weight| (0..8).map(move |n| Endpoint::new(format!("n{n}")).with_weight(weight));
    let list = Endpoints::new(weighing(1)).unwrap();
    let check = HealthCheck::with(|_| async { false }).clock(clock.clone()).seed(1);
    let guard = check.run(&list).unwrap().spawn();

    for weight in 2..50 {
        clock.sleep(ms(300)).await;
        list.replace(weighing(weight), clock.now()).unwrap();
    }

    assert!(guard.handle().endpoints().iter().all(|view| view.failed > 0));
    assert!(list.list().iter().all(|endpoint| endpoint.condition().health() == Health::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn another_weight_leaves_a_probe_under_way_and_the_count_alone() {
    let (clock, held, list) = (Clock::tokio(), Held::default(), endpoints(["a"]));
    let guard = held.check(&clock).run(&list).unwrap().spawn();
    clock.sleep(ms(20)).await;
    held.take().send(true).unwrap();
    let mut weight = 1;
    let mut weigh = async || {
        weight += 1;
        list.replace([Endpoint::new("a").with_weight(weight)], clock.now()).unwrap();
        clock.sleep(ms(1)).await;
    };

    for failures in 1..=3 {
        while held.names().is_empty() {
            clock.sleep(ms(100)).await;
        }
        weigh().await;
        held.take().send(false).expect("it goes on");
        clock.sleep(ms(1)).await;
        weigh().await;
        assert_eq!(guard.handle().get("a").unwrap().opposite, failures % 3);
    }

    assert_eq!(health(&list, "a"), Health::Unhealthy);
    assert_eq!(guard.handle().counts().stopped, 0);
}
