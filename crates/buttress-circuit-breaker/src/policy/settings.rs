use std::time::Duration;

use super::Rules;
use crate::SettingsError;

/// What a breaker judges by: over which calls or which time, from which rate on, and how it comes back.
///
/// Nothing is checked until [`rules`](Self::rules), so that the order of the methods does not matter.
///
/// | setting | default | why |
/// |---|---|---|
/// | window | the last 10 s | long enough for a rate at 2 calls a second, short enough to open soon |
/// | failure rate | 0.5 | half of the calls lost is more than a retry makes up for |
/// | slow calls | not judged | what is slow, only the caller knows |
/// | consecutive failures | not judged | at a high rate of calls a few in a row mean nothing |
/// | minimum calls | 20, or the window if that is smaller | one failure of two calls is no rate |
/// | open time | 5 s, doubled from one opening to the next up to 60 s, at random up to 10 % shorter | the service gets more time the longer it needs it; many clients do not come back at one time |
/// | probes | 3 | one lucky call does not close it, one unlucky call does not open it; they are judged by the rates, and by any failure where failures in a row alone are judged: by slow calls alone, those that fail soon close it |
/// | time for the probes | as long as the open time | a probe that hangs does not keep it half-open for ever |
/// | ramp | none | where the service comes back cold, give it one |
/// | dropped calls | not judged | a caller goes away for many reasons |
///
/// ```
/// use buttress_circuit_breaker::{Settings, Window};
/// use std::time::Duration;
///
/// let rules = Settings::default()
///     .failure_rate(0.3)
///     .window(Window::last(100))
///     .slow_calls(Duration::from_secs(2), 0.8)
///     .rules()?;
/// # Ok::<(), buttress_circuit_breaker::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub(super) window: Window,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) consecutive: Option<u32>,
    pub(super) minimum: Option<u32>,
    pub(super) first: Duration,
    pub(super) longest: Duration,
    pub(super) factor: f64,
    pub(super) jitter: f64,
    pub(super) probes: u32,
    pub(super) overdue: Option<Duration>,
    pub(super) ramp: Option<Ramp>,
    pub(super) on_drop: OnDrop,
}

/// Which calls the rates are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// The last so many calls. See [`Window::last`].
    Last(u32),
    /// The calls of so long a time. See [`Window::time`].
    Time(Duration),
}

impl Window {
    /// The last `calls` calls, from 1 to 100 000: two bits for each.
    ///
    /// Right where calls are rare or come in bursts: old results count until new ones take their place.
    #[must_use]
    pub const fn last(calls: u32) -> Self {
        Self::Last(calls)
    }

    /// The calls that ended within the last `time`, a millisecond at least: ten slices of it, the oldest of which goes
    /// when the next begins, so between nine tenths of it and all.
    ///
    /// Right where the rate of calls changes: a rate is always one of now. Of more than 65 535 calls in one slice, the
    /// earlier ones count for less. When the clock goes back by more than `time`, the window begins anew.
    #[must_use]
    pub const fn time(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// How calls come back once the probes went well: 10 % of them, then 25 %, 50 % and 100 %, then the breaker is closed.
///
/// What is not yet let through is refused, and may be tried elsewhere. A step in which too many calls fail or are slow
/// opens the breaker again, for longer than before: as soon as their number reaches the rate of all that the step judges,
/// or, in a timed step, of all that were judged and of the minimum of calls (of 63 where that is more, of the probes where
/// it is less). So do failures in a row, from the first step to the last, where these are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ramp {
    /// Each step lasts so long, a millisecond at least.
    Time(Duration),
    /// Each step lasts until so many calls are judged, from 1 to 100, however long that takes: where none are, since all are
    /// ignored or dropped, it does not end.
    Calls(u32),
}

/// What it means when a call is dropped before it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDrop {
    /// Nothing: a probe's permit is given back.
    #[default]
    GiveBack,
    /// A failure, if the call was slow already: for callers who go away when they have waited for long enough. A call
    /// that was not is given back. So is a long poll, whose request is marked `Streaming`, in a layer that follows bodies;
    /// others do not see that mark.
    FailWhenSlow,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Window::Time(Duration::from_secs(10)),
            failure_rate: Some(0.5),
            slow: None,
            consecutive: None,
            minimum: None,
            first: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            factor: 2.0,
            jitter: 0.1,
            probes: 3,
            overdue: None,
            ramp: None,
            on_drop: OnDrop::GiveBack,
        }
    }
}

