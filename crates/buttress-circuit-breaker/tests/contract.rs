//! The contract of every layer, for each form of this one.

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, Mode, OnDrop, Ramp, Settings, Window};
use buttress_core::{ByCause, Outcome};
use buttress_testkit::{Contract, contract};

const SECOND: Duration = Duration::from_secs(1);

/// Everything on: a window of calls, slow calls, failures in a row, a ramp.
fn full() -> CircuitBreakerLayer {
    CircuitBreakerLayer::failure_rate(0.9)
        .window(Window::last(100))
        .slow_calls(SECOND, 0.9)
        .consecutive_failures(1000)
        .ramp(Ramp::Calls(10))
        .on_drop(OnDrop::FailWhenSlow)
}

fn in_flight(layer: &CircuitBreakerLayer) -> usize {
    layer.handle().view().probes_in_flight as usize
}

#[test]
fn the_default_keeps_the_contract() {
    contract(CircuitBreakerLayer::default);
    contract(|| CircuitBreakerLayer::default().strict());
}

#[test]
fn with_everything_on_it_keeps_the_contract() {
    contract(full);
    contract(|| full().strict());
}

#[test]
fn a_breaker_for_each_key_keeps_the_contract() {
    Contract::new(|| CircuitBreakerLayer::default().by(|n: &u32| Some(*n)).capacity(64))
        .at_most(64 * 4 / 3 + 8, |layer| layer.handle().counts().keys)
        // The first call of a key makes its breaker, and writes its name down.
        .allocations(10)
        .run();
}

#[test]
fn half_open_it_keeps_the_contract_as_far_as_there_are_probes() {
    // Enough probes for the suite: none of them may be lost.
    let half_open = || {
        let layer = CircuitBreakerLayer::default()
            .probes(31)
            .half_open_for(Duration::MAX)
            .open_for(Duration::from_millis(1), Duration::from_millis(1));
        layer.handle().open_for(Duration::ZERO);
        layer
    };
    Contract::new(half_open)
        .held(in_flight)
        .exempt(buttress_testkit::Point::HotPath, "a probe is no hot path")
        .run();
}

#[test]
fn results_of_an_earlier_generation_move_nothing() {
    Contract::new(full)
        .held(in_flight)
        .late(|layer| layer.handle().reset(), |layer| (layer.handle().view().sums, layer.handle().state()))
        .run();
    for mode in [Mode::MetricsOnly, Mode::Disabled, Mode::ForcedOpen, Mode::Isolated] {
        Contract::new(CircuitBreakerLayer::default)
            .late(
                move |layer: &CircuitBreakerLayer| {
                    let handle = layer.handle();
                    match mode {
                        Mode::MetricsOnly => handle.metrics_only(),
                        Mode::Disabled => handle.disable(),
                        Mode::ForcedOpen => handle.force_open(),
                        _ => handle.isolate("maintenance"),
                    };
                },
                |layer| (layer.handle().view().sums, layer.handle().view().generation),
            )
            .run();
    }
}

