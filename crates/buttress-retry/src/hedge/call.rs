use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use buttress_core::{
    Cause, Classify, End, EndpointId, Outcome, OutcomeKind, RejectionKind, Timestamp, Verdict,
};

use super::service::Core;
use crate::future::GRACE;
use crate::handle::count;
use crate::policy::{Asked, Elsewhere, Failed, Pace, Sent, Skip};
use crate::replay::sealed::{Again, Note, Stamp, Terms};
use crate::{HedgeEvent, Reads, Repeat, proof};

/// The longest that an answer may put off the next attempt; one that asks for more is the last.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A call that is under way: what is known of it besides its attempts.
pub(crate) struct Call<S, R, C, K> {
    core: Arc<Core<S, R, C>>,
    /// What it takes to send it again, or why that will not be.
    spare: Result<K, Skip>,
    repeatable: bool,
    start: Timestamp,
    deadline: Timestamp,
    /// Attempts of layers above, before this one.
    before: u32,
    /// How many attempts were begun, those among them that wait for their instance.
    attempts: u32,
    next: Next,
    /// What a failed attempt asked to wait for: no other one makes it earlier.
    not_before: Timestamp,
    /// Whether a failed attempt ruled out further ones: no other one allows them again.
    settled: bool,
    /// The last reason that was told why there is no further attempt.
    skipped: Option<Skip>,
    /// Until when a body that a lost attempt still has is waited for.
    patience: Option<Timestamp>,
    tried: Option<EndpointId>,
}

/// When the next attempt is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Not asked yet.
    Unset,
    At(Timestamp),
    Never,
}

/// What becomes of a call after one of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// This is the answer.
    Answer,
    /// It is the answer if nothing better comes.
    Failure(Failure),
}

/// What a failure is worth beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// It is proof that its attempt was not carried out.
    unprocessed: bool,
    /// A layer of ours refused it.
    refused: bool,
}

impl Failure {
    /// Whether it is the answer of a call that had the other failure before: the last one is, but for refusals of ours. And
    /// proof of one attempt is no proof of the call, so it never stands for one that may have been carried out.
    pub(crate) const fn goes_before(self, other: Self) -> bool {
        if self.unprocessed == other.unprocessed { !self.refused } else { other.unprocessed }
    }
}

impl<S, R, C, K> Call<S, R, C, K> {
    pub(crate) fn new(core: Arc<Core<S, R, C>>, terms: Terms<K>, start: Timestamp) -> Self {
        let Terms { spare, repeatable, attempt, deadline } = terms;
        let before = attempt.saturating_sub(1);
        // What cannot be sent again, or must not, is not waited for.
        let next = if spare.is_ok() && repeatable { Next::Unset } else { Next::Never };
        Self {
            core,
            spare,
            repeatable,
            start,
            deadline,
            before,
            attempts: 1,
            next,
            not_before: Timestamp::ZERO,
            settled: false,
            skipped: None,
            patience: None,
            tried: None,
        }
    }

    pub(crate) fn clock(&self) -> &buttress_core::Clock {
        &self.core.settings.watch.clock
    }

    /// When the next attempt is due, if there is to be one.
    pub(crate) fn due(&mut self) -> Option<Timestamp> {
        if self.next == Next::Unset {
            self.next = match self.core.settings.delay.at(self.start) {
                Some(delay) => self.at(self.start + delay),
                None => Next::Never,
            };
        }
        match self.next {
            Next::At(due) => Some(due),
            _ => None,
        }
    }

    /// No attempt begins when the caller has stopped waiting.
    fn at(&self, due: Timestamp) -> Next {
        let due = due.max(self.not_before);
        if due < self.deadline { Next::At(due) } else { Next::Never }
    }

    /// Judges what the attempt of this number gave, which is over and dropped.
    pub(crate) fn judge<Req, Res, E>(&mut self, number: u32, result: Result<&Res, &E>) -> Judged
    where
        R: Repeat<Req> + Again<Req, Spare = K> + Reads<Res>,
        C: Classify<Res, E>,
        E: Cause,
    {
        let outcome = match self.core.classify.classify(result) {
            Verdict::Now(outcome) => outcome,
            Verdict::AtEnd => self.core.classify.at_end(&End::Head),
        };
        match outcome.kind {
            OutcomeKind::Success => {
                self.succeeded(number);
                Judged::Answer
            }
            OutcomeKind::Ignored => Judged::Answer,
            _ => self.failed::<Req, _, _>(result, &outcome),
        }
    }

