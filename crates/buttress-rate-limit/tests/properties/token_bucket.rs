use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{Gcra, Limit, Policy};
use proptest::prelude::*;

use crate::oracle::Bucket;
use crate::trace::{admitted, agree, all, calls, jumpy_calls, play};
use crate::{HUNDRED_YEARS, SECOND, TEN_YEARS, at, cases};

/// Token buckets from 1 per 100 years to 4·10⁹ per second, even and odd rates, small and large bursts.
pub(crate) fn buckets() -> impl Strategy<Value = Gcra> {
    let period = prop_oneof![
        Just(SECOND),
        Just(Duration::from_secs(60)),
        Just(Duration::from_secs(86_400)),
        Just(Duration::from_secs(365 * 86_400)),
        Just(HUNDRED_YEARS),
        (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ];
    let rate = prop_oneof![
        1_u64..=10,
        1_u64..=5_000,
        Just(3_000_000),
        Just(300_000_000),
        Just(700_000_000),
        Just(123_456_789),
        Just(999_999_937),
        Just(4_294_967_295),
        1_u64..=4_294_967_295,
    ];
    let burst = prop_oneof![Just(1_u64), 1_u64..=10, 1_u64..=5_000, 1_u64..=4_294_967_295];
    (rate, period, burst)
        .prop_filter_map("cannot work", |(rate, period, burst)| Gcra::new(rate, period, burst).ok())
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    // I3, I4, I5
    #[test]
    fn equals_the_exact_model_step_by_step(gcra in buckets(), start in 0..TEN_YEARS, steps in all()) {
        agree(&gcra, Bucket::of(&gcra), start, TEN_YEARS, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(30, 2_000))]

    #[test]
    fn equals_the_exact_model_as_a_limit_too(gcra in buckets(), start in 0..TEN_YEARS, steps in all()) {
        agree(&Limit::from(gcra), Bucket::of(&gcra), start, TEN_YEARS, steps)?;
    }

    // I1, in its own words, at the rate that was asked for, and with a clock that jumps at will.
    #[test]
    fn never_admits_more_than_burst_plus_rate_times_time_in_any_interval(
        gcra in buckets(), start in 0..TEN_YEARS, steps in jumpy_calls(),
    ) {
        let calls = admitted(&gcra, start, TEN_YEARS, steps);
        for (first, &(from, _)) in calls.iter().enumerate() {
            let mut sum = 0;
            for &(to, cost) in &calls[first..] {
                sum += cost;
                let earned = u128::from(to - from) * u128::from(gcra.rate()) / gcra.period().as_nanos();
                prop_assert!(sum <= u128::from(gcra.burst()) + earned);
            }
        }
    }

    // I2
    #[test]
    fn what_is_admitted_is_owed_and_never_more_than_a_burst(
        gcra in buckets(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let mut last = 0;
        for call in play(&gcra, start, TEN_YEARS, steps) {
            prop_assert!(call.after >= last);
            last = call.after;
            if call.ruling.admitted() && call.cost > 0 {
                let debt = gcra.debt(&call.after, at(call.now));
                prop_assert!(0 < debt && debt <= gcra.burst() * gcra.ticks_per_unit());
            }
        }
    }

    // I5
    #[test]
    fn exactly_remaining_more_units_pass_at_the_same_moment(
        gcra in buckets(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        for call in play(&gcra, start, TEN_YEARS, steps) {
            let Ok(remaining) = u32::try_from(call.ruling.remaining()) else { continue };
            let mut state = call.after;
            prop_assert!(gcra.charge(&mut state, at(call.now), remaining));
            prop_assert_eq!(gcra.left(&state, at(call.now)).remaining, 0);
            prop_assert!(!gcra.charge(&mut state, at(call.now), 1));
        }
    }

    // I7
    #[test]
    fn a_key_that_was_idle_for_a_full_refill_cannot_be_told_from_a_fresh_one(
        gcra in buckets(), start in 0..TEN_YEARS, steps in calls(), cost: u32,
    ) {
        for call in play(&gcra, start, TEN_YEARS, steps) {
            let later = at(call.now) + call.ruling.window();
            let (mut old, mut fresh) = (call.after, 0);
            prop_assert_eq!(gcra.debt(&old, later), 0);
            prop_assert_eq!(gcra.left(&old, later), gcra.left(&fresh, later));
            prop_assert_eq!(gcra.decide(&mut old, later, cost), gcra.decide(&mut fresh, later, cost));
            prop_assert_eq!(gcra.debt(&old, later), gcra.debt(&fresh, later));
        }
    }

    // I8
    #[test]
    fn a_refund_at_the_same_moment_restores_an_equivalent_state(
        gcra in buckets(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        for call in play(&gcra, start, TEN_YEARS, steps) {
            if call.ruling.admitted() {
                let (now, mut before, mut refunded) = (at(call.now), call.before, call.after);
                gcra.refund(&mut refunded, now, now, call.cost);
                prop_assert_eq!(gcra.debt(&refunded, now), gcra.debt(&before, now));
                prop_assert_eq!(gcra.decide(&mut refunded, now, 1), gcra.decide(&mut before, now, 1));
            }
        }
    }

    #[test]
    fn any_input_is_answered_without_a_panic(
        gcra in buckets(), before: u64, charged: u64, now: u64, cost: u32,
    ) {
        let (mut state, now) = (before, at(now));
        let ruling = gcra.decide(&mut state, now, cost);
        prop_assert!(ruling.remaining() <= gcra.burst());
        prop_assert!(ruling.admitted() || state == before);
        gcra.refund(&mut state, at(charged), now, cost);
        gcra.force(&mut state, now, cost);
        let _ = (gcra.left(&state, now), gcra.retry_after(&state, now, cost), gcra.debt(&state, now));
    }
}
