use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::settings::{OnDrop, Ramp, Settings, Window};
use super::state::{Judged, Marks, Reason, State, Sums};
use super::wait::Wait;
use super::word::{self, Word};
use crate::SettingsError;

/// Rates are whole numbers of this, so that a rate of 0.3 is reached by 3 of 10.
const WHOLE: u64 = 1_000_000_000;
/// The parts of a time window.
pub(crate) const SLICES: u64 = 10;
/// The share of the calls that each step of a ramp lets through, in percent.
const SHARES: [u64; 4] = [10, 25, 50, 100];

const SHORTEST: Duration = Duration::from_millis(1);
const MOST_CALLS: u32 = 100_000;
const MOST_MINIMUM: u32 = 65_535;
const MOST_IN_A_ROW: u32 = 65_535;
const MOST_STEP: u32 = 100;
/// A timed step keeps at least so many results.
const MOST_LEAST: u32 = 63;

/// [`Settings`] that are right, in the numbers that breakers count by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    settings: Settings,
    pub(crate) span: Span,
    failure: Option<u64>,
    slow: Option<u64>,
    /// By which the probes are judged: where no rate is given, any failure is too many.
    probe_failure: Option<u64>,
    consecutive: u32,
    pub(crate) minimum: u32,
    wait: Wait,
    probes: u32,
}

