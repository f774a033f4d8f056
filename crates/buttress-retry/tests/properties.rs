//! What holds of retries whatever happens.
#![cfg(feature = "http")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{BoxError, Clock, ManualClock, NothingSent, Timestamp};
use buttress_retry::{Backoff, Budget, HedgeLayer, Jitter, ReplayBody, ReplayPool, RetryLayer};
use buttress_testkit::{ScriptedBody, StrictService, Task};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::collection::vec;
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);
/// Timers are no finer.
const TICK: Duration = MS;
const CAP: Duration = Duration::from_secs(3);

/// What the upstream does with one attempt.
#[derive(Clone, Debug)]
struct Act {
    /// How many frames it reads; more than there are means all.
    reads: usize,
    takes: Duration,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Answer {
        status: u16,
        retry_after: Option<u64>,
    },
    Fail,
    /// Fails, and certifies that nothing was processed.
    Unsent,
}

/// One call and its upstream.
#[derive(Clone, Debug)]
struct Case {
    method: Method,
    keyed: bool,
    frames: Vec<Vec<u8>>,
    trailers: bool,
    chunked: bool,
    acts: Vec<Act>,
    attempts: u32,
    limit: usize,
    pool: usize,
    overall: Duration,
    seed: u64,
}

/// What became of one attempt.
#[derive(Debug)]
struct Attempt {
    at: Timestamp,
    act: Act,
    read: Vec<u8>,
    trailers: Option<HeaderMap>,
    all: bool,
}

fn act() -> impl Strategy<Value = Act> {
    let end = prop_oneof![
        4 => (prop_oneof![Just(200_u16), Just(404), Just(429), Just(503)], proptest::option::of(0..6_u64))
            .prop_map(|(status, retry_after)| End::Answer { status, retry_after }),
        2 => Just(End::Fail),
        2 => Just(End::Unsent),
    ];
    let reads = prop_oneof![2 => Just(usize::MAX), 1 => 0..4_usize];
    (reads, 0..500_u64, end).prop_map(|(reads, takes, end)| Act {
        reads,
        takes: Duration::from_millis(takes),
        end,
    })
}

prop_compose! {
    fn case()(
        method in prop_oneof![Just(Method::GET), Just(Method::PUT), Just(Method::POST), Just(Method::PATCH)],
        keyed in prop::bool::weighted(0.2),
        frames in vec(vec(any::<u8>(), 0..40), 0..5),
        (trailers, chunked) in any::<(bool, bool)>(),
        acts in vec(act(), 8),
        attempts in 1..6_u32,
        limit in 0..160_usize,
        pool in 1..160_usize,
        overall in 1..20_000_u64,
        seed in any::<u64>(),
    ) -> Case {
        let overall = Duration::from_millis(overall);
        Case { method, keyed, frames, trailers, chunked, acts, attempts, limit, pool, overall, seed }
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "of it".parse().unwrap());
    trailers
}

impl Case {
    fn body(&self) -> Vec<u8> {
        self.frames.concat()
    }

    fn request(&self) -> Request<ScriptedBody> {
        let mut body = self.frames.iter().fold(ScriptedBody::new(), |body, frame| body.data(frame.clone()));
        if self.trailers {
            body = body.trailers(trailers());
        }
        if self.chunked {
            body = body.chunked();
        }
        let mut request = Request::builder().method(self.method.clone()).uri("/").body(body).unwrap();
        if self.keyed {
            request.headers_mut().insert("idempotency-key", "\"k\"".parse().unwrap());
        }
        request
    }

    fn backoff(&self) -> Backoff {
        let (base, most) = (Duration::from_millis(50), Duration::from_millis(400));
        match self.seed % 4 {
            0 => Backoff::constant(base),
            1 => Backoff::exponential(base, most),
            2 => Backoff::exponential(base, most).jitter(Jitter::Equal),
            _ => Backoff::decorrelated(base, most),
        }
    }

    fn repeatable(&self) -> bool {
        self.method.is_idempotent() || self.keyed
    }

