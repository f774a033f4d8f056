use std::time::Duration;

use buttress_core::{EndpointId, Timestamp, nanos};

use crate::hash::fold;

/// How an endpoint that has just become usable gets its traffic: little at first, so that its caches, pools and compiler
/// warm up under a load that it can carry.
///
/// Its share at a time `t` after it became usable is `max(least, (t / window)^(1 / aggression))` of what it gets later
/// (Envoy's rule). With aggression 1 it grows evenly, with more it grows fast at first.
///
/// It is kept by passing over the endpoint for a part of all hashes, and not by weight, so that nothing is rebuilt and a
/// consistent hash stays one: a key that has come to the endpoint stays there, and each key comes once.
///
/// | | default | why |
/// |---|---|---|
/// | window | 30 s | what most services need to be warm |
/// | least | 10 % | Envoy's; enough to warm up with |
/// | aggression | 1 | even |
///
/// ```
/// use std::time::Duration;
///
/// use buttress_balance::SlowStart;
/// use buttress_core::Timestamp;
///
/// let slow_start = SlowStart::default();
/// let start = Timestamp::from_nanos(1);
/// let percent = |seconds| (slow_start.ramp(start, start + Duration::from_secs(seconds)).share() * 100.0).round();
/// assert_eq!((percent(0), percent(15), percent(30)), (10.0, 50.0, 100.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    window: Duration,
    least: f64,
    aggression: f64,
}

impl SlowStart {
    /// For this long. [`Duration::ZERO`] is none.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, least: 0.1, aggression: 1.0 }
    }

    /// None: an endpoint gets all of its traffic at once.
    #[must_use]
    pub const fn off() -> Self {
        Self::new(Duration::ZERO)
    }

    /// The share that it begins with, in percent. 10 by default.
    ///
    /// # Panics
    ///
    /// When it is above 100.
    #[must_use]
    pub fn least_percent(mut self, percent: u8) -> Self {
        assert!(percent <= 100, "slow start from {percent} %: must be 100 at most, and 10 is usual");
        self.least = f64::from(percent) / 100.0;
        self
    }

    /// How fast it grows at first. 1.0 by default, which is even; below 1 it is slow at first.
    ///
    /// # Panics
    ///
    /// When it is not a finite number above 0.
    #[must_use]
    pub fn aggression(mut self, aggression: f64) -> Self {
        assert!(
            aggression.is_finite() && aggression > 0.0,
            "slow start with aggression {aggression}: must be a finite number above 0, and 1 is usual"
        );
        self.aggression = aggression;
        self
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How far an endpoint that became usable at `since` has come. [`Timestamp::ZERO`] is one that always was
    /// ([`usable_since`](buttress_core::Endpoint::usable_since)), so that what a process starts with has no slow start.
    #[inline]
    #[must_use]
    pub fn ramp(&self, since: Timestamp, now: Timestamp) -> Ramp {
        let (window, elapsed) = (nanos(self.window), nanos(now - since));
        if elapsed >= window || since == Timestamp::ZERO {
            return Ramp::FULL;
        }
        let grown = elapsed as f64 / window as f64;
        let share = if self.aggression == 1.0 { grown } else { grown.powf(1.0 / self.aggression) };
        Ramp((share.max(self.least) * WHOLE as f64) as u64)
    }
}

impl Default for SlowStart {
    /// 30 s from 10 %, evenly.
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

const WHOLE: u64 = 1 << 32;

/// The share of its traffic that an endpoint gets during its slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ramp(u64);

impl Ramp {
    /// All of it.
    pub const FULL: Self = Self(WHOLE);

    /// From 0 to 1.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0 as f64 / WHOLE as f64
    }

    /// This share of it, up to all.
    #[must_use]
    pub const fn percent(self, percent: u8) -> Self {
        let share = self.0 * percent as u64 / 100;
        Self(if share < WHOLE { share } else { WHOLE })
    }

    /// Whether the endpoint takes a call of this hash now. What is taken with a share is taken with every larger one, and
    /// endpoints take different hashes.
    #[inline]
    #[must_use]
    pub const fn accepts(self, hash: u64, endpoint: EndpointId) -> bool {
        self.0 >= WHOLE || fold(hash ^ endpoint.get(), 0xa076_1d64_78bd_642f) >> 32 < self.0
    }
}
