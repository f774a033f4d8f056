//! What does it take to find a route, beside axum's router and bare matchit, and how does that grow with their number?
//!
//! A lookup is one that gives the template and the parameter: of ours [`Router::find`]. A whole call is from the request to the
//! answer of a service that answers at once, with the extension; requests are made before the clock starts.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_route::{Route, Router};
use bytes::Bytes;
use http::{Request, Response, Uri};
use tower::Service;

mod race;
use race::{Ask, Races, time, times};

const BATCH: usize = 256;
const PATHS: usize = 16_384;

/// Answers at once.
#[derive(Clone, Copy)]
struct Hello;

impl<B> Service<Request<B>> for Hello {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(axum::body::Body::empty())))
    }
}

fn template(number: usize) -> String {
    format!("/api/resource{number}/items/{{id}}")
}

fn ours(routes: usize) -> Router<Hello> {
    let builder = (0..routes)
        .fold(Router::builder(), |builder, number| builder.route(Route::any(template(number)), Hello));
    builder.build().expect("each route has a path of its own")
}

fn matchit(routes: usize) -> matchit::Router<usize> {
    let mut router = matchit::Router::new();
    for number in 0..routes {
        router.insert(template(number), number).expect("each route has a path of its own");
    }
    router
}

fn axum(routes: usize) -> axum::Router {
    (0..routes).fold(axum::Router::new(), |router, number| router.route_service(&template(number), Hello))
}

/// Paths of many routes, in an order that no cache foresees: as many for all sides, so that they cost the same to look at.
fn uris(routes: usize) -> Vec<Uri> {
    // A step that has no factor in common with the number of routes visits all.
    let uri = |at: usize| format!("/api/resource{}/items/{at}", at.wrapping_mul(7919) % routes);
    (0..PATHS)
        .map(|at| Uri::from_maybe_shared(Bytes::from(uri(at))).expect("it is a path"))
        .map(shared)
        .collect()
}

/// The first copy makes the bytes shared, as a server's are from the start: each later one is a reference count.
fn shared(uri: Uri) -> Uri {
    drop(uri.clone());
    uri
}

fn requests(routes: usize) -> Vec<Request<()>> {
    let request = |uri: Uri| {
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        request
    };
    uris(routes).into_iter().map(request).collect()
}

fn find(routes: usize) -> impl FnMut(u64) -> Duration {
    let (router, requests) = (ours(routes), requests(routes));
    move |count| times(count, |i| router.find(&requests[i as usize % requests.len()]).is_some())
}

fn at(routes: usize) -> impl FnMut(u64) -> Duration {
    let (router, uris) = (matchit(routes), uris(routes));
    move |count| times(count, |i| router.at(uris[i as usize % uris.len()].path()).is_ok())
}

/// How long `count` calls take, each on a clone of the service, as a server makes them.
fn calls<S, B>(service: S, routes: usize, body: fn() -> B) -> impl FnMut(u64) -> Duration
where
    S: Service<Request<B>, Response = Response<axum::body::Body>, Error = Infallible> + Clone,
{
    let uris = uris(routes);
    let mut next = 0;
    move |count| {
        let mut spent = Duration::ZERO;
        for _ in 0..count as usize / BATCH {
            let batch: Vec<_> = (0..BATCH).map(|at| &uris[(next + at) % uris.len()]).collect();
            next += BATCH;
            let requests: Vec<_> = batch
                .into_iter()
                .map(|uri| {
                    let mut request = Request::new(body());
                    *request.uri_mut() = uri.clone();
                    request
                })
                .collect();
            spent += time(|| {
                for request in requests {
                    let call = std::pin::pin!(service.clone().call(request));
                    let answer = call.poll(&mut Context::from_waker(Waker::noop()));
                    assert!(black_box(answer).is_ready());
                }
            });
        }
        spent
    }
}

fn main() {
    let ask = Ask::from_args();
    let many = if ask.test { 1000 } else { 100_000 };
    let races = Races::new(ask);

    races.row("100 000 routes", "ours with 10", Some(4.0), 100_000, find(many), find(10));
    races.row("1 000 routes", "ours with 10", None, 100_000, find(1000), find(10));
    races.row("find: 10 routes", "bare matchit", None, 100_000, find(10), at(10));
    races.row("find: 1 000 routes", "bare matchit", None, 100_000, find(1000), at(1000));
    races.row("find: 100 000 routes", "bare matchit", None, 100_000, find(many), at(many));
    let body = axum::body::Body::empty;
    races.row("call: 10 routes", "axum", None, 16_384, calls(ours(10), 10, body), calls(axum(10), 10, body));
    races.row(
        "call: 1 000 routes",
        "axum",
        None,
        16_384,
        calls(ours(1000), 1000, body),
        calls(axum(1000), 1000, body),
    );
}
