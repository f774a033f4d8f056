use buttress_circuit_breaker::{Breaker, Judged, Settings, State, Window};
use buttress_core::Timestamp;
use proptest::prelude::*;

use crate::cases;

proptest! {
    #![proptest_config(cases(500, 20_000))]

    /// From nothing but successes to nothing but failures: within the window and one call more.
    #[test]
    fn a_step_to_failures_opens_within_one_window(
        window in 1_u32..=300,
        before in 0_u32..1_000,
        rate in 0.01..=1.0,
        minimum in 1_u32..=300,
    ) {
        let settings = Settings::default().window(Window::last(window)).failure_rate(rate);
        let rules = settings.minimum_calls(minimum.min(window)).rules().unwrap();
        let breaker = Breaker::new(&rules);
        let call = |judged| {
            let now = || Timestamp::ZERO;
            let admission = breaker.admit(&rules, now, || 0, |_| {}).unwrap();
            breaker.record(&rules, admission, judged, false, now, || 0, |_| {});
        };
        (0..before).for_each(|_| call(Judged::Success));

        let mut calls = 0;
        while breaker.state() == State::Closed {
            call(Judged::Failure);
            calls += 1;
        }

        prop_assert!(calls <= window + 1);
        // And not before the rate says so: of as many results as there are by then.
        let total = (before + calls).min(window);
        let one_less = f64::from(calls - 1) / f64::from((before + calls - 1).min(window).max(1));
        prop_assert!(f64::from(calls) / f64::from(total) > rate - 1e-8);
        prop_assert!(one_less < rate || before + calls - 1 < minimum.min(window));
    }
}
