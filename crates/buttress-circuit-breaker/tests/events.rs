//! g. Events: one for each transition, in order, outside every lock.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerEvent, CircuitBreakerLayer, Handle, Reason, State};
use buttress_core::{BoxError, ManualClock, Outcome};
use buttress_testkit::{StrictHandle, StrictService, Task};
use tower::{Service, ServiceExt};
use tower_layer::Layer;

type Echo = StrictService<u32, u32>;

const SECOND: Duration = Duration::from_secs(1);

fn simple() -> CircuitBreakerLayer {
    CircuitBreakerLayer::failures_in_a_row(2).open_for(5 * SECOND, 60 * SECOND).jitter(0.0).probes(1)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn write(&self, event: &CircuitBreakerEvent<'_>) {
        let line = match event {
            CircuitBreakerEvent::Transition { policy, key, transition, note, .. } => {
                let key = key.map_or("-", |key| key.as_str());
                let note = note.map_or(String::new(), |note| format!(" ({note})"));
                let (from, to, reason) = (transition.from, transition.to, transition.reason);
                format!("{policy} {key}: {from} -> {to}, {reason}{note}")
            }
            CircuitBreakerEvent::Refused { policy, key, state, retry_after, note, .. } => {
                let key = key.map_or("-", |key| key.as_str());
                let note = note.map_or(String::new(), |note| format!(" ({note})"));
                format!("{policy} {key}: refused, {state} {retry_after:?}{note}")
            }
            CircuitBreakerEvent::Stale { policy, key, .. } => {
                format!("{policy} {}: stale", key.map_or("-", |key| key.as_str()))
            }
            other => panic!("not expected: {other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }

    /// What was told since the last time.
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn call<S>(service: &S, n: u32) -> Result<u32, BoxError>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    match Task::new(service.clone().oneshot(n)).run() {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the inner service is ready"),
    }
}

fn fail<S>(service: &S, inner: &StrictHandle)
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    inner.fail("out of paper".into());
    call(service, 0).unwrap_err();
}

#[test]
fn each_transition_is_told_once_with_its_reason_and_each_refusal_with_its_wait() {
    let (time, log) = (ManualClock::new(), Log::default());
    let writes = log.clone();
    let layer = simple().named("api").clock(time.clock()).observe(move |event| writes.write(event));
    let (inner, watch) = Echo::new(|n| n);
    let (handle, service) = (layer.handle(), layer.layer(inner));

    fail(&service, &watch);
    assert!(log.read().is_empty());
    fail(&service, &watch);
    assert_eq!(log.read(), ["api -: closed -> open, consecutive failures"]);

    time.advance(2 * SECOND);
    call(&service, 1).unwrap_err();
    assert_eq!(log.read(), ["api -: refused, open Some(3s)"]);

    time.advance(3 * SECOND);
    call(&service, 1).unwrap();
    let told = ["api -: open -> half-open, open time over", "api -: half-open -> closed, probes passed"];
    assert_eq!(log.read(), told);

    handle.isolate("maintenance");
    call(&service, 1).unwrap_err();
    handle.reset();
    let told = [
        "api -: closed -> isolated, by hand (maintenance)",
        "api -: refused, isolated None (maintenance)",
        "api -: isolated -> closed, by hand",
    ];
    assert_eq!(log.read(), told);
}

#[test]
fn a_result_that_comes_too_late_is_told() {
    let log = Log::default();
    let writes = log.clone();
    let layer = simple().observe(move |event| writes.write(event));
    let (inner, watch) = Echo::new(|n| n);
    let service = layer.layer(inner);
    watch.hold();
    let mut early = Task::new(service.clone().oneshot(1));
    assert!(early.run().is_pending());
    layer.handle().reset();

    watch.release();
    assert!(matches!(early.run(), Poll::Ready(Ok(1))));

    assert_eq!(log.read(), ["default -: closed -> closed, by hand", "default -: stale"]);
}

#[test]
fn a_result_of_a_key_that_made_way_is_not_told_of_the_key_after_it() {
    let log = Log::default();
    let writes = log.clone();
    let layer = simple().by(|n: &u32| Some(*n)).capacity(1).observe(move |event| writes.write(event));
    let (inner, watch) = Echo::new(|n| n);
    let service = layer.layer(inner);
    watch.hold();
    let mut early = Task::new(service.clone().oneshot(1));
    assert!(early.run().is_pending());
    // There is room for eight.
    assert!((2..=9_u32).all(|key| layer.handle().key(key).disable()));
    assert_eq!(layer.handle().counts().evicted, 1);
    log.read();

    watch.release();
    assert!(matches!(early.run(), Poll::Ready(Ok(1))));

    assert_eq!(log.read(), ["default -: stale"]);
}

#[test]
fn an_observer_that_panics_at_a_late_result_still_hears_of_every_transition() {
    let (time, log) = (ManualClock::new(), Log::default());
    let writes = log.clone();
    let layer = simple().clock(time.clock()).observe(move |event| {
        writes.write(event);
        assert!(!matches!(event, CircuitBreakerEvent::Stale { .. }), "late, as scripted");
    });
    let (inner, watch) = Echo::new(|n| n);
    let service = layer.layer(inner);
    fail(&service, &watch);
    fail(&service, &watch);
    time.advance(5 * SECOND);
    watch.hold();
    let mut probe = Task::new(service.clone().oneshot(1));
    assert!(probe.run().is_pending());
    time.advance(5 * SECOND);

    watch.release();
    assert!(catch_unwind(AssertUnwindSafe(|| probe.run())).is_err());
    time.advance(10 * SECOND);
    call(&service, 1).unwrap();

    let told = [
        "default -: closed -> open, consecutive failures",
        "default -: open -> half-open, open time over",
        "default -: half-open -> open, probes overdue",
        "default -: stale",
        "default -: open -> half-open, open time over",
        "default -: half-open -> closed, probes passed",
    ];
    assert_eq!(log.read(), told);
}

#[test]
fn a_key_is_told_by_its_name() {
    let log = Log::default();
    let writes = log.clone();
    let layer = simple()
        .by(|n: &u32| Some(if *n < 10 { "small" } else { "large" }))
        .classify(|_: Result<&u32, &BoxError>| Outcome::failure())
        .observe(move |event| writes.write(event));
    let service = layer.layer(Echo::new(|n| n).0);

    for n in [1, 11, 11, 1, 11] {
        let _ = call(&service, n);
    }

    let told = [
        "default large: closed -> open, consecutive failures",
        "default small: closed -> open, consecutive failures",
    ];
    let log = log.read();
    assert_eq!(log[..2], told);
    assert!(log[2].starts_with("default large: refused, open"), "{log:?}");
}

#[test]
fn the_reason_carries_the_rate_that_was_reached() {
    let seen = Arc::new(Mutex::new(None));
    let writes = Arc::clone(&seen);
    let layer = CircuitBreakerLayer::failure_rate(0.25).minimum_calls(4).observe(move |event| {
        if let CircuitBreakerEvent::Transition { transition, .. } = event {
            *writes.lock().unwrap() = Some(**transition);
        }
    });
    let (inner, watch) = Echo::new(|n| n);
    let service = layer.layer(inner);

    for n in 0..3 {
        call(&service, n).unwrap();
    }
    fail(&service, &watch);

    let transition = seen.lock().unwrap().expect("it has opened");
    assert_eq!((transition.reason, transition.generation), (Reason::FailureRate, 1));
    assert_eq!(transition.sums.map(|sums| sums.failure_rate()), Some(0.25));
    assert!(transition.lasts.is_some_and(|wait| wait <= 5 * SECOND));
}

#[test]
fn an_observer_may_use_the_handle() {
    let handle = Arc::new(OnceLock::<Handle>::new());
    let log = Log::default();
    let (steers, writes) = (Arc::clone(&handle), log.clone());
    let layer = simple().observe(move |event| {
        writes.write(event);
        if let CircuitBreakerEvent::Transition { transition, .. } = event {
            let handle = steers.get().expect("it is there");
            let _ = (handle.counts(), handle.view());
            if transition.to == State::Open {
                handle.isolate("until someone has looked");
            }
        }
    });
    handle.set(layer.handle()).expect("once");
    let (inner, watch) = Echo::new(|n| n);
    let service = layer.layer(inner);

    fail(&service, &watch);
    fail(&service, &watch);

    assert_eq!(layer.handle().state(), State::Isolated);
    let told = [
        "default -: closed -> open, consecutive failures",
        "default -: open -> isolated, by hand (until someone has looked)",
    ];
    assert_eq!(log.read(), told, "the second is told when the observer is back from the first");
}

/// Eight threads make transitions as fast as they can: what the observer sees is the one chain of generations. Again and
/// again from the start, since a breaker's first steps are where its key is written down.
#[test]
fn whatever_threads_do_transitions_are_told_in_their_order_and_one_at_a_time() {
    for _ in 0..50 {
        race(50);
    }
    race(1_000);
}

fn race(steps: u32) {
    const THREADS: u32 = 8;
    let seen = Arc::new(Mutex::new(HashMap::<Option<String>, Vec<(u32, State, State)>>::new()));
    let (writes, alone) = (Arc::clone(&seen), Mutex::new(()));
    let layer = CircuitBreakerLayer::default().by(|n: &u32| Some(*n)).observe(move |event| {
        if let CircuitBreakerEvent::Transition { key, transition, .. } = event {
            let _one = alone.try_lock().expect("one at a time");
            let key = key.map(|key| key.to_string());
            let step = (transition.generation, transition.from, transition.to);
            writes.lock().unwrap().entry(key).or_default().push(step);
        }
    });
    let start = Barrier::new(THREADS as usize);

    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (handle, start) = (layer.handle(), &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..steps {
                    let key = handle.key(n % 3);
                    match (n + thread) % 4 {
                        0 => key.force_open(),
                        1 => key.isolate("as scripted"),
                        2 => key.metrics_only(),
                        _ => handle.disable(),
                    };
                }
            });
        }
    });

    let seen = seen.lock().unwrap();
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), (THREADS * steps) as usize);
    for (key, steps) in &*seen {
        for (at, step) in steps.iter().enumerate() {
            assert_eq!(step.0 as usize, at + 1, "{key:?}: each generation in its turn");
            assert!(at == 0 || steps[at - 1].2 == step.1, "{key:?}: each from where the last one led");
        }
    }
}
