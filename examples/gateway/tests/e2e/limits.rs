//! Rate limits, as clients see them.

use std::time::UNIX_EPOCH;

use axum::{Router, routing::get};
use buttress::Clock;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response};
use serde_json::Value;

use crate::support::{Gateway, upstream};

/// Over a connection of its own.
async fn fetch(url: &str, api_key: Option<&str>) -> Response {
    let request = Client::new().get(url);
    let request = api_key.iter().fold(request, |request, key| request.header("x-api-key", *key));
    request.send().await.unwrap()
}

async fn limited(name: &str, rate_limit: &str) -> Gateway {
    let upstream = upstream(Router::new().fallback(get(|| async { "ok" }))).await;
    Gateway::in_front_of(name, upstream, &format!("rate_limit = {{ {rate_limit} }}")).await
}

#[tokio::test]
async fn a_refusal_is_a_429_with_every_field_a_client_needs() {
    let gateway = Gateway::demo().await;
    for _ in 0..3 {
        assert_eq!(fetch(&gateway.url("/payments"), None).await.status(), 200);
    }

    let refused = fetch(&gateway.url("/payments"), None).await;

    assert_eq!(refused.status(), 429);
    let field =
        |name: &str| refused.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seconds: u64 = field(RETRY_AFTER.as_str()).parse().expect("whole seconds");
    assert!((1..=5).contains(&seconds), "12 a minute is one in 5 s, not {seconds}");
    assert!(field("ratelimit").contains("r=0"), "{:?}", refused.headers());
    assert!(field("ratelimit-policy").contains("q="), "{:?}", refused.headers());
    assert_eq!(field(CONTENT_TYPE.as_str()), "application/problem+json");
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["status"], 429);
}

#[tokio::test]
async fn one_budget_holds_over_all_connections_and_routes_do_not_share_it() {
    let gateway = Gateway::demo().await;

    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(fetch(&gateway.url("/payments"), None).await.status().as_u16());
    }

    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(fetch(&gateway.url("/users"), None).await.status(), 200);
    // The longer prefix is another route.
    assert_ne!(fetch(&gateway.url("/payments/receipts"), None).await.status(), 429);
}

#[tokio::test]
async fn a_header_key_gives_each_value_its_own_budget() {
    let gateway = limited("header-key", "rate = '2/h', key = 'header:x-api-key'").await;

    for key in ["alice", "bob"] {
        for expected in [200, 200, 429] {
            assert_eq!(fetch(&gateway.url("/"), Some(key)).await.status(), expected, "{key}");
        }
    }
}

#[tokio::test]
async fn a_route_key_gives_everyone_one_budget() {
    let gateway = limited("route-key", "rate = '2/h', key = 'route'").await;

    for (key, expected) in [("alice", 200), ("bob", 200), ("carol", 429)] {
        assert_eq!(fetch(&gateway.url("/"), Some(key)).await.status(), expected, "{key}");
    }
}

/// Sends `admitted` calls that pass and one that does not; after how many seconds that one may come again.
async fn refused_after(gateway: &Gateway, admitted: u32, key: Option<&str>) -> u64 {
    for n in 0..admitted {
        assert_eq!(fetch(&gateway.url("/"), key).await.status(), 200, "call {n}");
    }
    let refused = fetch(&gateway.url("/"), key).await;
    assert_eq!(refused.status(), 429);
    refused.headers()[RETRY_AFTER].to_str().unwrap().parse().expect("whole seconds")
}

#[tokio::test]
async fn a_token_bucket_admits_its_burst_and_earns_one_unit_at_a_time() {
    let gateway = limited("token-bucket", "rate = '2/h', burst = 3, algorithm = 'token_bucket'").await;

    let wait = refused_after(&gateway, 3, None).await;

    assert!((1_770..=1_800).contains(&wait), "{wait}: half an hour for a unit");
}

#[tokio::test]
async fn a_fixed_window_begins_anew_by_the_calendar() {
    // A day's window: the test does not straddle its end, but for once a day.
    let gateway = limited("fixed-window", "rate = '2/d', algorithm = 'fixed_window'").await;

    let wait = refused_after(&gateway, 2, None).await;

    let now = Clock::monotonic().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let midnight = 86_400 - now % 86_400;
    assert!(wait.abs_diff(midnight) <= 30, "{wait}: midnight is in {midnight} s");
}

#[tokio::test]
async fn a_sliding_log_lets_a_call_come_when_the_oldest_is_a_window_old() {
    let gateway = limited("sliding-log", "rate = '2/h', algorithm = 'sliding_log'").await;

    let wait = refused_after(&gateway, 2, None).await;

    assert!((3_570..=3_600).contains(&wait), "{wait}: an hour");
}

