//! How soon an endpoint that dies is known to be dead, on paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{Clock, Endpoint, Endpoints, Health, Timestamp};
use buttress_health::{Failure, HealthCheck, HealthEvent, ProbeReport};

use super::{at, ms, secs};

#[derive(Clone, Copy, Debug)]
enum Death {
    Hangs,
    Refuses,
    Says500,
    Panics,
}

/// Lets endpoints die one after the other, and returns the longest and the shortest time until one is known to be dead.
async fn die(
    death: Death,
    seed: u64,
    change: impl FnOnce(HealthCheck<buttress_health::Custom>) -> HealthCheck<buttress_health::Custom>,
) -> (Duration, Duration) {
    const N: u64 = 40;
    let clock = Clock::tokio();
    // They die at moments that fall all over an interval.
    let dies = |name: &str| at(20) + ms(137 * name.parse::<u64>().expect("its number"));
    let known = Arc::new(Mutex::new(Vec::new()));

    let (time, seen) = (clock.clone(), Arc::clone(&known));
    let check = HealthCheck::with({
        let clock = clock.clone();
        move |endpoint: Endpoint| {
            let dead = clock.now() >= dies(endpoint.name());
            async move {
                match death {
                    _ if !dead => ProbeReport::pass(),
                    Death::Hangs => std::future::pending().await,
                    Death::Refuses => ProbeReport::fail(Failure::Io(std::io::ErrorKind::ConnectionRefused)),
                    Death::Says500 => ProbeReport::fail(Failure::Status(500)),
                    Death::Panics => panic!("it is a test"),
                }
            }
        }
    });
    let check = check.clock(clock.clone()).seed(seed).observe(move |event| {
        if let HealthEvent::Changed { endpoint, to: Health::Unhealthy, .. } = event {
            seen.lock().unwrap().push(time.now() - dies(endpoint.name()));
        }
    });
    let list = (0..N).map(|number| Endpoint::new(number.to_string()));
    let endpoints = Endpoints::new(list).unwrap();
    let guard = change(check).run(&endpoints).unwrap().spawn();

    clock.sleep(secs(100)).await;

    let known = known.lock().unwrap();
    assert_eq!(known.len() as u64, N, "all are found dead, none before its time");
    assert_eq!(
        guard.handle().endpoints().iter().filter(|view| view.health == Health::Unhealthy).count() as u64,
        N
    );
    (*known.iter().max().unwrap(), *known.iter().min().unwrap())
}

/// One for each timer on the way: waits and timeouts.
const TIMERS: Duration = ms(6);

#[tokio::test(start_paused = true)]
async fn by_the_defaults_it_takes_ten_seconds_at_most() {
    for death in [Death::Hangs, Death::Refuses, Death::Says500, Death::Panics] {
        let mut longest = Duration::ZERO;
        for seed in 0..10 {
            longest = longest.max(die(death, seed, |check| check).await.0);
        }
        let bound = match death {
            Death::Hangs => secs(10),
            // Nothing is waited for.
            _ => secs(7),
        };
        assert!(longest <= bound + TIMERS, "{death:?}: {longest:?}");
        assert!(longest > bound - secs(1), "{death:?} comes near to it: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_that_of_the_rules_whatever_the_settings() {
    for seed in 0..10 {
        let change = |check: HealthCheck<_>| {
            check
                .interval(secs(8))
                .timeout(ms(300))
                .fast_interval(ms(200))
                .unhealthy_threshold(5)
                .interval_jitter(0.5)
        };
        let bound = change(HealthCheck::with(|_| async { true })).rules().unwrap().detection_bound();
        assert_eq!(bound, ms(8_000 + 4 * 200 + 5 * 300));

        let (longest, _) = die(Death::Hangs, seed, change).await;

        assert!(longest <= bound + 2 * TIMERS, "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_decides_at_once_takes_no_more_than_the_interval() {
    let change = |check: HealthCheck<_>| check.unhealthy_threshold(1).interval_jitter(0.1);

    let (longest, _) = die(Death::Refuses, 7, change).await;

    assert!(longest <= secs(5) + ms(2), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_revived_endpoint_is_found_by_two_passes() {
    let clock = Clock::tokio();
    let (down, up) = (at(10), at(40));
    let revived = Arc::new(Mutex::new(None::<Timestamp>));

    let (time, seen) = (clock.clone(), Arc::clone(&revived));
    let probe = {
        let clock = clock.clone();
        move |_| {
            let now = clock.now();
            async move { now < down || now >= up }
        }
    };
    let check = HealthCheck::with(probe).clock(clock.clone()).observe(move |event| {
        if let HealthEvent::Changed { from: Health::Unhealthy, to: Health::Healthy, .. } = event {
            *seen.lock().unwrap() = Some(time.now());
        }
    });
    let _guard = check.run(&super::endpoints(["a"])).unwrap().spawn();
    clock.sleep(secs(100)).await;

    let revived = revived.lock().unwrap().expect("it is found");
    assert!(revived >= up && revived - up <= secs(20 + 2) + secs(3), "{revived}");
}
