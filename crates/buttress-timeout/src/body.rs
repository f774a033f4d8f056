//! A response body under an idle timeout, and under a total one or a deadline.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{BoxError, Cause, Rejection, Timestamp};
use buttress_http::body::ReplyBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::call::Call;
use crate::policy::{Due, Phase};
use crate::race::Alarm;
use crate::shared::Shared;

/// A response body that ends with an error when it stalls, or when its call takes too long.
///
/// Frames, `size_hint`, `is_end_stream` and trailers of the inner body pass through. At the timeout the inner
/// body is dropped at once, before the reader gets the error, so that everything it holds is given back;
/// after the error the body is at its end.
///
/// The timer is made the first time the inner body has nothing to give, and only runs while the reader waits.
///
/// # Cancel safety
///
/// Dropping it drops the inner body and the timer.
#[pin_project]
pub struct TimeoutBody<B> {
    /// `None` once it timed out.
    #[pin]
    inner: Option<B>,
    #[pin]
    alarm: Alarm,
    timing: Option<Timing>,
}

struct Timing {
    call: Call,
    /// Since when the reader has waited for a frame.
    waiting: Option<Timestamp>,
}

impl<B> TimeoutBody<B> {
    pub(crate) const fn new(inner: B, call: Call) -> Self {
        Self { inner: Some(inner), alarm: Alarm::new(), timing: Some(Timing { call, waiting: None }) }
    }

    /// A body without a timeout.
    #[must_use]
    pub const fn untimed(inner: B) -> Self {
        Self { inner: Some(inner), alarm: Alarm::new(), timing: None }
    }
}

impl<B> Body for TimeoutBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = TimeoutBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, TimeoutBodyError>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(timing) = this.timing else {
            return inner.poll_frame(cx).map_err(TimeoutBodyError::inner);
        };

        let due = if timing.is_over(&*inner) {
            timing.call.end
        } else {
            match inner.as_mut().poll_frame(cx) {
                Poll::Pending => ready!(timing.poll(this.alarm.as_mut(), cx)),
                Poll::Ready(frame) => {
                    timing.waiting = None;
                    if frame.is_none() || inner.is_end_stream() {
                        this.alarm.set(Alarm::new());
                    }
                    return Poll::Ready(frame.map(|frame| frame.map_err(TimeoutBodyError::inner)));
                }
            }
        };

        // What the body holds is given back before anyone hears of it.
        this.inner.set(None);
        this.alarm.set(Alarm::new());
        Poll::Ready(Some(Err(timing.error(due))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Timing {
    /// Whether the call must be over now, for a body that has something to give.
    fn is_over(&self, inner: &impl Body) -> bool {
        let Call { shared, end } = &self.call;
        end.at < Timestamp::MAX && !inner.is_end_stream() && end.at <= shared.watch.clock.now()
    }

    /// Completes once the reader has waited too long.
    fn poll(&mut self, alarm: Pin<&mut Alarm>, cx: &mut Context<'_>) -> Poll<Due> {
        let Shared { limits, watch } = &*self.call.shared;
        let waiting = *self.waiting.get_or_insert_with(|| watch.clock.now());
        let due = limits.until_frame(waiting, self.call.end);
        alarm.poll(cx, &watch.clock, due.at).map(|()| due)
    }

    fn error(&self, due: Due) -> TimeoutBodyError {
        let rejection = self.call.refuse(due);
        match due.by {
            Phase::Idle => TimeoutBodyError::Idle(rejection),
            Phase::Deadline => TimeoutBodyError::Deadline(rejection),
            _ => TimeoutBodyError::Total(rejection),
        }
    }
}

/// A reply has no timeout: it is all there.
impl<B: ReplyBody> ReplyBody for TimeoutBody<B> {
    fn reply(bytes: Bytes) -> Self {
        Self::untimed(B::reply(bytes))
    }
}

impl<B: fmt::Debug> fmt::Debug for TimeoutBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Why a [`TimeoutBody`] ended before its end.
///
/// It is the same type for every inner body, so that it fits a server whatever the inner body's error is.
/// That one is boxed where it is not yet, and `downcast_ref` finds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimeoutBodyError {
    /// The inner body failed.
    #[error("{0}")]
    Inner(#[source] BoxError),
    /// The reader waited longer for a frame than the idle timeout allows.
    #[error("body stalled: {0}")]
    Idle(#[source] Rejection),
    /// The call was not over within the total timeout.
    #[error("body not complete in time: {0}")]
    Total(#[source] Rejection),
    /// The caller's deadline passed.
    #[error("body not complete before the deadline: {0}")]
    Deadline(#[source] Rejection),
}

impl TimeoutBodyError {
    fn inner(error: impl Into<BoxError>) -> Self {
        Self::Inner(error.into())
    }
}

impl Cause for TimeoutBodyError {
    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self)
    }
}
