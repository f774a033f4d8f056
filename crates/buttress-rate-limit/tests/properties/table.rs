use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store};
use buttress_rate_limit::{Limit, LimitState, Memory, Policy};
use proptest::prelude::*;

use crate::trace::STEPS;
use crate::{at, cases, fixed_window, sliding_log, token_bucket};

fn limits() -> impl Strategy<Value = Limit> {
    // With a grid for each key a model would have to know the hashes.
    prop_oneof![
        token_bucket::buckets().prop_map(Limit::from),
        fixed_window::windows().prop_map(|window| Limit::from(window.phase(Duration::ZERO))),
        sliding_log::logs().prop_map(Limit::from),
    ]
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
}
