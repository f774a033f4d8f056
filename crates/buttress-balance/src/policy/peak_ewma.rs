use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::average::Memory;
use super::response_time::{DECAY, INITIAL, queue};
use super::says::{Says, within};
use crate::{Ended, LeastLoadRules, Load, PolicyError, Score};

/// A peak of an endpoint's response times, with its calls in flight: the "peak EWMA" of Finagle, linkerd and Tower, and failures
/// penalised as by linkerd's `load-biaser`.
///
/// ```text
/// score = peak · (in flight + 1) / weight
///
/// sample      of a success                 the time it took
///             of a failure, a 429, or a    the longest of the time it took, the penalty,
///             refusal below the balancer   and the Retry-After up to its cap
/// peak        a sample above it            the sample, at once
///             any other                    peak · e^(-t / decay) + sample · (1 - e^(-t / decay))
///             read                         peak · e^(-t / decay)
/// ```
///
/// `t` is the time since the last sample. So an endpoint that turns slow is avoided with its first slow answer, and is trusted again little by
/// little. One that is not called sinks until it is tried again.
///
/// Without the penalty an endpoint that fails at once looks like the fastest of all and draws calls; with it, it looks like one that
/// takes 5 s, or as long as it asked to be left alone.
///
/// A call that was dropped before it was answered raises the peak to the time it waited where this is longer than the peak is now, since
/// the answer would have come later still: callers that give up show an endpoint that hangs. Otherwise it is no sample, and neither is a
/// call that says nothing of the endpoint ([`Ignored`](buttress_core::OutcomeKind::Ignored), a cost above the limit, a denied caller).
///
/// | | default | why |
/// |---|---|---|
/// | decay | 10 s | Finagle's, linkerd's and Tower's |
/// | initial | 30 ms | linkerd's: what an endpoint is taken for until it has answered, sinking as if it were a sample |
/// | penalty | 5 s | linkerd's: far above what an endpoint that works takes |
/// | most_penalty | 300 s | linkerd's: what an endpoint can keep callers away for |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    pub(super) memory: Memory,
    penalty: Duration,
    most_penalty: Duration,
}

impl PeakEwma {
    pub(super) const NEW: Self = Self {
        memory: Memory::new(DECAY, INITIAL),
        penalty: Duration::from_secs(5),
        most_penalty: Duration::from_secs(300),
    };
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::NEW
    }
}

impl LeastLoadRules<PeakEwma> {
    /// How long until a peak is 1/e of what it was: from 1 ms to 1 h. 10 s by default.
    pub const fn decay(mut self, decay: Duration) -> Self {
        self.score.memory = Memory::new(decay, self.score.memory.initial);
        self
    }

    /// What an endpoint is taken for until it has answered: from 1 µs to 1 h. 30 ms by default.
    pub const fn initial(mut self, time: Duration) -> Self {
        self.score.memory = Memory::new(self.score.memory.decay, time);
        self
    }

    /// What a failed call is taken to have lasted, at least: up to 1 h. 5 s by default. With [`Duration::ZERO`] and a
    /// [`most_penalty`](Self::most_penalty) of the same, failures count by the time they took, as in Tower.
    pub const fn penalty(mut self, penalty: Duration) -> Self {
        self.score.penalty = penalty;
        self
    }

    /// The most that a `Retry-After` counts for: up to 1 h. 300 s by default.
    pub const fn most_penalty(mut self, most: Duration) -> Self {
        self.score.most_penalty = most;
        self
    }
}

impl Score for PeakEwma {
    type Seen = ();
    const TIMED: bool = true;

    fn check(&self) -> Result<(), PolicyError> {
        self.memory.check()?;
        let hour = Duration::from_secs(3600);
        within("penalty", self.penalty, Duration::ZERO, hour)?;
        within("most_penalty", self.most_penalty, Duration::ZERO, hour)
    }

    #[inline]
    fn score(&self, (): &(), load: &Load, now: Timestamp) -> f64 {
        f64::from(self.memory.read(load, now)) * queue(load)
    }

    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        let took = call.nanos();
        let sample = match Says::of(call) {
            Says::Works => took,
            Says::Fails(outcome) => {
                let asked = outcome.retry_after.unwrap_or_default().min(self.most_penalty);
                took.max(nanos(self.penalty.max(asked)))
            }
            Says::Waited if took as f32 > self.memory.read(load, call.now) => took,
            Says::Waited | Says::Nothing => return,
        };
        self.memory.peak(load, sample, call.now);
    }
}
