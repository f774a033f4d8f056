//! What the presets have in common: one attempt, and how long it and the call may take.

use std::time::Duration;

use buttress_circuit_breaker::{
    CircuitBreaker, CircuitBreakerEvent, CircuitBreakerLayer, Settings, ToEnd, Window, classify, key,
};
use buttress_core::{AtHead, Clock, Fail, Name, Wrap};
use buttress_timeout::{Timeout, TimeoutEvent, TimeoutLayer};

/// A breaker for each authority, around the timeout of an attempt.
pub(super) type Attempt<S, C, F> = CircuitBreaker<Timeout<S>, key::Authority, Fail, C, F>;

#[derive(Clone, Debug)]
pub(super) struct AttemptLayer<C, F> {
    breaker: CircuitBreakerLayer<key::Authority, Fail, C, F>,
    /// Knows clock, name and observer; its limit is put in when it wraps.
    timeout: TimeoutLayer,
    times: Times,
}

impl AttemptLayer<classify::Status, AtHead> {
    pub(super) fn new() -> Self {
        let times = Times::default();
        let settings = Settings::default().window(Window::time(times.window()));
        Self {
            breaker: CircuitBreakerLayer::new(settings).by(key::authority()).classify(classify::status()),
            timeout: TimeoutLayer::head(Duration::MAX),
            times,
        }
    }

    pub(super) fn grpc(self) -> AttemptLayer<classify::Grpc, ToEnd> {
        let Self { breaker, timeout, times } = self;
        AttemptLayer { breaker: breaker.classify(classify::grpc()).at_end(), timeout, times }
    }
}

impl<C, F> AttemptLayer<C, F> {
    #[track_caller]
    pub(super) fn attempt_timeout(self, limit: Duration) -> Self {
        self.set_times("attempt_timeout", limit, |times| times.attempt = Some(limit))
    }

    #[track_caller]
    pub(super) fn total_timeout(self, limit: Duration) -> Self {
        self.set_times("total_timeout", limit, |times| times.total = Some(limit))
    }

    #[track_caller]
    fn set_times(mut self, field: &str, value: Duration, change: impl FnOnce(&mut Times)) -> Self {
        let before = self.times.window();
        change(&mut self.times);
        self.times.check(field, value);
        if self.times.breaker.is_none() && self.times.window() != before {
            self.breaker = self.breaker.window(Window::time(self.times.window()));
        }
        self
    }

    pub(super) fn total(&self) -> Duration {
        self.times.total()
    }

    pub(super) fn handle(&self) -> buttress_circuit_breaker::Handle {
        self.breaker.handle()
    }

    #[track_caller]
    pub(super) fn settings(mut self, settings: Settings) -> Self {
        // Over calls, and over failures in a row, it takes as long as it takes.
        let window = match settings.judged_window() {
            Some(Window::Time(window)) => window,
            _ => Duration::MAX,
        };
        self.times.breaker = Some(window);
        self.times.check("breaker", window);
        self.breaker = self.breaker.settings(settings);
        self
    }

    pub(super) fn named(mut self, name: Name) -> Self {
        self.breaker = self.breaker.named(name.clone());
        self.timeout = self.timeout.named(name);
        self
    }

    pub(super) fn clock(mut self, clock: Clock) -> Self {
        self.breaker = self.breaker.clock(clock.clone());
        self.timeout = self.timeout.clock(clock);
        self
    }

    pub(super) fn observe_breaker(
        mut self,
        observer: impl Fn(&CircuitBreakerEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.breaker = self.breaker.observe(observer);
        self
    }

    pub(super) fn observe_attempts(
        mut self,
        observer: impl Fn(&TimeoutEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.timeout = self.timeout.observe(observer);
        self
    }
}

impl<S, C: Clone, F: Clone> Wrap<S> for AttemptLayer<C, F> {
    type Service = Attempt<S, C, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        self.breaker.wrap(self.timeout.clone().and_head(self.times.attempt()).wrap(inner))
    }
}

/// How long an attempt and a call may take, as far as that was said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    attempt: Option<Duration>,
    total: Option<Duration>,
    /// The window of the breaker.
    breaker: Option<Duration>,
}

const ATTEMPT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(30);

impl Times {
    /// Where one of them was not said, it makes room for the other.
    fn attempt(self) -> Duration {
        self.attempt.unwrap_or_else(|| self.total.map_or(ATTEMPT, |total| ATTEMPT.min(total / 3)))
    }

    fn total(self) -> Duration {
        // No limit for an attempt is no reason to have none for the call.
        let attempt = self.attempt.filter(|attempt| *attempt != Duration::MAX);
        self.total.unwrap_or_else(|| attempt.map_or(TOTAL, |attempt| TOTAL.max(attempt.saturating_mul(3))))
    }

    /// How long the breaker looks back, where that was not said: an attempt that hangs has a result when it is over, and the
    /// window must hold enough of them.
    fn window(self) -> Duration {
        match self.attempt() {
            Duration::MAX => WINDOW,
            attempt => WINDOW.max(attempt.saturating_mul(3)),
        }
    }

    #[track_caller]
    fn check(self, field: &str, value: Duration) {
        // A third of one nanosecond is nothing.
        assert!(
            !value.is_zero() && !self.attempt().is_zero(),
            "client with `{field}` = {value:?}: must be longer than zero"
        );
        if let (Some(attempt), Some(total)) = (self.attempt, self.total) {
            assert!(
                attempt < total || attempt == Duration::MAX,
                "client with `{field}` = {value:?}: an attempt ({attempt:?}) must be shorter than the call ({total:?}), or \
                 its timeout ends none",
            );
        }
        if let (Some(attempt), Some(window)) = (self.attempt, self.breaker) {
            assert!(
                attempt <= window / 2 || attempt == Duration::MAX,
                "client with `{field}` = {value:?}: the breaker's window ({window:?}) must be two attempts ({attempt:?}) long \
                 at least, or calls that hang do not open it",
            );
        }
    }
}
