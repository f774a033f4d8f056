use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use buttress_core::{Key, Reject, Sleep, Store, Timestamp};
use pin_project::pin_project;
use tower_service::Service;

use crate::Charge;
use crate::gate::{Asked, Charged, Core, Course, Delayed, Gate, Ruling};
use crate::line::{Gone, Place, Turn};
use crate::rules::{Rules, Terms};

const DONE: &str = "polled after it was ready";

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
    /// Allowed, and its answer is passed on as it is: most often.
    Called {
        #[pin]
        future: S::Future,
    },
    /// Allowed, and something is to be done with its answer.
    Followed {
        #[pin]
        future: S::Future,
        after: Option<After<K, J, St, R, J::Form, R::Form>>,
    },
    /// Refused: the answer is there.
    Refused { result: Option<Result<R::Out, S::Error>> },
    /// Not decided yet, or not its turn: apart, so that a call which does not wait does not make room for it.
    Waiting { wait: Pin<Box<Waiting<S, Req, K, J, St, R>>> },
}

/// A call that waits. The service is the one that was readied.
#[pin_project]
struct Waiting<S, Req, K, J, St: Store, R> {
    call: Option<(S, Req, Arc<Gate<K, J, St, R>>)>,
    #[pin]
    until: Until<St>,
}

#[pin_project(project = UntilProj)]
enum Until<St: Store> {
    /// Its turn has come.
    InTurn {
        #[pin]
        sleep: Sleep,
        seat: Option<Seat<St>>,
    },
    /// The store answers.
    Asked {
        #[pin]
        wait: St::Wait,
        asked: Asked,
    },
}

/// What is to be done once the answer is there.
pub(crate) struct After<K, J, St: Store, R, Form, SettleForm> {
    gate: Arc<Gate<K, J, St, R>>,
    form: Form,
    settle: SettleForm,
    charged: Option<Charged<St::Decision>>,
}

impl<K, J, St: Store, R, Form, SettleForm> After<K, J, St, R, Form, SettleForm> {
    fn of<Req, Res, Err>(
        gate: &Arc<Gate<K, J, St, R>>,
        req: &Req,
        charged: Option<Charged<St::Decision>>,
    ) -> Self
    where
        R: Terms<Req, K, Res, St, Form = SettleForm>,
        J: Reject<Req, R::Out, Err, Form = Form>,
    {
        Self { gate: Arc::clone(gate), form: gate.reject.form(req), settle: gate.rules.form(req), charged }
    }

    fn finish<Req, Res, Err>(self, res: Res) -> R::Out
    where
        R: Terms<Req, K, Res, St, Form = SettleForm>,
        J: Reject<Req, R::Out, Err, Form = Form>,
    {
        let Self { gate, form, settle, charged } = self;
        let note = if gate.core.annotate_success { charged.clone() } else { None };
        let charge = match charged {
            Some(Charged { decision, cost, .. }) => Charge::new(Arc::clone(&gate.core), decision, cost),
            None => Charge::none(),
        };
        let mut out = gate.rules.settle(settle, res, charge);
        if let Some(Charged { decision, late, .. }) = note {
            gate.annotate(form, &mut out, &decision, late);
        }
        out
    }
}

/// A place in the line. Dropped in it, the call gives up its turn.
pub(crate) struct Seat<St: Store> {
    core: Arc<Core<St>>,
    place: Option<Place<St::Decision>>,
}

impl<St: Store> Seat<St> {
    pub(crate) fn new<K, J, R, Req>(
        gate: &Gate<K, J, St, R>,
        req: &Req,
        Charged { decision, cost, .. }: Charged<St::Decision>,
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
        Self { core: Arc::clone(core), place }
    }

    fn at(&self) -> Timestamp {
        self.place.as_ref().map_or(Timestamp::ZERO, Place::at)
    }

    fn turn(&self, waker: &Waker) -> Option<Timestamp> {
        self.place.as_ref().map(|place| place.turn(waker))
    }

    fn leave(mut self) -> Option<Charged<St::Decision>> {
        let Gone { decision, cost, waited } = self.core.lines.leave(self.place.take()?);
        self.core.waited(waited);
        Some(Charged { decision, cost, late: true })
    }
}

impl<St: Store> Drop for Seat<St> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let free = self.core.lines.give_up(place, self.core.clock.now());
            self.core.abandon(&free);
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
    pub(crate) const fn called(future: S::Future) -> Self {
        Self { state: State::Called { future } }
    }

    /// Calls the service, and follows its answer where there is something to do with it.
    pub(crate) fn followed(
        service: &mut S,
        req: Req,
        gate: &Arc<Gate<K, J, St, R>>,
        charged: Option<Charged<St::Decision>>,
    ) -> Self {
        Self { state: State::called(service, req, gate, charged) }
    }

    #[inline]
    pub(crate) const fn refused(result: Result<R::Out, S::Error>) -> Self {
        Self { state: State::Refused { result: Some(result) } }
    }

    pub(crate) fn in_turn(service: S, req: Req, gate: Arc<Gate<K, J, St, R>>, seat: Seat<St>) -> Self {
        Self { state: State::in_turn(service, req, gate, seat) }
    }

    pub(crate) fn asking(
        wait: St::Wait,
        service: S,
        req: Req,
        gate: Arc<Gate<K, J, St, R>>,
        asked: Asked,
    ) -> Self {
        let (call, until) = (Some((service, req, gate)), Until::Asked { wait, asked });
        Self { state: State::Waiting { wait: Box::pin(Waiting { call, until }) } }
    }
}

