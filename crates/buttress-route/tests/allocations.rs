//! What a call allocates: nothing to find the route, and the extension to tell of it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_route::{Route, Router, key};
use buttress_testkit::{Task, allocations};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

#[derive(Clone)]
struct Empty;

impl<B> Service<Request<B>> for Empty {
    type Response = (Response<Full<Bytes>>, Request<B>);
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        unreachable!("only looked up")
    }
}

/// Of some size, as a stack is: a box of nothing would allocate nothing.
#[derive(Clone)]
struct Answers(#[expect(dead_code, reason = "it is there for its size")] u64);

impl Service<Request<()>> for Answers {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

fn many<S: Clone>(service: &S) -> Router<S> {
    let mut builder = Router::builder();
    for number in 0..1000 {
        builder = builder
            .route(Route::get(format!("/r{number}/{{a}}/x/{{b}}/{{c}}/{{d}}/{{e}}")), service.clone())
            .route(Route::get(format!("/r{number}/a/{{*rest}}")).host("*.example.com"), service.clone());
    }
    builder
        .route(Route::get("/c").header("x", "1").query("q", "a b").cookie("k", "v"), service.clone())
        .build()
        .unwrap()
}

fn requests() -> Vec<Request<()>> {
    let get = |uri: &'static str| Request::get(http::Uri::from_static(uri));
    let mut with_conditions =
        get("/c?z=1&q=a+%62").header("x", "1").header("cookie", "a=b; k=v").body(()).unwrap();
    with_conditions.extensions_mut().insert(());
    vec![
        get("http://a.b.example.com/r7/a/%61%62/c").body(()).unwrap(),
        // Two ways that lead nowhere come first, and what is encoded is decoded.
        get("http://a.example.com:80/r%37/a/x/%62/c/d/e").body(()).unwrap(),
        with_conditions,
    ]
}

#[test]
fn a_lookup_allocates_nothing() {
    let router = many(&Empty);

    for request in requests() {
        assert!(router.find(&request).is_some());
        assert_eq!(allocations(|| router.find(&request)), 0, "{}", request.uri());
    }
}

#[test]
fn a_call_allocates_the_extension_alone() {
    let router = many(&Answers(0));

    for mut request in requests() {
        // The first extension of a request costs the map as well.
        request.extensions_mut().insert(());
        let mut extended = Request::new(());
        extended.extensions_mut().insert(());
        let matched = router.find(&request).unwrap();
        let insert = allocations(|| extended.extensions_mut().insert(matched));
        let mut router = router.clone();

        let called = allocations(|| {
            let call = router.call(request);
            let mut call = std::pin::pin!(call);
            assert!(call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
        });
        assert_eq!(insert, 1);
        assert_eq!(called, insert);
    }
}

#[test]
fn a_key_allocates_nothing_unless_something_is_decoded() {
    let router = many(&Answers(0));
    let by = (key::template(), key::param("a"));
    let keyed = |uri: &'static str| {
        let mut request = Request::get(http::Uri::from_static(uri)).body(()).unwrap();
        let matched = router.find(&request).unwrap();
        request.extensions_mut().insert(matched);
        allocations(|| {
            let mut sink = buttress_core::HashSink::new();
            assert!(buttress_core::Key::key(&by, &request, &mut sink));
            sink.finish()
        })
    };
    let _ = keyed("/r1/a/x/b/c/d/e");

    assert_eq!(keyed("/r1/a/x/b/c/d/e"), 0);
    assert_eq!(keyed("/r1/%61/x/b/c/d/e"), 1);
}

#[test]
fn a_clone_of_a_router_allocates_nothing() {
    let mut router = many(&Answers(0));

    assert_eq!(allocations(|| router.clone()), 0);
    let mut call = Task::new(router.call(Request::get("/c").body(()).unwrap()));
    assert!(call.run().is_ready());
}

/// What one call of a router that leads to `fallback` allocates.
fn of_a_call<S>(router: Router<S>) -> u64
where
    S: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone,
{
    let mut router = router;
    let request = Request::new(());
    allocations(|| {
        let call = std::pin::pin!(router.call(request));
        assert!(call.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
    })
}

#[test]
fn a_boxed_service_costs_two_allocations_and_another_one_none() {
    let plain = Router::builder().fallback(Answers(0)).build().unwrap();
    let boxed = Router::boxed().fallback(Answers(0)).build().unwrap();

    assert_eq!(of_a_call(plain), 0);
    assert_eq!(of_a_call(boxed), 2);
}
