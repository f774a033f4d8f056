//! Several limits on one key, several plans, and what is corrected afterwards. The time is an argument.

use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{
    CarryOver, Decision, FixedWindow, Limit, Memory, SlidingLog, SlidingWindow, WhenFull,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn at(time: Duration) -> Timestamp {
    Timestamp::ZERO + time
}

/// A call of the key by the plan with this index.
fn call(memory: &Memory, plan: usize, key: u32, cost: u32, now: Timestamp) -> Decision {
    let mut sink = memory.sink();
    memory.plan(&mut sink, plan);
    if key > 0 {
        key.write(&mut sink);
    }
    match memory.decide(sink, cost, now) {
        Answer::Now(decision) => decision,
        Answer::Later(_) => unreachable!("the answer of memory comes at once"),
    }
}

/// Units left of each limit.
fn left(memory: &Memory, decision: &Decision) -> Vec<u64> {
    let mut left = Vec::new();
    memory.quotas(decision, &mut |quota| left.push(quota.remaining));
    left
}

fn two() -> Memory {
    Memory::all([Limit::per_second(10).named("burst"), Limit::per_day(15).named("daily")])
}

#[test]
fn a_call_that_one_limit_refuses_is_charged_to_none() {
    let memory = two();
    for key in [0, 7] {
        assert!(call(&memory, 0, key, 8, at(SECOND)).admitted());

        for _ in 0..5 {
            let refused = call(&memory, 0, key, 8, at(SECOND));
            assert!(!refused.admitted() && !refused.never());
            assert_eq!(left(&memory, &refused), [2, 7], "by {refused:?}");
        }
        assert_eq!(left(&memory, &call(&memory, 0, key, 2, at(SECOND))), [0, 5]);
    }
}

#[test]
fn the_limit_that_refuses_for_longest_is_reported_with_all_that_do() {
    let memory = two();
    assert!(call(&memory, 0, 1, 10, at(SECOND)).admitted());

    let refused = call(&memory, 0, 1, 1, at(SECOND));
    assert_eq!((refused.binding(), refused.retry_after()), (0, Some(SECOND / 10)));
    assert!(refused.violates(0) && !refused.violates(1));
    assert_eq!(memory.name(&refused, 0).as_deref(), Some("burst"));

    let both = call(&memory, 0, 1, 6, at(SECOND));
    assert_eq!((both.binding(), both.retry_after()), (1, Some(24 * HOUR / 15)));
    assert!(both.violates(0) && both.violates(1) && !both.violates(2));

    let never = call(&memory, 0, 1, 11, at(SECOND));
    assert!(never.never() && never.retry_after().is_none() && never.binding() == 0);
}

#[test]
fn a_limit_of_another_algorithm_joins_in() {
    let window = Limit::from(FixedWindow::new(3, HOUR)).named("hourly");
    let memory = Memory::all([Limit::per_second(2), window]);

    let passed = |now| (0..5).filter(|_| call(&memory, 0, 9, 1, now).admitted()).count();

    assert_eq!(passed(at(SECOND)), 2);
    assert_eq!(passed(at(SECOND * 2)), 1);
    assert_eq!(passed(at(SECOND * 2 + HOUR)), 2);
}

#[test]
fn a_limit_that_only_watches_refuses_nothing_and_tells() {
    let memory = Memory::all([Limit::per_second(1).named("new").shadow(), Limit::per_second(2)]);

    let [first, second, third] = [1, 2, 3].map(|_| call(&memory, 0, 1, 1, at(SECOND)));

    assert!(first.admitted() && !first.shadowed(0));
    assert!(second.admitted() && second.shadowed(0) && !second.shadowed(1));
    assert!(!third.admitted() && third.violates(1) && !third.violates(0));
}

#[test]
fn a_charge_is_corrected_on_every_limit() {
    let memory = two();
    let held = call(&memory, 0, 1, 4, at(SECOND));

    memory.settle(&held, 1, at(SECOND));
    assert_eq!(left(&memory, &held), [9, 14]);

    let held = call(&memory, 0, 1, 1, at(SECOND));
    memory.settle(&held, 7, at(SECOND));
    assert_eq!(left(&memory, &held), [2, 7]);

    let held = call(&memory, 0, 1, 1, at(SECOND));
    memory.settle(&held, 1000, at(SECOND));
    assert_eq!(left(&memory, &held), [0, 0]);
    let refused = call(&memory, 0, 1, 1, at(SECOND));
    assert!(refused.retry_after().is_some_and(|wait| wait <= 26 * HOUR), "debt ends at one more limit");

    memory.settle(&refused, 0, at(SECOND));
    assert_eq!(left(&memory, &refused), [0, 0], "what was refused was not charged");
}

#[test]
fn five_failed_logins_per_minute_and_no_end_of_good_ones() {
    let memory = Memory::new(Limit::per_minute(5));
    for _ in 0..1000 {
        let good = call(&memory, 0, 1, 1, at(SECOND));
        assert!(good.admitted());
        memory.settle(&good, 0, at(SECOND));
    }
    for _ in 0..5 {
        assert!(call(&memory, 0, 1, 1, at(SECOND)).admitted());
    }
    assert!(!call(&memory, 0, 1, 1, at(SECOND)).admitted());
}

#[test]
fn each_plan_has_limits_and_budgets_of_its_own() {
    let memory = Memory::plans([vec![Limit::per_second(1)], vec![Limit::per_second(3)]]);

    let passed = |plan, key| (0..5).filter(|_| call(&memory, plan, key, 1, at(SECOND)).admitted()).count();

    assert_eq!((passed(0, 1), passed(1, 1), passed(1, 2), passed(0, 0)), (1, 3, 3, 1));
    assert_eq!(passed(7, 1), 0, "a plan that is not there is the first");
    assert_eq!(memory.keys(at(SECOND)), 4);
    assert_eq!(memory.limits(1)[0], Limit::per_second(3));
}

#[test]
fn sets_that_cannot_work_are_refused_by_name() {
    let none: [Limit; 0] = [];
    let error = Memory::try_plans([none]).unwrap_err();
    assert_eq!(error.to_string(), "rate limit with `limits` = 0: must be at least 1 and at most 16");

    let error = Memory::try_plans([[Limit::per_second(1), Limit::per_day(1)]]).unwrap_err();
    let rule = "must differ from those of the other limits in the set";
    assert_eq!(error.to_string(), format!("rate limit with `name` = \"default\": {rule}"));

    assert_eq!(Memory::try_plans(Vec::<Vec<Limit>>::new()).unwrap_err().field(), "plans");
}

#[test]
fn a_limit_changes_while_keys_are_held() {
    let memory = two();
    for key in [0, 1] {
        assert!(call(&memory, 0, key, 8, at(SECOND)).admitted());
    }
    let change = |index, limit: Limit, rule| memory.set_limit(0, index, limit, rule, at(SECOND));

    change(0, Limit::per_second(20).named("burst"), CarryOver::Additive).unwrap();
    change(1, Limit::from(FixedWindow::new(30, 24 * HOUR)).named("daily"), CarryOver::AsIs).unwrap();

    for key in [0, 1] {
        assert_eq!(left(&memory, &call(&memory, 0, key, 0, at(SECOND))), [12, 7]);
    }
    assert_eq!(memory.limits(0)[0].name(), "burst");
    assert_eq!(left(&memory, &call(&memory, 0, 2, 0, at(SECOND))), [20, 30], "a new key");

    let error = memory.set_limit(1, 0, Limit::per_second(1), CarryOver::Reset, at(SECOND)).unwrap_err();
    assert_eq!(error.field(), "plan");
    assert_eq!(change(2, Limit::per_second(1), CarryOver::Reset).unwrap_err().field(), "index");
    let taken = Limit::per_second(1).named("daily");
    assert_eq!(change(0, taken, CarryOver::Reset).unwrap_err().field(), "name");
}

mod without_a_place {
    use super::*;

    /// Units that pass of `keys` keys with two calls each, beyond those that fill the table.
    fn flood(memory: &Memory, keys: u32) -> usize {
        (1..=keys)
            .flat_map(|key| [key, key])
            .filter(|key| call(memory, 0, *key, 1, at(SECOND)).admitted())
            .count()
    }

    fn full(rule: WhenFull) -> Memory {
        // Two limits, so that it is the table with a lock for each group.
        let limits = [Limit::per_second(1), Limit::per_hour(1).named("hourly")];
        Memory::all(limits).when_full(rule).capacity_for(3)
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

        let refused = call(&memory, 0, 20, 1, at(SECOND));
        let wait = refused.retry_after().expect("a place will be free");
        assert_eq!(wait, HOUR, "the first of them owes nothing any more");
        assert_eq!(left(&memory, &refused), [0, 1], "there is no place to spend it");
        assert!(call(&memory, 0, 20, 0, at(SECOND)).admitted(), "looking takes no place");
        assert!(call(&memory, 0, 20, 2, at(SECOND)).never());
        assert!(call(&memory, 0, 20, 1, at(SECOND) + wait).admitted());
    }

    #[test]
    fn a_new_key_that_waits_as_told_finds_a_place_whatever_is_counted_by() {
        let strict = Limit::from(SlidingWindow::strict(5, SECOND * 60, 1));
        let both = vec![Limit::per_second(10), Limit::per_day(10_000).named("daily")];
        let queue = Limit::per_second(2).burst(1).try_wait(SECOND).unwrap();
        let log = Limit::from(SlidingLog::new(5, HOUR));
        let counter = Limit::from(SlidingWindow::new(5, HOUR));
        for limits in [vec![strict], both, vec![queue], vec![log], vec![counter]] {
            let memory = Memory::all(limits).when_full(WhenFull::Refuse).capacity_for(3);
            for key in 1..=7 {
                assert!(call(&memory, 0, key, 1, at(SECOND)).admitted());
            }

            let wait = call(&memory, 0, 8, 1, at(SECOND)).retry_after().expect("a place will be free");

            let then = at(SECOND) + wait;
            assert!(!call(&memory, 0, 8, 1, then - Duration::from_nanos(1)).admitted(), "{memory:?}");
            assert!(call(&memory, 0, 8, 1, then).admitted(), "{memory:?}");
        }
    }

    #[test]
    fn whoever_shared_a_budget_takes_its_debt_to_a_place_of_its_own() {
        let limits = [Limit::per_minute(3), Limit::per_hour(100).named("hourly")];
        for memory in [Memory::all(limits.clone()), Memory::all(limits).settling()] {
            let memory = memory.when_full(WhenFull::Shared).capacity_for(3);
            let ample = at(SECOND);
            for key in 1..=7 {
                let decision = call(&memory, 0, key, 1, ample);
                assert!(decision.admitted());
                memory.settle(&decision, 0, ample);
                assert!(call(&memory, 0, key, 1, ample).admitted());
            }
            assert!(call(&memory, 0, 20, 3, ample).admitted());

            // Those of the hour owe nothing after 36 seconds, and their units of the minute are earned by then.
            let later = at(SECOND * 41);
            assert_eq!((0..5).filter(|_| call(&memory, 0, 20, 1, later).admitted()).count(), 2);
        }
    }

    #[test]
    fn new_keys_share_one_budget() {
        let memory = full(WhenFull::Shared);
        assert_eq!(flood(&memory, 20), 8);
        assert_eq!((memory.keys(at(SECOND)), memory.evicted(), memory.crowded()), (7, 0, 26));
    }
}

#[test]
fn a_refused_call_takes_nothing_though_the_clock_went_back() {
    let log = Limit::from(SlidingLog::new(5, SECOND * 60)).named("log");
    let memory = Memory::all([log, Limit::per_second(1)]);
    assert!(call(&memory, 0, 1, 1, at(SECOND * 10)).admitted());

    for _ in 0..5 {
        let refused = call(&memory, 0, 1, 1, at(SECOND * 19 / 2));
        assert!(!refused.admitted());
        assert_eq!(left(&memory, &refused)[0], 4);
    }
}

#[test]
fn a_call_that_leaves_several_queues_gives_its_place_back_in_each() {
    let queue = |rate| Limit::per_second(rate).burst(1).try_wait(SECOND).unwrap();
    for [first, second] in [[10, 5], [5, 10]] {
        let memory = Memory::all([queue(first).named("one"), queue(second).named("other")]);
        let gone = call(&memory, 0, 1, 1, at(SECOND));
        let waits = call(&memory, 0, 1, 1, at(SECOND));
        assert_eq!((gone.delay(), waits.delay()), (Duration::ZERO, SECOND / 5));
        let before = left(&memory, &waits);
        let leaves = call(&memory, 0, 1, 1, at(SECOND));

        memory.settle(&leaves, 0, at(SECOND));

        assert_eq!(left(&memory, &waits), before);
        assert_eq!(call(&memory, 0, 1, 1, at(SECOND)).delay(), SECOND * 2 / 5);
    }
}

#[test]
fn nobody_waits_for_a_queue_that_only_watches() {
    let queue = Limit::per_second(1).try_wait(SECOND * 60).unwrap().named("queue").shadow();
    for memory in [Memory::new(queue.clone()), Memory::all([queue, Limit::per_second(100)])] {
        for _ in 0..10 {
            let decision = call(&memory, 0, 1, 1, at(SECOND));
            assert!(decision.admitted() && decision.delay().is_zero());
        }
    }
}

#[test]
fn a_limit_that_only_watched_gives_nothing_back() {
    let memory = Memory::all([Limit::per_minute(2).named("soft").shadow(), Limit::per_minute(9)]);
    for memory in [memory.clone(), memory.settling()] {
        let charged = [1, 2].map(|_| call(&memory, 0, 1, 1, at(SECOND)));
        let watched = call(&memory, 0, 1, 1, at(SECOND));
        assert!(watched.shadowed(0) && charged.iter().all(|charged| !charged.shadowed(0)));

        memory.settle(&watched, 0, at(SECOND));

        assert_eq!(left(&memory, &watched), [0, 7]);
    }
}

#[test]
fn what_is_given_back_is_found_on_the_keys_own_grid() {
    let windows = || {
        let named = |limit: Limit, name: &'static str| limit.named(name);
        [
            named(FixedWindow::new(5, HOUR).into(), "fixed"),
            named(SlidingWindow::new(5, HOUR).into(), "counter"),
            named(SlidingWindow::strict(5, HOUR, 6).into(), "strict"),
        ]
    };
    let memory = Memory::all(windows());
    for key in 1..100 {
        // Half of the keys are in another window than the clock.
        let charged = call(&memory, 0, key, 3, at(HOUR * 3 / 2));
        memory.settle(&charged, 0, at(HOUR * 3 / 2));
        assert_eq!(left(&memory, &charged), [5, 5, 5], "key {key}");
    }
}

#[test]
fn a_million_refusals_neither_shorten_the_wait_nor_lengthen_it() {
    let memories = [Memory::new(Limit::per_minute(2)), two(), Memory::new(Limit::per_minute(2)).settling()];
    for memory in memories {
        for key in [0, 7] {
            let units = left(&memory, &call(&memory, 0, key, 0, at(SECOND)))[0] as u32;
            assert!(call(&memory, 0, key, units, at(SECOND)).admitted());
            let wait = call(&memory, 0, key, 1, at(SECOND)).retry_after().expect("it passes some time");

            assert!((0..1_000_000).all(|_| !call(&memory, 0, key, 1, at(SECOND)).admitted()));

            let then = at(SECOND) + wait;
            assert!(!call(&memory, 0, key, 1, then - Duration::from_nanos(1)).admitted());
            assert!(call(&memory, 0, key, 1, then).admitted());
        }
    }
}