#[test]
fn every_closure_may_panic() {
    Contract::with_closures(|wire| {
        let (key, judge, observer) = (wire.clone(), wire.clone(), wire.clone());
        CircuitBreakerLayer::default()
            .by(move |_: &u32| {
                key.touch();
                Some("all")
            })
            .classify(move |result: Result<&u32, &buttress_core::BoxError>| {
                judge.touch();
                if result.is_ok() { Outcome::success() } else { Outcome::failure() }
            })
            .observe(move |_| observer.touch())
    })
    .refuses("a rate of 0", || CircuitBreakerLayer::failure_rate(0.0))
    .refuses("a rate above 1", || CircuitBreakerLayer::failure_rate(1.01))
    .refuses("a rate below 0", || CircuitBreakerLayer::failure_rate(-0.5))
    .refuses("a rate that is no number", || CircuitBreakerLayer::failure_rate(f64::NAN))
    .refuses("no failures in a row", || CircuitBreakerLayer::failures_in_a_row(0))
    .refuses("no consecutive failures", || CircuitBreakerLayer::default().consecutive_failures(0))
    .refuses("a window of no calls", || CircuitBreakerLayer::default().window(Window::last(0)))
    .refuses("a window of no time", || CircuitBreakerLayer::default().window(Window::time(Duration::ZERO)))
    .refuses("a window of too many calls", || CircuitBreakerLayer::default().window(Window::last(u32::MAX)))
    .refuses("a minimum of 0", || CircuitBreakerLayer::default().minimum_calls(0))
    .refuses("a minimum above the window", || {
        CircuitBreakerLayer::default().window(Window::last(10)).minimum_calls(11)
    })
    .refuses("slow calls after no time", || CircuitBreakerLayer::default().slow_calls(Duration::ZERO, 0.5))
    .refuses("a slow rate of 0", || CircuitBreakerLayer::default().slow_calls(SECOND, 0.0))
    .refuses("a slow rate that is no number", || CircuitBreakerLayer::default().slow_calls(SECOND, f64::NAN))
    .refuses("an open time of 0", || CircuitBreakerLayer::default().open_for(Duration::ZERO, SECOND))
    .refuses("inverted open times", || CircuitBreakerLayer::default().open_for(2 * SECOND, SECOND))
    .refuses("open times that shrink", || CircuitBreakerLayer::default().growing_by(0.5))
    .refuses("open times that grow by no number", || CircuitBreakerLayer::default().growing_by(f64::NAN))
    .refuses("a jitter above all of it", || CircuitBreakerLayer::default().jitter(1.5))
    .refuses("no probes", || CircuitBreakerLayer::default().probes(0))
    .refuses("too many probes", || CircuitBreakerLayer::default().probes(32))
    .refuses("probes in no time", || CircuitBreakerLayer::default().half_open_for(Duration::ZERO))
    .refuses("a ramp of no time", || CircuitBreakerLayer::default().ramp(Ramp::Time(Duration::ZERO)))
    .refuses("a ramp of no calls", || CircuitBreakerLayer::default().ramp(Ramp::Calls(0)))
    .refuses("slow drops without slow calls", || CircuitBreakerLayer::default().on_drop(OnDrop::FailWhenSlow))
    .refuses("no keys", || CircuitBreakerLayer::default().capacity(0))
    .refuses("more keys than there is memory for", || CircuitBreakerLayer::default().capacity(usize::MAX))
    .run();
}

#[test]
fn a_value_that_cannot_work_is_named_with_its_rule() {
    let error = CircuitBreakerLayer::try_new(Settings::default().failure_rate(1.5)).unwrap_err();

    assert_eq!((error.field(), error.value()), ("failure_rate", "1.5"));
    assert_eq!(error.rule(), "must be above 0 and at most 1");
}

#[test]
fn a_service_that_cannot_fail_keeps_the_contract() {
    use buttress_core::{Rejection, reject};

    let answer = |_: Rejection| Ok::<u32, std::convert::Infallible>(u32::MAX);
    Contract::new(move || CircuitBreakerLayer::default().classify(ByCause).on_reject(reject::with(answer)))
        .error::<std::convert::Infallible>()
        .run();
}

#[cfg(feature = "http")]
mod http {
    use buttress_circuit_breaker::{classify, reject::respond};
    use buttress_testkit::http_contract;

    use super::*;

    #[test]
    fn over_http_it_keeps_the_contract() {
        http_contract(|| full().classify(classify::status()).on_reject(respond()));
        http_contract(|| full().classify(classify::status()).on_reject(respond()).strict());
    }

    #[test]
    fn following_bodies_it_keeps_the_contract() {
        http_contract(|| full().classify(classify::status().at_end()).at_end().on_reject(respond()));
        http_contract(|| full().classify(classify::grpc()).at_end().strict());
    }

    #[test]
    fn taking_the_time_to_the_end_it_keeps_the_contract() {
        http_contract(|| full().classify(classify::status()).slow_to_end().on_reject(respond()));
        http_contract(|| full().classify(classify::status().at_end()).slow_to_end().strict());
    }

    #[test]
    fn a_probe_is_held_until_the_end_of_its_body_and_no_longer() {
        let half_open = || {
            let layer = CircuitBreakerLayer::default()
                .probes(31)
                .half_open_for(Duration::MAX)
                .open_for(Duration::from_millis(1), Duration::from_millis(1));
            layer.handle().open_for(Duration::ZERO);
            layer.classify(classify::status().at_end()).at_end().on_reject(respond())
        };
        Contract::http(half_open)
            .held(|layer| layer.handle().view().probes_in_flight as usize)
            .exempt(buttress_testkit::Point::HotPath, "a probe is no hot path")
            .run();
    }
}
