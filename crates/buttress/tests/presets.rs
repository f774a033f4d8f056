//! The presets: what they do by default, what they refuse, what they cost, and the contract of every layer.
#![cfg(all(feature = "presets", feature = "rate-limit"))]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::circuit_breaker::{CircuitBreakerEvent, Settings, State, Window};
use buttress::presets::{self, Client, ClientService, HedgedClient, HedgedClientService};
use buttress::retry::{Backoff, HedgeEvent, ReplayBody, RetryEvent, Skip};
use buttress::timeout::TimeoutEvent;
use buttress::{BoxError, Budget, Cause, Clock, RejectionKind};
use buttress_testkit::{
    Contract, Point, ScriptedBody, StrictHandle, StrictService, advance, assert_send_sync_clone_unpin,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, Service, ServiceExt};

type Sent = Request<ReplayBody<Full<Bytes>>>;
type Answer = Response<Full<Bytes>>;
type Upstream = StrictService<Sent, Answer, BoxError>;

const SECOND: Duration = Duration::from_secs(1);

fn upstream(status: impl Fn(&Sent) -> u16 + Send + Sync + 'static) -> (Upstream, StrictHandle<BoxError>) {
    StrictService::new(move |request| {
        Response::builder().status(status(&request)).body(Full::default()).unwrap()
    })
}

/// As it comes, on tokio's time and without waits.
fn client() -> Client {
    presets::client().clock(Clock::tokio()).retry(|retry| retry.backoff(Backoff::constant(Duration::ZERO)))
}

fn hedged_client() -> HedgedClient {
    presets::hedged_client().clock(Clock::tokio())
}

