//! Which answers count against a service.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{
    BoxError, Cause, Classify, End, NothingSent, Outcome, Reject, Rejection, RejectionKind, Verdict,
};
use buttress_http::{classify, reject};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;

fn response(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn ok(classifier: impl Classify<Response<()>, Infallible> + Copy, response: &Response<()>) -> Verdict {
    classifier.classify(Ok(response))
}

fn err(classifier: impl Classify<Response<()>, BoxError> + Copy, error: impl Into<BoxError>) -> Verdict {
    classifier.classify(Err(&error.into()))
}

fn at_end(end: End<'_>) -> Outcome {
    Classify::<Response<()>, Infallible>::at_end(&classify::grpc(), &end)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_status_tells_who_is_at_fault() {
    for (status, outcome) in [
        (200, Outcome::success()),
        (204, Outcome::success()),
        (304, Outcome::success()),
        (400, Outcome::success()),
        (404, Outcome::success()),
        (408, Outcome::success()),
        (429, Outcome::soft()),
        (500, Outcome::failure()),
        (501, Outcome::failure()),
        (503, Outcome::failure()),
        (599, Outcome::failure()),
    ] {
        let response = response(status, &[]);
        assert_eq!(ok(classify::status(), &response), Verdict::Now(outcome.clone()), "{status}");
        assert_eq!(ok(classify::grpc(), &response), Verdict::Now(outcome), "{status}");
    }
}

#[test]
fn the_wait_that_a_service_asks_for_is_part_of_the_outcome() {
    for (status, fields, outcome) in [
        (429, &[("retry-after", "3")][..], Outcome::soft().with_retry_after(secs(3))),
        (503, &[("retry-after", "0")], Outcome::failure().with_retry_after(secs(0))),
        (
            503,
            &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), ("date", "Fri, 31 Dec 1999 23:58:59 GMT")],
            Outcome::failure().with_retry_after(secs(60)),
        ),
        (503, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], Outcome::failure()),
        (503, &[("retry-after", "soon")], Outcome::failure()),
    ] {
        assert_eq!(ok(classify::status(), &response(status, fields)), Verdict::Now(outcome), "{fields:?}");
    }
}

#[test]
fn a_success_may_wait_for_the_end_of_the_body() {
    let by_body = classify::status().at_end();

    assert_eq!(ok(by_body, &response(200, &[])), Verdict::AtEnd);
    assert_eq!(ok(by_body, &response(500, &[])), Verdict::Now(Outcome::failure()));
    for (end, outcome) in [
        (End::Head, Outcome::success()),
        (End::Complete { trailers: None }, Outcome::success()),
        (End::Aborted, Outcome::ignored()),
        (End::Failed, Outcome::failure()),
    ] {
        assert_eq!(Classify::<Response<()>, Infallible>::at_end(&by_body, &end), outcome);
    }
}

#[test]
fn a_refusal_of_ours_is_no_failure_of_the_service() {
    let rejection = Rejection::new(RejectionKind::CircuitOpen).with_retry_after(secs(2));
    let mut answered = response(503, &[]);
    answered.extensions_mut().insert(rejection.clone());

    let rejected = Verdict::Now(Outcome::rejected(rejection.clone()));
    assert_eq!(ok(classify::status(), &answered), rejected);
    assert_eq!(ok(classify::grpc(), &answered), rejected);
    assert_eq!(err(classify::status(), rejection.clone()), rejected);
    assert_eq!(err(classify::grpc(), rejection), rejected);
}

#[test]
fn a_timeout_of_ours_is_a_failure_of_the_service() {
    let timeout = Rejection::new(RejectionKind::Timeout);
    let mut answered = response(504, &[]);
    answered.extensions_mut().insert(timeout.clone());

    assert_eq!(ok(classify::status(), &answered), Verdict::Now(Outcome::failure()));
    assert_eq!(err(classify::status(), timeout), Verdict::Now(Outcome::failure()));
}

#[test]
fn an_error_is_a_failure_and_unprocessed_where_nothing_was_sent() {
    let failure = Outcome::failure();

    assert_eq!(err(classify::status(), "reset"), Verdict::Now(failure.clone()));
    let nothing_sent: BoxError = Box::new(NothingSent::new("no route"));
    assert!(nothing_sent.nothing_sent());
    assert_eq!(err(classify::grpc(), nothing_sent), Verdict::Now(failure.with_unprocessed()));
}

/// Each code of gRPC, and what it says of the service.
fn codes() -> Vec<(&'static str, Outcome)> {
    let codes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    let judged = codes.map(|code| match code {
        "2" | "4" | "13" | "14" | "15" => (code, Outcome::failure()),
        "8" => (code, Outcome::soft()),
        _ => (code, Outcome::success()),
    });
    let strange = ["17", "200", "-1", "", "x"].map(|code| (code, Outcome::failure()));
    [&judged[..], &strange].concat()
}

