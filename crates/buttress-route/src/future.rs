use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::OnCallFuture;
use buttress_http::body::ReplyBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use crate::PeekBody;
use crate::body::Peeked;
use crate::policy::Json;
use crate::router::Shared;

/// The response future of [`Router`](crate::Router).
///
/// # Cancel safety
///
/// Dropped, it drops the call of the route's service, and with it its place in that service's queue.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RouterFuture<S, Req>
where
    S: Service<Req>,
{
    #[pin]
    state: State<OnCallFuture<S, Req>, S::Response>,
}

#[pin_project(project = StateProj)]
enum State<F, Res> {
    Called {
        #[pin]
        future: F,
    },
    /// The router's own answer.
    Now { response: Option<Res> },
}

impl<S: Service<Req>, Req> RouterFuture<S, Req> {
    #[inline]
    pub(crate) const fn called(future: OnCallFuture<S, Req>) -> Self {
        Self { state: State::Called { future } }
    }

    pub(crate) const fn now(response: S::Response) -> Self {
        Self { state: State::Now { response: Some(response) } }
    }
}

impl<S: Service<Req>, Req> Future for RouterFuture<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => future.poll(cx),
            StateProj::Now { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for RouterFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Now { .. } => "answered",
        };
        f.debug_tuple("RouterFuture").field(&state).finish()
    }
}

/// The response future of a [`Router`](crate::Router) that looks into bodies.
///
/// # Cancel safety
///
/// Dropped, it drops the request with what was read of it, or the call of the route's service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ReadFuture<S, B>
where
    S: Service<Request<PeekBody<B>>>,
    B: Body,
{
    #[pin]
    state: ReadState<S, B, RouterFuture<S, Request<PeekBody<B>>>>,
}

#[pin_project(project = ReadStateProj)]
enum ReadState<S, B: Body, F> {
    /// Apart, so that a call which reads nothing does not make room for it.
    Reading { call: Option<Box<(Arc<Shared<S>>, Request<PeekBody<B>>)>> },
    Called {
        #[pin]
        future: F,
    },
}

impl<S, B> ReadFuture<S, B>
where
    S: Service<Request<PeekBody<B>>>,
    B: Body,
{
    pub(crate) fn read(router: Arc<Shared<S>>, request: Request<PeekBody<B>>) -> Self {
        Self { state: ReadState::Reading { call: Some(Box::new((router, request))) } }
    }

    #[inline]
    pub(crate) const fn called(future: RouterFuture<S, Request<PeekBody<B>>>) -> Self {
        Self { state: ReadState::Called { future } }
    }
}

impl<S, B, R> Future for ReadFuture<S, B>
where
    S: Service<Request<PeekBody<B>>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes> + Unpin,
    R: ReplyBody,
{
    type Output = Result<Response<R>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                ReadStateProj::Called { future } => return future.poll(cx),
                ReadStateProj::Reading { call } => {
                    let reading = call.as_mut().expect("polled after it was ready");
                    let peeked = ready!(reading.1.body_mut().poll_peek(cx));
                    let (router, request) = *call.take().expect("it was read");
                    let json = match peeked {
                        Peeked::Whole => request.body().to_json(),
                        Peeked::Part => None,
                    };
                    let choice = router.choose(&request, json.as_ref().map_or(Json::None, Json::Is));
                    let future = router.answer(request, choice);
                    state.set(ReadState::Called { future });
                }
            }
        }
    }
}

impl<S, B> fmt::Debug for ReadFuture<S, B>
where
    S: Service<Request<PeekBody<B>>>,
    B: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            ReadState::Reading { .. } => "reading the body",
            ReadState::Called { .. } => "called",
        };
        f.debug_tuple("ReadFuture").field(&state).finish()
    }
}
