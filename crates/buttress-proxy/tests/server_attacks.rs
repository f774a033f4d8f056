//! Clients that mean harm, and a good client that keeps its answers meanwhile.
#![cfg(feature = "server")]

mod server_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_proxy::server::Body;
use http::Request;
use server_support::{AnyHandler, Client, Log, hello, local, start, text, while_time_passes};

const GOOD: [u8; 4] = [127, 0, 0, 2];

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let log = Log::default();
    let server = start(log.on(local().await).max_per_client(5), hello());
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(server.address()).await;
        client.get("/").await.unwrap();
        held.push(client);
    }

    for _ in 0..50 {
        Client::connect(server.address()).await.closed().await;
    }
    assert!(Client::from(GOOD.into(), server.address()).await.get("/").await.is_some());
    assert!(log.has("why: ClientConnections"));

    // A place is had again as soon as one is given back.
    drop(held.pop());
    while Client::connect(server.address()).await.try_get("/").await.is_none() {}
}

#[tokio::test]
async fn more_connections_than_are_allowed_wait_and_silent_ones_do_not_hold_them_up_for_long() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).max_connections(3).head_timeout(Duration::from_secs(10));
    let server = start(server, hello());
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Client::connect(server.address()).await);
    }

    let mut good = Client::from(GOOD.into(), server.address()).await;
    let (answer, took) = while_time_passes(&time, good.get("/")).await;

    assert!(answer.is_some());
    assert!(took >= Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn no_more_connections_are_accepted_than_the_rate_allows() {
    let time = ManualClock::new();
    let server = start(local().await.clock(time.clock()).accept_rate(1, 3), hello());
    for _ in 0..3 {
        Client::connect(server.address()).await.get("/").await.unwrap();
    }

    let mut next = Client::connect(server.address()).await;
    let (answer, took) = while_time_passes(&time, next.get("/")).await;

    assert!(answer.is_some());
    assert!(took > Duration::ZERO, "{took:?}");
}

#[cfg(feature = "http2")]
mod http2 {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `GET http://a/` in HPACK: three entries of the static table, and a literal authority.
    const GET: &[u8] = b"\x82\x84\x86\x41\x01a";

    fn get(stream: u32) -> Vec<u8> {
        frame(1, 0x5, stream, GET)
    }

    fn reset(stream: u32) -> Vec<u8> {
        frame(3, 0, stream, &8_u32.to_be_bytes())
    }

    /// An attacker that has said hello.
    async fn attacker(address: std::net::SocketAddr) -> Client {
        let mut client = Client::connect(address).await;
        client.send([PREFACE, &frame(4, 0, 0, &[])].concat()).await;
        client
    }

    /// Writes as long as the server takes it, and reads along; completes when the server has had enough.
    async fn flood(attacker: &mut Client, mut frames: impl FnMut(u32) -> Vec<u8>) {
        for number in 0.. {
            if attacker.try_send(&frames(number)).await.is_err() || attacker.try_more().await == Some(0) {
                return;
            }
        }
    }

    async fn good_client_is_served(address: std::net::SocketAddr) {
        let (mut client, _connection) = server_support::http2(address).await;
        let answer = client.send_request(server_support::http2_get("/")).await.unwrap();
        assert_eq!(server_support::whole(answer).await.0, 200);
    }

    /// Never answers; counts its calls and how many are under way.
    fn stuck(calls: &Arc<AtomicUsize>, open: &Arc<AtomicUsize>) -> impl AnyHandler {
        let (calls, open) = (Arc::clone(calls), Arc::clone(open));
        tower::service_fn(move |request: Request<Body>| {
            struct Open(Arc<AtomicUsize>);
            impl Drop for Open {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::Relaxed);
                }
            }
            calls.fetch_add(1, Ordering::Relaxed);
            open.fetch_add(1, Ordering::Relaxed);
            let open = Open(Arc::clone(&open));
            async move {
                // The good client's authority.
                if request.uri().host() != Some("a.example") {
                    std::future::pending::<()>().await;
                }
                drop(open);
                Ok::<_, std::convert::Infallible>(text("hello"))
            }
        })
    }

    #[tokio::test]
    async fn rapid_resets_end_the_connection_after_a_bounded_number_of_calls() {
        for at_once in [true, false] {
            let (calls, open) = (Arc::default(), Arc::default());
            let log = Log::default();
            let server = start(log.on(local().await).reset_rate(1, 200), stuck(&calls, &open));
            let mut bad = attacker(server.address()).await;

            flood(&mut bad, |number| {
                let stream = number * 2 + 1;
                match (at_once, number % 2) {
                    (true, _) => [get(stream), reset(stream)].concat(),
                    // The stream is with the service when its reset comes.
                    (false, 0) => get(stream),
                    (false, _) => reset(stream - 2),
                }
            })
            .await;

            good_client_is_served(server.address()).await;
            let calls = calls.load(Ordering::Relaxed);
            assert!(calls <= 500, "{calls} calls");
            log.until("Failed").await;
            while open.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn floods_of_frames_that_carry_nothing_end_the_connection() {
        let nothing: [(&str, Vec<u8>); 3] = [
            ("pings", frame(6, 0, 0, &[7; 8])),
            ("settings", frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])),
            ("priorities", frame(2, 0, 1, &[0, 0, 0, 3, 16])),
        ];
        for (what, frame) in nothing {
            let log = Log::default();
            let server = start(log.on(local().await).control_rate(1, 300), hello());
            let mut bad = attacker(server.address()).await;
            let mut sent = 0;

            flood(&mut bad, |_| {
                sent += 1;
                frame.clone()
            })
            .await;

            assert!(sent > 200, "{what}: {sent}");
            good_client_is_served(server.address()).await;
            log.until("too many control frames").await;
        }
    }

    #[tokio::test]
    async fn a_client_has_no_more_streams_than_it_may() {
        let (calls, open) = (Arc::default(), Arc::default());
        let server = start(local().await.max_streams(10), stuck(&calls, &open));
        let mut bad = attacker(server.address()).await;

        for number in 0..100 {
            bad.try_send(&get(number * 2 + 1)).await.unwrap();
        }
        good_client_is_served(server.address()).await;

        assert_eq!(open.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn a_header_list_that_is_too_large_is_refused_and_a_flood_of_continuations_ends_the_connection() {
        let server = start(local().await.max_head(4096), hello());

        // Some more than is allowed: an answer.
        let (mut client, _connection) = server_support::http2(server.address()).await;
        let mut request = server_support::http2_get("/");
        request.headers_mut().insert("x-large", "x".repeat(5000).parse().unwrap());
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 431);

        // A block without an end: no answer can be due.
        let mut bad = attacker(server.address()).await;
        bad.send(frame(1, 0x1, 1, GET)).await;
        // A literal field without indexing: name "x", value of 100 bytes.
        let field = [&b"\0\x01x\x64"[..], &[b'x'; 100]].concat();
        flood(&mut bad, |_| frame(9, 0, 1, &field)).await;

        good_client_is_served(server.address()).await;
    }

    #[tokio::test]
    async fn a_header_block_that_does_not_end_is_waited_for_as_long_as_a_head() {
        let time = ManualClock::new();
        let server = start(local().await.clock(time.clock()).head_timeout(Duration::from_secs(6)), hello());
        let mut slow = attacker(server.address()).await;
        slow.send(&frame(1, 0x5, 1, GET)[..11]).await;

        let ((), took) = while_time_passes(&time, slow.closed()).await;

        assert!(took >= Duration::from_secs(6), "{took:?}");
        good_client_is_served(server.address()).await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_a_goaway_does_not_hold_a_drain_up_to_its_end() {
        for hello_frame in [vec![], frame(4, 0, 0, &[])] {
            let time = ManualClock::new();
            let mut server = start(local().await.clock(time.clock()), hello());
            let mut silent = Client::connect(server.address()).await;
            silent.send([PREFACE, &hello_frame].concat()).await;
            good_client_is_served(server.address()).await;
            server.drain();
            let (ended, _) = while_time_passes(&time, server.ended()).await;
            assert_eq!(ended.cut, 0);
        }
    }
}