/// A window in the numbers it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Last(u32),
    /// Nanoseconds in a slice.
    Slices(u64),
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let span = match settings.window {
            Window::Last(calls) if !(1..=MOST_CALLS).contains(&calls) => {
                return Err(SettingsError::new("window", calls, "must be between 1 and 100000 calls"));
            }
            Window::Last(calls) => Span::Last(calls),
            Window::Time(time) if time < SHORTEST => {
                return Err(SettingsError::new("window", time, "must be at least 1ms"));
            }
            Window::Time(time) => Span::Slices(nanos(time) / SLICES),
        };
        let failure = settings.failure_rate.map(|rate| parts("failure_rate", rate)).transpose()?;
        let slow = match settings.slow {
            Some((threshold, _)) if threshold.is_zero() => {
                return Err(SettingsError::new("slow_calls", threshold, "must be longer than zero"));
            }
            Some((_, rate)) => Some(parts("slow_calls", rate)?),
            None => None,
        };
        let consecutive = match settings.consecutive {
            Some(calls) if !(1..=MOST_IN_A_ROW).contains(&calls) => {
                return Err(SettingsError::new("consecutive_failures", calls, "must be between 1 and 65535"));
            }
            calls => calls.unwrap_or(0),
        };
        if failure.is_none() && slow.is_none() && consecutive == 0 {
            let rule = "needs slow_calls or consecutive_failures beside it, else nothing opens the breaker";
            return Err(SettingsError::new("no_failure_rate", (), rule));
        }
        let room = if let Span::Last(calls) = span { calls } else { MOST_MINIMUM };
        let minimum = settings.minimum.unwrap_or_else(|| room.min(20));
        if !(1..=MOST_MINIMUM).contains(&minimum) {
            return Err(SettingsError::new("minimum_calls", minimum, "must be between 1 and 65535"));
        }
        if minimum > room {
            return Err(SettingsError::new(
                "minimum_calls",
                minimum,
                "must not be more than the window holds",
            ));
        }
        let wait = Wait::new(settings)?;
        if !(1..=word::MOST_PROBES).contains(&settings.probes) {
            return Err(SettingsError::new("probes", settings.probes, "must be between 1 and 31"));
        }
        if let Some(time) = settings.overdue.filter(|time| *time < SHORTEST) {
            return Err(SettingsError::new("half_open_for", time, "must be at least 1ms"));
        }
        match settings.ramp {
            Some(Ramp::Time(time)) if time < SHORTEST => {
                return Err(SettingsError::new("ramp", time, "must be at least 1ms a step"));
            }
            Some(Ramp::Calls(calls)) if !(1..=MOST_STEP).contains(&calls) => {
                return Err(SettingsError::new("ramp", calls, "must be between 1 and 100 calls a step"));
            }
            _ => {}
        }
        if settings.on_drop == OnDrop::FailWhenSlow && slow.is_none() {
            let rule = "needs slow_calls, which says from when on a dropped call has failed";
            return Err(SettingsError::new("on_drop", settings.on_drop, rule));
        }
        Ok(Self {
            span,
            failure,
            slow,
            probe_failure: if failure.is_none() && consecutive > 0 { Some(1) } else { failure },
            consecutive,
            minimum,
            wait,
            probes: settings.probes,
            settings: settings.clone(),
        })
    }

    /// What they were made of.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From when on a call is slow; `None` when it does not matter how long calls take.
    #[must_use]
    pub fn slow_after(&self) -> Option<Duration> {
        self.settings.slow.map(|(threshold, _)| threshold)
    }

    /// How many results a rate needs.
    #[must_use]
    pub const fn minimum_calls(&self) -> u32 {
        self.minimum
    }

    pub(crate) const fn probes(&self) -> u32 {
        self.probes
    }

    /// What a result counts as; `None` when it does not count.
    #[inline]
    pub(crate) fn marks(&self, judged: Judged, slow: bool) -> Option<Marks> {
        match judged {
            Judged::Success => Some(Marks { failed: false, slow }),
            Judged::Failure | Judged::Soft | Judged::OpenFor(_) => Some(Marks { failed: true, slow }),
            Judged::Cancelled if slow && self.settings.on_drop == OnDrop::FailWhenSlow => {
                Some(Marks { failed: true, slow })
            }
            Judged::Ignored | Judged::Cancelled => None,
        }
    }

    /// How many failures in a row open it; 0 when they are not judged.
    #[inline]
    pub(crate) const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Whether the results of a window open the breaker.
    pub(crate) fn verdict(&self, sums: Sums) -> Option<Reason> {
        if sums.total < self.minimum {
            return None;
        }
        judge(self.failure, self.slow, sums, sums.total)
    }

    /// Whether the results of probes, of which there are `of` all told, open it again.
    pub(crate) fn probe_verdict(&self, sums: Sums, of: u32) -> Option<Reason> {
        judge(self.probe_failure, self.slow, sums, of)
    }

    /// Whether the results of a ramp's step, which is judged by `of`, open it again. By a rate alone: where failures in a row
    /// are judged, they are counted apart, as they are while closed.
    pub(crate) fn step_verdict(&self, sums: Sums, of: u32) -> Option<Reason> {
        judge(self.failure, self.slow, sums, of)
    }

    /// How many results a step of a ramp is judged by at least, and by how many it is over.
    pub(crate) fn step_calls(&self) -> (u32, Option<u32>) {
        match self.settings.ramp {
            Some(Ramp::Calls(calls)) => (calls, Some(calls)),
            _ => (self.minimum.min(MOST_LEAST).max(self.probes), None),
        }
    }

    /// Where good probes lead.
    pub(crate) const fn recovered(&self) -> State {
        if self.settings.ramp.is_some() { State::Ramping } else { State::Closed }
    }

    /// How long a breaker stays open that has opened `growth` times before without having closed.
    pub(crate) fn open_time(&self, growth: u32, draw: u64) -> Duration {
        self.wait.jittered(growth, draw)
    }

    /// The longest open time.
    pub(crate) const fn longest(&self) -> Duration {
        Duration::from_nanos(self.wait.longest())
    }

    pub(crate) const fn asked(&self, wait: Duration) -> Duration {
        self.wait.capped(wait)
    }

    /// How long the state of this word lasts if no call ends it, without jitter; `None` is for ever.
    pub(crate) fn lasts(&self, word: Word) -> Option<Duration> {
        match word.state() {
            State::Open => Some(self.wait.full(word.growth())),
            State::HalfOpen => Some(self.settings.overdue.unwrap_or_else(|| self.wait.full(word.growth()))),
            State::Ramping => self.ramp_time(),
            _ => None,
        }
    }

    /// The longest that the state of this word may last from now, in nanoseconds: beyond that, the clock has gone back.
    pub(crate) fn lasts_at_most(&self, word: Word) -> u64 {
        if word.state() == State::Open {
            return self.wait.longest();
        }
        self.lasts(word).map_or(u64::MAX, nanos)
    }

    fn ramp_time(&self) -> Option<Duration> {
        match self.settings.ramp {
            Some(Ramp::Time(step)) => Some(step.saturating_mul(word::STEPS)),
            _ => None,
        }
    }

    /// The step of a ramp that is on at `now`, when the ramp ends at `until`.
    pub(crate) fn step(&self, word: Word, now: Timestamp, until: Timestamp) -> u32 {
        match self.settings.ramp {
            Some(Ramp::Time(step)) => {
                let left = nanos(until - now).div_ceil(nanos(step).max(1));
                // Never back, whatever the clock does.
                (u64::from(word::STEPS).saturating_sub(left) as u32).min(word::STEPS - 1).max(word.step())
            }
            _ => word.step(),
        }
    }

    /// The share of calls that a step lets through, in percent.
    pub(crate) const fn share(step: u32) -> u64 {
        SHARES[if step < word::STEPS { step as usize } else { word::STEPS as usize - 1 }]
    }

    /// Whether a call that has drawn this number is among those that a step lets through.
    pub(crate) const fn lets_through(step: u32, draw: u64) -> bool {
        ((draw as u128 * 100) >> u64::BITS) < Self::share(step) as u128
    }
}

fn judge(failure: Option<u64>, slow: Option<u64>, sums: Sums, of: u32) -> Option<Reason> {
    let reached = |part: u32, threshold: Option<u64>| {
        threshold.is_some_and(|threshold| u64::from(part) * WHOLE >= threshold * u64::from(of)) && part > 0
    };
    if reached(sums.failed, failure) {
        Some(Reason::FailureRate)
    } else if reached(sums.slow, slow) {
        Some(Reason::SlowRate)
    } else {
        None
    }
}

fn parts(field: &'static str, rate: f64) -> Result<u64, SettingsError> {
    if rate > 0.0 && rate <= 1.0 {
        // Rounded down, so that 2 of 3 reach two thirds.
        Ok(((rate * WHOLE as f64) as u64).max(1))
    } else {
        Err(SettingsError::new(field, rate, "must be above 0 and at most 1"))
    }
}