fn request(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

async fn get<S>(service: &S) -> Result<Answer, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError> + Clone,
{
    service.clone().oneshot(request("http://upstream.test/")).await
}

fn refusal(result: &Result<Answer, BoxError>) -> Option<RejectionKind> {
    result.as_ref().err().and_then(Cause::rejection).map(|rejection| rejection.kind)
}

mod client {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_is_tried_twice_more_and_given_up_after_thirty_seconds() {
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let clock = Clock::tokio();
        let stack = presets::client().clock(clock.clone());
        let handle = stack.handle();

        let result = get(&stack.layer(service)).await;

        assert_eq!(refusal(&result), Some(RejectionKind::Timeout));
        assert_eq!(clock.now(), buttress::Timestamp::ZERO + 30 * SECOND);
        assert_eq!((seen.calls(), handle.retries().snapshot().retries), (3, 2));
        // The third was not over when the call was.
        assert_eq!((handle.breaker().counts().failed, handle.breaker().counts().abandoned), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_once_is_mended_and_each_attempt_is_counted() {
        let (service, seen) = upstream(|_| 200);
        seen.fail("gone".into());
        let stack = client();
        let handle = stack.handle();

        assert_eq!(get(&stack.layer(service)).await.unwrap().status(), 200);

        assert_eq!((seen.calls(), handle.retries().snapshot().recovered), (2, 1));
        assert_eq!((handle.breaker().counts().succeeded, handle.breaker().counts().failed), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_twenty_failures_the_authority_is_left_alone_and_others_are_not() {
        let (service, seen) = upstream(|sent| if sent.uri().host() == Some("bad.test") { 500 } else { 200 });
        let stack = client().budget(Budget::unlimited());
        let handle = stack.handle();
        let service = stack.layer(service);
        let ask = async |url| service.clone().oneshot(request(url)).await;

        for _ in 0..50 {
            let _ = ask("http://bad.test/").await;
        }

        assert_eq!(seen.calls(), 20);
        assert_eq!(handle.breaker().key("bad.test").state(), State::Open);
        assert_eq!(refusal(&ask("http://bad.test/").await), Some(RejectionKind::CircuitOpen));
        assert_eq!(ask("http://good.test/").await.unwrap().status(), 200);
        // Six calls failed three times each, the seventh was refused at its third attempt, and all others at their first.
        assert_eq!(handle.breaker().counts().refused, 1 + 43 + 1);
        let [spent, refused] = [Skip::Attempts, Skip::Refused].map(|skip| handle.retries().skipped(skip));
        assert!(refused > 43, "{refused}");
        assert_eq!(spent + refused, 6 + 1 + 43 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn results_that_come_slowly_are_enough_to_open_it() {
        let (service, seen) = upstream(|_| 500);
        let stack = client().attempts(1);
        let handle = stack.handle();
        let service = stack.layer(service);

        // As those of calls that hang do.
        for _ in 0..22 {
            let _ = get(&service).await;
            advance(Duration::from_millis(1_200)).await;
        }

        assert_eq!(seen.calls(), 20, "in 24 seconds");
        assert_eq!(handle.breaker().key("upstream.test").state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_an_attempt_may_take_a_service_that_hangs_opens_it() {
        for seconds in [1, 10, 60, 600] {
            let (service, seen) = upstream(|_| 200);
            seen.hold();
            let stack = client().attempts(1).attempt_timeout(seconds * SECOND);
            let handle = stack.handle();
            let service = stack.layer(service);

            for _ in 0..30 {
                futures_util::future::join_all((0..10).map(|_| get(&service))).await;
            }

            assert_eq!(handle.breaker().key("upstream.test").state(), State::Open, "attempts of {seconds} s");
            assert!(seen.calls() <= 30, "attempts of {seconds} s: {}", seen.calls());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_would_end_after_the_total_is_not_begun() {
        let (clock, start) = (Clock::tokio(), Clock::tokio().now());
        let retries = client().total_timeout(3 * SECOND).layer(later());
        let hedges = hedged_client().total_timeout(3 * SECOND).layer(later());
        // As a stack of one's own is built, whose total goes on to the end of the body.
        let by_hand = tower::ServiceBuilder::new()
            .layer(buttress::TimeoutLayer::total(3 * SECOND).clock(clock.clone()))
            .layer(buttress::RetryLayer::default().overall(3 * SECOND).clock(clock.clone()))
            .service(later());

        assert_eq!(get(&retries).await.unwrap().status(), 503);
        assert_eq!(get(&hedges).await.unwrap().status(), 503);
        assert_eq!(by_hand.oneshot(request("http://upstream.test/")).await.unwrap().status(), 503);

        assert_eq!(clock.now(), start, "what is there is given, at once");
    }

    /// Is down for five seconds.
    fn later() -> Upstream {
        let answer =
            |_| Response::builder().status(503).header("retry-after", "5").body(Full::default()).unwrap();
        StrictService::new(answer).0
    }

    #[tokio::test(start_paused = true)]
    async fn by_default_a_fifth_of_the_calls_and_ten_a_second_are_tried_again() {
        let (service, seen) = upstream(|_| 503);
        let stack = client().attempts(2);
        stack.handle().breaker().metrics_only();
        let service = stack.layer(service);

        for _ in 0..1_000 {
            get(&service).await.unwrap();
        }

        assert_eq!(seen.calls(), 1_000 + 200 + 100, "in the first ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_that_is_not_given_makes_room_for_the_other() {
        let clock = Clock::tokio();
        let hangs = async |stack: Client| {
            let (service, seen) = upstream(|_| 200);
            seen.hold();
            let start = clock.now();
            get(&stack.layer(service)).await.unwrap_err();
            (clock.now() - start, seen.calls())
        };

        assert_eq!(hangs(client().attempts(1)).await, (10 * SECOND, 1));
        assert_eq!(hangs(client().attempts(1).total_timeout(6 * SECOND)).await, (2 * SECOND, 1));
        assert_eq!(hangs(client().attempts(1).total_timeout(60 * SECOND)).await, (10 * SECOND, 1));
        assert_eq!(hangs(client().attempts(9).attempt_timeout(20 * SECOND)).await, (60 * SECOND, 3));
        assert_eq!(hangs(client().attempts(9).attempt_timeout(SECOND)).await, (9 * SECOND, 9));
        assert_eq!(hangs(client().attempt_timeout(Duration::MAX)).await, (30 * SECOND, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn observers_and_refusals_know_the_name() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = |line: String| told.lock().unwrap().push(line);
        let (retries, breaker, attempts) = (told.clone(), told.clone(), told.clone());
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let stack = client()
            .named("orders")
            .attempts(2)
            .breaker(Settings::default().no_failure_rate().consecutive_failures(2))
            .observe_retries(move |event| {
                if let RetryEvent::Retrying { name, attempt, .. } = event {
                    retries.lock().unwrap().push(format!("{}: attempt {attempt}", name.unwrap()));
                }
            })
            .observe_breaker(move |event| {
                if let CircuitBreakerEvent::Transition { policy, .. } = event {
                    breaker.lock().unwrap().push(format!("{policy}: a transition"));
                }
            })
            .observe_attempts(move |event| {
                if let TimeoutEvent::Head { name, limit, .. } = event {
                    attempts.lock().unwrap().push(format!("{}: {limit:?} are over", name.unwrap()));
                }
            });
        let service = stack.layer(service);

        get(&service).await.unwrap_err();
        note(get(&service).await.unwrap_err().to_string());

        let told = told.lock().unwrap();
        assert_eq!(
            told[..4],
            ["orders: 10s are over", "orders: attempt 2", "orders: 10s are over", "orders: a transition",]
        );
        assert!(told[4].starts_with("circuit open by `orders`"), "{}", told[4]);
        assert_eq!(told.len(), 5);
    }

    #[tokio::test]
    async fn clones_and_services_share_what_the_handle_reads() {
        let (service, _) = upstream(|_| 200);
        let stack = client();
        let handle = stack.handle();

        for service in [stack.clone().layer(service.clone()), stack.layer(service)] {
            get(&service).await.unwrap();
        }

        assert_eq!(handle.retries().snapshot().calls, 2);
        assert_eq!(handle.breaker().counts().succeeded, 2);
    }
}

mod hedged {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_made_again_after_two_seconds_and_the_loser_is_not_counted() {
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let stack = hedged_client();
        let handle = stack.handle();
        let service = stack.layer(service);

        let steer = async {
            advance(Duration::from_millis(1_990)).await;
            assert_eq!(seen.calls(), 1);
            advance(Duration::from_millis(20)).await;
            assert_eq!(seen.calls(), 2);
            seen.release_one();
        };
        let (answer, ()) = tokio::join!(get(&service), steer);

        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(handle.hedges().snapshot().fired, 1);
        let counts = handle.breaker().counts();
        assert_eq!((counts.succeeded, counts.failed, counts.abandoned), (1, 0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_gets_two_attempts_which_both_count_as_failures() {
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let clock = Clock::tokio();
        let stack = hedged_client();
        let handle = stack.handle();

        let result = get(&stack.layer(service)).await;

        assert_eq!(refusal(&result), Some(RejectionKind::Timeout));
        assert_eq!(
            clock.now(),
            buttress::Timestamp::ZERO + 12 * SECOND,
            "two seconds, and ten for the hedge"
        );
        assert_eq!((seen.calls(), handle.breaker().counts().failed), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_total_ends_all_attempts() {
        let (service, seen) = upstream(|_| 200);
        seen.hold();
        let clock = Clock::tokio();
        let stack = hedged_client().attempt_timeout(4 * SECOND).total_timeout(5 * SECOND).hedges(2);

        let result = get(&stack.named("search").layer(service)).await;

        let error = result.unwrap_err();
        assert_eq!(clock.now(), buttress::Timestamp::ZERO + 5 * SECOND);
        assert_eq!(error.rejection().unwrap().policy.as_deref(), Some("search"));
        assert_eq!((seen.in_flight(), seen.abandoned()), (0, seen.calls()));
    }

    #[tokio::test(start_paused = true)]
    async fn its_numbers_are_changed_as_the_clients_are() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = told.clone();
        let (service, seen) = upstream(|_| 503);
        let stack = hedged_client()
            .hedges(2)
            .hedge(|hedge| hedge.delay(SECOND))
            .budget(Budget::unlimited())
            .named("search")
            .breaker(Settings::default().no_failure_rate().consecutive_failures(3))
            .observe_hedges(move |event| {
                if let HedgeEvent::Fired { name, attempt, .. } = event {
                    note.lock().unwrap().push(format!("{}: attempt {attempt}", name.unwrap()));
                }
            });
        let handle = stack.handle();

        assert_eq!(get(&stack.layer(service)).await.unwrap().status(), 503);

        assert_eq!(seen.calls(), 3);
        assert_eq!(*told.lock().unwrap(), ["search: attempt 2", "search: attempt 3"]);
        assert_eq!(handle.breaker().key("upstream.test").state(), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn for_grpc_the_breaker_reads_the_trailers() {
    let unavailable = |_: Sent| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 14.into());
        let frames = [Ok::<_, BoxError>(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    };
    let (service, _) = StrictService::<_, _, BoxError>::new(unavailable);
    let (stack, hedged) = (client().grpc(), hedged_client().grpc());
    let (counted, of_hedged) = (stack.handle(), hedged.handle());

    let answer = stack.layer(service.clone()).oneshot(request("http://grpc.test/")).await.unwrap();
    assert_eq!(counted.breaker().counts().failed, 0, "the head says nothing");
    answer.into_body().collect().await.unwrap();
    assert_eq!(counted.breaker().counts().failed, 1);

    let answer = hedged.layer(service).oneshot(request("http://grpc.test/")).await.unwrap();
    answer.into_body().collect().await.unwrap();
    assert_eq!(of_hedged.breaker().counts().failed, 1);
}

#[test]
fn what_cannot_work_is_refused_with_field_value_and_rule() {
    let message = |build: fn()| {
        let payload = std::panic::catch_unwind(build).expect_err("it is refused");
        payload.downcast::<String>().map(|text| *text).expect("a message")
    };

    assert_eq!(
        message(|| drop(presets::client().attempt_timeout(5 * SECOND).total_timeout(5 * SECOND))),
        "client with `total_timeout` = 5s: an attempt (5s) must be shorter than the call (5s), or its timeout ends none"
    );
    assert_eq!(
        message(|| drop(presets::hedged_client().total_timeout(SECOND).attempt_timeout(2 * SECOND))),
        "client with `attempt_timeout` = 2s: an attempt (2s) must be shorter than the call (1s), or its timeout ends none"
    );
    assert_eq!(
        message(|| drop(presets::client().total_timeout(Duration::ZERO))),
        "client with `total_timeout` = 0ns: must be longer than zero"
    );
    assert_eq!(
        message(|| drop(presets::client().breaker(Settings::default()).attempt_timeout(6 * SECOND))),
        "client with `attempt_timeout` = 6s: the breaker's window (10s) must be two attempts (6s) long at least, or calls that \
         hang do not open it"
    );
    assert_eq!(
        message(|| drop(presets::hedged_client().attempt_timeout(6 * SECOND).breaker(Settings::default()))),
        "client with `breaker` = 10s: the breaker's window (10s) must be two attempts (6s) long at least, or calls that hang do \
         not open it"
    );
    // What is judged by other things than time has as much of it as it takes.
    let (calls, in_a_row) =
        (Settings::default().window(Window::last(50)), Settings::default().no_failure_rate());
    drop(presets::client().breaker(calls).attempt_timeout(60 * SECOND));
    drop(presets::client().breaker(in_a_row.consecutive_failures(3)).attempt_timeout(60 * SECOND));
    drop(presets::client().breaker(Settings::default()).attempt_timeout(5 * SECOND));
    drop(presets::client().breaker(Settings::default()).attempt_timeout(Duration::MAX));
    // No limit for an attempt, or for anything, is no mistake.
    drop(presets::client().total_timeout(SECOND).attempt_timeout(Duration::MAX));
    drop(presets::client().attempt_timeout(Duration::MAX).total_timeout(Duration::MAX));
    drop(presets::client().attempt_timeout(Duration::MAX));
}

mod contract {
    use super::*;
    use tower::ServiceBuilder;
    use tower::util::MapRequestLayer;
    use tower_layer::{Identity, Stack};

    type Bare = fn(Request<ReplayBody<ScriptedBody>>) -> Request<ScriptedBody>;

    /// The suite's inner service takes requests as they were, and does not look at their bodies.
    fn bare<L>(layer: L) -> Stack<MapRequestLayer<Bare>, Stack<L, Identity>> {
        let bare: Bare = |request| request.map(|_| ScriptedBody::new());
        ServiceBuilder::new().layer(layer).map_request(bare).into_inner()
    }

    /// As it comes, but that a call which fails in the suite is over when the suite has let it fail.
    fn at_once() -> Client {
        presets::client().retry(|retry| retry.backoff(Backoff::constant(Duration::ZERO)))
    }

    const WAITS: &str = "a call waits before it tries again where an inner poll_ready failed, and the suite's time stands still";

    // The suite's requests carry one extension, whose clone takes three allocations. The fourth is the body that `bare` makes.
    const OF_THE_REQUEST: u64 = 4;

    #[test]
    fn the_client_keeps_it() {
        Contract::http(|| bare(presets::client()))
            .exempt(Point::Readiness, WAITS)
            .allocations(OF_THE_REQUEST)
            .run();
        Contract::http(|| bare(at_once())).allocations(OF_THE_REQUEST).run();
        Contract::http(|| bare(at_once().strict())).allocations(OF_THE_REQUEST).run();
    }

    #[test]
    fn the_hedged_client_keeps_it() {
        Contract::http(|| bare(presets::hedged_client())).allocations(OF_THE_REQUEST).run();
        Contract::http(|| bare(presets::hedged_client().strict())).allocations(OF_THE_REQUEST).run();
    }

    #[test]
    fn for_grpc_they_keep_it() {
        Contract::http(|| bare(at_once().grpc())).allocations(OF_THE_REQUEST).run();
        Contract::http(|| bare(presets::hedged_client().grpc())).allocations(OF_THE_REQUEST).run();
    }

    #[test]
    fn what_cannot_work_is_refused() {
        Contract::http(|| bare(at_once()))
            .allocations(OF_THE_REQUEST)
            .refuses("no attempts", || presets::client().attempts(0))
            .refuses("no hedges", || presets::hedged_client().hedges(0))
            .refuses("no time for an attempt", || presets::client().attempt_timeout(Duration::ZERO))
            .refuses("a third of nothing", || presets::client().total_timeout(Duration::from_nanos(2)))
            .refuses("a rate of no calls", || {
                presets::client().breaker(Settings::default().failure_rate(0.0))
            })
            .refuses("attempts longer than the call", || {
                presets::client().total_timeout(SECOND).attempt_timeout(2 * SECOND)
            })
            .run();
    }

    #[test]
    fn the_types_are_send_and_sync_and_have_names() {
        #[expect(dead_code, reason = "that it compiles is the test")]
        struct Named {
            client: ClientService<Upstream>,
            hedged: HedgedClientService<Upstream>,
        }
        let (service, _) = upstream(|_| 200);
        let _ = Named { client: client().layer(service.clone()), hedged: hedged_client().layer(service) };

        assert_send_sync_clone_unpin::<Client>();
        assert_send_sync_clone_unpin::<HedgedClient>();
        assert_send_sync_clone_unpin::<presets::ClientHandle>();
        assert_send_sync_clone_unpin::<presets::HedgedClientHandle>();
        assert_send_sync_clone_unpin::<ClientService<Upstream>>();
        assert_send_sync_clone_unpin::<HedgedClientService<Upstream>>();
    }
}

mod allocations {
    use super::*;
    use buttress::RateLimitLayer;
    use buttress_testkit::allocations;
    use http::{HeaderValue, Uri};

    /// Answers at the first poll, or at the second; allocates nothing.
    #[derive(Clone)]
    struct Quiet {
        waits: bool,
    }

    impl Service<Sent> for Quiet {
        type Response = Answer;
        type Error = BoxError;
        type Future = QuietFuture;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, sent: Sent) -> QuietFuture {
            QuietFuture { waits: self.waits, body: sent.into_body() }
        }
    }

    struct QuietFuture {
        waits: bool,
        body: ReplayBody<Full<Bytes>>,
    }

    impl Future for QuietFuture {
        type Output = Result<Answer, BoxError>;

        fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            while let Poll::Ready(Some(frame)) = pin!(self.body.frame()).poll(cx) {
                drop(frame);
            }
            if std::mem::take(&mut self.waits) { Poll::Pending } else { Poll::Ready(Ok(Response::default())) }
        }
    }

    /// What one call takes, the request not counted.
    fn taken<S>(mut service: S, make: fn() -> Request<Full<Bytes>>) -> u64
    where
        S: Service<Request<Full<Bytes>>, Response = Answer>,
    {
        let mut call = |request| {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(service.poll_ready(cx).is_ready());
            let mut call = pin!(service.call(request));
            assert!(call.as_mut().poll(cx).is_ready() || call.poll(cx).is_ready());
        };
        // The first call of an authority makes its breaker.
        call(make());
        let request = make();
        allocations(|| call(request))
    }

    fn get() -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static("http://upstream.test/");
        request
    }

    fn with_fields() -> Request<Full<Bytes>> {
        let mut request = get();
        request.headers_mut().insert("accept", HeaderValue::from_static("*/*"));
        request.extensions_mut().insert(7_u64);
        request
    }

    fn with_a_body() -> Request<Full<Bytes>> {
        with_fields().map(|_| Full::from("a body"))
    }

    fn order() -> Request<Full<Bytes>> {
        let mut request = with_fields();
        *request.method_mut() = http::Method::CONNECT;
        request
    }

    fn clone_of_the_head() -> u64 {
        let request = with_fields();
        allocations(|| (request.headers().clone(), request.extensions().clone()))
    }

    /// A limit on the client's own calls, and the four layers of a preset: of a GET, of one with a field and an extension, of
    /// one with a body as well, and of a request that may never be made again.
    macro_rules! of_five_layers {
        ($preset:expr, $waits:expr) => {{
            let limit = RateLimitLayer::per_second(1_000).clock(Clock::tokio());
            let stack = limit.layer($preset.layer(Quiet { waits: $waits }));
            [get, with_fields, with_a_body, order].map(|make| taken(stack.clone(), make))
        }};
    }

    #[tokio::test(start_paused = true)]
    async fn five_layers_take_what_it_takes_to_send_the_request_again_and_nothing_else() {
        let head = clone_of_the_head();
        println!("a clone of one field and one extension takes {head}");
        assert!(head > 0);

        for waits in [false, true] {
            for [bare, fields, body, once] in
                [of_five_layers!(client(), waits), of_five_layers!(hedged_client(), waits)]
            {
                // Nothing; the copy of the head that a further attempt would send; and with a body what its attempts share.
                // A timer lives inside the call's future.
                assert_eq!((bare, fields, once), (0, head, 0), "waits: {waits}");
                assert_eq!(body, head + 1, "waits: {waits}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_retries_they_take_nothing() {
        for waits in [false, true] {
            assert_eq!(of_five_layers!(client().attempts(1), waits), [0; 4]);
        }
    }
}
