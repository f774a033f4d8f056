use super::*;
use buttress_health::OutlierSettingsError;

fn refused(detection: &OutlierDetection) -> OutlierSettingsError {
    detection.try_follow(&Endpoints::new([]).unwrap()).map(drop).expect_err("it cannot work")
}

#[test]
fn what_cannot_work_is_refused_with_its_field_its_value_and_its_rule() {
    let default = OutlierDetection::default;
    let cases = [
        (default().consecutive_5xx(0), "consecutive_5xx", "0"),
        (default().consecutive_5xx(8001), "consecutive_5xx", "8001"),
        (default().consecutive_gateway_failure(0), "consecutive_gateway_failure", "0"),
        (default().consecutive_local_origin_failure(0), "consecutive_local_origin_failure", "0"),
        (default().interval(Duration::ZERO), "interval", "0ns"),
        (default().interval(Duration::MAX), "interval", "18446744073709551615.999999999s"),
        (default().base_ejection_time(Duration::ZERO), "base_ejection_time", "0ns"),
        (default().max_ejection_time(SECOND), "max_ejection_time", "1s"),
        (default().max_ejection_percent(0), "max_ejection_percent", "0"),
        (default().max_ejection_percent(101), "max_ejection_percent", "101"),
        (default().success_rate_minimum_hosts(0), "success_rate_minimum_hosts", "0"),
        (default().success_rate_request_volume(0), "success_rate_request_volume", "0"),
        (default().success_rate_stdev_factor(0), "success_rate_stdev_factor", "0"),
        (default().success_rate_floor(0), "success_rate_floor", "0"),
        (default().failure_percentage_threshold(0), "failure_percentage_threshold", "0"),
        (default().failure_percentage_minimum_hosts(0), "failure_percentage_minimum_hosts", "0"),
        (default().failure_percentage_request_volume(0), "failure_percentage_request_volume", "0"),
        (default().enforcing(EjectionReason::SuccessRate, 101), "enforcing", "101"),
        (default().enforcing(EjectionReason::ByHand, 0), "enforcing", "0"),
    ];
    for (detection, field, value) in cases {
        let error = refused(&detection);
        assert_eq!((error.field(), error.value()), (field, value));
        assert!(error.rule().starts_with("must be "), "{error}");
        assert!(error.to_string().contains(error.rule()), "{error}");
    }
}

#[test]
fn the_ends_of_each_range_are_accepted() {
    let endpoints = Endpoints::new(named("a b")).unwrap();
    for (least, percent, time) in [(1, 1, Duration::from_millis(1)), (8000, 100, Duration::MAX)] {
        let detection = OutlierDetection::default()
            .consecutive_5xx(least)
            .consecutive_gateway_failure(least)
            .consecutive_local_origin_failure(least)
            .interval(time.min(Duration::from_secs(24 * 3600)))
            .base_ejection_time(time)
            .max_ejection_time(time)
            .max_ejection_time_jitter(time)
            .max_ejection_percent(percent)
            .success_rate_floor(percent)
            .failure_percentage_threshold(percent);
        assert!(detection.try_follow(&endpoints).is_ok());
    }
}

#[test]
fn a_long_base_alone_is_its_own_longest() {
    let rig = rig("a b", plain().base_ejection_time(10 * MINUTE));
    rig.calls("a", Failed, 5);

    let ejected = rig.view("a").ejected.unwrap();

    assert_eq!(ejected.until - ejected.since, 10 * MINUTE);
}

#[test]
#[should_panic(
    expected = "outlier detection with `max_ejection_percent` = 0: must be between 1 and 100 percent"
)]
fn follow_panics_where_try_follow_fails() {
    let _ = OutlierDetection::default().max_ejection_percent(0).follow(&Endpoints::new([]).unwrap());
}

#[test]
fn the_defaults_are_those_of_the_table_in_the_docs() {
    let page = include_str!("../../../../docs/health-checks.md");
    let debug = format!("{:?}", OutlierDetection::default());
    let default = |field: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{field}`")));
        row.unwrap_or_else(|| panic!("{field} is not in the table"))
            .split('|')
            .nth(2)
            .unwrap()
            .trim()
            .to_owned()
    };
    for (field, shown) in [
        ("consecutive_5xx", "consecutive_5xx: {}"),
        ("consecutive_gateway_failure", "consecutive_gateway_failure: {}"),
        ("consecutive_local_origin_failure", "consecutive_local_origin_failure: {}"),
        ("interval", " interval: {}"),
        ("base_ejection_time", "base_ejection_time: {}"),
        ("max_ejection_time_jitter", "max_ejection_time_jitter: {}"),
        ("max_ejection_percent", "max_ejection_percent: {}"),
        ("success_rate_minimum_hosts", "success_rate: Volume { minimum_hosts: {},"),
        ("success_rate_request_volume", "minimum_hosts: 5, request_volume: {} }, success_rate_stdev"),
        ("success_rate_stdev_factor", "success_rate_stdev_factor: {}"),
        ("success_rate_floor", "success_rate_floor: {}"),
        ("failure_percentage_threshold", "failure_percentage_threshold: {}"),
        ("failure_percentage_minimum_hosts", "failure_percentage: Volume { minimum_hosts: {},"),
        (
            "failure_percentage_request_volume",
            "minimum_hosts: 5, request_volume: {} }, failure_percentage_thr",
        ),
    ] {
        let value = default(field).replace([' ', '%'], "");
        let expected = shown.replacen("{}", &value, 1);
        assert!(debug.contains(&expected), "{expected} in {debug}");
    }
    assert!(debug.contains("enforcing: [100, 0, 100, 100, 0, 100]"), "{debug}");
    assert!(debug.contains("max_ejection_time: None"), "{debug}");
    let rig = rig("a b", plain());
    for seconds in (1..=10).chain([10]).map(|times| times * 30) {
        rig.handle.eject("a").unwrap();
        let ejected = rig.view("a").ejected.unwrap();
        assert_eq!(ejected.until - ejected.since, seconds * SECOND);
        rig.handle.uneject("a");
    }
    assert_eq!(default("max_ejection_time"), "300 s", "or the base time");
}
