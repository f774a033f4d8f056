//! What refused clients get to read.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{Quota, Reject, Rejection, RejectionKind};
use buttress_http::Problem;
use buttress_http::reject::{self, Fields, Form, Respond};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};

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

fn annotated(respond: Respond, quotas: &[Quota]) -> Reply {
    let mut response = Reply::default();
    Reject::<Request<()>, _, Infallible>::annotate(&respond, Form::of(&get()), &mut response, quotas);
    response
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

const KINDS: [(RejectionKind, u16, &str); 10] = [
    (RejectionKind::RateLimited, 429, "8"),
    (RejectionKind::CostTooHigh, 413, "8"),
    (RejectionKind::Denied, 403, "7"),
    (RejectionKind::CircuitOpen, 503, "14"),
    (RejectionKind::Overloaded, 503, "14"),
    (RejectionKind::NoEndpoint, 503, "14"),
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
fn quotas_are_told_as_the_draft_says() {
    let quotas = [
        Quota::new("burst", 100, 50, Duration::from_millis(29_001), Duration::from_secs(60)),
        Quota::new("daily", 1000, 0, Duration::from_secs(3600), Duration::from_secs(86400)),
    ];

    let response = annotated(reject::respond(), &quotas);

    assert_eq!(field(response.headers(), "ratelimit"), Some(r#""burst";r=50;t=30, "daily";r=0;t=3600"#));
    let policy = field(response.headers(), "ratelimit-policy");
    assert_eq!(policy, Some(r#""burst";q=100;w=60, "daily";q=1000;w=86400"#));
}

#[test]
fn a_layer_adds_its_quotas_to_those_that_are_there() {
    let quota = |name| Quota::new(name, 1, 1, Duration::ZERO, Duration::from_secs(1));
    let mut response = annotated(reject::respond(), &[quota("inner")]);

    let respond = reject::respond();
    Reject::<Request<()>, _, Infallible>::annotate(
        &respond,
        Form::of(&get()),
        &mut response,
        &[quota("outer")],
    );

    let lines: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    assert_eq!(lines, [r#""inner";r=1;t=0"#, r#""outer";r=1;t=0"#]);
}

#[test]
fn both_fields_cost_two_allocations_where_the_map_has_room() {
    let quotas = [Quota::new("burst", 100, 50, Duration::from_secs(29), Duration::from_secs(60))];
    let respond = reject::respond();
    let mut response = Reply::default();
    response.headers_mut().reserve(8);

    let allocations = buttress_testkit::allocations(|| {
        Reject::<Request<()>, _, Infallible>::annotate(&respond, Form::of(&get()), &mut response, &quotas);
    });

    assert_eq!(response.headers().len(), 2);
    assert!(allocations <= 2, "{allocations}");
}

#[test]
fn without_fields_or_quotas_nothing_is_added() {
    let quota = Quota::new("burst", 1, 1, Duration::ZERO, Duration::from_secs(1));

    assert!(annotated(reject::respond().fields(Fields::None), &[quota]).headers().is_empty());
    assert!(annotated(reject::respond(), &[]).headers().is_empty());
}

#[test]
#[should_panic(expected = "`status` is a member that RFC 9457 defines")]
fn a_problem_has_each_member_once() {
    let _ = Problem::new(StatusCode::BAD_REQUEST).with_member("status", 200);
}

fn items(response: &Reply, name: &str) -> Vec<(String, Vec<(String, i64)>)> {
    let list: List = Parser::new(field(response.headers(), name).unwrap()).parse().unwrap();
    list.into_iter()
        .map(|entry| {
            let ListEntry::Item(item) = entry else { panic!("inner list") };
            let BareItem::String(name) = item.bare_item else { panic!("not a string") };
            let number = |value: BareItem| i64::from(value.as_integer().unwrap());
            let params = item.params.into_iter().map(|(key, value)| (key.into(), number(value))).collect();
            (name.into(), params)
        })
        .collect()
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
    fn every_field_is_a_structured_field_that_says_what_the_quota_says(
        name in any::<String>(),
        limit in any::<u64>(),
        remaining in any::<u64>(),
        reset in any_duration(),
        window in any_duration(),
    ) {
        const MOST: u64 = 999_999_999_999_999;
        let seconds = |duration: Duration| {
            u64::try_from(duration.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).min(MOST) as i64
        };
        let response = annotated(
            reject::respond(),
            &[Quota::new(name.clone(), limit, remaining, reset, window)],
        );

        let told: String = name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        let params = |r, t| vec![r, t];
        prop_assert_eq!(
            items(&response, "ratelimit"),
            vec![(
                told.clone(),
                params(("r".to_owned(), remaining.min(MOST) as i64), ("t".to_owned(), seconds(reset))),
            )]
        );
        prop_assert_eq!(
            items(&response, "ratelimit-policy"),
            vec![(
                told,
                params(("q".to_owned(), limit.min(MOST) as i64), ("w".to_owned(), seconds(window).max(1))),
            )]
        );
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
