use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{AtHead, Fail, Reject, RejectionKind};
use pin_project::pin_project;
use tower_service::Service;

use crate::policy::Phase;
use crate::race::{Race, Won};
use crate::reach::sealed::Call;
use crate::shared::Shared;
use crate::{Reach, TimeoutEvent};

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
    S: Service<Req>,
    M: Reach<Req, S::Response>,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error>,
{
    #[pin]
    race: Race<S::Future>,
    /// `None` once the race is decided.
    call: Option<Call>,
    reject: J,
    form: J::Form,
    reach: M,
}

impl<S, Req, J, M> TimeoutFuture<S, Req, J, M>
where
    S: Service<Req>,
    M: Reach<Req, S::Response>,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error>,
{
    pub(crate) const fn new(inner: S::Future, call: Call, reject: J, form: J::Form, reach: M) -> Self {
        Self { race: Race::new(inner), call: Some(call), reject, form, reach }
    }
}

impl<S, Req, J, M> Future for TimeoutFuture<S, Req, J, M>
where
    S: Service<Req>,
    M: Reach<Req, S::Response>,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error>,
{
    type Output = Result<<M as Reach<Req, S::Response>>::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let call = this.call.as_ref().expect("polled after it was ready");
        let due = call.shared.limits.until_head(call.start, call.end);
        let won = ready!(this.race.poll(cx, &call.shared.watch.clock, due.at));

        let call = this.call.take().expect("seen above");
        Poll::Ready(match won {
            Won::Future(result) => result.map(|res| this.reach.carry(res, call)),
            Won::Time => {
                let Shared { limits, watch } = &*call.shared;
                let limit = limits.of(due.by);
                let elapsed = watch.clock.now() - call.start;
                watch.tell(|name| match due.by {
                    Phase::Total => TimeoutEvent::Total { name, limit, elapsed },
                    Phase::Head | Phase::Idle => TimeoutEvent::Head { name, limit, elapsed },
                });
                this.reject.reject(*this.form, watch.rejection(RejectionKind::Timeout))
            }
        })
    }
}

impl<S, Req, J, M> fmt::Debug for TimeoutFuture<S, Req, J, M>
where
    S: Service<Req>,
    M: Reach<Req, S::Response>,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture").field("call", &self.call).finish_non_exhaustive()
    }
}
