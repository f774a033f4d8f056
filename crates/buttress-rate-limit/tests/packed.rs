//! Token buckets in packed words: what 40 bits of time, 23 of tag and two groups of seven must not show.

use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{CarryOver, Decision, Limit, Memory, WhenFull};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Within this time the bits of a word come round again, at ticks of a nanosecond.
const ROUND: Duration = Duration::from_nanos(1 << 40);

fn at(time: Duration) -> Timestamp {
    Timestamp::ZERO + time
}

fn call(memory: &Memory, key: u32, cost: u32, now: Timestamp) -> Decision {
    let mut sink = memory.sink();
    key.write(&mut sink);
    match memory.decide(sink, cost, now) {
        Answer::Now(decision) => decision,
        Answer::Later(_) => unreachable!("the answer of memory comes at once"),
    }
}

fn passes(memory: &Memory, key: u32, now: Timestamp) -> bool {
    call(memory, key, 1, now).admitted()
}

fn left(memory: &Memory, key: u32, now: Timestamp) -> u64 {
    let mut left = None;
    memory.quotas(&call(memory, key, 0, now), &mut |quota| left = Some(quota.remaining));
    left.expect("one limit has one quota")
}

#[test]
fn a_key_that_was_idle_for_any_time_owes_nothing() {
    for round in [ROUND / 4, ROUND / 2, ROUND, ROUND * 3 / 2, ROUND * 2, ROUND * 1000] {
        for near in [-2, -1, 0, 1, 2_i64] {
            let memory = Memory::new(Limit::per_minute(3));
            let start = at(HOUR);
            assert_eq!((1..=5).filter(|_| passes(&memory, 7, start)).count(), 3);

            let later = Timestamp::from_nanos((start + round).as_nanos().saturating_add_signed(near));

            assert_eq!(memory.keys(later), 0, "after {round:?}");
            assert_eq!((1..=5).filter(|_| passes(&memory, 7, later)).count(), 3);
        }
    }
}

#[test]
fn a_key_in_use_keeps_its_debt_through_every_round_of_the_bits() {
    let memory = Memory::new(Limit::per_minute(60));
    let mut now = at(HOUR);
    assert!(call(&memory, 7, 60, now).admitted());

    // One unit each second: what comes is spent, so the budget stays empty.
    for _ in 0..5 * ROUND.as_secs() {
        now += SECOND;
        assert!(passes(&memory, 7, now));
        assert!(!passes(&memory, 7, now));
    }
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away_and_goes_on() {
    for back in [Duration::from_nanos(1), SECOND, HOUR, ROUND, 3 * ROUND] {
        let memory = Memory::new(Limit::per_second(2));
        let start = at(10 * ROUND);
        assert!(call(&memory, 7, 2, start).admitted());

        let refused = call(&memory, 7, 1, start - back);
        assert!(!refused.admitted());
        let wait = refused.retry_after().expect("it passes some time");
        assert!(call(&memory, 7, 1, start - back + wait).admitted(), "{back:?} back, after {wait:?}");
    }
}

#[test]
fn limits_by_the_hour_and_the_day_are_kept_to_the_unit() {
    for limit in [Limit::per_hour(1000), Limit::per_day(86_400), Limit::per_day(1).burst(3)] {
        let memory = Memory::new(limit.clone());
        let units = buttress_rate_limit::Policy::limit(&limit);
        let passed = (0..=units).filter(|_| passes(&memory, 7, at(HOUR))).count();
        assert_eq!(passed as u64, units);

        let refused = call(&memory, 7, 1, at(HOUR));
        let wait = refused.retry_after().expect("it passes some time");
        assert!(!passes(&memory, 7, at(HOUR) + wait - Duration::from_nanos(1)));
        assert!(passes(&memory, 7, at(HOUR) + wait));
        assert_eq!(left(&memory, 7, at(HOUR) + wait), 0);
    }
}

#[test]
fn a_limit_changes_under_each_rule_while_keys_are_held() {
    use CarryOver::{Additive, AsIs, Proportional, Reset};
    // From nanoseconds to finer and to coarser ticks, with 4 of 10 used.
    for (new, of_new) in [(Limit::per_second(30), 30), (Limit::per_hour(20), 20), (Limit::per_second(5), 5)] {
        let expected = [
            (AsIs, 6.min(of_new)),
            (Proportional, of_new * 6 / 10),
            (Reset, of_new),
            (Additive, of_new.max(4) - 4),
        ];
        for (rule, units) in expected {
            let memory = Memory::new(Limit::per_second(10));
            for key in 0..50 {
                assert!(call(&memory, key, 4, at(SECOND)).admitted());
            }

            memory.set_limit(0, 0, new.clone(), rule, at(SECOND)).unwrap();

            for key in 0..50 {
                assert_eq!(left(&memory, key, at(SECOND)), units, "{rule:?} to {new:?}");
            }
            assert_eq!(left(&memory, 99, at(SECOND)), of_new, "a new key");
        }
    }
}

#[test]
fn limits_change_many_times_while_many_threads_call() {
    let memory = Memory::with_capacity(Limit::per_hour(1000), 64);
    let passed: u64 = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let memory = &memory;
                scope.spawn(move || {
                    let calls = (0..20_000).map(|n| passes(memory, n % 16, at(SECOND)));
                    calls.filter(|passed| *passed).count() as u64
                })
            })
            .collect();
        for n in 0..200 {
            let limit =
                [Limit::per_hour(1000), Limit::per_second(1000), Limit::per_second(1000 * 7)][n % 3].clone();
            memory.set_limit(0, 0, limit.burst(1000), CarryOver::AsIs, at(SECOND)).unwrap();
        }
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });

    // Time stands still and nobody gains by a change, so each key has its thousand and no more.
    assert!(passed <= 16 * 1000, "{passed} passed");
    assert_eq!(memory.evicted(), 0);
}

