use std::time::Duration;

use buttress_core::Timestamp;

use super::average::Memory;
use super::says::{Says, within};
use crate::{Ended, LeastLoadRules, Load, PolicyError, Score};

/// The mean of an endpoint's response times, with its calls in flight: least response time, as nginx' `least_time`.
///
/// ```text
/// score = average · (in flight + 1) / weight
/// ```
///
/// The average is one over time: a sample weighs `1 - e^(-t / decay)` after the time `t` since the last, and without samples the
/// average sinks by the same rule, so that an endpoint that was slow is tried again. Samples are the times until an answer was judged a success. A
/// failure raises the average if it took longer, and does not lower it: to fail fast is not to be fast. So does a call that was dropped
/// before it was answered, and a call that says nothing of the endpoint is no sample.
///
/// | | default | why |
/// |---|---|---|
/// | decay | 10 s | Finagle's: long enough for a mean, short enough to follow a deployment |
/// | initial | 30 ms | linkerd's: what an endpoint is taken for until it has answered |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResponseTime {
    memory: Memory,
}

pub(super) const DECAY: Duration = Duration::from_secs(10);
pub(super) const INITIAL: Duration = Duration::from_millis(30);

impl ResponseTime {
    pub(super) const NEW: Self = Self { memory: Memory::new(DECAY, INITIAL) };
}

impl Default for ResponseTime {
    fn default() -> Self {
        Self::NEW
    }
}

impl LeastLoadRules<ResponseTime> {
    /// How long until a sample weighs 1/e of what it did: from 1 ms to 1 h. 10 s by default.
    pub const fn decay(mut self, decay: Duration) -> Self {
        self.score.memory = Memory::new(decay, self.score.memory.initial);
        self
    }

    /// What an endpoint is taken for until it has answered: from 1 µs to 1 h. 30 ms by default.
    pub const fn initial(mut self, time: Duration) -> Self {
        self.score.memory = Memory::new(self.score.memory.decay, time);
        self
    }
}

impl Score for ResponseTime {
    type Seen = ();
    const TIMED: bool = true;

    fn check(&self) -> Result<(), PolicyError> {
        self.memory.check()
    }

    #[inline]
    fn score(&self, (): &(), load: &Load, now: Timestamp) -> f64 {
        f64::from(self.memory.read(load, now)) * queue(load)
    }

    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        let took = call.nanos();
        match Says::of(call) {
            Says::Works => self.memory.mix(load, took, call.now),
            Says::Fails(_) => self.memory.mix_at_least(load, took, call.now),
            Says::Waited if took as f32 > self.memory.read(load, call.now) => {
                self.memory.mix_at_least(load, took, call.now);
            }
            Says::Waited | Says::Nothing => {}
        }
    }
}

/// What an average is multiplied by: the calls that a new one would wait for and itself, by the weight.
#[inline]
pub(super) fn queue(load: &Load) -> f64 {
    (f64::from(load.in_flight()) + 1.0) / load.divisor()
}

const HOUR: Duration = Duration::from_secs(3600);

impl Memory {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        within("decay", self.decay, Duration::from_millis(1), HOUR)?;
        within("initial", self.initial, Duration::from_micros(1), HOUR)
    }
}