impl<St: Store> Until<St> {
    fn in_turn(core: &Core<St>, seat: Seat<St>) -> Self {
        Self::InTurn { sleep: core.clock.sleep_until(seat.at()).precise(), seat: Some(seat) }
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
        let until = Until::in_turn(&gate.core, seat);
        Self::Waiting { wait: Box::pin(Waiting { call: Some((service, req, gate)), until }) }
    }

    fn called(
        service: &mut S,
        req: Req,
        gate: &Arc<Gate<K, J, St, R>>,
        charged: Option<Charged<St::Decision>>,
    ) -> Self {
        if !R::SETTLES && (charged.is_none() || !gate.core.annotate_success) {
            return Self::Called { future: service.call(req) };
        }
        let after = Some(After::of(gate, &req, charged));
        Self::Followed { future: service.call(req), after }
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
        let mut state = self.project().state;
        // Most often there is nothing to do, and the answer is not even moved.
        match state.as_mut().project() {
            StateProj::Called { future } => R::poll_unsettled(future, cx),
            StateProj::Refused { result } => Poll::Ready(result.take().expect(DONE)),
            StateProj::Followed { future, after } if !R::SETTLES => poll_noted(future, after, cx),
            _ => state.go_on(cx),
        }
    }
}

/// Polls for an answer that is not settled, to write what is left into it.
#[inline(never)]
fn poll_noted<Req, Res, Err, F, K, J, St, R>(
    future: Pin<&mut F>,
    after: &mut Option<After<K, J, St, R, J::Form, R::Form>>,
    cx: &mut Context<'_>,
) -> Poll<Result<R::Out, Err>>
where
    F: Future<Output = Result<Res, Err>>,
    R: Terms<Req, K, Res, St>,
    J: Reject<Req, R::Out, Err>,
    St: Store,
{
    let mut answer = R::poll_unsettled(future, cx);
    if let Some(After { gate, form, charged: Some(Charged { decision, late, .. }), .. }) = after {
        match &mut answer {
            Poll::Ready(Ok(out)) => gate.annotate(*form, out, decision, *late),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => *late = true,
        }
    }
    answer
}

impl<S, Req, K, J, St, R> State<S, Req, K, J, St, R>
where
    S: Service<Req>,
    K: Key<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    /// Goes on with a call that is not just passed on: apart, so that most calls do not make room for it.
    #[inline(never)]
    fn go_on(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R::Out, S::Error>> {
        loop {
            let next = match self.as_mut().project() {
                StateProj::Called { future } => return R::poll_unsettled(future, cx),
                StateProj::Followed { future, after } => {
                    let Poll::Ready(res) = future.poll(cx) else {
                        if let Some(After { charged: Some(charged), .. }) = after {
                            charged.late = true;
                        }
                        return Poll::Pending;
                    };
                    let after = after.take().expect(DONE);
                    return Poll::Ready(res.map(|res| after.finish(res)));
                }
                StateProj::Refused { result } => return Poll::Ready(result.take().expect(DONE)),
                StateProj::Waiting { wait } => {
                    let mut waiting = wait.as_mut().project();
                    let charged = match waiting.until.as_mut().project() {
                        UntilProj::InTurn { mut sleep, seat } => {
                            // Whoever gives up before us moves us up.
                            if let Some(turn) = seat.as_ref().and_then(|seat| seat.turn(cx.waker()))
                                && turn != sleep.deadline()
                            {
                                sleep.as_mut().reset(turn);
                            }
                            ready!(sleep.poll(cx));
                            seat.take().and_then(Seat::leave)
                        }
                        UntilProj::Asked { wait, asked } => {
                            let decided = ready!(wait.poll(cx));
                            let (_, req, gate) = waiting.call.as_ref().expect(DONE);
                            let ruling = Ruling { asked: *asked, decided, now: gate.core.clock.now() };
                            if gate.refuses(&ruling) {
                                let answer = gate.turn_away(req, &ruling);
                                *waiting.call = None;
                                return Poll::Ready(answer);
                            }
                            match gate.judge::<St::Wait>(ruling) {
                                Course::Passed { charged, delayed: Some(delayed) } => {
                                    let seat = Seat::new(gate, req, charged, delayed);
                                    let until = Until::in_turn(&gate.core, seat);
                                    waiting.until.set(until);
                                    continue;
                                }
                                Course::Passed { charged, delayed: None } => Some(charged),
                                Course::Uncounted => None,
                                Course::Denied | Course::Asked(..) => {
                                    unreachable!("the store has answered, and is not asked twice")
                                }
                            }
                        }
                    };
                    let (mut service, req, gate) = waiting.call.take().expect(DONE);
                    Self::called(&mut service, req, &gate, charged)
                }
            };
            self.set(next);
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
        let state = match &self.state {
            State::Called { .. } | State::Followed { .. } => "called",
            State::Refused { .. } => "refused",
            State::Waiting { wait } => match wait.until {
                Until::InTurn { .. } => "waiting for its turn",
                Until::Asked { .. } => "waiting for the store",
            },
        };
        f.debug_tuple("RateLimitFuture").field(&state).finish()
    }
}
