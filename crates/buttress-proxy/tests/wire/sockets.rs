//! What a client sees that writes raw bytes to the socket of a server, with a proxy and an upstream behind it: of a head
//! that is refused nothing ever arrives there.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_http::reject::Form;
use buttress_proxy::Proxy;
use buttress_proxy::server::{Body, Server};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tower::ServiceExt;

use crate::server_support::{Client, Log, Running, local, start, while_time_passes};
use crate::support::{OK, Upstream, settle};

/// A server in front of a proxy, and an upstream that notes what it hears.
struct Gateway {
    server: Running,
    upstream: Upstream,
    heard: Arc<Mutex<String>>,
}

impl Gateway {
    async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    async fn start_with(change: impl FnOnce(Server) -> Server) -> Self {
        let heard = Arc::<Mutex<String>>::default();
        let log = heard.clone();
        let upstream = Upstream::start(move |_, mut wire| {
            let log = log.clone();
            async move {
                while let Some(head) = wire.head().await {
                    let chunked = head.to_ascii_lowercase().contains("transfer-encoding");
                    log.lock().unwrap().push_str(&head);
                    if chunked {
                        let Some(body) = wire.until(b"0\r\n\r\n").await else { return };
                        log.lock().unwrap().push_str(&String::from_utf8(body).unwrap());
                    }
                    wire.send(OK).await;
                }
            }
        })
        .await;
        let proxy = Proxy::<Body>::to(upstream.address).unwrap();
        let server =
            start(change(local().await), tower::service_fn(move |request| send_on(proxy.clone(), request)));
        Self { server, upstream, heard }
    }

