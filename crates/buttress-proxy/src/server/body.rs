use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::Sleep;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::shared::Shared;
use super::wire::Violation;

/// The body of a request, as it comes from the client.
///
/// It is read from the client only as it is read itself. A client that sends nothing for
/// [`body_timeout`](super::Server::body_timeout) while it is waited for ends it with an error; the time does not run
/// while nobody reads.
pub struct Body {
    incoming: Incoming,
    /// None where there is nothing to wait for, and with HTTP/1, which is waited for where its bytes are read.
    shared: Option<Arc<Shared>>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Body {
    pub(super) fn new(incoming: Incoming, shared: &Arc<Shared>) -> Self {
        let waits = shared.is_http2 && !http_body::Body::is_end_stream(&incoming);
        let shared = waits.then(|| Arc::clone(shared));
        Self { incoming, shared, alarm: None }
    }

    /// Whether the client has reset the stream before the body was whole. Hyper takes a reset with `NO_ERROR` for its
    /// end, which it is for the answer that a *server* cuts short (RFC 9113 §8.1): sent on in chunks, half a body would
    /// pass for a whole one.
    fn is_cut(&self) -> bool {
        self.shared.is_some() && !http_body::Body::is_end_stream(&self.incoming)
    }

    /// The client has sent nothing yet, or nothing more: has it been given its time?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(shared) = &self.shared else { return Poll::Pending };
        let options = &shared.options;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(options.clock.sleep(options.body_timeout)));
        std::task::ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        self.shared = None;
        Poll::Ready(Some(Err(BodyError(Cause::Idle))))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(None) if self.is_cut() => {
                self.alarm = None;
                self.shared = None;
                Poll::Ready(Some(Err(BodyError(Cause::Cut))))
            }
            Poll::Ready(frame) => {
                self.alarm = None;
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::of)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &http_body::Body::size_hint(self)).finish_non_exhaustive()
    }
}

/// A request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the client has sent nothing of the body for too long")]
    Idle,
    #[error("the client did not send the body to its end")]
    Broken(#[source] hyper::Error),
    #[error("the client reset the stream before the end of the body")]
    Cut,
}

impl BodyError {
    fn of(error: hyper::Error) -> Self {
        Self(match Violation::of(&error) {
            Some(Violation::BodyTimeout) => Cause::Idle,
            _ => Cause::Broken(error),
        })
    }

    /// The rule that an HTTP/1 body broke: how its chunks or its trailer fields are written.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        match &self.0 {
            Cause::Idle => Some(Violation::BodyTimeout),
            Cause::Cut => None,
            Cause::Broken(error) => Violation::of(error),
        }
    }

    /// Whether the client was too slow; else it broke off, or sent what is no body.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Cause::Idle)
    }
}
