//! Retries and circuit breakers, as clients and upstreams see them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use axum::{Router, body::Bytes, response::IntoResponse, routing::any};
use http::{StatusCode, header::RETRY_AFTER};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::support::{Gateway, head_of, raw_upstream, until, upstream};

/// Counts its calls, and fails while it is told to.
#[derive(Clone, Default)]
struct Flaky {
    calls: Arc<AtomicUsize>,
    /// How many of the next calls fail.
    failures: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
}

impl Flaky {
    fn failing(failures: usize) -> Self {
        let flaky = Self::default();
        flaky.failures.store(failures, Relaxed);
        flaky
    }

    fn down() -> Self {
        let flaky = Self::default();
        flaky.down.store(true, Relaxed);
        flaky
    }

    /// Answers with the body that it got.
    fn answer(&self, body: Bytes) -> axum::response::Response {
        self.calls.fetch_add(1, Relaxed);
        let fails = self.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails || self.down.load(Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, "not now").into_response();
        }
        body.into_response()
    }

    async fn serve(&self) -> std::net::SocketAddr {
        let flaky = self.clone();
        let serve = any(move |body: Bytes| std::future::ready(flaky.answer(body)));
        upstream(Router::new().fallback(serve)).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }
}

async fn send(gateway: &Gateway, method: Method, key: Option<&str>, body: Vec<u8>) -> Response {
    let request = Client::new().request(method, gateway.url("/")).body(body);
    let request = key.iter().fold(request, |request, key| request.header("idempotency-key", *key));
    request.send().await.unwrap()
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    reqwest::get(gateway.url(path)).await.unwrap().status().as_u16()
}

/// One upstream "it" with a circuit breaker, one route to it.
async fn guarded(name: &str, upstream: std::net::SocketAddr, breaker: &str, route: &str) -> Gateway {
    let config = format!(
        "upstream = [{{ name = 'it', url = 'http://{upstream}', circuit_breaker = {{ {breaker} }} }}]
         route = [{{ path = '/', upstream = 'it', {route} }}, {{ path = '/other', upstream = 'it' }}]"
    );
    Gateway::with(name, &config).await
}

#[tokio::test]
async fn a_failed_call_is_tried_again_where_that_can_do_no_harm() {
    for (name, method, key, expected, calls) in [
        ("get", Method::GET, None, 200, 2),
        ("put", Method::PUT, None, 200, 2),
        ("post", Method::POST, None, 503, 1),
        ("post-with-key", Method::POST, Some("order-7"), 200, 2),
    ] {
        let flaky = Flaky::failing(1);
        let retry = "retry = { backoff = '1ms' }";
        let gateway = Gateway::in_front_of(&format!("retry-{name}"), flaky.serve().await, retry).await;
        let sent = if method == Method::GET { Vec::new() } else { vec![7; 40_000] };

        let answer = send(&gateway, method, key, sent.clone()).await;

        assert_eq!((answer.status().as_u16(), flaky.calls()), (expected, calls), "{name}");
        if expected == 200 {
            assert!(answer.bytes().await.unwrap() == sent, "{name}: the body was not sent again as it was");
        }
    }
}

#[tokio::test]
async fn a_body_beyond_what_is_kept_goes_out_once_and_whole() {
    for (failures, expected) in [(0, 200), (1, 503)] {
        let flaky = Flaky::failing(failures);
        let gateway = Gateway::in_front_of("retry-large", flaky.serve().await, "retry = {}").await;
        let sent = vec![7; 1_000_000];

        let answer = send(&gateway, Method::PUT, None, sent.clone()).await;

        assert_eq!((answer.status().as_u16(), flaky.calls()), (expected, 1));
        if expected == 200 {
            assert!(answer.bytes().await.unwrap() == sent);
        }
    }
}

#[tokio::test]
async fn a_route_without_retries_does_not_retry() {
    let flaky = Flaky::failing(1);
    let gateway = Gateway::in_front_of("no-retry", flaky.serve().await, "").await;

    assert_eq!((status(&gateway, "/").await, flaky.calls()), (503, 1));
}

#[tokio::test]
async fn only_the_statuses_that_the_route_names_are_tried_again() {
    let flaky = Flaky::failing(1);
    let retry = "retry = { statuses = [500, 502] }";
    let gateway = Gateway::in_front_of("statuses", flaky.serve().await, retry).await;

    assert_eq!((status(&gateway, "/").await, flaky.calls()), (503, 1));
}

