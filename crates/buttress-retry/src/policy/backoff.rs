//! How long to wait between two attempts.

use std::time::Duration;

use buttress_core::nanos;

use super::SettingError;

/// How long to wait before each retry.
///
/// | backoff | the n-th wait, before jitter |
/// |---|---|
/// | [`constant`](Self::constant) | always the same |
/// | [`exponential`](Self::exponential) | `base · factor^(n-1)`, at most `most` |
/// | [`decorrelated`](Self::decorrelated) | drawn from `base` to three times the wait before, at most `most` |
///
/// Constant and exponential ones are drawn from 0 to the wait by default ([`Jitter::Full`]): clients that failed together
/// must not come back together. In a simulation of a hundred clients that contend for one row, full jitter took the
/// fewest calls and the least time; without jitter the exponential one took thirteen times as long.
///
/// It is a pure function: the random number is an argument.
///
/// ```
/// use buttress_retry::{Backoff, Jitter};
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let backoff = Backoff::exponential(ms(25), ms(1000)).jitter(Jitter::None);
/// let waits: Vec<_> = (1..=4).map(|retry| backoff.wait(retry, Duration::ZERO, 0)).collect();
/// assert_eq!(waits, [ms(25), ms(50), ms(100), ms(200)]);
/// ```
///
/// Sources: [Exponential Backoff and Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)
/// names the jitters and the decorrelated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    curve: Curve,
    base: Duration,
    most: Duration,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    Constant,
    Exponential { factor: u32 },
    Decorrelated,
}

/// What chance makes of a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Nothing: for one client alone, and for tests.
    None,
    /// From half of the wait to all of it: where some pause is a must.
    Equal,
    /// From nothing to all of the wait: spreads clients best.
    #[default]
    Full,
}

const SUBJECT: &str = "backoff";

impl Backoff {
    /// Waits `wait` before each retry; zero retries at once.
    #[must_use]
    pub const fn constant(wait: Duration) -> Self {
        Self { curve: Curve::Constant, base: wait, most: wait, jitter: Jitter::Full }
    }

    /// Waits `base` before the first retry and twice as long before each further one, at most `most`.
    ///
    /// # Panics
    ///
    /// When `base` is zero or above `most`.
    #[must_use]
    #[track_caller]
    pub fn exponential(base: Duration, most: Duration) -> Self {
        Self::between(Curve::Exponential { factor: 2 }, base, most, Jitter::Full)
    }

    /// Waits between `base` and three times as long as before, at most `most`.
    ///
    /// It needs no further jitter, and takes none.
    ///
    /// # Panics
    ///
    /// When `base` is zero or above `most`.
    #[must_use]
    #[track_caller]
    pub fn decorrelated(base: Duration, most: Duration) -> Self {
        Self::between(Curve::Decorrelated, base, most, Jitter::None)
    }

    /// Grows by `factor` instead of 2. 1 grows not at all.
    ///
    /// # Panics
    ///
    /// When `factor` is 0, or the backoff is no exponential one.
    #[must_use]
    #[track_caller]
    pub fn factor(mut self, factor: u32) -> Self {
        const RULE: &str = "must be at least 1, of an exponential backoff";
        match &mut self.curve {
            Curve::Exponential { factor: present } if factor > 0 => *present = factor,
            _ => panic!("{}", SettingError::new(SUBJECT, "factor", factor, RULE)),
        }
        self
    }

    /// Draws the waits as `jitter` says instead of from all of them.
    ///
    /// # Panics
    ///
    /// When the backoff is decorrelated: its waits are drawn already.
    #[must_use]
    #[track_caller]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        const RULE: &str = "must not be set for a decorrelated backoff, whose waits are drawn already";
        if self.curve == Curve::Decorrelated {
            panic!("{}", SettingError::new(SUBJECT, "jitter", jitter, RULE));
        }
        self.jitter = jitter;
        self
    }

    /// How long to wait before the `retry`-th retry, the first being 1, when the wait before it was `previous` (zero
    /// before the first) and chance gives `random`, any number of 64 bits.
    #[must_use]
    pub fn wait(&self, retry: u32, previous: Duration, random: u64) -> Duration {
        let (least, most) = match self.curve {
            Curve::Decorrelated => {
                let thrice = previous.max(self.base).saturating_mul(3);
                (self.base, thrice.min(self.most))
            }
            _ => self.bounds(retry),
        };
        between(least, most, random)
    }

    /// The least and the longest wait before the `retry`-th retry.
    ///
    /// ```
    /// use buttress_retry::Backoff;
    /// use std::time::Duration;
    ///
    /// let backoff = Backoff::exponential(Duration::from_millis(25), Duration::from_secs(1));
    /// assert_eq!(backoff.bounds(2), (Duration::ZERO, Duration::from_millis(50)));
    /// ```
    #[must_use]
    pub fn bounds(&self, retry: u32) -> (Duration, Duration) {
        let full = match self.curve {
            Curve::Constant => self.base,
            Curve::Exponential { factor } => {
                let grown = u64::from(factor).saturating_pow(retry.saturating_sub(1));
                Duration::from_nanos(nanos(self.base).saturating_mul(grown)).min(self.most)
            }
            Curve::Decorrelated => return (self.base, self.most),
        };
        match self.jitter {
            Jitter::None => (full, full),
            Jitter::Equal => (full / 2, full),
            Jitter::Full => (Duration::ZERO, full),
        }
    }

    /// Whether chance has a part in the waits.
    pub(crate) const fn is_drawn(&self) -> bool {
        !matches!((self.curve, self.jitter), (Curve::Constant | Curve::Exponential { .. }, Jitter::None))
    }

    #[track_caller]
    fn between(curve: Curve, base: Duration, most: Duration, jitter: Jitter) -> Self {
        if base.is_zero() {
            panic!("{}", SettingError::new(SUBJECT, "base", base, "must be longer than zero"));
        }
        if base > most {
            let rule = "must not be above the longest wait, `most`";
            panic!("{}", SettingError::new(SUBJECT, "base", base, rule));
        }
        Self { curve, base, most, jitter }
    }
}

impl Default for Backoff {
    /// 25 ms, doubled up to 1 s, with full jitter: short beside what people notice, and long enough for a connection or
    /// an endpoint to be replaced.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(25), Duration::from_secs(1))
    }
}

/// The duration at `random` of 2^64 on the way from `least` to `most`, both of them within reach.
pub(crate) fn between(least: Duration, most: Duration, random: u64) -> Duration {
    let (least, most) = (nanos(least), nanos(most));
    let span = u128::from(most.saturating_sub(least)) + 1;
    let drawn = (span * u128::from(random)) >> 64;
    Duration::from_nanos(least + u64::try_from(drawn).unwrap_or(u64::MAX))
}
