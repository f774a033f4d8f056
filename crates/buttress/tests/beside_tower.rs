//! What the README says of Buttress beside tower's own layers: each test shows both.
#![cfg(all(feature = "rate-limit", feature = "timeout"))]

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::{Router, routing::get};
use buttress::{BoxError, Cause, Clock, RateLimitLayer, TimeoutLayer, reject};
use buttress_testkit::{ScriptedBody, StrictService, advance, poll_once};
use http_body_util::BodyExt;
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer as TowerRateLimitLayer};
use tower::timeout::TimeoutLayer as TowerTimeoutLayer;
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn to(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("the path is one")
}

async fn status(app: &Router, path: &str) -> StatusCode {
    app.clone().oneshot(to(path)).await.unwrap_or_else(|never| match never {}).status()
}

#[tokio::test]
async fn one_layer_is_one_budget_for_all_routes_where_towers_limit_is_one_for_each() {
    let ours = Router::new()
        .route("/a", get(|| async {}))
        .route("/b", get(|| async {}))
        .layer(RateLimitLayer::per_hour(1).on_reject(reject::respond()));

    assert_eq!(status(&ours, "/a").await, StatusCode::OK);
    assert_eq!(status(&ours, "/b").await, StatusCode::TOO_MANY_REQUESTS);

    let towers = Router::new()
        .route("/a", get(pending::<()>))
        .route("/b", get(|| async {}))
        .layer(ConcurrencyLimitLayer::new(1));
    let mut first = pin!(towers.clone().oneshot(to("/a")));
    assert!(poll_once(&mut first).is_pending(), "it holds the one permit");

    assert_eq!(status(&towers, "/b").await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_call_over_the_limit_is_refused_at_once_where_towers_limit_lets_it_wait() {
    let answer = || service_fn(|()| async { Ok::<_, BoxError>(()) });
    let mut ours = RateLimitLayer::per_hour(1).layer(answer());
    let mut towers = TowerRateLimitLayer::new(1, HOUR).layer(answer());
    ours.ready().await.expect("always").call(()).await.expect("it is the first");
    towers.ready().await.expect("the budget is fresh").call(()).await.expect("it is the first");

    let refused = ours.ready().await.expect("always").call(()).await;
    let waits = poll_once(&mut pin!(towers.ready())).is_pending();

    assert!(refused.expect_err("one an hour").rejection().is_some());
    assert!(waits);
}

#[tokio::test]
async fn an_idle_handle_that_was_readied_keeps_no_place_where_towers_limit_keeps_one() {
    let (inner, handle) = StrictService::<(), ()>::new(|()| ());

    let mut ours = RateLimitLayer::per_hour(1).layer(inner.clone());
    ours.ready().await.expect("always");
    assert_eq!(handle.reserved(), 0);

    let mut towers = ConcurrencyLimitLayer::new(1).layer(inner);
    towers.ready().await.expect("one permit is free");
    assert_eq!(handle.reserved(), 1);
    assert!(poll_once(&mut pin!(towers.clone().ready())).is_pending(), "and its permit is taken as well");
}

#[test]
fn a_layer_leaves_the_error_type_alone_where_towers_timeout_makes_it_a_box() {
    fn error_is<E, S: Service<Request<Body>, Error = E>>(_: S) {}
    let handler =
        || service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });

    error_is::<Infallible, _>(TimeoutLayer::head(SECOND).on_reject(reject::respond()).layer(handler()));
    error_is::<BoxError, _>(TowerTimeoutLayer::new(SECOND).layer(handler()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_ended_where_towers_timeout_is_over_at_the_head() {
    let stalls = || {
        service_fn(|_: Request<Body>| async {
            Ok::<_, BoxError>(Response::new(ScriptedBody::new().data("half").stall()))
        })
    };
    let idle = TimeoutLayer::idle(SECOND).clock(Clock::tokio());
    let ours = idle.layer(stalls()).oneshot(to("/")).await.expect("the head comes at once");
    let towers = TowerTimeoutLayer::new(SECOND).layer(stalls()).oneshot(to("/")).await.expect("so does this");

    let ours = tokio::spawn(ours.into_body().collect());
    let towers = tokio::spawn(towers.into_body().collect());
    advance(SECOND).await;
    advance(HOUR).await;

    assert!(ours.is_finished());
    assert!(ours.await.expect("it does not panic").is_err());
    assert!(!towers.is_finished());
    towers.abort();
}
