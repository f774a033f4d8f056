//! Retries of requests that are not HTTP, as a story: what is called, when, and what is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{
    BoxError, Cause, Clock, EndpointId, Error, Facts, HasFacts, LiftErrorsLayer, ManualClock, NothingSent,
    Outcome, Rejection, RejectionKind, Timestamp,
};
use buttress_retry::{Backoff, Budget, Cloning, HedgeLayer, Jitter, Replay, RetryEvent, RetryLayer, Skip};
use buttress_testkit::{StrictHandle, StrictService, Task, advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

type Any = RetryLayer<Cloning<fn(&u32) -> bool>, buttress_core::ByCause>;

/// Every request may be carried out twice.
fn retry() -> Any {
    let any: fn(&u32) -> bool = |_| true;
    RetryLayer::cloning(any).clock(Clock::tokio()).budget(Budget::unlimited())
}

fn at_once() -> Any {
    retry().backoff(Backoff::constant(Duration::ZERO))
}

/// Answers with the next number.
fn upstream() -> (StrictService<u32, u32>, StrictHandle) {
    StrictService::new(|number| number + 1)
}

fn fail(upstream: &StrictHandle, times: usize) {
    (0..times).for_each(|_| upstream.fail("reset".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_is_made_once_and_clones_nothing() {
    let (inner, upstream) = upstream();
    let mut service = retry().layer(inner);
    let before = upstream.clones();

    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 2);

    assert_eq!((upstream.calls(), upstream.clones() - before), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn by_default_a_call_has_three_attempts_and_waits_up_to_a_second() {
    let (inner, upstream) = upstream();
    fail(&upstream, 3);
    let clock = Clock::tokio();
    let layer = RetryLayer::cloning(|_: &u32| true).clock(clock.clone());
    let start = clock.now();

    let error = layer.layer(inner).oneshot(1).await.unwrap_err();

    assert_eq!((error.to_string().as_str(), upstream.calls()), ("reset", 3));
    // At most 25 ms and 50 ms, and a tick for each.
    assert!(clock.now() - start <= ms(77), "{:?}", clock.now() - start);
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_the_longest() {
    let (inner, upstream) = upstream();
    fail(&upstream, 6);
    let told = Arc::new(Mutex::new(Vec::new()));
    let waits = told.clone();
    let layer = retry()
        .attempts(7)
        .backoff(Backoff::exponential(ms(25), ms(200)).jitter(Jitter::None))
        .observe(move |event| {
            if let RetryEvent::Retrying { delay, .. } = event {
                waits.lock().unwrap().push(*delay);
            }
        });

    assert_eq!(layer.layer(inner).oneshot(1).await.unwrap(), 2);

    assert_eq!(*told.lock().unwrap(), [ms(25), ms(50), ms(100), ms(200), ms(200), ms(200)]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_comes_when_its_wait_is_over_and_not_before() {
    let (inner, upstream) = upstream();
    fail(&upstream, 1);
    let layer = retry().backoff(Backoff::constant(ms(100)).jitter(Jitter::None));
    let mut call = Task::new(layer.layer(inner).oneshot(1));

    assert!(call.run().is_pending());
    assert_eq!((upstream.calls(), upstream.in_flight()), (1, 0), "the first attempt is over");
    advance(ms(99)).await;
    assert!(call.run().is_pending());
    assert_eq!(upstream.calls(), 1);
    advance(ms(1)).await;

    assert!(call.is_woken() && call.run().is_ready());
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_readies_the_instance_that_it_calls() {
    for strict in [false, true] {
        let (inner, upstream) = upstream();
        fail(&upstream, 1);
        let mut call = if strict {
            let mut service = at_once().strict().layer(inner);
            assert!(service.ready().await.is_ok());
            upstream.not_ready();
            Box::pin(service.call(1)) as std::pin::Pin<Box<dyn Future<Output = _>>>
        } else {
            let mut service = at_once().layer(inner);
            assert!(service.ready().await.is_ok());
            let call = service.call(1);
            upstream.not_ready();
            Box::pin(call)
        };
        let mut call = Task::new(async move { call.as_mut().await });

        assert!(call.run().is_pending());
        assert_eq!((upstream.calls(), upstream.waiting()), (1, 1), "the second attempt waits in line");
        upstream.grant();

        assert!(matches!(call.run(), std::task::Poll::Ready(Ok(2))));
        assert_eq!(upstream.unready_calls(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_to_get_ready_is_a_failed_attempt() {
    let (inner, upstream) = upstream();
    upstream.fail_ready("not now".into());

    assert_eq!(at_once().layer(inner).oneshot(1).await.unwrap(), 2);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_carried_out_twice_needs_proof_that_nothing_was_sent() {
    let layer =
        || RetryLayer::cloning(|number: &u32| *number < 10).backoff(Backoff::constant(Duration::ZERO));
    let lost = || -> BoxError { "reset".into() };
    let unsent = || -> BoxError { NothingSent::new("refused").into() };

    for (number, error, calls) in [(1, lost(), 2), (10, lost(), 1), (10, unsent(), 2)] {
        let (inner, upstream) = upstream();
        upstream.fail(error);
        let layer = layer();
        let _ = layer.layer(inner).oneshot(number).await;
        assert_eq!(upstream.calls(), calls);
        assert_eq!(layer.handle().skipped(Skip::NotIdempotent), u64::from(calls == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_is_not_tried_again_here_whoever_judges() {
    let harsh = |result: Result<&u32, &BoxError>| {
        if result.is_ok() { Outcome::success() } else { Outcome::failure() }
    };
    let refused = || -> BoxError { Box::new(Rejection::new(RejectionKind::RateLimited)) };

    let (inner, upstream_) = upstream();
    upstream_.fail(refused());
    assert!(at_once().layer(inner).oneshot(1).await.unwrap_err().rejection().is_some());
    assert_eq!(upstream_.calls(), 1);

    let (inner, upstream_) = upstream();
    upstream_.fail(refused());
    assert!(at_once().classify(harsh).layer(inner).oneshot(1).await.is_err());
    assert_eq!(upstream_.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lifted_error_serves_as_well() {
    let layer = RetryLayer::cloning(|_: &String| true).backoff(Backoff::constant(Duration::ZERO));
    let handle = layer.handle();
    let service = ServiceBuilder::new()
        .layer(layer.per_try_timeout(ms(100)))
        .layer(LiftErrorsLayer::new())
        .service_fn(|text: String| async move { text.parse::<u16>() });

    assert!(matches!(service.oneshot("seven".to_owned()).await, Err(Error::Inner(_))));
    assert_eq!(handle.snapshot().retries, 2);
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_its_budget_and_its_counts() {
    let layer = at_once().budget(Budget::ratio(1.0)).clock(ManualClock::new().clock());
    let handle = layer.handle();
    let (one, first) = upstream();
    let (two, second) = upstream();
    fail(&first, 3);
    fail(&second, 3);

    // One original pays for one retry.
    assert!(layer.layer(one).oneshot(1).await.is_err());
    assert!(layer.clone().layer(two).oneshot(1).await.is_err());

    assert_eq!((first.calls(), second.calls()), (2, 2));
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries, snapshot.skipped, snapshot.budget_left), (2, 2, 2, 0));
    assert_eq!(handle.skipped(Skip::Budget), 2);
    assert!(!handle.budget().withdraw(Timestamp::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_makes_no_further_attempt() {
    let (inner, upstream) = upstream();
    fail(&upstream, 1);
    let layer = retry().backoff(Backoff::constant(ms(100)).jitter(Jitter::None));
    let mut call = Task::new(layer.layer(inner).oneshot(1));

    assert!(call.run().is_pending());
    drop(call);
    advance(ms(1000)).await;

    assert_eq!((upstream.calls(), upstream.alive()), (1, 0));
    assert_eq!(layer.handle().snapshot().retries, 0, "it was decided on, and not made");
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_takes_the_request_itself() {
    /// Counts its clones.
    struct Counted(Arc<Mutex<u32>>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            *self.0.lock().unwrap() += 1;
            Self(self.0.clone())
        }
    }
    impl HasFacts for Counted {}
    let clones = Arc::new(Mutex::new(0));
    let (inner, upstream) = StrictService::<Counted, (), BoxError>::new(drop);
    fail(&upstream, 3);
    let layer = RetryLayer::cloning(|_: &Counted| true).backoff(Backoff::constant(Duration::ZERO));

    assert!(layer.layer(inner).oneshot(Counted(clones.clone())).await.is_err());

    assert_eq!((upstream.calls(), *clones.lock().unwrap()), (3, 2));
}

/// A request that carries facts and says itself how it is sent again.
#[derive(Debug)]
struct Command {
    facts: Option<Facts>,
    idempotent: bool,
    again: bool,
}

impl HasFacts for Command {
    fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    fn facts_mut(&mut self) -> Option<&mut Facts> {
        Some(self.facts.get_or_insert_default())
    }
}

impl Replay for Command {
    fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    fn replay(&self) -> Option<Self> {
        self.again.then(|| Self { facts: self.facts.clone(), ..*self })
    }
}

const COMMAND: Command = Command { facts: None, idempotent: true, again: true };

/// How many attempts a command has that always fails, and the facts of the last one.
async fn commanded(command: Command) -> (usize, Option<Facts>, Vec<Skip>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let upstream = tower::service_fn(move |command: Command| {
        log.lock().unwrap().push(command.facts);
        async { Err::<(), BoxError>("reset".into()) }
    });
    let skips = Arc::new(Mutex::new(Vec::new()));
    let skipped = skips.clone();
    let layer = RetryLayer::replaying()
        .clock(ManualClock::new().clock())
        .backoff(Backoff::constant(Duration::ZERO))
        .observe(move |event| {
            if let RetryEvent::Skipped { reason, .. } = event {
                skipped.lock().unwrap().push(*reason);
            }
        });
    layer.layer(upstream).oneshot(command).await.unwrap_err();
    let mut seen = seen.lock().unwrap();
    let skips = std::mem::take(&mut *skips.lock().unwrap());
    (seen.len(), seen.pop().unwrap(), skips)
}

#[tokio::test(start_paused = true)]
async fn a_request_of_ones_own_says_how_it_is_sent_again() {
    let (attempts, facts, skips) = commanded(COMMAND).await;
    let facts = facts.unwrap();
    assert_eq!((attempts, facts.attempt, facts.no_retry), (3, 3, true));
    assert_eq!(skips, [Skip::Attempts]);

    assert_eq!(commanded(Command { idempotent: false, ..COMMAND }).await.2, [Skip::NotIdempotent]);
    assert_eq!(commanded(Command { again: false, ..COMMAND }).await.2, [Skip::BodyTooLarge]);
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_that_cannot_be_had_is_no_lack_of_attempts() {
    /// It can be had once more, or not any more.
    struct Twice(bool);

    impl HasFacts for Twice {}

    impl Replay for Twice {
        fn is_idempotent(&self) -> bool {
            true
        }

        fn replay(&self) -> Option<Self> {
            self.0.then_some(Self(false))
        }
    }

    let fails = || tower::service_fn(|_: Twice| async { Err::<(), BoxError>("reset".into()) });
    let clock = ManualClock::new().clock();

    for (attempts, reason) in [(3, Skip::BodyTooLarge), (2, Skip::Attempts)] {
        let layer = RetryLayer::replaying().attempts(attempts).clock(clock.clone());
        let layer = layer.backoff(Backoff::constant(Duration::ZERO));
        layer.layer(fails()).oneshot(Twice(true)).await.unwrap_err();
        let handle = layer.handle();
        assert_eq!((handle.snapshot().retries, handle.skipped(reason)), (1, 1), "of {attempts} attempts");
    }

    let hedge = HedgeLayer::replaying().delay(Duration::from_secs(1)).at_most(2).clock(clock);
    hedge.layer(fails()).oneshot(Twice(true)).await.unwrap_err();
    assert_eq!((hedge.handle().snapshot().fired, hedge.handle().skipped(Skip::BodyTooLarge)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn facts_of_a_request_of_ones_own_are_kept() {
    let mut facts = Facts::new();
    facts.tried.push(EndpointId::new(3));
    facts.attempt = 2;
    facts.deadline = Some(Timestamp::MAX);
    let (attempts, last, _) = commanded(Command { facts: Some(facts.clone()), ..COMMAND }).await;
    let last = last.unwrap();
    assert_eq!((attempts, last.attempt, last.tried), (3, 4, vec![EndpointId::new(3)]));

    facts.no_retry = true;
    assert_eq!(commanded(Command { facts: Some(facts.clone()), ..COMMAND }).await.2, [Skip::Marked]);
    facts.no_retry = false;
    facts.deadline = Some(Timestamp::ZERO);
    assert_eq!(commanded(Command { facts: Some(facts), ..COMMAND }).await.2, [Skip::Deadline]);
}

#[tokio::test(start_paused = true)]
async fn a_seed_makes_the_jitter_repeat() {
    let waits = |seed| async move {
        let told = Arc::new(Mutex::new(Vec::new()));
        let waits = told.clone();
        let (inner, upstream) = upstream();
        fail(&upstream, 4);
        let layer = retry().attempts(5).seed(seed).observe(move |event| {
            if let RetryEvent::Retrying { delay, .. } = event {
                waits.lock().unwrap().push(*delay);
            }
        });
        layer.layer(inner).oneshot(1).await.unwrap();
        std::mem::take(&mut *told.lock().unwrap())
    };

    assert_eq!(waits(7).await, waits(7).await);
    assert_ne!(waits(7).await, waits(8).await);
}

#[tokio::test(start_paused = true)]
async fn events_carry_the_layers_name() {
    let (inner, upstream) = upstream();
    fail(&upstream, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let names = told.clone();
    let layer = at_once().named("orders").observe(move |event| {
        if let RetryEvent::Retrying { name, .. } | RetryEvent::Recovered { name, .. } = event {
            names.lock().unwrap().push(name.map(ToString::to_string));
        }
    });

    layer.layer(inner).oneshot(1).await.unwrap();

    assert_eq!(*told.lock().unwrap(), [Some("orders".to_owned()), Some("orders".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn the_timeouts_are_named_after_the_layer() {
    let (inner, upstream) = upstream();
    upstream.hold();

    let error = at_once().attempts(1).named("orders").per_try_timeout(ms(10)).layer(inner).oneshot(1).await;

    let error = error.unwrap_err();
    let rejection = error.rejection().unwrap();
    assert_eq!(rejection.kind, RejectionKind::Timeout);
    assert_eq!(rejection.policy.as_deref(), Some("orders"));
}

#[tokio::test(start_paused = true)]
async fn attempts_without_a_wait_let_other_tasks_run() {
    let (inner, upstream) = upstream();
    fail(&upstream, 1000);
    let mut call = std::pin::pin!(at_once().attempts(1000).layer(inner).oneshot(1));
    let counter = buttress_testkit::WakeCounter::new();

    let mut before = 0;
    while counter.poll(call.as_mut()).is_pending() {
        assert!(counter.is_woken(), "nothing else wakes it");
        assert!(upstream.calls() - before <= 64, "{} in one poll", upstream.calls() - before);
        before = upstream.calls();
    }
    assert_eq!(upstream.calls(), 1000);
    assert!(before > 0);
}

#[tokio::test(start_paused = true)]
async fn layers_over_requests_that_say_nothing_multiply() {
    let (inner, upstream) = upstream();
    fail(&upstream, 27);

    at_once().layer(at_once().layer(at_once().layer(inner))).oneshot(1).await.unwrap_err();

    assert_eq!(upstream.calls(), 27, "as the documents say");
}
