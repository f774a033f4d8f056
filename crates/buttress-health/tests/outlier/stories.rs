use super::*;

#[test]
fn an_endpoint_that_fails_five_times_in_a_row_is_out_for_half_a_minute() {
    let rig = rig("a b c", plain());

    rig.calls("a", Failed, 4);
    rig.call("a", Good);
    rig.calls("a", Failed, 4);
    assert_eq!(rig.ejected(), "", "never five in a row");

    rig.call("a", Failed);
    assert_eq!(rig.ejected(), "a");

    rig.time.advance(30 * SECOND - Duration::from_nanos(1));
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "a");

    rig.time.advance(Duration::from_nanos(1));
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "");
    assert_eq!(
        rig.told(),
        ["a ejected by consecutive_5xx for 30s, the 1. time", "a back: its time was over"]
    );
}

#[test]
fn of_three_where_two_fail_one_is_out_at_half_and_the_good_one_always_stays() {
    let rig = rig("a b c", plain().max_ejection_percent(50));

    rig.calls("a", Failed, 5);
    rig.calls("b", Failed, 5);
    assert_eq!(rig.ejected(), "a", "half of three is one, before and after");

    rig.time.advance(30 * SECOND);
    rig.call("c", Good);
    rig.calls("b", Failed, 5);
    assert_eq!(rig.ejected(), "b", "its turn");
    assert_eq!(rig.handle.counts().over_max_ejection_percent, 1);
}

#[test]
fn where_all_may_go_the_last_one_stays() {
    let rig = rig("a b c", plain().max_ejection_percent(100));

    for name in ["a", "b", "c"] {
        rig.calls(name, Failed, 5);
    }

    assert_eq!(rig.ejected(), "a b");
    assert_eq!(
        rig.told()[2],
        "c not ejected by consecutive_5xx: no other endpoint of its priority is usable"
    );
}

#[test]
fn when_all_of_ten_fail_alike_one_is_out_and_nine_share_what_there_is() {
    let names = "a b c d e f g h i j";
    let rig = rig(names, plain().enforcing(EjectionReason::FailurePercentage, 100));

    for _ in 0..100 {
        for name in names.split(' ') {
            rig.call(name, Failed);
        }
    }
    rig.time.advance(10 * SECOND);
    rig.call("b", Failed);

    assert_eq!(rig.ejected(), "a", "ten percent of ten");
    let counts = rig.handle.counts();
    assert_eq!(counts.all_ejections(), 1);
    assert!(counts.over_max_ejection_percent >= 9 * 20, "each row of five, and the interval");
}

#[test]
fn one_in_a_small_set_may_go_although_a_tenth_of_it_is_none() {
    let rig = rig("a b", plain());

    rig.calls("a", Failed, 5);
    rig.calls("b", Failed, 5);

    assert_eq!(rig.ejected(), "a");
}

#[test]
fn a_single_endpoint_is_never_out() {
    let rig = rig("a", plain().max_ejection_percent(100));

    rig.calls("a", Failed, 50);

    assert_eq!(rig.ejected(), "");
    assert_eq!(rig.handle.counts().last_usable, 10);
}

#[test]
fn one_that_starts_slowly_is_out_again_for_longer_until_it_has_been_good_for_a_while() {
    let rig = rig("a b c", plain());

    for times in 1..=3 {
        rig.calls("a", Failed, 5);
        assert_eq!(rig.view("a").multiplier, times);
        rig.time.advance(times * 30 * SECOND);
        rig.call("b", Good);
        assert_eq!(rig.ejected(), "");
        assert_eq!(rig.endpoint("a").usable_since(), rig.time.now(), "from here its slow start counts");
    }
    assert_eq!(
        rig.told().iter().step_by(2).collect::<Vec<_>>(),
        [
            "a ejected by consecutive_5xx for 30s, the 1. time",
            "a ejected by consecutive_5xx for 60s, the 2. time",
            "a ejected by consecutive_5xx for 90s, the 3. time"
        ]
    );

    for left in [2, 1, 0, 0] {
        rig.time.advance(10 * SECOND);
        rig.call("a", Good);
        assert_eq!(rig.view("a").multiplier, left);
    }
}

#[test]
fn an_interval_in_which_it_was_out_for_a_moment_is_no_good_one() {
    let rig = rig("a b c", plain().base_ejection_time(25 * SECOND));
    rig.calls("a", Failed, 5);
    rig.time.advance(25 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "");

    rig.time.advance(5 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.view("a").multiplier, 1, "it came back in the middle of this one");

    rig.time.advance(10 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.view("a").multiplier, 0);
}

