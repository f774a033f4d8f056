//! Clients that dawdle, or send what cannot be sent on.

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Gateway, soon, upstream};

/// All that the gateway answers to `bytes` until it closes the connection.
async fn exchange(gateway: &Gateway, bytes: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn one_route(name: &str, top: &str) -> Gateway {
    let upstream = upstream(Router::new().fallback(get(|| async { "ok" }))).await;
    let config = format!(
        "{top}\nupstream = [{{ name = 'it', url = 'http://{upstream}' }}]\nroute = [{{ path = '/', upstream = 'it' }}]"
    );
    Gateway::with(name, &config).await
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_closed() {
    let gateway = one_route("dawdlers", "header_timeout = '200ms'").await;

    for (what, sent) in [
        ("nothing", ""),
        ("half a method", "P"),
        ("half an HTTP/2 preface", "PRI * HTTP/2.0\r\n"),
        ("half a head", "GET / HTTP/1.1\r\nhost: it\r\n"),
    ] {
        let answer = exchange(&gateway, sent).await;
        assert!(!answer.contains(" 200 "), "{what}: {answer}");
    }
    assert_eq!(reqwest::get(gateway.url("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_others_are_served_on() {
    let gateway = one_route("nonsense-in", "").await;

    for nonsense in [
        "hello\r\n\r\n",
        "GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ] {
        assert!(exchange(&gateway, nonsense).await.starts_with("HTTP/1.1 400"), "{nonsense}");
    }
    assert_eq!(reqwest::get(gateway.url("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_on_is_the_clients_fault() {
    let gateway = one_route("two-hosts", "").await;

    let answer =
        exchange(&gateway, "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}