    /// Plays the call. Gives the attempts, how the call ended, and how long it took.
    fn play(&self) -> (Vec<Attempt>, Result<u16, String>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let clock = Clock::tokio();
            let pool = ReplayPool::new(self.pool);
            let attempts = Arc::new(Mutex::new(Vec::new()));
            let acts = Arc::new(Mutex::new(VecDeque::from(self.acts.clone())));
            let upstream = tower::service_fn({
                let (clock, pool, log, limit) = (clock.clone(), pool.clone(), attempts.clone(), self.limit);
                move |request: Request<ReplayBody<ScriptedBody>>| {
                    let act = acts.lock().unwrap().pop_front().expect("not so many attempts");
                    attempt(request, act, clock.clone(), pool.clone(), log.clone(), limit)
                }
            });
            let layer = RetryLayer::default()
                .clock(clock.clone())
                .seed(self.seed)
                .attempts(self.attempts)
                .budget(Budget::unlimited())
                .backoff(self.backoff())
                .retry_after_cap(CAP)
                .replay_limit(self.limit)
                .replay_pool(pool.clone())
                .overall(self.overall);
            let start = clock.now();
            let ended = layer.layer(upstream).oneshot(self.request()).await;
            let took = clock.now() - start;
            assert_eq!(pool.used(), 0, "memory is given back");
            let attempts = std::mem::take(&mut *attempts.lock().unwrap());
            (attempts, ended.map(|res| res.status().as_u16()).map_err(|error| error.to_string()), took)
        })
    }
}

