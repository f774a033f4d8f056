//! One layer, everywhere: each file puts the same `RateLimitLayer` on what its name says, and runs it; and one file puts
//! a `CircuitBreakerLayer` on all of them, one a `RetryLayer` on what is called, and one the presets.

#![cfg(all(
    feature = "circuit-breaker",
    feature = "rate-limit",
    feature = "presets",
    feature = "retry",
    feature = "axum",
    feature = "tonic",
    feature = "reqwest"
))]

mod at_end;
mod axum_router;
mod box_error;
mod circuit_breaker;
mod hyper_server;
mod own_error;
mod presets;
mod reqwest_client;
mod retry;
mod tonic_channel;
mod tonic_server;

use std::net::{Ipv4Addr, SocketAddr};

use buttress::{ManualClock, RateLimitLayer};
use tokio::net::TcpListener;

/// A limit that lets `n` calls pass, and one more after each second that its clock is told has gone by.
fn limit(n: u64) -> (RateLimitLayer, ManualClock) {
    let time = ManualClock::new();
    (RateLimitLayer::per_second(1).burst(n).clock(time.clock()), time)
}

/// A free port on the loopback interface.
async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A plain web server, without any layer of ours; `/echo` gives back the body, and `/` says hello.
async fn plain_server() -> SocketAddr {
    let (listener, address) = listen().await;
    let router = axum::Router::new()
        .route("/", axum::routing::get(|| async { "hello" }))
        .route("/echo", axum::routing::post(|body: String| async move { body }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
