use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store};
use buttress_rate_limit::{Gcra, Limit, LimitState, Memory, Policy};
use proptest::prelude::*;

use crate::trace::STEPS;
use crate::{at, cases, fixed_window, sliding_log, token_bucket};

fn limits() -> impl Strategy<Value = Limit> {
    // With a grid for each key a model would have to know the hashes.
    prop_oneof![
        token_bucket::buckets()
            .prop_filter("coarser in the table", |gcra| !is_coarse(gcra))
            .prop_map(Limit::from),
        fixed_window::windows().prop_map(|window| Limit::from(window.phase(Duration::ZERO))),
        sliding_log::logs().prop_map(Limit::from),
    ]
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Whether the table counts in ticks that are longer than the bucket's own: 2^37 of these do not fill it.
fn is_coarse(gcra: &Gcra) -> bool {
    gcra.burst() * gcra.ticks_per_unit() > 1 << 37
}

proptest! {
    #![proptest_config(cases(100, 2_000))]

    #[test]
    fn each_key_is_limited_as_if_it_were_alone(
        limit in limits(),
        calls in prop::collection::vec((0_u32..20, 0..u64::MAX / 1000, 0_u32..20), 2 * STEPS),
    ) {
        // Twenty keys in 286 groups of seven: that eight of them meet in one does not happen.
        let memory = Memory::with_capacity(limit.clone(), 1_000);
        let mut alone = [const { None::<LimitState> }; 20];
        let mut now = 0;
        for (key, wait, cost) in calls {
            now += wait % 1_000_000_000;
            let mut sink = memory.sink();
            key.write(&mut sink);
            let Answer::Now(held) = memory.decide(sink, cost, at(now)) else {
                panic!("the answer of memory comes at once");
            };

            let state = alone[key as usize].get_or_insert_default();
            let ruling = limit.decide(state, at(now), cost);
            prop_assert_eq!(held.admitted(), ruling.admitted());
            prop_assert_eq!(held.retry_after(), ruling.retry_after());
            memory.quotas(&held, &mut |quota| {
                assert_eq!((quota.remaining, quota.reset), (ruling.remaining(), ruling.reset()));
            });
        }
        prop_assert_eq!(memory.evicted(), 0);
    }

    #[test]
    fn coarser_ticks_never_admit_more_than_burst_plus_rate_times_time_and_hardly_less(
        gcra in token_bucket::buckets()
            .prop_filter("exact in the table", |gcra| is_coarse(gcra) && gcra.window() < YEAR),
        calls in prop::collection::vec((any::<u8>(), 0_u8..4, any::<u32>()), 2 * STEPS),
    ) {
        let memory = Memory::with_capacity(gcra, 10);
        let window = gcra.window().as_nanos();
        let (mut now, mut passed) = (0_u64, Vec::new());
        for (part, wait, cost) in calls {
            // Mostly a moment, sometimes a part of the window.
            let part = u128::from(part);
            let wait = if wait == 0 { window * part / 256 } else { part };
            now += u64::try_from(wait).expect("a year fits");
            if now > 10 * YEAR.as_nanos() as u64 {
                break;
            }
            let cost = cost % u32::try_from(gcra.burst()).unwrap_or(u32::MAX).max(2);
            let mut sink = memory.sink();
            7_u32.write(&mut sink);
            let Answer::Now(decision) = memory.decide(sink, cost, at(now)) else {
                panic!("the answer of memory comes at once");
            };
            if decision.admitted() {
                passed.push((now, u128::from(cost)));
            } else if let Some(wait) = decision.retry_after() {
                let mut sink = memory.sink();
                7_u32.write(&mut sink);
                let Answer::Now(again) = memory.decide(sink, cost, at(now) + wait) else {
                    panic!("the answer of memory comes at once");
                };
                prop_assert!(again.admitted(), "after {wait:?}");
                now = (at(now) + wait).as_nanos();
                passed.push((now, u128::from(cost)));
            }
        }

        for (first, &(from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for &(to, cost) in &passed[first..] {
                sum += cost;
                let earned = u128::from(to - from) * u128::from(gcra.rate()) / gcra.period().as_nanos();
                prop_assert!(sum <= u128::from(gcra.burst()) + earned);
            }
        }
    }
}
