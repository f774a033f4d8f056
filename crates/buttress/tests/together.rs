//! What the layers of a client do together, in the order of docs/order-of-layers.md and in others: counted at an upstream
//! that forgives nothing.
#![cfg(all(
    feature = "circuit-breaker",
    feature = "http",
    feature = "rate-limit",
    feature = "retry",
    feature = "timeout"
))]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::circuit_breaker::{Handle, State};
use buttress::reject::Respond;
use buttress::retry::{Backoff, Skip};
use buttress::{
    BoxError, Budget, Cause, CircuitBreakerLayer, Clock, EndpointId, HasFacts, HedgeLayer, RateLimitLayer,
    RejectionKind, RetryLayer, TimeoutLayer, classify, key, reject,
};
use buttress_testkit::{StrictHandle, StrictService, advance};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

type Answer = Response<Full<Bytes>>;
type Upstream<B> = StrictService<Request<B>, Answer, BoxError>;

const SECOND: Duration = Duration::from_secs(1);

/// Answers each attempt with the status that the closure makes of it, and counts.
fn upstream<B>(
    status: impl Fn(&Request<B>) -> u16 + Send + Sync + 'static,
) -> (Upstream<B>, StrictHandle<BoxError>) {
    StrictService::new(move |request| answer(status(&request)))
}

fn answer(status: u16) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

/// Up to three attempts, without waits, and as many as they like in all.
fn retry() -> RetryLayer {
    RetryLayer::default()
        .backoff(Backoff::constant(Duration::ZERO))
        .budget(Budget::unlimited())
        .clock(Clock::tokio())
}

type Breaker<J = buttress::Fail> = CircuitBreakerLayer<key::Authority, J, classify::Status, buttress::AtHead>;

/// As in the presets: half of 20 calls, by authority.
fn breaker() -> (Breaker, Handle) {
    let layer = CircuitBreakerLayer::default()
        .clock(Clock::tokio())
        .by(key::authority())
        .classify(classify::status());
    let handle = layer.handle();
    (layer, handle)
}

fn request(method: Method) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri("http://upstream.test/").body(Full::default()).unwrap()
}

async fn get<S>(stack: &S) -> Result<Answer, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError> + Clone,
{
    stack.clone().oneshot(request(Method::GET)).await
}

fn refusal(result: &Result<Answer, BoxError>) -> Option<RejectionKind> {
    result.as_ref().err().and_then(Cause::rejection).map(|rejection| rejection.kind)
}

mod in_order {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_attempt_is_counted_by_the_breaker_below_the_retries() {
        let (service, seen) = upstream(|_| 503);
        let (breaker, counted) = breaker();
        counted.metrics_only();
        let retry = retry();
        let retries = retry.handle();
        let stack = ServiceBuilder::new().layer(retry).layer(breaker).service(service);

        for _ in 0..10 {
            assert_eq!(get(&stack).await.unwrap().status(), 503);
        }

        assert_eq!((seen.calls(), counted.counts().failed), (30, 30));
        assert_eq!((retries.snapshot().calls, retries.snapshot().retries), (10, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_is_left_alone_after_twenty_attempts_whoever_makes_them() {
        let (service, seen) = upstream(|_| 503);
        let (breaker, counted) = breaker();
        let stack = ServiceBuilder::new().layer(retry()).layer(breaker).service(service);

        for _ in 0..1_000 {
            let _ = get(&stack).await;
        }

        assert_eq!((seen.calls(), counted.counts().failed), (20, 20));
        // The third attempt of the seventh call was refused, and after it one attempt of each call.
        assert_eq!(counted.counts().refused, 994);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_only_breaker_is_not_tried_again_and_takes_nothing_from_the_budget() {
        let (service, seen) = upstream(|_| 200);
        let (breaker, counted) = breaker();
        let retry = retry().budget(Budget::ratio(0.01).min_per_second(1));
        let retries = retry.handle();
        let stack = ServiceBuilder::new().layer(retry).layer(breaker).service(service);
        counted.force_open();
        let left = retries.snapshot().budget_left;
        assert_eq!(left, 10);

        for _ in 0..50 {
            assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::CircuitOpen));
        }

        assert_eq!((seen.calls(), counted.counts().refused), (0, 50));
        assert_eq!((retries.snapshot().retries, retries.skipped(Skip::Refused)), (0, 50));
        assert_eq!(retries.snapshot().budget_left, left);
    }

    /// One endpoint: its number, its breaker, and what stands behind it.
    type Endpoint<B> = BoxCloneSyncService<Request<B>, Answer, BoxError>;

    fn endpoint<B: Send + 'static>(breaker: Breaker<Respond>, service: Upstream<B>) -> Endpoint<B> {
        BoxCloneSyncService::new(ServiceBuilder::new().layer(breaker).service(service))
    }

