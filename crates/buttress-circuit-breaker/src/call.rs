//! A call that was admitted, until it is known how it ended.

use std::fmt;
use std::mem;
use std::sync::Arc;

use buttress_core::{Classify, End, Guard, Outcome, Verdict};

use crate::gate::{Core, Held, Judge, Now, Weight};

/// A call from its admission to its head: what it holds, and who judges it. Empty once it is recorded, and for a call
/// that went without a breaker.
///
/// Dropped before that, the call was abandoned: what it holds goes back, and it counts as no result.
pub(crate) struct Admitted<C>(Option<Open<C>>);

struct Open<C> {
    judge: Arc<Judge<C>>,
    held: Held,
}

/// What a call holds from its head to its end.
///
/// It is the guard that [`Finish`](buttress_core::Finish) binds to the rest of a call, and so stands in the type of the
/// body that [`at_end`](crate::CircuitBreakerLayer::at_end) makes. Dropped before the call is judged, the call was
/// abandoned: what it holds goes back, and it counts as no result.
pub struct Call<C> {
    /// `None` once the call is recorded.
    open: Option<Open<C>>,
    /// The classifier's own, so that this type does not depend on what it judges.
    at_end: fn(&C, &End<'_>) -> Outcome,
    /// What the head said, where the end has to say how long the call took.
    judged: Option<Weight>,
    timed: Timed,
}

/// Whether, and where, the time of a call is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// Where the call is judged.
    ThenAndThere,
    /// At the head, before the call is judged.
    AtHead(bool),
    /// Not at all: it streams.
    Never,
}

impl Timed {
    #[inline]
    pub(crate) fn is_slow(self, core: &Core, held: &Held, now: &Now<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::AtHead(slow) => slow,
            Self::ThenAndThere => core.is_slow(held.start, now),
        }
    }
}

impl<C> Admitted<C> {
    #[inline]
    pub(crate) const fn new(judge: Arc<Judge<C>>, held: Held) -> Self {
        Self(Some(Open { judge, held }))
    }

    /// The request is known to ask for what streams.
    pub(crate) const fn streams(&mut self) {
        if let Some(Open { held, .. }) = &mut self.0 {
            held.streams();
        }
    }

    /// It went without a breaker.
    pub(crate) const fn crowded() -> Self {
        Self(None)
    }

    /// The response future has given a response. `None` where that was enough; else what it takes to follow the call from
    /// here.
    #[inline]
    pub(crate) fn answered<Res, Err>(&mut self, res: &Res) -> Option<Call<C>>
    where
        C: Classify<Res, Err>,
    {
        let Some(Open { judge, .. }) = &self.0 else { return None };
        let Judge { classify, core } = &**judge;
        let verdict = classify.classify(Ok(res));
        if core.is_timed {
            return self.answered_timed(res, &verdict);
        }
        if let Verdict::Now(outcome) = &verdict {
            let weight = core.weigh(outcome);
            if let Some(Open { judge, held }) = self.0.take() {
                judge.core.record_untimed(held, weight);
            }
            return None;
        }
        self.rest(None, Timed::ThenAndThere)
    }

    /// The same, where it matters how long calls take.
    #[inline(never)]
    fn answered_timed<Res, Err>(&mut self, res: &Res, verdict: &Verdict) -> Option<Call<C>>
    where
        C: Classify<Res, Err>,
    {
        let Open { judge, held } = self.0.as_ref()?;
        let Judge { classify, core } = &**judge;
        let to_end = core.setup.slow_to_end;
        let mut timed = Timed::ThenAndThere;
        if !to_end {
            if classify.streams(res) {
                timed = Timed::Never;
            } else if matches!(verdict, Verdict::AtEnd) {
                timed = Timed::AtHead(core.is_slow(held.start, &core.now()));
            }
        }
        let judged = match verdict {
            Verdict::Now(outcome) => Some(core.weigh(outcome)),
            Verdict::AtEnd => None,
        };
        if let Some(weight) = judged
            && !to_end
        {
            self.settle(weight, timed);
            return None;
        }
        self.rest(judged, timed)
    }

