//! Every interleaving of two threads on one limit. Runs under `--cfg buttress_loom` alone.
#![cfg(buttress_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{CarryOver, Decision, Limit, Memory, WhenFull};
use loom::thread;

const START: Timestamp = Timestamp::from_nanos(1);

fn decide(memory: &Memory, key: Option<u32>, cost: u32, now: Timestamp) -> Decision {
    let mut sink = memory.sink();
    if let Some(key) = key {
        key.write(&mut sink);
    }
    match memory.decide(sink, cost, now) {
        Answer::Now(decision) => decision,
        Answer::Later(_) => unreachable!("the answer of memory comes at once"),
    }
}

/// One call; says whether it passes.
fn call(memory: &Memory, key: Option<u32>, cost: u32) -> bool {
    decide(memory, key, cost, START).admitted()
}

/// Lets each of `threads` make its calls; gives the units that passed.
fn passed(memory: &Memory, threads: [&'static [(Option<u32>, u32)]; 2]) -> u64 {
    let passed = Arc::new(AtomicU64::new(0));
    let threads = threads.map(|calls| {
        let (memory, passed) = (memory.clone(), passed.clone());
        thread::spawn(move || {
            for &(key, cost) in calls {
                if call(&memory, key, cost) {
                    passed.fetch_add(u64::from(cost), Ordering::Relaxed);
                }
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    passed.load(Ordering::Relaxed)
}

/// A table of one group, which under the model has two slots.
fn small(limit: Limit) -> Memory {
    Memory::with_capacity(limit, 1)
}

/// The same with a lock for each group.
fn locked() -> Memory {
    Memory::all([Limit::per_second(3), Limit::per_minute(100).named("second")]).capacity_for(1)
}

#[test]
fn threads_on_a_frozen_clock_admit_exactly_the_burst() {
    loom::model(|| {
        let memory = small(Limit::per_second(3));
        let calls = &[(None, 1), (None, 1)];

        assert_eq!(passed(&memory, [calls, calls]), 3);
        assert!(!call(&memory, None, 1));
    });
}

#[test]
fn a_key_seen_first_by_two_threads_at_once_has_one_budget() {
    for memory in [|| small(Limit::per_second(3)), locked] {
        loom::model(move || {
            let memory = memory();
            let calls = &[(Some(7), 1), (Some(7), 1)];

            assert_eq!(passed(&memory, [calls, calls]), 3);
            assert!(!call(&memory, Some(7), 1));
        });
    }
}

#[test]
fn a_key_that_makes_way_takes_no_other_keys_budget_with_it() {
    for memory in [|| small(Limit::per_second(3)), locked] {
        loom::model(move || {
            let memory = memory();
            // One of the two slots is taken by a key that owes the most.
            assert!(call(&memory, Some(3), 3));

            let units = passed(&memory, [&[(Some(1), 1)], &[(Some(2), 2), (Some(2), 2)]]);

            // The second call of key 2 passes where key 1 has taken its place in between.
            assert!(units == 3 || units == 5, "{units} units");
            assert!(!call(&memory, Some(3), 1), "it is still held");
        });
    }
}

#[test]
fn keys_without_a_place_share_one_budget() {
    loom::model(|| {
        let memory = Memory::new(Limit::per_second(3)).when_full(WhenFull::Shared).capacity_for(1);
        // One slot for a key, the other for all that find none.
        assert!(call(&memory, Some(3), 3));

        assert_eq!(passed(&memory, [&[(Some(1), 2)], &[(Some(2), 2)]]), 2);
    });
}

#[test]
fn a_refund_beside_a_charge_gives_back_what_it_should() {
    for key in [None, Some(7)] {
        loom::model(move || {
            let memory = small(Limit::per_second(3));
            let held = decide(&memory, key, 2, START);
            let other = memory.clone();
            let refund = thread::spawn(move || other.settle(&held, 0, START));

            let early = call(&memory, key, 2);
            refund.join().unwrap();

            let late = (0..4).filter(|_| call(&memory, key, 1)).count();
            assert_eq!(late, if early { 1 } else { 3 });
        });
    }
}

#[test]
fn a_sweep_beside_a_charge_loses_no_debt() {
    // Which slot a key is looked for in first differs from key to key and from run to run.
    for key in 7..9 {
        loom::model(move || {
            let memory = small(Limit::per_minute(3));
            assert!(call(&memory, Some(key), 3));
            // Long after the last sweep, with the first debt gone.
            let later = START + Duration::from_secs(1000);
            let other = memory.clone();
            let first = thread::spawn(move || u32::from(decide(&other, Some(key), 2, later).admitted()));

            let second = u32::from(decide(&memory, Some(key), 2, later).admitted());

            assert_eq!(first.join().unwrap() + second, 1);
            assert!(decide(&memory, Some(key), 1, later).admitted());
            assert!(!decide(&memory, Some(key), 1, later).admitted());
        });
    }
}

#[test]
fn a_key_seen_first_beside_a_sweep_has_one_budget() {
    for key in 7..9 {
        loom::model(move || {
            let memory = small(Limit::per_minute(3));
            // It owes nothing any more when the group is swept: one slot is free before, two are after.
            assert!(call(&memory, Some(1), 1));
            let later = START + Duration::from_secs(1000);
            let other = memory.clone();
            let first = thread::spawn(move || u32::from(decide(&other, Some(key), 2, later).admitted()));

            let second = u32::from(decide(&memory, Some(key), 2, later).admitted());

            assert_eq!(first.join().unwrap() + second, 1);
        });
    }
}

#[test]
fn a_key_seen_first_by_two_threads_where_little_room_is_left_has_one_budget() {
    // Two groups of two. Where each key belongs differs from run to run.
    for key in 10..16 {
        loom::model(move || {
            let memory = Memory::with_capacity(Limit::per_second(3), 8);
            for held in 1..4 {
                assert!(call(&memory, Some(held), 3));
            }

            let other = memory.clone();
            let first = thread::spawn(move || u32::from(call(&other, Some(key), 2)));

            let second = u32::from(call(&memory, Some(key), 2));

            assert_eq!(first.join().unwrap() + second, 1, "key {key}");
        });
    }
}

#[test]
fn a_change_of_the_limit_beside_a_charge_keeps_the_debt() {
    for key in [None, Some(7)] {
        loom::model(move || {
            let memory = small(Limit::per_second(3));
            assert!(call(&memory, key, 1));
            let other = memory.clone();
            // Ticks of a seventh of a nanosecond, where those before were of a third.
            let change = thread::spawn(move || {
                other.set_limit(0, 0, Limit::per_second(7).burst(3), CarryOver::AsIs, START).unwrap();
            });

            assert!(call(&memory, key, 1));
            change.join().unwrap();

            assert!(call(&memory, key, 1));
            assert!(!call(&memory, key, 1));
        });
    }
}

#[test]
fn a_reset_during_a_call_gives_one_burst_more_and_not_two() {
    loom::model(|| {
        let memory = small(Limit::per_second(1));
        let other = memory.clone();
        let reset = thread::spawn(move || other.reset());

        let units = [call(&memory, None, 1), call(&memory, None, 1)].map(u32::from).iter().sum::<u32>();
        reset.join().unwrap();

        assert!(units == 1 || units == 2);
    });
}

/// Keys of a table of two groups which belong to these.
fn of(memory: &Memory, groups: [usize; 2]) -> impl Iterator<Item = u32> {
    let memory = memory.clone();
    (0..).filter(move |key: &u32| {
        let mut sink = memory.sink();
        key.write(&mut sink);
        memory.groups_of(sink) == groups
    })
}

/// Two groups, of which the second is full of keys that owe the most, and a key that has to go to the first.
fn spilling(limit: Limit, now: Timestamp) -> (Memory, u32) {
    let memory = Memory::with_capacity(limit, 8);
    for key in of(&memory, [1, 1]).take(2) {
        assert!(decide(&memory, Some(key), 3, now).admitted());
    }
    let spilled = of(&memory, [1, 0]).next().unwrap();
    (memory, spilled)
}

#[test]
fn a_claim_in_the_second_group_beside_a_change_keeps_the_debt() {
    // Many steps: with a third preemption it takes minutes.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let later = START + Duration::from_secs(10);
        let (memory, spilled) = spilling(Limit::per_second(3), later);
        let other = memory.clone();
        let change = thread::spawn(move || {
            other.set_limit(0, 0, Limit::per_second(7).burst(3), CarryOver::AsIs, later).unwrap();
        });

        assert!(decide(&memory, Some(spilled), 3, later).admitted());
        change.join().unwrap();

        assert!(!decide(&memory, Some(spilled), 1, later).admitted());
    });
}

#[test]
fn a_claim_in_the_second_group_beside_a_sweep_invents_no_debt() {
    loom::model(|| {
        let (early, late) = (START + Duration::from_secs(10), START + Duration::from_secs(410));
        let (memory, spilled) = spilling(Limit::per_second(1).burst(3), early);
        let swept = of(&memory, [0, 0]).next().unwrap();
        let other = memory.clone();
        let sweep = thread::spawn(move || drop(decide(&other, Some(swept), 0, late)));

        assert!(decide(&memory, Some(spilled), 1, early).admitted());
        sweep.join().unwrap();

        let then = START + Duration::from_secs(700);
        assert!(decide(&memory, Some(spilled), 1, then).admitted());
    });
}