#[test]
fn a_bucket_makes_way_only_for_a_bucket() {
    let memory = Memory::new(Limit::per_second(1));
    let window = buttress_rate_limit::FixedWindow::new(5, SECOND);

    let error = memory.set_limit(0, 0, window, CarryOver::Reset, at(SECOND)).unwrap_err();

    assert_eq!(error.field(), "limit");
    assert!(passes(&memory, 1, at(SECOND)) && !passes(&memory, 1, at(SECOND)));
}

#[test]
fn a_charge_is_corrected_down_and_up() {
    let memory = Memory::new(Limit::per_second(10));
    let held = call(&memory, 7, 4, at(SECOND));

    memory.settle(&held, 1, at(SECOND));
    assert_eq!(left(&memory, 7, at(SECOND)), 9);

    let held = call(&memory, 7, 1, at(SECOND));
    memory.settle(&held, u32::MAX, at(SECOND));
    let refused = call(&memory, 7, 1, at(SECOND));
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1100)), "a debt of one limit more");

    memory.settle(&refused, 0, at(SECOND));
    assert_eq!(left(&memory, 7, at(SECOND)), 0);
}

#[test]
fn a_key_in_its_second_group_keeps_its_budget() {
    // At full capacity one group of twenty is full, and its next key goes to another.
    let memory = Memory::with_capacity(Limit::per_hour(1), 4000);
    let first = (0..4000).filter(|key| passes(&memory, *key, at(SECOND))).count();
    let again = (0..4000).filter(|key| passes(&memory, *key, at(SECOND))).count() as u64;

    assert_eq!(first, 4000);
    assert!(again <= memory.evicted(), "{again} keys were forgotten, {} evicted", memory.evicted());
    assert!(memory.evicted() < 200, "{} keys had to make way", memory.evicted());
}

#[test]
fn what_is_told_after_a_call_is_what_it_has_left() {
    let memory = Memory::new(Limit::per_second(10));
    let first = call(&memory, 7, 4, at(SECOND));
    let second = call(&memory, 7, 2, at(SECOND));
    let told = |decision| {
        let mut told = None;
        memory.quotas(decision, &mut |quota| told = Some((quota.remaining, quota.reset)));
        told.expect("one limit has one quota")
    };
    assert_eq!(told(&first), (6, Duration::from_millis(100)));
    assert_eq!(told(&second), (4, Duration::from_millis(100)));

    // What was corrected is looked up.
    memory.settle(&first, 1, at(SECOND));
    assert_eq!(told(&second), (7, Duration::from_millis(100)));
}

mod without_a_place {
    use super::*;

    /// Calls that pass of `keys` keys with two calls each.
    fn flood(memory: &Memory, keys: u32) -> usize {
        (1..=keys).flat_map(|key| [key, key]).filter(|key| passes(memory, *key, at(SECOND))).count()
    }

    fn full(rule: WhenFull) -> Memory {
        // One group of seven.
        Memory::new(Limit::per_second(1)).when_full(rule).capacity_for(4)
    }

    #[test]
    fn a_key_with_the_least_debt_makes_way_and_is_counted() {
        let memory = full(WhenFull::EvictLeastDebt);
        assert_eq!(flood(&memory, 20), 20);
        assert_eq!((memory.keys(at(SECOND)), memory.evicted(), memory.crowded()), (7, 13, 0));
    }

    #[test]
    fn a_new_key_is_refused_until_there_is_a_place() {
        let memory = full(WhenFull::Refuse);
        assert_eq!(flood(&memory, 20), 7);
        assert_eq!((memory.keys(at(SECOND)), memory.evicted(), memory.crowded()), (7, 0, 26));

        let refused = call(&memory, 20, 1, at(SECOND));
        let wait = refused.retry_after().expect("a place will be free");
        let mut quotas = Vec::new();
        memory.quotas(&refused, &mut |quota| quotas.push((quota.remaining, quota.reset)));
        assert_eq!(quotas, [(0, wait)]);
        assert!(passes(&memory, 20, at(SECOND) + wait));
    }