    #[inline]
    fn rest<Res, Err>(&mut self, judged: Option<Weight>, timed: Timed) -> Option<Call<C>>
    where
        C: Classify<Res, Err>,
    {
        if let Some(Open { judge, held }) = &mut self.0
            && judged.is_none_or(Weight::is_success)
        {
            judge.core.answered(held, timed);
        }
        Some(Call { open: self.0.take(), at_end: C::at_end, judged, timed })
    }

    /// The response future has given an error: there is no body to wait for.
    #[inline(never)]
    pub(crate) fn failed<Res, Err>(&mut self, error: &Err)
    where
        C: Classify<Res, Err>,
    {
        let Some(Open { judge, .. }) = &self.0 else { return };
        let Judge { classify, core } = &**judge;
        let weight = match classify.classify(Err(error)) {
            Verdict::Now(outcome) => core.weigh(&outcome),
            Verdict::AtEnd => core.weigh(&classify.at_end(&End::Failed)),
        };
        self.settle(weight, Timed::ThenAndThere);
    }

    fn settle(&mut self, weight: Weight, timed: Timed) {
        if let Some(Open { judge, held }) = self.0.take() {
            judge.core.record(held, weight, timed);
        }
    }

    /// The caller went away.
    fn abandon(&mut self, timed: Timed) {
        if let Some(Open { judge, held }) = self.0.take() {
            judge.core.abandon(held, timed);
        }
    }

    #[cold]
    fn abandon_open(&mut self) {
        self.abandon(Timed::ThenAndThere);
    }

    /// Something panicked in our own frame.
    #[inline]
    fn panicked(&mut self) {
        if let Some(Open { judge, held }) = self.0.take() {
            judge.core.panicked(held);
        }
    }
}

impl<C> Drop for Admitted<C> {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.abandon_open();
        }
    }
}

impl<C> Call<C> {
    /// One that is recorded.
    #[inline]
    pub(crate) fn over<Res, Err>() -> Self
    where
        C: Classify<Res, Err>,
    {
        Self { open: None, at_end: C::at_end, judged: None, timed: Timed::ThenAndThere }
    }

    /// The response is known to stream, perhaps for ever: its time is not taken, and it is judged now.
    #[cfg(feature = "http")]
    pub(crate) fn streams(&mut self) {
        self.timed = Timed::Never;
        self.end(&End::Head);
    }

    #[inline(never)]
    fn end_open(&mut self, end: &End<'_>) {
        let (at_end, judged, timed) = (self.at_end, self.judged, self.timed);
        let mut admitted = Admitted(self.open.take());
        // The classifier may panic.
        let mut armed = Armed::new(&mut admitted);
        let call = armed.call();
        if let Some(Open { judge, .. }) = &call.0 {
            let Judge { classify, core } = &**judge;
            let weight = judged.unwrap_or_else(|| core.weigh(&at_end(classify, end)));
            if matches!(end, End::Aborted) && weight.is_ignored() {
                call.abandon(timed);
            } else {
                call.settle(weight, timed);
            }
        }
        armed.disarm();
    }

    #[inline(never)]
    fn abandon_open(&mut self) {
        Admitted(self.open.take()).abandon(self.timed);
    }
}

impl<C> Guard for Call<C> {
    #[inline]
    fn end(&mut self, end: &End<'_>) {
        if self.open.is_some() {
            self.end_open(end);
        }
    }
}

impl<C> Drop for Call<C> {
    #[inline]
    fn drop(&mut self) {
        if self.open.is_some() {
            self.abandon_open();
        }
    }
}

impl<C> fmt::Debug for Call<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("recorded", &self.open.is_none()).finish_non_exhaustive()
    }
}

/// A call on its way into the inner service. Dropped, that has panicked.
pub(crate) struct Entering<C>(Admitted<C>);

impl<C> Entering<C> {
    #[inline]
    pub(crate) const fn new(call: Admitted<C>) -> Self {
        Self(call)
    }

    #[inline]
    pub(crate) fn entered(mut self) -> Admitted<C> {
        Admitted(self.0.0.take())
    }
}

impl<C> Drop for Entering<C> {
    #[inline]
    fn drop(&mut self) {
        self.0.panicked();
    }
}

/// Counts a panic in our own frame as a failure. (`std::thread::panicking()` is also true where someone else's unwinding
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
        self.0.panicked();
    }
}
