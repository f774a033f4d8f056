use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use buttress_core::{Key, Reject, Sleep, Store, Timestamp};
use pin_project::pin_project;
use tower_service::Service;

use crate::Charge;
use crate::gate::{Asked, Core, Course, Delayed, Gate};
use crate::line::{Place, Turn};
use crate::rules::{Rules, Terms};

/// The response future of [`RateLimit`](crate::RateLimit).
///
/// # Cancel safety
///
/// Dropped while it waits for its turn, it gives back what it was charged. Dropped later, or while a remote store has
/// not answered, it does not: the call counts.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RateLimitFuture<S, Req, K, J, St, R = Rules>
where
    S: Service<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    #[pin]
    state: State<S, Req, K, J, St, R>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, K, J, St, R>
where
    S: Service<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    /// Allowed.
    Called {
        #[pin]
        future: S::Future,
        after: Option<After<K, J, St, R, J::Form, R::Form>>,
    },
    /// Refused: the answer is there.
    Refused { result: Option<Result<R::Out, S::Error>> },
    /// Allowed, when its turn has come. The service is the one that was readied.
    InTurn { sleep: Pin<Box<Sleep>>, seat: Option<Seat<St>>, call: Option<(S, Req, Arc<Gate<K, J, St, R>>)> },
    /// The store answers later.
    Asking {
        #[pin]
        wait: St::Wait,
        call: Option<(S, Req, Arc<Gate<K, J, St, R>>)>,
        asked: Asked,
    },
}

/// What is to be done once the answer is there.
pub(crate) struct After<K, J, St: Store, R, Form, SettleForm> {
    gate: Arc<Gate<K, J, St, R>>,
    form: Form,
    settle: SettleForm,
    charged: Option<(St::Decision, u32)>,
}

impl<K, J, St: Store, R, Form, SettleForm> After<K, J, St, R, Form, SettleForm> {
    /// `None` when nothing is to be done, which is most often.
    #[inline]
    pub(crate) fn of<Req, Res, Err>(
        gate: &Arc<Gate<K, J, St, R>>,
        req: &Req,
        charged: Option<(St::Decision, u32)>,
    ) -> Option<Self>
    where
        R: Terms<Req, K, Res, St, Form = SettleForm>,
        J: Reject<Req, R::Out, Err, Form = Form>,
    {
        (R::SETTLES || gate.core.annotate_success && charged.is_some()).then(|| Self {
            gate: Arc::clone(gate),
            form: gate.reject.form(req),
            settle: gate.rules.form(req),
            charged,
        })
    }

    fn finish<Req, Res, Err>(self, res: Res) -> R::Out
    where
        R: Terms<Req, K, Res, St, Form = SettleForm>,
        J: Reject<Req, R::Out, Err, Form = Form>,
    {
        let Self { gate, form, settle, charged } = self;
        let note = if gate.core.annotate_success { charged.clone() } else { None };
        let charge = match charged {
            Some((decision, cost)) => Charge::new(Arc::clone(&gate.core), decision, cost),
            None => Charge::none(),
        };
        let mut out = gate.rules.settle(settle, res, charge);
        if let Some((decision, _)) = note {
            gate.annotate(form, &mut out, &decision);
        }
        out
    }
}

/// A place in the line. Dropped in it, the call gives up its turn.
pub(crate) struct Seat<St: Store> {
    core: Arc<Core<St>>,
    line: u64,
    place: Option<Arc<Place<St::Decision>>>,
}

impl<St: Store> Seat<St> {
    pub(crate) fn new<K, J, R, Req>(
        gate: &Gate<K, J, St, R>,
        req: &Req,
        (decision, cost): (St::Decision, u32),
        delayed: Delayed,
    ) -> Self
    where
        K: Key<Req>,
    {
        let core = &gate.core;
        let turn = Turn { at: delayed.turn, decision };
        // The key is user code: the turn goes back if it panics.
        let mut unplaced = Unplaced { core, turn: Some(turn) };
        let line = gate.line(req, delayed);
        let place = unplaced.turn.take().map(|turn| core.lines.enter(line, turn, cost, delayed.now));
        Self { core: Arc::clone(core), line, place }
    }

    fn at(&self) -> Timestamp {
        self.place.as_ref().map_or(Timestamp::ZERO, |place| place.at())
    }

    fn turn(&self, waker: &Waker) -> Option<Timestamp> {
        self.place.as_ref().map(|place| place.turn(waker))
    }

    fn leave(mut self) -> Option<(St::Decision, u32)> {
        let place = self.place.take()?;
        let waited = self.core.lines.leave(self.line, &place);
        self.core.waited(waited);
        Some(place.charged())
    }
}

