//! When probes are begun, and how many at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use buttress_core::{Clock, Endpoint, Endpoints, Health, ManualClock, Timestamp};
use buttress_health::{Custom, HealthCheck, HealthEvent, ProbeReport};

use super::{at, endpoints, health, ms, secs};

fn many(number: usize) -> Endpoints {
    Endpoints::new(
        (0..number).map(|number| Endpoint::new(format!("10.0.{}.{}:80", number / 250, number % 250))),
    )
    .unwrap()
}

/// A probe that notes when it is begun, and passes at once.
fn noting(clock: &Clock) -> (HealthCheck<Custom>, Arc<Mutex<Vec<Timestamp>>>) {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (time, noted) = (clock.clone(), Arc::clone(&begun));
    let check = HealthCheck::with(move |_| {
        noted.lock().unwrap().push(time.now());
        async { true }
    });
    (check.clock(clock.clone()), begun)
}

/// How many fall into each tenth of a second, up to `end`.
fn tenths(begun: &[Timestamp], end: Timestamp) -> Vec<usize> {
    let mut bins = vec![0; (end.as_nanos() / 100_000_000) as usize];
    for at in begun {
        if let Some(bin) = bins.get_mut((at.as_nanos() / 100_000_000) as usize) {
            *bin += 1;
        }
    }
    bins
}

