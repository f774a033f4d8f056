use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{AtHead, Fail, Reject};
use pin_project::pin_project;
use tower_service::Service;

use crate::call::Call;
use crate::race::{Race, Won};
use crate::reach::sealed::{Begin, Progress};
use crate::{Reach, Sends};

/// The response future of [`Timeout`](crate::Timeout).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and the timer; nothing stays behind. At a timeout the inner future is
/// dropped before this one completes.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct TimeoutFuture<S, Req, J = Fail, M = AtHead>
where
    M: Sends<Req> + Reach<S::Response>,
    S: Service<<M as Sends<Req>>::Sent>,
    J: Reject<Req, <M as Reach<S::Response>>::Out, S::Error>,
{
    #[pin]
    race: Race<S::Future>,
    /// `None` once the race is decided.
    call: Option<(Call, <M as Begin<Req>>::Progress)>,
    reject: J,
    form: J::Form,
    reach: M,
}

impl<S, Req, J, M> TimeoutFuture<S, Req, J, M>
where
    M: Sends<Req> + Reach<S::Response>,
    S: Service<<M as Sends<Req>>::Sent>,
    J: Reject<Req, <M as Reach<S::Response>>::Out, S::Error>,
{
    pub(crate) const fn new(
        inner: S::Future,
        call: Call,
        progress: <M as Begin<Req>>::Progress,
        reject: J,
        form: J::Form,
        reach: M,
    ) -> Self {
        Self { race: Race::new(inner), call: Some((call, progress)), reject, form, reach }
    }
}

impl<S, Req, J, M> Future for TimeoutFuture<S, Req, J, M>
where
    M: Sends<Req> + Reach<S::Response>,
    S: Service<<M as Sends<Req>>::Sent>,
    J: Reject<Req, <M as Reach<S::Response>>::Out, S::Error>,
{
    type Output = Result<<M as Reach<S::Response>>::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (call, progress) = this.call.as_mut().expect("polled after it was ready");
        let mut due = call.end;
        progress.awake();
        let won = ready!(this.race.poll(cx, &call.shared.watch.clock, |cx| {
            due = progress.sleep(cx, call);
            due.at
        }));

        // How far the request got is of no interest any more.
        let (call, _) = this.call.take().expect("seen above");
        Poll::Ready(match won {
            Won::Future(result) => result.map(|res| this.reach.carry(res, call)),
            Won::Time => this.reject.reject(*this.form, call.refuse(due)),
        })
    }
}

impl<S, Req, J, M> fmt::Debug for TimeoutFuture<S, Req, J, M>
where
    M: Sends<Req> + Reach<S::Response>,
    S: Service<<M as Sends<Req>>::Sent>,
    J: Reject<Req, <M as Reach<S::Response>>::Out, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture")
            .field("call", &self.call.as_ref().map(|(call, _)| call))
            .finish_non_exhaustive()
    }
}