#[tokio::test]
async fn a_sliding_window_holds_a_call_for_one_part_longer_than_the_window_at_most() {
    let limit = "rate = '2/h', algorithm = 'sliding_window', parts = 2, key = 'header:x-api-key'";
    let gateway = limited("sliding-window", limit).await;

    let mut waits = Vec::new();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        waits.push(refused_after(&gateway, 2, Some(key)).await);
    }

    assert!(waits.iter().all(|wait| (3_570..=5_400).contains(wait)), "{waits:?}");
    // Each key has a grid of its own. That all eight were within 100 s would happen once in 10^8 runs.
    assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > 100, "{waits:?}");
}

#[tokio::test]
async fn a_sliding_counter_lets_a_call_come_when_half_of_the_window_before_is_out() {
    let limit = "rate = '2/h', algorithm = 'sliding_counter', key = 'header:x-api-key'";
    let gateway = limited("sliding-counter", limit).await;

    let mut waits = Vec::new();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        waits.push(refused_after(&gateway, 2, Some(key)).await);
    }

    // From half a window to one and a half, by the key's own grid. None of eight below 3 570 s would be 1 in 256 ...
    assert!(waits.iter().all(|wait| (1_770..=5_400).contains(wait)), "{waits:?}");
    assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > 100, "{waits:?}");
}

#[tokio::test]
async fn a_leaky_bucket_lets_calls_wait_and_refuses_who_would_wait_too_long() {
    let limit = "rate = '5/s', algorithm = 'leaky_bucket', wait = '30s', queue = 2";
    let gateway = limited("leaky-bucket", limit).await;
    let url = gateway.url("/");

    // The first goes at once and two wait; the others find the queue full.
    let answers = futures_util::future::join_all((0..8).map(|_| fetch(&url, None))).await;

    let (passed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status() == 200);
    assert!(
        passed.len() >= 3 && !refused.is_empty(),
        "{} passed, {} were refused",
        passed.len(),
        refused.len()
    );
    let policy = refused[0].headers()["ratelimit-policy"].to_str().unwrap();
    assert!(policy.contains("q=3"), "{policy}: one goes, two wait");
}

#[tokio::test]
async fn a_key_that_a_plan_names_has_the_plans_numbers() {
    let limit =
        "rate = '1/h', key = 'header:x-api-key', plan = [{ name = 'pro', rate = '3/h', keys = ['carol'] }]";
    let gateway = limited("plans", limit).await;

    for (key, allowed) in [("alice", 1), ("carol", 3)] {
        for n in 0..=allowed {
            let expected = if n < allowed { 200 } else { 429 };
            assert_eq!(fetch(&gateway.url("/"), Some(key)).await.status(), expected, "{key} {n}");
        }
    }
}

#[tokio::test]
async fn a_request_costs_what_the_route_says() {
    let gateway = limited("cost", "rate = '5/h', cost = 2").await;

    for expected in [200, 200, 429] {
        assert_eq!(fetch(&gateway.url("/"), None).await.status(), expected);
    }
}

#[tokio::test]
async fn a_request_without_a_key_is_dealt_with_as_the_route_says() {
    for (rule, expected) in [("shared", [200, 429]), ("allow", [200, 200]), ("deny", [403, 403])] {
        let limit = format!("rate = '1/h', key = 'header:x-api-key', missing_key = '{rule}'");
        let gateway = limited(&format!("missing-{rule}"), &limit).await;

        for expected in expected {
            assert_eq!(fetch(&gateway.url("/"), None).await.status(), expected, "{rule}");
        }
    }
}

#[tokio::test]
async fn a_shadow_limit_refuses_nobody_and_says_whom_it_would_have() {
    let gateway = limited("shadow", "rate = '1/h', shadow = true").await;

    for _ in 0..3 {
        assert_eq!(fetch(&gateway.url("/"), None).await.status(), 200);
    }

    gateway.signal("INT");
    let (_, log) = gateway.ended().await;
    assert_eq!(log.matches("/: would be a 429").count(), 2, "{log}");
}

#[tokio::test]
async fn a_client_cannot_dodge_its_budget_by_naming_another_address() {
    let gateway = limited("forged", "rate = '1/h', key = 'ip'").await;
    let client = Client::new();

    let first = client.get(gateway.url("/")).header("x-forwarded-for", "192.0.2.1").send().await.unwrap();
    let second = client.get(gateway.url("/")).header("x-forwarded-for", "192.0.2.2").send().await.unwrap();

    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 429));
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_budget() {
    let upstream = upstream(Router::new().fallback(get(|| async { "ok" }))).await;
    let config = format!(
        "trusted_proxies = ['127.0.0.1']
         upstream = [{{ name = 'it', url = 'http://{upstream}' }}]
         route = [{{ path = '/', upstream = 'it', rate_limit = {{ rate = '1/h' }} }}]"
    );
    let gateway = Gateway::with("trusted", &config).await;
    let client = Client::new();

    for (address, expected) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        let answer = client.get(gateway.url("/")).header("x-forwarded-for", address).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{address}");
    }
}
