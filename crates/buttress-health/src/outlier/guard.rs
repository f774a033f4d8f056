//! A call, until it is known how it ended.

use std::fmt;
use std::mem;
use std::sync::Arc;

use buttress_core::{Classify, End, Guard, Outcome, OutcomeKind, Rejection, RejectionKind, Verdict};

use super::FindFault;
use super::core::Core;
use super::host::Host;
use crate::Fault;
use crate::policy::outlier::Seen;

/// Who judges the calls of one endpoint.
pub(crate) struct Judge<C, B> {
    pub(crate) classify: C,
    pub(crate) blame: B,
    pub(crate) core: Arc<Core>,
    pub(crate) host: Arc<Host>,
}

/// A call from its beginning to its head. Empty once it is judged. Dropped before that, nobody waits for its answer, and
/// that says nothing of the endpoint.
pub(crate) struct Admitted<C, B>(Option<Open<C, B>>);

struct Open<C, B> {
    judge: Arc<Judge<C, B>>,
    epoch: u32,
}

/// What a call holds from its head to its end: the guard that [`Finish`](buttress_core::Finish) binds to the rest of it,
/// and so a part of the type of the body that [`at_end`](crate::OutlierLayer::at_end) makes.
///
/// Dropped before the call is judged, it counts as nothing.
pub struct OutlierCall<C, B> {
    /// `None` once the call is judged.
    open: Option<Open<C, B>>,
    /// The judges' own, so that this type does not depend on what they judge.
    outcome_at_end: fn(&C, &End<'_>) -> Outcome,
    fault_at_end: fn(&B, &End<'_>) -> Fault,
}

/// What an outcome says of the endpoint; `fault` is asked where that is a failure. `None` is nothing.
#[inline]
fn weigh(outcome: &Outcome, fault: impl FnOnce() -> Fault) -> Option<Seen> {
    match &outcome.kind {
        OutcomeKind::Success => Some(Seen::Success),
        OutcomeKind::Failure => Some(Seen::Failure(fault())),
        OutcomeKind::Soft => Some(Seen::Soft),
        OutcomeKind::Rejected(rejection) if is_too_slow(rejection) => Some(Seen::Failure(Fault::Local)),
        // Ignored, a refusal of ours further down, and what is to come.
        _ => None,
    }
}

/// A refusal of ours further down tells nothing of the endpoint, unless it is that the endpoint took too long.
fn is_too_slow(rejection: &Rejection) -> bool {
    matches!(rejection.kind, RejectionKind::Timeout | RejectionKind::DeadlineExceeded)
}

impl<C, B> Admitted<C, B> {
    #[inline]
    pub(crate) fn new(judge: &Arc<Judge<C, B>>) -> Self {
        Self(Some(Open { epoch: judge.host.rows().epoch(), judge: Arc::clone(judge) }))
    }

    /// The response future has given a response. `None` where that was enough; else what it takes to follow the call.
    #[inline]
    pub(crate) fn answered<Res, Err>(&mut self, res: &Res) -> Option<OutlierCall<C, B>>
    where
        C: Classify<Res, Err>,
        B: FindFault<Res, Err>,
    {
        let Open { judge, .. } = self.0.as_ref()?;
        let Verdict::Now(outcome) = judge.classify.classify(Ok(res)) else {
            return Some(OutlierCall { open: self.0.take(), ..OutlierCall::over::<Res, Err>() });
        };
        let seen = weigh(&outcome, || judge.blame.fault(Ok(res)));
        self.judged(seen);
        None
    }

    /// The response future has given an error: there is no body to wait for.
    #[inline(never)]
    pub(crate) fn failed<Res, Err>(&mut self, error: &Err)
    where
        C: Classify<Res, Err>,
        B: FindFault<Res, Err>,
    {
        let Some(Open { judge, .. }) = &self.0 else { return };
        let outcome = match judge.classify.classify(Err(error)) {
            Verdict::Now(outcome) => outcome,
            Verdict::AtEnd => judge.classify.at_end(&End::Failed),
        };
        let seen = weigh(&outcome, || judge.blame.fault(Err(error)));
        self.judged(seen);
    }

    #[inline]
    fn judged(&mut self, seen: Option<Seen>) {
        if let (Some(Open { judge, epoch }), Some(seen)) = (self.0.take(), seen) {
            judge.core.record(&judge.host, epoch, seen);
        }
    }

    /// Something panicked in our own frame: there was no answer.
    #[inline]
    fn panicked(&mut self) {
        if self.0.is_some() {
            self.panicked_open();
        }
    }

    #[cold]
    fn panicked_open(&mut self) {
        self.judged(Some(Seen::Failure(Fault::Local)));
    }
}

impl<C, B> OutlierCall<C, B> {
    /// One that is judged.
    #[inline]
    pub(crate) fn over<Res, Err>() -> Self
    where
        C: Classify<Res, Err>,
        B: FindFault<Res, Err>,
    {
        Self { open: None, outcome_at_end: C::at_end, fault_at_end: B::at_end }
    }

    #[inline(never)]
    fn end_open(&mut self, end: &End<'_>) {
        let mut admitted = Admitted(self.open.take());
        // The judges may panic.
        let mut armed = Armed::new(&mut admitted);
        let call = armed.call();
        if let Some(Open { judge, .. }) = &call.0 {
            let outcome = (self.outcome_at_end)(&judge.classify, end);
            let seen = weigh(&outcome, || (self.fault_at_end)(&judge.blame, end));
            call.judged(seen);
        }
        armed.disarm();
    }
}

impl<C, B> Guard for OutlierCall<C, B> {
    #[inline]
    fn end(&mut self, end: &End<'_>) {
        if self.open.is_some() {
            self.end_open(end);
        }
    }
}

impl<C, B> fmt::Debug for OutlierCall<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierCall").field("judged", &self.open.is_none()).finish_non_exhaustive()
    }
}

/// A call on its way into the inner service. Dropped, that has panicked.
pub(crate) struct Entering<C, B>(Admitted<C, B>);

impl<C, B> Entering<C, B> {
    #[inline]
    pub(crate) const fn new(call: Admitted<C, B>) -> Self {
        Self(call)
    }

    #[inline]
    pub(crate) fn entered(mut self) -> Admitted<C, B> {
        Admitted(self.0.0.take())
    }
}

impl<C, B> Drop for Entering<C, B> {
    #[inline]
    fn drop(&mut self) {
        self.0.panicked();
    }
}

/// Counts a panic in our own frame as a failure. (`std::thread::panicking()` is also true where someone else's unwinding
/// drops a call.)
pub(crate) struct Armed<'a, C, B>(&'a mut Admitted<C, B>);

impl<'a, C, B> Armed<'a, C, B> {
    #[inline]
    pub(crate) const fn new(call: &'a mut Admitted<C, B>) -> Self {
        Self(call)
    }

    #[inline]
    pub(crate) const fn call(&mut self) -> &mut Admitted<C, B> {
        self.0
    }

    #[inline]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl<C, B> Drop for Armed<'_, C, B> {
    #[inline]
    fn drop(&mut self) {
        self.0.panicked();
    }
}
