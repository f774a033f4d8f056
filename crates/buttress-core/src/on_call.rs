use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Readies the inner service inside `call`, so that the layer above decides first.
///
/// Every Buttress layer puts one of these below itself ([`Strict`] leaves it out). Its `poll_ready` is always
/// ready and touches nothing: a cache hit, an open breaker and a refusal need nothing of the inner service, a
/// handle that lies idle holds no one's permit, and a call that is shed keeps no place in a queue.
///
/// Its `call` polls the inner service once. When that is ready, the very same instance is called: no clone, no
/// allocation. When it is not, the polled instance moves into the future together with the request, a fresh
/// clone stays here, and the future readies and calls it.
///
/// # What it costs
///
/// - Back-pressure ends here: a `Buffer` or `tower::balance` above sees a service that is always ready. Where
///   they must see more, use the layer's `strict()` form.
/// - An error of the inner `poll_ready` comes out of the response future. `tower::balance` therefore does not
///   evict that endpoint; use `strict()` there as well.
/// - The inner service is `Clone`; put one that is not behind a `tower::buffer::Buffer`.
///
/// # Cancel safety
///
/// Dropping the future drops the instance that waits, and with it its place in the inner queue. A future that
/// waits and is neither polled nor dropped keeps that place, and so may hold up others.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnCall<S> {
    inner: S,
}

impl<S> OnCall<S> {
    /// Wraps `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Req> Service<Req> for OnCall<S>
where
    S: Service<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OnCallFuture<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let state = match self.inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => State::Called { future: self.inner.call(req) },
            Poll::Ready(Err(error)) => State::Failed { error: Some(error) },
            Poll::Pending => {
                let fresh = self.inner.clone();
                // The polled instance is the one with a place in the queue.
                let polled = mem::replace(&mut self.inner, fresh);
                State::Waiting { call: Some(Box::new((polled, req))) }
            }
        };
        OnCallFuture { state }
    }
}

/// The response future of [`OnCall`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct OnCallFuture<S, Req>
where
    S: Service<Req>,
{
    #[pin]
    state: State<S, Req, S::Future, S::Error>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, F, E> {
    Called {
        #[pin]
        future: F,
    },
    /// Apart, so that a call which does not wait does not make room for it.
    Waiting {
        call: Option<Box<(S, Req)>>,
    },
    Failed {
        error: Option<E>,
    },
}

impl<S, Req> Future for OnCallFuture<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::Called { future } => future.poll(cx),
            _ => state.go_on(cx),
        }
    }
}

impl<S, Req> State<S, Req, S::Future, S::Error>
where
    S: Service<Req>,
{
    /// Readies the service, if it is not called yet: apart, so that most calls do not make room for it.
    #[inline(never)]
    fn go_on(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        loop {
            match self.as_mut().project() {
                StateProj::Called { future } => return future.poll(cx),
                StateProj::Waiting { call } => {
                    let waiting = call.as_mut().expect("polled after it was ready");
                    ready!(waiting.0.poll_ready(cx))?;
                    let (mut service, req) = *call.take().expect("it was polled");
                    let future = service.call(req);
                    self.set(Self::Called { future });
                }
                StateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
            }
        }
    }
}

impl<S, Req> fmt::Debug for OnCallFuture<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Waiting { .. } => "waiting for the inner service",
            State::Failed { .. } => "failed",
        };
        f.debug_tuple("OnCallFuture").field(&state).finish()
    }
}

/// Puts a layer's own service around `inner`, and nothing else.
///
/// A layer crate implements this once; `Layer` (around [`OnCall`]) and [`Strict`] (around the bare inner
/// service) both follow from it.
pub trait Wrap<S> {
    /// The wrapped service.
    type Service;

    /// Wraps `inner`.
    fn wrap(&self, inner: S) -> Self::Service;
}

/// A layer in its strict form: `poll_ready` is the inner service's.
///
/// Back-pressure reaches `Buffer`, `tower::balance` and whoever else polls readiness. In exchange a refusal or
/// a hit waits until the inner service is ready, and a handle that was readied and then left idle holds what
/// the inner service reserved for it. Made by each layer's `strict()` method.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strict<L>(L);

impl<L> Strict<L> {
    /// Takes `layer` in its strict form.
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }

    /// The layer itself.
    pub const fn layer_ref(&self) -> &L {
        &self.0
    }
}

impl<S, L> Layer<S> for Strict<L>
where
    L: Wrap<S>,
{
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.wrap(inner)
    }
}
