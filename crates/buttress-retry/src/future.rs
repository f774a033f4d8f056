use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress_core::{Cause, Classify, End, Outcome, OutcomeKind, RejectionKind, Sleep, Timestamp, Verdict};
use pin_project::pin_project;
use tower_service::Service;

use crate::handle::count;
use crate::policy::{Asked, Elsewhere, Failed, Pace, Sent, Skip};
use crate::replay::sealed::{Again, Note, Stamp, Terms};
use crate::service::Core;
use crate::{Answers, Http, Reads, Repeat, RetryEvent, proof};

/// The response future of [`Retry`](crate::Retry).
///
/// # Cancel safety
///
/// Dropping it drops the attempt, or the wait for the next one, and gives back what was kept of the body.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RetryFuture<S, Req, R = Http, C = Answers>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    #[pin]
    state: State<S, <R as Repeat<Req>>::Sent, S::Future, S::Response, S::Error>,
    /// `None` once the call is over.
    call: Option<Call<S, R, C, <R as Again<Req>>::Spare>>,
    /// The error of the last attempt that may have been carried out.
    before: Option<Box<S::Error>>,
}

#[pin_project(project = StateProj)]
enum State<S, Sent, F, Res, E> {
    Called {
        #[pin]
        future: F,
    },
    /// Apart, as the next one is, so that a call which is tried once does not make room for them.
    Waiting {
        wait: Pin<Box<Wait<Res, E>>>,
    },
    Readying {
        call: Box<Attempt<S, Sent, E>>,
    },
    Over,
}

/// The time between two attempts.
#[pin_project]
struct Wait<Res, E> {
    #[pin]
    sleep: Sleep,
    /// What to end with, should the next attempt not come about. An answer is kept only where a deadline may have passed
    /// by then: it holds its connection, and what limits have given it.
    kept: Option<Result<Res, E>>,
    /// Whether the wait is over, and only the body is still missing.
    late: bool,
}

/// An attempt that is about to be made.
struct Attempt<S, Sent, E> {
    instance: S,
    request: Option<Sent>,
    /// The error of the one before, to end with when the deadline passes first.
    error: Option<E>,
}

/// A call that is under way.
pub(crate) struct Call<S, R, C, K> {
    core: Arc<Core<S, R, C>>,
    /// What it takes to try again, or why that will not be.
    spare: Result<K, Skip>,
    repeatable: bool,
    deadline: Timestamp,
    /// Attempts of layers above, before this one.
    before: u32,
    /// Which attempt is under way, from 1.
    attempt: u32,
    /// Which retry the next one is for the backoff, which a pushback resets.
    step: u32,
    /// The last wait by backoff.
    waited: Duration,
    tried: Option<buttress_core::EndpointId>,
    /// Whether the budget is asked when the next attempt is made.
    owes: bool,
    /// Whether an attempt may have been carried out. What ends the call then is proof of itself alone.
    unsure: bool,
}

/// How many attempts are made in one poll, where none of them waits, before other tasks have their turn.
pub(crate) const MOST_AT_ONCE: u32 = 32;

const DONE: &str = "polled after it was ready";

/// How long a body that a lost attempt still has is waited for.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// What becomes of a call after an attempt.
enum Next {
    Over,
    Again(Duration),
}

impl<S, R, C, K> Call<S, R, C, K> {
    pub(crate) fn new(core: Arc<Core<S, R, C>>, terms: Terms<K>, deadline: Timestamp) -> Self {
        let Terms { spare, repeatable, attempt, .. } = terms;
        let before = attempt.saturating_sub(1);
        Self {
            core,
            spare,
            repeatable,
            deadline,
            before,
            attempt: 1,
            step: 1,
            waited: Duration::ZERO,
            tried: None,
            owes: false,
            unsure: false,
        }
    }

