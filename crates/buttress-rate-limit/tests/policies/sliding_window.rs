use buttress_core::{Answer, Store};
use buttress_rate_limit::Memory;

use crate::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_window_before_weighs_as_much_as_is_left_of_it() {
    let (counter, mut state) = (SlidingWindow::new(100, MINUTE), Default::default());
    assert_eq!(spend_all(&counter, &mut state, at(SECOND * 30)), 100);

    assert_eq!(spend_all(&counter, &mut state, at(SECOND * 59)), 0);
    assert_eq!(spend_all(&counter, &mut state, at(SECOND * 75)), 25, "a quarter has slid out");
    assert_eq!(spend_all(&counter, &mut state, at(SECOND * 90)), 25);
    assert_eq!(spend_all(&counter, &mut state, at(SECOND * 120)), 50);
}

// The example of Cloudflare's post of 2017: 42 requests in the last minute, 18 in this one, 15 seconds into it.
#[test]
fn it_counts_as_the_published_example_does() {
    let (counter, mut state) = (SlidingWindow::new(50, MINUTE), Default::default());
    counter.charge(&mut state, at(SECOND * 30), 42);
    counter.charge(&mut state, at(SECOND * 75), 18);

    // 42 · 45/60 + 18 = 49.5
    assert_eq!(counter.left(&state, at(SECOND * 75)).remaining, 0);
    assert_eq!(counter.debt(&state, at(SECOND * 75)), 50);
}

#[test]
fn it_says_what_is_left_and_when_there_is_more() {
    let (counter, mut state) = (SlidingWindow::new(60, MINUTE), Default::default());
    counter.charge(&mut state, at(Duration::ZERO), 60);

    let (_, ruling) = decide(&counter, &state, at(SECOND * 60), 1);
    assert_eq!((ruling.remaining(), ruling.reset()), (0, SECOND));
    assert_eq!((ruling.retry_after(), ruling.window()), (Some(SECOND), MINUTE));

    // In the same window nothing slides out: the next has to come.
    let (_, ruling) = decide(&counter, &state, at(SECOND * 10), 2);
    assert_eq!(ruling.retry_after(), Some(SECOND * 52));
    let (_, never) = decide(&counter, &state, at(SECOND * 10), 61);
    assert!(never.never());
}

#[test]
fn a_client_that_waits_as_told_passes_and_not_a_nanosecond_earlier() {
    let (counter, mut state) = (SlidingWindow::new(7, MINUTE), Default::default());
    let mut now = at(SECOND * 17);

    for cost in [1, 3, 7, 2, 5].into_iter().cycle().take(200) {
        while !counter.charge(&mut state, now, cost) {
            let wait = counter.retry_after(&state, now, cost).unwrap();
            assert!(!counter.charge(&mut state, now + wait - NANO, cost));
            now += wait;
        }
    }
}

#[test]
fn a_clock_that_goes_back_counts_in_the_window_it_had_reached() {
    let (counter, mut state) = (SlidingWindow::new(5, MINUTE), Default::default());
    assert_eq!(spend_all(&counter, &mut state, at(2 * HOUR)), 5);

    for back in [NANO, HOUR] {
        assert_eq!(spend_all(&counter, &mut state, at(2 * HOUR - back)), 0);
        let wait = counter.retry_after(&state, at(2 * HOUR - back), 1);
        assert_eq!(wait, Some(MINUTE + SECOND * 12 + back));
    }
}

#[test]
fn a_refund_goes_to_the_window_of_its_charge() {
    let (counter, mut state) = (SlidingWindow::new(10, MINUTE), Default::default());
    counter.charge(&mut state, at(SECOND), 10);
    counter.charge(&mut state, at(SECOND * 90), 5);

    let first = refund(&counter, &state, at(SECOND), at(SECOND * 90), 4);
    assert_eq!(counter.left(&first, at(SECOND * 90)).remaining, 2, "of each, half has slid out");
    let second = refund(&counter, &state, at(SECOND * 90), at(SECOND * 90), 4);
    assert_eq!(counter.left(&second, at(SECOND * 90)).remaining, 4);
    let late = refund(&counter, &state, at(SECOND), at(SECOND * 200), 4);
    assert_eq!(counter.left(&late, at(SECOND * 200)).remaining, 10);
}

#[test]
fn usual_limits_fit_one_word() {
    for (limit, window) in
        [(1_000, SECOND), (60, MINUTE), (90_000, MINUTE), (100_000, HOUR), (1_000_000, DAY)]
    {
        assert!(SlidingWindow::new(limit, window).fits_word(), "{limit} in {window:?}");
    }
    assert!(!SlidingWindow::new(1_000_000, SECOND).fits_word());
}

#[test]
fn one_word_and_two_count_alike() {
    // The larger limit needs two; a day keeps both far from it.
    let narrow = Limit::from(SlidingWindow::new(1_000, SECOND));
    let bare = SlidingWindow::new(1_000, SECOND);
    let (mut word, mut wide) = (LimitState::default(), Default::default());

    for step in 0..10_000_u64 {
        let now = at(Duration::from_millis(step * 7));
        let cost = (step * step % 40) as u32;
        assert_eq!(narrow.decide(&mut word, now, cost), bare.decide(&mut wide, now, cost));
    }
}

#[test]
fn the_end_of_the_clock_does_not_wrap() {
    for counter in
        [SlidingWindow::new(3, SECOND), SlidingWindow::new(3, NANO), SlidingWindow::new(3, 146 * YEAR)]
    {
        let mut state = Default::default();
        assert_eq!(spend_all(&counter, &mut state, Timestamp::MAX), 3);
        assert_eq!(spend_all(&counter, &mut state, Timestamp::MAX), 0);
    }
}

#[test]
fn after_the_last_window_that_a_word_can_name_nothing_passes_for_free() {
    let window = SlidingWindow::new(10_000, Duration::from_millis(19));
    let memory = Memory::new(window);
    let mut state = Default::default();
    let now = at(11 * YEAR);

    let passed = (0..50).filter(|_| match memory.decide(memory.sink(), 10_000, now) {
        Answer::Now(decision) => {
            assert!(decision.admitted() || decision.retry_after().is_some_and(|wait| !wait.is_zero()));
            decision.admitted()
        }
        Answer::Later(_) => unreachable!("the answer of memory comes at once"),
    });

    assert_eq!(passed.count(), 1);
    assert!(window.charge(&mut state, now, 10_000) && !window.charge(&mut state, now, 1));
    assert_ne!(window.retry_after(&state, now, 1), Some(Duration::ZERO));
}
