use crate::*;

#[test]
fn a_burst_passes_at_once_and_then_the_rate() {
    let limit = Limit::per_second(10).burst(25);
    let mut state = Default::default();

    assert_eq!(spend_all(&limit, &mut state, at(SECOND)), 25);
    assert_eq!(spend_all(&limit, &mut state, at(SECOND + Duration::from_millis(99))), 0);
    assert_eq!(spend_all(&limit, &mut state, at(SECOND + Duration::from_millis(100))), 1);
    assert_eq!(spend_all(&limit, &mut state, at(SECOND * 2)), 9);
    assert_eq!(spend_all(&limit, &mut state, at(HOUR)), 25, "never more than the burst");
}

#[test]
fn an_adversary_gets_burst_plus_rate_in_one_period_and_no_more() {
    let (rate, burst) = (100, 250);
    let gcra = Gcra::new(rate, SECOND, burst).unwrap();
    let (mut state, mut passed) = (Default::default(), 0);

    for millis in 0..=1000 {
        passed += spend_all(&gcra, &mut state, at(Duration::from_millis(millis)));
    }

    assert_eq!(passed, burst + rate);
}

#[test]
fn a_refused_call_does_not_spend_the_budget() {
    let limit = Limit::per_second(1).burst(5);
    let mut state = decide(&limit, &fresh(&limit), at(SECOND), 3).0;

    for _ in 0..100 {
        let (next, decision) = decide(&limit, &state, at(SECOND), 3);
        assert!(!decision.admitted());
        assert_eq!(decision.remaining(), 2);
        state = next;
    }

    assert_eq!(spend_all(&limit, &mut state, at(SECOND)), 2);
}

#[test]
fn it_says_what_is_left_and_when_there_is_more() {
    let limit = Limit::per_second(4).burst(8);

    let (state, decision) = decide(&limit, &fresh(&limit), at(SECOND), 3);
    assert_eq!((decision.limit(), decision.remaining()), (8, 5));
    assert_eq!(decision.reset(), Duration::from_millis(250), "one more unit");
    assert_eq!(decision.window(), Duration::from_secs(2), "until an empty bucket is full");

    let (_, decision) = decide(&limit, &state, at(SECOND), 7);
    assert_eq!(decision.retry_after(), Some(Duration::from_millis(500)));
    assert_eq!(decision.remaining(), 5);
}

#[test]
fn a_cost_of_zero_looks_and_takes_nothing() {
    let limit = Limit::per_second(2);
    let mut state = Default::default();
    spend_all(&limit, &mut state, at(SECOND));

    let (after, decision) = decide(&limit, &state, at(SECOND), 0);

    assert!(decision.admitted());
    assert_eq!((decision.remaining(), decision.reset()), (0, Duration::from_millis(500)));
    assert_eq!(after, state);
}

#[test]
fn a_cost_of_the_whole_burst_passes_and_one_more_never_does() {
    let limit = Limit::per_second(1).burst(10);

    assert!(decide(&limit, &fresh(&limit), at(SECOND), 10).1.admitted());
    for cost in [11, u32::MAX] {
        let (state, decision) = decide(&limit, &fresh(&limit), at(SECOND), cost);
        assert!(!decision.admitted());
        assert_eq!(decision.retry_after(), None, "waiting does not help");
        assert_eq!((state, decision.remaining()), (fresh(&limit), 10));
    }
}

#[test]
fn a_burst_of_one_spaces_the_calls_out() {
    let limit = Limit::per_second(10).burst(1);
    let mut state = Default::default();

    assert_eq!(spend_all(&limit, &mut state, Timestamp::ZERO), 1);
    assert_eq!(spend_all(&limit, &mut state, at(Duration::from_millis(100) - NANO)), 0);
    assert_eq!(spend_all(&limit, &mut state, at(Duration::from_millis(100))), 1);
}

#[test]
fn high_rates_are_exact() {
    // Whole nanoseconds per call would be wrong by up to 67 % here.
    for rate in [3_000_000, 30_000_000, 300_000_000, 600_000_000, 700_000_000, 1_500_000_000] {
        let gcra = Gcra::new(rate, SECOND, 10 * rate).unwrap();
        let batch = (rate / 1000) as u32;
        let mut state = decide(&gcra, &fresh(&gcra), at(SECOND), u32::try_from(rate).unwrap()).0;
        for _ in 0..9 {
            state = decide(&gcra, &state, at(SECOND), u32::try_from(rate).unwrap()).0;
        }

        let mut passed = 0;
        for millis in 1001..=2000 {
            loop {
                let (next, decision) = decide(&gcra, &state, at(Duration::from_millis(millis)), batch);
                if !decision.admitted() {
                    break;
                }
                state = next;
                passed += u64::from(batch);
            }
        }

        assert_eq!(passed, rate, "in one second at {rate} per second");
    }
}

