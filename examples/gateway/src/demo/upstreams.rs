//! Four small services that know nothing of the gateway: one is slow in places, one flaky.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use buttress::Clock;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json as value};

/// JSON with a line's end, for whoever looks at it in a terminal.
fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

const NAMES: [&str; 3] = ["Ada", "Grace", "Edsger"];

pub(super) fn users() -> Router {
    let user = |id: usize| NAMES.get(id.wrapping_sub(1)).map(|name| value!({ "id": id, "name": name }));
    let one =
        move |Path(id): Path<usize>| async move { user(id).as_ref().map(json).ok_or(StatusCode::NOT_FOUND) };
    Router::new()
        .route("/users", get(move || async move { json(&(1..=NAMES.len()).filter_map(user).collect()) }))
        .route("/users/{id}", get(one))
        .route("/users/upload", put(upload))
}

pub(super) fn orders() -> Router {
    Router::new()
        .route("/orders", get(|| async { json(&value!([{ "id": 1, "user": 2, "total": "12.50" }])) }))
        .route("/orders/slow", get(slow))
        .route("/orders/stream", get(lines))
}

pub(super) fn payments() -> Router {
    Router::new()
        .route("/payments", get(|| async { json(&value!([{ "id": 1, "order": 1, "state": "paid" }])) }))
        .route("/payments/receipts", get(|| async { json(&value!([{ "payment": 1, "sent": true }])) }))
}

pub(super) fn flaky() -> Router {
    let calls = Arc::new(AtomicUsize::new(0));
    Router::new()
        .route("/flaky", get(move || std::future::ready(now_and_then(&calls))))
        .route("/flaky/down", get(|| async { try_again() }))
}

/// Counts what is sent and keeps none of it.
async fn upload(mut body: Body) -> Result<Response, StatusCode> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        bytes += frame.data_ref().map_or(0, |data| data.len());
    }
    Ok(json(&value!({ "bytes": bytes })))
}

/// Longer than the route's head timeout.
async fn slow() -> &'static str {
    Clock::default().sleep(Duration::from_secs(5)).await;
    "at last\n"
}

/// Five lines of JSON, one every 300 ms.
async fn lines() -> Response {
    let lines = stream::unfold(1, |line| async move {
        if line > 1 {
            Clock::default().sleep(Duration::from_millis(300)).await;
        }
        (line <= 5).then(|| (Ok::<_, Infallible>(format!("{{\"line\":{line}}}\n")), line + 1))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Every third call fails. A call says which one it was.
fn now_and_then(calls: &AtomicUsize) -> Response {
    let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
    if call.is_multiple_of(3) { try_again() } else { json(&value!({ "charged": true, "call": call })) }
}

fn try_again() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, json(&value!({ "error": "try again" }))).into_response()
}
