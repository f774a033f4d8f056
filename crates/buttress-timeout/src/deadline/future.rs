use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{Fail, Reject, RejectionKind, Timestamp};
use http::Request;
use pin_project::pin_project;
use tower_service::Service;

use super::layer::Settings;
use crate::TimeoutEvent;
use crate::race::{Race, Won};

/// The response future of [`Deadline`](crate::Deadline).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and the timer; nothing stays behind. When the deadline passes, the
/// inner future is dropped before this one completes.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct DeadlineFuture<S, B, J = Fail>
where
    S: Service<Request<B>>,
    J: Reject<Request<B>, S::Response, S::Error>,
{
    #[pin]
    state: State<S::Future, S::Response, S::Error, J, J::Form>,
}

#[pin_project(project = StateProj)]
enum State<F, T, E, J, K> {
    Called {
        #[pin]
        race: Race<F>,
        settings: Arc<Settings>,
        /// From the call to the deadline.
        time: Range<Timestamp>,
        reject: J,
        form: K,
    },
    Refused(Option<Result<T, E>>),
}

impl<S, B, J> DeadlineFuture<S, B, J>
where
    S: Service<Request<B>>,
    J: Reject<Request<B>, S::Response, S::Error>,
{
    pub(super) fn called(
        inner: S::Future,
        settings: Arc<Settings>,
        time: Range<Timestamp>,
        reject: J,
        form: J::Form,
    ) -> Self {
        Self { state: State::Called { race: Race::new(inner), settings, time, reject, form } }
    }

    pub(super) const fn refused(answer: Result<S::Response, S::Error>) -> Self {
        Self { state: State::Refused(Some(answer)) }
    }
}

impl<S, B, J> Future for DeadlineFuture<S, B, J>
where
    S: Service<Request<B>>,
    J: Reject<Request<B>, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Refused(answer) => Poll::Ready(answer.take().expect("polled after it was ready")),
            StateProj::Called { race, settings, time, reject, form } => {
                let watch = &settings.watch;
                match ready!(race.poll(cx, &watch.clock, time.end)) {
                    Won::Future(result) => Poll::Ready(result),
                    Won::Time => {
                        let elapsed = watch.clock.now() - time.start;
                        watch.tell(|name| TimeoutEvent::Deadline { name, elapsed });
                        let rejection = watch.rejection(RejectionKind::DeadlineExceeded);
                        Poll::Ready(reject.reject(*form, rejection))
                    }
                }
            }
        }
    }
}

impl<S, B, J> fmt::Debug for DeadlineFuture<S, B, J>
where
    S: Service<Request<B>>,
    J: Reject<Request<B>, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Refused(_) => "refused",
        };
        f.debug_tuple("DeadlineFuture").field(&state).finish()
    }
}