#[test]
fn four_billion_per_second_are_never_exceeded() {
    let rate = u64::from(u32::MAX);
    let gcra = Gcra::new(rate, SECOND, rate).unwrap();
    let mut state = decide(&gcra, &fresh(&gcra), at(SECOND), u32::MAX).0;

    let (next, decision) = decide(&gcra, &state, at(SECOND * 2), 0);
    assert!(decision.remaining() <= rate);
    assert!(decision.remaining() > rate / 100 * 96, "at most 4 % under at the finest ticks");

    state = next;
    assert!(!decide(&gcra, &state, at(SECOND), 1).1.admitted());
}

#[test]
fn one_call_per_hundred_years_is_a_limit_too() {
    let limit = Limit::new(1, 100 * YEAR);
    let state = decide(&limit, &fresh(&limit), at(SECOND), 1).0;

    let (_, refused) = decide(&limit, &state, at(50 * YEAR), 1);
    assert_eq!(refused.retry_after(), Some(50 * YEAR + SECOND));
    assert!(decide(&limit, &state, at(100 * YEAR + SECOND), 1).1.admitted());
}

#[test]
fn fifty_idle_years_give_one_burst() {
    let limit = Limit::per_second(100);
    let mut state = decide(&limit, &fresh(&limit), Timestamp::ZERO, 100).0;

    assert_eq!(spend_all(&limit, &mut state, at(50 * YEAR)), 100);
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away() {
    let limit = Limit::per_second(1).burst(3);
    for back in [NANO, HOUR] {
        let mut state = Default::default();
        assert_eq!(spend_all(&limit, &mut state, at(2 * HOUR)), 3);

        assert_eq!(spend_all(&limit, &mut state, at(2 * HOUR - back)), 0);
        let (_, decision) = decide(&limit, &state, at(2 * HOUR - back), 1);
        assert_eq!(decision.retry_after(), Some(SECOND + back));
        assert_eq!((decision.remaining(), decision.reset()), (0, SECOND + back));
        assert!(decide(&limit, &state, at(2 * HOUR - back), 0).1.admitted(), "looking is free");

        assert_eq!(spend_all(&limit, &mut state, at(2 * HOUR + SECOND)), 1);
    }
}

#[test]
fn times_in_the_middle_of_the_range_are_ordinary() {
    for rate in [1, 3, 29] {
        let limit = Limit::per_second(rate);
        for ticks in [0, 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1] {
            let now = Timestamp::from_nanos(ticks / rate);
            assert_eq!(spend_all(&limit, &mut fresh(&limit), now), rate);
        }
    }
}

#[test]
fn the_end_of_the_clock_refuses_and_does_not_wrap() {
    for limit in [Limit::per_second(1), Limit::per_second(700_000_000)] {
        let (state, decision) = decide(&limit, &fresh(&limit), Timestamp::MAX, 1);

        assert!(!decision.admitted());
        assert_eq!(state, fresh(&limit));
        assert!(decision.retry_after().is_some_and(|wait| wait > Duration::ZERO));
    }

    // Ticks of a third of a nanosecond end at a third of the clock's range.
    let half = Timestamp::from_nanos(u64::MAX / 2);
    assert!(!decide(&Limit::per_second(3), &fresh(&Limit::per_second(3)), half, 1).1.admitted());
}

#[test]
fn a_refund_gives_back_what_was_not_earned_meanwhile() {
    let limit = Limit::per_second(1).burst(10);
    let state = decide(&limit, &fresh(&limit), at(SECOND), 10).0;

    let refunded = refund(&limit, &state, at(SECOND), at(SECOND * 5), 8);
    assert_eq!(decide(&limit, &refunded, at(SECOND * 5), 0).1.remaining(), 10);

    let refunded = refund(&limit, &state, at(SECOND), at(SECOND), 4);
    assert_eq!(decide(&limit, &refunded, at(SECOND), 0).1.remaining(), 4);

    assert_eq!(
        refund(&limit, &state, at(SECOND), at(HOUR), 4),
        state,
        "all was earned again, nothing is left to give"
    );
}

#[test]
fn two_limits_on_one_key_do_not_know_of_each_other() {
    let (seconds, days) = (Limit::per_second(2), Limit::per_day(3));
    let (mut second, mut day) = (fresh(&seconds), fresh(&days));

    assert_eq!(spend_all(&seconds, &mut second, at(SECOND)), 2);
    assert_eq!(spend_all(&days, &mut day, at(SECOND)), 3);
    assert_eq!(spend_all(&seconds, &mut second, at(SECOND * 2)), 2);
    assert_eq!(spend_all(&days, &mut day, at(SECOND * 2)), 0);
}
