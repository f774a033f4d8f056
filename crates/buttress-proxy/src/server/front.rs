//! Between hyper and the service.

use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use buttress_core::BoxError;
use buttress_http::Problem;
use buttress_http::reject::Form;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use pin_project::pin_project;

use super::reply::{Refusal, Reply};
use super::shared::{Exchange, Shared};
use super::stage::Stage;
use super::{Body, Handler};

/// The service of one connection.
pub(super) struct Front<S> {
    service: RefCell<S>,
    shared: Arc<Shared>,
}

impl<S> Front<S> {
    pub(super) fn new(service: S, shared: Arc<Shared>) -> Self {
        Self { service: RefCell::new(service), shared }
    }

    /// An error says in words why the request cannot be served.
    fn admit(&self, request: &mut Request<Incoming>) -> Result<(), Cow<'static, str>> {
        if self.shared.is_http2
            && let Some(what) = super::head::unclear(request)
        {
            return Err(what.into());
        }
        if self.shared.options.normalize_paths {
            match super::path::normalized(request.uri()) {
                Ok(None) => {}
                Ok(Some(uri)) => *request.uri_mut() = uri,
                Err(what) => {
                    return Err(format!("the path has {what}, which not every server reads alike").into());
                }
            }
        }
        Ok(())
    }
}

impl<S: Handler> hyper::service::Service<Request<Incoming>> for Front<S> {
    type Response = Response<Reply<S::Reply>>;
    type Error = BoxError;
    type Future = Answering<S>;

    fn call(&self, mut request: Request<Incoming>) -> Answering<S> {
        let exchange = self.shared.begin();
        if let Err(what) = self.admit(&mut request) {
            let refusal = Problem::new(StatusCode::BAD_REQUEST).with_detail(what).reply(Form::of(&request));
            return Answering {
                exchange: Some(exchange),
                close: false,
                state: State::Refused(Some(refusal)),
            };
        }
        let close = request.version() < Version::HTTP_2 && request.method() != Method::CONNECT;
        let mut request = request.map(|incoming| Body::new(incoming, &self.shared));
        self.shared.mark(request.extensions_mut());
        Answering { exchange: Some(exchange), close, state: State::of(&self.service, request) }
    }
}

/// The future of one answer.
#[pin_project]
pub(super) struct Answering<S: Handler> {
    exchange: Option<Exchange>,
    /// A drain is told to the client by `Connection: close`.
    close: bool,
    #[pin]
    state: State<S>,
}

#[pin_project(project = StateProj)]
enum State<S: Handler> {
    Waiting { service: S, request: Option<Request<Body>> },
    Called(#[pin] S::Future),
    Failed(Option<BoxError>),
    Refused(Option<Response<Refusal>>),
}

impl<S: Handler> State<S> {
    /// A service that is ready is called where it stands, without a clone. One that is not waits in the future, with
    /// what it has queued for; the connection goes on with a clone.
    fn of(service: &RefCell<S>, request: Request<Body>) -> Self {
        let mut service = service.borrow_mut();
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Called(service.call(request)),
            Poll::Ready(Err(error)) => Self::Failed(Some(error.into())),
            Poll::Pending => {
                let fresh = service.clone();
                Self::Waiting { service: std::mem::replace(&mut *service, fresh), request: Some(request) }
            }
        }
    }
}

impl<S: Handler> Future for Answering<S> {
    type Output = Result<Response<Reply<S::Reply>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = loop {
            match this.state.as_mut().project() {
                StateProj::Called(future) => break ready!(future.poll(cx)).map_err(Into::into)?,
                StateProj::Failed(error) => {
                    return Poll::Ready(Err(error.take().expect("a future is not polled after its end")));
                }
                StateProj::Refused(refusal) => {
                    let refusal = refusal.take().expect("a future is not polled after its end");
                    let exchange = this.exchange.take().expect("a future is not polled after its end");
                    return Poll::Ready(Ok(refusal.map(|body| Reply::refusal(body, exchange))));
                }
                StateProj::Waiting { service, request } => {
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    let request = request.take().expect("a service is called once");
                    let called = service.call(request);
                    this.state.set(State::Called(called));
                }
            }
        };
        let exchange = this.exchange.take().expect("a future is not polled after its end");
        let close = *this.close
            && exchange.shared().stage() != Stage::Serving
            && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        let mut response = response.map(|body| Reply::new(body, exchange));
        if close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