    #[test]
    fn new_keys_share_one_budget() {
        let memory = full(WhenFull::Shared);
        assert_eq!(flood(&memory, 20), 7, "six and the shared one");
        assert_eq!((memory.keys(at(SECOND)), memory.evicted()), (6, 0));
        assert_eq!(flood(&memory, 6), 0);
    }
}

#[test]
fn a_sweep_takes_no_debt_from_a_clock_that_goes_back_behind_it() {
    // A sweep is known by the time in rounds of 2^32 ticks, the last of them over.
    let rounds = |rounds: u32, off: i64| {
        Timestamp::from_nanos(((u64::from(rounds)) << 32).saturating_add_signed(off * 1_000_000))
    };
    let memory = Memory::new(Limit::per_second(100));
    assert!(call(&memory, 7, 100, rounds(64, -300)).admitted());
    assert!(call(&memory, 7, 0, rounds(64, 800)).admitted());

    let passed = |now| (0..200).filter(|_| passes(&memory, 7, now)).count();

    assert_eq!(passed(rounds(64, 0)), 30, "earned in three tenths of a second");
    assert_eq!(passed(rounds(64, 800)), 80);
}

#[test]
fn a_look_from_a_clock_that_went_ahead_changes_nothing() {
    for key in [None, Some(7)] {
        let memory = Memory::new(Limit::per_second(5));
        let decide = |cost, now| {
            let mut sink = memory.sink();
            if let Some(key) = key {
                u32::write(&key, &mut sink);
            }
            match memory.decide(sink, cost, now) {
                Answer::Now(decision) => decision,
                Answer::Later(_) => unreachable!("the answer of memory comes at once"),
            }
        };
        // Not so far ahead that words of 40 bits are swept.
        let ahead = at(SECOND * 100);
        let looked = decide(0, ahead);
        memory.quotas(&looked, &mut drop);
        memory.settle(&looked, 0, ahead);

        assert!((0..5).all(|_| decide(1, at(SECOND)).admitted()));
        let look = decide(0, ahead);
        memory.quotas(&look, &mut drop);
        let refused = decide(1, at(SECOND));
        assert_eq!(refused.retry_after(), Some(Duration::from_millis(200)), "{key:?}");
    }
    let memory = Memory::new(Limit::per_second(5));
    let look = |now| memory.decide(memory.sink(), 0, now);
    assert!(matches!(look(at(HOUR)), Answer::Now(decision) if decision.admitted()));
    assert_eq!(memory.keys(at(HOUR)), 0);
    assert!(
        matches!(memory.decide(memory.sink(), 5, at(SECOND)), Answer::Now(decision) if decision.admitted())
    );
}

#[test]
fn what_shares_a_budget_is_settled_on_it() {
    // One group: six slots for keys, the seventh for those who find none.
    let memory = Memory::new(Limit::per_minute(3)).when_full(WhenFull::Shared).capacity_for(4);
    for key in 0..6 {
        assert!(call(&memory, key, 3, at(SECOND)).admitted());
    }

    for key in 100..200 {
        let good = call(&memory, key, 1, at(SECOND));
        assert!(good.admitted(), "{key}");
        memory.settle(&good, 0, at(SECOND));
    }
    assert_eq!((0..5).filter(|_| passes(&memory, 100, at(SECOND))).count(), 3);
    assert_eq!(left(&memory, 101, at(SECOND)), 0, "of the shared budget");
}

#[test]
fn what_is_settled_after_everything_was_forgotten_gives_nothing_back() {
    let memory = Memory::new(Limit::per_second(5));
    for rule in [None, Some(CarryOver::Reset)] {
        let old = call(&memory, 7, 5, at(SECOND));
        assert!(old.admitted());
        match rule {
            None => memory.reset(),
            Some(rule) => memory.set_limit(0, 0, Limit::per_second(5), rule, at(SECOND)).unwrap(),
        }
        let new = call(&memory, 7, 5, at(SECOND));
        assert!(new.admitted());

        memory.settle(&old, 0, at(SECOND));
        assert_eq!(left(&memory, 7, at(SECOND)), 0);
        memory.settle(&new, 0, at(SECOND));
        assert_eq!(left(&memory, 7, at(SECOND)), 5);
    }
}

#[test]
fn what_was_earned_again_is_not_given_back_too() {
    for memory in [Memory::new(Limit::per_minute(5)), Memory::new(Limit::per_minute(5)).settling()] {
        let slow: Vec<_> = (0..5).map(|_| call(&memory, 7, 1, at(SECOND))).collect();
        let later = at(SECOND * 61);
        assert!(call(&memory, 7, 5, later).admitted());

        slow.iter().for_each(|good| memory.settle(good, 0, later));

        assert_eq!(left(&memory, 7, later), 0);
    }
}
