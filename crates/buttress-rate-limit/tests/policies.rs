//! The algorithms told as stories, and the inputs at the edge. No runtime is needed: the time is an argument.

use std::time::{Duration, SystemTime};

use buttress_core::{Decided, Timestamp};
use buttress_rate_limit::{FixedWindow, Gcra, Limit, Policy, RateLimitLayer, Ruling};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn at(time: Duration) -> Timestamp {
    Timestamp::ZERO + time
}

/// Calls of cost 1 that pass at `now`.
fn spend_all<P: Policy>(policy: &P, state: &mut P::State, now: Timestamp) -> u64 {
    let mut passed = 0;
    while policy.charge(state, now, 1) {
        passed += 1;
    }
    passed
}

/// Charges `state`, and gives the state that follows beside the outcome.
fn decide<P: Policy<State: Clone>>(
    policy: &P,
    state: &P::State,
    now: Timestamp,
    cost: u32,
) -> (P::State, Ruling) {
    let mut state = state.clone();
    let ruling = policy.decide(&mut state, now, cost);
    (state, ruling)
}

fn refund<P: Policy<State: Clone>>(
    policy: &P,
    state: &P::State,
    at: Timestamp,
    now: Timestamp,
    cost: u32,
) -> P::State {
    let mut state = state.clone();
    policy.refund(&mut state, at, now, cost);
    state
}

fn fresh<P: Policy>(_: &P) -> P::State {
    P::State::default()
}

mod token_bucket {
    use super::*;

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
}

mod fixed_window {
    use super::*;

    fn hourly(limit: u64) -> FixedWindow {
        FixedWindow::new(limit, HOUR).phase(Duration::ZERO)
    }

    #[test]
    fn the_count_starts_anew_with_each_window() {
        let window = hourly(5);
        let mut state = Default::default();

        assert_eq!(spend_all(&window, &mut state, at(10 * HOUR)), 5);
        assert_eq!(spend_all(&window, &mut state, at(11 * HOUR - NANO)), 0);
        assert_eq!(spend_all(&window, &mut state, at(11 * HOUR)), 5);
    }

    #[test]
    fn an_adversary_gets_twice_the_limit_around_a_boundary_and_no_more() {
        let window = hourly(100);
        let (mut state, mut passed) = (Default::default(), 0);

        for minutes in [59, 60, 61, 118] {
            passed += spend_all(&window, &mut state, at(Duration::from_secs(60 * minutes)));
        }

        assert_eq!(passed, 200);
    }

    #[test]
    fn it_says_what_is_left_and_when_the_window_ends() {
        let window = hourly(5);

        let (state, decision) = decide(&window, &fresh(&window), at(HOUR + SECOND), 3);
        assert_eq!((decision.limit(), decision.remaining()), (5, 2));
        assert_eq!((decision.reset(), decision.window()), (HOUR - SECOND, HOUR));

        let (after, refused) = decide(&window, &state, at(HOUR + SECOND), 3);
        assert_eq!(refused.retry_after(), Some(HOUR - SECOND));
        assert_eq!((refused.remaining(), after), (2, state));

        let (_, never) = decide(&window, &state, at(HOUR + SECOND), 6);
        assert_eq!((never.admitted(), never.retry_after()), (false, None));
    }

    #[test]
    fn a_phase_moves_the_grid() {
        let window = FixedWindow::new(1, HOUR).phase(Duration::from_secs(600));
        let shift = window.shift(0xfeed);
        assert_eq!(shift, window.shift(0xbeef), "one grid for all keys");

        let (state, decision) = decide(&window, &fresh(&window), at(HOUR) + shift, 1);

        assert!(decision.admitted());
        assert_eq!(decision.reset(), Duration::from_secs(600));
        assert!(decide(&window, &state, at(HOUR + Duration::from_secs(600)) + shift, 1).1.admitted());
    }

    #[test]
    fn keys_have_grids_of_their_own_unless_said_otherwise() {
        let window = FixedWindow::new(1, HOUR);

        assert_eq!(window.shift(0), Duration::ZERO);
        assert_eq!(window.shift(1 << 63), HOUR / 2);
        assert!(window.shift(u64::MAX) < HOUR);
    }

    #[test]
    fn a_grid_on_the_calendar_begins_an_hour_on_the_hour() {
        // The clock reads 100 s at ten minutes past some hour.
        let date = SystemTime::UNIX_EPOCH + 400_000 * HOUR + Duration::from_secs(600);
        let window = FixedWindow::new(1, HOUR).aligned(at(Duration::from_secs(100)), date);

        let now = at(Duration::from_secs(100)) + window.shift(7);

        assert_eq!(decide(&window, &fresh(&window), now, 1).1.reset(), Duration::from_secs(3000));
    }

