//! A gibibyte each way: every byte in its place, and little of it held.

use std::{convert::Infallible, net::SocketAddr, sync::LazyLock};

use axum::{
    Router,
    body::Body,
    routing::{get, put},
};
use buttress::Chance;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::Client;

use crate::support::{Gateway, soon, upstream};

const GIB: u64 = 1 << 30;
const PIECE: usize = 64 * 1024;
/// How much more than with nothing to do may be resident, in KiB.
const MORE: u64 = 6 * 1024;

/// What the bodies repeat. Its length has nothing in common with that of a buffer, so that a piece that is lost, doubled or in
/// another's place shows.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let chance = Chance::new(Some(7));
    (0..(1 << 17) + 1).flat_map(|_| chance.draw().to_le_bytes()).take((1 << 20) + 7).collect()
});

/// The piece of a body that stands at `at`.
fn piece(at: u64, most: usize) -> Bytes {
    let from = usize::try_from(at % PATTERN.len() as u64).expect("below the pattern's length");
    PATTERN.slice(from..PATTERN.len().min(from + most))
}

fn body(length: u64) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(0, move |at| async move {
        let left = usize::try_from(length - at).expect("a machine of 64 bits");
        let piece = piece(at, PIECE.min(left));
        (!piece.is_empty()).then(|| (Ok(piece.clone()), at + piece.len() as u64))
    })
}

/// Reads it all; how many bytes it had until the first that is wrong, or until its end.
async fn right<E>(body: impl Stream<Item = Result<Bytes, E>>) -> u64 {
    let mut body = std::pin::pin!(body);
    let mut at = 0;
    while let Some(Ok(chunk)) = body.next().await {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let expected = piece(at, rest.len());
            let (here, more) = rest.split_at(expected.len());
            if here != expected {
                return at;
            }
            at += here.len() as u64;
            rest = more;
        }
    }
    at
}

async fn store() -> SocketAddr {
    let up = async |sent: Body| right(sent.into_data_stream()).await.to_string();
    let service = Router::new()
        .route("/down", get(|| async { Body::from_stream(body(GIB)) }))
        .route("/up", put(up))
        .route("/small", get(|| async { "small" }));
    upstream(service).await
}

/// A gibibyte down and one up, and the most that the gateway held meanwhile.
async fn through(name: &str, client: Client) {
    let gateway = Gateway::in_front_of(name, store().await, "").await;
    for _ in 0..4 {
        client.get(gateway.url("/small")).send().await.unwrap().bytes().await.unwrap();
    }
    let idle = gateway.reset_peak_kib();

    let answer = soon("the head", client.get(gateway.url("/down")).send()).await.unwrap();
    assert_eq!(right(answer.bytes_stream()).await, GIB, "down");
    let sent = reqwest::Body::wrap_stream(body(GIB));
    let answer = client.put(gateway.url("/up")).body(sent).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), GIB.to_string(), "up");

    let Some(idle) = idle else {
        eprintln!("SKIPPED: no /proc here to read the peak of the resident memory from");
        return;
    };
    let peak = gateway.peak_kib().expect("readable a moment ago");
    eprintln!("idle {idle} KiB, peak {peak} KiB");
    assert!(peak <= idle + MORE, "idle {idle} KiB, at its peak {peak} KiB");
}

#[tokio::test]
async fn a_gibibyte_down_and_one_up_arrive_whole_and_are_not_held() {
    through("gib", Client::new()).await;
}

#[tokio::test]
async fn over_http_2_a_gibibyte_down_and_one_up_arrive_whole_and_are_not_held() {
    let client = Client::builder().http2_prior_knowledge().http2_adaptive_window(false);
    // Windows as browsers have them, so that the time goes into bytes and not into waits for a window.
    let client =
        client.http2_initial_stream_window_size(1 << 21).http2_initial_connection_window_size(1 << 22);
    through("gib-h2", client.build().unwrap()).await;
}
