//! A service of which nobody knows what stands in it.
//!
//! What a route and an upstream consist of is said by the configuration, so a type that has a place for everything moves all
//! of it for each request, asked for or not: measured, that cost more than the proxy itself. Here a place that is not asked
//! for is not there; one box for the call and one for the body of its answer are the price.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress::OnCall;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Body;
use pin_project::pin_project;
use tower::{BoxError, Service};

/// The body of an answer.
pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// A body in its box.
pub(crate) fn boxed<B>(body: B) -> Answer
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A service for requests with bodies of type `B`. A clone is the same one.
pub(crate) struct Erased<B, E>(Arc<dyn Handle<B, E>>);

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Answer>, E>> + Send>>;

trait Handle<B, E>: Send + Sync {
    fn handle(&self, request: Request<B>) -> Answering<E>;
}

impl<B: Send + 'static, E: Send + 'static> Erased<B, E> {
    /// Boxes the bodies of its answers.
    pub(crate) fn new<S, A>(service: S) -> Self
    where
        S: Service<Request<B>, Response = Response<A>, Error = E, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
        A: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Arc::new(Boxing(service)))
    }

    /// Around a service whose answers are in boxes already.
    pub(crate) fn again<S>(service: S) -> Self
    where
        S: Service<Request<B>, Response = Response<Answer>, Error = E, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(Boxed(service)))
    }
}

impl<B, E> Clone for Erased<B, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B, E> Service<Request<B>> for Erased<B, E> {
    type Response = Response<Answer>;
    type Error = E;
    type Future = Answering<E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering<E> {
        self.0.handle(request)
    }
}

struct Boxed<S>(S);

impl<S, B, E> Handle<B, E> for Boxed<S>
where
    S: Service<Request<B>, Response = Response<Answer>, Error = E, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
    E: Send + 'static,
{
    fn handle(&self, request: Request<B>) -> Answering<E> {
        Box::pin(OnCall::new(self.0.clone()).call(request))
    }
}

struct Boxing<S>(S);

impl<S, A, B, E> Handle<B, E> for Boxing<S>
where
    S: Service<Request<B>, Response = Response<A>, Error = E, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    B: Send + 'static,
    E: Send + 'static,
{
    fn handle(&self, request: Request<B>) -> Answering<E> {
        Box::pin(BoxingFuture(OnCall::new(self.0.clone()).call(request)))
    }
}

#[pin_project]
struct BoxingFuture<F>(#[pin] F);

impl<F, A, E> Future for BoxingFuture<F>
where
    F: Future<Output = Result<Response<A>, E>>,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<Answer>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.project().0.poll(cx));
        Poll::Ready(answer.map(|answer| answer.map(boxed)))
    }
}
