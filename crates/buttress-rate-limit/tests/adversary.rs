//! What the most that each algorithm lets through in one trailing window is: someone tries for it, reaches what the
//! docs state, and never gets more.

use std::time::Duration;

use buttress_core::Timestamp;
use buttress_rate_limit::{FixedWindow, Gcra, LeakyBucket, Policy, SlidingLog, SlidingWindow};

const SECOND: Duration = Duration::from_secs(1);

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// Takes all that there is at each of `times`; gives the units by time.
fn greedy<P: Policy>(policy: &P, times: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut state = P::State::default();
    let take = |now| {
        let left = policy.left(&state, at(now)).remaining;
        for _ in 0..left {
            assert!(policy.charge(&mut state, at(now), 1));
        }
        assert!(!policy.charge(&mut state, at(now), 1));
        (now, left)
    };
    times.into_iter().map(take).collect()
}

/// The most units in any interval from `t` to `t + length`, without its end.
fn most(taken: &[(u64, u64)], length: u64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for &(now, units) in taken {
        sum += units;
        while now - taken[first].0 >= length {
            sum -= taken[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// The most units that any client gets in an interval of `length` nanoseconds: all that can be done in the first
/// `end` nanoseconds is tried.
fn most_of_all<P: Policy<State: Clone>>(policy: &P, length: u64, end: u64) -> u64 {
    fn go<P: Policy<State: Clone>>(
        policy: &P,
        state: &P::State,
        taken: &mut Vec<(u64, u64)>,
        length: u64,
        end: u64,
    ) -> u64 {
        let now = taken.len() as u64;
        if now == end {
            return most(taken, length);
        }
        let mut best = 0;
        for units in 0..=policy.left(state, at(now)).remaining {
            let mut state = state.clone();
            assert!(policy.charge(&mut state, at(now), units as u32));
            taken.push((now, units));
            best = best.max(go(policy, &state, taken, length, end));
            taken.pop();
        }
        best
    }
    go(policy, &P::State::default(), &mut Vec::new(), length, end)
}

const NANOS: u64 = 1_000_000_000;

/// Every thousandth of the first five seconds, and the nanosecond before.
fn all_the_time() -> impl Iterator<Item = u64> {
    (1..5_000).flat_map(|milli| [milli * 1_000_000 - 1, milli * 1_000_000])
}

/// Idle until just before a second is over, and then all the time.
fn from_the_end_of_a_second() -> impl Iterator<Item = u64> {
    all_the_time().filter(|&now| now >= NANOS - 1)
}

#[test]
fn a_token_bucket_lets_through_its_burst_and_what_is_earned() {
    for (rate, burst) in [(10, 10), (100, 250), (1000, 1), (7, 3)] {
        let gcra = Gcra::new(rate, SECOND, burst).unwrap();

        // A closed interval: a second and its end.
        let taken = greedy(&gcra, all_the_time());
        assert_eq!(most(&taken, NANOS + 1), burst + rate);
    }
    let small = Gcra::new(2, Duration::from_nanos(4), 2).unwrap();
    assert_eq!(most_of_all(&small, 5, 9), 4);
}

#[test]
fn a_fixed_window_lets_through_twice_its_limit() {
    for limit in [1, 20, 100, 1000] {
        let window = FixedWindow::new(limit, SECOND).phase(Duration::ZERO);

        assert_eq!(most(&greedy(&window, from_the_end_of_a_second()), NANOS), 2 * limit);
    }
    let small = FixedWindow::new(2, Duration::from_nanos(4)).phase(Duration::ZERO);
    assert_eq!(most_of_all(&small, 4, 9), 4);
}

#[test]
fn a_counter_lets_through_one_less_than_twice_its_limit() {
    for limit in [1, 20, 100, 1000] {
        let window = SlidingWindow::new(limit, SECOND);

        assert_eq!(most(&greedy(&window, from_the_end_of_a_second()), NANOS), 2 * limit - 1);
    }
    let small = SlidingWindow::new(2, Duration::from_nanos(4));
    assert_eq!(most_of_all(&small, 4, 9), 3);
}

#[test]
fn a_strict_window_lets_through_its_limit() {
    for limit in [1, 20, 100, 1000] {
        for parts in [1, 6, 60] {
            let window = SlidingWindow::strict(limit, SECOND, parts);

            assert_eq!(most(&greedy(&window, all_the_time()), NANOS), limit);
            assert_eq!(most(&greedy(&window, from_the_end_of_a_second()), NANOS), limit);
        }
    }
    for parts in 1..=4 {
        let small = SlidingWindow::strict(2, Duration::from_nanos(4), parts);
        assert_eq!(most_of_all(&small, 4, 9), 2);
    }
}

#[test]
fn a_log_lets_through_its_limit() {
    for limit in [1, 20, 100, 1000] {
        let log = SlidingLog::new(limit, SECOND);

        assert_eq!(most(&greedy(&log, all_the_time()), NANOS), limit);
        assert_eq!(most(&greedy(&log, from_the_end_of_a_second()), NANOS), limit);
    }
    assert_eq!(most_of_all(&SlidingLog::new(2, Duration::from_nanos(4)), 4, 9), 2);
}

#[test]
fn a_leaky_bucket_lets_one_go_after_the_other() {
    for (rate, burst) in [(10, 1), (100, 1), (10, 4)] {
        let bucket = LeakyBucket::new(rate, SECOND).burst(burst).wait(SECOND);
        let (mut state, mut departures) = (0, Vec::new());
        for now in all_the_time() {
            while bucket.charge(&mut state, at(now), 1) {
                let departure = at(now) + bucket.delay(&state, at(now), 1);
                departures.push((departure.as_nanos(), 1));
            }
        }

        assert!(departures.is_sorted());
        assert_eq!(most(&departures, NANOS + 1), burst + rate);
        assert_eq!(most(&departures, NANOS / rate), burst);
    }
}
