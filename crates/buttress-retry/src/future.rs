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
    state: State<S, <R as Repeat<Req>>::Sent, S::Future, S::Error>,
    /// `None` once the call is over.
    call: Option<Call<S, R, C, <R as Again<Req>>::Spare>>,
}

#[pin_project(project = StateProj)]
enum State<S, Sent, F, E> {
    Called {
        #[pin]
        future: F,
    },
    Waiting {
        sleep: Pin<Box<Sleep>>,
        /// An error to fall back on, should the body not have come back.
        error: Option<E>,
        /// Whether the wait is over, and only the body is still missing.
        late: bool,
    },
    /// Apart, so that a call which is tried once does not make room for it.
    Readying {
        call: Box<(S, Option<Sent>)>,
    },
    Over,
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
}

/// How long a body that a lost attempt still has is waited for.
const GRACE: Duration = Duration::from_millis(100);

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
                self.skipped(reason);
                if let (Ok(res), true) = (result, self.is_final(reason)) {
                    self.core.repeat.mark(res);
                }
                Next::Over
            }
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
        if let Some(field) = note.malformed {
            count(&settings.tally.malformed);
            settings.watch.tell(|name| RetryEvent::Malformed { name, field });
        }
        let refusal = note.refusal.map(|elsewhere| {
            if elsewhere && settings.elsewhere { Elsewhere::Elsewhere } else { Elsewhere::Here }
        });
        let (body, never) = match &self.spare {
            Ok(spare) => (repeat.sent(spare), None),
            Err(Skip::BodyTooLarge) => (Sent::TooMuch, None),
            Err(skip) => (Sent::All, Some(*skip)),
        };
        if let Some(skip) = never {
            return Err(skip);
        }
        let failed = Failed {
            marked: outcome.no_retry || note.marked,
            refusal,
            repeatable: self.repeatable,
            unprocessed: outcome.unprocessed || result.is_err_and(proof::nothing_processed),
            answered: result.is_ok(),
            body,
            attempts_left: self.attempt < settings.attempts,
        };
        failed.rule()?;

        let now = settings.watch.clock.now();
        let delay = if refusal.is_some() {
            // Others have not been asked yet.
            let pace = Pace {
                backoff: Duration::ZERO,
                random: None,
                cap: Duration::MAX,
                now,
                deadline: self.deadline,
            };
            pace.delay(Asked::Nothing)?
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
            if !settings.budget.withdraw(now) {
                return Err(Skip::Budget);
            }
            (self.step, self.waited) = match asked {
                Asked::Pushback(_) => (1, Duration::ZERO),
                _ => (self.step.saturating_add(1), backoff),
            };
            delay
        };
        // From here on the attempt reads nothing more that the next one has to read.
        let stopped = self.spare.as_ref().is_ok_and(|spare| repeat.stop(spare));
        if result.is_ok() && !stopped {
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

    /// The request for the attempt that was decided on, unless its body did not come back.
    fn again<Req>(&mut self) -> Option<<R as Again<Req>>::Sent>
    where
        R: Again<Req, Spare = K>,
    {
        let stamp = Stamp {
            attempt: self.before.saturating_add(self.attempt),
            deadline: self.deadline,
            tried: self.tried.take(),
            last: self.attempt >= self.core.settings.attempts,
        };
        let spare = std::mem::replace(&mut self.spare, Err(Skip::Attempts)).ok()?;
        let Some((sent, spare)) = self.core.repeat.again(spare, stamp) else {
            self.attempt -= 1;
            return None;
        };
        count(&self.core.settings.tally.retries);
        if let Some(spare) = spare {
            self.spare = Ok(spare);
        }
        Some(sent)
    }
}

impl<S, Req, R, C> RetryFuture<S, Req, R, C>
where
    R: Repeat<Req>,
    S: Service<<R as Repeat<Req>>::Sent>,
{
    pub(crate) const fn new(future: S::Future, call: Call<S, R, C, <R as Again<Req>>::Spare>) -> Self {
        Self { state: State::Called { future }, call: Some(call) }
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const DONE: &str = "polled after it was ready";
        let mut this = self.project();
        loop {
            let mut result = match this.state.as_mut().project() {
                StateProj::Called { future } => ready!(future.poll(cx)),
                StateProj::Waiting { sleep, error, late } => {
                    if !*late {
                        ready!(sleep.as_mut().poll(cx));
                    }
                    let call = this.call.as_mut().expect(DONE);
                    // A connection's task drops the body of a lost request a moment after it has told of the loss.
                    if call.poll_back::<Req>(cx).is_pending() {
                        if !*late {
                            *late = true;
                            sleep.as_mut().reset(call.patience());
                        }
                        ready!(sleep.as_mut().poll(cx));
                    }
                    let error = error.take();
                    let Some(sent) = call.again::<Req>() else {
                        call.skipped(Skip::BodyUnfinished);
                        *this.call = None;
                        this.state.set(State::Over);
                        return Poll::Ready(Err(error.expect("what was answered has been stopped")));
                    };
                    drop(error);
                    let instance = call.core.instance();
                    this.state.set(State::Readying { call: Box::new((instance, Some(sent))) });
                    continue;
                }
                StateProj::Readying { call } => match ready!(call.0.poll_ready(cx)) {
                    Ok(()) => {
                        let future = call.0.call(call.1.take().expect(DONE));
                        this.state.set(State::Called { future });
                        continue;
                    }
                    Err(error) => Err(error),
                },
                StateProj::Over => panic!("{DONE}"),
            };

            let call = this.call.as_mut().expect(DONE);
            match call.judge::<Req, _, _>(&mut result) {
                Next::Over => {
                    // What was kept of the body goes now, and not with this future.
                    *this.call = None;
                    this.state.set(State::Over);
                    return Poll::Ready(result);
                }
                Next::Again(delay) => {
                    let clock = &call.core.settings.watch.clock;
                    let sleep = Box::pin(clock.sleep(delay));
                    // The attempt and its answer are gone before the wait begins.
                    this.state.set(State::Waiting { sleep, error: result.err(), late: false });
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
