use crate::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_part_counts_until_all_of_it_has_left_the_window() {
    let (strict, mut state) = (SlidingWindow::strict(10, MINUTE, 6), Default::default());
    assert!(strict.charge(&mut state, at(SECOND * 5), 4));
    assert!(strict.charge(&mut state, at(SECOND * 15), 6));

    assert_eq!(spend_all(&strict, &mut state, at(SECOND * 70) - NANO), 0);
    assert_eq!(spend_all(&strict, &mut state, at(SECOND * 70)), 4);
    assert_eq!(spend_all(&strict, &mut state, at(SECOND * 80)), 6);
}

#[test]
fn it_says_what_is_left_and_when_there_is_more() {
    let (strict, mut state) = (SlidingWindow::strict(10, MINUTE, 6), Default::default());
    strict.charge(&mut state, at(SECOND * 5), 4);
    strict.charge(&mut state, at(SECOND * 15), 5);

    let (_, ruling) = decide(&strict, &state, at(SECOND * 30), 6);
    assert_eq!((ruling.remaining(), ruling.reset()), (1, SECOND * 40));
    assert_eq!(ruling.retry_after(), Some(SECOND * 50));
    assert_eq!(strict.retry_after(&state, at(SECOND * 30), 5), Some(SECOND * 40));
}

#[test]
fn one_part_counts_the_window_and_the_one_before() {
    let (strict, mut state) = (SlidingWindow::strict(10, MINUTE, 1), Default::default());

    assert_eq!(spend_all(&strict, &mut state, at(MINUTE - NANO)), 10);
    assert_eq!(spend_all(&strict, &mut state, at(MINUTE * 2 - NANO)), 0);
    assert_eq!(spend_all(&strict, &mut state, at(MINUTE * 2)), 10);
}

#[test]
fn a_window_that_does_not_divide_is_covered_by_longer_parts() {
    let strict = SlidingWindow::strict(1, 10 * NANO, 6);

    assert_eq!((strict.part(), strict.parts()), (2 * NANO, 5));
}

#[test]
fn a_clock_that_goes_back_counts_in_the_part_it_had_reached() {
    let (strict, mut state) = (SlidingWindow::strict(5, MINUTE, 6), Default::default());
    assert_eq!(spend_all(&strict, &mut state, at(2 * HOUR)), 5);

    for back in [NANO, HOUR] {
        assert_eq!(spend_all(&strict, &mut state, at(2 * HOUR - back)), 0);
        assert_eq!(strict.retry_after(&state, at(2 * HOUR - back), 1), Some(SECOND * 70 + back));
    }
}

#[test]
fn a_refused_call_does_not_move_the_window() {
    let (strict, mut state) = (SlidingWindow::strict(5, MINUTE, 6), Default::default());
    strict.charge(&mut state, at(SECOND), 5);
    let before = state.clone();

    assert!(!strict.charge(&mut state, at(SECOND * 65), 1));

    assert_eq!(state, before);
}

#[test]
fn a_refund_goes_to_the_part_of_its_charge() {
    let (strict, mut state) = (SlidingWindow::strict(10, MINUTE, 6), Default::default());
    strict.charge(&mut state, at(SECOND), 6);
    strict.charge(&mut state, at(SECOND * 35), 4);

    strict.refund(&mut state, at(SECOND), at(SECOND * 36), 9);
    assert_eq!(strict.left(&state, at(SECOND * 36)).remaining, 6, "no more than was charged then");
    strict.refund(&mut state, at(SECOND * 100), at(SECOND * 100), 4);
    assert_eq!(strict.left(&state, at(SECOND * 36)).remaining, 6, "nothing was charged then");
}

#[test]
fn the_end_of_the_clock_does_not_wrap() {
    let ends: [SlidingStrict; 3] = [
        SlidingWindow::strict(3, SECOND, 6),
        SlidingWindow::strict(3, NANO, 1),
        SlidingWindow::strict(3, 146 * YEAR, 4096),
    ];
    for strict in ends {
        let mut state = Default::default();
        assert_eq!(spend_all(&strict, &mut state, Timestamp::MAX), 3);
        assert_eq!(spend_all(&strict, &mut state, Timestamp::MAX), 0);
        assert!(strict.retry_after(&state, Timestamp::MAX, 1).is_some());
    }
}
