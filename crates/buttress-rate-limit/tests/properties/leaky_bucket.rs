use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{LeakyBucket, Limit, Policy};
use proptest::prelude::*;

use crate::oracle::Bucket;
use crate::token_bucket::buckets;
use crate::trace::{agree, all, calls, jumpy_calls, play};
use crate::{SECOND, TEN_YEARS, at, cases, lengths};

type Shaper = (LeakyBucket, Duration, u32);

/// With the numbers that it was built of.
pub(crate) fn shapers() -> impl Strategy<Value = (buttress_rate_limit::Gcra, Shaper)> {
    let queue = prop_oneof![Just(0_u32), 1_u32..=5, 1_u32..=2_000, Just(u32::MAX)];
    let wait = prop_oneof![Just(Duration::ZERO), lengths()];
    (buckets(), any::<bool>(), wait, queue).prop_filter_map("cannot work", |(gcra, even, wait, queue)| {
        let gcra = match even {
            true => buttress_rate_limit::Gcra::new(gcra.rate(), gcra.period(), 1).ok()?,
            false => gcra,
        };
        let shaper = LeakyBucket::from_gcra(gcra, wait).ok()?.queue(queue);
        Some((gcra, (shaper, wait, queue)))
    })
}

proptest! {
    #![proptest_config(cases(100, 100_000))]

    #[test]
    fn equals_the_exact_model_step_by_step(
        (gcra, (shaper, wait, queue)) in shapers(), start in 0..TEN_YEARS, steps in all(),
    ) {
        agree(&shaper, Bucket::queue(&gcra, wait, queue), start, TEN_YEARS, steps)?;
    }
}

/// `(departure, units)` of all that passes, in the order of arrival.
fn departures(calls: &[crate::trace::Call<u64>], shaper: &LeakyBucket) -> Vec<(u64, u128)> {
    calls
        .iter()
        .filter(|call| call.ruling.admitted() && call.cost > 0)
        .map(|call| {
            let delay = shaper.delay(&call.after, at(call.now), call.cost);
            ((at(call.now) + delay).as_nanos(), u128::from(call.cost))
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(30, 2_000))]

    #[test]
    fn equals_the_exact_model_as_a_limit_too(
        (gcra, (shaper, wait, queue)) in shapers(), start in 0..TEN_YEARS, steps in all(),
    ) {
        agree(&Limit::from(shaper), Bucket::queue(&gcra, wait, queue), start, TEN_YEARS, steps)?;
    }

    #[test]
    fn calls_go_in_the_order_they_came_and_as_far_apart_as_the_units_of_the_one_before(
        (gcra, (shaper, ..)) in shapers(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let departures = departures(&play(&shaper, start, TEN_YEARS, steps), &shaper);
        for pair in departures.windows(2) {
            let [(before, cost), (after, _)] = *pair else { unreachable!("pairs") };
            prop_assert!(before <= after);
            if gcra.burst() == 1 {
                // To the nanosecond that departures are told in.
                let units = cost * u128::from(gcra.ticks_per_unit());
                let apart = (u128::from(after - before) + 1) * u128::from(gcra.ticks_per_nano());
                prop_assert!(units < apart);
            }
        }
    }

    // At the rate that was asked for; and to the nanosecond again.
    #[test]
    fn no_more_than_burst_plus_rate_times_time_go_in_any_interval(
        (gcra, (shaper, ..)) in shapers(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let departures = departures(&play(&shaper, start, TEN_YEARS, steps), &shaper);
        for (first, &(from, _)) in departures.iter().enumerate() {
            let (mut sum, mut largest) = (0, u128::from(gcra.burst()));
            for &(to, cost) in &departures[first..] {
                sum += cost;
                largest = largest.max(cost);
                let time = u128::from(to - from) + u128::from(gcra.ticks_per_nano() > 1);
                let earned = time * u128::from(gcra.rate()) / gcra.period().as_nanos();
                prop_assert!(sum <= largest + earned);
            }
        }
    }

    #[test]
    fn no_call_waits_longer_than_allowed_nor_behind_more_than_allowed(
        (_, (shaper, wait, queue)) in shapers(), start in 0..TEN_YEARS, steps in calls(),
    ) {
        let calls = play(&shaper, start, TEN_YEARS, steps);
        let departures = departures(&calls, &shaper);
        let admitted = calls.iter().filter(|call| call.ruling.admitted() && call.cost > 0);
        for (before, call) in admitted.enumerate() {
            prop_assert!(shaper.delay(&call.after, at(call.now), call.cost) <= wait);
            let waiting = departures[..=before].iter().filter(|&&(departure, _)| departure > call.now).count();
            // Two that go in one nanosecond are told apart by nothing but their order.
            prop_assert!(waiting as u64 <= u64::from(queue) + u64::from(queue > 0));
        }
    }

    #[test]
    fn with_nobody_waiting_it_is_a_token_bucket(
        (gcra, _) in shapers(), start in 0..TEN_YEARS, steps in jumpy_calls(),
    ) {
        let meter = LeakyBucket::from_gcra(gcra, SECOND).unwrap().queue(0);
        let mut state = 0;
        for call in play(&gcra, start, TEN_YEARS, steps) {
            prop_assert_eq!(meter.decide(&mut state, at(call.now), call.cost), call.ruling);
            prop_assert_eq!(state, call.after);
        }
    }

    // Whoever leaves while it waits: what still goes keeps its distance.
    #[test]
    fn calls_that_give_up_never_let_others_go_too_soon(
        rate in 1_u64..1_000,
        wait in 0_u64..20,
        calls in prop::collection::vec((0_u64..3_000, any::<Option<u16>>()), 100),
    ) {
        let unit = SECOND.as_nanos() as u64 / rate;
        let shaper = LeakyBucket::new(rate, SECOND).wait(Duration::from_nanos(wait * unit));
        let (mut state, mut now) = (0, 0);
        let mut waiting: Vec<(u64, bool)> = Vec::new();
        for (pause, gives_up) in calls {
            now += unit * pause / 1000;
            if shaper.charge(&mut state, at(now), 1) {
                waiting.push(((at(now) + shaper.delay(&state, at(now), 1)).as_nanos(), true));
            }
            if let Some(who) = gives_up {
                let patient = waiting.iter().rposition(|&(departure, stays)| stays && departure <= now);
                let queue = &mut waiting[patient.map_or(0, |last| last + 1)..];
                if !queue.is_empty() {
                    let who = usize::from(who) % queue.len();
                    let (departure, stays) = &mut queue[who];
                    if *stays && *departure > now {
                        *stays = false;
                        shaper.refund(&mut state, at(*departure), at(now), 1);
                    }
                }
            }
        }
        let gone: Vec<_> = waiting.iter().filter(|call| call.1).map(|call| call.0).collect();
        for pair in gone.windows(2) {
            prop_assert!(pair[1] >= pair[0] + unit);
        }
    }

    #[test]
    fn any_input_is_answered_without_a_panic(
        (_, (shaper, ..)) in shapers(), before: u64, charged: u64, now: u64, cost: u32,
    ) {
        let (mut state, now) = (before, at(now));
        let ruling = shaper.decide(&mut state, now, cost);
        prop_assert!(ruling.admitted() || state == before);
        shaper.refund(&mut state, at(charged), now, cost);
        shaper.force(&mut state, now, cost);
        let _ = (shaper.left(&state, now), shaper.retry_after(&state, now, cost), shaper.delay(&state, now, cost));
    }
}
