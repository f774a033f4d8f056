use crate::*;

const MINUTE: Duration = Duration::from_secs(60);

/// What is left of `new` when `used` units of `old` were.
fn left(rule: CarryOver, old: &Limit, used: u32, new: &Limit) -> u64 {
    let mut state = LimitState::default();
    assert!(old.charge(&mut state, at(HOUR), used));
    new.left(&rule.carry(old, &state, new, 0, at(HOUR)), at(HOUR)).remaining
}

/// The same limit by each of the algorithms.
fn all(n: u64) -> [Limit; 5] {
    [
        Limit::per_minute(n),
        Limit::from(FixedWindow::new(n, MINUTE)),
        Limit::from(SlidingWindow::new(n, MINUTE)),
        Limit::from(SlidingWindow::strict(n, MINUTE, 6)),
        Limit::from(SlidingLog::new(n, MINUTE)),
    ]
}

#[test]
fn a_limit_that_is_raised_follows_the_rule() {
    for (old, new) in all(10).iter().zip(all(20)) {
        assert_eq!(left(CarryOver::AsIs, old, 4, &new), 6);
        assert_eq!(left(CarryOver::Additive, old, 4, &new), 16);
        assert_eq!(left(CarryOver::Proportional, old, 4, &new), 12);
        assert_eq!(left(CarryOver::Reset, old, 4, &new), 20);
    }
}

#[test]
fn a_limit_that_is_lowered_below_what_is_used_leaves_nothing() {
    for (old, new) in all(10).iter().zip(all(5)) {
        assert_eq!(left(CarryOver::Additive, old, 6, &new), 0);
        assert_eq!(left(CarryOver::AsIs, old, 6, &new), 4);
        assert_eq!(left(CarryOver::AsIs, old, 1, &new), 5, "all there is");
        assert_eq!(left(CarryOver::Proportional, old, 6, &new), 2);
        assert_eq!(left(CarryOver::Reset, old, 6, &new), 5);
    }
}

#[test]
fn another_algorithm_takes_over_what_is_used() {
    for old in all(10) {
        for new in all(10) {
            assert_eq!(left(CarryOver::Additive, &old, 7, &new), 3);
            assert_eq!(left(CarryOver::AsIs, &old, 7, &new), 3);
            assert_eq!(left(CarryOver::Proportional, &old, 7, &new), 3);
        }
    }
}

#[test]
fn half_a_unit_that_was_earned_is_not_lost() {
    let (old, new) = (Limit::per_second(1), Limit::per_second(2));
    let mut state = LimitState::default();
    old.charge(&mut state, at(HOUR), 1);
    let now = at(HOUR + SECOND / 2);

    let state = CarryOver::Additive.carry(&old, &state, &new, 0, now);

    // Half a unit is owed, which two per second earn in a quarter.
    assert_eq!(new.left(&state, now).reset, SECOND / 4);
}

#[test]
fn units_in_a_log_leave_when_they_would_have() {
    let (old, new) = (Limit::from(SlidingLog::new(3, MINUTE)), Limit::from(SlidingLog::new(2, MINUTE)));
    let mut state = LimitState::default();
    for second in [0, 20, 40] {
        old.charge(&mut state, at(SECOND * second), 1);
    }

    let state = CarryOver::Additive.carry(&old, &state, &new, 0, at(SECOND * 50));

    assert_eq!(new.retry_after(&state, at(SECOND * 50), 1), Some(SECOND * 30));
    assert_eq!(new.retry_after(&state, at(SECOND * 50), 2), Some(SECOND * 50));
}

#[test]
fn a_debt_is_carried_over_too() {
    let (old, new) = (Limit::per_second(10), Limit::per_second(20));
    let mut state = LimitState::default();
    old.force(&mut state, at(HOUR), 15);

    let carried = CarryOver::AsIs.carry(&old, &state, &new, 0, at(HOUR));

    // Five units below nothing, as before.
    assert_eq!(new.retry_after(&carried, at(HOUR), 1), Some(Duration::from_millis(300)));
}
