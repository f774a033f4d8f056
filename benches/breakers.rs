//! Who is compared: our breaker and its peers, closed and open.
#![allow(dead_code, reason = "each bench takes what it compares")]

use std::hint::black_box;
use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Judged, Rules, Settings, Window};
use buttress_core::Timestamp;
use recloser::Recloser;
use tower::{Layer, Service};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer as Resilience, SlidingWindowType};

use crate::sides::{self, Error, Unit};

/// Longer than any bench runs.
const LONG: Duration = Duration::from_secs(86_400);

/// Ours, with its numbers.
#[derive(Debug)]
pub(crate) struct Ours {
    rules: Rules,
    breaker: Breaker,
}

/// The numbers that two of three peers have by default too.
pub(crate) fn last(calls: u32) -> Ours {
    ours(Settings::default().window(Window::last(calls)))
}

pub(crate) fn ten_seconds() -> Ours {
    ours(Settings::default())
}

fn ours(settings: Settings) -> Ours {
    let rules = settings.open_for(LONG, LONG).rules().expect("the numbers are in range");
    Ours { breaker: Breaker::new(&rules), rules }
}

impl Ours {
    /// A call that succeeds, or fails, when it passes.
    #[inline]
    pub(crate) fn call(&self, succeeds: bool, now: impl Fn() -> Timestamp) -> bool {
        let Ok(admission) = self.breaker.admit(&self.rules, &now, || 0, |_| {}) else { return false };
        let judged = if black_box(succeeds) { Judged::Success } else { Judged::Failure };
        self.breaker.record(&self.rules, admission, judged, false, &now, || 0, |_| {});
        true
    }

    pub(crate) fn opened(self) -> Self {
        (0..100).for_each(|_| _ = self.call(false, sides::fixed));
        assert!(!self.call(true, sides::fixed), "it is open");
        self
    }
}

pub(crate) fn recloser(calls: usize) -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(calls).open_wait(LONG).build()
}

#[inline]
pub(crate) fn call_recloser(recloser: &Recloser, succeeds: bool) -> bool {
    recloser.call(|| if black_box(succeeds) { Ok(()) } else { Err(()) }).is_ok()
}

pub(crate) fn opened_recloser() -> Recloser {
    let recloser = recloser(20);
    (0..100).for_each(|_| _ = call_recloser(&recloser, false));
    assert!(!call_recloser(&recloser, true), "it is open");
    recloser
}

pub(crate) fn failsafe() -> impl failsafe::CircuitBreaker + Sync {
    failsafe::Config::new().build()
}

#[inline]
pub(crate) fn call_failsafe(breaker: &impl failsafe::CircuitBreaker) -> bool {
    breaker.call(|| if black_box(true) { Ok(()) } else { Err(()) }).is_ok()
}

/// A service that fails when it is asked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fails;

impl Service<bool> for Fails {
    type Response = ();
    type Error = Error;
    type Future = std::future::Ready<Result<(), Error>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        Unit.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, fails: bool) -> Self::Future {
        let gone = || buttress_core::Rejection::new(buttress_core::RejectionKind::Timeout);
        std::future::ready(if black_box(fails) {
            Err(buttress_core::FromRejection::from_rejection(gone()))
        } else {
            Ok(())
        })
    }
}

/// Judges the last hundred calls, which takes no clock.
pub(crate) fn by_calls() -> Settings {
    Settings::default().window(Window::last(100))
}

/// Our layer over a service that does nothing.
pub(crate) fn layer(settings: Settings) -> impl Service<bool, Response = (), Error = Error> {
    CircuitBreakerLayer::new(settings.open_for(LONG, LONG)).layer(Fails)
}

/// That of `tower-resilience`, by calls or by time.
pub(crate) fn resilience(calls: Option<usize>) -> impl Service<bool, Response = (), Error: std::fmt::Debug> {
    let builder = Resilience::builder().wait_duration_in_open(LONG).minimum_number_of_calls(20);
    let builder = match calls {
        Some(calls) => builder.sliding_window_size(calls),
        None => builder
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_secs(10)),
    };
    builder.build().expect("the numbers are in range").layer(Fails)
}

/// One call through a layer; whether it passed and succeeded.
#[inline]
pub(crate) fn through<S>(service: &mut S, fails: bool) -> bool
where
    S: Service<bool>,
{
    sides::call(service, fails).is_ok()
}