    #[test]
    fn a_date_before_1970_has_a_calendar_too() {
        let date = SystemTime::UNIX_EPOCH - Duration::from_secs(600);
        let window = FixedWindow::new(1, HOUR).aligned(Timestamp::ZERO, date);

        let now = Timestamp::ZERO + window.shift(0);

        assert_eq!(decide(&window, &fresh(&window), now, 1).1.reset(), Duration::from_secs(600));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_reset_the_count() {
        let window = hourly(2);
        let mut state = Default::default();
        assert_eq!(spend_all(&window, &mut state, at(5 * HOUR)), 2);

        assert_eq!(spend_all(&window, &mut state, at(4 * HOUR)), 0);
        assert_eq!(decide(&window, &state, at(4 * HOUR), 1).1.retry_after(), Some(2 * HOUR));
        assert_eq!(spend_all(&window, &mut state, at(5 * HOUR)), 0);
    }

    #[test]
    fn the_end_of_the_clock_gives_one_last_window() {
        let window = FixedWindow::new(3, SECOND);
        let mut state = Default::default();

        assert_eq!(spend_all(&window, &mut state, Timestamp::MAX), 3);
        assert_eq!(spend_all(&window, &mut state, Timestamp::MAX), 0);

        // Here the count leaves 32 bits for the window's index, and the clock has more windows than that.
        let wide = FixedWindow::new(u64::from(u32::MAX), SECOND);
        let (state, decision) = decide(&wide, &fresh(&wide), Timestamp::MAX, u32::MAX);
        assert!(decision.admitted());
        assert!(!decide(&wide, &state, Timestamp::MAX, 1).1.admitted());
    }

    #[test]
    fn a_refund_for_a_window_that_is_over_gives_nothing() {
        let window = hourly(5);
        let state = decide(&window, &fresh(&window), at(HOUR), 5).0;

        let refunded = refund(&window, &state, at(HOUR), at(HOUR), 2);
        assert_eq!(decide(&window, &refunded, at(HOUR), 0).1.remaining(), 2);

        let late = refund(&window, &state, at(HOUR), at(2 * HOUR), 2);
        assert_eq!(decide(&window, &late, at(2 * HOUR), 0).1.remaining(), 5);
    }
}

mod bad_settings {
    use super::*;

    #[test]
    fn a_rate_period_or_burst_of_zero_is_refused_by_name() {
        let errors = [
            (Limit::try_new(0, SECOND), "rate limit with `rate` = 0: must be at least 1"),
            (Limit::try_new(1, Duration::ZERO), "rate limit with `period` = 0ns: must be longer than zero"),
            (Limit::per_second(1).try_burst(0), "rate limit with `burst` = 0: must be at least 1"),
            (
                FixedWindow::try_new(0, SECOND).map(Limit::from),
                "rate limit with `limit` = 0: must be at least 1",
            ),
            (
                FixedWindow::try_new(1, Duration::ZERO).map(Limit::from),
                "rate limit with `window` = 0ns: must be longer than zero",
            ),
        ];
        for (result, message) in errors {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_burst_that_takes_centuries_to_earn_is_refused() {
        // 1 per day and a million at once: other limiters wrap here and let 86 496 calls pass.
        let error = Limit::per_day(1).try_burst(1_000_000).unwrap_err();

        assert_eq!((error.field(), error.value()), ("burst", "1000000"));
        assert_eq!(error.rule(), "must fill again within 146 years");
        assert!(Limit::per_day(1).try_burst(50_000).is_ok());
    }

    #[test]
    fn products_that_overflow_are_refused() {
        assert_eq!(Limit::try_new(1, Duration::MAX).unwrap_err().field(), "period");
        assert_eq!(Limit::try_new(u64::MAX, SECOND).unwrap_err().field(), "rate");
        assert_eq!(Limit::per_second(1).try_burst(u64::MAX).unwrap_err().field(), "burst");
        assert_eq!(Gcra::new(u64::MAX, YEAR, u64::MAX).unwrap_err().field(), "rate");
        assert_eq!(FixedWindow::try_new(u64::MAX, SECOND).unwrap_err().field(), "limit");
        assert_eq!(FixedWindow::try_new(1, Duration::MAX).unwrap_err().field(), "window");
        assert_eq!(FixedWindow::try_new(u64::MAX >> 2, SECOND).unwrap_err().field(), "limit");
        assert_eq!(FixedWindow::try_new(4_000_000_000, SECOND / 100).unwrap_err().field(), "limit");
    }

    #[test]
    fn a_fixed_window_has_no_burst() {
        let error = Limit::from(FixedWindow::new(1, SECOND)).try_burst(2).unwrap_err();

        assert_eq!(error.to_string(), "rate limit with `burst` = 2: does not apply to a window");
    }

    #[test]
    #[should_panic = "rate limit with `rate` = 0: must be at least 1"]
    fn the_short_form_panics_with_the_same_words() {
        let _ = RateLimitLayer::per_second(0);
    }

    #[test]
    #[should_panic = "rate limit with `capacity` = 0: must be at least 1 key"]
    fn a_table_for_no_keys_is_refused() {
        let _ = RateLimitLayer::per_second(1).capacity(0);
    }

    #[test]
    fn all_that_is_usual_is_accepted() {
        for n in [1, 7, 100, 1_000_000, u64::from(u32::MAX)] {
            let _ = (Limit::per_second(n), Limit::per_minute(n), Limit::per_hour(n), Limit::per_day(n));
            for window in [SECOND, HOUR, DAY, YEAR] {
                assert!(FixedWindow::try_new(n, window).is_ok());
            }
        }
        assert!(Limit::per_hour(10).try_burst(1_000).is_ok());
    }
}
