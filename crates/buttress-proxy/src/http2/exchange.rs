use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};

use buttress_core::{BoxError, Timestamp};
use h2::client::ResponseFuture;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request};
use http_body::Body;
use sync_wrapper::SyncWrapper;
use tokio::task::AbortHandle;

use super::Answer;
use super::answer::{content_length, kind_of, never_processed};
use super::head::to_http2;
use super::multiplexer::Place;
use super::upload::Upload;
use crate::body::RequestBody;
use crate::connection::{Checkout, Connection, Failure, Home, Lease, Sent};
use crate::pool::Pool;
use crate::received::Received;
use crate::{Address, Error, ErrorKind};

/// One call on an HTTP/2 connection. Dropping it before its end resets its stream, and no other.
pub(crate) struct Exchange<B> {
    answer: Option<ResponseFuture>,
    sending: SyncWrapper<Sending<B>>,
    /// Carries what is left of the request's body once the head of the answer is there.
    rest: Option<AbortHandle>,
    /// How often the connection had written and read when the call began.
    writes: u64,
    reads: u64,
    over: bool,
    pool: Weak<Pool<B>>,
    place: Place,
}

struct Sending<B> {
    upload: Option<Pin<Box<Upload<B>>>>,
    /// The request, where it can be begun once more: it has no body.
    whole: Option<Request<RequestBody<B>>>,
    failed: Option<Failure<B>>,
}

// Nothing in it is pinned but what is in a box.
impl<B> Unpin for Exchange<B> {}

impl<B> Exchange<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    pub(crate) fn checkout(place: Place, pool: Weak<Pool<B>>) -> Checkout<B> {
        Box::pin(Self {
            answer: None,
            sending: SyncWrapper::new(Sending { upload: None, whole: None, failed: None }),
            rest: None,
            writes: 0,
            reads: 0,
            over: true,
            pool,
            place,
        })
    }

    /// Opens the stream; why that could not be, and the request, where it is still whole.
    fn open(&mut self, mut request: Request<RequestBody<B>>) -> Option<Failure<B>> {
        let closed = |error| Error::unsent(ErrorKind::Closed, error);
        if let Err(error) = self.place.ready() {
            return Some(Failure { request: Some(request), error: closed(error) });
        }
        let ended = request.body().is_end_stream();
        let length = match content_length(request.headers()) {
            Some(length) => Some(length),
            None => declare_length(&mut request),
        };
        let upstream = self.pool.upgrade().map(|pool| pool.host().clone());
        let upstream = upstream.unwrap_or_else(|| HeaderValue::from_static("localhost"));
        let head = match to_http2(&mut request, self.place.scheme(), &upstream, ended) {
            Ok(head) => head,
            Err(unusable) => {
                return Some(Failure { request: None, error: unusable.request() });
            }
        };
        self.writes = self.place.link().writes();
        self.reads = self.place.link().reads();
        let (answer, stream) = match self.place.open(head, ended) {
            Ok(opened) => opened,
            Err(error) => return Some(Failure { request: ended.then_some(request), error: closed(error) }),
        };
        self.answer = Some(answer);
        self.over = false;
        let sending = self.sending.get_mut();
        if ended {
            sending.whole = Some(request);
        } else {
            sending.upload = Some(Box::pin(Upload::new(stream, request.into_body(), length)));
        }
        None
    }

    fn fail(&mut self, error: h2::Error) -> Failure<B> {
        let kind = kind_of(&error);
        let unwritten = self.place.link().writes() == self.writes;
        if !unwritten && !never_processed(&error) {
            return Failure { request: None, error: Error::new(kind, error) };
        }
        // The connection was dead, or about to go: another one will do. An upstream that refuses is to be asked less.
        let again = kind != ErrorKind::Refused;
        let request = if again { self.sending.get_mut().whole.take() } else { None };
        Failure { request, error: Error::unsent(kind, error) }
    }
}

/// Tells the upstream the length of a body that knows it.
fn declare_length<B: Body>(request: &mut Request<B>) -> Option<u64> {
    let length = request.body().size_hint().exact().filter(|&length| length > 0)?;
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Some(length)
}

impl<B> Connection<B> for Exchange<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn begin(self: Pin<&mut Self>, request: Request<RequestBody<B>>) {
        let this = self.get_mut();
        let failed = this.open(request);
        this.sending.get_mut().failed = failed;
    }

    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent<B>> {
        let this = self.get_mut();
        let sending = this.sending.get_mut();
        if let Some(failure) = sending.failed.take() {
            return Poll::Ready(Err(failure));
        }
        if let Some(upload) = &mut sending.upload
            && let Poll::Ready(sent) = upload.as_mut().poll(cx)
        {
            sending.upload = None;
            if let Err(error) = sent {
                this.over = true;
                let unwritten = this.place.link().writes() == this.writes;
                let error = match unwritten {
                    true => Error::unsent(ErrorKind::RequestBody, error),
                    false => Error::new(ErrorKind::RequestBody, error),
                };
                return Poll::Ready(Err(Failure { request: None, error }));
            }
        }
        let answer = this.answer.as_mut().expect("a request has begun");
        let answered = ready!(Pin::new(answer).poll(cx));
        this.answer = None;
        Poll::Ready(match answered {
            Ok(response) => {
                let sending = this.sending.get_mut();
                sending.whole = None;
                if let Some(upload) = sending.upload.take() {
                    // The answer may be read late, or be waited for by who still sends.
                    let rest = tokio::spawn(async move { drop(upload.await) });
                    this.rest = Some(rest.abort_handle());
                }
                let (head, stream) = response.into_parts();
                let body = Received::Http2(Answer::new(stream, &head.headers));
                Ok(http::Response::from_parts(head, body))
            }
            Err(error) => {
                this.over = true;
                Err(this.fail(error))
            }
        })
    }
}

impl<B> Lease for Exchange<B>
where
    B: Send + 'static,
{
    fn is_ready(&self) -> bool {
        true
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn upstream(&self) -> Option<Address> {
        self.pool.upgrade().map(|pool| pool.address().clone())
    }

    fn until(&self) -> Timestamp {
        Timestamp::MAX
    }

    fn home(&self) -> Home {
        self.place.home()
    }

    fn idle_since(&self, _: Timestamp) {}

    fn check_in(mut self: Pin<Box<Self>>) {
        // The call is over with its answer: what the upstream has not asked for of the request is not sent.
        self.over = true;
    }
}

impl<B> Drop for Exchange<B> {
    fn drop(&mut self) {
        if let Some(rest) = &self.rest {
            rest.abort();
        }
        if !self.over {
            self.place.given_up(self.reads);
        }
    }
}
