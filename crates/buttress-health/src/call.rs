//! A call whose outcome is marked.

use std::fmt;
use std::mem;
use std::sync::Arc;

use buttress_core::{Classify, End, Guard, Outcome, OutcomeKind, RejectionKind, Verdict};

use crate::serve::Inner;

/// Who judges calls, and where it is marked.
pub(crate) struct Judge<C> {
    pub(crate) classify: C,
    pub(crate) inner: Arc<Inner>,
}

impl<C> Judge<C> {
    #[inline]
    fn mark(&self, outcome: &Outcome) {
        let failed = match &outcome.kind {
            // What asks for less is well.
            OutcomeKind::Success | OutcomeKind::Soft => false,
            OutcomeKind::Failure => true,
            OutcomeKind::Rejected(rejection) => match rejection.kind {
                RejectionKind::Timeout | RejectionKind::DeadlineExceeded => true,
                _ => return,
            },
            // Ignored, and what is to come.
            _ => return,
        };
        self.inner.mark(failed);
    }
}

/// A call on its way to its head. Empty once it is marked, and where calls are not counted.
///
/// Dropped before that, the caller went away, and nothing is marked.
pub(crate) struct Admitted<C>(Option<Arc<Judge<C>>>);

impl<C> Admitted<C> {
    #[inline]
    pub(crate) fn new(judge: &Arc<Judge<C>>) -> Self {
        Self(judge.inner.marks().then(|| Arc::clone(judge)))
    }

    /// The response future has given a response. What it takes to follow the call from here.
    #[inline]
    pub(crate) fn answered<Res, Err>(&mut self, res: &Res) -> HealthCall<C>
    where
        C: Classify<Res, Err>,
    {
        let rest = match &self.0 {
            Some(judge) => match judge.classify.classify(Ok(res)) {
                Verdict::Now(outcome) => {
                    self.settle(&outcome);
                    None
                }
                Verdict::AtEnd => self.0.take(),
            },
            None => None,
        };
        HealthCall { rest, at_end: C::at_end }
    }

    /// The response future has given an error: there is no body to wait for.
    #[inline(never)]
    pub(crate) fn failed<Res, Err>(&mut self, error: &Err)
    where
        C: Classify<Res, Err>,
    {
        let Some(judge) = &self.0 else { return };
        let outcome = match judge.classify.classify(Err(error)) {
            Verdict::Now(outcome) => outcome,
            Verdict::AtEnd => judge.classify.at_end(&End::Failed),
        };
        self.settle(&outcome);
    }

    #[inline]
    fn settle(&mut self, outcome: &Outcome) {
        // Taken first, as the observer may panic.
        if let Some(judge) = self.0.take() {
            judge.mark(outcome);
        }
    }
}

/// What a call holds from its head to its end.
///
/// It is the guard that [`Finish`](buttress_core::Finish) binds to the rest of a call, and so stands in the type of the body
/// that [`at_end`](crate::HealthLayer::at_end) makes. Dropped before the call is judged, nothing is marked.
pub struct HealthCall<C> {
    /// `None` once the call is marked.
    rest: Option<Arc<Judge<C>>>,
    /// The classifier's own, so that this type does not depend on what it judges.
    at_end: fn(&C, &End<'_>) -> Outcome,
}

impl<C> Guard for HealthCall<C> {
    #[inline]
    fn end(&mut self, end: &End<'_>) {
        let Some(judge) = self.rest.take() else { return };
        let mut call = Admitted(Some(judge));
        // The classifier may panic.
        let mut armed = Armed::new(&mut call);
        let outcome = armed.call().0.as_ref().map(|judge| (self.at_end)(&judge.classify, end));
        if let Some(outcome) = outcome {
            armed.call().settle(&outcome);
        }
        armed.disarm();
    }
}

impl<C> fmt::Debug for HealthCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCall").field("marked", &self.rest.is_none()).finish_non_exhaustive()
    }
}

/// Marks a panic in our own frame as a failure. (`std::thread::panicking()` is also true where someone else's unwinding
/// drops a call.)
pub(crate) struct Armed<'a, C>(&'a mut Admitted<C>);

impl<'a, C> Armed<'a, C> {
    #[inline]
    pub(crate) const fn new(call: &'a mut Admitted<C>) -> Self {
        Self(call)
    }

    #[inline]
    pub(crate) const fn call(&mut self) -> &mut Admitted<C> {
        self.0
    }

    #[inline]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl<C> Drop for Armed<'_, C> {
    #[inline]
    fn drop(&mut self) {
        if let Some(judge) = self.0.0.take() {
            // This is an unwinding already, and the observer may panic as well.
            let mark = std::panic::AssertUnwindSafe(|| judge.inner.mark(true));
            let _ = std::panic::catch_unwind(mark);
        }
    }
}
