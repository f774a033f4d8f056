//! What docs/design.md says of the libraries around us, as far as a decision rests on it.
#![cfg(all(feature = "rate-limit", feature = "timeout"))]

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use buttress::{BoxError, Facts, HasFacts, RateLimitLayer, TimeoutLayer, reject};
use buttress_testkit::{allocations, poll_once, settle};
use futures_util::FutureExt;
use http::Request;
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// What one call of this router allocates, the request aside.
fn of_a_call(router: Router) -> u64 {
    let mut router = router.into_service::<Body>();
    let mut call = || {
        let request = Request::get("/").body(Body::empty()).expect("it is one");
        allocations(|| drop(router.call(request).now_or_never().expect("nothing waits")))
    };
    for _ in 0..3 {
        call();
    }
    call()
}

#[test]
fn each_router_layer_costs_axum_allocations_and_one_service_builder_costs_them_once() {
    let router = || Router::new().route("/", get(|| async { "hello" }));
    // It allocates nothing for a call that is answered at once.
    let layer = || TimeoutLayer::head(Duration::from_secs(1)).on_reject(reject::respond());

    let bare = of_a_call(router());
    let one = of_a_call(router().layer(layer()));
    let three = of_a_call(router().layer(layer()).layer(layer()).layer(layer()));
    let stacked =
        of_a_call(router().layer(ServiceBuilder::new().layer(layer()).layer(layer()).layer(layer())));

    println!("bare {bare}, one layer {one}, three {three}, three in one ServiceBuilder {stacked}");
    assert!(bare < one);
    assert!(stacked <= one + 1, "{stacked} is what one layer costs");
    assert!(three >= bare + 2 * (one - bare) + 2, "{three} is about three times {one} - {bare}");
}

#[test]
fn a_request_that_is_tried_once_carries_no_facts_and_the_first_of_them_cost_allocations() {
    let mut request = Request::new(());
    assert_eq!(allocations(|| request.facts().is_some()), 0);

    let first = allocations(|| request.extensions_mut().insert(1_u8));
    let next = allocations(|| request.extensions_mut().insert(1_u16));

    println!("the first extension {first}, the next {next}");
    assert!(first > next && next > 0);
    assert_eq!(request.extensions().get::<Facts>(), None);
}

/// How many of a thousand calls a `Buffer` of 4 takes over this service, which answers none.
async fn taken<S>(service: S) -> usize
where
    S: Service<(), Response = (), Error = BoxError, Future: Send> + Send + 'static,
{
    let buffer = Buffer::new(service, 4);
    let mut calls = Vec::new();
    for _ in 0..1000 {
        let mut handle = buffer.clone();
        settle().await;
        if poll_once(&mut pin!(handle.ready())).is_pending() {
            break;
        }
        calls.push(tokio::spawn(handle.call(())));
    }
    calls.len()
}

#[tokio::test(start_paused = true)]
async fn back_pressure_reaches_a_buffer_through_the_strict_form_alone() {
    // One call at a time, and none is ever answered.
    let inner = || ConcurrencyLimit::new(service_fn(|()| pending::<Result<(), BoxError>>()), 1);
    let limit = RateLimitLayer::per_second(1_000_000);

    assert_eq!(taken(limit.clone().layer(inner())).await, 1000);
    // One is below, one is in the hands of the buffer's worker, and four wait.
    assert_eq!(taken(limit.strict().layer(inner())).await, 6);
}