    /// Judges an attempt. What will not be tried again is marked so, where that is for layers above to know.
    fn judge<Req, Res, E>(&mut self, result: &mut Result<Res, E>) -> Next
    where
        R: Repeat<Req> + Again<Req, Spare = K> + Reads<Res>,
        C: Classify<Res, E>,
        E: Cause,
    {
        let classify = &self.core.classify;
        let outcome = match classify.classify(result.as_ref()) {
            Verdict::Now(outcome) => outcome,
            Verdict::AtEnd => classify.at_end(&End::Head),
        };
        if matches!(outcome.kind, OutcomeKind::Success | OutcomeKind::Ignored) {
            if self.attempt > 1 && outcome.kind == OutcomeKind::Success {
                self.recovered();
            }
            return Next::Over;
        }
        match self.decide::<Req, _, _>(result.as_ref(), &outcome) {
            Ok(delay) => Next::Again(delay),
            Err(reason) => {
                self.give_up(reason, result);
                // That one attempt was not processed is no proof for a layer above, which sees no other.
                let is_proof = outcome.unprocessed && !matches!(outcome.kind, OutcomeKind::Rejected(_));
                if let (Ok(res), true) = (result, is_proof && self.unsure) {
                    self.core.repeat.mark(res);
                }
                Next::Over
            }
        }
    }

    /// There will be no further attempt.
    fn give_up<Res, E>(&self, reason: Skip, result: &mut Result<Res, E>)
    where
        R: Reads<Res>,
    {
        self.skipped(reason);
        if let (Ok(res), true) = (result, self.is_final(reason)) {
            self.core.repeat.mark(res);
        }
    }

    fn decide<Req, Res, E>(&mut self, result: Result<&Res, &E>, outcome: &Outcome) -> Result<Duration, Skip>
    where
        R: Repeat<Req> + Again<Req, Spare = K> + Reads<Res>,
        E: Cause,
    {
        let Core { settings, repeat, .. } = &*self.core;
        let note = match result {
            Ok(res) => repeat.read(res),
            Err(error) => {
                let refusal = error.rejection().filter(|refusal| refusal.kind != RejectionKind::Timeout);
                Note { refusal: refusal.map(|refusal| refusal.elsewhere), ..Note::default() }
            }
        };
        for field in note.malformed.into_iter().flatten() {
            count(&settings.tally.malformed);
            settings.watch.tell(|name| RetryEvent::Malformed { name, field });
        }
        let refusal = note.refusal.map(|elsewhere| {
            if elsewhere && settings.elsewhere { Elsewhere::Elsewhere } else { Elsewhere::Here }
        });
        let body = match &self.spare {
            Ok(spare) => repeat.sent(spare),
            Err(Skip::BodyTooLarge) => Sent::TooMuch,
            // The last attempt: why it would not be tried again in any case goes first.
            Err(Skip::Attempts) => Sent::All,
            Err(skip) => return Err(*skip),
        };
        let failed = Failed {
            marked: outcome.no_retry || note.marked,
            refusal,
            repeatable: self.repeatable,
            unprocessed: outcome.unprocessed || result.is_err_and(proof::nothing_processed),
            answered: result.is_ok(),
            body,
            attempts_left: self.spare.is_ok() && self.attempt < settings.attempts,
        };
        self.unsure |= !failed.unprocessed;
        failed.rule()?;
        // From here on a lost attempt reads nothing more that the next one has to read, unless it is at it: then the budget
        // is asked when it has given that back, and may have found it too much.
        let stop = || self.spare.as_ref().is_ok_and(|spare| repeat.stop(spare));
        let stopped = result.is_ok() || stop();

        let now = settings.watch.clock.now();
        let delay = if refusal.is_some() {
            // Others have not been asked yet, and where no service has seen the call, it is no load.
            let pace = Pace {
                backoff: Duration::ZERO,
                random: None,
                cap: Duration::MAX,
                now,
                deadline: self.deadline,
            };
            let delay = pace.delay(Asked::Nothing)?;
            if !failed.unprocessed && !settings.budget.withdraw(now) {
                return Err(Skip::Budget);
            }
            delay
        } else {
            let asked = match (note.pushback, outcome.retry_after) {
                (Some(wait), _) => Asked::Pushback(wait),
                (None, Some(wait)) => Asked::RetryAfter(wait),
                (None, None) => Asked::Nothing,
            };
            let backoff = settings.backoff.wait(self.step, self.waited, settings.chance.draw());
            let random = settings.backoff.is_drawn().then(|| settings.chance.draw());
            let pace = Pace { backoff, random, cap: settings.retry_after_cap, now, deadline: self.deadline };
            let delay = pace.delay(asked)?;
            self.owes = !stopped;
            let paid = if self.owes { settings.budget.left(now) > 0 } else { settings.budget.withdraw(now) };
            if !paid {
                return Err(Skip::Budget);
            }
            (self.step, self.waited) = match asked {
                Asked::Pushback(_) => (1, Duration::ZERO),
                _ => (self.step.saturating_add(1), backoff),
            };
            delay
        };
        // An attempt that was answered goes on sending until there is to be another one.
        if result.is_ok() && !stop() {
            return Err(Skip::BodyUnfinished);
        }
        self.tried = note.tried;
        self.attempt += 1;
        settings.watch.tell(|name| RetryEvent::Retrying { name, attempt: self.attempt, delay });
        Ok(delay)
    }