    fn succeeded(&self, number: u32) {
        let settings = &self.core.settings;
        if number > 1 {
            count(&settings.tally.won);
            settings.watch.tell(|name| HedgeEvent::Won { name, attempt: number });
        }
        if settings.delay.is_moving() && self.spare_was_kept() {
            let now = settings.watch.clock.now();
            settings.delay.record(now - self.start, now);
        }
    }

    /// Whether the call is of those that are hedged: others may take another time.
    fn spare_was_kept(&self) -> bool {
        self.repeatable && (self.spare.is_ok() || self.attempts > 1)
    }

    /// An attempt failed: sets when the next one is due.
    fn failed<Req, Res, E>(&mut self, result: Result<&Res, &E>, outcome: &Outcome) -> Judged
    where
        R: Repeat<Req> + Again<Req, Spare = K> + Reads<Res>,
        E: Cause,
    {
        let settings = &self.core.settings;
        let note = match result {
            Ok(res) => self.core.repeat.read(res),
            Err(error) => {
                let refusal = error.rejection().filter(|refusal| refusal.kind != RejectionKind::Timeout);
                Note { refusal: refusal.map(|refusal| refusal.elsewhere), ..Note::default() }
            }
        };
        for field in note.malformed.into_iter().flatten() {
            count(&settings.tally.malformed);
            settings.watch.tell(|name| HedgeEvent::Malformed { name, field });
        }
        // As in a retry layer: what rules a further attempt out in any case goes before the reason that there is none left.
        let (body, never) = match &self.spare {
            Ok(spare) => (self.core.repeat.sent(spare), None),
            Err(Skip::BodyTooLarge) => (Sent::TooMuch, None),
            Err(Skip::Attempts) => (Sent::All, None),
            Err(skip) => (Sent::All, Some(*skip)),
        };
        let failed = Failed {
            marked: outcome.no_retry || note.marked,
            // Where a call may go elsewhere is for a retry layer: here it would be refused again.
            refusal: note.refusal.map(|_| Elsewhere::Here),
            repeatable: self.repeatable,
            unprocessed: outcome.unprocessed || result.is_err_and(proof::nothing_processed),
            answered: result.is_ok(),
            body,
            attempts_left: self.spare.is_ok() && self.attempts <= settings.at_most,
        };
        let asked = match (note.pushback, outcome.retry_after) {
            (Some(wait), _) => Asked::Pushback(wait),
            (None, Some(wait)) => Asked::RetryAfter(wait),
            (None, None) => Asked::Nothing,
        };
        let now = settings.watch.clock.now();
        let (backoff, deadline) = (Duration::ZERO, self.deadline);
        let pace = Pace { backoff, random: None, cap: LONGEST_WAIT, now, deadline };
        let next = match never {
            Some(skip) => Err(skip),
            None => failed.rule().and_then(|()| pace.delay(asked)),
        };
        self.tried = note.tried.or(self.tried);
        match next {
            _ if self.settled => {}
            Ok(wait) => {
                if asked != Asked::Nothing {
                    self.not_before = self.not_before.max(now + wait);
                }
                self.next = Next::At(self.not_before.max(now + wait));
            }
            // It is told when the others have failed as well.
            Err(Skip::Attempts) => self.next = Next::Never,
            Err(reason) => {
                self.settled = true;
                self.skip(reason);
            }
        }
        Judged::Failure(Failure { unprocessed: failed.unprocessed, refused: note.refusal.is_some() })
    }