    async fn client(&self) -> Client {
        Client::connect(self.server.address()).await
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    /// Sends these bytes, and expects a refusal by this rule, the end of the connection, and that the upstream knows
    /// nothing of it.
    #[track_caller]
    fn refuses(bytes: impl Into<Vec<u8>>, status: u16, rule: &str) {
        let bytes = bytes.into();
        runtime().block_on(async {
            let gateway = Self::start().await;
            let mut client = gateway.client().await;

            client.send(bytes).await;

            let answer = client.answer().await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!(r#""rule":"{rule}""#)), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            client.closed().await;
            assert_eq!((gateway.upstream.accepted(), gateway.heard()), (0, String::new()));
        });
    }

    /// Sends these bytes, and expects that the upstream gets the head of them and never an end of their body.
    #[track_caller]
    fn breaks_off(body: &str, status: u16, rule: &str) {
        runtime().block_on(async {
            let gateway = Self::start().await;
            let mut client = gateway.client().await;

            client
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
                .await;

            let answer = client.answer().await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!(r#""rule":"{rule}""#)), "{answer}");
            client.closed().await;
            settle().await;
            assert!(!gateway.heard().contains("0\r\n\r\n"), "{}", gateway.heard());

            // Not on the same connection.
            let connections = gateway.upstream.accepted();
            assert!(gateway.client().await.get("/next").await.unwrap().ends_with("ok"));
            assert_eq!(gateway.upstream.accepted(), connections + 1);
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn send_on(
    proxy: Proxy<Body>,
    request: Request<Body>,
) -> Result<Response<UnsyncBoxBody<Bytes, buttress_proxy::Error>>, Infallible> {
    let form = Form::of(&request);
    Ok(match proxy.oneshot(request).await {
        Ok(answer) => answer.map(BodyExt::boxed_unsync),
        Err(error) => error.problem().expect("it is no refusal of ours").reply(form),
    })
}

macro_rules! refused {
    ($($name:ident: $bytes:expr => $status:literal $rule:literal;)+) => {
        $(#[test] fn $name() { Gateway::refuses($bytes, $status, $rule); })+
    };
}

/// A GET with these lines behind its Host.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

refused! {
    a_missing_host_is_400: "GET / HTTP/1.1\r\n\r\n" => 400 "host-missing";
    two_hosts_are_400: with("Host: b") => 400 "host-repeated";
    two_equal_hosts_are_400: with("Host: a") => 400 "host-repeated";
    an_empty_host_is_400: "GET / HTTP/1.1\r\nHost:\r\n\r\n" => 400 "host-invalid";
    a_list_of_hosts_is_400: "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n" => 400 "host-invalid";
    a_host_with_a_path_is_400: "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n" => 400 "host-invalid";
    a_host_with_user_information_is_400: "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n" => 400 "host-invalid";
    an_absolute_target_without_a_host_field_is_400: "GET http://a/ HTTP/1.1\r\n\r\n" => 400 "host-missing";
    a_target_with_user_information_is_400: "GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "target";
    a_target_with_a_fragment_is_400: "GET /#b HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "target";
    a_target_without_a_slash_is_400: "GET a HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "target";
    a_coding_before_chunked_is_501: with("Transfer-Encoding: gzip, chunked") => 501 "transfer-coding";
    a_coding_other_than_chunked_is_400: with("Transfer-Encoding: gzip") => 400 "transfer-encoding-invalid";
    identity_is_400: with("Transfer-Encoding: identity") => 400 "transfer-encoding-invalid";
    chunked_that_is_not_last_is_400: with("Transfer-Encoding: chunked, gzip") => 400 "transfer-encoding-invalid";
    chunked_twice_in_a_list_is_400: with("Transfer-Encoding: chunked, chunked") => 400 "transfer-encoding-invalid";
    chunked_on_two_lines_is_400:
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") => 400 "transfer-encoding-repeated";
    a_hidden_chunked_is_400: with("Transfer-Encoding: \u{b}chunked") => 400 "control-byte";
    chunked_in_http_1_0_is_400:
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" => 400 "transfer-encoding-in-http-1.0";
    a_length_beside_chunked_is_400:
        with("Content-Length: 4\r\nTransfer-Encoding: chunked") + "0\r\n\r\n" => 400 "length-beside-transfer-encoding";
    a_length_behind_chunked_is_400:
        with("Transfer-Encoding: chunked\r\nContent-Length: 4") + "0\r\n\r\n" => 400 "length-beside-transfer-encoding";
    a_length_with_a_sign_is_400: with("Content-Length: +5") => 400 "length-invalid";
    a_negative_length_is_400: with("Content-Length: -5") => 400 "length-invalid";
    a_length_that_overflows_is_400: with("Content-Length: 18446744073709551617") => 400 "length-invalid";
    an_empty_length_is_400: with("Content-Length:") => 400 "length-invalid";
    different_lengths_are_400: with("Content-Length: 5\r\nContent-Length: 6") => 400 "length-repeated";
    equal_lengths_are_400: with("Content-Length: 5\r\nContent-Length: 5") => 400 "length-repeated";
    equal_lengths_in_a_list_are_400: with("Content-Length: 5, 5") => 400 "length-repeated";
    a_space_before_a_colon_is_400: with("Content-Length : 5") => 400 "space-before-colon";
    a_folded_line_is_400: with("X-A: b\r\n c") => 400 "folding";
    a_folded_first_line_is_400: "GET / HTTP/1.1\r\n Host: a\r\n\r\n" => 400 "folding";
    a_nul_in_a_value_is_400: with("X-A: b\0") => 400 "nul";
    a_nul_in_the_target_is_400: "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "nul";
    a_bare_cr_is_400: with("X-A: b\rX-B: c") => 400 "bare-cr";
    a_bare_lf_is_400: with("X-A: b\nX-B: c") => 400 "bare-lf";
    a_head_of_bare_lfs_is_400: "GET / HTTP/1.1\nHost: a\n\n" => 400 "bare-lf";
    a_delete_byte_in_a_value_is_400: with("X-A: \u{7f}") => 400 "control-byte";
    a_name_that_is_no_token_is_400: with("X(A): b") => 400 "field-name";
    a_line_without_a_colon_is_400: with("X-A") => 400 "field-name";
    a_method_that_is_no_token_is_400: "G@T / HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "method";
    two_spaces_in_the_request_line_are_400: "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "request-line";
    a_tab_in_the_request_line_is_400: "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "request-line";
    a_space_before_the_method_is_400: " GET / HTTP/1.1\r\nHost: a\r\n\r\n" => 400 "request-line";
    http_0_9_is_400: "GET /\r\n\r\n" => 400 "request-line";
    http_2_0_is_505: "GET / HTTP/2.0\r\nHost: a\r\n\r\n" => 505 "version";
    many_empty_lines_are_400: format!("\r\n\r\n\r\n{}", with("")) => 400 "empty-lines";
    a_connect_with_a_body_is_400:
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\n" => 400 "connect-body";
    a_large_head_is_431: with(&format!("X: {}", "x".repeat(16 * 1024))) => 431 "head-too-large";
    many_fields_are_431: with(&"X: y\r\n".repeat(100)) => 431 "too-many-fields";
    a_long_target_is_414:
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 * 1024)) => 414 "target-too-long";
    a_long_method_is_501: format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)) => 501 "method-too-long";
}

macro_rules! broken_off {
    ($($name:ident: $body:expr => $status:literal $rule:literal;)+) => {
        $(#[test] fn $name() { Gateway::breaks_off($body, $status, $rule); })+
    };
}

broken_off! {
    a_chunk_size_with_a_prefix_is_400: "0x5\r\nhello\r\n0\r\n\r\n" => 400 "chunk-size";
    a_chunk_size_with_a_sign_is_400: "+5\r\nhello\r\n0\r\n\r\n" => 400 "chunk-size";
    a_chunk_size_that_overflows_is_400: "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" => 400 "chunk-size";
    a_chunk_longer_than_its_size_is_400: "4\r\nhello\r\n0\r\n\r\n" => 400 "chunk-end";
    a_chunk_that_ends_with_a_bare_lf_is_400: "5\r\nhello\n0\r\n\r\n" => 400 "chunk-end";
    a_chunk_size_that_ends_with_a_bare_lf_is_400: "5\nhello\r\n0\r\n\r\n" => 400 "chunk-size";
    an_extension_with_a_bare_lf_is_400: "5;a\nhello\r\n0\r\n\r\n" => 400 "bare-lf";
    many_extensions_are_400: &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(16 * 1024)) => 400 "chunk-extension";
    a_length_as_trailer_field_is_400: "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n" => 400 "trailer-forbidden";
    a_coding_as_trailer_field_is_400: "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n" => 400 "trailer-forbidden";
    a_trailer_line_without_a_colon_is_400: "5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n" => 400 "field-name";
    large_trailers_are_431:
        &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(8 * 1024)) => 431 "trailers-too-large";
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_is_sent_on_as_the_host() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;

    client.send("GET http://right.example:8080/a HTTP/1.1\r\nHost: wrong.example\r\n\r\n").await;

    assert!(client.answer().await.unwrap().ends_with("ok"));
    let heard = gateway.heard().to_ascii_lowercase();
    assert!(heard.starts_with("get /a http/1.1\r\n"), "{heard}");
    assert_eq!(heard.matches("host:").count(), 1, "{heard}");
    assert!(heard.contains("\r\nhost: right.example:8080\r\n") && !heard.contains("wrong"), "{heard}");
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_get_may_have_a_body() {
    let gateway = Gateway::start().await;

    let mut old = gateway.client().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.answer().await.unwrap().starts_with("HTTP/1.0 200 "));
    let mut client = gateway.client().await;
    client.send("GET /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    assert!(client.answer().await.unwrap().ends_with("ok"));

    assert!(gateway.heard().ends_with("2\r\nhi\r\n0\r\n\r\n"), "{}", gateway.heard());
}

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_answered_first_and_one_after_it_is_not_read() {
    let log = Log::default();
    let gateway = Gateway::start_with(|server| log.on(server)).await;
    let mut client = gateway.client().await;
    let good = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");

    client.send(good("/1") + "GET /2 HTTP/1.1\r\n\r\n" + &good("/3")).await;

    assert!(client.answer().await.unwrap().ends_with("ok"));
    assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 400 "));
    client.closed().await;
    let heard = gateway.heard();
    assert!(heard.starts_with("GET /1 ") && !heard.contains("/2") && !heard.contains("/3"), "{heard}");
    log.until("BadRequest { violation: HostMissing").await;
    assert!(log.has("request: 2"));
}

#[tokio::test]
async fn clients_that_drip_their_heads_are_let_go_while_a_good_one_keeps_its_answers() {
    let time = ManualClock::new();
    let gateway = Gateway::start_with(|server| server.clock(time.clock())).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut client = gateway.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Drip: ").await;
        slow.push(client);
    }
    let mut good = gateway.client().await;

    for second in 0..9 {
        time.advance(Duration::from_secs(1));
        for client in &mut slow {
            client.send("x").await;
        }
        let answer = good.get("/good").await.unwrap();
        assert!(answer.ends_with("ok"), "after {second} s: {answer}");
    }
    let (answers, took) = while_time_passes(&time, async {
        let mut answers = Vec::new();
        for client in &mut slow {
            answers.push(client.answer().await.unwrap());
            client.closed().await;
        }
        answers
    })
    .await;

    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 408 ")), "{}", answers[0]);
    assert!(answers[0].contains("head-timeout"), "{}", answers[0]);
    assert!(took <= Duration::from_secs(10), "{took:?}");
    assert!(good.get("/good").await.unwrap().ends_with("ok"));
    assert!(!gateway.heard().to_ascii_lowercase().contains("drip"));
}

#[tokio::test]
async fn a_client_whose_body_stops_is_answered_with_408_and_the_upstream_gets_no_end() {
    let time = ManualClock::new();
    let gateway = Gateway::start_with(|server| server.clock(time.clock())).await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe").await;

    let (answer, took) = while_time_passes(&time, client.answer()).await;

    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-timeout"), "{answer}");
    assert!(took >= Duration::from_secs(30), "{took:?}");
    while_time_passes(&time, client.closed()).await;
    assert!(!gateway.heard().contains("0\r\n\r\n"));
}

#[tokio::test]
async fn a_head_without_end_is_refused_before_it_has_come() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;

    // Writing fails some time, when nobody reads any more; what was refused is there all the same.
    for _ in 0..64 {
        client.send([b'x'; 1024]).await;
        settle().await;
    }

    assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 431 "));
    assert_eq!(gateway.upstream.accepted(), 0);
}
