//! The contract of every layer, for a router whose routes all lead to the suite's service.

use std::convert::Infallible;

use buttress_core::{BoxError, OnCall};
use buttress_route::{
    Fixed, Heads, JsonBodies, Matched, PeekBody, ReadFuture, Redirect, Route, Router, RouterFuture,
};
use buttress_testkit::{
    Contract, Point, ScriptedBody, StrictService, Task, assert_send, assert_send_sync_clone_unpin,
};
use http::{Request, Response};
use tower::Service;
use tower::util::{BoxCloneSyncService, MapRequest};
use tower_layer::layer_fn;

/// What the extension costs: the map, its table, and the value in it.
const EXTENSION: u64 = 3;
const CLONES: &str =
    "the router clones the service of the one route that is called, so that its own clones are cheap";

fn routed<S: Clone>(inner: S) -> Router<S> {
    Router::builder()
        .route(Route::any("/{number}"), inner.clone())
        .route(Route::any("/never").header("x-never", "1"), inner.clone())
        .fallback(inner)
        .build()
        .unwrap()
}

#[test]
fn a_router_keeps_the_contract() {
    Contract::http(|| layer_fn(routed))
        .allocations(EXTENSION)
        .exempt(Point::Instance, CLONES)
        .refuses("two routes that take the same", || {
            Router::builder().route(Route::any("/a"), ()).route(Route::any("/a"), ()).build().unwrap()
        })
        .run();
}

#[test]
fn a_fallback_keeps_the_contract_and_costs_no_allocation() {
    let only = |inner| Router::builder().fallback(inner).build().unwrap();

    Contract::http(move || layer_fn(only)).exempt(Point::Instance, CLONES).run();
}

type Unwrap = fn(Request<PeekBody<ScriptedBody>>) -> Request<ScriptedBody>;

/// The suite's service takes bodies as they were; of these none is JSON.
fn reading<S: Clone>(inner: S) -> Router<MapRequest<S, Unwrap>, JsonBodies> {
    let unwrap: Unwrap = |request| request.map(|_| ScriptedBody::new());
    let inner = MapRequest::new(inner, unwrap);
    Router::builder()
        .json_bodies()
        .route(Route::any("/{number}").json("/a", 1), inner.clone())
        .route(Route::any("/{number}"), inner)
        .build()
        .unwrap()
}

#[test]
fn a_router_that_looks_into_bodies_keeps_the_contract() {
    // Two of these make the scripted body.
    Contract::http(|| layer_fn(reading)).allocations(EXTENSION + 2).exempt(Point::Instance, CLONES).run();
}

#[test]
fn the_instance_that_is_readied_is_called_and_a_ready_one_is_cloned_once() {
    let (service, handle) =
        StrictService::<_, _, BoxError>::new(|_: Request<()>| Response::new(ScriptedBody::new()));
    let mut router: Router<_> = Router::builder().route(Route::any("/"), service).build().unwrap();

    for _ in 0..8 {
        let before = handle.clones();
        let mut call = Task::new(router.call(Request::new(())));
        assert!(call.run().is_ready());
        assert_eq!(handle.clones() - before, 1);
    }

    handle.not_ready();
    let mut call = Task::new(router.call(Request::new(())));
    assert!(call.run().is_pending());
    handle.grant();
    assert!(call.is_woken());
    assert!(call.run().is_ready());
    assert_eq!(handle.reserved(), 0);
}

#[test]
fn the_types_are_send_and_sync() {
    type Inner = BoxCloneSyncService<Request<()>, Response<ScriptedBody>, Infallible>;
    type Peeking = BoxCloneSyncService<Request<PeekBody<ScriptedBody>>, Response<ScriptedBody>, Infallible>;
    assert_send_sync_clone_unpin::<Router<OnCall<Inner>, Heads>>();
    assert_send_sync_clone_unpin::<Router<Peeking, JsonBodies>>();
    assert_send_sync_clone_unpin::<(Matched, Redirect, Fixed)>();
    assert_send::<RouterFuture<Inner, Request<()>>>();
    assert_send::<ReadFuture<Peeking, ScriptedBody>>();
}