#[tokio::test]
async fn attempts_are_told_to_the_upstream_and_their_end_to_the_client() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = told.clone();
    let serve = any(move |request: http::Request<axum::body::Body>| {
        let attempt =
            request.headers().get("x-retry-attempt").map(|value| value.to_str().unwrap().to_owned());
        seen.lock().unwrap().push(attempt);
        let stops = request.uri().path() == "/stops";
        let mark = [(if stops { "x-no-retry" } else { "x-other" }, "1")];
        std::future::ready((StatusCode::SERVICE_UNAVAILABLE, mark).into_response())
    });
    let upstream = upstream(Router::new().fallback(serve)).await;
    let retry =
        "retry = { backoff = '1ms', attempt_header = 'x-retry-attempt', no_retry_header = 'x-no-retry' }";
    let gateway = Gateway::in_front_of("told", upstream, retry).await;

    let last = reqwest::get(gateway.url("/")).await.unwrap();
    assert_eq!(last.headers()["x-no-retry"], "1", "three attempts are all that there are");
    assert_eq!(*told.lock().unwrap(), [None, Some("2".to_owned()), Some("3".to_owned())]);

    told.lock().unwrap().clear();
    assert_eq!(status(&gateway, "/stops").await, 503);
    assert_eq!(told.lock().unwrap().len(), 1, "the upstream said not to");
}

#[tokio::test]
async fn an_upstream_that_is_down_gets_a_share_of_retries_and_no_more() {
    let flaky = Flaky::down();
    // The least is 10 within the window of 10 s.
    let retry = "retry = { attempts = 5, backoff = '1ms', budget = 0.1, min_per_second = 1 }";
    let gateway = Gateway::in_front_of("budget", flaky.serve().await, retry).await;

    for _ in 0..100 {
        assert_eq!(status(&gateway, "/").await, 503);
    }

    let calls = flaky.calls();
    assert!((101..=120).contains(&calls), "{calls} calls for 100 requests");
}

#[tokio::test]
async fn an_open_breaker_answers_for_the_upstream_until_that_is_well_again() {
    let flaky = Flaky::down();
    let breaker = "consecutive_failures = 3, open = '1s', longest_open = '1s', probes = 1";
    let gateway = guarded("breaker", flaky.serve().await, breaker, "").await;
    for _ in 0..3 {
        assert_eq!(status(&gateway, "/").await, 503);
    }

    // Any route to the upstream.
    let refused = reqwest::get(gateway.url("/other")).await.unwrap();

    assert_eq!(flaky.calls(), 3);
    assert_eq!((refused.status().as_u16(), &refused.headers()[RETRY_AFTER]), (503, &"1".parse().unwrap()));
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["detail"], "circuit open");

    flaky.down.store(false, Relaxed);
    until("the breaker to close", async || status(&gateway, "/").await == 200).await;

    gateway.signal("INT");
    let (_, log) = gateway.ended().await;
    for turn in ["closed -> open", "half-open -> closed"] {
        assert!(log.contains(&format!("it: circuit breaker {turn}")), "{turn}: {log}");
    }
    assert!(
        !log.contains("retry after"),
        "a refusal by an open breaker is one of many, and makes no line:\n{log}"
    );
}

#[tokio::test]
async fn every_attempt_counts_and_a_refusal_by_the_breaker_is_not_tried_again() {
    let flaky = Flaky::down();
    let breaker = "consecutive_failures = 4, open = '1m'";
    let retry = "retry = { attempts = 3, backoff = '1ms' }";
    let gateway = guarded("attempts", flaky.serve().await, breaker, retry).await;

    // Three attempts, then one, after which it is open, and the next attempt is refused.
    for _ in 0..3 {
        assert_eq!(status(&gateway, "/").await, 503);
    }

    assert_eq!(flaky.calls(), 4);
}

#[tokio::test]
async fn an_upstream_that_hangs_opens_its_breaker() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let hangs = raw_upstream(move |mut stream| {
        let calls = counted.clone();
        async move {
            head_of(&mut stream).await;
            calls.fetch_add(1, Relaxed);
            std::future::pending::<()>().await;
        }
    })
    .await;
    let breaker = "consecutive_failures = 2, open = '1m'";
    let gateway = guarded("hangs", hangs, breaker, "timeout = { head = '50ms' }").await;

    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(status(&gateway, "/").await);
    }

    assert_eq!((statuses, calls.load(Relaxed)), (vec![504, 504, 503, 503], 2));
}
