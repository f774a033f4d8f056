//! What tower-http does for a route that asks for it.

use axum::{Router, body::Bytes, http::HeaderMap, routing::any};
use reqwest::{Body, Client, Method};

use crate::support::{Gateway, upstream};

/// Answers with the id of the request and the length of its body, at length.
async fn behind(name: &str, more: &str) -> Gateway {
    let service = any(async |fields: HeaderMap, body: Bytes| {
        let id = fields.get("x-request-id").map_or("none", |id| id.to_str().unwrap());
        format!("{id} {} {}", body.len(), "word ".repeat(200))
    });
    Gateway::in_front_of(name, upstream(Router::new().fallback(service)).await, more).await
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_ask_and_others_may_not() {
    let cors = "cors = { origins = ['https://app.example'], methods = ['PUT'], headers = ['x-key'], max_age = '1h' }";
    let gateway = behind("cors", &format!("methods = ['GET', 'PUT']\n{cors}")).await;
    let client = Client::new();
    let preflight =
        client.request(Method::OPTIONS, gateway.url("/")).header("access-control-request-method", "PUT");

    let asked = preflight.header("origin", "https://app.example").send().await.unwrap();
    let got = client.get(gateway.url("/")).header("origin", "https://app.example").send().await.unwrap();
    let other = client.get(gateway.url("/")).header("origin", "https://evil.example").send().await.unwrap();

    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-key"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(asked.headers()[name], value);
    }
    assert_eq!(got.headers()["access-control-allow-origin"], "https://app.example");
    assert!(!other.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn an_answer_is_compressed_for_who_takes_it() {
    let gateway = behind("compression", "compression = true").await;
    let client = Client::new();

    let plain = client.get(gateway.url("/")).send().await.unwrap();
    let short = client.get(gateway.url("/")).header("accept-encoding", "gzip").send().await.unwrap();

    assert!(!plain.headers().contains_key("content-encoding"));
    assert_eq!(short.headers()["content-encoding"], "gzip");
    let (plain, short) = (plain.bytes().await.unwrap(), short.bytes().await.unwrap());
    assert!(
        short.starts_with(&[0x1f, 0x8b]) && short.len() * 5 < plain.len(),
        "{} of {}",
        short.len(),
        plain.len()
    );
}

#[tokio::test]
async fn a_request_without_an_id_gets_one_and_the_answer_has_it_too() {
    let gateway = behind("request-id", "request_id = 'x-request-id'").await;
    let client = Client::new();

    let made = client.get(gateway.url("/")).send().await.unwrap();
    let brought = client.get(gateway.url("/")).header("x-request-id", "mine").send().await.unwrap();

    let id = made.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(id.len(), 36, "{id}");
    assert!(made.text().await.unwrap().starts_with(&id));
    assert_eq!(brought.headers()["x-request-id"], "mine");
    assert!(brought.text().await.unwrap().starts_with("mine "));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_a_413_whether_its_length_is_told_or_not() {
    let gateway = behind("max-body", "max_body = 10").await;
    let client = Client::new();

    for (length, told, status) in [(10, true, 200), (11, true, 413), (10, false, 200), (11, false, 413)] {
        let body = vec![7; length];
        let body = if told {
            Body::from(body)
        } else {
            Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(body)]))
        };
        let answer = client.put(gateway.url("/")).body(body).send().await.unwrap();

        assert_eq!(answer.status(), status, "{length} {told}");
        if status == 413 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert!(answer.text().await.unwrap().contains("the body is longer than"));
        } else {
            assert!(answer.text().await.unwrap().contains(" 10 "));
        }
    }
}

#[tokio::test]
async fn a_413_of_the_upstream_passes_as_it_is() {
    let service = any(async || (http::StatusCode::PAYLOAD_TOO_LARGE, "mine"));
    let gateway =
        Gateway::in_front_of("own-413", upstream(Router::new().fallback(service)).await, "max_body = 10")
            .await;

    let answer = reqwest::get(gateway.url("/")).await.unwrap();

    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (413, "mine"));
}

#[tokio::test]
async fn a_traced_route_tells_each_answer_to_the_log() {
    let mut gateway = behind("trace", "trace = true").await;

    reqwest::get(gateway.url("/a/b")).await.unwrap();

    let notes = gateway.says("finished processing request").await;
    assert!(notes.contains("uri=/a/b") && notes.contains("method=GET"), "{notes}");
}