#[test]
fn intervals_that_nobody_saw_are_good_ones_too_and_their_calls_are_too_old_to_eject_for() {
    let rig = rig("a b c d e f", plain());
    for times in 1..=3 {
        rig.calls("a", Failed, 5);
        rig.time.advance(times * 30 * SECOND);
        rig.call("b", Good);
    }
    for name in ["a", "b", "c", "d", "e"] {
        rig.calls(name, Good, 100);
    }
    (0..50).for_each(|_| [Good, Failed].into_iter().for_each(|reply| rig.call("f", reply)));

    rig.time.advance(20 * SECOND);
    rig.call("b", Good);

    assert_eq!(rig.view("a").multiplier, 1, "two whole intervals later");
    assert_eq!(rig.ejected(), "");
    rig.time.advance(10 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "", "nor are they judged later");
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let rig = rig("a b c", plain().max_ejection_time(70 * SECOND));

    for seconds in [30, 60, 70, 70] {
        rig.calls("a", Failed, 5);
        let ejected = rig.view("a").ejected.expect("it is out");
        assert_eq!(ejected.until - ejected.since, seconds * SECOND);
        rig.time.advance(seconds * SECOND);
        rig.call("b", Good);
    }
    assert_eq!(rig.view("a").multiplier, 3);
}

#[test]
fn the_one_whose_success_rate_is_far_below_the_others_is_out_after_the_interval() {
    let rig = rig("a b c d e f", plain());
    for name in ["a", "b", "c", "d", "e"] {
        rig.calls(name, Good, 100);
    }
    for _ in 0..50 {
        rig.call("f", Good);
        rig.call("f", Failed);
    }
    assert_eq!((rig.view("f").succeeded, rig.view("f").failed), (50, 50));
    assert_eq!(rig.ejected(), "", "nothing is judged before the interval is over");

    rig.time.advance(10 * SECOND);
    rig.call("a", Good);

    assert_eq!(rig.ejected(), "f");
    assert_eq!(rig.told(), ["f ejected by success_rate for 30s, the 1. time"]);
    assert_eq!(
        (rig.view("a").succeeded, rig.view("a").failed),
        (0, 0),
        "a new interval, in the other bucket"
    );
}

#[test]
fn where_all_are_good_the_least_good_is_no_outlier() {
    let rig = rig("a b c d e f", plain());
    for name in ["a", "b", "c", "d", "e"] {
        rig.calls(name, Good, 1000);
    }
    rig.calls("f", Good, 990);
    for _ in 0..5 {
        rig.calls("f", Failed, 2);
        rig.call("f", Good);
    }

    rig.time.advance(10 * SECOND);
    rig.call("a", Good);

    assert_eq!(rig.ejected(), "", "99 percent is more than 95");
}

#[test]
fn each_priority_is_counted_by_itself() {
    let list = "a b c x y z".split(' ').map(|name| Endpoint::new(name).with_priority(u32::from(name >= "x")));
    let rig = rig_of(list.collect(), plain());

    for name in ["a", "x", "b", "y"] {
        rig.calls(name, Failed, 5);
    }

    assert_eq!(rig.ejected(), "a x", "one of each");
}

#[test]
fn others_that_are_not_usable_do_not_make_one_spare() {
    let out_of_use: [fn(&Endpoint, &Rig) -> bool; 5] = [
        |endpoint, rig| endpoint.set_health(Health::Unhealthy, rig.time.now()),
        |endpoint, rig| endpoint.drain(rig.time.now()),
        |endpoint, rig| endpoint.maintain(rig.time.now()),
        |endpoint, rig| endpoint.set_weight_percent(0, rig.time.now()),
        |endpoint, rig| endpoint.eject(rig.time.now()),
    ];
    for take_out in out_of_use {
        let rig = rig("a b c", plain().max_ejection_percent(100));
        assert!(take_out(&rig.endpoint("b"), &rig) && take_out(&rig.endpoint("c"), &rig));

        rig.calls("a", Failed, 5);

        assert!(rig.endpoint("a").condition().is_usable(), "{:?}", rig.told());
    }
    let weightless = vec![Endpoint::new("a"), Endpoint::new("b").with_weight(0)];
    let rig = rig_of(weightless, plain());
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "", "one of weight 0 gets no traffic");
}

