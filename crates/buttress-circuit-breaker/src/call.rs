//! A call that was admitted, until it is known how it ended.

use std::fmt;
use std::mem;
use std::sync::Arc;

use buttress_core::{Classify, End, Guard, Outcome, Verdict};

use crate::gate::{Core, Held, Judge, Now, Weight};

/// What a call holds while it is under way: its admission, and who judges it.
///
/// It is the guard that [`Finish`](buttress_core::Finish) binds to the rest of a call, and so stands in the type of the
/// body that [`at_end`](crate::CircuitBreakerLayer::at_end) makes. Dropped before the call is judged, the call was
/// abandoned: what it holds goes back, and it counts as no result.
pub struct Call<C> {
    judge: Arc<Judge<C>>,
    /// The classifier's own, so that this type does not depend on what it judges.
    at_end: fn(&C, &End<'_>) -> Outcome,
    /// `None` once the call is recorded.
    held: Option<Held>,
    /// What the head said, where the end has to say how long the call took.
    judged: Option<Weight>,
    timed: Timed,
}

/// Whether, and where, the time of a call is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    /// Where the call is judged.
    ThenAndThere,
    /// At the head, before the call is judged.
    AtHead(bool),
    /// Not at all: it streams.
    Never,
}

impl<C> Call<C> {
    #[inline]
    pub(crate) fn new(judge: Arc<Judge<C>>, at_end: fn(&C, &End<'_>) -> Outcome, held: Option<Held>) -> Self {
        Self { judge, at_end, held, judged: None, timed: Timed::ThenAndThere }
    }

    /// The response future has given a response.
    #[inline]
    pub(crate) fn answered<Res, Err>(&mut self, res: &Res)
    where
        C: Classify<Res, Err>,
    {
        let Some(held) = &self.held else { return };
        let Judge { classify, core } = &*self.judge;
        let verdict = classify.classify(Ok(res));
        let to_end = core.setup.slow_to_end;
        if core.rules.slow_after().is_some() && !to_end {
            if classify.streams(res) {
                self.timed = Timed::Never;
            } else if matches!(verdict, Verdict::AtEnd) {
                self.timed = Timed::AtHead(core.is_slow(held.start, &core.now()));
            }
        }
        if let Verdict::Now(outcome) = &verdict {
            let weight = core.weigh(outcome);
            if to_end {
                self.judged = Some(weight);
            } else {
                self.settle(weight);
            }
        }
    }

    /// The response future has given an error: there is no body to wait for.
    #[inline]
    pub(crate) fn failed<Res, Err>(&mut self, error: &Err)
    where
        C: Classify<Res, Err>,
    {
        let Judge { classify, core } = &*self.judge;
        let weight = match classify.classify(Err(error)) {
            Verdict::Now(outcome) => core.weigh(&outcome),
            Verdict::AtEnd => core.weigh(&classify.at_end(&End::Failed)),
        };
        self.settle(weight);
    }

    /// The response is known to stream: its time is not taken.
    #[cfg(feature = "http")]
    pub(crate) fn streams(&mut self) {
        self.timed = Timed::Never;
    }

    /// Something panicked in our own frame.
    #[cold]
    fn panicked(&mut self) {
        if let Some(held) = self.held.take() {
            self.judge.core.panicked(held);
        }
    }

    #[inline]
    fn settle(&mut self, weight: Weight) {
        let Some(held) = self.held.take() else { return };
        let (timed, core) = (self.timed, &self.judge.core);
        core.record(held, weight, |now| timed.is_slow(core, held, now));
    }

    /// The caller went away.
    #[inline]
    fn abandon(&mut self) {
        let Some(held) = self.held.take() else { return };
        let (timed, core) = (self.timed, &self.judge.core);
        core.abandon(held, |now| timed.is_slow(core, held, now));
    }
}

impl Timed {
    #[inline]
    fn is_slow(self, core: &Core, held: Held, now: &Now<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::AtHead(slow) => slow,
            Self::ThenAndThere => core.is_slow(held.start, now),
        }
    }
}

impl<C> Guard for Call<C> {
    #[inline]
    fn end(&mut self, end: &End<'_>) {
        if self.held.is_none() {
            return;
        }
        // The classifier may panic.
        let armed = Armed::new(self);
        let call = &mut *armed.0;
        let weight = match call.judged {
            Some(weight) => weight,
            None => call.judge.core.weigh(&(call.at_end)(&call.judge.classify, end)),
        };
        if matches!(end, End::Aborted) && weight.is_ignored() {
            call.abandon();
        } else {
            call.settle(weight);
        }
        armed.disarm();
    }
}

impl<C> Drop for Call<C> {
    #[inline]
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<C> fmt::Debug for Call<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("recorded", &self.held.is_none()).finish_non_exhaustive()
    }
}

/// Counts a panic in our own frame as a failure. (`std::thread::panicking()` is also true where someone else's unwinding
/// drops a call.)
pub(crate) struct Armed<'a, C>(&'a mut Call<C>);

impl<'a, C> Armed<'a, C> {
    #[inline]
    pub(crate) const fn new(call: &'a mut Call<C>) -> Self {
        Self(call)
    }

    #[inline]
    pub(crate) const fn call(&mut self) -> &mut Call<C> {
        self.0
    }

    #[inline]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl<C> Drop for Armed<'_, C> {
    fn drop(&mut self) {
        self.0.panicked();
    }
}