    /// Takes the first endpoint that was not tried, and says which it is before it calls.
    async fn choose<B>(endpoints: [Endpoint<B>; 2], request: Request<B>) -> Result<Answer, BoxError> {
        let tried = |id| request.facts().is_some_and(|facts| facts.tried.contains(&EndpointId::new(id)));
        let id = (0..2).find(|id| !tried(*id)).unwrap_or(0);
        let [first, second] = endpoints;
        let chosen = if id == 0 { first } else { second };
        request.facts().inspect(|facts| facts.chose(EndpointId::new(id)));
        chosen.oneshot(request).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_endpoints_breaker_refuses_is_tried_at_the_other_and_not_here() {
        let ((bad, of_bad), (good, of_good)) = (upstream(|_| 503), upstream(|_| 200));
        let of_endpoint = || {
            let (layer, _) = breaker();
            let layer =
                layer.settings(buttress::circuit_breaker::Settings::default().consecutive_failures(3));
            let handle = layer.handle();
            (layer.on_reject(reject::respond()), handle)
        };
        let ((first, counted), (second, _)) = (of_endpoint(), of_endpoint());
        let endpoints = [endpoint(first, bad), endpoint(second, good)];
        let retry = retry().budget(Budget::ratio(0.01).min_per_second(1)).elsewhere();
        let retries = retry.handle();
        let chooser = service_fn(move |request| choose(endpoints.clone(), request));
        let stack = ServiceBuilder::new().layer(retry).service(chooser);

        // The first endpoint fails three times, and each time the second one helps: that is what the budget is for.
        for _ in 0..3 {
            assert_eq!(get(&stack).await.unwrap().status(), 200);
        }
        assert_eq!((of_bad.calls(), of_good.calls()), (3, 3));
        assert_eq!(retries.snapshot().budget_left, 7);

        // Now its breaker is open. It is not called again, and going elsewhere is for nothing: for orders too.
        let opened = Clock::tokio().now();
        for method in [Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::GET] {
            assert_eq!(stack.clone().oneshot(request(method)).await.unwrap().status(), 200);
        }
        assert_eq!((of_bad.calls(), of_good.calls()), (3, 8));
        assert_eq!(counted.counts().refused, 5);
        assert_eq!((retries.snapshot().retries, retries.snapshot().budget_left), (8, 7));
        assert_eq!(Clock::tokio().now(), opened, "and at once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_with_an_error_or_hangs_is_tried_no_more() {
        let endpoints = || {
            let ((bad, of_bad), (good, of_good)) = (upstream(|_| 503), upstream(|_| 200));
            let endpoint = |service| endpoint(breaker().0.on_reject(reject::respond()), service);
            ([endpoint(bad), endpoint(good)], of_bad, of_good)
        };

        let (both, of_bad, of_good) = endpoints();
        of_bad.fail("connection reset".into());
        let chooser = service_fn(move |request| choose(both.clone(), request));
        let stack = ServiceBuilder::new().layer(retry().elsewhere()).service(chooser);
        assert_eq!(get(&stack).await.unwrap().status(), 200);
        assert_eq!((of_bad.calls(), of_good.calls()), (1, 1));

        let (both, of_bad, of_good) = endpoints();
        of_bad.hold();
        let chooser = service_fn(move |request| choose(both.clone(), request));
        let stack = retry().elsewhere().per_try_timeout(SECOND);
        let stack = ServiceBuilder::new().layer(stack).service(chooser.clone());
        assert_eq!(get(&stack).await.unwrap().status(), 200);
        assert_eq!((of_bad.calls(), of_good.calls()), (1, 1), "by time");

        let hedge = HedgeLayer::after(SECOND).budget(Budget::unlimited()).clock(Clock::tokio()).elsewhere();
        let stack = ServiceBuilder::new().layer(hedge).service(chooser);
        assert_eq!(get(&stack).await.unwrap().status(), 200);
        assert_eq!((of_bad.calls(), of_good.calls()), (2, 2), "a hedge goes elsewhere while the first hangs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_bounds_what_a_failing_service_gets_to_one_and_its_ratio() {
        let attempts_for_each_call = async |budget: Budget| {
            let (service, seen) = upstream(|_| 503);
            let (breaker, counted) = breaker();
            counted.metrics_only();
            let stack = ServiceBuilder::new()
                .layer(retry().attempts(5).budget(budget))
                .layer(breaker)
                .service(service);
            for _ in 0..1_000 {
                get(&stack).await.unwrap();
            }
            assert_eq!(counted.counts().failed, seen.calls() as u64);
            seen.calls()
        };

        assert_eq!(attempts_for_each_call(Budget::unlimited()).await, 5_000);
        assert_eq!(attempts_for_each_call(Budget::ratio(0.2)).await, 1_200);
        assert_eq!(attempts_for_each_call(Budget::ratio(0.05)).await, 1_050);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_keep_two_layers_of_retries_from_multiplying() {
        let (service, seen) = upstream(|_| 503);
        let stack = ServiceBuilder::new().layer(retry()).layer(retry()).service(service);
        assert_eq!(get(&stack).await.unwrap().status(), 503);
        assert_eq!(seen.calls(), 3, "and not nine");

        // An error cannot be marked: then the upper layer's further attempts are not tried again by the lower one.
        let (service, seen) = upstream(|_| 200);
        (0..9).for_each(|_| seen.fail("gone".into()));
        let stack = ServiceBuilder::new().layer(retry()).layer(retry()).service(service);
        get(&stack).await.unwrap_err();
        assert_eq!(seen.calls(), 5, "and not nine");
    }

    #[tokio::test(start_paused = true)]
    async fn the_hedge_that_loses_is_not_counted_by_the_breaker() {
        let (service, seen) = upstream(|_| 200);
        let (breaker, counted) = breaker();
        let hedge =
            HedgeLayer::after(Duration::from_millis(10)).budget(Budget::unlimited()).clock(Clock::tokio());
        let hedges = hedge.handle();
        let stack = ServiceBuilder::new().layer(hedge).layer(breaker).service(service);
        seen.hold();

        let steer = async {
            advance(Duration::from_millis(11)).await;
            assert_eq!((seen.calls(), seen.in_flight()), (2, 2));
            seen.release_one();
        };
        let (answer, ()) = tokio::join!(get(&stack), steer);

        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!((seen.finished(), seen.abandoned()), (1, 1));
        let counts = counted.counts();
        assert_eq!((counts.succeeded, counts.failed, counts.slow, counts.abandoned), (1, 0, 0, 1));
        assert_eq!(hedges.snapshot().fired, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idempotency_key_that_is_written_above_the_retries_is_one_for_all_attempts() {
        let keys = async |above: bool| {
            let sent = Arc::new(Mutex::new(Vec::new()));
            let (note, next) = (sent.clone(), Arc::new(AtomicU32::new(0)));
            let mint = move |headers: &mut http::HeaderMap| {
                headers.insert("idempotency-key", next.fetch_add(1, Ordering::Relaxed).into());
            };
            let (service, _) = upstream(move |request| {
                note.lock().unwrap().push(request.headers()["idempotency-key"].clone());
                503
            });
            let (upper, lower) = (mint.clone(), mint);
            let stack = ServiceBuilder::new()
                .map_request(move |mut request: Request<Full<Bytes>>| {
                    upper(request.headers_mut());
                    request
                })
                .layer(retry())
                .map_request(move |mut request: Request<_>| {
                    if !above {
                        lower(request.headers_mut());
                    }
                    request
                })
                .service(service);
            stack.oneshot(request(Method::POST)).await.unwrap();
            let sent = sent.lock().unwrap();
            assert_eq!(sent.len(), 3, "the key says that it may be tried again");
            sent.iter().all(|key| key == sent[0])
        };

        assert!(keys(true).await);
        assert!(!keys(false).await, "below them each attempt is an order of its own");
    }
}

mod out_of_order {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_breaker_above_the_retries_lets_three_times_the_attempts_through_before_it_opens() {
        let (service, seen) = upstream(|_| 503);
        let (breaker, counted) = breaker();
        let stack = ServiceBuilder::new().layer(breaker).layer(retry()).service(service);

        for _ in 0..1_000 {
            let _ = get(&stack).await;
        }

        assert_eq!((seen.calls(), counted.counts().failed), (60, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_above_the_retries_does_not_see_what_they_mend() {
        // Every other attempt fails, and no call does.
        let turn = AtomicU32::new(0);
        let (service, seen) =
            upstream(move |_| if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { 503 } else { 200 });
        let (breaker, counted) = breaker();
        let stack = ServiceBuilder::new().layer(breaker).layer(retry()).service(service);

        for _ in 0..100 {
            assert_eq!(get(&stack).await.unwrap().status(), 200);
        }

        assert_eq!((seen.calls(), counted.counts().failed), (200, 0));
    }

    /// Two calls that hang; the breaker opens after two failures in a row. How it stands, and how many it saw go away.
    async fn after_two_that_hang(timeout_below: bool) -> (State, u64) {
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let layer =
            CircuitBreakerLayer::failures_in_a_row(2).clock(Clock::tokio()).classify(classify::status());
        let counted = layer.handle();
        let timeout = TimeoutLayer::head(SECOND).clock(Clock::tokio());
        let stack = if timeout_below {
            BoxCloneSyncService::new(ServiceBuilder::new().layer(layer).layer(timeout).service(service))
        } else {
            BoxCloneSyncService::new(ServiceBuilder::new().layer(timeout).layer(layer).service(service))
        };
        for _ in 0..2 {
            assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::Timeout));
        }
        (counted.state(), counted.counts().abandoned)
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_above_the_breaker_hides_from_it_that_calls_hang() {
        assert_eq!(after_two_that_hang(true).await, (State::Open, 0));
        assert_eq!(after_two_that_hang(false).await, (State::Closed, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_below_the_retries_is_one_for_each_attempt_and_bounds_no_call() {
        let timeout = || TimeoutLayer::head(SECOND).clock(Clock::tokio());
        let clock = Clock::tokio();

        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let stack = ServiceBuilder::new().layer(timeout()).layer(retry()).service(service);
        let start = clock.now();
        assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::Timeout));
        assert_eq!((clock.now() - start, seen.calls()), (SECOND, 1));

        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let stack = ServiceBuilder::new().layer(retry()).layer(timeout()).service(service);
        let start = clock.now();
        assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::Timeout));
        assert_eq!((clock.now() - start, seen.calls()), (3 * SECOND, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_above_the_retries_counts_calls_and_below_them_attempts() {
        let limit = || RateLimitLayer::per_second(1).burst(3).clock(Clock::tokio());

        let (service, seen) = upstream(|_| 503);
        let stack = ServiceBuilder::new().layer(limit()).layer(retry()).service(service);
        for _ in 0..3 {
            assert_eq!(get(&stack).await.unwrap().status(), 503);
        }
        assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::RateLimited));
        assert_eq!(seen.calls(), 9);

        let (service, seen) = upstream(|_| 503);
        let stack = ServiceBuilder::new().layer(retry()).layer(limit()).service(service);
        assert_eq!(get(&stack).await.unwrap().status(), 503);
        assert_eq!(refusal(&get(&stack).await), Some(RejectionKind::RateLimited));
        assert_eq!(seen.calls(), 3);
    }
}
