//! What is tried again of HTTP, and what is not.
#![cfg(feature = "http")]

mod support;

use std::task::Poll;
use std::time::Duration;

use buttress_core::{
    BoxError, Clock, Facts, HasFacts, ManualClock, Outcome, Rejection, RejectionKind, Timestamp,
};
use buttress_http::field::NoRetry;
use buttress_retry::{Backoff, Budget, Jitter, ReplayBody, RetryLayer, RetrySafe, Skip};
use buttress_testkit::{StrictService, Task};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use support::{Log, Play, Told, answer, answer_with, from_endpoint, get, layer, post, put, refusal, unsent};
use tower::{Layer, ServiceExt};

type Answer = Result<Response<Full<Bytes>>, BoxError>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One call, under the script.
async fn play(layer: &RetryLayer, script: Vec<Play>, request: Request<Full<Bytes>>) -> (Answer, Log) {
    let log = Log::new(script);
    let answer = layer.layer(log.upstream()).oneshot(request).await;
    (answer, log)
}

/// How many attempts a call has, when each one is answered with 503.
async fn attempts(request: Request<Full<Bytes>>) -> usize {
    let script = (0..5).map(|_| Play::Answer(answer(503))).collect();
    play(&layer(), script, request).await.1.attempts()
}

fn status(answer: &Answer) -> u16 {
    answer.as_ref().unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_get_is_tried_three_times_in_all() {
    let told = Told::default();
    let layer = layer().observe(told.observer());
    let script = vec![Play::Answer(answer(503)), Play::Answer(answer(503)), Play::Answer(answer(503))];

    let (last, log) = play(&layer, script, get()).await;

    assert_eq!((status(&last), log.attempts()), (503, 3));
    assert_eq!(told.lines(), ["attempt 2 in 0ns", "attempt 3 in 0ns", "attempts after 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_at_the_second_attempt_is_answered_by_it() {
    let told = Told::default();
    let layer = layer().observe(told.observer());

    let (last, log) = play(&layer, vec![Play::Fail("reset".into())], get()).await;

    assert_eq!((status(&last), log.attempts()), (200, 2));
    assert_eq!(told.lines(), ["attempt 2 in 0ns", "recovered after 2"]);
    let counts = layer.handle().snapshot();
    assert_eq!((counts.calls, counts.retries, counts.recovered, counts.skipped), (1, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn idempotent_methods_are_tried_again_and_others_are_not() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let mut request = get();
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(attempts(request).await, 3, "{method}");
    }
    for method in ["POST", "PATCH", "LOCK", "PROPPATCH"] {
        let mut request = get();
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(attempts(request).await, 1, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_and_the_callers_word_speak_for_a_post() {
    let mut keyed = post("order");
    keyed.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
    let mut empty = post("order");
    empty.headers_mut().insert("idempotency-key", "".parse().unwrap());
    let mut safe = post("search");
    safe.extensions_mut().insert(RetrySafe);

    assert_eq!(attempts(keyed).await, 3);
    assert_eq!(attempts(empty).await, 1, "a key that is none");
    assert_eq!(attempts(safe).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_tried_again_when_nothing_was_sent_and_not_when_it_may_have_been() {
    let told = Told::default();
    let layer = layer().observe(told.observer());

    let (last, log) = play(&layer, vec![Play::Drop(unsent()), Play::Fail(unsent())], post("order")).await;
    assert_eq!((status(&last), log.attempts()), (200, 3));
    assert!(log.seen().iter().skip(1).all(|seen| seen.body.as_ref().unwrap() == "order"));
    assert_eq!(told.lines().last().unwrap(), "recovered after 3");

    for lost in [Play::Fail("reset".into()), Play::Drop("reset".into()), Play::Answer(answer(503))] {
        let (_, log) = play(&layer, vec![lost], post("order")).await;
        assert_eq!(log.attempts(), 1);
        assert_eq!(told.lines(), ["not_idempotent after 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn proof_that_came_once_is_no_proof_for_the_next_attempt() {
    let script = vec![Play::Drop(unsent()), Play::Fail("reset".into())];

    let (last, log) = play(&layer(), script, post("order")).await;

    assert!(last.is_err());
    assert_eq!(log.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_never_tried_again_whatever_speaks_for_it() {
    let told = Told::default();
    let layer = layer().observe(told.observer());
    let mut connect = get();
    *connect.method_mut() = Method::CONNECT;
    let mut upgrade = get();
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());

    for mut tunnel in [connect, upgrade] {
        tunnel.extensions_mut().insert(RetrySafe);
        let (_, log) = play(&layer, vec![Play::Drop(unsent())], tunnel).await;
        assert_eq!(log.attempts(), 1);
        assert_eq!(told.lines(), ["tunnel after 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_that_may_pass_are_tried_again_and_the_rest_is_an_answer() {
    for (status, attempts) in
        [(408, 2), (429, 2), (500, 2), (502, 2), (503, 2), (504, 2), (404, 1), (409, 1), (501, 1), (505, 1)]
    {
        let (_, log) = play(&layer(), vec![Play::Answer(answer(status))], get()).await;
        assert_eq!(log.attempts(), attempts, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_statuses_are_a_choice() {
    let layer = layer().on_status([StatusCode::CONFLICT]);

    let (_, conflict) = play(&layer, vec![Play::Answer(answer(409))], get()).await;
    let (_, unavailable) = play(&layer, vec![Play::Answer(answer(503))], get()).await;

    assert_eq!((conflict.attempts(), unavailable.attempts()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_ones_own_may_say_what_is_worth_an_attempt() {
    let log = Log::new([Play::Answer(answer(202))]);
    let layer = layer().classify(|result: Result<&Response<Full<Bytes>>, &BoxError>| match result {
        Ok(answer) if answer.status() == 202 => Outcome::failure().with_retry_after(ms(300)),
        _ => Outcome::success(),
    });

    let answer = layer.layer(log.upstream()).oneshot(get()).await.unwrap();

    assert_eq!((answer.status().as_u16(), log.attempts()), (200, 2));
    assert!((ms(300)..=ms(331)).contains(&log.waits()[0]), "{:?}", log.waits());
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_ones_own_may_say_that_a_failure_is_the_last_one() {
    let log = Log::new([Play::Answer(answer(503))]);
    let layer =
        layer().classify(|_: Result<&Response<Full<Bytes>>, &BoxError>| Outcome::failure().with_no_retry());

    layer.layer(log.upstream()).oneshot(get()).await.unwrap();

    assert_eq!(log.attempts(), 1);
    assert_eq!(layer.handle().skipped(Skip::Marked), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_is_not_tried_again_as_an_error_or_as_an_answer() {
    let told = Told::default();
    let layer = layer().observe(told.observer());
    let open = || Rejection::new(RejectionKind::CircuitOpen).with_elsewhere();

    for refused in [Play::Drop(Box::new(open())), Play::Answer(refusal(open()))] {
        let (_, log) = play(&layer, vec![refused], get()).await;
        assert_eq!(log.attempts(), 1);
        assert_eq!(told.lines(), ["refused after 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_something_below_chooses_a_refusal_is_tried_elsewhere_at_once_and_for_nothing() {
    let told = Told::default();
    // A budget that has nothing.
    let layer = layer()
        .backoff(Backoff::constant(ms(500)).jitter(Jitter::None))
        .budget(Budget::ratio(0.01))
        .elsewhere()
        .observe(told.observer());
    let open = || {
        Rejection::new(RejectionKind::CircuitOpen).with_elsewhere().with_retry_after(Duration::from_secs(60))
    };

    for (refused, request) in
        [(Play::Drop(Box::new(open())), post("order")), (Play::Early(refusal(open())), post("order"))]
    {
        let (last, log) = play(&layer, vec![refused], request).await;
        assert_eq!((status(&last), log.attempts()), (200, 2));
        assert_eq!(told.lines(), ["attempt 2 in 0ns", "recovered after 2"]);
    }
    let here = Rejection::new(RejectionKind::RateLimited);
    let (_, log) = play(&layer, vec![Play::Drop(Box::new(here))], get()).await;
    assert_eq!(log.attempts(), 1, "what refuses for all endpoints");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_ours_further_down_is_a_failure_like_any_other() {
    let slow = Rejection::new(RejectionKind::Timeout);

    let (_, log) = play(&layer(), vec![Play::Fail(Box::new(slow.clone()))], get()).await;
    assert_eq!(log.attempts(), 2);
    let (_, log) = play(&layer(), vec![Play::Fail(Box::new(slow))], post("order")).await;
    assert_eq!(log.attempts(), 1, "it may have been carried out");
}

#[tokio::test(start_paused = true)]
async fn a_mark_on_the_answer_or_on_the_request_is_honoured() {
    let told = Told::default();
    let layer = layer().no_retry_header("x-no-retry").observe(told.observer());
    let mut marked = answer(503);
    marked.extensions_mut().insert(NoRetry);
    let by_field = answer_with(503, &[("x-no-retry", "1")]);

    for answer in [marked, by_field] {
        let (_, log) = play(&layer, vec![Play::Answer(answer)], get()).await;
        assert_eq!(log.attempts(), 1);
        assert_eq!(told.lines(), ["marked after 1"]);
    }
    let mut request = get();
    request.facts_mut().unwrap().no_retry = true;
    let (_, log) = play(&layer, vec![Play::Drop(unsent())], request).await;
    assert_eq!(log.attempts(), 1);
    assert_eq!(told.lines(), ["marked after 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_as_often_as_it_may_be_is_marked_for_the_layers_above() {
    let script = || (0..9).map(|_| Play::Answer(answer(503))).collect::<Vec<_>>();
    let inner = layer().no_retry_header("x-no-retry");

    let (last, _) = play(&inner, script(), get()).await;
    let last = last.unwrap();
    assert!(last.extensions().get::<NoRetry>().is_some());
    assert_eq!(last.headers()["x-no-retry"], "1");

    // Two layers: not 3 × 3 attempts.
    let log = Log::new(script());
    let stack = layer().layer(layer().layer(log.upstream()));
    assert_eq!(stack.oneshot(get()).await.unwrap().status(), 503);
    assert_eq!(log.attempts(), 3);

    // What one attempt alone was made for is not.
    let (last, _) = play(&layer().attempts(1), script(), get()).await;
    assert!(last.unwrap().extensions().get::<NoRetry>().is_none());
    let (last, _) = play(&layer(), script(), post("order")).await;
    assert!(last.unwrap().extensions().get::<NoRetry>().is_none());
}

#[tokio::test(start_paused = true)]
async fn errors_cannot_be_marked_but_the_retries_of_one_layer_are_not_tried_again_by_another() {
    let log = Log::new((0..9).map(|_| Play::Fail("reset".into())));
    let stack = layer().layer(layer().layer(log.upstream()));

    assert!(stack.oneshot(get()).await.is_err());

    // Three of the inner layer for the first of the outer one, and one for each of its two retries.
    assert_eq!(log.attempts(), 5);
}

#[tokio::test(start_paused = true)]
async fn facts_and_the_attempt_header_come_with_the_second_attempt() {
    let layer = layer().attempt_header("x-retry-attempt");
    let script = vec![Play::Answer(from_endpoint(503, 7)), Play::Answer(from_endpoint(503, 9))];

    let (_, log) = play(&layer, script, get()).await;

    let seen = log.seen();
    assert!(seen[0].facts.is_none() && !seen[0].head.headers.contains_key("x-retry-attempt"));
    for (seen, attempt) in seen[1..].iter().zip(2..) {
        let facts = seen.facts.as_ref().unwrap();
        assert_eq!(facts.attempt, attempt);
        assert!(facts.no_retry, "no layer below retries the retries");
        assert_eq!(seen.head.headers["x-retry-attempt"], attempt.to_string());
        assert!(!seen.head.headers.contains_key("grpc-previous-rpc-attempts"));
    }
    let tried = |at: usize| -> Vec<_> {
        seen[at].facts.as_ref().unwrap().tried.iter().map(|endpoint| endpoint.get()).collect()
    };
    assert_eq!((tried(1), tried(2)), (vec![7], vec![7, 9]));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_head_is_there_at_each_attempt() {
    let mut request = get();
    request.headers_mut().append("x-a", "1".parse().unwrap());
    request.headers_mut().append("x-a", "2".parse().unwrap());
    request.extensions_mut().insert("kept");
    *request.version_mut() = http::Version::HTTP_2;

    let (_, log) = play(&layer(), vec![Play::Answer(answer(503)), Play::Answer(answer(503))], request).await;

    for seen in log.seen() {
        assert_eq!(seen.head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(seen.head.extensions.get(), Some(&"kept"));
        assert_eq!(
            (seen.head.uri.to_string().as_str(), seen.head.version),
            ("http://upstream.test/", http::Version::HTTP_2)
        );
    }
}

/// How long a call with 3 attempts waits that is answered so, and how it ends.
async fn waits(layer: RetryLayer, fields: &[(&str, &str)]) -> (Vec<Duration>, Vec<String>) {
    let told = Told::default();
    let layer = layer.observe(told.observer());
    let (_, log) = play(&layer, vec![Play::Answer(answer_with(503, fields))], get()).await;
    (log.waits(), told.lines())
}

fn steady() -> RetryLayer {
    layer().backoff(Backoff::constant(ms(100)).jitter(Jitter::None))
}

#[tokio::test(start_paused = true)]
async fn retry_after_in_seconds_or_as_a_date_is_waited_for() {
    let date = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")];
    let past = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")];

    assert_eq!(waits(steady(), &[("retry-after", "2")]).await.0, [ms(2000)]);
    assert_eq!(waits(steady(), &date).await.0, [ms(3000)]);
    assert_eq!(waits(steady(), &past).await.0, [ms(100)], "the backoff is longer");
    assert_eq!(waits(steady(), &[("retry-after", "0")]).await.0, [ms(100)]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_above_the_cap_ends_the_call_at_once() {
    let (waits_, told) = waits(steady().retry_after_cap(ms(1000)), &[("retry-after", "2")]).await;

    assert!(waits_.is_empty());
    assert_eq!(told, ["retry_after after 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_retry_after_counts_as_absent_and_is_told() {
    for malformed in ["soon", "-1", "1.5", "", "Sun, 06 Nov 1994"] {
        let layer = steady();
        let handle = layer.handle();
        let (waits, told) = waits(layer, &[("retry-after", malformed)]).await;

        assert_eq!(waits, [ms(100)], "{malformed:?}");
        assert_eq!(told, ["malformed retry-after", "attempt 2 in 100ms", "recovered after 2"]);
        assert_eq!(handle.snapshot().malformed, 1);
    }
    let endless = "99999999999999999999999";
    assert_eq!(waits(steady(), &[("retry-after", endless)]).await.1, ["retry_after after 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_facts_ends_the_call_before_a_wait_that_would_pass_it() {
    let told = Told::default();
    let clock = Clock::tokio();
    let layer = steady().clock(clock.clone()).observe(told.observer());
    let mut request = get();
    *request.facts_mut().unwrap() = Facts::new();
    request.facts_mut().unwrap().deadline = Some(clock.now() + ms(150));
    let start = clock.now();

    let (last, log) = play(&layer, (0..3).map(|_| Play::Answer(answer(503))).collect(), request).await;

    assert_eq!((status(&last), log.attempts()), (503, 2));
    assert_eq!(told.lines(), ["attempt 2 in 100ms", "deadline after 2"]);
    assert!(clock.now() - start <= ms(101));
    assert!(last.unwrap().extensions().get::<NoRetry>().is_some());
    assert_eq!(layer.handle().skipped(Skip::Deadline), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_stays_in_the_facts_of_each_attempt() {
    let clock = Clock::tokio();
    let deadline = clock.now() + Duration::from_secs(9);
    let mut request = get();
    request.facts_mut().unwrap().deadline = Some(deadline);

    let (_, log) = play(&layer().clock(clock), vec![Play::Answer(answer(503))], request).await;

    let seen = log.seen();
    assert!(seen.iter().all(|seen| seen.facts.as_ref().unwrap().deadline == Some(deadline)));
    assert_eq!(seen[1].facts.as_ref().unwrap().attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn the_overall_time_is_a_deadline_for_the_layers_below_from_the_second_attempt_on() {
    let clock = Clock::tokio();
    let log = Log::new([Play::Answer(answer(503))]);
    let layer = layer().clock(clock.clone()).overall(ms(650));
    let end = clock.now() + ms(650);

    layer.layer(log.upstream()).oneshot(get()).await.unwrap();

    let seen = log.seen();
    assert!(seen[0].facts.is_none(), "a first attempt carries none");
    assert_eq!(seen[1].facts.as_ref().unwrap().deadline, Some(end));
}

#[tokio::test(start_paused = true)]
async fn per_try_and_overall_times_bound_attempts_and_the_call() {
    let clock = Clock::tokio();
    let log = Log::new([Play::Hang, Play::Hang, Play::Hang]);
    let per_try = steady().clock(clock.clone()).per_try_timeout(ms(300)).layer(log.upstream());
    let start = clock.now();

    let error = per_try.oneshot(get()).await.unwrap_err();

    assert_eq!(error.downcast_ref::<Rejection>().unwrap().kind, RejectionKind::Timeout);
    assert_eq!(log.waits(), [ms(400), ms(400)]);
    assert_eq!(clock.now() - start, ms(1100));

    let log = Log::new([Play::Hang, Play::Hang, Play::Hang]);
    let overall =
        steady().clock(clock.clone()).overall(ms(650)).per_try_timeout(ms(300)).layer(log.upstream());
    let start = clock.now();

    assert!(overall.oneshot(get()).await.is_err());

    assert_eq!(log.attempts(), 2);
    assert_eq!(clock.now() - start, ms(650), "in the second attempt");
}

#[tokio::test(start_paused = true)]
async fn the_overall_time_leaves_the_last_answer_where_no_wait_fits_into_it() {
    let told = Told::default();
    let clock = Clock::tokio();
    let log = Log::new([Play::Answer(answer_with(503, &[("retry-after", "5")]))]);
    let layer = steady().clock(clock.clone()).overall(Duration::from_secs(5)).observe(told.observer());
    let start = clock.now();

    let answer = layer.layer(log.upstream()).oneshot(get()).await.unwrap();

    assert_eq!(answer.status(), 503);
    assert_eq!(clock.now(), start, "at once");
    assert_eq!(told.lines(), ["deadline after 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_leaves_the_answer_as_it_is_and_says_so() {
    let told = Told::default();
    // Ten calls pay for one retry.
    let layer = layer().budget(Budget::ratio(0.1)).observe(told.observer());
    let handle = layer.handle();

    let mut attempts = 0;
    for _ in 0..20 {
        let (last, log) =
            play(&layer, vec![Play::Answer(answer(503)), Play::Answer(answer(503))], get()).await;
        attempts += log.attempts();
        if log.attempts() == 1 {
            assert!(last.unwrap().extensions().get::<NoRetry>().is_some());
        }
    }

    assert_eq!(attempts, 22);
    assert_eq!(handle.snapshot().retries, 2);
    assert_eq!(handle.skipped(Skip::Budget) + handle.snapshot().recovered, 20);
    assert_eq!(handle.snapshot().budget_left, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_above_tries_again_is_no_original_for_the_budget() {
    let layer = layer().budget(Budget::ratio(1.0));
    for attempt in [1, 2, 3] {
        let mut request = get();
        request.facts_mut().unwrap().attempt = attempt;
        play(&layer, vec![], request).await.0.unwrap();
    }

    assert_eq!(layer.handle().snapshot().budget_left, 1);
}

#[tokio::test(start_paused = true)]
async fn the_losing_answer_is_dropped_before_the_wait() {
    use buttress_testkit::ScriptedBody;
    use std::sync::Mutex;

    let body = ScriptedBody::new().data("half").stall();
    let watch = body.handle();
    let answers = std::sync::Arc::new(Mutex::new(vec![body]));
    let upstream = tower::service_fn(move |_: Request<_>| {
        let body = answers.lock().unwrap().pop();
        let status = if body.is_some() { 503 } else { 200 };
        let response = Response::builder().status(status).body(body.unwrap_or_default()).unwrap();
        async { Ok::<_, BoxError>(response) }
    });
    let call = steady().layer(upstream).oneshot(put("x").map(|_| Full::<Bytes>::default()));
    let mut call = Task::new(call);

    assert!(call.run().is_pending(), "it waits");

    assert!(watch.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn time_that_goes_on_for_ever_breaks_nothing() {
    let mut request = get();
    request.facts_mut().unwrap().deadline = Some(Timestamp::MAX);
    let script = vec![Play::Answer(answer(503)), Play::Answer(answer(503))];

    let (last, log) = play(&layer().retry_after_cap(Duration::MAX), script, request).await;

    assert_eq!((status(&last), log.attempts()), (200, 3));
}

/// What a call with a deadline of one second has come to that waits 100 ms and is woken after 50 s, and its attempts.
fn woken_late(answered: bool, overall: bool) -> (Result<(u16, bool), String>, usize, Vec<String>) {
    let (time, told) = (ManualClock::new(), Told::default());
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = calls.clone();
    let upstream = tower::service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(if answered { Ok(answer(503)) } else { Err::<_, BoxError>("reset".into()) })
    });
    let layer = steady().clock(time.clock()).observe(told.observer());
    let mut request = get();
    let end = if overall {
        let mut call = Task::new(layer.overall(ms(1000)).layer(upstream).oneshot(request));
        assert!(call.run().is_pending());
        time.advance(ms(50_000));
        call.run()
    } else {
        request.facts_mut().unwrap().deadline = Some(time.clock().now() + ms(1000));
        let mut call = Task::new(layer.layer(upstream).oneshot(request));
        assert!(call.run().is_pending());
        time.advance(ms(50_000));
        call.run()
    };
    let Poll::Ready(end) = end else { panic!("it is late") };
    let end = end.map(|answer| (answer.status().as_u16(), answer.extensions().get::<NoRetry>().is_some()));
    (end.map_err(|error| error.to_string()), calls.load(std::sync::atomic::Ordering::SeqCst), told.lines())
}

#[test]
fn a_call_that_is_woken_after_its_deadline_ends_with_what_it_has() {
    for overall in [false, true] {
        let told = ["attempt 2 in 100ms", "deadline after 1"].map(str::to_owned).to_vec();
        assert_eq!(woken_late(false, overall), (Err("reset".to_owned()), 1, told.clone()));
        assert_eq!(woken_late(true, overall), (Ok((503, true)), 1, told));
    }
}

#[test]
fn an_instance_that_gets_ready_after_the_deadline_is_not_called() {
    let time = ManualClock::new();
    let (inner, upstream) =
        StrictService::<_, _, BoxError>::new(|_: Request<ReplayBody<Full<Bytes>>>| answer(200));
    upstream.fail("reset".into());
    let mut request = get();
    request.facts_mut().unwrap().deadline = Some(time.clock().now() + ms(1000));
    let layer = steady().clock(time.clock());
    let mut call = Task::new(layer.clone().strict().layer(inner).oneshot(request));

    assert!(call.run().is_pending(), "it waits");
    upstream.not_ready();
    time.advance(ms(100));
    assert!(call.run().is_pending(), "for the instance");
    time.advance(ms(50_000));
    upstream.ready();

    let Poll::Ready(Err(error)) = call.run() else { panic!("it is late") };
    assert_eq!((error.to_string().as_str(), upstream.calls()), ("reset", 1));
    assert_eq!(layer.handle().skipped(Skip::Deadline), 1);
    assert_eq!(layer.handle().snapshot().retries, 0, "there was none");
}

#[test]
fn where_the_answer_had_to_go_for_the_instance_to_get_ready_it_is_called_however_late() {
    let time = ManualClock::new();
    let (inner, upstream) =
        StrictService::<_, _, BoxError>::new(|_: Request<ReplayBody<Full<Bytes>>>| answer(503));
    let mut request = get();
    request.facts_mut().unwrap().deadline = Some(time.clock().now() + ms(1000));
    let layer = steady().clock(time.clock());
    let mut call = Task::new(layer.strict().layer(inner).oneshot(request));

    assert!(call.run().is_pending(), "it waits");
    upstream.not_ready();
    time.advance(ms(100));
    assert!(call.run().is_pending(), "for the instance");
    time.advance(ms(50_000));
    upstream.ready();

    let Poll::Ready(Ok(last)) = call.run() else { panic!("there is nothing else to end with") };
    assert_eq!((last.status().as_u16(), upstream.calls()), (503, 2));
}

#[tokio::test(start_paused = true)]
async fn of_several_retry_after_the_longest_is_waited_for() {
    let (waits, told) =
        waits(steady(), &[("retry-after", "1"), ("retry-after", "3"), ("retry-after", "2")]).await;

    assert_eq!((waits, told.len()), (vec![ms(3000)], 2), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_date_to_retry_after_says_nothing_without_a_date_beside_it_and_is_no_mistake() {
    let (waits, told) = waits(steady(), &[("retry-after", "Sat, 06 Nov 2094 08:49:40 GMT")]).await;

    assert_eq!(waits, [ms(100)]);
    assert_eq!(told, ["attempt 2 in 100ms", "recovered after 2"]);
}

#[tokio::test(start_paused = true)]
async fn each_malformed_field_is_told_and_counted() {
    let layer = steady();
    let handle = layer.handle();

    let (_, told) = waits(layer, &[("grpc-retry-pushback-ms", "x"), ("retry-after", "y")]).await;

    assert_eq!(told, ["malformed grpc-retry-pushback-ms", "malformed retry-after", "marked after 1"]);
    assert_eq!(handle.snapshot().malformed, 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_tells_its_own_reason_and_marks_only_what_had_all_its_attempts() {
    let refused = || Play::Answer(refusal(Rejection::new(RejectionKind::CircuitOpen)));
    let marked = || {
        let mut answer = answer(503);
        answer.extensions_mut().insert(NoRetry);
        Play::Answer(answer)
    };
    for (last, reason, again) in [
        (marked(), "marked after 2", false),
        (refused(), "refused after 2", true),
        (Play::Answer(answer(503)), "attempts after 2", false),
    ] {
        let told = Told::default();
        let layer = layer().attempts(2).observe(told.observer());
        let (end, _) = play(&layer, vec![Play::Answer(answer(503)), last], get()).await;
        assert_eq!(told.lines().last().unwrap(), reason);
        assert_eq!(end.unwrap().extensions().get::<NoRetry>().is_none(), again);
    }
    let told = Told::default();
    let layer = layer().attempts(2).observe(told.observer());
    play(&layer, vec![Play::Drop(unsent()), Play::Fail("reset".into())], post("order")).await.0.unwrap_err();
    assert_eq!(told.lines().last().unwrap(), "not_idempotent after 2");
}

#[test]
fn what_cannot_be_a_status_or_a_field_is_refused_with_its_value() {
    let message = |build: fn()| {
        let payload = std::panic::catch_unwind(build).expect_err("it is refused");
        *payload.downcast::<String>().expect("a message")
    };

    assert_eq!(
        message(|| drop(RetryLayer::default().on_status([503, 99]))),
        "retry with `on_status` = 99: must be statuses of failure, 400 to 999"
    );
    assert_eq!(
        message(|| drop(RetryLayer::default().on_status([StatusCode::OK]))),
        "retry with `on_status` = 200: must be statuses of failure, 400 to 999"
    );
    assert_eq!(
        message(|| drop(RetryLayer::default().attempt_header("an attempt"))),
        "retry with `attempt_header` = \"an attempt\": must be the name of a field"
    );
    assert_eq!(
        message(|| drop(RetryLayer::default().no_retry_header(""))),
        "retry with `no_retry_header` = \"\": must be the name of a field"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_to_be_told_to_go_on_is_sent_again_as_it_was() {
    let upload = || {
        let mut request = put("a body");
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        request
    };

    let (end, log) = play(&layer(), vec![Play::Drop("reset".into())], upload()).await;
    assert_eq!(status(&end), 200);
    for seen in log.seen() {
        assert_eq!(seen.head.headers["expect"], "100-continue");
    }

    // It was told not to go on: nobody asks the server again to take what it does not want.
    let told = Told::default();
    let layer = layer().observe(told.observer());
    let (end, log) = play(&layer, vec![Play::Early(answer(503))], upload()).await;
    assert_eq!((status(&end), log.attempts()), (503, 1));
    assert_eq!(told.lines(), ["body_unfinished after 1"]);
}
