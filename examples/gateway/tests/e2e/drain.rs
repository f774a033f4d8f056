//! How it stops.

use std::sync::Arc;

use axum::{Router, routing::get};
use reqwest::{Client, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use crate::support::{Gateway, soon, until, upstream};

/// A gateway with one request in flight, which ends when `release` is told.
struct InFlight {
    gateway: Gateway,
    request: JoinHandle<reqwest::Result<Response>>,
    release: Arc<Notify>,
}

async fn in_flight(name: &str, client: Client) -> InFlight {
    in_flight_with(name, client, "").await
}

/// `top` goes to the top of the configuration.
async fn in_flight_with(name: &str, client: Client, top: &str) -> InFlight {
    let (arrived, mut has_arrived) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let service = Router::new().fallback(get(async move || {
        arrived.send(()).expect("the test waits");
        held.notified().await;
        "finished"
    }));
    let upstream = upstream(service).await;
    let config = format!(
        "{top}\nupstream = [{{ name = 'it', url = 'http://{upstream}' }}]\nroute = [{{ path = '/', upstream = 'it' }}]"
    );
    let gateway = Gateway::with(name, &config).await;
    let request = tokio::spawn(client.get(gateway.url("/")).send());
    soon("the request at the upstream", has_arrived.recv()).await.expect("arrives");
    InFlight { gateway, request, release }
}

async fn refuses_connections(gateway: &Gateway) {
    until("connections refused", async || TcpStream::connect(gateway.address).await.is_err()).await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_new_connections_are_refused() {
    for signal in ["INT", "TERM"] {
        let mut says_close = false;
        for attempt in 0..5 {
            let InFlight { gateway, request, release } =
                in_flight(&format!("drain-{signal}-{attempt}"), Client::new()).await;

            gateway.signal(signal);
            refuses_connections(&gateway).await;
            release.notify_one();

            let answer = soon("the answer", request).await.unwrap().unwrap();
            assert_eq!(answer.status(), 200);
            says_close = answer.headers().get("connection").is_some_and(|value| value == "close");
            assert_eq!(answer.text().await.unwrap(), "finished");
            let (status, notes) = gateway.ended().await;
            assert_eq!(status.code(), Some(0), "{notes}");
            assert!(notes.contains("draining"), "{notes}");
            // On a busy machine the answer may overtake the word of the drain: then the next one tells.
            if says_close {
                break;
            }
        }
        assert!(says_close, "an answer in the drain closes its connection");
    }
}

#[tokio::test]
async fn an_http_2_request_in_flight_is_finished_too() {
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let InFlight { gateway, request, release } = in_flight("drain-h2", client).await;

    gateway.signal("INT");
    refuses_connections(&gateway).await;
    release.notify_one();

    assert_eq!(soon("the answer", request).await.unwrap().unwrap().text().await.unwrap(), "finished");
    assert_eq!(gateway.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_with_130() {
    let InFlight { gateway, request, release: _ } = in_flight("second", Client::new()).await;

    gateway.signal("INT");
    refuses_connections(&gateway).await;
    gateway.signal("INT");

    assert_eq!(gateway.ended().await.0.code(), Some(130));
    assert!(soon("the broken request", request).await.unwrap().is_err());
}

#[tokio::test]
async fn a_drain_that_takes_too_long_cuts_off_what_is_left_and_exits_0() {
    let InFlight { gateway, request, release: _ } =
        in_flight_with("too-long", Client::new(), "drain = '200ms'").await;

    gateway.signal("TERM");

    let (status, notes) = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{notes}");
    assert!(notes.contains("at most 200ms") && notes.contains("cut off"), "{notes}");
    assert!(soon("the broken request", request).await.unwrap().is_err());
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_drain_up() {
    let gateway = Gateway::demo().await;
    let http1 = Client::new();
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [&http1, &http2] {
        let answer = client.get(gateway.url("/users/1")).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("Ada"));
    }
    let _silent = TcpStream::connect(gateway.address).await.unwrap();

    gateway.signal("INT");

    let (status, notes) = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{notes}");
    assert!(!notes.contains("cut off"), "{notes}");
}

#[tokio::test]
async fn requests_that_the_kernel_has_taken_when_the_signal_comes_are_answered() {
    let gateway = Gateway::demo().await;
    let mut clients = Vec::new();

    // While it sleeps, the kernel accepts for it.
    gateway.signal("STOP");
    for _ in 0..32 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(b"GET /users/1 HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    gateway.signal("TERM");
    gateway.signal("CONT");

    for mut client in clients {
        let mut answer = String::new();
        soon("the answer", client.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Ada"), "{answer:?}");
    }
    let (status, notes) = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{notes}");
}
