//! What refused clients get to read.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{Reject, Rejection, RejectionKind};
use buttress_http::Problem;
use buttress_http::reject::{self, Form};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};

type Reply = Response<Full<Bytes>>;

fn get() -> Request<()> {
    Request::new(())
}

fn head() -> Request<()> {
    Request::builder().method(Method::HEAD).body(()).unwrap()
}

fn grpc() -> Request<()> {
    let builder = Request::builder().method(Method::POST);
    builder.header("content-type", "application/grpc+proto").body(()).unwrap()
}

fn refuse(request: &Request<()>, rejection: Rejection) -> Reply {
    let respond = reject::respond();
    let form = Form::of(request);
    let Ok::<_, Infallible>(reply) = Reject::<Request<()>, _, _>::reject(&respond, form, rejection);
    reply
}

async fn bytes(reply: Reply) -> Bytes {
    reply.into_body().collect().await.unwrap().to_bytes()
}

async fn json_of(reply: Reply) -> Value {
    serde_json::from_slice(&bytes(reply).await).unwrap()
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

const KINDS: [(RejectionKind, u16, &str); 11] = [
    (RejectionKind::RateLimited, 429, "8"),
    (RejectionKind::CostTooHigh, 413, "8"),
    (RejectionKind::Denied, 403, "7"),
    (RejectionKind::CircuitOpen, 503, "14"),
    (RejectionKind::Overloaded, 503, "14"),
    (RejectionKind::NoEndpoint, 503, "14"),
    (RejectionKind::NoShard, 503, "14"),
    (RejectionKind::NotReady, 503, "14"),
    (RejectionKind::Timeout, 504, "4"),
    (RejectionKind::DeadlineExceeded, 504, "4"),
    (RejectionKind::Collapsed, 502, "14"),
];

#[tokio::test]
async fn each_refusal_has_its_status_and_says_why() {
    for (kind, status, _) in KINDS {
        let reply = refuse(&get(), Rejection::new(kind));

        assert_eq!(reply.status(), status, "{kind}");
        assert_eq!(field(reply.headers(), "content-type"), Some("application/problem+json"));
        assert_eq!(field(reply.headers(), "cache-control"), Some("no-store"));
        assert_eq!(field(reply.headers(), "retry-after"), None, "no wait is known");
        let problem = json_of(reply).await;
        assert_eq!(problem["status"], status);
        assert_eq!(problem["detail"], kind.as_str());
    }
}

#[tokio::test]
async fn a_rate_limit_names_the_violated_policy() {
    let reply = refuse(&get(), Rejection::new(RejectionKind::RateLimited).with_policy("daily"));

    assert_eq!(
        json_of(reply).await,
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "detail": "rate limited",
            "violated-policies": ["daily"],
        })
    );
}

#[tokio::test]
async fn of_several_limits_all_that_refused_are_named_the_binding_one_first() {
    let rejection = Rejection::new(RejectionKind::RateLimited).with_policy("daily").with_also("burst");

    assert_eq!(json_of(refuse(&get(), rejection)).await["violated-policies"], json!(["daily", "burst"]));
    let unnamed = json_of(refuse(&get(), Rejection::new(RejectionKind::RateLimited))).await;
    assert_eq!(unnamed.get("violated-policies"), None);
}

#[tokio::test]
async fn what_is_out_of_order_inside_is_not_named() {
    let reply = refuse(&get(), Rejection::new(RejectionKind::CircuitOpen).with_policy("payments-db-7"));

    assert_eq!(
        json_of(reply).await,
        json!({
            "type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "title": "Request cannot be satisfied due to temporary server capacity constraints",
            "status": 503,
            "detail": "circuit open",
        })
    );
}

#[test]
fn the_wait_is_told_in_whole_seconds_and_never_as_zero() {
    for (wait, told) in [
        (Duration::ZERO, "1"),
        (Duration::from_nanos(1), "1"),
        (Duration::from_secs(1), "1"),
        (Duration::from_millis(1001), "2"),
        (Duration::MAX, "18446744073709551615"),
    ] {
        let reply = refuse(&get(), Rejection::new(RejectionKind::RateLimited).with_retry_after(wait));

        assert_eq!(field(reply.headers(), "retry-after"), Some(told), "{wait:?}");
    }
}

#[test]
fn where_waiting_does_not_help_no_wait_is_told() {
    for kind in [RejectionKind::CostTooHigh, RejectionKind::Denied] {
        let rejection = Rejection::new(kind).with_retry_after(Duration::from_secs(3));

        assert_eq!(field(refuse(&get(), rejection).headers(), "retry-after"), None, "{kind}");
    }
}

