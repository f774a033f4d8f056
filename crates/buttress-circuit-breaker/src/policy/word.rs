//! State, generation, permits and counts of a breaker in 64 bits, so that one compare-and-swap is one step.
//!
//! ```text
//!            63 ........... 33   32 ... 28   27 .............................................. 3   2 .. 0
//!           │ generation   31 │ growth  5 │ counts                                          25 │ state 3 │
//!  HalfOpen │                 │           │ slow 5 │ failed 5 │ judged 5 │ answered 5 │ in flight 5 │     │
//!  Ramping  │                 │           │    - 2 │ slow 7 │ failed 7 │ judged 7 │        step 2 │     │
//! ```
//!
//! The *generation* counts transitions. Every call keeps that of its admission, and its result is counted only while
//! it is that of the word: a step looks at both in one compare-and-swap, so no result and no permit comes from one
//! state into the next. *Growth* counts the openings since the breaker was last closed.

use super::rules::Rules;
use super::state::{Marks, Reason, State, Sums};

/// What five bits hold.
pub(crate) const MOST_PROBES: u32 = 31;
/// Of a ramp.
pub(crate) const STEPS: u32 = 4;

const GENERATION: u32 = 33;
const GROWTH: u32 = 28;
const MOST_GROWTH: u64 = 31;
const COUNTS: u64 = ((1 << 25) - 1) << 3;

/// A number within the word.
#[derive(Clone, Copy)]
struct Field {
    at: u32,
    bits: u32,
}

/// Probes that are on their way, and not answered.
const IN_FLIGHT: Field = Field { at: 3, bits: 5 };
/// Probes with a good answer, whose end is still to come.
const ANSWERED: Field = Field { at: 8, bits: 5 };
const JUDGED: Field = Field { at: 13, bits: 5 };
const FAILED: Field = Field { at: 18, bits: 5 };
const SLOW: Field = Field { at: 23, bits: 5 };

const STEP: Field = Field { at: 3, bits: 2 };
const STEP_JUDGED: Field = Field { at: 5, bits: 7 };
const STEP_FAILED: Field = Field { at: 12, bits: 7 };
const STEP_SLOW: Field = Field { at: 19, bits: 7 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

/// Where a step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// On with these counts.
    Stay(Word),
    /// Into another state.
    Go(State, Reason, Sums),
}

impl Word {
    /// Closed, and never opened.
    pub(crate) const NEW: Self = Self(0);

