//! What a call takes from the allocator: nothing where it is not tried again, else a clone of its head.
#![cfg(feature = "http")]

use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{BoxError, HasFacts, ManualClock};
use buttress_retry::{Backoff, Budget, ReplayBody, RetryLayer};
use buttress_testkit::allocations;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service};

/// Answers at once, after it has read the body, with the status that the request asks for.
#[derive(Clone)]
struct Upstream;

impl Service<Request<ReplayBody<Full<Bytes>>>> for Upstream {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
        let mut response = Response::new(());
        let retried = req.facts().is_some_and(|facts| facts.attempt > 1);
        if !retried && let Some(status) = req.extensions().get() {
            *response.status_mut() = *status;
        }
        let mut body = pin!(req.into_body());
        while let Poll::Ready(Some(frame)) = pin!(body.frame()).poll(&mut Context::from_waker(Waker::noop()))
        {
            drop(frame);
        }
        ready(Ok(response))
    }
}

fn layer() -> RetryLayer {
    RetryLayer::default()
        .clock(ManualClock::new().clock())
        .budget(Budget::unlimited())
        .backoff(Backoff::constant(Duration::ZERO))
}

/// What one call takes, the request not counted.
fn taken(layer: &RetryLayer, request: impl Fn() -> Request<Full<Bytes>>) -> u64 {
    let mut service = layer.layer(Upstream);
    let mut call = |request| {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(service.poll_ready(cx).is_ready());
        assert!(pin!(service.call(request)).poll(cx).is_ready());
    };
    call(request());
    let request = request();
    allocations(|| call(request))
}

fn get() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/a/path?and=more");
    request
}

fn fields(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    for (name, value) in [("accept", "*/*"), ("user-agent", "a test"), ("x-request-id", "7")] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

fn extended(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    request.extensions_mut().insert(7_u64);
    request
}

fn with_body(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.body_mut() = Full::from("a body");
    request
}

/// What a clone of the head takes: of its fields and of its extensions.
fn clone_of_the_head(request: &Request<Full<Bytes>>) -> u64 {
    allocations(|| (request.headers().clone(), request.extensions().clone()))
}

#[test]
fn a_request_that_is_not_tried_again_takes_nothing() {
    let full = || with_body(extended(fields(get())));
    let connect = || {
        let mut request = full();
        *request.method_mut() = Method::CONNECT;
        request
    };
    let upgrade = || {
        let mut request = full();
        request.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        request
    };
    let marked = || {
        let mut request = full();
        request.facts_mut().unwrap().no_retry = true;
        request
    };

    assert_eq!(taken(&layer().attempts(1), full), 0);
    assert_eq!(taken(&layer(), connect), 0);
    assert_eq!(taken(&layer(), upgrade), 0);
    assert_eq!(taken(&layer(), marked), 0);
    assert_eq!(taken(&layer().replay_limit(5), full), 0, "a body that is too large");
}

#[test]
fn a_bare_get_takes_nothing() {
    assert_eq!(taken(&layer(), get), 0);
}

#[test]
fn a_path_of_its_own_that_nobody_has_cloned_before_takes_one() {
    let of = |uri: &'static str| {
        move || {
            let mut request = get();
            *request.uri_mut() = http::Uri::try_from(uri.to_owned()).unwrap();
            request
        }
    };

    assert_eq!(taken(&layer(), of("/a/path?and=more")), 1);
    assert_eq!(
        taken(&layer(), of("http://upstream.test/a/path?and=more")),
        0,
        "its parts share their memory"
    );
}

#[test]
fn a_request_without_a_body_takes_a_clone_of_its_head_and_no_more() {
    let makes: [fn() -> Request<Full<Bytes>>; 3] =
        [|| fields(get()), || extended(get()), || extended(fields(get()))];
    for make in makes {
        let head = clone_of_the_head(&make());
        assert!(head > 0);
        assert_eq!(taken(&layer(), make), head);
    }
}

#[test]
fn a_body_takes_one_more_which_its_attempts_share() {
    let make = || with_body(fields(get()));

    assert_eq!(taken(&layer(), make), clone_of_the_head(&make()) + 1);
}

#[test]
fn a_body_in_several_frames_takes_a_list_as_well() {
    use http_body::{Body, Frame};

    /// So many frames of one byte.
    struct Many(usize);

    impl Body for Many {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    /// What one call takes with a body of so many frames, when it may be tried so often.
    fn of_frames(attempts: u32, frames: usize) -> u64 {
        let read = tower::service_fn(|request: Request<_>| {
            let body: ReplayBody<Many> = request.into_body();
            let mut body = pin!(body);
            while let Poll::Ready(Some(frame)) =
                body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()))
            {
                drop(frame);
            }
            ready(Ok::<_, BoxError>(Response::new(())))
        });
        let mut service = layer().attempts(attempts).layer(read);
        let request = Request::put("/").body(Many(frames)).unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        allocations(|| {
            assert!(service.poll_ready(cx).is_ready());
            assert!(pin!(service.call(request)).poll(cx).is_ready());
        })
    }

    let more = |frames| of_frames(3, frames) - of_frames(1, frames);
    assert_eq!([1, 2, 5].map(more), [1, 2, 2]);
    assert_eq!(more(64), 1 + 5, "the list grows as one does: 4, 8, 16, 32, 64");
}

#[test]
fn timeouts_take_nothing_more() {
    let second = Duration::from_secs(1);
    let mut service = layer().overall(3 * second).per_try_timeout(second).layer(Lifted);
    let mut call = || {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(service.poll_ready(cx).is_ready());
        assert!(pin!(service.call(get())).poll(cx).is_ready());
    };
    call();

    assert_eq!(allocations(call), 0);
}

/// As above; what a `BoxError` carries is made only where there is one.
#[derive(Clone)]
struct Lifted;

impl Service<Request<ReplayBody<Full<Bytes>>>> for Lifted {
    type Response = Response<()>;
    type Error = buttress_core::Error<std::io::Error>;
    type Future = Ready<Result<Response<()>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}
