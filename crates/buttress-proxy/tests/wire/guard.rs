//! The guard and the checked service around hyper.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_proxy::server::wire::{BadRequest, Limits, Violation};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::serve::{Client, Log, wire};
use crate::support::settle;

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const BAD: &str = "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
const UPLOAD: &str = "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn count(answers: &str, what: &str) -> usize {
    answers.matches(what).count()
}

#[tokio::test]
async fn a_request_that_is_right_is_answered() {
    let mut client = Client::connect();
    client.send(GOOD.replace("Host", "Connection: close\r\nHost")).await;

    let answer = client.rest().await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("/good"), "{answer}");
}

#[tokio::test]
async fn what_comes_byte_by_byte_is_answered_too() {
    let mut client = Client::connect();
    for byte in format!("{GOOD}{UPLOAD}3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n").into_bytes() {
        client.send([byte]).await;
        settle().await;
    }

    let answers = client.so_far().await;
    let seen = client.log.taken();

    assert_eq!(count(&answers, "HTTP/1.1 200"), 2, "{answers}");
    assert_eq!(seen[1].body.as_deref(), Some(&b"abc"[..]));
    assert_eq!(seen[1].trailers.as_ref().unwrap()["x-sum"], "1");
}

#[tokio::test]
async fn of_pipelined_requests_those_before_a_bad_one_are_answered_and_none_after_it() {
    let mut client = Client::connect();
    client.send(format!("{GOOD}{BAD}{GOOD}")).await;

    let answers = client.rest().await;

    let (first, second) = answers.split_once("/good").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(second.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answers}");
    assert!(second.contains("connection: close"), "{answers}");
    assert!(second.contains("content-type: application/problem+json"), "{answers}");
    assert!(second.ends_with(r#""rule":"host-repeated","section":"RFC 9112 §3.2"}"#), "{answers}");
    assert_eq!(client.log.taken().len(), 1);
}

#[tokio::test]
async fn a_bad_request_with_a_lot_behind_it_is_answered_while_the_client_still_sends() {
    let mut client = Client::connect();
    client.send(BAD).await;
    for _ in 0..10 {
        client.send(vec![b'x'; 16 * 1024]).await;
        settle().await;
    }

    assert!(client.so_far().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_client_that_has_said_its_last_word_still_hears_why_it_was_refused() {
    let mut client = Client::connect();
    client.send(BAD).await;
    client.io.shutdown().await.unwrap();

    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn the_refusal_of_a_head_request_has_no_body() {
    let mut client = Client::connect();
    client.send("HEAD / HTTP/1.1\r\n\r\n").await;

    let answer = client.rest().await;

    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n") && answer.contains("content-length: "), "{answer}");
}

#[tokio::test]
async fn empty_lines_between_requests_do_not_reach_hyper_nor_begin_a_head() {
    let mut client = Client::connect();
    client.send(format!("\r\n{GOOD}\r\n")).await;
    assert_eq!(count(&client.so_far().await, "HTTP/1.1 200"), 1);

    // More than a head may take, less than a connection may be idle.
    client.time.advance(Duration::from_secs(60));
    assert_eq!(client.so_far().await, "");
    client.send(GOOD).await;
    assert_eq!(count(&client.so_far().await, "HTTP/1.1 200"), 1);
}

#[tokio::test]
async fn a_body_that_breaks_a_rule_fails_for_the_service_and_is_answered_with_the_rule() {
    let mut client = Client::connect();
    client.send(format!("{UPLOAD}3\r\nabc\r\nxyz\r\n")).await;

    let answer = client.rest().await;

    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains(r#""rule":"chunk-size""#), "{answer}");
    assert_eq!(client.log.taken()[0].body, None);
}

#[tokio::test]
async fn a_request_behind_a_body_that_breaks_a_rule_is_not_read() {
    let mut client = Client::connect();
    client.send(format!("{UPLOAD}0\r\nContent-Length: 3\r\n\r\n{GOOD}")).await;

    let answers = client.rest().await;

    assert!(answers.contains(r#""rule":"trailer-forbidden""#), "{answers}");
    assert_eq!((count(&answers, "HTTP/1.1 "), client.log.taken().len()), (1, 1));
}

#[tokio::test]
async fn a_head_of_which_a_part_has_come_is_refused_at_its_time() {
    let mut client = Client::connect();
    client.send("GET / HTTP/1.1\r\nHo").await;
    settle().await;
    client.time.advance(Duration::from_secs(9));
    // More of it does not make it last longer.
    client.send("st: a\r\nX: ").await;
    assert_eq!(client.so_far().await, "");

    client.time.advance(Duration::from_secs(1));

    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""rule":"head-timeout""#), "{answer}");
    assert_eq!(client.log.taken(), []);
}

#[tokio::test]
async fn a_head_that_is_slow_behind_another_request_is_refused_when_that_is_answered() {
    let mut client = Client::connect();
    client.send(format!("{GOOD}GET / HT")).await;
    settle().await;

    client.time.advance(Duration::from_secs(10));

    let answers = client.rest().await;
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 408 "), "{answers}");
}

#[tokio::test]
async fn a_new_connection_that_stays_silent_is_closed_without_a_word() {
    let mut client = Client::connect();
    settle().await;
    client.time.advance(Duration::from_secs(9));
    settle().await;
    assert_eq!(client.so_far().await, "");

    client.time.advance(Duration::from_secs(1));

    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_connection_is_kept_for_its_time_after_each_answer_and_then_closed_without_a_word() {
    let mut client = Client::connect();
    for _ in 0..3 {
        client.send(GOOD).await;
        assert_eq!(count(&client.so_far().await, "HTTP/1.1 200"), 1);
        // In steps, as a timer that was set for something else may ring in between.
        for _ in 0..74 {
            client.time.advance(Duration::from_secs(1));
            settle().await;
        }
    }
    client.send(GOOD).await;
    assert_eq!(count(&client.so_far().await, "HTTP/1.1 200"), 1);

    client.time.advance(Duration::from_secs(75));

    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_body_that_stops_coming_fails_at_its_time_and_is_answered_with_408() {
    let mut client = Client::connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    for _ in 0..3 {
        settle().await;
        client.time.advance(Duration::from_secs(29));
        client.send("d").await;
    }
    assert_eq!(client.so_far().await, "");

    client.time.advance(Duration::from_secs(30));

    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""rule":"body-timeout""#), "{answer}");
    assert_eq!(client.log.taken()[0].body, None);
}

#[tokio::test]
async fn the_time_that_a_head_took_is_not_taken_from_its_body() {
    let mut client = Client::connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-").await;
    settle().await;
    client.time.advance(Duration::from_secs(9));
    client.send("Length: 4\r\n\r\n").await;
    settle().await;
    client.time.advance(Duration::from_secs(29));
    settle().await;
    client.send("late").await;

    assert!(client.so_far().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_connection_whose_client_is_slow_to_take_an_answer_is_not_idle() {
    let (mut client, server) = tokio::io::duplex(16);
    let time = ManualClock::new();
    let connection = wire(&time).connection(None);
    let answer =
        async |_| Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("x".repeat(1000))));
    let service = connection.check(service_fn(answer));
    let guard = TokioIo::new(connection.guard(server));
    tokio::spawn(http1::Builder::new().serve_connection(guard, service));
    client.write_all(GOOD.as_bytes()).await.unwrap();

    let mut answer = Vec::new();
    while !answer.ends_with("x".repeat(1000).as_bytes()) {
        settle().await;
        time.advance(Duration::from_secs(60));
        let mut piece = [0; 16];
        let read = client.read(&mut piece).await.unwrap();
        assert!(read > 0, "it ended after {}", answer.len());
        answer.extend(&piece[..read]);
    }
    // And from then on it is.
    settle().await;
    time.advance(Duration::from_secs(75));
    assert_eq!(client.read_to_end(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_head_over_the_limits_is_431_and_a_target_414() {
    let limits = Limits::new().head_bytes(1024).fields(5).target_bytes(100);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1024)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(5)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100)), 414),
    ] {
        let mut client = Client::connect_with(|wire| wire.limits(limits));
        client.send(&request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_head_as_large_as_allowed_is_answered_though_it_comes_in_pieces() {
    let mut client = Client::connect();
    let fields = (0..90).map(|at| format!("X-{at}: {}\r\n", "x".repeat(330))).collect::<String>();
    let request = format!("GET /good HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert!((30_000..32 * 1024).contains(&request.len()));
    for piece in request.as_bytes().chunks(5000) {
        client.send(piece).await;
        settle().await;
    }

    assert!(client.so_far().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.log.taken()[0].fields.len(), 91);
}

#[tokio::test]
async fn more_fields_than_hypers_default_are_read_where_they_are_allowed() {
    let mut client = Client::connect_with(|wire| wire.limits(Limits::new().fields(200)));
    client.send(format!("GET /good HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(199))).await;

    assert!(client.so_far().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn each_refusal_is_told_with_its_reason_its_request_and_what_is_no_secret() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let observe = move |it: &BadRequest<'_>| {
        let text = |it: Option<&str>| it.map(str::to_owned);
        log.lock().unwrap().push((it.violation, it.request, text(it.field), text(it.value)));
    };
    for bad in ["Content-Length: 5,\x7e5", "Authorization: secr\0et", "Host: b"] {
        let mut client = Client::connect_with(|wire| wire.observe(observe.clone()));
        client.send(format!("{GOOD}GET / HTTP/1.1\r\nHost: a\r\n{bad}\r\n\r\n")).await;
        client.rest().await;
    }
    let mut client = Client::connect_with(|wire| wire.observe(observe.clone()));
    client.send(format!("{UPLOAD}x")).await;
    client.rest().await;

    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        *told.lock().unwrap(),
        [
            (Violation::LengthRepeated, 2, some("Content-Length"), some("5,~5")),
            (Violation::Nul, 2, some("Authorization"), None),
            (Violation::HostRepeated, 2, some("Host"), some("b")),
            (Violation::ChunkSize, 1, None, None),
        ]
    );
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_head_ends_the_connection() {
    let mut client = Client::connect();
    client.send("GET / HT").await;
    client.io.shutdown().await.unwrap();

    assert_eq!(client.rest().await, "");
    assert_eq!(client.log.taken(), []);
}

/// A client of a service that answers a request for `echo` with a tunnel that hands all back, and every other request
/// for an upgrade, or for a tunnel, with 404.
fn echoing() -> Client {
    async fn answer(
        mut request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let echo = request.headers().get("upgrade").is_some_and(|it| it == "echo")
            || request.uri().authority().is_some_and(|it| it.host() == "echo");
        let mut answer = Response::new(Full::from(request.uri().to_string()));
        if echo {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
            *answer.body_mut() = Full::default();
        }
        *answer.status_mut() = match *request.method() {
            Method::CONNECT if echo => StatusCode::OK,
            _ if echo => StatusCode::SWITCHING_PROTOCOLS,
            _ => StatusCode::NOT_FOUND,
        };
        Ok(answer)
    }

    let (time, log) = (ManualClock::new(), Log::default());
    let wire = wire(&time);
    let (io, server) = tokio::io::duplex(64 * 1024);
    let connection = wire.connection(None);
    let mut builder = http1::Builder::new();
    wire.prepare(&mut builder);
    let service = connection.check(service_fn(answer));
    tokio::spawn(builder.serve_connection(TokioIo::new(connection.guard(server)), service).with_upgrades());
    Client { io, log, time }
}

#[tokio::test]
async fn what_comes_ahead_of_an_upgrade_goes_through_the_tunnel_untouched() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        "CONNECT echo:1 HTTP/1.1\r\nHost: echo:1\r\n\r\n",
    ] {
        let mut client = echoing();
        client.send(format!("{request}\n\0ahead")).await;
        let answer = client.so_far().await;
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 101") || head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(rest, "\n\0ahead");

        client.time.advance(Duration::from_secs(3600));
        client.send("\r\rafter an hour").await;
        assert_eq!(client.so_far().await, "\r\rafter an hour");
        client.io.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn behind_an_upgrade_that_is_declined_requests_are_read_on() {
    for request in [
        "GET /no HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        "POST /no HTTP/1.1\r\nHost: a\r\nUpgrade: other\r\nContent-Length: 2\r\n\r\nhi",
        "CONNECT no:1 HTTP/1.1\r\nHost: no:1\r\n\r\n",
    ] {
        let mut client = echoing();
        client.send(format!("{request}{request}{BAD}")).await;

        let answers = client.rest().await;

        assert_eq!(count(&answers, "HTTP/1.1 404 "), 2, "{answers}");
        assert!(answers.contains("HTTP/1.1 400 "), "{answers}");
    }
}

#[tokio::test]
async fn a_call_under_way_keeps_its_connection_however_long_it_takes() {
    let (begun, answers) = tokio::sync::oneshot::channel::<()>();
    let answers = Arc::new(Mutex::new(Some(answers)));
    let time = ManualClock::new();
    let wire = wire(&time);
    let (mut client, server) = tokio::io::duplex(1024);
    let connection = wire.connection(None);
    let service = connection.check(service_fn(move |_| {
        let answers = answers.lock().unwrap().take().unwrap();
        async {
            answers.await.unwrap();
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("late")))
        }
    }));
    let guard = TokioIo::new(connection.guard(server));
    tokio::spawn(http1::Builder::new().serve_connection(guard, service));
    client.write_all(GOOD.as_bytes()).await.unwrap();

    for _ in 0..10 {
        settle().await;
        time.advance(Duration::from_secs(100));
    }
    begun.send(()).unwrap();
    settle().await;
    // Idle from here, and not from when it was asked.
    time.advance(Duration::from_secs(74));
    settle().await;
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 200");

    time.advance(Duration::from_secs(1));
    client.read_to_end(&mut Vec::new()).await.unwrap();
}
