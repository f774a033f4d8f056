//! Answers before the answer: 100 Continue for clients that wait for it, and the others.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_proxy::Proxy;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{OK, Upstream, Wire, get, post, text};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt;

const ASK: &str = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A hyper server with the proxy as its only service, and its address.
async fn front(proxy: Proxy) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let proxy = proxy.clone();
            let service = service_fn(move |request| proxy.clone().oneshot(request));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// A client that has asked, and the upstream that has its head.
async fn asked(configure: impl FnOnce(Proxy) -> Proxy) -> (Wire, Wire, Upstream) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_, wire| {
        let tell = tell.clone();
        async move { tell.send(wire).ok().unwrap() }
    })
    .await;
    let front = front(configure(Proxy::to(upstream.address).unwrap())).await;
    let mut client = Wire::connect(front).await;
    client.send(ASK).await;
    let mut wire = told.recv().await.unwrap();
    let head = wire.head().await.unwrap();
    assert!(head.contains("expect: 100-Continue\r\n"), "{head}");
    (client, wire, upstream)
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_the_upstreams_and_no_body_moves_before() {
    let (mut client, mut wire, _upstream) = asked(|proxy| proxy).await;
    client.send("hello").await;
    assert!(client.is_silent().await);
    assert!(wire.is_silent().await);

    // Another informational answer is not the word that it waits for.
    wire.send("HTTP/1.1 102 Processing\r\n\r\n").await;
    assert!(client.is_silent().await);
    wire.send(CONTINUE).await;

    assert_eq!(client.head().await.unwrap(), CONTINUE);
    assert_eq!(wire.bytes(5).await, b"hello");
    wire.send(OK).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.bytes(2).await, b"ok");
}

#[tokio::test]
async fn a_client_whose_upstream_answers_something_else_is_not_asked_for_its_body() {
    for answer in [
        "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (mut client, mut wire, _upstream) = asked(|proxy| proxy).await;

        wire.send(answer).await;

        let head = client.head().await.unwrap();
        assert_eq!(head.lines().next(), answer.lines().next());
        // The request was never whole, so nothing can follow it.
        assert_eq!(wire.rest().await.0, 0, "{answer}");
        drop(client);
    }
}

#[tokio::test]
async fn an_upstream_that_says_nothing_gets_the_body_when_the_time_is_up() {
    let clock = ManualClock::new();
    let (mut client, mut wire, _upstream) = asked(|proxy| proxy.clock(clock.clock())).await;

    clock.advance(Duration::from_millis(999));
    assert!(client.is_silent().await);
    clock.advance(Duration::from_millis(1));

    assert_eq!(client.head().await.unwrap(), CONTINUE);
    client.send("hello").await;
    assert_eq!(wire.bytes(5).await, b"hello");
    // Its word comes late, and is one more informational answer.
    wire.send(format!("{CONTINUE}{OK}")).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_takes_the_connection_with_it() {
    let (client, mut wire, _upstream) = asked(|proxy| proxy).await;

    drop(client);

    assert_eq!(wire.rest().await.0, 0);
}

#[tokio::test]
async fn with_a_time_of_zero_the_expectation_is_met_here() {
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(!head.contains("expect"), "{head}");
        assert_eq!(wire.bytes(5).await, b"hello");
        wire.send(OK).await;
    })
    .await;
    let proxy = Proxy::to(upstream.address).unwrap().expect_timeout(Duration::ZERO);
    let mut client = Wire::connect(front(proxy).await).await;

    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap(), CONTINUE);
    client.send("hello").await;

    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_that_expects_100_continue_sends_no_body_for_a_dead_upstream() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut client = Wire::connect(front(Proxy::to(nobody).unwrap()).await).await;

    client.send(ASK).await;

    // This front has no `answer_errors`, so hyper ends the connection instead of asking for the body.
    assert_eq!(client.head().await, None);
}

#[tokio::test]
async fn an_expectation_that_nobody_waits_for_stays_behind_and_one_that_is_unknown_goes_on() {
    let upstream = Upstream::echoing_heads().await;
    let mut bodiless = get("/");
    bodiless.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let mut old = post("");
    old.headers_mut().insert("expect", "100-continue".parse().unwrap());
    *old.version_mut() = http::Version::HTTP_10;
    for request in [bodiless, old] {
        let head = text(upstream.proxy().oneshot(request).await.unwrap()).await;
        assert!(!head.contains("expect"), "{head}");
    }

    let mut unknown = get("/");
    unknown.headers_mut().insert("expect", "200-ok".parse().unwrap());
    let head = text(upstream.proxy().oneshot(unknown).await.unwrap()).await;
    assert!(head.contains("expect: 200-ok\r\n"), "{head}");
}

#[tokio::test]
async fn informational_answers_before_the_answer_are_passed_over_and_told_to_who_asks() {
    let upstream =
        Upstream::answering(format!("{CONTINUE}HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tell = seen.clone();
    let mut request = post("hello");
    hyper::ext::on_informational(&mut request, move |answer| {
        let link = answer.headers().get("link").cloned();
        tell.lock().unwrap().push((answer.status().as_u16(), link));
    });

    let response = upstream.proxy().oneshot(request).await.unwrap();

    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("link"));
    assert_eq!(text(response).await, "ok");
    assert_eq!(*seen.lock().unwrap(), [(100, None), (103, Some("</a>".parse().unwrap()))]);
}
