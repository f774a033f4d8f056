//! Gives every response a body that a refusal can be made of.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Turns `Response<B>` into `Response<Either<Full<Bytes>, B>>`, so that layers above can answer with bytes of their own.
///
/// Put it once at the bottom of a stack, directly above a service whose body is no
/// [`ReplyBody`](crate::body::ReplyBody): `hyper::body::Incoming`, say. The request, the error and `poll_ready` stay as
/// they are. `Either` has the error `Box<dyn Error + Send + Sync>`, which the body's own error turns into.
///
/// ```
/// # use std::convert::Infallible;
/// use buttress_http::LiftBodiesLayer;
/// use buttress_http::body::ReplyBody;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # #[derive(Clone)] struct Backend;
/// # impl Service<Request<()>> for Backend {
/// #     type Response = Response<Empty<bytes::Bytes>>;
/// #     type Error = Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> { Ok(()).into() }
/// #     fn call(&mut self, _: Request<()>) -> Self::Future { std::future::ready(Ok(Response::new(Empty::new()))) }
/// # }
/// fn answers<S, B>(_: S)
/// where
///     S: Service<Request<()>, Response = Response<B>>,
///     B: ReplyBody,
/// {
/// }
///
/// answers(LiftBodiesLayer::new().layer(Backend)); // `Empty` alone could not be answered with
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LiftBodiesLayer;

impl LiftBodiesLayer {
    /// Makes the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for LiftBodiesLayer {
    type Service = LiftBodies<S>;

    fn layer(&self, inner: S) -> LiftBodies<S> {
        LiftBodies::new(inner)
    }
}

/// The service of [`LiftBodiesLayer`].
#[derive(Clone, Copy, Debug)]
pub struct LiftBodies<S> {
    inner: S,
}

impl<S> LiftBodies<S> {
    /// Lifts the response bodies of `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, Req, B> Service<Req> for LiftBodies<S>
where
    S: Service<Req, Response = Response<B>>,
{
    type Response = Response<Either<Full<Bytes>, B>>;
    type Error = S::Error;
    type Future = LiftBodiesFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        LiftBodiesFuture { inner: self.inner.call(req) }
    }
}

/// The response future of [`LiftBodies`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct LiftBodiesFuture<F> {
    #[pin]
    inner: F,
}

impl<F, B, E> Future for LiftBodiesFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<Full<Bytes>, B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.project().inner.poll(cx));
        Poll::Ready(result.map(|response| response.map(Either::Right)))
    }
}

impl<F> fmt::Debug for LiftBodiesFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiftBodiesFuture").finish_non_exhaustive()
    }
}
