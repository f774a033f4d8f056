use crate::*;

const TENTH: Duration = Duration::from_millis(100);

/// How long one call waits; `None` when it is refused.
fn arrive(bucket: &LeakyBucket, state: &mut u64, now: Timestamp) -> Option<Duration> {
    bucket.charge(state, now, 1).then(|| bucket.delay(state, now, 1))
}

#[test]
fn calls_that_come_at_once_go_one_after_the_other() {
    let bucket = LeakyBucket::new(10, SECOND).wait(3 * TENTH);
    let mut state = 0;

    let waits: Vec<_> = (0..6).map(|_| arrive(&bucket, &mut state, at(SECOND))).collect();

    assert_eq!(waits[..4], [0, 1, 2, 3].map(|turn| Some(turn * TENTH)));
    assert_eq!(waits[4..], [None, None]);
    assert_eq!(bucket.retry_after(&state, at(SECOND), 1), Some(TENTH));
    assert_eq!(arrive(&bucket, &mut state, at(SECOND) + TENTH), Some(3 * TENTH));
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let bucket = LeakyBucket::new(10, SECOND).wait(HOUR).queue(2);
    let mut state = 0;

    let waits = [0; 4].map(|_| arrive(&bucket, &mut state, at(SECOND)));

    assert_eq!(waits, [Some(Duration::ZERO), Some(TENTH), Some(2 * TENTH), None]);
    assert_eq!((bucket.limit(), bucket.left(&state, at(SECOND)).remaining), (3, 0));
}

#[test]
fn a_burst_goes_at_once_and_the_rest_waits() {
    let limit = Limit::per_second(50).try_wait(Duration::from_millis(200)).unwrap().try_queue(64).unwrap();
    let (mut state, now) = (LimitState::default(), at(SECOND));

    let waits: Vec<_> =
        (0..61).map(|_| limit.charge(&mut state, now, 1).then(|| limit.delay(&state, now, 1))).collect();

    assert!(waits[..50].iter().all(|wait| *wait == Some(Duration::ZERO)));
    assert_eq!(waits[50], Some(Duration::from_millis(20)));
    assert_eq!(waits[59], Some(Duration::from_millis(200)));
    assert_eq!(waits[60], None);
}

#[test]
fn a_call_that_costs_much_delays_those_behind_it() {
    let bucket = LeakyBucket::new(10, SECOND);
    let mut state = 0;

    assert!(bucket.charge(&mut state, at(SECOND), 5));
    assert_eq!(bucket.delay(&state, at(SECOND), 5), Duration::ZERO);
    assert_eq!(arrive(&bucket, &mut state, at(SECOND)), Some(5 * TENTH));

    // The queue is a second long and one unit is on its way.
    assert_eq!(bucket.retry_after(&0, at(SECOND), 11), Some(Duration::ZERO));
    assert_eq!(bucket.retry_after(&0, at(SECOND), 12), None);
}

#[test]
fn the_last_in_the_queue_gives_its_slot_back_and_others_do_not() {
    let bucket = LeakyBucket::new(10, SECOND);
    let (mut state, now) = (0, at(SECOND));
    for _ in 0..4 {
        arrive(&bucket, &mut state, now);
    }

    bucket.refund(&mut state, now + TENTH, now, 1);
    assert_eq!(arrive(&bucket, &mut state, now), Some(4 * TENTH), "two wait behind that slot");

    bucket.refund(&mut state, now + 4 * TENTH, now, 1);
    bucket.refund(&mut state, now + 3 * TENTH, now, 1);
    assert_eq!(arrive(&bucket, &mut state, now), Some(3 * TENTH), "and so on from the end");
}

#[test]
fn idle_time_earns_no_more_than_the_burst() {
    let bucket = LeakyBucket::new(10, SECOND).burst(3).wait(Duration::ZERO);
    let mut state = 0;

    assert_eq!(spend_all(&bucket, &mut state, at(SECOND)), 3);
    assert_eq!(spend_all(&bucket, &mut state, at(50 * YEAR)), 3);
}

#[test]
fn a_clock_that_goes_back_makes_the_wait_longer() {
    let bucket = LeakyBucket::new(1, SECOND).wait(HOUR).queue(u32::MAX);
    let mut state = 0;
    arrive(&bucket, &mut state, at(2 * HOUR));

    assert_eq!(arrive(&bucket, &mut state, at(2 * HOUR - SECOND)), Some(2 * SECOND));
    assert_eq!(arrive(&bucket, &mut state, at(HOUR)), None);
}

#[test]
fn the_end_of_the_clock_refuses_and_does_not_wrap() {
    let bucket = LeakyBucket::new(1, SECOND);
    let mut state = 0;

    assert_eq!(arrive(&bucket, &mut state, Timestamp::MAX), None);
    assert_eq!(bucket.retry_after(&state, Timestamp::MAX, 1), Some(NANO));
}

#[test]
fn whoever_only_looks_does_not_queue() {
    let bucket = LeakyBucket::new(1, SECOND).wait(5 * SECOND).queue(1);
    let mut state = 0;
    assert!(bucket.charge(&mut state, at(SECOND), 1) && bucket.charge(&mut state, at(SECOND), 1));
    assert!(!bucket.charge(&mut state, at(SECOND), 1));

    assert!(bucket.charge(&mut state, at(SECOND), 0));
    assert_eq!(bucket.delay(&state, at(SECOND), 0), Duration::ZERO);
}

#[test]
fn what_has_flowed_out_since_is_not_given_back_too() {
    let bucket = LeakyBucket::new(5, Duration::from_secs(60)).burst(5).wait(Duration::ZERO);
    let mut state = 0;
    assert!(bucket.charge(&mut state, at(SECOND), 5));
    let later = at(Duration::from_secs(61));
    assert!(bucket.charge(&mut state, later, 5));

    bucket.refund(&mut state, at(SECOND), later, 5);

    assert_eq!(bucket.left(&state, later).remaining, 0);
}
