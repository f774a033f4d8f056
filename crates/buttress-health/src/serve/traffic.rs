use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress_core::Timestamp;

use super::report::TrafficReport;
use super::window::Window;

/// What the outcomes of the service's own calls mean for its readiness: settings for
/// [`Readiness::traffic`](crate::Readiness::traffic).
///
/// | setting | default | why |
/// |---|---|---|
/// | importance | [`optional`](Self::optional) | a service that answers 500 to one bad client should not leave; `degraded` tells whoever watches |
/// | `failure_rate` | 0.5 | half of all calls is no accident; the circuit breaker's default as well |
/// | `minimum_calls` | 20 | of fewer, a share says little |
/// | `window` | 10 s | one period of Kubernetes' probes |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    importance: Importance,
    failure_rate: f64,
    minimum_calls: u32,
    window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Importance {
    Critical,
    Optional,
    Ignored,
}

impl Default for Traffic {
    fn default() -> Self {
        Self::optional()
    }
}

impl Traffic {
    /// While too many calls fail, the service is degraded: `/readyz` is 200 and says so.
    #[must_use]
    pub const fn optional() -> Self {
        Self {
            importance: Importance::Optional,
            failure_rate: 0.5,
            minimum_calls: 20,
            window: Duration::from_secs(10),
        }
    }

    /// While too many calls fail, the service is not ready: `/readyz` is 503, and a [`HealthLayer`](crate::HealthLayer)
    /// refuses calls. They come back when the failures are older than the window, and are then judged anew.
    ///
    /// Right for an instance that can be out of order by itself (a full disk, a lost device). Where all instances fail
    /// together, as with a common database, all of them leave.
    #[must_use]
    pub const fn critical() -> Self {
        Self { importance: Importance::Critical, ..Self::optional() }
    }

    /// Calls are not counted.
    #[must_use]
    pub const fn ignored() -> Self {
        Self { importance: Importance::Ignored, ..Self::optional() }
    }

    /// Too many is this share of the calls, above 0 and at most 1. The default is 0.5.
    ///
    /// # Panics
    ///
    /// When `rate` is not in that range.
    #[must_use]
    #[track_caller]
    pub fn failure_rate(mut self, rate: f64) -> Self {
        assert!(rate > 0.0 && rate <= 1.0, "failure_rate is {rate}: it must be above 0, and at most 1");
        self.failure_rate = rate;
        self
    }

    /// Judges only where the window holds so many calls. The default is 20.
    ///
    /// # Panics
    ///
    /// When `calls` is 0, or above 65 535.
    #[must_use]
    #[track_caller]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        assert!((1..=65_535).contains(&calls), "minimum_calls is {calls}: it must be between 1 and 65535");
        self.minimum_calls = calls;
        self
    }

    /// Judges the calls of the last `length`, give or take a tenth. The default is 10 s.
    ///
    /// # Panics
    ///
    /// When `length` is shorter than a second.
    #[must_use]
    #[track_caller]
    pub fn window(mut self, length: Duration) -> Self {
        assert!(length >= Duration::from_secs(1), "window is {length:?}: it must be at least 1s");
        self.window = length;
        self
    }
}

/// The calls of a service, counted.
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) settings: Traffic,
    window: Window,
    /// Whether any call was ever marked.
    seen: AtomicBool,
    /// What was told last.
    failing: AtomicBool,
}

impl Marked {
    pub(crate) fn new(settings: Traffic) -> Self {
        let (seen, failing) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { settings, window: Window::new(settings.window), seen, failing }
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.settings.importance != Importance::Ignored
    }

    /// Counts a call; whether it has changed the judgement.
    #[inline]
    pub(crate) fn mark(&self, now: Timestamp, failed: bool) -> bool {
        if !self.seen.load(Ordering::Relaxed) {
            self.seen.store(true, Ordering::Relaxed);
        }
        self.window.add(now, failed);
        let failing = self.failing.load(Ordering::Relaxed);
        // A success alone never makes too many fail.
        (failed || failing) && self.report(now).is_some_and(|found| found.failing != failing)
    }

    pub(crate) fn report(&self, now: Timestamp) -> Option<TrafficReport> {
        if !self.is_counted() || !self.seen.load(Ordering::Relaxed) {
            return None;
        }
        let sums = self.window.sums(now);
        let failing = sums.calls >= self.settings.minimum_calls
            && f64::from(sums.failed) >= self.settings.failure_rate * f64::from(sums.calls);
        let critical = self.settings.importance == Importance::Critical;
        Some(TrafficReport { critical, failing, calls: sums.calls, failed: sums.failed })
    }

    /// Keeps what is to be told next. Whether it is news.
    pub(crate) fn turn(&self, failing: bool) -> bool {
        self.failing.load(Ordering::Relaxed) != failing
            && self.failing.swap(failing, Ordering::Relaxed) != failing
    }
}
