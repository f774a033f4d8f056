//! What clients read of their limits, in each set of fields.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{ManualClock, Quota, Reject, Rejection, RejectionKind, Timestamp};
use buttress_http::reject::{self, Fields, Form, Respond};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use proptest::prelude::*;
use sfv::{BareItem, Item, List, ListEntry, Parser};

type Reply = Response<Full<Bytes>>;

const MOST: u64 = 999_999_999_999_999;

/// 2026-01-01T00:00:00Z, where a manual clock starts.
const NEW_YEAR: u64 = 1_767_225_600;

fn annotate(respond: &Respond, response: &mut Reply, quotas: &[Quota]) {
    let form = Form::of(&Request::new(()));
    Reject::<Request<()>, _, Infallible>::annotate(respond, form, response, quotas);
}

fn annotated(respond: &Respond, quotas: &[Quota]) -> HeaderMap {
    let mut response = Reply::default();
    annotate(respond, &mut response, quotas);
    response.headers().clone()
}

fn with(fields: Fields) -> Respond {
    reject::respond().fields(fields).clock(ManualClock::new().clock())
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// The three fields of an older set, and that there are no others.
fn triple(headers: &HeaderMap, prefix: &str) -> [u64; 3] {
    assert_eq!(headers.len(), 3, "{headers:?}");
    ["limit", "remaining", "reset"].map(|name| {
        let item: Item = Parser::new(field(headers, &format!("{prefix}-{name}")).unwrap()).parse().unwrap();
        assert!(item.params.is_empty());
        i64::from(item.bare_item.as_integer().unwrap()) as u64
    })
}

fn items(headers: &HeaderMap, name: &str) -> Vec<(String, Vec<(String, u64)>)> {
    let list: List = Parser::new(field(headers, name).unwrap()).parse().unwrap();
    list.into_iter()
        .map(|entry| {
            let ListEntry::Item(item) = entry else { panic!("inner list") };
            let BareItem::String(name) = item.bare_item else { panic!("not a string") };
            let number = |value: BareItem| i64::from(value.as_integer().unwrap()) as u64;
            let params = item.params.into_iter().map(|(key, value)| (key.into(), number(value))).collect();
            (name.into(), params)
        })
        .collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A limit that is half used, and one that is used up.
fn two() -> [Quota; 2] {
    [
        Quota::new("burst", 100, 50, Duration::from_millis(29_001), secs(60)),
        Quota::new("daily", 1000, 0, secs(3600), secs(86400)),
    ]
}

#[test]
fn draft_11_tells_all_limits_in_two_lists() {
    let headers = annotated(&reject::respond(), &two());

    assert_eq!(headers.len(), 2);
    assert_eq!(field(&headers, "ratelimit"), Some(r#""burst";r=50;t=30, "daily";r=0;t=3600"#));
    let policy = field(&headers, "ratelimit-policy");
    assert_eq!(policy, Some(r#""burst";q=100;w=60, "daily";q=1000;w=86400"#));
    assert_eq!(annotated(&with(Fields::IetfDraft11), &two()), headers, "it is the default");
}

#[test]
fn names_are_escaped_and_what_is_not_ascii_is_replaced() {
    let headers = annotated(&reject::respond(), &[Quota::new(r#"a "\" für\n"#, 1, 1, secs(0), secs(1))]);

    assert_eq!(field(&headers, "ratelimit"), Some(r#""a \"\\\" f?r\\n";r=1;t=0"#));
}

#[test]
fn a_layer_adds_its_limits_to_those_that_are_there() {
    let quota = |name| Quota::new(name, 1, 1, Duration::ZERO, secs(1));
    let mut response = Reply::default();

    annotate(&reject::respond(), &mut response, &[quota("inner")]);
    annotate(&reject::respond(), &mut response, &[quota("outer")]);

    let lines: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    assert_eq!(lines, [r#""inner";r=1;t=0"#, r#""outer";r=1;t=0"#]);
}

#[test]
fn draft_06_tells_the_narrowest_limit_in_three_fields() {
    let headers = annotated(&with(Fields::IetfDraft06), &two());
    assert_eq!(triple(&headers, "ratelimit"), [1000, 0, 3600]);

    let headers = annotated(&with(Fields::IetfDraft06), &two()[..1]);
    assert_eq!(triple(&headers, "ratelimit"), [100, 50, 30]);
}

#[test]
fn x_ratelimit_reset_is_seconds_from_now_or_a_date_as_chosen() {
    let time = ManualClock::new();
    let respond = reject::respond().clock(time.clock());
    time.advance(Duration::from_millis(1500));

    let delta = annotated(&respond.clone().fields(Fields::XRateLimitDelta), &two()[..1]);
    let epoch = annotated(&respond.fields(Fields::XRateLimitEpoch), &two()[..1]);

    assert_eq!(triple(&delta, "x-ratelimit"), [100, 50, 30]);
    // 1.5 s and 29.001 s later, rounded up.
    assert_eq!(triple(&epoch, "x-ratelimit"), [100, 50, NEW_YEAR + 31]);
}

#[test]
fn the_date_is_that_of_the_default_clock() {
    let time = ManualClock::new();
    let respond = buttress_core::Clock::with_default(time.clock(), reject::respond);

    let headers = annotated(&respond.fields(Fields::XRateLimitEpoch), &two());

    assert_eq!(triple(&headers, "x-ratelimit"), [1000, 0, NEW_YEAR + 3600]);
}

#[test]
fn a_date_beyond_all_dates_is_the_greatest_number() {
    let time = ManualClock::new();
    time.set(Timestamp::MAX);
    let quota = Quota::new("burst", u64::MAX, u64::MAX, Duration::MAX, Duration::MAX);

    let respond = reject::respond().fields(Fields::XRateLimitEpoch).clock(time.clock());

    assert_eq!(triple(&annotated(&respond, &[quota]), "x-ratelimit"), [MOST, MOST, MOST]);
}

#[test]
fn of_limits_that_leave_as_little_the_one_that_takes_longest_is_told() {
    let quotas = [1, 3, 2].map(|reset| Quota::new("same", reset * 10, 0, secs(reset), secs(60)));

    let headers = annotated(&with(Fields::XRateLimitDelta), &quotas);

    assert_eq!(triple(&headers, "x-ratelimit"), [30, 0, 3]);
}

#[test]
fn three_fields_that_are_there_stay_unless_ours_leave_less() {
    let quota = |left| [Quota::new("api", 10, left, secs(left), secs(60))];
    for (first, second, told) in [(3, 5, 3), (5, 3, 3), (5, 5, 5)] {
        for (fields, prefix) in [(Fields::IetfDraft06, "ratelimit"), (Fields::XRateLimitDelta, "x-ratelimit")]
        {
            let mut response = Reply::default();

            annotate(&with(fields), &mut response, &quota(first));
            annotate(&with(fields), &mut response, &quota(second));

            assert_eq!(triple(response.headers(), prefix), [10, told, told]);
        }
    }
}

#[test]
fn three_fields_that_make_no_sense_are_replaced() {
    let mut response = Reply::default();
    response.headers_mut().insert("ratelimit-limit", "10, 10;w=1".parse().unwrap());
    response.headers_mut().insert("ratelimit-remaining", "none".parse().unwrap());

    annotate(&with(Fields::IetfDraft06), &mut response, &two());

    assert_eq!(triple(response.headers(), "ratelimit"), [1000, 0, 3600]);
}

#[test]
fn several_sets_stand_side_by_side() {
    let respond =
        with(Fields::IetfDraft06).and_fields(Fields::XRateLimitEpoch).and_fields(Fields::IetfDraft11);

    let mut names: Vec<_> = annotated(&respond, &two()).keys().map(ToString::to_string).collect();

    names.sort();
    assert_eq!(
        names,
        [
            "ratelimit",
            "ratelimit-limit",
            "ratelimit-policy",
            "ratelimit-remaining",
            "ratelimit-reset",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ]
    );
}

#[test]
fn choosing_anew_forgets_the_sets_chosen_before() {
    let respond =
        with(Fields::XRateLimitEpoch).and_fields(Fields::IetfDraft06).fields(Fields::XRateLimitDelta);

    assert_eq!(triple(&annotated(&respond, &two()), "x-ratelimit"), [1000, 0, 3600]);
}

#[test]
#[should_panic(expected = "choose `XRateLimitDelta` or `XRateLimitEpoch`")]
fn a_reset_in_seconds_and_as_a_date_at_once_is_refused() {
    let _ = with(Fields::XRateLimitDelta).and_fields(Fields::XRateLimitEpoch);
}

#[test]
#[should_panic(expected = "choose `XRateLimitDelta` or `XRateLimitEpoch`")]
fn a_reset_as_a_date_and_in_seconds_at_once_is_refused() {
    let _ = with(Fields::XRateLimitEpoch).and_fields(Fields::XRateLimitDelta);
}

#[test]
fn without_fields_or_limits_nothing_is_added() {
    let all = reject::respond().and_fields(Fields::IetfDraft06).and_fields(Fields::XRateLimitEpoch);

    assert!(annotated(&with(Fields::None), &two()).is_empty());
    assert!(annotated(&all, &[]).is_empty());
}

#[test]
fn each_set_costs_one_allocation_where_the_map_has_room() {
    let sets = [Fields::IetfDraft11, Fields::IetfDraft06, Fields::XRateLimitDelta, Fields::XRateLimitEpoch];
    for fields in sets {
        let respond = with(fields);
        let quotas = two();
        annotated(&respond, &quotas);
        let mut response = Reply::default();
        response.headers_mut().reserve(16);

        let allocations = buttress_testkit::allocations(|| annotate(&respond, &mut response, &quotas));

        assert_eq!(allocations, 1, "{fields:?}");
    }
}

#[test]
fn limits_that_change_are_told_as_they_are() {
    let respond = reject::respond();
    let told = |name: &'static str, limit, window| {
        let headers = annotated(&respond, &[Quota::new(name, limit, 1, secs(1), secs(window))]);
        assert_eq!(items(&headers, "ratelimit")[0].0, name);
        items(&headers, "ratelimit-policy")
    };
    let expected = |name: &str, limit, window| {
        vec![(name.to_owned(), vec![("q".to_owned(), limit), ("w".to_owned(), window)])]
    };

    for turn in 0..3 {
        for name in ["free", "pro"] {
            for limit in 1..10 {
                assert_eq!(told(name, limit, 60 + turn), expected(name, limit, 60 + turn));
            }
        }
    }
}

#[test]
fn many_limits_fit_too() {
    let quotas: Vec<_> =
        (0..100).map(|at| Quota::new(format!("limit {at}"), at, at, secs(at), secs(at))).collect();

    let headers = annotated(&reject::respond(), &quotas);

    let params = |at: u64, [a, b]: [&str; 2]| vec![(a.to_owned(), at), (b.to_owned(), at)];
    for (at, (name, told)) in (0..).zip(items(&headers, "ratelimit")) {
        assert_eq!((name, told), (format!("limit {at}"), params(at, ["r", "t"])));
    }
    let policies = items(&headers, "ratelimit-policy");
    assert_eq!(policies.len(), 100);
    assert_eq!(policies[99], ("limit 99".to_owned(), params(99, ["q", "w"])));
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<Duration>(),
        (0..10_000_000_000_u64).prop_map(Duration::from_nanos),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), r#"[ -~]{0,80}"#, "[a-z]{300}"]
}

prop_compose! {
    fn any_quota()(
        name in any_name(),
        limit in any::<u64>(),
        remaining in prop_oneof![any::<u64>(), 0..3_u64],
        reset in any_duration(),
        window in any_duration(),
    ) -> Quota {
        Quota::new(name, limit, remaining, reset, window)
    }
}

/// `duration` in seconds, rounded up, as far as a field can tell.
fn seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).min(MOST)
}

/// `name` as far as a field can tell it.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

proptest! {
    #[test]
    fn each_list_is_a_structured_field_that_says_what_the_limits_are(
        quotas in prop::collection::vec(any_quota(), 1..6)
    ) {
        let headers = annotated(&reject::respond(), &quotas);

        let expected = |params: fn(&Quota) -> [(&'static str, u64); 2]| -> Vec<_> {
            let owned = |(key, number): (&str, u64)| (key.to_owned(), number);
            quotas.iter().map(|quota| (printable(&quota.name), params(quota).map(owned).to_vec())).collect()
        };
        let left = expected(|quota| [("r", quota.remaining.min(MOST)), ("t", seconds(quota.reset))]);
        let policy = expected(|quota| [("q", quota.limit.min(MOST)), ("w", seconds(quota.window).max(1))]);
        prop_assert_eq!(items(&headers, "ratelimit"), left);
        prop_assert_eq!(items(&headers, "ratelimit-policy"), policy);
    }

    #[test]
    fn each_triple_is_three_numbers_of_one_limit(quotas in prop::collection::vec(any_quota(), 1..6)) {
        let narrowest = quotas.iter().min_by_key(|quota| (quota.remaining, std::cmp::Reverse(quota.reset))).unwrap();
        let told = |reset| [narrowest.limit.min(MOST), narrowest.remaining.min(MOST), reset];
        let delta = seconds(narrowest.reset);
        let epoch = delta.saturating_add(NEW_YEAR).min(MOST);

        for (fields, prefix, reset) in [
            (Fields::IetfDraft06, "ratelimit", delta),
            (Fields::XRateLimitDelta, "x-ratelimit", delta),
            (Fields::XRateLimitEpoch, "x-ratelimit", epoch),
        ] {
            prop_assert_eq!(triple(&annotated(&with(fields), &quotas), prefix), told(reset));
        }
    }

    /// "The value of Retry-After SHOULD NOT be earlier than t."
    #[test]
    fn retry_after_is_never_earlier_than_the_fields_say(wait in any_duration(), earlier in any_duration()) {
        let reset = wait.saturating_sub(earlier);
        let rejection = Rejection::new(RejectionKind::RateLimited).with_retry_after(wait);
        let respond = with(Fields::IetfDraft11).and_fields(Fields::IetfDraft06).and_fields(Fields::XRateLimitDelta);
        let form = Form::of(&Request::new(()));
        let Ok::<Reply, Infallible>(mut reply) = Reject::<Request<()>, _, _>::reject(&respond, form, rejection);

        annotate(&respond, &mut reply, &[Quota::new("api", 1, 0, reset, secs(60))]);

        let headers = reply.headers();
        let number = |name| field(headers, name).unwrap().parse::<u64>().unwrap();
        let retry_after = number("retry-after");
        prop_assert!(retry_after >= items(headers, "ratelimit")[0].1[1].1);
        prop_assert!(retry_after >= number("ratelimit-reset"));
        prop_assert!(retry_after >= number("x-ratelimit-reset"));
        if earlier.is_zero() && wait > Duration::ZERO && retry_after < MOST {
            prop_assert_eq!(retry_after, number("ratelimit-reset"));
        }
    }
}