    /// Whether this is how it stays, for the layers above as well.
    fn is_final(&self, reason: Skip) -> bool {
        match reason {
            Skip::Attempts => self.attempt > 1,
            Skip::Budget | Skip::Deadline | Skip::BodyTooLarge => true,
            _ => false,
        }
    }

    fn recovered(&self) {
        let settings = &self.core.settings;
        count(&settings.tally.recovered);
        settings.watch.tell(|name| RetryEvent::Recovered { name, attempts: self.attempt });
    }

    fn skipped(&self, reason: Skip) {
        let settings = &self.core.settings;
        count(&settings.tally.skipped[reason as usize]);
        settings.watch.tell(|name| RetryEvent::Skipped { name, attempts: self.attempt, reason });
    }

    fn poll_back<Req>(&self, cx: &Context<'_>) -> Poll<()>
    where
        R: Again<Req, Spare = K>,
    {
        self.spare.as_ref().map_or(Poll::Ready(()), |spare| self.core.repeat.poll_back(spare, cx))
    }

    /// Until when a body is waited for that did not come back during the wait.
    fn patience(&self) -> Timestamp {
        (self.core.settings.watch.clock.now() + GRACE).min(self.deadline)
    }

    /// Whether the caller has stopped waiting.
    fn is_late(&self) -> bool {
        self.deadline != Timestamp::MAX && self.core.settings.watch.clock.now() >= self.deadline
    }

    /// The request for the attempt that was decided on, or what came in between.
    fn again<Req>(&mut self) -> Result<<R as Again<Req>>::Sent, Skip>
    where
        R: Again<Req, Spare = K>,
    {
        let sent = self.make::<Req>();
        if sent.is_err() {
            self.attempt -= 1;
        }
        sent
    }

    fn make<Req>(&mut self) -> Result<<R as Again<Req>>::Sent, Skip>
    where
        R: Again<Req, Spare = K>,
    {
        let Core { settings, repeat, .. } = &*self.core;
        if self.is_late() {
            return Err(Skip::Deadline);
        }
        match repeat.sent(self.spare.as_ref().map_err(|skip| *skip)?) {
            Sent::TooMuch => return Err(Skip::BodyTooLarge),
            Sent::Broken => return Err(Skip::BodyFailed),
            Sent::InUse => return Err(Skip::BodyUnfinished),
            Sent::All | Sent::Part => {}
        }
        if std::mem::take(&mut self.owes) && !settings.budget.withdraw(settings.watch.clock.now()) {
            return Err(Skip::Budget);
        }
        let stamp = Stamp {
            attempt: self.before.saturating_add(self.attempt),
            deadline: self.deadline,
            tried: self.tried.take(),
            last: self.attempt >= settings.attempts,
        };
        let spare = std::mem::replace(&mut self.spare, Err(Skip::BodyUnfinished))?;
        let (sent, spare) = repeat.again(spare, stamp).ok_or(Skip::BodyUnfinished)?;
        self.spare = spare.ok_or(if stamp.last { Skip::Attempts } else { Skip::BodyTooLarge });
        Ok(sent)
    }
}

impl<S, Req, R, C> RetryFuture<S, Req, R, C>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    pub(crate) const fn new(future: S::Future, call: Call<S, R, C, <R as Again<Req>>::Spare>) -> Self {
        Self { state: State::Called { future }, call: Some(call), before: None }
    }

