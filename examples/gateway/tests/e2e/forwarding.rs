//! What the upstream gets to see, and what the client gets back.

use axum::{Router, http::HeaderMap, response::IntoResponse, routing::any};
use reqwest::Client;

use crate::support::{Gateway, upstream};

/// Answers with the request's own head, one field a line.
async fn mirror(request: axum::extract::Request) -> impl IntoResponse {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().expect("ASCII in these tests"));
    }
    let mut fields = HeaderMap::new();
    fields.insert("x-end-to-end", "kept".parse().expect("a value"));
    (fields, text)
}

async fn mirrored(name: &str) -> Gateway {
    Gateway::in_front_of(name, upstream(Router::new().fallback(any(mirror))).await, "").await
}

#[tokio::test]
async fn method_path_query_and_end_to_end_fields_arrive_as_they_were_sent() {
    let gateway = mirrored("end-to-end").await;

    let request = Client::new().delete(gateway.url("/a%20b/c?x=1&y=%2F")).header("x-mine", "yes");
    let answer = request.send().await.unwrap();

    assert_eq!(answer.headers()["x-end-to-end"], "kept");
    let seen = answer.text().await.unwrap();
    assert!(seen.starts_with("DELETE /a%20b/c?x=1&y=%2F\n"), "{seen}");
    assert!(seen.contains("x-mine: yes\n"), "{seen}");
    assert!(seen.contains(&format!("host: {}\n", gateway.address)), "{seen}");
}

#[tokio::test]
async fn hop_by_hop_fields_and_those_that_connection_names_end_at_the_gateway() {
    let gateway = mirrored("hop-by-hop").await;

    let request = Client::new().get(gateway.url("/"));
    let request =
        request.header("connection", "x-private").header("x-private", "1").header("keep-alive", "timeout=5");
    let seen = request.header("proxy-connection", "close").send().await.unwrap().text().await.unwrap();

    for gone in ["x-private", "keep-alive", "proxy-connection"] {
        assert!(!seen.contains(gone), "{gone} in\n{seen}");
    }
}

#[tokio::test]
async fn the_upstream_sees_the_clients_address_and_not_what_the_client_made_up() {
    let gateway = mirrored("x-forwarded").await;

    let request = Client::new().get(gateway.url("/")).header("x-forwarded-for", "192.0.2.66");
    let seen = request.send().await.unwrap().text().await.unwrap();

    assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(!seen.contains("192.0.2.66"), "{seen}");
}

/// A gateway whose peers, this machine, are trusted proxies, or are not.
async fn behind(name: &str, trusted: &str) -> Gateway {
    let upstream = upstream(Router::new().fallback(any(mirror))).await;
    let config = format!(
        "trusted_proxies = ['{trusted}']
         upstream = [{{ name = 'it', url = 'http://{upstream}' }}]
         route = [{{ path = '/', upstream = 'it' }}]"
    );
    Gateway::with(name, &config).await
}

#[tokio::test]
async fn no_field_that_names_the_client_is_believed_of_a_peer_that_is_not_trusted() {
    for gateway in [mirrored("no-proxies").await, behind("other-proxies", "10.0.0.0/8").await] {
        let request = Client::new().get(gateway.url("/")).header("forwarded", "for=192.0.2.66");
        let request = request.header("x-real-ip", "192.0.2.67").header("x-forwarded-for", "192.0.2.68");

        let seen = request.send().await.unwrap().text().await.unwrap();

        assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
        assert!(!seen.contains("192.0.2."), "{seen}");
    }
}

#[tokio::test]
async fn the_list_of_a_trusted_proxy_is_continued() {
    let gateway = behind("trusted-proxy", "127.0.0.0/8").await;

    let request = Client::new().get(gateway.url("/")).header("x-forwarded-for", "192.0.2.66");
    let seen = request.send().await.unwrap().text().await.unwrap();

    assert!(seen.contains("x-forwarded-for: 192.0.2.66, 127.0.0.1\n"), "{seen}");
}