#[test]
fn when_the_others_go_down_the_ejected_one_is_better_than_none() {
    let rig = rig("a b c", plain());
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "a");

    rig.endpoint("b").set_health(Health::Unhealthy, rig.time.now());
    rig.endpoint("c").set_health(Health::Unhealthy, rig.time.now());
    rig.time.advance(10 * SECOND);
    rig.call("b", Good);

    assert_eq!(rig.ejected(), "");
    assert_eq!(rig.told().last().unwrap(), "a back: no other was usable");
}

#[test]
fn those_that_are_ejected_together_come_back_apart() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
    let rig = rig(&names.join(" "), OutlierDetection::default().max_ejection_percent(50).seed(7));

    for name in names.iter().take(20) {
        rig.calls(name, Failed, 5);
    }

    let mut ends: Vec<_> = rig.handle.ejected().iter().map(|out| out.until - out.since).collect();
    ends.sort();
    assert!(ends[0] >= 30 * SECOND && ends[19] <= 33 * SECOND, "{ends:?}");
    assert!(ends[19] - ends[0] > SECOND, "{ends:?}");
    ends.dedup();
    assert_eq!(ends.len(), 20);
}

#[test]
fn a_rule_that_is_not_enforced_only_tells() {
    let rig = rig("a b c", plain().enforcing(EjectionReason::Consecutive5xx, 0));

    rig.calls("a", Failed, 10);

    assert_eq!(rig.ejected(), "");
    assert_eq!(rig.told(), ["a not ejected by consecutive_5xx: its rule is not enforced this time"; 2]);
    assert_eq!(rig.handle.counts().not_enforced, 2);
}

#[test]
fn a_rule_that_is_enforced_in_half_of_all_cases_ejects_in_about_half() {
    let rig = rig("a b", plain().enforcing(EjectionReason::Consecutive5xx, 50).seed(1));

    for _ in 0..1000 {
        rig.calls("a", Failed, 5);
        rig.handle.uneject("a");
    }

    let ejections = rig.handle.counts().ejections(EjectionReason::Consecutive5xx);
    assert!((400..600).contains(&ejections), "{ejections} of 1000");
}

#[test]
fn by_hand_an_endpoint_goes_and_comes_by_the_same_rules() {
    let rig = rig("a b c", plain());

    assert_eq!(rig.handle.eject("a"), Ok(()));
    assert_eq!(rig.handle.eject("a"), Err(SkipReason::AlreadyEjected));
    assert_eq!(rig.handle.eject("b"), Err(SkipReason::MaxEjectionPercent));
    assert_eq!(rig.handle.eject("z"), Err(SkipReason::Unknown));
    assert_eq!(rig.ejected(), "a");
    assert!(rig.handle.uneject("a"));
    assert!(!rig.handle.uneject("a"));
    assert!(!rig.handle.uneject("z"));
    assert_eq!(rig.ejected(), "");

    assert_eq!(rig.handle.eject("a"), Ok(()));
    rig.time.advance(MINUTE);
    assert!(rig.handle.ejected().is_empty(), "who looks sees what time has brought");
    assert_eq!(rig.ejected(), "");
    let counts = rig.handle.counts();
    assert_eq!((counts.ejections(EjectionReason::ByHand), counts.unejections), (2, 2));
}

#[test]
fn a_health_check_that_turns_good_ends_an_ejection() {
    let rig = rig("a b c", plain());
    rig.endpoint("a").set_health(Health::Healthy, rig.time.now());
    rig.calls("a", Failed, 5);
    rig.time.advance(10 * SECOND);
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "a", "its checks pass as they did before");

    rig.endpoint("a").set_health(Health::Unhealthy, rig.time.now());
    rig.look();
    rig.endpoint("a").set_health(Health::Healthy, rig.time.now());
    rig.look();

    assert_eq!(rig.ejected(), "");
    assert_eq!(rig.told().last().unwrap(), "a back: a health check passed");
}

#[test]
fn a_health_check_that_passes_like_those_before_it_ends_one_when_it_says_so() {
    let out = |detection| {
        let rig = rig("a b c", detection);
        rig.endpoint("a").set_health(Health::Healthy, rig.time.now());
        rig.calls("a", Failed, 5);
        rig
    };

    let on = out(plain());
    assert!(!on.handle.check_passed("b"), "it is in");
    assert!(on.handle.check_passed("a"));
    assert_eq!(on.ejected(), "");

    let off = out(plain().uneject_on_health_check(false));
    assert!(!off.handle.check_passed("a"));
    off.endpoint("a").set_health(Health::Unhealthy, off.time.now());
    off.look();
    off.endpoint("a").set_health(Health::Healthy, off.time.now());
    off.look();
    assert_eq!(off.ejected(), "a");
}
