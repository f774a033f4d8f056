//! What refused gRPC clients are told beyond the code, read by tonic's own types.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{Reject, Rejection, RejectionKind};
use buttress_http::reject::{self, Form};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use proptest::prelude::*;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn refuse(rejection: Rejection) -> HeaderMap {
    let request = Request::builder().header("content-type", "application/grpc").body(()).unwrap();
    let form = Form::of(&request);
    let Ok::<Response<Full<Bytes>>, Infallible>(reply) =
        Reject::<Request<()>, _, _>::reject(&reject::respond(), form, rejection);
    reply.headers().clone()
}

/// What a client of tonic reads.
fn read(headers: &HeaderMap) -> (Status, ErrorDetails) {
    let status = Status::from_header_map(headers).unwrap();
    let details = status.check_error_details().unwrap();
    (status, details)
}

fn violated(details: &ErrorDetails) -> Vec<(&str, &str)> {
    let violations = details.quota_failure().map(|failure| &failure.violations[..]).unwrap_or_default();
    violations.iter().map(|violation| (&*violation.subject, &*violation.description)).collect()
}

fn limited() -> Rejection {
    Rejection::new(RejectionKind::RateLimited)
}

#[test]
fn a_rate_limited_client_reads_when_to_retry_and_which_limits_refused() {
    let rejection =
        limited().with_policy("daily").with_also("burst").with_retry_after(Duration::from_millis(90_500));

    let (status, details) = read(&refuse(rejection));

    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "rate limited");
    let delay = details.retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_millis(90_500)));
    assert_eq!(violated(&details), [("", "daily"), ("", "burst")]);
}

#[test]
fn the_details_repeat_the_code_and_the_message() {
    use tonic_types::pb;

    let (status, _) = read(&refuse(limited().with_policy("daily")));

    let inside: pb::Status = prost::Message::decode(status.details()).unwrap();
    assert_eq!((inside.code, &*inside.message), (status.code() as i32, status.message()));
}

#[test]
fn a_cost_above_the_limit_names_the_limit_and_no_delay() {
    let rejection = Rejection::new(RejectionKind::CostTooHigh)
        .with_policy("daily")
        .with_retry_after(Duration::from_secs(1));

    let (status, details) = read(&refuse(rejection));

    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(details.retry_info().is_none());
    assert_eq!(violated(&details), [("", "daily")]);
}

#[test]
fn what_is_out_of_order_inside_is_not_named() {
    let rejection = Rejection::new(RejectionKind::CircuitOpen)
        .with_policy("payments-db-7")
        .with_retry_after(Duration::from_secs(2));

    let (status, details) = read(&refuse(rejection));

    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
    assert!(details.quota_failure().is_none());
}

#[test]
fn where_there_is_nothing_to_tell_there_are_no_details() {
    for rejection in [
        limited(),
        Rejection::new(RejectionKind::Denied).with_policy("staff").with_retry_after(Duration::from_secs(1)),
        Rejection::new(RejectionKind::Timeout).with_policy("head"),
    ] {
        assert!(!refuse(rejection).contains_key("grpc-status-details-bin"));
    }
}

#[test]
fn the_details_are_base64_without_padding() {
    for name in ["a", "ab", "abc", "abcd"] {
        let headers = refuse(limited().with_policy(name));

        assert!(!headers["grpc-status-details-bin"].as_bytes().contains(&b'='));
        assert_eq!(violated(&read(&headers).1), [("", name)]);
    }
}

#[test]
fn the_longest_wait_is_the_longest_that_the_format_has() {
    let (_, details) = read(&refuse(limited().with_retry_after(Duration::MAX)));

    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(delay >= Duration::from_secs(315_000_000_000), "{delay:?}");
}

proptest! {
    #[test]
    fn any_names_and_any_wait_arrive(
        names in prop::collection::vec(any::<String>(), 1..5),
        seconds in 0..315_576_000_000_u64,
        nanos in 0..1_000_000_000_u32,
    ) {
        let wait = Duration::new(seconds, nanos);
        let mut rejection = limited().with_policy(names[0].clone()).with_retry_after(wait);
        for name in &names[1..] {
            rejection = rejection.with_also(name.clone());
        }

        let (_, details) = read(&refuse(rejection));

        prop_assert_eq!(details.retry_info().unwrap().retry_delay, Some(wait));
        let told: Vec<_> = violated(&details).into_iter().map(|(_, name)| name.to_owned()).collect();
        prop_assert_eq!(told, names);
    }
}
