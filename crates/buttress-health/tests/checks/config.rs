//! Settings that cannot work are refused when the checker is made, with the field, the value and the rule.

use std::time::Duration;

use buttress_health::{CheckError, HealthCheck};

use super::{endpoints, ms, secs};

fn refused<P>(check: HealthCheck<P>) -> String {
    let error: CheckError = check.run(&endpoints(["a"])).expect_err("it cannot work");
    assert!(!error.field().is_empty() && !error.value().is_empty() && !error.rule().is_empty());
    error.to_string()
}

#[test]
fn the_defaults_are_those_of_the_page() {
    let rules = HealthCheck::tcp().rules().unwrap();

    assert_eq!(rules.interval(), secs(5));
    assert_eq!(rules.timeout(), secs(1));
    assert_eq!(rules.detection_bound(), secs(10));
}

#[test]
fn the_defaults_are_those_of_the_table_in_the_docs() {
    let page = include_str!("../../../../docs/health-checks.md");
    let rules = format!("{:?}", HealthCheck::tcp().rules().unwrap());
    let row = |setting: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{setting}(..)`")));
        let row = row.unwrap_or_else(|| panic!("{setting} is not in the table"));
        row.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };

    for (setting, field) in [
        ("interval", " interval: {},"),
        ("timeout", "timeout: {},"),
        ("unhealthy_threshold", "fails: {},"),
        ("healthy_threshold", "passes: {},"),
        ("fast_interval", "fast: {},"),
        ("down_interval", " down: {},"),
        ("no_traffic_interval", "no_traffic: {},"),
        ("initial_jitter", "initial_jitter: {},"),
        ("max_concurrent_probes", "most_probes: {} "),
    ] {
        let expected = field.replacen("{}", &row(setting)[2], 1);
        assert!(rules.contains(&expected), "{expected} in {rules}");
    }
    assert_eq!(row("interval_jitter")[2], "10%");
    assert!(rules.contains("jitter_ppm: 100000,"), "{rules}");
    assert!(row("down_interval")[3].contains("30s") && rules.contains("longest_down: 30s,"), "{rules}");
}

#[test]
fn what_was_not_said_follows_a_short_interval() {
    let rules = HealthCheck::tcp().interval(ms(100)).rules().unwrap();

    assert_eq!(rules.timeout(), ms(100));
    assert_eq!(rules.detection_bound(), ms(100 + 2 * 100 + 3 * 100));
}

#[test]
fn times_that_do_not_fit_together_are_refused() {
    let tcp = HealthCheck::tcp;

    assert_eq!(
        refused(tcp().timeout(secs(6))),
        "health check with `timeout` = 6s: must not be longer than the interval"
    );
    assert_eq!(
        refused(tcp().fast_interval(secs(6))),
        "health check with `fast_interval` = 6s: must not be longer than the interval"
    );
    assert_eq!(
        refused(tcp().down_interval(secs(10), secs(9))),
        "health check with `longest_down_interval` = 9s: must not be shorter than the down interval that grows up to it"
    );
    assert_eq!(
        refused(tcp().no_traffic_interval(secs(4))),
        "health check with `no_traffic_interval` = 4s: must not be shorter than the interval"
    );
    for zero in [
        tcp().interval(Duration::ZERO),
        tcp().timeout(Duration::ZERO),
        tcp().fast_interval(Duration::ZERO),
        tcp().down_interval(Duration::ZERO, secs(1)),
    ] {
        assert!(refused(zero).ends_with("= 0ns: must be 1 ms at least"));
    }
}

#[test]
fn counts_and_shares_that_cannot_be_are_refused() {
    let tcp = HealthCheck::tcp;

    assert_eq!(
        refused(tcp().unhealthy_threshold(0)),
        "health check with `unhealthy_threshold` = 0: must be from 1 to 1000"
    );
    assert_eq!(
        refused(tcp().healthy_threshold(1_001)),
        "health check with `healthy_threshold` = 1001: must be from 1 to 1000"
    );
    assert_eq!(
        refused(tcp().max_concurrent_probes(0)),
        "health check with `max_concurrent_probes` = 0: must be 1 at least"
    );
    for share in [-0.1, 0.6, f64::NAN, f64::INFINITY] {
        assert!(refused(tcp().interval_jitter(share)).contains("`interval_jitter`"), "{share}");
    }
}

#[test]
fn the_longest_times_are_settings_like_others() {
    let rules = HealthCheck::tcp().interval(Duration::MAX).timeout(Duration::MAX).rules().unwrap();

    assert_eq!(rules.detection_bound(), Duration::MAX);
}

#[test]
fn bytes_that_are_never_read_cannot_be_expected() {
    assert!(refused(HealthCheck::tcp().expect(vec![b'x'; 16 * 1024 + 1])).contains("`expect` = 16385"));
}

#[cfg(feature = "probe-http")]
#[test]
fn pages_fields_and_statuses_that_cannot_be_are_refused() {
    assert_eq!(
        refused(HealthCheck::http("healthz")),
        "health check with `path` = \"healthz\": must be a path with a slash in front, as in `/healthz`"
    );
    assert!(refused(HealthCheck::http("http://a/healthz")).contains("`path`"));
    assert!(refused(HealthCheck::http("/a b")).contains("`path`"));
    assert!(refused(HealthCheck::http("/").header("a b", "c")).contains("`header` = \"a b\""));
    assert!(refused(HealthCheck::http("/").header("a", "c\n")).contains("`header` = \"c\\n\""));
    assert!(refused(HealthCheck::http("/").host("a\n")).contains("`host`"));
    #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
    let reversed = 299..=200;
    assert!(refused(HealthCheck::http("/").expected(reversed)).contains("`expected` = 299..=200"));
    assert!(refused(HealthCheck::http("/").retriable(0..=99)).contains("`retriable` = 0..=99"));
}

#[cfg(feature = "probe-grpc")]
#[test]
fn a_service_name_that_is_longer_than_a_message_is_refused() {
    assert!(refused(HealthCheck::grpc("x".repeat(4 * 1024 + 1))).contains("`service` = 4097"));
}
