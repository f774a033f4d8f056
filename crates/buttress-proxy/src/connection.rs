use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use buttress_core::{BoxError, Timestamp};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use pin_project::pin_project;
use sync_wrapper::SyncWrapper;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::body::RequestBody;
use crate::io::Link;
use crate::pool::Pool;
use crate::received::Received;
use crate::{Address, Error, ErrorKind};

pub(crate) type Sent<B> = Result<Response<Received>, Failure<B>>;

/// Why there is no answer.
pub(crate) struct Failure<B> {
    /// The request, where it is still whole: none of it was taken.
    pub(crate) request: Option<Request<RequestBody<B>>>,
    pub(crate) error: Error,
}

/// What hyper's future for the answer of an HTTP/1.1 connection gives.
type Answer<B> = Result<Response<Incoming>, TrySendError<Request<RequestBody<B>>>>;

/// One connection to the upstream, and the request that is under way on it.
///
/// It is one box for its whole life: hyper's future for the answer has no name, so it lies in a slot in here, and
/// a call on a pooled connection boxes nothing. Dropping it closes the socket at once.
pub(crate) trait Connection<B>: Lease {
    /// Hands the request to the task that drives the socket.
    fn begin(self: Pin<&mut Self>, request: Request<RequestBody<B>>);

    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent<B>>;
}

/// What the body of an answer needs of the connection, whatever body the request had.
pub(crate) trait Lease: Send + Sync {
    fn is_ready(&self) -> bool;

    fn is_closed(&self) -> bool;

    fn upstream(&self) -> Option<Address>;

    /// From when on it takes no more requests.
    fn until(&self) -> Timestamp;

    /// Whose calls it serves.
    fn home(&self) -> Home;

    /// Tells the task that drives the socket from when on it is idle.
    fn idle_since(&self, since: Timestamp);

    /// Gives the connection back to its pool once the answer has been read to its end; where the request has not
    /// been sent to its end, the connection is closed.
    fn check_in(self: Pin<Box<Self>>);
}

pub(crate) type Checkout<B> = Pin<Box<dyn Connection<B>>>;

#[pin_project]
struct Slot<B, F, M> {
    sender: SendRequest<RequestBody<B>>,
    send: M,
    #[pin]
    answer: SyncWrapper<Option<F>>,
    link: Arc<Link>,
    until: Timestamp,
    pool: Weak<Pool<B>>,
    // Dropped in this order: the task is told to close the socket before its place is free.
    driver: Driver,
    permit: Permit,
}

/// What belongs to a connection, whatever is spoken over it.
pub(crate) struct Held<B> {
    pub(crate) link: Arc<Link>,
    pub(crate) until: Timestamp,
    pub(crate) pool: Weak<Pool<B>>,
    pub(crate) driver: Driver,
    pub(crate) permit: Permit,
}

pub(crate) fn connection<B>(sender: SendRequest<RequestBody<B>>, held: Held<B>) -> Checkout<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    slot(sender, |sender: &mut SendRequest<_>, request| sender.try_send_request(request), held)
}

fn slot<B, F, M>(sender: SendRequest<RequestBody<B>>, send: M, held: Held<B>) -> Checkout<B>
where
    B: Send + 'static,
    F: Future<Output = Answer<B>> + Send + 'static,
    M: Fn(&mut SendRequest<RequestBody<B>>, Request<RequestBody<B>>) -> F + Send + Sync + 'static,
{
    let Held { link, until, pool, driver, permit } = held;
    Box::pin(Slot { sender, send, answer: SyncWrapper::new(None), link, until, pool, driver, permit })
}

impl<B, F, M> Connection<B> for Slot<B, F, M>
where
    B: Send + 'static,
    F: Future<Output = Answer<B>> + Send + 'static,
    M: Fn(&mut SendRequest<RequestBody<B>>, Request<RequestBody<B>>) -> F + Send + Sync + 'static,
{
    fn begin(self: Pin<&mut Self>, mut request: Request<RequestBody<B>>) {
        let mut this = self.project();
        this.link.begin();
        request.body_mut().travel_on(this.link);
        let answer = (this.send)(this.sender, request);
        this.answer.as_mut().get_pin_mut().set(Some(answer));
    }

    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent<B>> {
        let this = self.project();
        let mut answer = this.answer.get_pin_mut();
        let future = answer.as_mut().as_pin_mut().expect("a request has begun");
        let sent = std::task::ready!(future.poll(cx));
        answer.set(None);
        this.link.set_answered();
        Poll::Ready(match sent {
            Ok(response) => Ok(response.map(Received::Http1)),
            Err(mut failure) => {
                let request = failure.take_message();
                let error = match &request {
                    Some(_) => Error::unsent(ErrorKind::Closed, failure.into_error()),
                    None => Error::from_hyper(failure.into_error(), this.link.wrote()),
                };
                Err(Failure { request, error })
            }
        })
    }
}

impl<B, F, M> Lease for Slot<B, F, M>
where
    B: Send + 'static,
    F: Future<Output = Answer<B>> + Send + 'static,
    M: Fn(&mut SendRequest<RequestBody<B>>, Request<RequestBody<B>>) -> F + Send + Sync + 'static,
{
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn upstream(&self) -> Option<Address> {
        self.pool.upgrade().map(|pool| pool.address().clone())
    }

    fn until(&self) -> Timestamp {
        self.until
    }

    fn home(&self) -> Home {
        self.driver.home()
    }

    fn idle_since(&self, since: Timestamp) {
        self.link.set_idle(since);
    }

    fn check_in(self: Pin<Box<Self>>) {
        if !self.link.request_done() || self.sender.is_closed() {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self);
        }
    }
}

/// The runtime that the task of a connection lives on.
///
/// A connection serves the calls of its own runtime: for those of another each step would wake a thread, and it ends
/// with its runtime, whose end is nobody else's business.
pub(crate) type Home = Option<tokio::runtime::Id>;

/// The runtime that this is called on.
pub(crate) fn home() -> Home {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// The task that drives one socket. It ends when the connection does, and when this handle is dropped.
pub(crate) struct Driver {
    task: AbortHandle,
    home: Home,
}

impl Driver {
    /// Begins the task.
    pub(crate) fn begin(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(connection).abort_handle(), home: home() }
    }

    pub(crate) const fn home(&self) -> Home {
        self.home
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A place among the open connections of one upstream.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    pub(crate) fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1))
            .ok()?;
        Some(Self(open.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
