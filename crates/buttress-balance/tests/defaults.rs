//! The defaults are those of the table in `docs/balancing.md`.

use std::any::TypeId;
use std::time::Duration;

use buttress_balance::{
    Balancer, ConsistentHash, DefaultPolicy, LeastLoad, LeastLoadRules, PeakEwma, Priorities, ReplicaRules,
    Settings, SlowStart,
};
use buttress_core::{BoxError, Cause, Endpoint, ManualClock, RejectionKind};
use buttress_testkit::Task;
use tower::{ServiceExt, service_fn};

const PAGE: &str = include_str!("../../../docs/balancing.md");

/// The rows of the table: what is set, and its default.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let (_, section) = PAGE.split_once("## Behaviour, and its defaults").expect("the page has the section");
    let rows =
        section.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    })
}

/// What the table says of a setting.
fn says(setting: &str) -> &'static str {
    let row = rows().find(|row| row.0 == setting);
    row.unwrap_or_else(|| panic!("the table has no row for {setting}")).1
}

fn number(setting: &str) -> f64 {
    let says = says(setting);
    says.trim_end_matches(" %").parse().unwrap_or_else(|_| panic!("{setting}: {says} is no number"))
}

fn time(says: &str) -> Duration {
    let (number, unit) = says.split_once(' ').unwrap_or_else(|| panic!("{says} has no unit"));
    let number = number.parse().unwrap_or_else(|_| panic!("{says} is no time"));
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => panic!("{says}: a time is in ms or s"),
    }
}

/// Whether two values have the same settings, as far as these are told.
fn assert_same<T: std::fmt::Debug>(defaults: &T, documented: &T) {
    assert_eq!(format!("{defaults:?}"), format!("{documented:?}"));
}

#[test]
fn the_balancer_has_the_defaults_of_the_page() {
    assert_eq!(says("`Balancer::policy`"), "`LeastLoad::peak_ewma()`");
    assert_eq!(TypeId::of::<DefaultPolicy>(), TypeId::of::<LeastLoadRules<PeakEwma>>());
    assert_eq!(DefaultPolicy::default(), LeastLoad::peak_ewma());

    let documented = Settings::default()
        .fail_fast(time(says("`Settings::fail_fast`")))
        .drain(time(says("`Settings::drain`")))
        .slow_start(SlowStart::new(time(says("`Settings::slow_start`"))));
    assert_same(&Settings::default(), &documented);

    let told = format!("{:?}", Settings::default());
    assert_eq!(says("`Settings::bounded_load`"), "none");
    assert!(told.contains("bounded_load: None"), "{told}");
    assert_eq!(says("`Settings::max_in_flight`"), "none");
    assert!(told.contains(&format!("max_in_flight: {}", u32::MAX)), "{told}");
}

#[tokio::test]
async fn a_call_is_refused_after_the_time_of_the_page() {
    let clock = ManualClock::new();
    let endpoint = Endpoint::new("a");
    let service = service_fn(|()| async { Ok::<_, BoxError>(()) });
    let balancer =
        Balancer::new([(endpoint.clone(), service)]).settings(Settings::default().clock(clock.clock()));
    endpoint.maintain(clock.now());
    let mut call = Task::new(balancer.oneshot(()));
    assert!(call.run().is_pending());

    clock.advance(time(says("`Settings::fail_fast`")) - Duration::from_nanos(1));
    assert!(call.run().is_pending());
    clock.advance(Duration::from_nanos(1));

    let std::task::Poll::Ready(Err(error)) = call.run() else { panic!("its time is over") };
    assert_eq!(error.rejection().map(|rejection| &rejection.kind), Some(&RejectionKind::NoEndpoint));
}

#[test]
fn a_slow_start_is_that_of_the_page() {
    let documented = SlowStart::new(time(says("`Settings::slow_start`")))
        .least_percent(number("`SlowStart::least_percent`") as u8)
        .aggression(number("`SlowStart::aggression`"));
    assert_eq!(SlowStart::default(), documented);
}

#[test]
fn priorities_are_those_of_the_page() {
    assert_eq!(says("`Priorities`"), "active-passive");
    let documented = Priorities::active_passive()
        .spill_factor(number("`Priorities::spill_factor`"))
        .panic_below(number("`Priorities::panic_below`") as u8)
        .fair_part(number("`Priorities::fair_part`"));
    assert_eq!(Priorities::default(), documented);
    assert_eq!(says("`Priorities::prefer_zone`"), "none");
    assert_ne!(Priorities::default(), documented.prefer_zone("eu-1a"));
}

