//! One broken layer for each way to spoil a response body: the suite names the point.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use buttress_testkit::{BoxError, Contract, Http, Point, Report, Subject};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// What the layer does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    LosesTrailers,
    LosesTheSize,
    PromisesTooMuch,
    ForgetsTheEnd,
    EndsEarly,
    SwallowsErrors,
    KeepsAfterTheHead,
    KeepsMidBody,
    KeepsUntilTheDrop,
    KeepsWhenItPanics,
    KnowsTheFirstTask,
}

/// Holds one place for each call until its body is over.
#[derive(Clone)]
struct Places {
    fault: Fault,
    held: Arc<AtomicUsize>,
}

fn places(fault: Fault) -> Contract<impl Subject<Http>, Http> {
    Contract::http(move || Places { fault, held: Arc::default() })
        .held(|layer| layer.held.load(Ordering::Acquire))
}

impl<S> Layer<S> for Places {
    type Service = PlacesService<S>;

    fn layer(&self, inner: S) -> PlacesService<S> {
        PlacesService { inner, places: self.clone() }
    }
}

#[derive(Clone)]
struct PlacesService<S> {
    inner: S,
    places: Places,
}

impl<S, B, R> Service<Request<R>> for PlacesService<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<Guarded<B>>;
    type Error = S::Error;
    type Future = GuardedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<R>) -> Self::Future {
        self.places.held.fetch_add(1, Ordering::AcqRel);
        let place = Place {
            places: self.places.clone(),
            headed: false,
            frames: 0,
            over: false,
            panicked: false,
            kept: true,
        };
        GuardedFuture { inner: self.inner.call(req), place: Some(place) }
    }
}

struct Place {
    places: Places,
    headed: bool,
    frames: usize,
    over: bool,
    panicked: bool,
    kept: bool,
}

impl Place {
    fn give_back(&mut self) {
        if std::mem::take(&mut self.kept) {
            self.places.held.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn over(&mut self) {
        self.over = true;
        if self.places.fault != Fault::KeepsUntilTheDrop {
            self.give_back();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let leaks = match self.places.fault {
            Fault::KeepsAfterTheHead => self.headed && self.frames == 0 && !self.over,
            Fault::KeepsMidBody => self.frames > 0 && !self.over && !self.panicked,
            Fault::KeepsWhenItPanics => self.panicked,
            _ => false,
        };
        if !leaks {
            self.give_back();
        }
    }
}

#[pin_project]
struct GuardedFuture<F> {
    #[pin]
    inner: F,
    place: Option<Place>,
}

impl<F, B, E> Future for GuardedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Guarded<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let mut place = this.place.take().expect("polled once after it was ready");
        place.headed = true;
        Poll::Ready(match answer {
            Ok(response) => Ok(response.map(|inner| {
                if inner.is_end_stream() {
                    place.over();
                }
                Guarded { inner, place, first: None }
            })),
            Err(error) => {
                place.over();
                Err(error)
            }
        })
    }
}

#[pin_project]
struct Guarded<B> {
    #[pin]
    inner: B,
    place: Place,
    first: Option<Waker>,
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for Guarded<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        this.place.panicked = true;
        let frame = match this.place.places.fault {
            Fault::KnowsTheFirstTask => {
                let waker = this.first.get_or_insert_with(|| cx.waker().clone()).clone();
                this.inner.as_mut().poll_frame(&mut Context::from_waker(&waker))
            }
            _ => this.inner.as_mut().poll_frame(cx),
        };
        this.place.panicked = false;
        let frame = ready!(frame);
        *this.first = None;
        this.place.frames += 1;
        if this.inner.is_end_stream() || matches!(frame, None | Some(Err(_))) {
            this.place.over();
        }
        Poll::Ready(match (this.place.places.fault, frame) {
            (Fault::LosesTrailers, Some(Ok(frame))) if frame.is_trailers() => None,
            (Fault::SwallowsErrors, Some(Err(_))) => None,
            (_, frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self.place.places.fault {
            Fault::ForgetsTheEnd => false,
            Fault::EndsEarly => self.place.frames > 0,
            _ => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.place.places.fault {
            Fault::LosesTheSize => SizeHint::default(),
            Fault::PromisesTooMuch => SizeHint::with_exact(1 + self.inner.size_hint().lower()),
            _ => self.inner.size_hint(),
        }
    }
}

#[track_caller]
fn finds(point: Point, fault: Fault) -> Report {
    let report = places(fault).check();
    assert!(report.breaks(point), "{fault:?} is not found:\n{report}");
    for failure in &report.failures {
        assert_eq!(failure.point, point, "{report}");
    }
    report
}

#[test]
fn a_body_that_keeps_all_passes() {
    places(Fault::Nothing).run();
}

#[test]
fn lost_trailers_are_found() {
    finds(Point::BodyEnd, Fault::LosesTrailers);
}

#[test]
fn a_lost_or_wrong_size_hint_is_found() {
    finds(Point::BodyEnd, Fault::LosesTheSize);
    let report = finds(Point::BodyEnd, Fault::PromisesTooMuch);

    assert!(report.to_string().contains("size_hint of a body"), "{report}");
}

#[test]
fn a_forgotten_or_early_end_of_stream_is_found() {
    let report = places(Fault::ForgetsTheEnd).check();
    assert!(report.breaks(Point::BodyEnd), "{report}");

    finds(Point::BodyEnd, Fault::EndsEarly);
}

#[test]
fn a_swallowed_body_error_is_found() {
    finds(Point::BodyEnd, Fault::SwallowsErrors);
}

#[test]
fn a_place_kept_when_the_body_is_dropped_unread_is_found() {
    let report = finds(Point::Cancel, Fault::KeepsAfterTheHead);

    assert!(report.to_string().contains("dropped with their body unread"), "{report}");
}

#[test]
fn a_place_kept_when_the_body_is_dropped_half_read_is_found() {
    let report = finds(Point::Cancel, Fault::KeepsMidBody);

    assert!(report.to_string().contains("dropped half read"), "{report}");
}

#[test]
fn a_place_kept_after_the_last_frame_is_found() {
    let report = finds(Point::BodyEnd, Fault::KeepsUntilTheDrop);

    assert!(report.to_string().contains("before it is dropped"), "{report}");
}

#[test]
fn a_place_kept_when_the_body_panics_is_found() {
    finds(Point::Panic, Fault::KeepsWhenItPanics);
}

#[test]
fn a_body_that_wakes_only_its_first_task_is_found() {
    finds(Point::Wakes, Fault::KnowsTheFirstTask);
}
