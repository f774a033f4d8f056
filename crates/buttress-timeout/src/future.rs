use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{AtHead, Fail, Reject, RejectionKind, Timestamp};
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
/// Dropping it drops the inner future and the timer; nothing stays behind. At a timeout the inner future is dropped before
/// this one completes.
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
    shared: Arc<Shared>,
    start: Timestamp,
    end: Timestamp,
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
    pub(crate) fn new(inner: S::Future, call: Call, reject: J, form: J::Form, reach: M) -> Self {
        let Call { shared, start, end } = call;
        Self { race: Race::new(inner), shared, start, end, reject, form, reach }
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
        let Shared { limits, watch } = &**this.shared;
        let due = limits.until_head(*this.start, *this.end);

        match ready!(this.race.poll(cx, &watch.clock, due.at)) {
            Won::Future(result) => Poll::Ready(result.map(|res| {
                let call = Call { shared: this.shared.clone(), start: *this.start, end: *this.end };
                this.reach.carry(res, call)
            })),
            Won::Time => {
                let limit = limits.of(due.by);
                let elapsed = watch.clock.now() - *this.start;
                watch.tell(|name| match due.by {
                    Phase::Total => TimeoutEvent::Total { name, limit, elapsed },
                    Phase::Head | Phase::Idle => TimeoutEvent::Head { name, limit, elapsed },
                });
                let rejection = watch.rejection(RejectionKind::Timeout);
                Poll::Ready(this.reject.reject(*this.form, rejection))
            }
        }
    }
}

impl<S, Req, J, M> fmt::Debug for TimeoutFuture<S, Req, J, M>
where
    S: Service<Req>,
    M: Reach<Req, S::Response>,
    J: Reject<Req, <M as Reach<Req, S::Response>>::Out, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFuture").field("start", &self.start).finish_non_exhaustive()
    }
}
