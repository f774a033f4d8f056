//! The same questions to each algorithm.

use crate::*;

/// `n` units in `window`, by each of the algorithms, on the clock's own grid.
fn all(n: u64, window: Duration) -> Vec<Limit> {
    let mut limits = vec![
        Limit::new(n, window),
        Limit::from(LeakyBucket::new(n, window).burst(n).wait(Duration::ZERO)),
        Limit::from(SlidingWindow::new(n, window)),
        Limit::from(SlidingWindow::strict(n, window, 1)),
        Limit::from(SlidingWindow::strict(n, window, 6)),
    ];
    limits.extend(FixedWindow::try_new(n, window).map(Limit::from));
    limits.extend(SlidingLog::try_large(n, window).ok().filter(|_| n <= 10_000).map(Limit::from));
    limits
}

fn spend(limit: &Limit, state: &mut LimitState, now: Timestamp, cost: u32) -> bool {
    limit.charge(state, now, cost)
}

#[test]
fn a_limit_of_one_lets_one_pass() {
    for limit in all(1, SECOND) {
        let mut state = LimitState::default();
        assert_eq!(spend_all(&limit, &mut state, Timestamp::ZERO), 1, "{limit:?}");
        let wait = limit.retry_after(&state, Timestamp::ZERO, 1).unwrap();
        assert!(!spend(&limit, &mut state, Timestamp::ZERO + wait - NANO, 1), "{limit:?}");
        assert_eq!(spend_all(&limit, &mut state, Timestamp::ZERO + wait), 1, "{limit:?}");
    }
}

#[test]
fn a_cost_of_zero_passes_always_and_changes_nothing() {
    for limit in all(5, SECOND) {
        let mut state = LimitState::default();
        for _ in 0..3 {
            let before = state.clone();
            assert!(spend(&limit, &mut state, at(HOUR), 0));
            assert_eq!(state, before);
            assert_eq!(limit.retry_after(&state, at(HOUR), 0), Some(Duration::ZERO));
            limit.force(&mut state, at(HOUR), 7);
        }
    }
}

#[test]
fn a_cost_of_the_whole_limit_passes_and_one_more_never_does() {
    for limit in all(10, SECOND) {
        let mut state = LimitState::default();
        for cost in [11, u32::MAX] {
            assert!(!spend(&limit, &mut state, at(HOUR), cost));
            assert_eq!(limit.retry_after(&state, at(HOUR), cost), None);
        }
        assert_eq!(state, LimitState::default());
        assert!(spend(&limit, &mut state, at(HOUR), 10));
        assert!(!spend(&limit, &mut state, at(HOUR), 1));
    }
}

#[test]
fn four_billion_in_a_second_pass_and_not_one_more() {
    let n = u64::from(u32::MAX);
    for limit in all(n, SECOND) {
        let mut state = LimitState::default();
        assert!(spend(&limit, &mut state, at(HOUR), u32::MAX - 1), "{limit:?}");
        assert_eq!(limit.left(&state, at(HOUR)).remaining, 1);
        assert_eq!([1, 1].map(|cost| spend(&limit, &mut state, at(HOUR), cost)), [true, false]);
    }
}

#[test]
fn one_in_a_hundred_years_is_a_limit_too() {
    for limit in all(1, 100 * YEAR) {
        let mut state = LimitState::default();
        assert!(spend(&limit, &mut state, at(SECOND), 1));
        assert!(!spend(&limit, &mut state, at(50 * YEAR), 1));
        let wait = limit.retry_after(&state, at(50 * YEAR), 1).unwrap();
        assert!(spend(&limit, &mut state, at(50 * YEAR) + wait, 1), "{limit:?}");
    }
}

#[test]
fn half_of_the_clock_is_an_ordinary_time() {
    for limit in all(4, SECOND) {
        for nanos in [(1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1] {
            let now = Timestamp::from_nanos(nanos);
            assert_eq!(spend_all(&limit, &mut LimitState::default(), now), 4, "{limit:?} at {nanos}");
        }
    }
}

#[test]
fn fifty_idle_years_give_one_limit() {
    for limit in all(100, SECOND) {
        let mut state = LimitState::default();
        assert_eq!(spend_all(&limit, &mut state, at(SECOND)), 100);
        assert_eq!(limit.debt(&state, at(50 * YEAR)), 0);
        assert_eq!(spend_all(&limit, &mut state, at(50 * YEAR)), 100);
    }
}

#[test]
fn a_clock_that_goes_back_by_a_tick_or_an_hour_gives_nothing() {
    for limit in all(3, SECOND) {
        for back in [NANO, HOUR] {
            let mut state = LimitState::default();
            assert_eq!(spend_all(&limit, &mut state, at(2 * HOUR)), 3);
            assert_eq!(spend_all(&limit, &mut state, at(2 * HOUR) - back), 0, "{limit:?}");
            let wait = limit.retry_after(&state, at(2 * HOUR) - back, 1).unwrap();
            assert!(wait > back);
        }
    }
}

#[test]
fn a_burst_then_a_retry_at_exactly_the_time_that_was_told_passes() {
    for limit in all(7, SECOND) {
        let (mut state, mut now) = (LimitState::default(), at(HOUR + NANO));
        for round in 0..50 {
            spend_all(&limit, &mut state, now);
            let cost = 1 + round % 7;
            let wait = limit.retry_after(&state, now, cost).unwrap();
            assert!(!spend(&limit, &mut state, now + wait - NANO, cost), "{limit:?}");
            now += wait;
            assert!(spend(&limit, &mut state, now, cost), "{limit:?}");
        }
    }
}

#[test]
fn debt_ends_at_one_more_limit() {
    for limit in all(10, SECOND) {
        let mut state = LimitState::default();
        spend_all(&limit, &mut state, at(HOUR));
        for _ in 0..1_000 {
            limit.force(&mut state, at(HOUR), u32::MAX);
        }
        assert_eq!(limit.left(&state, at(HOUR)).remaining, 0);
        assert!(limit.retry_after(&state, at(HOUR), 10).unwrap() <= 2 * SECOND, "{limit:?}");
        assert!(spend(&limit, &mut state, at(HOUR) + 2 * SECOND, 10), "{limit:?}");
    }
}

#[test]
fn a_refund_after_the_charge_leaves_nothing_held() {
    for limit in all(10, SECOND) {
        let mut state = LimitState::default();
        assert!(spend(&limit, &mut state, at(HOUR), 6));
        limit.refund(&mut state, at(HOUR), at(HOUR), 6);
        assert_eq!(limit.debt(&state, at(HOUR)), 0, "{limit:?}");
        assert_eq!(limit.left(&state, at(HOUR)).remaining, 10);
    }
}

#[test]
fn two_limits_on_one_key_do_not_know_of_each_other() {
    for (few, many) in all(2, SECOND).iter().zip(all(5, DAY)) {
        let (mut one, mut other) = (LimitState::default(), LimitState::default());
        assert_eq!(spend_all(few, &mut one, at(DAY)), 2);
        assert_eq!(spend_all(&many, &mut other, at(DAY)), 5);
        assert_eq!(spend_all(few, &mut one, at(DAY + 3 * SECOND)), 2);
        assert_eq!(spend_all(&many, &mut other, at(DAY + 3 * SECOND)), 0);
    }
}
