use crate::*;

fn five_per_minute() -> SlidingLog {
    SlidingLog::new(5, Duration::from_secs(60))
}

#[test]
fn each_unit_comes_free_a_window_after_it_was_spent() {
    let (log, mut state) = (five_per_minute(), Default::default());
    for second in [0, 10, 20, 30, 40] {
        assert_eq!(spend_one(&log, &mut state, second), 1);
    }

    assert_eq!(spend_one(&log, &mut state, 59), 0);
    assert_eq!(spend_one(&log, &mut state, 60), 1);
    assert_eq!(spend_one(&log, &mut state, 69), 0);
    assert_eq!(spend_one(&log, &mut state, 70), 1);
}

fn spend_one(log: &SlidingLog, state: &mut <SlidingLog as Policy>::State, second: u64) -> u32 {
    u32::from(log.charge(state, at(Duration::from_secs(second)), 1))
}

#[test]
fn it_says_what_is_left_and_when_there_is_more() {
    let (log, mut state) = (five_per_minute(), Default::default());
    log.charge(&mut state, at(SECOND), 2);
    log.charge(&mut state, at(SECOND * 31), 2);

    let (_, ruling) = decide(&log, &state, at(SECOND * 41), 3);

    assert!(!ruling.admitted());
    assert_eq!((ruling.limit(), ruling.remaining()), (5, 1));
    assert_eq!(ruling.reset(), SECOND * 20, "the first two leave");
    assert_eq!(ruling.retry_after(), Some(SECOND * 20));
    assert_eq!(log.retry_after(&state, at(SECOND * 41), 5), Some(SECOND * 50), "all have left");
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away() {
    let (log, mut state) = (five_per_minute(), fresh(&five_per_minute()));
    assert_eq!(spend_all(&log, &mut state, at(2 * HOUR)), 5);

    for back in [NANO, HOUR] {
        assert_eq!(spend_all(&log, &mut state, at(2 * HOUR - back)), 0);
        assert_eq!(log.retry_after(&state, at(2 * HOUR - back), 1), Some(SECOND * 60 + back));
    }
    assert_eq!(spend_all(&log, &mut state, at(2 * HOUR + SECOND * 60)), 5);
}

#[test]
fn a_refund_takes_out_what_was_charged_then_and_nothing_else() {
    let (log, mut state) = (five_per_minute(), Default::default());
    log.charge(&mut state, at(SECOND), 3);
    log.charge(&mut state, at(SECOND * 30), 2);

    log.refund(&mut state, at(SECOND), at(SECOND * 31), 2);
    assert_eq!(log.left(&state, at(SECOND * 31)).remaining, 2);
    assert_eq!(log.retry_after(&state, at(SECOND * 31), 3), Some(SECOND * 30));

    let late = refund(&log, &state, at(SECOND), at(SECOND * 61), 1);
    assert_eq!(log.left(&late, at(SECOND * 61)).remaining, 3, "it had left by itself");
    let other = refund(&log, &state, at(SECOND * 2), at(SECOND * 31), 1);
    assert_eq!(other, state, "nothing was charged then");
}

#[test]
fn what_is_spent_already_counts_beyond_the_limit_and_ends_with_the_window() {
    let (log, mut state) = (five_per_minute(), Default::default());
    log.charge(&mut state, at(SECOND), 5);

    log.force(&mut state, at(SECOND * 31), u32::MAX);

    assert_eq!(log.left(&state, at(SECOND * 61)).remaining, 0);
    assert_eq!(log.left(&state, at(SECOND * 91)).remaining, 5);
}

#[test]
fn the_end_of_the_clock_refuses_and_does_not_wrap() {
    let log = five_per_minute();

    let (state, ruling) = decide(&log, &Default::default(), Timestamp::MAX, 1);

    assert!(!ruling.admitted());
    assert_eq!(state, Default::default());
    assert_eq!(ruling.retry_after(), Some(NANO));
}

#[test]
fn a_key_that_was_only_looked_at_or_refused_takes_no_memory() {
    let (log, mut state) = (five_per_minute(), Default::default());

    assert!(log.charge(&mut state, at(SECOND), 0));
    assert!(!log.charge(&mut state, at(SECOND), 6));
    log.refund(&mut state, at(SECOND), at(SECOND), 1);

    assert_eq!(state, Default::default());
}
