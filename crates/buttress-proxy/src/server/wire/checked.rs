use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_http::body::ReplyBody;
use buttress_http::reject::Form;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use pin_project::pin_project;

use super::connection::Shared;
use super::{Connection, Violation};

/// Answers the requests that the [`Guard`](super::Guard) of its connection has refused, and calls the service inside
/// for the rest: a service of hyper's, as hyper's connections take them.
///
/// A violation is a problem (RFC 9457) with the status of its rule; a request whose body is refused is answered with it
/// where the service has not begun an answer, or has begun one that says that something is wrong.
#[derive(Clone, Debug)]
pub struct Checked<S> {
    inner: S,
    connection: Connection,
}

impl<S> Checked<S> {
    pub(super) const fn new(inner: S, connection: Connection) -> Self {
        Self { inner, connection }
    }
}

impl<S, B, R> Service<Request<B>> for Checked<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Response<CheckedBody<R>>;
    type Error = S::Error;
    type Future = CheckedFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let call = Call::begin(&self.connection.0, request.method());
        let refused = call.shared.fault(call.number).is_some_and(|fault| !fault.in_body);
        let inner = if refused { None } else { Some(self.inner.call(request)) };
        CheckedFuture { inner, call: Some(call) }
    }
}

/// A call under way.
struct Call {
    shared: Arc<Shared>,
    number: u64,
    form: Asked,
    asks: bool,
}

/// What of the method has to do with the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    Other,
}

impl Call {
    fn begin(shared: &Arc<Shared>, method: &Method) -> Self {
        let number = shared.begin();
        let form = match *method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        };
        Self { number, form, asks: shared.asks(number), shared: shared.clone() }
    }

    fn answer<R: Body<Data = Bytes>>(self, violation: Violation) -> Response<CheckedBody<R>> {
        let mut asked = Request::new(());
        if self.form == Asked::Head {
            *asked.method_mut() = Method::HEAD;
        }
        let answer = violation.problem().reply::<CheckedBody<R>>(Form::of(&asked));
        answer.map(|body| CheckedBody { call: Some(self), ..body })
    }

    /// The head of the answer is known.
    fn settle(&mut self, status: Option<StatusCode>) {
        if std::mem::take(&mut self.asks) {
            let upgraded = match status {
                Some(StatusCode::SWITCHING_PROTOCOLS) => true,
                Some(status) => self.form == Asked::Connect && status.is_success(),
                None => false,
            };
            self.shared.settle(self.number, upgraded);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.settle(None);
        self.shared.end();
    }
}

/// The future of [`Checked`].
///
/// # Cancel safety
///
/// Dropping it drops the call inside.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct CheckedFuture<F> {
    #[pin]
    inner: Option<F>,
    call: Option<Call>,
}

impl<F, R, E> Future for CheckedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<CheckedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.inner.as_pin_mut() {
            Some(inner) => Some(ready!(inner.poll(cx))),
            None => None,
        };
        let mut call = this.call.take().expect("a future is not polled after it has ended");
        let fault = call.shared.fault(call.number);
        let answer = match (answer, fault) {
            (Some(Ok(answer)), fault) => {
                let status = answer.status();
                match fault {
                    // What it says comes of what the guard has done.
                    Some(fault) if status.is_client_error() || status.is_server_error() => {
                        return Poll::Ready(Ok(call.answer(fault.violation)));
                    }
                    _ => answer,
                }
            }
            (_, Some(fault)) => return Poll::Ready(Ok(call.answer(fault.violation))),
            (Some(Err(error)), None) => return Poll::Ready(Err(error)),
            (None, None) => unreachable!("without a fault the service is called"),
        };
        call.settle(Some(answer.status()));
        Poll::Ready(Ok(answer.map(|body| CheckedBody { kind: Kind::Inner(body), call: Some(call) })))
    }
}

impl<F> fmt::Debug for CheckedFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedFuture").finish_non_exhaustive()
    }
}

/// The body of an answer of [`Checked`]: the inner service's, or a problem.
///
/// While it lives its connection is not idle.
#[pin_project]
pub struct CheckedBody<B> {
    #[pin]
    kind: Kind<B>,
    call: Option<Call>,
}

#[pin_project(project = KindProj)]
enum Kind<B> {
    Inner(#[pin] B),
    Reply(Bytes),
}

impl<B> ReplyBody for CheckedBody<B> {
    fn reply(bytes: Bytes) -> Self {
        Self { kind: Kind::Reply(bytes), call: None }
    }
}

impl<B: Body<Data = Bytes>> Body for CheckedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner(body) => body.poll_frame(cx),
            KindProj::Reply(bytes) if bytes.is_empty() => Poll::Ready(None),
            KindProj::Reply(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Reply(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner(body) => body.size_hint(),
            Kind::Reply(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl<B> fmt::Debug for CheckedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedBody").finish_non_exhaustive()
    }
}