impl<St: Store> Drop for Seat<St> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.core.lines.give_up(self.line, &place, self.core.clock.now());
            self.core.abandon(&place.charged().0);
        }
    }
}

struct Unplaced<'a, St: Store> {
    core: &'a Core<St>,
    turn: Option<Turn<St::Decision>>,
}

impl<St: Store> Drop for Unplaced<'_, St> {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            self.core.abandon(&turn.decision);
        }
    }
}

impl<S, Req, K, J, St, R> RateLimitFuture<S, Req, K, J, St, R>
where
    S: Service<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    #[inline]
    pub(crate) const fn called(
        future: S::Future,
        after: Option<After<K, J, St, R, J::Form, R::Form>>,
    ) -> Self {
        Self { state: State::Called { future, after } }
    }

    #[inline]
    pub(crate) const fn refused(result: Result<R::Out, S::Error>) -> Self {
        Self { state: State::Refused { result: Some(result) } }
    }

    pub(crate) fn in_turn(service: S, req: Req, gate: Arc<Gate<K, J, St, R>>, seat: Seat<St>) -> Self {
        Self { state: State::in_turn(service, req, gate, seat) }
    }

    pub(crate) const fn asking(
        wait: St::Wait,
        service: S,
        req: Req,
        gate: Arc<Gate<K, J, St, R>>,
        asked: Asked,
    ) -> Self {
        Self { state: State::Asking { wait, call: Some((service, req, gate)), asked } }
    }
}

impl<S, Req, K, J, St, R> State<S, Req, K, J, St, R>
where
    S: Service<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    fn in_turn(service: S, req: Req, gate: Arc<Gate<K, J, St, R>>, seat: Seat<St>) -> Self {
        let sleep = Box::pin(gate.core.clock.sleep_until(seat.at()));
        Self::InTurn { sleep, seat: Some(seat), call: Some((service, req, gate)) }
    }

    fn called(
        mut service: S,
        req: Req,
        gate: &Arc<Gate<K, J, St, R>>,
        charged: Option<(St::Decision, u32)>,
    ) -> Self {
        let after = After::of(gate, &req, charged);
        Self::Called { future: service.call(req), after }
    }
}

impl<S, Req, K, J, St, R> Future for RateLimitFuture<S, Req, K, J, St, R>
where
    S: Service<Req>,
    K: Key<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    type Output = Result<R::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const DONE: &str = "polled after it was ready";
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Called { future, after } => {
                    let res = ready!(future.poll(cx));
                    // Most often there is nothing to do, and the answer is moved as little as can be.
                    if !R::SETTLES && after.is_none() {
                        return Poll::Ready(match res {
                            Ok(res) => Ok(R::unsettled(res)),
                            Err(error) => Err(error),
                        });
                    }
                    let after = after.take().expect(DONE);
                    return Poll::Ready(res.map(|res| after.finish(res)));
                }
                StateProj::Refused { result } => return Poll::Ready(result.take().expect(DONE)),
                StateProj::InTurn { sleep, seat, call } => {
                    // Whoever gives up before us moves us up.
                    if let Some(turn) = seat.as_ref().and_then(|seat| seat.turn(cx.waker()))
                        && turn != sleep.deadline()
                    {
                        sleep.as_mut().reset(turn);
                    }
                    ready!(sleep.as_mut().poll(cx));
                    let (service, req, gate) = call.take().expect(DONE);
                    let charged = seat.take().and_then(Seat::leave);
                    State::called(service, req, &gate, charged)
                }
                StateProj::Asking { wait, call, asked } => {
                    let decision = ready!(wait.poll(cx));
                    let (service, req, gate) = call.take().expect(DONE);
                    match gate.judge::<Req, St::Wait>(&req, *asked, decision, gate.core.clock.now()) {
                        Course::Passed { decision, cost, delayed: Some(delayed) } => {
                            let seat = Seat::new(&gate, &req, (decision, cost), delayed);
                            State::in_turn(service, req, gate, seat)
                        }
                        Course::Passed { decision, cost, delayed: None } => {
                            State::called(service, req, &gate, Some((decision, cost)))
                        }
                        Course::Uncounted => State::called(service, req, &gate, None),
                        Course::Refused(decision) => {
                            return Poll::Ready(gate.refuse(gate.reject.form(&req), &decision));
                        }
                        Course::Denied | Course::Asked(..) => {
                            unreachable!("the store has answered, and is not asked twice")
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S, Req, K, J, St, R> fmt::Debug for RateLimitFuture<S, Req, K, J, St, R>
where
    S: Service<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Refused { .. } => "refused",
            State::InTurn { .. } => "waiting for its turn",
            State::Asking { .. } => "waiting for the store",
        };
        f.debug_tuple("RateLimitFuture").field(&state).finish()
    }
}
