//! Upstreams that answer what no one may: a typed error, and the connection is not used again.

mod support;

use std::error::Error as _;

use buttress_proxy::{Body, Error, ErrorKind, Proxy};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use support::{OK, TestBody, Upstream, get, settle, text};
use tower::ServiceExt;

async fn ask(proxy: &Proxy<TestBody>, method: Method) -> Result<Response<Body>, Error> {
    let mut request: Request<TestBody> = get("/");
    *request.method_mut() = method;
    proxy.clone().oneshot(request).await
}

/// The error of an answer on a connection that is never used again, in words.
async fn refused(method: Method, answer: &'static str) -> String {
    let upstream = Upstream::start(move |number, mut wire| async move {
        while wire.head().await.is_some() {
            wire.send(if number == 1 { answer } else { OK }).await;
        }
    })
    .await;
    let proxy = upstream.proxy();

    let error = match ask(&proxy, method).await {
        Ok(response) => response.into_body().collect().await.expect_err(answer),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::BadResponse, "{answer}");
    assert!(!error.nothing_sent(), "{answer}");
    let problem = error.problem().unwrap();
    assert_eq!(problem.status(), 502);
    settle().await;
    assert_eq!(proxy.connections().open, 0, "{answer}");

    assert_eq!(text(ask(&proxy, Method::GET).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 2);
    std::iter::successors(error.source(), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[tokio::test]
async fn answers_whose_length_is_in_doubt() {
    for (answer, why) in [
        (
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "beside Transfer-Encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "beside Transfer-Encoding",
        ),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", ""),
        ("Content-Length: 2, 3\r\n\r\nok!", ""),
        ("Content-Length: +2\r\n\r\nok", ""),
        ("Content-Length: 18446744073709551616\r\n\r\nok", ""),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "other than chunked"),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "other than chunked"),
        ("Transfer-Encoding: gzip\r\n\r\nok", "other than chunked"),
        ("Transfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n", ""),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", ""),
    ] {
        let answer: &'static str = format!("HTTP/1.1 200 OK\r\n{answer}").leak();
        let said = refused(Method::GET, answer).await;
        assert!(said.contains(why), "{answer}: {said}");
    }
}

#[tokio::test]
async fn answers_without_a_body_that_contradict_themselves() {
    for (method, answer, why) in [
        (Method::GET, "204 No Content\r\nContent-Length: 2\r\n\r\nok", "204 with a body"),
        (
            Method::GET,
            "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "204 with a body",
        ),
        (
            Method::GET,
            "304 Not Modified\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            "two that differ",
        ),
        (
            Method::HEAD,
            "200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "beside Transfer",
        ),
        (Method::HEAD, "200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "other than chunked"),
        (
            Method::GET,
            "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "without a request",
        ),
    ] {
        let answer: &'static str = format!("HTTP/1.1 {answer}").leak();
        let said = refused(method, answer).await;
        assert!(said.contains(why), "{answer}: {said}");
    }
}

#[tokio::test]
async fn a_204_that_says_it_has_no_bytes_is_one_without_a_length() {
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = upstream.proxy();

    let response = ask(&proxy, Method::GET).await.unwrap();

    assert!(!response.headers().contains_key("content-length"));
    settle().await;
    assert_eq!(proxy.connections().idle, 1);
}

#[tokio::test]
async fn bytes_behind_an_answer_without_a_body_are_never_taken_for_the_next_answer() {
    for (method, head) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 31\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let upstream = Upstream::start(move |number, mut wire| async move {
            while wire.head().await.is_some() {
                let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                wire.send(if number == 1 { format!("{head}{evil}") } else { OK.to_owned() }).await;
            }
        })
        .await;
        let proxy = upstream.proxy();

        let response = ask(&proxy, method).await.unwrap();
        assert_eq!(text(response).await, "", "{head}");

        assert_eq!(text(ask(&proxy, Method::GET).await.unwrap()).await, "ok", "{head}");
        assert_eq!(upstream.accepted(), 2, "{head}");
    }
}

#[tokio::test]
async fn informational_answers_without_end_are_a_bad_answer_too() {
    let upstream = Upstream::start(|_, mut wire| async move {
        wire.head().await;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100);
        while wire.try_send(&hints).await.is_ok() {}
    })
    .await;
    let proxy = upstream.proxy();

    let error = ask(&proxy, Method::GET).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::BadResponse);
    settle().await;
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn as_many_informational_answers_as_anyone_sends_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100);
    let upstream = Upstream::answering(format!("{hints}{OK}")).await;
    let proxy = upstream.proxy();

    for _ in 0..20 {
        assert_eq!(text(ask(&proxy, Method::GET).await.unwrap()).await, "ok");
    }
    assert_eq!(upstream.accepted(), 1);
}
