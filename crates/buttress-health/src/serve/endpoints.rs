use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{OnCall, Strict, Wrap};
use buttress_http::Problem;
use buttress_http::body::ReplyBody;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::page::{Said, Style};
use super::paths::Paths;
use super::readiness::Waiting;
use crate::{HealthPage, Readiness};

/// Answers the probes of orchestrators and load balancers: a service of its own, or, by [`layer`](Self::layer), in front of
/// another.
///
/// | paths | 200 while | 503 while |
/// |---|---|---|
/// | `/livez`, `/health` | the process can answer | never |
/// | `/readyz`, `/ready` | requests should come here, if `degraded` | it starts, stops, or something critical fails |
/// | `/startupz` | it has started | it starts |
///
/// The answer is JSON: the status, the phase, and on readiness each check's state. With `?verbose` it is a line for each
/// check, as Kubernetes' own endpoints write it. It is never to be cached (`no-store`); to HEAD it has no body; other
/// methods are told 405, other paths 404. What a check's error says is left out unless [`with_errors`](Self::with_errors)
/// asks for it.
///
/// In axum it is a fallback, or a nested or single service:
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress_health::{HealthEndpoints, Readiness};
///
/// let readiness = Readiness::new();
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .fallback_service(HealthEndpoints::new(&readiness));
/// # let _ = app;
/// ```
///
/// Serve it beside the layers that limit and shed, not below them: a probe that is refused takes a busy instance out. Better
/// still is a port of its own that clients cannot reach.
#[derive(Clone, Debug)]
pub struct HealthEndpoints {
    readiness: Readiness,
    paths: Paths,
    errors: bool,
}

impl HealthEndpoints {
    /// Answers by this state, on the default paths.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        Self { readiness: readiness.clone(), paths: Paths::default(), errors: false }
    }

    /// Answers whether the process lives on these paths instead of `/livez` and `/health`; on none, if there are none.
    ///
    /// # Panics
    ///
    /// When one does not begin with `/`, holds more than a path, or is another page's.
    #[must_use]
    #[track_caller]
    pub fn live_at<P: AsRef<str>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.paths = self.paths.with(HealthPage::Live, paths);
        self
    }

    /// Answers whether the service is ready on these paths instead of `/readyz` and `/ready`; on none, if there are none.
    ///
    /// # Panics
    ///
    /// When one does not begin with `/`, holds more than a path, or is another page's.
    #[must_use]
    #[track_caller]
    pub fn ready_at<P: AsRef<str>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.paths = self.paths.with(HealthPage::Ready, paths);
        self
    }

    /// Answers whether the service has started on these paths instead of `/startupz`; on none, if there are none.
    ///
    /// # Panics
    ///
    /// When one does not begin with `/`, holds more than a path, or is another page's.
    #[must_use]
    #[track_caller]
    pub fn startup_at<P: AsRef<str>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.paths = self.paths.with(HealthPage::Startup, paths);
        self
    }

    /// Tells what the checks' errors say as well. Off unless asked for: they may name hosts and users, and clients may be
    /// able to read them. The observer is told them in any case.
    #[must_use]
    pub const fn with_errors(mut self) -> Self {
        self.errors = true;
        self
    }

    /// Answers these paths in front of another service, and passes everything else on to it, whatever its state.
    #[must_use]
    pub const fn layer(self) -> HealthEndpointsLayer {
        HealthEndpointsLayer(self)
    }

    /// The answer, where the request asks for one of the pages.
    fn answer<B, R: ReplyBody>(&self, request: &Request<B>) -> Option<HealthEndpointsFuture<R>> {
        let page = self.paths.page(request.uri().path())?;
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => {
                let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, request);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return Some(HealthEndpointsFuture::now(response));
            }
        };
        let style = Style::of_query(request.uri().query());
        let said = match page {
            HealthPage::Live | HealthPage::Startup => page.of_phase(&self.readiness, style),
            HealthPage::Ready => match self.readiness.ask() {
                Ok(report) => HealthPage::of_report(&report, self.errors, style),
                Err(report) => {
                    let wait = Wait { report, errors: self.errors, style, head };
                    return Some(HealthEndpointsFuture { state: State::Wait(wait) });
                }
            },
        };
        Some(HealthEndpointsFuture::now(respond(said, head)))
    }
}

fn problem<B, R: ReplyBody>(status: StatusCode, request: &Request<B>) -> Response<R> {
    Problem::new(status).reply(buttress_http::reject::Form::of(request))
}