#[test]
fn policies_have_the_defaults_of_the_page() {
    let documented = LeastLoad::peak_ewma()
        .choices(number("`LeastLoadRules::choices`") as usize)
        .decay(time(says("`PeakEwma`: `decay`")))
        .initial(time(says("`PeakEwma`: `initial`")))
        .penalty(time(says("`PeakEwma`: `penalty`")))
        .most_penalty(time(says("`PeakEwma`: `most_penalty`")));
    assert_eq!(LeastLoad::peak_ewma(), documented);

    let quantile = LeastLoad::hot_cold().quantile(number("`HotCold::quantile`"));
    assert_eq!(LeastLoad::hot_cold(), quantile);

    let reported = LeastLoad::reported()
        .blackout(time(says("`ReportedRules::blackout`")))
        .expiry(time(says("`ReportedRules::expiry`")))
        .update(time(says("`ReportedRules::update`")))
        .error_penalty(number("`ReportedRules::error_penalty`"));
    assert_eq!(LeastLoad::reported(), reported);

    let nodes = ["a", "b", "c"].map(buttress_balance::Node::new);
    let ring = ConsistentHash::ring().build(&nodes).expect("three make a ring");
    assert_eq!(ring.points(), nodes.len() * number("`RingRules::points`") as usize);
    let slots = ConsistentHash::maglev().slots(number("`MaglevRules::slots`") as u32);
    assert_eq!(ConsistentHash::maglev(), slots);
}

#[cfg(feature = "http")]
#[tokio::test]
async fn the_cookie_of_a_session_is_that_of_the_page() {
    use buttress_balance::{Members, StickyLayer};
    use buttress_core::Endpoints;
    use http::{Request, Response};
    use tower::ServiceBuilder;

    let endpoints = Endpoints::new([Endpoint::new("a")]).expect("one has one name");
    let layer = StickyLayer::cookie("SERVERID").key([1; 32]).over(&endpoints);
    let service = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    let balancer = Balancer::new(Members::new(endpoints, move |_| service));
    let site = ServiceBuilder::new().layer(layer).service(balancer);

    let answer = site.oneshot(Request::new(())).await.expect("it is served");

    let cookie = answer.headers()["set-cookie"].to_str().expect("it is text");
    let mut attributes: Vec<&str> = cookie.split("; ").skip(1).collect();
    let mut documented: Vec<&str> = says("`StickyLayer`: cookie").trim_matches('`').split("; ").collect();
    attributes.sort_unstable();
    documented.sort_unstable();
    assert_eq!(attributes, documented);
}

#[cfg(feature = "http")]
#[test]
fn a_mirror_has_the_defaults_of_the_page() {
    use buttress_balance::{MirrorLayer, MirroredBody};
    use http::{Request, Response};
    use http_body_util::Empty;

    let mirror = || {
        let answer =
            |_: Request<MirroredBody>| async { Ok::<_, BoxError>(Response::new(Empty::<&[u8]>::new())) };
        MirrorLayer::new(service_fn(answer))
    };
    let limit = says("`MirrorLayer::body_limit`").strip_suffix(" KiB").and_then(|limit| limit.parse().ok());
    let documented = mirror()
        .in_flight(number("`MirrorLayer::in_flight`") as usize)
        .body_limit(limit.map(|kib: usize| kib << 10).expect("a limit in KiB"))
        .timeout(time(says("`MirrorLayer::timeout`")));
    assert_same(&mirror(), &documented);
}

#[test]
fn replicas_have_the_defaults_of_the_page() {
    let documented = ReplicaRules::default()
        .lag_bound(time(says("`ReplicaRules::lag_bound`")))
        .margin(time(says("`ReplicaRules::margin`")));
    assert_eq!(ReplicaRules::default(), documented);
}

#[cfg(feature = "dns")]
#[test]
fn names_live_as_long_as_the_page_says() {
    use buttress_balance::discover::Dns;

    let (least, most) = says("`Dns::ttl`").split_once(" to ").expect("from one to another");
    let dns = Dns::addresses("web.example.", 80).expect("it is a name");
    assert_same(&dns, &dns.clone().ttl(time(least)..=time(most)));
}

#[cfg(feature = "file")]
#[test]
fn files_are_looked_at_as_often_as_the_page_says() {
    use buttress_balance::discover::File;

    let file = File::new("endpoints.toml").expect("the format is known");
    assert_same(&file, &file.clone().every(time(says("`File::every`"))));
}

/// Each row is asked for by a test of this file.
#[test]
fn no_row_of_the_page_is_left_out() {
    let tests = include_str!("defaults.rs");
    let mut count = 0;
    for (setting, _) in rows() {
        assert!(tests.contains(&format!("(\"{setting}\")")), "{setting} is not tested");
        count += 1;
    }
    assert!(count > 20, "the table has {count} rows");
}
