use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_core::{Cause, Classify, Clock, Sleep, Timestamp};
use pin_project::pin_project;
use tower_service::Service;

use super::call::{Call, Failure, Judged};
use crate::future::MOST_AT_ONCE;
use crate::replay::sealed::Again;
use crate::{Answers, Http, Reads, Repeat};

/// The response future of [`Hedge`](crate::Hedge).
///
/// # Cancel safety
///
/// Dropping it drops all attempts and the timer, and gives back what was kept of the body.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct HedgeFuture<S, Req, R = Http, C = Answers>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    #[pin]
    first: Option<S::Future>,
    hedges: Vec<Attempt<S, <R as Repeat<Req>>::Sent>>,
    #[pin]
    alarm: Option<Sleep>,
    /// A failure, while other attempts may do better.
    failure: Option<(Result<S::Response, S::Error>, Failure)>,
    /// `None` once the call is over.
    call: Option<Call<S, R, C, <R as Again<Req>>::Spare>>,
}

/// A hedge under way.
struct Attempt<S: Service<Sent>, Sent> {
    number: u32,
    state: Pin<Box<State<S, Sent, S::Future>>>,
}

#[pin_project(project = StateProj)]
enum State<S, Sent, F> {
    Readying {
        service: S,
        req: Option<Sent>,
    },
    Called {
        #[pin]
        future: F,
    },
}

const DONE: &str = "polled after it was ready";

impl<S: Service<Sent>, Sent> Attempt<S, Sent> {
    fn new(number: u32, service: S, req: Sent) -> Self {
        Self { number, state: Box::pin(State::Readying { service, req: Some(req) }) }
    }

    /// Polls it to its result, or to `None` where its instance gets ready when it is too late.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut begins: impl FnMut(u32) -> bool,
    ) -> Poll<Option<Result<S::Response, S::Error>>> {
        loop {
            match self.state.as_mut().project() {
                StateProj::Called { future } => return future.poll(cx).map(Some),
                StateProj::Readying { service, req } => {
                    let is_ready = std::task::ready!(service.poll_ready(cx));
                    if !begins(self.number) {
                        return Poll::Ready(None);
                    }
                    if let Err(error) = is_ready {
                        return Poll::Ready(Some(Err(error)));
                    }
                    let future = service.call(req.take().expect(DONE));
                    self.state.set(State::Called { future });
                }
            }
        }
    }
}

impl<S, Req, R, C> HedgeFuture<S, Req, R, C>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    pub(crate) const fn new(first: S::Future, call: Call<S, R, C, <R as Again<Req>>::Spare>) -> Self {
        Self { first: Some(first), hedges: Vec::new(), alarm: None, failure: None, call: Some(call) }
    }

    /// Polls the attempts; gives the number and the result of one that is over, and drops it.
    fn poll_attempts(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<(u32, Result<S::Response, S::Error>)> {
        let mut this = self.as_mut().project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(result) = first.poll(cx)
        {
            this.first.set(None);
            return Poll::Ready((1, result));
        }
        let mut at = 0;
        while let Some(hedge) = this.hedges.get_mut(at) {
            let begins = |number| this.call.as_mut().is_some_and(|call| call.begins(number));
            match hedge.poll(cx, begins) {
                Poll::Pending => at += 1,
                Poll::Ready(None) => drop(this.hedges.remove(at)),
                Poll::Ready(Some(result)) => {
                    let over = this.hedges.remove(at);
                    return Poll::Ready((over.number, result));
                }
            }
        }
        Poll::Pending
    }

    /// Drops everything but the answer.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.first.set(None);
        this.hedges.clear();
        this.alarm.set(None);
        *this.failure = None;
        *this.call = None;
    }
}

impl<S, Req, R, C> Future for HedgeFuture<S, Req, R, C>
where
    R: Repeat<Req> + Reads<S::Response>,
    S: Service<<R as Repeat<Req>>::Sent> + Clone,
    S::Error: Cause,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut made = 0;
        loop {
            assert!(self.call.is_some(), "{DONE}");
            if let Poll::Ready((number, result)) = self.as_mut().poll_attempts(cx) {
                let this = self.as_mut().project();
                let call = this.call.as_mut().expect(DONE);
                match call.judge::<Req, _, _>(number, result.as_ref()) {
                    Judged::Answer => {
                        self.end();
                        return Poll::Ready(result);
                    }
                    Judged::Failure(failure) => {
                        if this.failure.as_ref().is_none_or(|(_, other)| failure.goes_before(*other)) {
                            *this.failure = Some((result, failure));
                        }
                    }
                }
                continue;
            }

            let mut this = self.as_mut().project();
            let call = this.call.as_mut().expect(DONE);
            let under_way = usize::from(this.first.is_some()) + this.hedges.len();
            match call.due() {
                Some(due) => {
                    let waited = call.is_waiting_for_the_body();
                    if !waited && poll_alarm(this.alarm.as_mut(), call.clock(), due, cx).is_pending() {
                        return Poll::Pending;
                    }
                    if under_way == 0
                        && let Some(until) = call.missing::<Req>(cx)
                        && poll_alarm(this.alarm.as_mut(), call.clock(), until, cx).is_pending()
                    {
                        return Poll::Pending;
                    }
                    if made == MOST_AT_ONCE {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    made += 1;
                    if let Some((number, service, req)) = call.fire::<Req>(under_way) {
                        this.hedges.push(Attempt::new(number, service, req));
                    }
                }
                None if under_way > 0 => return Poll::Pending,
                None => {
                    let (mut result, _) = this.failure.take().expect("every attempt has failed");
                    call.give_up(&mut result);
                    self.end();
                    return Poll::Ready(result);
                }
            }
        }
    }
}

/// Completes when `due` has come. The timer exists from the first time that it is waited for.
fn poll_alarm(
    mut alarm: Pin<&mut Option<Sleep>>,
    clock: &Clock,
    due: Timestamp,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if alarm.is_none() {
        alarm.set(Some(clock.sleep_until(due)));
    }
    let mut sleep = alarm.as_pin_mut().expect("set above");
    if sleep.deadline() != due {
        sleep.as_mut().reset(due);
    }
    sleep.poll(cx)
}

impl<S, Req, R, C> fmt::Debug for HedgeFuture<S, Req, R, C>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture")
            .field("first", &self.first.is_some())
            .field("hedges", &self.hedges.len())
            .finish_non_exhaustive()
    }
}