    /// The request for another attempt, which is due, while so many others are under way.
    ///
    /// What is due and cannot be is told.
    pub(crate) fn fire<Req>(&mut self, under_way: usize) -> Option<(u32, S, <R as Again<Req>>::Sent)>
    where
        R: Again<Req, Spare = K>,
        S: Clone,
    {
        let (core, now) = (self.core.clone(), self.clock().now());
        let settings = &core.settings;
        let sent = self.may_fire::<Req>(under_way, now).and_then(|()| {
            let last = self.attempts >= settings.at_most;
            let stamp = Stamp {
                attempt: self.before.saturating_add(self.attempts + 1),
                deadline: self.deadline,
                tried: self.tried.take(),
                last,
            };
            let spare = std::mem::replace(&mut self.spare, Err(Skip::Attempts))?;
            let (sent, spare) = core.repeat.again(spare, stamp).ok_or(Skip::BodyUnfinished)?;
            if let Some(spare) = spare {
                self.spare = Ok(spare);
            } else if !last {
                self.spare = Err(Skip::BodyTooLarge);
            }
            Ok(sent)
        });
        let sent = match sent {
            Ok(sent) => sent,
            Err(reason) => {
                self.skip(reason);
                return None;
            }
        };
        self.attempts += 1;
        self.patience = None;
        let more = self.spare.is_ok() && self.repeatable;
        self.next = match settings.delay.at(now) {
            Some(delay) if more => self.at(now + delay),
            _ => Next::Never,
        };
        Some((self.attempts, core.instance(), sent))
    }

    /// Whether the attempt of this number, whose instance got ready, is made. It is not when that is too late: then tells so.
    pub(crate) fn begins(&mut self, attempt: u32) -> bool {
        if self.is_late() {
            self.settled = true;
            self.attempts -= 1;
            self.skip(Skip::Deadline);
            return false;
        }
        let settings = &self.core.settings;
        count(&settings.tally.fired);
        let after = settings.watch.clock.now() - self.start;
        settings.watch.tell(|name| HedgeEvent::Fired { name, attempt, after });
        true
    }

    fn may_fire<Req>(&self, under_way: usize, now: Timestamp) -> Result<(), Skip>
    where
        R: Again<Req, Spare = K>,
    {
        let spare = self.spare.as_ref().map_err(|skip| *skip)?;
        if self.is_late() {
            return Err(Skip::Deadline);
        }
        match self.core.repeat.sent(spare) {
            Sent::All => {}
            Sent::TooMuch => return Err(Skip::BodyTooLarge),
            Sent::Broken => return Err(Skip::BodyFailed),
            // One reads it after the other.
            Sent::Part if under_way == 0 => {}
            Sent::Part | Sent::InUse => return Err(Skip::BodyUnfinished),
        }
        if self.core.settings.budget.withdraw(now) { Ok(()) } else { Err(Skip::Budget) }
    }

    /// Until when to wait for what a lost attempt still has of the body: the connection's task drops that a moment after it
    /// has told of the loss.
    pub(crate) fn missing<Req>(&mut self, cx: &Context<'_>) -> Option<Timestamp>
    where
        R: Again<Req, Spare = K>,
    {
        let spare = self.spare.as_ref().ok()?;
        if self.core.repeat.poll_back(spare, cx).is_ready() {
            return None;
        }
        let until = self.patience.unwrap_or_else(|| (self.clock().now() + GRACE).min(self.deadline));
        self.patience = Some(until);
        Some(until)
    }

    /// Whether the next attempt is due, and only the body is missing.
    pub(crate) const fn is_waiting_for_the_body(&self) -> bool {
        self.patience.is_some()
    }

    /// Whether the caller has stopped waiting.
    fn is_late(&self) -> bool {
        self.deadline != Timestamp::MAX && self.clock().now() >= self.deadline
    }

    /// There is no further attempt now. A call tells each reason once.
    fn skip(&mut self, reason: Skip) {
        self.next = Next::Never;
        if self.skipped.replace(reason) == Some(reason) {
            return;
        }
        let settings = &self.core.settings;
        count(&settings.tally.skipped[reason as usize]);
        settings.watch.tell(|name| HedgeEvent::Skipped { name, attempts: self.attempts, reason });
    }

    /// Every attempt has failed: tells so, and the layers above that this is how it stays.
    pub(crate) fn give_up<Res, E>(&mut self, result: &mut Result<Res, E>)
    where
        R: Reads<Res>,
    {
        if !self.settled && self.attempts > self.core.settings.at_most {
            self.skip(Skip::Attempts);
        }
        if let (Ok(res), true) = (result, self.attempts > 1) {
            self.core.repeat.mark(res);
        }
    }
}