#[test]
fn grpc_is_judged_by_the_code_in_the_head_or_in_the_trailers() {
    for (code, outcome) in codes() {
        let head = response(200, &[GRPC, ("grpc-status", code)]);
        assert_eq!(ok(classify::grpc(), &head), Verdict::Now(outcome.clone()), "{code}");

        assert_eq!(ok(classify::grpc(), &response(200, &[GRPC])), Verdict::AtEnd);
        let trailers = headers(&[("grpc-status", code)]);
        assert_eq!(at_end(End::Complete { trailers: Some(&trailers) }), outcome, "{code}");
    }
}

#[test]
fn a_grpc_reply_that_breaks_off_or_has_no_code_is_a_failure() {
    let without = headers(&[("x-other", "1")]);

    assert_eq!(at_end(End::Complete { trailers: Some(&without) }), Outcome::failure());
    assert_eq!(at_end(End::Failed), Outcome::failure());
    assert_eq!(at_end(End::Aborted), Outcome::ignored());
    assert_eq!(at_end(End::Complete { trailers: None }), Outcome::failure());
}

#[test]
fn a_grpc_reply_that_no_one_follows_is_a_success() {
    assert_eq!(at_end(End::Head), Outcome::success());
}

#[test]
fn grpc_pushback_is_the_wait() {
    for (pushback, wait) in [("0", 0), ("1500", 1500), ("2147483647", 2_147_483_647)] {
        for (code, outcome) in codes() {
            let fields = headers(&[("grpc-status", code), ("grpc-retry-pushback-ms", pushback)]);
            let told = at_end(End::Complete { trailers: Some(&fields) });

            let wait = Duration::from_millis(wait);
            let expected = if code == "0" { outcome } else { outcome.with_retry_after(wait) };
            assert_eq!(told, expected, "{code} {pushback}");
        }
    }
}

#[test]
fn a_grpc_pushback_that_is_negative_or_malformed_asks_not_to_retry() {
    let strange = ["-1", "-2147483648", "2147483648", "99999999999999999999", "1.5", "1s", "soon", ""];
    for pushback in strange {
        for (code, outcome) in codes() {
            let fields = [GRPC, ("grpc-status", code), ("grpc-retry-pushback-ms", pushback)];

            let expected = if code == "0" { outcome } else { outcome.with_no_retry() };
            let head = response(200, &fields);
            assert_eq!(ok(classify::grpc(), &head), Verdict::Now(expected.clone()), "{code} {pushback}");
            let trailers = headers(&fields);
            assert_eq!(at_end(End::Complete { trailers: Some(&trailers) }), expected, "{code} {pushback}");
        }
    }
}

#[test]
fn what_our_refusals_tell_grpc_clients_is_what_our_clients_read() {
    for (rejection, outcome) in [
        (
            Rejection::new(RejectionKind::RateLimited).with_retry_after(Duration::from_millis(1500)),
            Outcome::soft().with_retry_after(Duration::from_millis(1500)),
        ),
        (Rejection::new(RejectionKind::RateLimited), Outcome::soft()),
        (Rejection::new(RejectionKind::CostTooHigh), Outcome::soft().with_no_retry()),
        (
            Rejection::new(RejectionKind::CircuitOpen).with_retry_after(secs(2)),
            Outcome::failure().with_retry_after(secs(2)),
        ),
    ] {
        let request = http::Request::builder().header(GRPC.0, GRPC.1).body(()).unwrap();
        let form = reject::Form::of(&request);
        let Ok::<Response<Full<Bytes>>, Infallible>(mut reply) =
            Reject::<http::Request<()>, _, _>::reject(&reject::respond(), form, rejection);
        // It does not travel over the wire.
        reply.extensions_mut().clear();

        let verdict = classify::grpc().classify(Ok::<_, &Infallible>(&reply));
        assert_eq!(verdict, Verdict::Now(outcome));
    }
}

#[test]
fn what_is_not_grpc_is_judged_by_its_status_at_once() {
    assert_eq!(ok(classify::grpc(), &response(200, &[])), Verdict::Now(Outcome::success()));
    assert_eq!(ok(classify::grpc(), &response(502, &[GRPC])), Verdict::Now(Outcome::failure()));
}

#[test]
fn who_judges_http_knows_what_streams() {
    let streams = |response: &Response<()>| {
        let by_status = Classify::<_, Infallible>::streams(&classify::status(), response);
        let by_grpc = Classify::<_, Infallible>::streams(&classify::grpc(), response);
        assert_eq!(by_status, by_grpc);
        by_status
    };

    assert!(!streams(&response(200, &[])));
    assert!(streams(&response(200, &[("content-type", "text/event-stream")])));
    assert!(streams(&response(200, &[GRPC])));
    assert!(!streams(&response(200, &[GRPC, ("grpc-status", "0")])));
    assert!(streams(&response(101, &[])));
}

#[test]
fn a_response_that_is_marked_says_not_to_try_again() {
    let mut marked = response(503, &[("retry-after", "3")]);
    marked.extensions_mut().insert(buttress_http::field::NoRetry);

    let Verdict::Now(outcome) = ok(classify::status(), &marked) else { panic!("a status is judged at once") };

    assert_eq!(outcome, Outcome::failure().with_retry_after(Duration::from_secs(3)).with_no_retry());
}
