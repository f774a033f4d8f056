//! Where a read goes, moment by moment.

use std::time::Duration;

use buttress_balance::{Diverted, ReplicaPolicy, ReplicaRules, Route};
use buttress_core::Timestamp;
use proptest::prelude::*;

const BOUND: Duration = Duration::from_millis(100);
const MARGIN: Duration = Duration::from_millis(10);
const KEY: Option<u64> = Some(1 << 63);

fn rules() -> ReplicaRules {
    ReplicaRules::default().lag_bound(BOUND).margin(MARGIN).recent(16)
}

fn policy(replicas: usize) -> ReplicaPolicy {
    ReplicaPolicy::new(replicas, rules()).unwrap()
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn read(policy: &ReplicaPolicy, key: Option<u64>, now: Timestamp) -> Route {
    asking(policy, key, None, now)
}

fn asking(policy: &ReplicaPolicy, key: Option<u64>, token: Option<u64>, now: Timestamp) -> Route {
    policy.read(key, token, now, |usable| (0..policy.replicas()).find(|at| usable(*at)))
}

#[test]
fn after_a_write_its_key_is_read_at_the_primary_for_the_bound_and_the_margin() {
    let policy = policy(1);
    policy.wrote(KEY, None, ms(1000));
    for now in [1000, 1050, 1109, 1110] {
        policy.report_lag(0, Duration::ZERO, ms(now));
        let expected = if now < 1110 { Route::Primary(Diverted::Recent) } else { Route::Replica(0) };
        assert_eq!(read(&policy, KEY, ms(now)), expected, "at {now} ms");
        assert_eq!(read(&policy, Some(0), ms(now)), Route::Replica(0), "another key");
        assert_eq!(read(&policy, None, ms(now)), Route::Replica(0), "no key");
    }
}

#[test]
fn after_a_write_with_a_token_its_key_is_read_where_that_was_reported() {
    let policy = policy(3);
    for replica in 0..3 {
        policy.report_lag(replica, Duration::ZERO, ms(1000));
    }
    policy.report_position(1, 41);
    policy.wrote(KEY, Some(42), ms(1000));
    policy.wrote(KEY, Some(30), ms(1000));

    assert_eq!(read(&policy, KEY, ms(1000)), Route::Primary(Diverted::Token));
    assert_eq!(read(&policy, Some(0), ms(1000)), Route::Replica(0));
    policy.report_position(2, 42);
    assert_eq!(read(&policy, KEY, ms(1000)), Route::Replica(2), "at once, without the window");
    // However long it takes.
    policy.report_position(2, 41);
    policy.report_lag(0, Duration::ZERO, ms(1_000_000));
    assert_eq!(read(&policy, KEY, ms(1_000_000)), Route::Primary(Diverted::Token));
}

#[test]
fn a_token_that_comes_with_a_read_is_waited_for_too() {
    let policy = policy(1);
    policy.report_lag(0, Duration::ZERO, ms(0));
    assert_eq!(asking(&policy, None, Some(0), ms(0)), Route::Primary(Diverted::Token), "nothing is reported");
    policy.report_position(0, 5);

    assert_eq!(asking(&policy, None, Some(5), ms(0)), Route::Replica(0));
    assert_eq!(asking(&policy, KEY, Some(6), ms(0)), Route::Primary(Diverted::Token));
}

#[test]
fn no_position_is_taken_for_one_above_it() {
    let policy = policy(1);
    policy.report_lag(0, Duration::ZERO, ms(0));
    for token in [0, 1, u64::MAX - 3, u64::MAX - 2, u64::MAX - 1, u64::MAX] {
        if let Some(below) = token.checked_sub(1) {
            policy.report_position(0, below);
            assert_eq!(asking(&policy, None, Some(token), ms(0)), Route::Primary(Diverted::Token), "{token}");
        }
        policy.report_position(0, token);
        let reached = token <= u64::MAX - 2;
        assert_eq!(asking(&policy, None, Some(token), ms(0)) == Route::Replica(0), reached, "{token}");
    }
}

#[test]
fn a_replica_above_the_bound_is_skipped_and_so_is_one_that_is_silent_for_too_long() {
    let policy = policy(2);
    assert_eq!(read(&policy, KEY, ms(500)), Route::Primary(Diverted::NoReplica), "nobody has reported");
    policy.report_lag(0, Duration::from_millis(101), ms(500));
    assert_eq!(read(&policy, KEY, ms(500)), Route::Primary(Diverted::NoReplica));
    policy.report_lag(1, Duration::from_millis(40), ms(500));

    for now in [500, 560, 561] {
        let expected = if now <= 560 { Route::Replica(1) } else { Route::Primary(Diverted::NoReplica) };
        assert_eq!(read(&policy, KEY, ms(now)), expected, "40 ms, and {} of silence", now - 500);
    }
    assert_eq!(policy.lag(1), Some(Duration::from_millis(40)));
}

#[test]
fn a_lag_that_is_older_than_the_clock_is_above_the_bound_all_the_same() {
    let policy = policy(1);
    policy.report_lag(0, Duration::from_secs(3600), ms(50));
    assert_eq!(read(&policy, KEY, ms(50)), Route::Primary(Diverted::NoReplica));
}

#[test]
fn trusted_replicas_are_used_until_one_reports_more_than_the_bound() {
    let policy = ReplicaPolicy::new(1, rules().trusting()).unwrap();
    assert_eq!(read(&policy, KEY, ms(1_000_000)), Route::Replica(0));
    assert!(policy.report_lag(0, Duration::from_millis(101), ms(1_000_001)), "it was in use");
    assert_eq!(read(&policy, KEY, ms(2_000_000)), Route::Primary(Diverted::NoReplica));
    assert!(!policy.report_lag(0, Duration::from_millis(101), ms(2_000_001)), "it was not");
    assert!(!policy.report_lag(0, Duration::from_millis(100), ms(2_000_002)));
    assert_eq!(read(&policy, KEY, ms(3_000_000)), Route::Replica(0));
}

#[test]
fn with_no_usable_replica_a_read_may_be_refused_but_not_after_a_write() {
    let policy = ReplicaPolicy::new(1, rules().refusing()).unwrap();
    assert_eq!(read(&policy, KEY, ms(0)), Route::Refused);
    policy.wrote(KEY, None, ms(0));
    assert_eq!(read(&policy, KEY, ms(0)), Route::Primary(Diverted::Recent));
    policy.report_lag(0, Duration::ZERO, ms(0));
    assert_eq!(asking(&policy, None, Some(1), ms(0)), Route::Primary(Diverted::Token));
}

#[test]
fn a_write_without_a_key_holds_all_reads() {
    let policy = policy(1);
    policy.report_lag(0, Duration::ZERO, ms(0));
    policy.wrote(None, Some(3), ms(0));
    for key in [None, KEY, Some(0)] {
        assert_eq!(read(&policy, key, ms(0)), Route::Primary(Diverted::Token));
    }
    policy.report_position(0, 3);
    policy.wrote(None, None, ms(0));
    for key in [None, KEY, Some(0)] {
        assert_eq!(read(&policy, key, ms(0)), Route::Primary(Diverted::Recent));
    }
}

#[test]
fn when_another_primary_takes_over_tokens_of_the_former_one_hold_no_read_for_ever() {
    let policy = policy(1);
    policy.report_lag(0, Duration::ZERO, ms(0));
    policy.report_position(0, 900);
    policy.wrote(KEY, Some(1000), ms(0));

    policy.fail_over(ms(0));
    assert_eq!(policy.position(0), None);
    assert_eq!(read(&policy, Some(0), ms(109)), Route::Primary(Diverted::Recent));
    policy.report_lag(0, Duration::ZERO, ms(110));
    assert_eq!(read(&policy, KEY, ms(110)), Route::Replica(0));
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let defaults = ReplicaRules::default();
    let documented = ReplicaRules::default()
        .lag_bound(Duration::from_secs(2))
        .margin(Duration::from_millis(500))
        .recent(65_536);
    assert_eq!(defaults, documented);

    let policy = ReplicaPolicy::new(1, defaults).unwrap();
    assert_eq!(
        read(&policy, KEY, ms(0)),
        Route::Primary(Diverted::NoReplica),
        "neither trusting nor refusing"
    );
    policy.wrote(KEY, None, ms(0));
    policy.report_lag(0, Duration::ZERO, ms(2500));
    assert_eq!(read(&policy, KEY, ms(2499)), Route::Primary(Diverted::Recent));
    assert_eq!(read(&policy, KEY, ms(2500)), Route::Replica(0));
}

proptest! {
    #[test]
    fn however_many_keys_are_written_none_is_forgotten_within_its_window(
        keys in prop::collection::vec(any::<u64>(), 1..200),
        places in 1_usize..8,
        token in prop::option::of(0_u64..100),
    ) {
        let policy = ReplicaPolicy::new(1, rules().recent(places)).unwrap();
        policy.report_lag(0, Duration::ZERO, ms(50));
        for key in &keys {
            policy.wrote(Some(*key), token, ms(0));
        }
        for key in keys {
            prop_assert!(matches!(read(&policy, Some(key), ms(50)), Route::Primary(_)));
        }
    }

    #[test]
    fn no_times_and_no_tokens_make_it_panic(
        lag_bound in any::<Duration>(), margin in any::<Duration>(), lag in any::<Duration>(),
        times in any::<[u64; 4]>(), token in any::<Option<u64>>(), asked in any::<Option<u64>>(),
        key in any::<Option<u64>>(),
    ) {
        let [wrote, reported, now, failed_over] = times.map(Timestamp::from_nanos);
        let policy = ReplicaPolicy::new(2, rules().lag_bound(lag_bound).margin(margin)).unwrap();
        policy.report_lag(0, lag, reported);
        policy.report_position(1, times[0]);
        policy.wrote(key, token, wrote);
        asking(&policy, key, asked, now);
        policy.fail_over(failed_over);
        asking(&policy, key, asked, now);
    }
}