fn respond<R: ReplyBody>(Said { status, style, text }: Said, head: bool) -> Response<R> {
    let length = text.len();
    let mut response = Response::new(R::reply(if head { Bytes::new() } else { text }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(style.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

impl<B> Service<Request<B>> for HealthEndpoints {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = HealthEndpointsFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.answer(&request)
            .unwrap_or_else(|| HealthEndpointsFuture::now(problem(StatusCode::NOT_FOUND, &request)))
    }
}

/// The response future of [`HealthEndpoints`].
///
/// # Cancel safety
///
/// Dropped, it leaves the checks that it has begun to their tasks: they end within their timeouts, and what they find is
/// kept for the next probe.
#[must_use = "futures do nothing unless polled"]
pub struct HealthEndpointsFuture<R = Full<Bytes>> {
    state: State<R>,
}

enum State<R> {
    Now(Option<Response<R>>),
    Wait(Wait),
}

struct Wait {
    report: Waiting,
    errors: bool,
    style: Style,
    head: bool,
}

impl<R> HealthEndpointsFuture<R> {
    const fn now(response: Response<R>) -> Self {
        Self { state: State::Now(Some(response)) }
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Response<R>>
    where
        R: ReplyBody,
    {
        match &mut self.state {
            State::Now(response) => Poll::Ready(response.take().expect("polled after it was ready")),
            State::Wait(Wait { report, errors, style, head }) => {
                let report = ready!(report.as_mut().poll(cx));
                let response = respond(HealthPage::of_report(&report, *errors, *style), *head);
                self.state = State::Now(None);
                Poll::Ready(response)
            }
        }
    }
}

// Nothing in it is pinned: the wait is in a box.
impl<R> Unpin for HealthEndpointsFuture<R> {}

impl<R: ReplyBody> Future for HealthEndpointsFuture<R> {
    type Output = Result<Response<R>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_response(cx).map(Ok)
    }
}

impl<R> fmt::Debug for HealthEndpointsFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Now(_) => "now",
            State::Wait(_) => "wait",
        };
        f.debug_tuple("HealthEndpointsFuture").field(&state).finish()
    }
}

/// Answers probes in front of another service: made by [`HealthEndpoints::layer`].
///
/// Put it on the outside of a stack, so that limits and timeouts below do not concern probes. The response's body must be
/// one that can be made of bytes ([`ReplyBody`]).
#[derive(Clone, Debug)]
pub struct HealthEndpointsLayer(HealthEndpoints);

impl HealthEndpointsLayer {
    /// Lets `poll_ready` be the inner service's, see [`Strict`]. A probe then waits for the inner service too, and
    /// leaves it ready for the next call.
    #[must_use]
    pub const fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S> Wrap<S> for HealthEndpointsLayer {
    type Service = WithHealthEndpoints<S>;

    fn wrap(&self, inner: S) -> Self::Service {
        WithHealthEndpoints { inner, endpoints: self.0.clone() }
    }
}

impl<S> Layer<S> for HealthEndpointsLayer {
    type Service = WithHealthEndpoints<OnCall<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

/// The service of [`HealthEndpointsLayer`].
#[derive(Clone, Debug)]
pub struct WithHealthEndpoints<S> {
    inner: S,
    endpoints: HealthEndpoints,
}

impl<S> WithHealthEndpoints<S> {
    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, B, R> Service<Request<B>> for WithHealthEndpoints<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: ReplyBody,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = WithHealthEndpointsFuture<S::Future, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.endpoints.answer(&request) {
            Some(ours) => WithHealthEndpointsFuture { who: Who::Endpoints { ours } },
            None => WithHealthEndpointsFuture { who: Who::Inner { inner: self.inner.call(request) } },
        }
    }
}

/// The response future of [`WithHealthEndpoints`].
///
/// # Cancel safety
///
/// That of the inner future, and of [`HealthEndpointsFuture`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct WithHealthEndpointsFuture<F, R> {
    #[pin]
    who: Who<F, R>,
}

#[pin_project(project = WhoProj)]
enum Who<F, R> {
    Endpoints {
        ours: HealthEndpointsFuture<R>,
    },
    Inner {
        #[pin]
        inner: F,
    },
}

impl<F, R, E> Future for WithHealthEndpointsFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: ReplyBody,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().who.project() {
            WhoProj::Endpoints { ours } => ours.poll_response(cx).map(Ok),
            WhoProj::Inner { inner } => inner.poll(cx),
        }
    }
}

impl<F, R> fmt::Debug for WithHealthEndpointsFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.who {
            Who::Endpoints { .. } => "endpoints",
            Who::Inner { .. } => "inner",
        };
        f.debug_tuple("WithHealthEndpointsFuture").field(&who).finish()
    }
}
