use crate::*;

#[test]
fn a_rate_period_or_burst_of_zero_is_refused_by_name() {
    let errors = [
        (Limit::try_new(0, SECOND), "rate limit with `rate` = 0: must be at least 1"),
        (Limit::try_new(1, Duration::ZERO), "rate limit with `period` = 0ns: must be longer than zero"),
        (Limit::per_second(1).try_burst(0), "rate limit with `burst` = 0: must be at least 1"),
        (FixedWindow::try_new(0, SECOND).map(Limit::from), "rate limit with `limit` = 0: must be at least 1"),
        (
            FixedWindow::try_new(1, Duration::ZERO).map(Limit::from),
            "rate limit with `window` = 0ns: must be longer than zero",
        ),
        (LeakyBucket::try_new(0, SECOND).map(Limit::from), "rate limit with `rate` = 0: must be at least 1"),
        (
            LeakyBucket::new(1, SECOND).try_burst(0).map(Limit::from),
            "rate limit with `burst` = 0: must be at least 1",
        ),
        (SlidingLog::try_new(0, SECOND).map(Limit::from), "rate limit with `limit` = 0: must be at least 1"),
        (
            SlidingLog::try_new(1, Duration::ZERO).map(Limit::from),
            "rate limit with `window` = 0ns: must be longer than zero",
        ),
        (
            SlidingWindow::try_new(0, SECOND).map(Limit::from),
            "rate limit with `limit` = 0: must be at least 1",
        ),
        (
            SlidingWindow::try_new(1, Duration::ZERO).map(Limit::from),
            "rate limit with `window` = 0ns: must be longer than zero",
        ),
        (
            SlidingWindow::try_strict(0, SECOND, 6).map(Limit::from),
            "rate limit with `limit` = 0: must be at least 1",
        ),
        (
            SlidingWindow::try_strict(1, Duration::ZERO, 6).map(Limit::from),
            "rate limit with `window` = 0ns: must be longer than zero",
        ),
        (
            SlidingWindow::try_strict(1, SECOND, 0).map(Limit::from),
            "rate limit with `parts` = 0: must be at least 1",
        ),
        (
            SlidingWindow::try_strict(1, SECOND, 4097).map(Limit::from),
            "rate limit with `parts` = 4097: must be at most 4096",
        ),
        (
            SlidingWindow::try_strict(1, 5 * NANO, 6).map(Limit::from),
            "rate limit with `parts` = 6: must be at most one per nanosecond",
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
fn limits_and_windows_beyond_what_a_count_or_clock_holds_are_refused() {
    let large = 1 << 32;
    assert_eq!(SlidingWindow::try_new(large, SECOND).unwrap_err().field(), "limit");
    assert_eq!(SlidingWindow::try_strict(large, SECOND, 6).unwrap_err().field(), "limit");
    assert_eq!(SlidingLog::try_large(large, SECOND).unwrap_err().field(), "limit");
    for error in [
        SlidingWindow::try_new(1, Duration::MAX).unwrap_err(),
        SlidingWindow::try_strict(1, 147 * YEAR, 6).unwrap_err(),
        SlidingLog::try_new(1, Duration::MAX).unwrap_err(),
    ] {
        assert_eq!((error.field(), error.rule()), ("window", "must be at most 146 years"));
    }
    assert_eq!(LeakyBucket::new(1, SECOND).try_wait(Duration::MAX).unwrap_err().field(), "wait");
    assert_eq!(LeakyBucket::try_new(u64::MAX, SECOND).unwrap_err().field(), "rate");
}

#[test]
fn a_log_of_more_than_a_thousand_units_has_to_be_asked_for_by_name() {
    let error = SlidingLog::try_new(1025, SECOND).unwrap_err();

    assert_eq!(
        error.to_string(),
        "rate limit with `limit` = 1025: must be at most 1024 in a sliding log, which takes 8 bytes per unit and \
         key; `SlidingLog::try_large` takes more"
    );
    assert!(SlidingLog::try_large(1025, SECOND).is_ok());
}

#[test]
fn what_does_not_wait_takes_no_wait_and_no_queue() {
    let window = || Limit::from(SlidingWindow::new(1, SECOND));

    assert_eq!(window().try_wait(SECOND).unwrap_err().field(), "wait");
    assert_eq!(window().try_queue(1).unwrap_err().field(), "queue");
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
            assert!(SlidingWindow::try_new(n, window).is_ok());
            assert!(SlidingWindow::try_strict(n, window, 60).is_ok());
        }
    }
    assert!(Limit::per_hour(10).try_burst(1_000).is_ok());
}