#[tokio::test]
async fn head_gets_the_head_of_get_without_its_body() {
    let rejection = Rejection::new(RejectionKind::RateLimited).with_policy("daily");
    let of_get = refuse(&get(), rejection.clone());
    let of_head = refuse(&head(), rejection);

    assert_eq!(of_head.status(), of_get.status());
    let length = field(of_head.headers(), "content-length").unwrap().to_owned();
    assert_eq!(length, bytes(of_get).await.len().to_string());
    assert!(bytes(of_head).await.is_empty());
}

#[tokio::test]
async fn grpc_gets_the_code_in_the_head_and_no_body() {
    for (kind, _, code) in KINDS {
        let reply = refuse(&grpc(), Rejection::new(kind));

        assert_eq!(reply.status(), StatusCode::OK, "{kind}");
        assert_eq!(field(reply.headers(), "content-type"), Some("application/grpc"));
        assert_eq!(field(reply.headers(), "grpc-status"), Some(code), "{kind}");
        assert_eq!(field(reply.headers(), "grpc-message"), Some(kind.as_str()));
        assert!(bytes(reply).await.is_empty());
    }
}

#[test]
fn grpc_clients_are_told_when_to_try_again_in_milliseconds_or_not_to() {
    let pushback = |rejection: Rejection| {
        field(refuse(&grpc(), rejection).headers(), "grpc-retry-pushback-ms").map(str::to_owned)
    };
    let limited = Rejection::new(RejectionKind::RateLimited);

    assert_eq!(pushback(limited.clone()), None);
    assert_eq!(pushback(limited.clone().with_retry_after(Duration::from_micros(1500))).unwrap(), "2");
    assert_eq!(pushback(limited.with_retry_after(Duration::MAX)).unwrap(), "2147483647");
    assert_eq!(pushback(Rejection::new(RejectionKind::CostTooHigh)).unwrap(), "-1");
}

#[test]
fn a_grpc_message_is_percent_encoded() {
    let problem = Problem::new(StatusCode::NOT_FOUND).with_detail("100 % für\nalle");

    let reply = problem.reply::<Full<Bytes>>(Form::of(&grpc()));

    assert_eq!(field(reply.headers(), "grpc-message"), Some("100 %25 f%C3%BCr%0Aalle"));
    assert_eq!(field(reply.headers(), "grpc-status"), Some("12"));
}

#[test]
fn grpc_web_is_not_grpc() {
    let request = Request::builder().header("content-type", "application/grpc-web+proto").body(()).unwrap();

    assert_eq!(refuse(&request, Rejection::new(RejectionKind::RateLimited)).status(), 429);
}

#[test]
fn the_rejection_travels_with_the_response() {
    let rejection = Rejection::new(RejectionKind::RateLimited).with_policy("daily");

    for request in [get(), head(), grpc()] {
        assert_eq!(refuse(&request, rejection.clone()).extensions().get(), Some(&rejection));
    }
}

#[test]
#[should_panic(expected = "`status` is a member that RFC 9457 defines")]
fn a_problem_has_each_member_once() {
    let _ = Problem::new(StatusCode::BAD_REQUEST).with_member("status", 200);
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<Duration>(),
        (0..10_000_000_000_u64).prop_map(Duration::from_nanos),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ]
}

proptest! {
    #[test]
    fn the_told_wait_is_never_shorter_than_the_true_one(wait in any_duration()) {
        let rejection = Rejection::new(RejectionKind::RateLimited).with_retry_after(wait);

        let reply = refuse(&get(), rejection);

        let told: u64 = field(reply.headers(), "retry-after").unwrap().parse().unwrap();
        prop_assert!(told >= 1);
        // The greatest number of seconds cannot be rounded up any further.
        prop_assert!(Duration::from_secs(told) >= wait || told == u64::MAX);
        prop_assert!(told == 1 || Duration::from_secs(told - 1) < wait);
    }

    #[test]
    fn any_text_is_a_problem_and_a_grpc_message(detail in any::<String>()) {
        let problem = Problem::new(StatusCode::CONFLICT).with_detail(detail.clone());

        let reply = problem.reply::<Full<Bytes>>(Form::of(&grpc()));
        let message = field(reply.headers(), "grpc-message").unwrap();
        let decoded = percent_encoding::percent_decode_str(message).collect::<Vec<_>>();
        prop_assert_eq!(decoded, detail.into_bytes());
    }
}