async fn attempt(
    request: Request<ReplayBody<ScriptedBody>>,
    act: Act,
    clock: Clock,
    pool: ReplayPool,
    log: Arc<Mutex<Vec<Attempt>>>,
    limit: usize,
) -> Result<Response<()>, BoxError> {
    let at = clock.now();
    let mut body = request.into_body();
    let (mut read, mut trailers, mut all) = (Vec::new(), None, false);
    for _ in 0..act.reads {
        let Some(frame) = body.frame().await else {
            all = true;
            break;
        };
        match frame?.into_data() {
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        assert!(pool.used() <= pool.most().min(limit), "{} bytes are kept", pool.used());
    }
    log.lock().unwrap().push(Attempt { at, act: act.clone(), read, trailers, all });
    clock.sleep(act.takes).await;
    drop(body);
    match act.end {
        End::Answer { status, retry_after } => {
            let mut response = Response::builder().status(status);
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            Ok(response.body(())?)
        }
        End::Fail => Err("reset".into()),
        End::Unsent => Err(NothingSent::new("refused").into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_call_keeps_to_its_attempts_its_time_and_its_memory(case in case()) {
        let (attempts, ended, took) = case.play();

        prop_assert!(!attempts.is_empty() && attempts.len() <= case.attempts as usize);
        prop_assert!(took <= case.overall + TICK, "{took:?}");
        let last = attempts.last().unwrap();
        let cut = ended.as_ref().is_err_and(|error| error.contains("timed out"));
        prop_assert!(!cut || took >= case.overall);
        if !cut {
            prop_assert_eq!(ended.ok(), match last.act.end {
                End::Answer { status, .. } => Some(status),
                End::Fail | End::Unsent => None,
            });
        }
    }

    #[test]
    fn every_attempt_reads_the_same_body(case in case()) {
        let (attempts, ..) = case.play();

        for attempt in attempts {
            prop_assert!(case.body().starts_with(&attempt.read));
            if attempt.all {
                prop_assert_eq!(attempt.read, case.body());
                prop_assert_eq!(attempt.trailers, case.trailers.then(trailers));
            }
        }
    }

    #[test]
    fn what_may_not_be_carried_out_twice_is_sent_again_with_proof_alone(case in case()) {
        let (attempts, ..) = case.play();

        for before in attempts.iter().rev().skip(1) {
            let proof = matches!(before.act.end, End::Unsent);
            prop_assert!(case.repeatable() || proof);
            // Neither an answer that is none to try again, nor one that came before the end of the body.
            if let End::Answer { status, .. } = before.act.end {
                prop_assert!(matches!(status, 429 | 503));
                prop_assert_eq!(&before.read, &case.body());
            }
        }
    }

    #[test]
    fn what_may_be_tried_again_is(case in case()) {
        // Plenty of everything.
        let case = Case { overall: Duration::from_secs(1000), limit: 1000, pool: 1000, ..case };
        let (attempts, ..) = case.play();
        let last = attempts.last().unwrap();

        let failed = match last.act.end {
            End::Answer { status, retry_after } => {
                matches!(status, 429 | 503) && last.all && retry_after.is_none_or(|seconds| seconds <= 3) && case.repeatable()
            }
            End::Fail => case.repeatable(),
            End::Unsent => true,
        };
        prop_assert!(!failed || attempts.len() == case.attempts as usize);
    }

    #[test]
    fn waits_stay_in_their_bounds_and_are_what_was_asked_for_at_least(case in case()) {
        let (attempts, ..) = case.play();

        for (retry, pair) in (1..).zip(attempts.windows(2)) {
            let wait = (pair[1].at - pair[0].at).saturating_sub(pair[0].act.takes);
            let (least, most) = case.backoff().bounds(retry);
            let asked = match pair[0].act.end {
                End::Answer { retry_after: Some(seconds), .. } => Duration::from_secs(seconds),
                _ => Duration::ZERO,
            };
            prop_assert!(asked <= CAP, "what is asked for above the cap is not tried again");
            prop_assert!(wait >= least.max(asked).saturating_sub(TICK), "{wait:?} of {least:?} and {asked:?}");
            let drawn_out = (asked + asked / 10).min(CAP);
            prop_assert!(wait <= most.max(drawn_out) + 2 * TICK, "{wait:?} of {most:?} and {asked:?}");
        }
    }

    #[test]
    fn a_backoff_draws_from_its_bounds_at_every_retry(
        (base, span) in (1..u64::MAX / 2, 0..u64::MAX / 2),
        factor in 1..9_u32,
        jitter in prop_oneof![Just(Jitter::None), Just(Jitter::Equal), Just(Jitter::Full)],
        retry in any::<u32>(),
        previous in any::<u64>(),
        random in any::<u64>(),
    ) {
        let (base, most) = (Duration::from_nanos(base), Duration::from_nanos(base + span));
        let previous = Duration::from_nanos(previous);
        let exponential = Backoff::exponential(base, most).factor(factor).jitter(jitter);
        for backoff in [exponential, Backoff::constant(base).jitter(jitter), Backoff::decorrelated(base, most)] {
            let (lo, hi) = backoff.bounds(retry);
            let wait = backoff.wait(retry, previous, random);
            prop_assert!(lo <= wait && wait <= hi && hi <= most, "{wait:?} of {lo:?} to {hi:?}");
            prop_assert!(backoff.wait(retry, previous, u64::MAX) >= backoff.wait(retry, previous, 0));
        }
        prop_assert!(exponential.bounds(retry).1 <= exponential.bounds(retry.saturating_add(1)).1);
        prop_assert_eq!(exponential.wait(retry, previous, u64::MAX), exponential.bounds(retry).1);
    }
}

/// What happens to a call from outside.
#[derive(Clone, Copy, Debug)]
enum Step {
    Poll,
    NotReady,
    Grant,
    Ready,
    Hold,
    Release,
    Fail,
    FailReady,
    PanicInCall,
    PanicInFuture,
    PanicInReady,
    Advance(u64),
    Back,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Poll),
        1 => Just(Step::NotReady),
        1 => Just(Step::Grant),
        1 => Just(Step::Ready),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        4 => Just(Step::Fail),
        1 => Just(Step::FailReady),
        1 => Just(Step::PanicInCall),
        1 => Just(Step::PanicInFuture),
        1 => Just(Step::PanicInReady),
        3 => (0..200_u64).prop_map(Step::Advance),
        1 => Just(Step::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_call_dropped_at_any_point_leaves_nothing_behind(
        steps in vec(step(), 0..40),
        strict in any::<bool>(),
        with_body in any::<bool>(),
    ) {
        let time = ManualClock::new();
        let pool = ReplayPool::new(1000);
        let (inner, handle) = StrictService::<_, _, BoxError>::new({
            let pool = pool.clone();
            move |request: Request<ReplayBody<Full<Bytes>>>| {
                assert!(pool.used() <= 6);
                // The answer holds the request, as a server does that streams both ways.
                Response::new(request.into_body())
            }
        });
        let layer = RetryLayer::default()
            .clock(time.clock())
            .attempts(4)
            .budget(Budget::unlimited())
            .replay_pool(pool.clone())
            .classify(|result: Result<&Response<_>, &BoxError>| match result {
                Ok(_) => buttress_core::Outcome::success(),
                Err(_) => buttress_core::Outcome::failure(),
            });
        let request = || {
            let body = if with_body { Full::from("a body") } else { Full::default() };
            Request::put("/").body(body).unwrap()
        };
        if strict {
            dropped_after(layer.strict().layer(inner), request(), &steps, &handle, &time);
        } else {
            dropped_after(layer.layer(inner), request(), &steps, &handle, &time);
        }

        prop_assert_eq!(handle.in_flight(), 0);
        prop_assert_eq!(handle.reserved(), 0);
        prop_assert_eq!(handle.waiting(), 0);
        prop_assert_eq!(handle.alive(), 0);
        prop_assert_eq!(handle.unready_calls(), 0);
        prop_assert!(handle.calls() <= 4);
        prop_assert_eq!(pool.used(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_hedged_call_dropped_at_any_point_leaves_nothing_behind(
        steps in vec(step(), 0..40),
        strict in any::<bool>(),
        with_body in any::<bool>(),
    ) {
        let time = ManualClock::new();
        let pool = ReplayPool::new(1000);
        let (inner, handle) = StrictService::<_, _, BoxError>::new(
            |request: Request<ReplayBody<Full<Bytes>>>| Response::new(request.into_body()),
        );
        let layer = HedgeLayer::after(50 * MS)
            .clock(time.clock())
            .at_most(3)
            .budget(Budget::unlimited())
            .replay_pool(pool.clone())
            .classify(|result: Result<&Response<_>, &BoxError>| match result {
                Ok(_) => buttress_core::Outcome::success(),
                Err(_) => buttress_core::Outcome::failure(),
            });
        let body = if with_body { Full::from("a body") } else { Full::default() };
        let request = Request::put("/").body(body).unwrap();
        if strict {
            dropped_after(layer.strict().layer(inner), request, &steps, &handle, &time);
        } else {
            dropped_after(layer.layer(inner), request, &steps, &handle, &time);
        }

        prop_assert_eq!(handle.in_flight(), 0);
        prop_assert_eq!(handle.reserved(), 0);
        prop_assert_eq!(handle.waiting(), 0);
        prop_assert_eq!(handle.alive(), 0);
        prop_assert_eq!(handle.unready_calls(), 0);
        prop_assert!(handle.calls() <= 4);
        prop_assert_eq!(pool.used(), 0);
    }
}

/// Makes one call, does to it what the steps say, and drops it and the service.
fn dropped_after<S, B>(
    mut service: S,
    request: Request<B>,
    steps: &[Step],
    inner: &buttress_testkit::StrictHandle<BoxError>,
    time: &ManualClock,
) where
    S: Service<Request<B>, Error = BoxError>,
{
    use std::panic::{AssertUnwindSafe, catch_unwind};

    let call = async move {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        let call = service.call(request);
        drop(service);
        call.await
    };
    let mut call = Task::new(call);
    for step in steps {
        match step {
            Step::Poll => {
                if call.is_done() {
                    break;
                }
                if catch_unwind(AssertUnwindSafe(|| call.run())).is_err() {
                    break;
                }
            }
            Step::NotReady => inner.not_ready(),
            Step::Grant => inner.grant(),
            Step::Ready => inner.ready(),
            Step::Hold => inner.hold(),
            Step::Release => inner.release(),
            Step::Fail => inner.fail("reset".into()),
            Step::FailReady => inner.fail_ready("not ready".into()),
            Step::PanicInCall => inner.panic_in_call(),
            Step::PanicInFuture => inner.panic_in_future(),
            Step::PanicInReady => inner.panic_in_ready(),
            Step::Advance(by) => time.advance(Duration::from_millis(*by)),
            Step::Back => time.set(Timestamp::ZERO),
        }
    }
}

/// Sixty-four threads call a service that always fails, through clones of one layer's services.
#[test]
fn sixty_four_threads_make_no_more_attempts_than_the_budget_has() {
    const THREADS: usize = 64;
    const CALLS: usize = 200;
    for (ratio, extra) in [(0.1, 1280), (0.2, 2560), (0.6, 7680)] {
        let layer = RetryLayer::cloning(|_: &u32| true)
            .clock(ManualClock::new().clock())
            .attempts(10)
            .backoff(Backoff::constant(Duration::ZERO))
            .budget(Budget::ratio(ratio));
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let upstream = tower::service_fn({
            let sent = sent.clone();
            move |_: u32| {
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::future::ready(Err::<u32, BoxError>("down".into()))
            }
        });
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let service = layer.layer(upstream.clone());
                scope.spawn(move || {
                    for number in 0..CALLS {
                        let mut call = Task::new(service.clone().oneshot(number as u32));
                        assert!(call.run().is_ready());
                    }
                });
            }
        });

        let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
        let snapshot = layer.handle().snapshot();
        assert!(sent <= THREADS * CALLS + extra, "{sent} attempts at a ratio of {ratio}");
        // The last calls come when everything before them has paid.
        assert!(sent >= THREADS * CALLS + extra - 1, "{sent} attempts at a ratio of {ratio}");
        assert_eq!(snapshot.retries as usize, sent - THREADS * CALLS);
        assert_eq!(snapshot.calls as usize, THREADS * CALLS);
    }
}
