use std::fmt;
use std::time::Duration;

use crate::{KeyPart, KeySink, Name, Quota, Timestamp};

/// Where the state of one or several limits lives: in this process, or shared between many.
///
/// A local store answers at once, a remote one later. What happens when a remote store is down is the store's
/// own policy, so either way the answer is a decision and never an error.
pub trait Store: Clone {
    /// What a key is written into.
    type Sink: KeySink;
    /// What is decided on a call, and kept as long as the decision may have to be corrected or reported.
    type Decision: Decided + Clone;
    /// The future of an answer that comes later; [`std::future::Pending`] where none does.
    type Wait: Future<Output = Self::Decision>;

    /// An empty key.
    fn sink(&self) -> Self::Sink;

    /// Chooses the set of limits that the call of this key is held to, where the store has several.
    ///
    /// By default the plan is a part of the key, so that a key has a budget of its own in each.
    fn plan(&self, key: &mut Self::Sink, plan: usize) {
        plan.write(key);
    }

    /// Decides on a call of the given key and cost. A cost of 0 looks without taking anything.
    fn decide(&self, key: Self::Sink, cost: u32, now: Timestamp) -> Answer<Self::Decision, Self::Wait>;

    /// Corrects what an admitted call was charged to `actual`, once that is known; 0 gives all of it back.
    ///
    /// A call is settled at most once. Settling what was refused does nothing.
    fn settle(&self, decision: &Self::Decision, actual: u32, now: Timestamp);

    /// The same limits, for calls that will be settled: a layer asks for it when it is told how. A store that keeps
    /// account of single charges only where that is needed begins a new state; by default it stays as it is.
    #[must_use]
    fn settling(self) -> Self {
        self
    }

    /// Reports what was left of each limit that the decision was about, right after it.
    fn quotas(&self, decision: &Self::Decision, report: &mut dyn FnMut(Quota));

    /// Reports what is left at `now`, some time after the decision: for an answer that took its time. A store that
    /// cannot tell without asking elsewhere says what was left by the decision, which is the default.
    fn quotas_at(&self, decision: &Self::Decision, now: Timestamp, report: &mut dyn FnMut(Quota)) {
        let _ = now;
        self.quotas(decision, report);
    }

    /// How many keys had to make way for others although something was held against them.
    fn evicted(&self) -> u64 {
        0
    }

    /// The name of the limit with this index, among those that the decision was about.
    fn name(&self, decision: &Self::Decision, index: usize) -> Option<Name> {
        let _ = (decision, index);
        None
    }
}

/// The answer of a [`Store`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "now or later: there is no third")]
pub enum Answer<D, F> {
    /// The decision.
    Now(D),
    /// The decision comes from this future.
    Later(F),
}

/// What a [`Store`] has decided: whether a call may pass, and when it may be tried again.
///
/// A store may hold a call to several limits at once. They are told apart by their index.
pub trait Decided: fmt::Debug {
    /// Whether the call may pass.
    fn admitted(&self) -> bool;

    /// How long an admitted call waits before it goes on, where calls are spaced out. Zero unless said otherwise.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }

    /// After how long a refused call passes if nothing else comes in between; `None` is never, and what an
    /// admitted call has.
    fn retry_after(&self) -> Option<Duration>;

    /// Whether the call was refused for a cost above what a limit allows at once, so that waiting does not help.
    fn never(&self) -> bool;

    /// The limit that decided: of those that refuse, the one that does so for longest.
    fn binding(&self) -> usize {
        0
    }

    /// Whether the limit with this index refuses the call.
    fn violates(&self, index: usize) -> bool {
        !self.admitted() && index == self.binding()
    }

    /// The limits that refuse the call, one bit for each index below 32.
    fn violations(&self) -> u32 {
        (0..32).filter(|index| self.violates(*index)).fold(0, |bits, index| bits | 1 << index)
    }

    /// Whether the limit with this index would refuse the call, were it not there to watch only.
    fn shadowed(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// Whether any limit would refuse the call, were it not there to watch only. Asked on every call; who has limits
    /// that watch says it beside [`shadowed`](Self::shadowed).
    fn any_shadowed(&self) -> bool {
        false
    }
}