    /// The result of the call. What was kept of the body goes now, and not with this future.
    fn end(self: Pin<&mut Self>, result: Result<S::Response, S::Error>) -> Result<S::Response, S::Error>
    where
        R: Reads<S::Response>,
        S::Error: Cause,
    {
        let mut this = self.project();
        this.state.set(State::Over);
        let call = this.call.take().expect(DONE);
        match result {
            result if !call.unsure => result,
            Ok(mut res) => {
                call.core.repeat.doubt(&mut res);
                Ok(res)
            }
            Err(error) => Err(proof::without(error, this.before.take())),
        }
    }
}

impl<S, Req, R, C> Future for RetryFuture<S, Req, R, C>
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
            let mut this = self.as_mut().project();
            let mut result = match this.state.as_mut().project() {
                StateProj::Called { future } => ready!(future.poll(cx)),
                StateProj::Waiting { wait } => {
                    let mut wait = wait.as_mut().project();
                    if !*wait.late {
                        ready!(wait.sleep.as_mut().poll(cx));
                    }
                    let call = this.call.as_mut().expect(DONE);
                    // A connection's task drops the body of a lost request a moment after it has told of the loss.
                    if call.poll_back::<Req>(cx).is_pending() {
                        if !*wait.late {
                            *wait.late = true;
                            wait.sleep.as_mut().reset(call.patience());
                        }
                        ready!(wait.sleep.as_mut().poll(cx));
                    }
                    if made == MOST_AT_ONCE {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    made += 1;
                    let kept = wait.kept.take();
                    let sent = match call.again::<Req>() {
                        Ok(sent) => sent,
                        Err(reason) => {
                            let mut kept = kept.expect("what was answered has been stopped");
                            call.give_up(reason, &mut kept);
                            return Poll::Ready(self.end(kept));
                        }
                    };
                    // The instance may need what the answer holds.
                    let error = kept.and_then(Result::err);
                    let attempt = Attempt { instance: call.core.instance(), request: Some(sent), error };
                    this.state.set(State::Readying { call: Box::new(attempt) });
                    continue;
                }
                StateProj::Readying { call: attempt } => {
                    let is_ready = ready!(attempt.instance.poll_ready(cx));
                    let call = this.call.as_mut().expect(DONE);
                    if call.is_late()
                        && let Some(error) = attempt.error.take()
                    {
                        call.attempt -= 1;
                        call.skipped(Skip::Deadline);
                        return Poll::Ready(self.end(Err(error)));
                    }
                    count(&call.core.settings.tally.retries);
                    if let Some(error) = attempt.error.take().filter(|error| !proof::is_in(error)) {
                        *this.before = Some(Box::new(error));
                    }
                    match is_ready {
                        Ok(()) => {
                            let future = attempt.instance.call(attempt.request.take().expect(DONE));
                            this.state.set(State::Called { future });
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                StateProj::Over => panic!("{DONE}"),
            };

            let call = this.call.as_mut().expect(DONE);
            match call.judge::<Req, _, _>(&mut result) {
                Next::Over => return Poll::Ready(self.end(result)),
                Next::Again(delay) => {
                    let clock = &call.core.settings.watch.clock;
                    let sleep = clock.sleep(delay);
                    // The attempt is gone before the wait begins, and its answer where no deadline makes it needed.
                    let kept = match result {
                        Ok(_) if call.deadline == Timestamp::MAX => None,
                        result => Some(result),
                    };
                    this.state.set(State::Waiting { wait: Box::pin(Wait { sleep, kept, late: false }) });
                }
            }
        }
    }
}

impl<S, Req, R, C> fmt::Debug for RetryFuture<S, Req, R, C>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Waiting { .. } => "waiting to try again",
            State::Readying { .. } => "waiting for the inner service",
            State::Over => "over",
        };
        f.debug_struct("RetryFuture")
            .field("state", &state)
            .field("attempt", &self.call.as_ref().map(|call| call.attempt))
            .finish_non_exhaustive()
    }
}
