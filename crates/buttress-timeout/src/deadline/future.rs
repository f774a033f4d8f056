use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{AtHead, Fail, Reject};
use http::Request;
use pin_project::pin_project;
use tower_service::Service;

use crate::Reach;
use crate::call::Call;
use crate::race::{Race, Won};

/// The response future of [`Deadline`](crate::Deadline).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and the timer; nothing stays behind. When the deadline passes, the
/// inner future is dropped before this one completes.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct DeadlineFuture<S, B, J = Fail, M = AtHead>
where
    S: Service<Request<B>>,
    M: Reach<S::Response>,
    J: Reject<Request<B>, <M as Reach<S::Response>>::Out, S::Error>,
{
    #[pin]
    state: State<S::Future, Result<<M as Reach<S::Response>>::Out, S::Error>, J, J::Form, M>,
}

#[pin_project(project = StateProj)]
enum State<F, T, J, K, M> {
    Called {
        #[pin]
        race: Race<F>,
        /// `None` once the race is decided.
        call: Option<Call>,
        reject: J,
        form: K,
        reach: M,
    },
    Refused(Option<T>),
}

impl<S, B, J, M> DeadlineFuture<S, B, J, M>
where
    S: Service<Request<B>>,
    M: Reach<S::Response>,
    J: Reject<Request<B>, <M as Reach<S::Response>>::Out, S::Error>,
{
    pub(super) const fn called(inner: S::Future, call: Call, reject: J, form: J::Form, reach: M) -> Self {
        Self { state: State::Called { race: Race::new(inner), call: Some(call), reject, form, reach } }
    }

    pub(super) const fn refused(answer: Result<<M as Reach<S::Response>>::Out, S::Error>) -> Self {
        Self { state: State::Refused(Some(answer)) }
    }
}

impl<S, B, J, M> Future for DeadlineFuture<S, B, J, M>
where
    S: Service<Request<B>>,
    M: Reach<S::Response>,
    J: Reject<Request<B>, <M as Reach<S::Response>>::Out, S::Error>,
{
    type Output = Result<<M as Reach<S::Response>>::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Refused(answer) => Poll::Ready(answer.take().expect("polled after it was ready")),
            StateProj::Called { race, call, reject, form, reach } => {
                let Call { shared, end } = call.as_ref().expect("polled after it was ready");
                let won = ready!(race.poll(cx, &shared.watch.clock, |_| end.at));

                let call = call.take().expect("seen above");
                Poll::Ready(match won {
                    Won::Future(result) => result.map(|res| reach.carry(res, call)),
                    Won::Time => reject.reject(*form, call.refuse(call.end)),
                })
            }
        }
    }
}

impl<S, B, J, M> fmt::Debug for DeadlineFuture<S, B, J, M>
where
    S: Service<Request<B>>,
    M: Reach<S::Response>,
    J: Reject<Request<B>, <M as Reach<S::Response>>::Out, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Refused(_) => "refused",
        };
        f.debug_tuple("DeadlineFuture").field(&state).finish()
    }
}