    #[inline]
    pub(crate) const fn state(self) -> State {
        State::from_bits(self.0)
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> GENERATION) as u32
    }

    /// Whether results go into the window.
    #[inline]
    pub(crate) const fn counts(self) -> bool {
        matches!(self.state(), State::Closed | State::MetricsOnly)
    }

    /// How often it has opened since it was last closed, not counting the first time.
    pub(crate) const fn growth(self) -> u32 {
        (self.0 >> GROWTH & MOST_GROWTH) as u32
    }

    const fn field(self, field: Field) -> u32 {
        (self.0 >> field.at & ((1 << field.bits) - 1)) as u32
    }

    const fn plus(self, field: Field, by: bool) -> Self {
        Self(self.0 + ((by as u64) << field.at))
    }

    /// The next generation, in another state or the same, with nothing counted.
    pub(crate) const fn next(self, to: State) -> Self {
        let growth = match (self.state(), to) {
            // A breaker that opens again before it was closed stays open for longer.
            (State::HalfOpen | State::Ramping, State::Open) => {
                let growth = self.growth() as u64 + 1;
                if growth > MOST_GROWTH { MOST_GROWTH } else { growth }
            }
            (_, State::Open | State::HalfOpen | State::Ramping) => self.growth() as u64,
            _ => 0,
        };
        // The highest generation is followed by 0, since what is carried out of the word is lost.
        Self((self.0 >> GENERATION).wrapping_add(1) << GENERATION | growth << GROWTH | to.bits())
    }

    /// The probes of a half-open breaker.
    pub(crate) const fn probes(self) -> Sums {
        Sums::new(self.field(JUDGED), self.field(FAILED), self.field(SLOW))
    }

    /// The probes that have not come back, answered or not.
    pub(crate) const fn in_flight(self) -> u32 {
        self.field(IN_FLIGHT) + self.field(ANSWERED)
    }

    const fn permit(answered: bool) -> Field {
        if answered { ANSWERED } else { IN_FLIGHT }
    }

    /// Whether a probe is on its way, of those that are answered or of those that are not.
    pub(crate) const fn holds(self, answered: bool) -> bool {
        matches!(self.state(), State::HalfOpen) && self.field(Self::permit(answered)) > 0
    }

    /// A probe has a good answer, and goes on.
    pub(crate) const fn answered(self) -> Self {
        Self(self.0 - (1 << IN_FLIGHT.at) + (1 << ANSWERED.at))
    }

    /// One more probe, if not as many are on their way or judged as may be.
    pub(crate) const fn probe(self, most: u32) -> Option<Self> {
        if self.in_flight() + self.field(JUDGED) < most { Some(self.plus(IN_FLIGHT, true)) } else { None }
    }

    /// A probe has come back, with a result or without.
    pub(crate) fn probed(self, answered: bool, marks: Option<Marks>, rules: &Rules) -> Step {
        debug_assert!(self.holds(answered), "a probe comes back once");
        let back = Self(self.0 - (1 << Self::permit(answered).at));
        let Some(Marks { failed, slow }) = marks else { return Step::Stay(back) };
        let next = back.plus(JUDGED, true).plus(FAILED, failed).plus(SLOW, slow);
        let sums = next.probes();
        // As soon as those that are to come cannot change it any more.
        if let Some(reason) = rules.probe_verdict(sums, rules.probes()) {
            return Step::Go(State::Open, reason, sums);
        }
        if sums.total == rules.probes() {
            return Step::Go(rules.recovered(), Reason::ProbesPassed, sums);
        }
        Step::Stay(next)
    }

    /// The time for the probes is over: what is known decides, unless one of them is not answered. One that was answered
    /// and goes on went well.
    pub(crate) fn overdue(self, rules: &Rules) -> (State, Reason, Sums) {
        let mut sums = self.probes();
        sums.total += self.field(ANSWERED);
        if self.field(IN_FLIGHT) > 0 || sums.total == 0 {
            return (State::Open, Reason::ProbesOverdue, sums);
        }
        match rules.probe_verdict(sums, sums.total) {
            Some(reason) => (State::Open, reason, sums),
            None => (rules.recovered(), Reason::ProbesPassed, sums),
        }
    }

    /// The step of a ramp that the counts are of.
    pub(crate) const fn step(self) -> u32 {
        self.field(STEP)
    }

    /// The results of this step of a ramp.
    pub(crate) const fn step_sums(self) -> Sums {
        Sums::new(self.field(STEP_JUDGED), self.field(STEP_FAILED), self.field(STEP_SLOW))
    }

    const fn with_step(self, step: u32, sums: Sums) -> Self {
        Self(
            self.0 & !COUNTS
                | (step as u64) << STEP.at
                | (sums.total as u64) << STEP_JUDGED.at
                | (sums.failed as u64) << STEP_FAILED.at
                | (sums.slow as u64) << STEP_SLOW.at,
        )
    }

    /// A call of a ramp has ended, in the step that is on now.
    ///
    /// `row`: too many have failed in a row.
    pub(crate) fn stepped(self, step: u32, marks: Marks, row: bool, rules: &Rules) -> Step {
        let mut sums = if step == self.step() { self.step_sums() } else { Sums::default() };
        if sums.total == (1 << STEP_JUDGED.bits) - 1 {
            // The earlier ones count for half, so that the shares stay.
            sums = Sums::new(sums.total / 2, sums.failed / 2, sums.slow / 2);
        }
        let sums = Sums::new(
            sums.total + 1,
            sums.failed + u32::from(marks.failed),
            sums.slow + u32::from(marks.slow),
        );
        let (least, over) = rules.step_calls();
        let verdict = || rules.step_verdict(sums, sums.total.max(least));
        if let Some(reason) = row.then_some(Reason::ConsecutiveFailures).or_else(verdict) {
            return Step::Go(State::Open, reason, sums);
        }
        if over.is_some_and(|calls| sums.total >= calls) {
            return if step + 1 == STEPS {
                Step::Go(State::Closed, Reason::RampOver, sums)
            } else {
                Step::Stay(self.with_step(step + 1, Sums::default()))
            };
        }
        Step::Stay(self.with_step(step, sums))
    }
}

/// When a state ends, and of which generation it is.
///
/// It is a word of its own and so not always in step with the state: one of another generation says nothing.
/// Microseconds, rounded down, so that 54 bits last for 570 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Until(pub(crate) u64);

impl Until {
    const TAG: u64 = (1 << 10) - 1;
    const NEVER: u64 = u64::MAX >> 10;

    pub(crate) const fn new(word: Word, at: buttress_core::Timestamp) -> Self {
        let micros = at.as_nanos() / 1000;
        let micros = if micros > Self::NEVER || at.as_nanos() == u64::MAX { Self::NEVER } else { micros };
        Self(micros << 10 | word.generation() as u64 & Self::TAG)
    }

    /// The time, if it is that of this word; the end of time is never.
    pub(crate) const fn of(self, word: Word) -> Option<buttress_core::Timestamp> {
        if self.0 & Self::TAG != word.generation() as u64 & Self::TAG {
            return None;
        }
        let micros = self.0 >> 10;
        Some(if micros == Self::NEVER {
            buttress_core::Timestamp::MAX
        } else {
            buttress_core::Timestamp::from_nanos(micros * 1000)
        })
    }
}