#[tokio::test(start_paused = true)]
async fn after_a_mass_start_no_tenth_of_a_second_has_half_as_many_again_as_the_mean() {
    for seed in 0..2 {
        let clock = Clock::tokio();
        let (check, begun) = noting(&clock);
        let _guard = check.seed(seed).run(&many(10_000)).unwrap().spawn();

        clock.sleep(secs(20)).await;

        let bins = tenths(&begun.lock().unwrap(), at(20));
        let mean = bins.iter().sum::<usize>() as f64 / bins.len() as f64;
        let most = *bins.iter().max().unwrap() as f64;
        assert!((190.0..210.0).contains(&mean), "ten thousand in five seconds: {mean}");
        assert!(most <= 1.5 * mean, "{most} of {mean}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_checkers_spread_their_probes_differently_and_one_seed_alike() {
    async fn first(seed: Option<u64>) -> Vec<Timestamp> {
        let clock = Clock::tokio();
        let (check, begun) = noting(&clock);
        let check = match seed {
            Some(seed) => check.seed(seed),
            None => check,
        };
        let _guard = check.run(&many(20)).unwrap().spawn();
        clock.sleep(secs(5)).await;
        let begun = begun.lock().unwrap();
        begun.clone()
    }

    assert_eq!(first(Some(3)).await, first(Some(3)).await);
    assert_ne!(first(Some(3)).await, first(Some(4)).await);
    assert_ne!(first(None).await, first(None).await);
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_time_makes_no_storm() {
    let clock = Clock::tokio();
    let (check, begun) = noting(&clock);
    let _guard = check.seed(1).run(&many(1_000)).unwrap().spawn();
    clock.sleep(secs(10)).await;
    begun.lock().unwrap().clear();

    buttress_testkit::advance(secs(3_600)).await;
    let jumped = clock.now();
    clock.sleep(secs(10)).await;

    let since: Vec<_> =
        begun.lock().unwrap().iter().map(|&begun| Timestamp::ZERO + (begun - jumped)).collect();
    let bins = tenths(&since, at(10));
    assert!(bins.iter().all(|&bin| bin <= 50), "20 are the mean: {bins:?}");
    assert!(since.len() >= 1_900, "all are probed again: {}", since.len());
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_run_at_a_time_than_may_and_the_others_wait_in_order() {
    let clock = Clock::tokio();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (now_running, seen_most, begun, time) = (running.clone(), most.clone(), order.clone(), clock.clone());
    let check = HealthCheck::with(move |endpoint: Endpoint| {
        let (running, time) = (now_running.clone(), time.clone());
        seen_most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        begun.lock().unwrap().push(endpoint.name().to_string());
        async move {
            time.sleep(ms(500)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            true
        }
    });
    let checker =
        check.clock(clock.clone()).max_concurrent_probes(3).initial_jitter(ms(1)).run(&many(10)).unwrap();
    let handle = checker.handle();
    let _guard = checker.spawn();

    clock.sleep(ms(100)).await;
    assert_eq!((handle.counts().running, handle.counts().queued), (3, 7));
    clock.sleep(ms(1_900)).await;

    assert_eq!(most.load(Ordering::SeqCst), 3);
    let mut order = order.lock().unwrap().clone();
    assert_eq!(order.len(), 10, "each once: who waits is not passed by who comes again");
    order.sort();
    order.dedup();
    assert_eq!(order.len(), 10);
    assert_eq!(handle.counts().probes, 10);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waits_for_its_turn_has_its_whole_timeout() {
    let clock = Clock::tokio();
    let time = clock.clone();
    let check = HealthCheck::with(move |_| {
        let time = time.clone();
        async move {
            time.sleep(ms(900)).await;
            true
        }
    });
    let list = many(5);
    let _guard =
        check.clock(clock.clone()).max_concurrent_probes(1).initial_jitter(ms(1)).run(&list).unwrap().spawn();

    clock.sleep(ms(4_600)).await;

    assert!(list.list().iter().all(|endpoint| endpoint.condition().health() == Health::Healthy));
}

#[tokio::test(start_paused = true)]
async fn until_the_first_result_an_endpoint_is_used_or_not_as_is_said() {
    let clock = Clock::tokio();
    for waits in [false, true] {
        let list = endpoints(["a"]);
        let (check, _) = noting(&clock);
        let check = if waits { check.wait_first_probe() } else { check };

        let checker = check.run(&list).unwrap();
        assert_eq!(list.list()[0].condition().is_usable(), !waits);
        assert_eq!(checker.handle().get("a").unwrap().health, Health::Unknown);

        let _guard = checker.spawn();
        clock.sleep(secs(6)).await;
        assert_eq!(health(&list, "a"), Health::Healthy);

        list.insert(Endpoint::new("b"), clock.now());
        assert_eq!(list.get("b").unwrap().condition().is_usable(), !waits, "no call goes there in between");
        clock.sleep(secs(6)).await;
        assert_eq!(health(&list, "b"), Health::Healthy);
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_takes_the_place_of_probes() {
    let clock = Clock::tokio();
    let list = endpoints(["busy", "idle"]);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let noted = begun.clone();
    let check = HealthCheck::with(move |endpoint: Endpoint| {
        noted.lock().unwrap().push(endpoint.name().to_string());
        async { true }
    });
    let checker = check.clock(clock.clone()).passive_first().run(&list).unwrap();
    let handle = checker.handle();
    let _guard = checker.spawn();

    let busy = list.get("busy").unwrap();
    for _ in 0..6_000 {
        busy.note_use(clock.now());
        busy.note_success(clock.now());
        clock.sleep(ms(100)).await;
    }

    let count = |name| begun.lock().unwrap().iter().filter(|begun| *begun == name).count();
    assert!((10..=12).contains(&count("busy")), "once a minute for ten minutes: {}", count("busy"));
    assert!((9..=12).contains(&count("idle")), "once a minute for ten minutes: {}", count("idle"));
    assert!(handle.counts().skipped > 100);
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_asks_for_is_done() {
    let clock = Clock::tokio();
    let time = clock.clone();
    let check = HealthCheck::with(move |_| {
        let report = match time.now().as_nanos() / 10_000_000_000 {
            0 => ProbeReport::pass().weight_percent(50),
            1 => ProbeReport::pass().admin(buttress_health::Admin::Drain),
            2 => ProbeReport::pass().admin(buttress_health::Admin::Maintain),
            _ => ProbeReport::pass().admin(buttress_health::Admin::Ready),
        };
        async move { report }
    });
    let list = endpoints(["a"]);
    let endpoint = list.get("a").unwrap();
    let _guard = check.clock(clock.clone()).run(&list).unwrap().spawn();

    clock.sleep(secs(9)).await;
    assert_eq!(endpoint.condition().weight_percent(), 50);
    assert!(endpoint.condition().is_usable());
    clock.sleep(secs(10)).await;
    assert!(endpoint.condition().is_draining());
    clock.sleep(secs(10)).await;
    assert!(endpoint.condition().is_in_maintenance());
    clock.sleep(secs(10)).await;
    assert!(endpoint.condition().is_usable());
    assert_eq!(endpoint.condition().weight_percent(), 50, "nothing was said of it since");
}

#[tokio::test(start_paused = true)]
async fn an_agent_and_a_check_of_one_list_do_not_overwrite_one_another() {
    let clock = Clock::tokio();
    // Three times of a minute: the check fails, the agent does, neither does.
    let failing = |who: u64| {
        let time = clock.clone();
        HealthCheck::with(move |_| {
            let passes = time.now().as_nanos() / 60_000_000_000 != who;
            async move { passes }
        })
        .clock(clock.clone())
    };
    let list = endpoints(["a"]);
    let endpoint = list.get("a").unwrap();
    let _check = failing(0).run(&list).unwrap().spawn();
    let _agent = failing(1).as_agent().run(&list).unwrap().spawn();

    let expected = [
        (Health::Unhealthy, Health::Healthy),
        (Health::Healthy, Health::Unhealthy),
        (Health::Healthy, Health::Healthy),
    ];
    for (check, agent) in expected {
        clock.sleep(secs(40)).await;
        for _ in 0..20 {
            let condition = endpoint.condition();
            assert_eq!((condition.check_health(), condition.agent_health()), (check, agent));
            assert_eq!(condition.is_usable(), check == agent);
            clock.sleep(secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_waits_for_its_first_probe_waits_beside_the_check() {
    let clock = Clock::tokio();
    let list = endpoints(["a"]);
    let endpoint = list.get("a").unwrap();
    let never = HealthCheck::with(|_| std::future::pending::<bool>()).clock(clock.clone());
    let _check = HealthCheck::with(|_| async { true }).clock(clock.clone()).run(&list).unwrap().spawn();
    clock.sleep(secs(10)).await;
    assert!(endpoint.condition().is_usable());

    let _agent = never.as_agent().wait_first_probe().run(&list).unwrap().spawn();

    assert_eq!(endpoint.condition().check_health(), Health::Healthy);
    assert!(!endpoint.condition().is_usable(), "the check does not speak for the agent");
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told_of_each_result_and_each_change_and_may_panic() {
    let clock = Clock::tokio();
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let time = clock.clone();
    let check = HealthCheck::with(move |_| {
        let passes = time.now() < at(5);
        async move { if passes { Ok(()) } else { Err("no") } }
    });
    let check =
        check.clock(clock.clone()).named("replicas").initial_jitter(Duration::ZERO).interval_jitter(0.0);
    let check = check.observe(move |event| {
        noted.lock().unwrap().push(match event {
            HealthEvent::Probed { name, endpoint, finding, .. } => {
                format!("{name} {}: {finding}", endpoint.name())
            }
            HealthEvent::Changed { endpoint, from, to, .. } => {
                format!("{}: {from:?} -> {to:?}", endpoint.name())
            }
            _ => unreachable!("it is the observer of a check"),
        });
        panic!("it is a test");
    });
    let _guard = check.run(&endpoints(["a"])).unwrap().spawn();

    clock.sleep(ms(7_500)).await;

    assert_eq!(
        *told.lock().unwrap(),
        [
            "replicas a: serves",
            "a: Unknown -> Healthy",
            "replicas a: the probe failed",
            "replicas a: the probe failed",
            "replicas a: the probe failed",
            "a: Healthy -> Unhealthy",
        ]
    );
}

#[test]
fn where_all_is_always_late_probes_go_on() {
    let (time, list) = (ManualClock::new(), endpoints(["a"]));
    let check = HealthCheck::with(|_| async { true }).clock(time.clock());
    let mut checker = Box::pin(check.run(&list).unwrap());
    let handle = checker.handle();

    for _ in 0..20 {
        // What is spread over an interval is late again.
        time.advance(secs(11));
        assert!(checker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    assert_eq!(handle.counts().probes, 10, "it is spread anew each other time");
}