impl Settings {
    /// Judges the calls of this window.
    #[must_use]
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Opens when this share of the calls has failed: above 0, at most 1.
    #[must_use]
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Does not judge by the failure rate, but by slow calls or consecutive failures alone.
    #[must_use]
    pub const fn no_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Opens when this share of the calls, above 0 and at most 1, took at least `threshold`.
    #[must_use]
    pub const fn slow_calls(mut self, threshold: Duration, rate: f64) -> Self {
        self.slow = Some((threshold, rate));
        self
    }

    /// Opens when so many calls in a row have failed, from 1 to 65 535, whatever the minimum is.
    #[must_use]
    pub const fn consecutive_failures(mut self, calls: u32) -> Self {
        self.consecutive = Some(calls);
        self
    }

    /// Judges by rates only when the window holds so many calls: from 1 to 65 535, and not more than it can hold.
    ///
    /// A success never opens a breaker: where it makes up the minimum, the next call that fails or is slow does.
    #[must_use]
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum = Some(calls);
        self
    }

    /// Stays open for `first`, a millisecond at least, and for longer from one opening to the next, until it has been
    /// closed: `longest` at most. Nobody who asks to be left alone is left alone for longer either. An open time of
    /// `Duration::MAX` is for ever: only a hand ends it.
    ///
    /// A clock that goes back is noticed by the next call: the breaker is open for `longest` at most from then on.
    #[must_use]
    pub const fn open_for(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// Stays open for `factor` times as long as the last time: 1 or more. It grows 31 times at most.
    #[must_use]
    pub const fn growing_by(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Makes each open time shorter by a random share of up to `share` of it, from 0 to 1, and never shorter than a
    /// millisecond. What the service asks for has no jitter.
    #[must_use]
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Lets so many calls through when half-open, from 1 to 31, and judges by these.
    #[must_use]
    pub const fn probes(mut self, calls: u32) -> Self {
        self.probes = calls;
        self
    }

    /// Gives the probes so long, a millisecond at least. What is then known decides; if nothing is, or a probe is not
    /// [answered](crate::Breaker::answered), the breaker opens again. By default they have as long as the breaker was open,
    /// jitter apart.
    ///
    /// Longer than a good answer takes, and than the threshold of slow calls: no probe is slow that is overdue before. With
    /// `Duration::MAX` a probe that hangs keeps it half-open for ever.
    #[must_use]
    pub const fn half_open_for(mut self, time: Duration) -> Self {
        self.overdue = Some(time);
        self
    }

    /// Lets calls come back step by step once the probes went well.
    #[must_use]
    pub const fn ramp(mut self, ramp: Ramp) -> Self {
        self.ramp = Some(ramp);
        self
    }

    /// Says what it means when a call is dropped.
    #[must_use]
    pub const fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// The window that calls are judged over, unless nothing but failures in a row opens the breaker.
    #[must_use]
    pub const fn judged_window(&self) -> Option<Window> {
        if self.failure_rate.is_some() || self.slow.is_some() { Some(self.window) } else { None }
    }

    /// Checks the settings and makes of them what breakers are run by.
    ///
    /// # Errors
    ///
    /// When a value is out of its range or does not go with another: the error names both and says what would be right.
    pub fn rules(&self) -> Result<Rules, SettingsError> {
        Rules::new(self)
    }
}
