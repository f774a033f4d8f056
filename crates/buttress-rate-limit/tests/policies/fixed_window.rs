use crate::*;

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
