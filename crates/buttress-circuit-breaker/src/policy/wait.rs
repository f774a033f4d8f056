use std::time::Duration;

use buttress_core::nanos;

use super::settings::Settings;
use crate::SettingsError;

/// A millisecond, in nanoseconds.
const SHORTEST: u64 = 1_000_000;

/// How long a breaker stays open: longer from one opening to the next, and at random a little shorter.
///
/// Exponential backoff with subtractive jitter, so that the longest wait is what the settings say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wait {
    first: u64,
    longest: u64,
    factor: f64,
    jitter: f64,
}

impl Wait {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let Settings { first, longest, factor, jitter, .. } = *settings;
        if nanos(first) < SHORTEST {
            return Err(SettingsError::new("open_for", first, "must be at least 1ms"));
        }
        if longest < first {
            return Err(SettingsError::new(
                "open_for",
                longest,
                "must not be shorter than the first open time",
            ));
        }
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(SettingsError::new("growing_by", factor, "must be finite and at least 1"));
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(SettingsError::new("jitter", jitter, "must be between 0 and 1"));
        }
        Ok(Self { first: nanos(first), longest: nanos(longest), factor, jitter })
    }

    /// Without jitter, after `growth` openings.
    pub(crate) fn full(&self, growth: u32) -> Duration {
        let grown = if growth == 0 {
            self.first
        } else {
            // A cast from a float saturates.
            (self.first as f64 * self.factor.powi(growth as i32)) as u64
        };
        Duration::from_nanos(grown.clamp(self.first, self.longest))
    }

    /// The same, made shorter by what `draw` says, which is any number: down to a millisecond.
    pub(crate) fn jittered(&self, growth: u32, draw: u64) -> Duration {
        let full = nanos(self.full(growth));
        let share = self.jitter * (draw >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_nanos(full.saturating_sub((full as f64 * share) as u64).max(SHORTEST))
    }

    /// In nanoseconds.
    pub(crate) const fn longest(&self) -> u64 {
        self.longest
    }

    /// A wait that the service asks for.
    pub(crate) const fn capped(&self, wait: Duration) -> Duration {
        let wait = nanos(wait);
        Duration::from_nanos(if wait < self.longest { wait } else { self.longest })
    }
}
