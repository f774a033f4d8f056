//! Retries of gRPC: codes in the head, and pushback as gRFC A6 has it.
#![cfg(feature = "http")]

mod support;

use std::time::Duration;

use buttress_http::field::NoRetry;
use buttress_retry::{Backoff, Budget, Jitter, RetryLayer, RetrySafe};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use support::{Log, Play, Told, answer_with, layer, post, unsent};
use tower::{Layer, ServiceExt};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A call that its service says may be made twice.
fn call() -> Request<Full<Bytes>> {
    let mut call = post("a message");
    call.headers_mut().insert(GRPC.0, GRPC.1.parse().unwrap());
    call.extensions_mut().insert(RetrySafe);
    call
}

/// A reply that is nothing but its head.
fn failed(code: &str, pushback: Option<&str>) -> Response<Full<Bytes>> {
    let mut fields = vec![GRPC, ("grpc-status", code)];
    fields.extend(pushback.map(|pushback| ("grpc-retry-pushback-ms", pushback)));
    answer_with(200, &fields)
}

fn doubling() -> RetryLayer {
    layer().attempts(4).backoff(Backoff::exponential(ms(100), ms(10_000)).jitter(Jitter::None))
}

async fn waits(layer: &RetryLayer, answers: Vec<Response<Full<Bytes>>>) -> Vec<Duration> {
    let log = Log::new(answers.into_iter().map(Play::Answer));
    layer.layer(log.upstream()).oneshot(call()).await.unwrap();
    log.waits()
}

#[tokio::test(start_paused = true)]
async fn unavailable_and_exhausted_are_tried_again_and_other_codes_are_answers() {
    for (code, waits_) in
        [("14", 1), ("8", 1), ("0", 0), ("1", 0), ("2", 0), ("4", 0), ("10", 0), ("13", 0), ("x", 0)]
    {
        assert_eq!(waits(&layer(), vec![failed(code, None)]).await.len(), waits_, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_codes_are_a_choice() {
    let layer = layer().on_grpc([10]);

    assert_eq!(waits(&layer, vec![failed("10", None)]).await.len(), 1);
    assert_eq!(waits(&layer, vec![failed("14", None)]).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_says_may_be_made_twice_is_made_once_but_for_proof() {
    let mut unsafe_ = call();
    unsafe_.extensions_mut().remove::<RetrySafe>();
    let answered = Log::new([Play::Answer(failed("14", None))]);
    let never_sent = Log::new([Play::Drop(unsent())]);

    layer().layer(answered.upstream()).oneshot(unsafe_.clone()).await.unwrap();
    layer().layer(never_sent.upstream()).oneshot(unsafe_).await.unwrap();

    assert_eq!((answered.attempts(), never_sent.attempts()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_reply_with_messages_is_on_its_way_and_stays() {
    let streams = answer_with(200, &[GRPC]);

    assert!(waits(&layer(), vec![streams]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pushback_is_kept_exactly_and_then_the_backoff_begins_anew() {
    let answers = vec![failed("14", None), failed("14", Some("30")), failed("14", None)];

    assert_eq!(waits(&doubling(), answers).await, [ms(100), ms(30), ms(100)]);
}

#[tokio::test(start_paused = true)]
async fn without_a_pushback_the_backoff_goes_on() {
    let answers = vec![failed("14", None), failed("14", None), failed("14", None)];

    assert_eq!(waits(&doubling(), answers).await, [ms(100), ms(200), ms(400)]);
}

#[tokio::test(start_paused = true)]
async fn jitter_leaves_a_pushback_alone() {
    let layer = doubling().backoff(Backoff::default());

    assert_eq!(waits(&layer, vec![failed("14", Some("2500"))]).await, [ms(2500)]);
    assert_eq!(waits(&layer, vec![failed("14", Some("0"))]).await, [ms(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_negative_pushback_stops_and_so_does_one_that_is_not_understood() {
    let told = Told::default();
    let layer = doubling().observe(told.observer());

    assert!(waits(&layer, vec![failed("14", Some("-1"))]).await.is_empty());
    assert_eq!(told.lines(), ["marked after 1"]);

    for malformed in ["", "soon", "1.5", "99999999999999"] {
        assert!(waits(&layer, vec![failed("14", Some(malformed))]).await.is_empty());
        assert_eq!(told.lines(), ["malformed grpc-retry-pushback-ms", "marked after 1"], "{malformed:?}");
    }
    assert_eq!(layer.handle().snapshot().malformed, 4);
}

#[tokio::test(start_paused = true)]
async fn several_pushbacks_are_not_understood_whichever_comes_first() {
    let told = Told::default();
    let layer = doubling().observe(told.observer());
    for (first, second) in [("5", "-1"), ("-1", "5"), ("5", "5")] {
        let mut answer = failed("14", Some(first));
        answer.headers_mut().append("grpc-retry-pushback-ms", second.parse().unwrap());

        assert!(waits(&layer, vec![answer]).await.is_empty());
        assert_eq!(told.lines(), ["malformed grpc-retry-pushback-ms", "marked after 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pushback_above_the_cap_ends_the_call_with_the_answer_that_is_there() {
    let told = Told::default();
    let layer = doubling().retry_after_cap(ms(1000)).observe(told.observer());

    assert!(waits(&layer, vec![failed("14", Some("1001"))]).await.is_empty());
    assert_eq!(told.lines(), ["retry_after after 1"]);
}

#[tokio::test(start_paused = true)]
async fn further_attempts_say_how_many_there_were() {
    let log = Log::new([Play::Answer(failed("14", None)), Play::Answer(failed("14", None))]);

    layer().layer(log.upstream()).oneshot(call()).await.unwrap();

    let attempts: Vec<_> = log
        .seen()
        .iter()
        .map(|seen| {
            seen.head
                .headers
                .get("grpc-previous-rpc-attempts")
                .map(|value| value.to_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(attempts, [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_pushback_takes_from_the_budget_like_any_retry() {
    let told = Told::default();
    let layer = doubling().budget(Budget::ratio(0.1)).observe(told.observer());

    assert!(waits(&layer, vec![failed("14", Some("0"))]).await.is_empty());
    assert_eq!(told.lines(), ["budget after 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_tried_as_often_as_it_may_be_is_marked() {
    let log = Log::new((0..9).map(|_| Play::Answer(failed("14", None))));

    let answer = layer().layer(log.upstream()).oneshot(call()).await.unwrap();

    assert!(answer.extensions().get::<NoRetry>().is_some());
    assert_eq!(answer.headers()["grpc-status"], "14");
}
