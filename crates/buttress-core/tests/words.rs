//! Keys, rejections, causes, outcomes and facts.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{
    AtHead, BoxError, ByCause, Cause, Classify, Clock, Costed, Decided, End, EndpointId, ErrIsFailure, Error,
    Facts, Fail, Finish, FromRejection, Global, Guard, HasFacts, HashSink, Key, KeyPart, LiftErrors,
    LoadReport, ManualClock, MaybeSent, Name, NothingSent, OnCall, Outcome, OutcomeKind, Reject, Rejection,
    RejectionKind, Sleep, Strict, Timestamp, Trail, Verdict, reject,
};
use proptest::prelude::*;

fn hash(part: impl KeyPart) -> u64 {
    let mut sink = HashSink::new();
    part.write(&mut sink);
    sink.finish()
}

fn bytes(part: impl KeyPart) -> Vec<u8> {
    let mut sink = Vec::new();
    part.write(&mut sink);
    sink
}

fn limited() -> Rejection {
    Rejection::new(RejectionKind::RateLimited).with_policy("burst").with_retry_after(Duration::from_secs(2))
}

#[test]
fn parts_are_kept_apart() {
    assert_ne!(hash(("a", "bc")), hash(("ab", "c")));
    assert_ne!(bytes(("a", "bc")), bytes(("ab", "c")));
    assert_ne!(hash(("", "a")), hash("a"));
    assert_ne!(hash((None::<u8>, 1u8)), hash((Some(1u8), 0u8)));
}

#[test]
fn an_address_is_the_same_key_in_every_type_that_holds_it_and_no_number_is() {
    let ip: IpAddr = "192.0.2.7".parse().unwrap();
    let IpAddr::V4(v4) = ip else { unreachable!() };

    assert_eq!(hash(ip), hash(v4));
    assert_ne!(hash(ip), hash(v4.to_ipv6_mapped()));
    assert_ne!(hash(ip), hash(u64::from(v4.to_bits())));
    assert_ne!(hash(ip), hash(std::net::SocketAddr::new(ip, 0)));
}

#[test]
fn the_same_text_is_the_same_key_in_every_type_that_holds_it() {
    let all = [
        bytes("k"),
        bytes(String::from("k")),
        bytes(Arc::<str>::from("k")),
        bytes(Box::<str>::from("k")),
        bytes(Name::from("k")),
        bytes(http::HeaderValue::from_static("k")),
        bytes(bytes::Bytes::from_static(b"k")),
    ];
    assert!(all.iter().all(|key| *key == all[0]));
}

#[test]
fn a_closure_a_pair_and_a_cost_make_a_key() {
    let tenant = |req: &http::Request<()>| req.headers().get("x-tenant").cloned();
    let key = Costed::new((tenant, Global), |req: &http::Request<()>| req.uri().path().len() as u32);
    let with = http::Request::builder().uri("/four").header("x-tenant", "t").body(()).unwrap();
    let without = http::Request::builder().uri("/").body(()).unwrap();

    assert!(key.key(&with, &mut HashSink::new()));
    assert!(!key.key(&without, &mut HashSink::new()), "a pair with a missing part is missing");
    assert_eq!((key.cost(&with), key.cost(&without)), (5, 1));
    assert_eq!(Key::<http::Request<()>>::cost(&Global, &with), 1);
}

#[test]
fn a_tuple_costs_what_its_dearest_part_asks() {
    let costing = |cost: u32| Costed::new(Global, move |&(): &()| cost);

    assert_eq!((Global, costing(5)).cost(&()), 5);
    assert_eq!((costing(5), Global).cost(&()), 5);
    assert_eq!((costing(3), costing(7), costing(4)).cost(&()), 7);
    assert_eq!((Global, (Global, costing(5)), Global, Global).cost(&()), 5);
    assert_eq!((Global, costing(0)).cost(&()), 0, "a part without a cost does not make it dearer");
    assert_eq!((costing(0), costing(2)).cost(&()), 2);
    assert_eq!((Global, Global).cost(&()), 1);
}

proptest! {
    #[test]
    fn the_bytes_of_a_key_tell_its_parts(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>, d: Vec<u8>) {
        let same = (&a, &b) == (&c, &d);
        prop_assert_eq!(bytes((&a, &b)) == bytes((&c, &d)), same);
        prop_assert_eq!(hash((&a, &b)) == hash((&c, &d)), same);
        prop_assert_eq!(hash((&a, &b)), hash((a, b)));
    }

    #[test]
    fn different_numbers_are_different_keys(a: u64, b: u64, c: u128, d: u128) {
        prop_assert_eq!(hash(a) == hash(b), a == b);
        prop_assert_eq!(hash(c) == hash(d), c == d);
        prop_assert_ne!(hash(a), hash(u128::from(a)));
    }
}

#[test]
fn a_rejection_says_what_refused_and_when_to_come_back() {
    assert_eq!(limited().to_string(), "rate limited by `burst`, retry after 2s");
    assert_eq!(Rejection::new(RejectionKind::NoEndpoint).with_elsewhere().to_string(), "no endpoint");
    let several = limited().with_also("hourly").with_also(String::from("daily"));
    assert_eq!(several.to_string(), "rate limited by `burst` and `hourly` and `daily`, retry after 2s");
}

#[test]
fn a_rejection_names_all_policies_that_refused_the_binding_one_first() {
    let none = Rejection::new(RejectionKind::Overloaded);
    let several = limited().with_also("hourly").with_also("daily");

    assert_eq!(none.policies().count(), 0);
    assert!(several.policies().eq(&[Name::from("burst"), Name::from("hourly"), Name::from("daily")]));
}

#[test]
fn fail_refuses_with_an_error_that_carries_the_rejection() {
    let refused: Result<(), BoxError> = Reject::<u8, _, _>::reject(&Fail, (), limited());
    assert_eq!(refused.unwrap_err().rejection(), Some(&limited()));

    let refused: Result<(), Error<Infallible>> = Reject::<(), _, _>::reject(&Fail, (), limited());
    assert_eq!(refused.unwrap_err(), Error::Rejected(limited()));

    let answer = reject::with(|rejection: Rejection| Ok::<_, Infallible>(rejection.kind));
    let refused: Result<RejectionKind, Infallible> = Reject::<(), _, _>::reject(&answer, (), limited());
    assert_eq!(refused, Ok(RejectionKind::RateLimited));
}

#[test]
fn a_rejection_is_found_however_deep_it_lies() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    let direct = BoxError::from_rejection(limited());
    let nested: BoxError = Box::new(Outer(Box::new(Error::<std::io::Error>::Rejected(limited()))));
    let lifted = Error::Inner(Outer(Box::new(limited())));

    assert_eq!(direct.rejection(), Some(&limited()));
    assert_eq!(nested.rejection(), Some(&limited()));
    assert_eq!(lifted.rejection(), Some(&limited()));
    assert_eq!(Error::Inner(std::io::Error::other("no")).rejection(), None);
    assert!(lifted.source().is_some_and(|source| source.is::<Outer>()), "the source is the error itself");
}

#[test]
fn only_the_mark_says_that_nothing_was_sent() {
    let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let marked: BoxError = Box::new(NothingSent::new(refused()));
    assert!(marked.nothing_sent());
    assert!(Error::Inner(NothingSent::new("no route")).nothing_sent());
    assert!(!refused().nothing_sent(), "a service may have met it half way through its own work");
    assert!(NothingSent::new(refused()).into_inner().is::<std::io::Error>());
    let unsure = MaybeSent::new(NothingSent::new("the second hop was refused"));
    assert_eq!(unsure.to_string(), "nothing was sent: the second hop was refused");
    assert!(!BoxError::from(unsure).nothing_sent(), "an exchange before it may have been carried out");
    assert!(MaybeSent::new(NothingSent::new("no route")).into_inner().nothing_sent());
}

#[test]
fn what_was_sent_before_takes_the_proof_out_of_an_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Rejection);

    let unprocessed = |error: &BoxError| Outcome::of_error(error).unprocessed;

    let unsent: BoxError = Box::new(NothingSent::new("no route"));
    assert!(unsent.nothing_sent() && unprocessed(&unsent));
    let unsure = unsent.maybe_sent();
    assert!(!unsure.nothing_sent() && !unprocessed(&unsure));
    assert_eq!(unsure.to_string(), "nothing was sent: no route", "the words stay");

    // A refusal stays one, wherever it lies; it is that of the last attempt alone.
    let refused: BoxError = Box::new(limited());
    let nested: BoxError = Box::new(Outer(limited()));
    for error in [refused, nested] {
        assert!(unprocessed(&error));
        let unsure = error.maybe_sent();
        assert_eq!(unsure.rejection().unwrap().kind, RejectionKind::RateLimited);
        assert!(!unprocessed(&unsure));
    }
    assert!(limited().maybe_sent().maybe_sent);
    let lifted: Error<std::io::Error> = Error::Rejected(limited()).maybe_sent();
    assert!(!Outcome::of_error(&lifted).unprocessed);
    assert!(!Outcome::of_rejection(&limited().with_maybe_sent()).unprocessed);
}

#[test]
fn a_cycle_of_causes_ends_the_search() {
    #[derive(Debug)]
    struct Cycle;
    impl std::fmt::Display for Cycle {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cycle")
        }
    }
    impl std::error::Error for Cycle {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&Self)
        }
    }

    let error: BoxError = Box::new(Cycle);
    assert_eq!((error.rejection(), error.nothing_sent()), (None, false));
}

#[test]
fn by_default_an_error_is_a_failure_and_the_end_of_the_body_is_judged_by_how_it_came() {
    let classify = |result: Result<&(), &()>| ErrIsFailure.classify(result);
    assert_eq!(classify(Ok(&())), Verdict::Now(Outcome::success()));
    assert_eq!(classify(Err(&())), Verdict::Now(Outcome::failure()));

    let at_end = |end: &End<'_>| Classify::<(), ()>::at_end(&ErrIsFailure, end).kind;
    assert_eq!(at_end(&End::Head), OutcomeKind::Success);
    assert_eq!(at_end(&End::Complete { trailers: None }), OutcomeKind::Success);
    assert_eq!(at_end(&End::Aborted), OutcomeKind::Ignored);
    assert_eq!(at_end(&End::Failed), OutcomeKind::Failure);
}

#[test]
fn judged_by_cause_a_refusal_further_down_is_not_the_services_failure_but_a_timeout_is() {
    let of = |error: BoxError| {
        let Verdict::Now(outcome) = Classify::<(), _>::classify(&ByCause, Err(&error)) else {
            unreachable!()
        };
        outcome
    };
    assert_eq!(of(Box::new(limited())), Outcome::rejected(limited()));
    assert_eq!(of(Box::new(Rejection::new(RejectionKind::Timeout))), Outcome::failure());
    assert_eq!(of("out of paper".into()), Outcome::failure());
    assert_eq!(of(Box::new(NothingSent::new("refused"))), Outcome::failure().with_unprocessed());
    assert_eq!(Classify::<(), BoxError>::classify(&ByCause, Ok(&())), Verdict::Now(Outcome::success()));
}

#[test]
fn a_closure_is_a_classifier() {
    let odd = |result: Result<&u32, &()>| match result {
        Ok(n) if n % 2 == 1 => Outcome::success(),
        _ => Outcome::soft().with_unprocessed(),
    };
    assert_eq!(odd.classify(Ok(&1)), Verdict::Now(Outcome::success()));
    let Verdict::Now(outcome) = odd.classify(Err(&())) else { unreachable!() };
    assert!(outcome.unprocessed && outcome.kind == OutcomeKind::Soft);
}

#[test]
fn an_outcome_of_our_own_rejection_is_unprocessed_and_keeps_the_wait() {
    let outcome = Outcome::rejected(limited());
    assert_eq!(outcome.retry_after, Some(Duration::from_secs(2)));
    assert!(outcome.unprocessed);
    assert_eq!(outcome.kind, OutcomeKind::Rejected(limited()));
}

#[test]
fn an_outcome_of_a_cost_above_the_limit_or_of_a_key_without_a_shard_is_not_to_be_retried() {
    assert!(Outcome::rejected(Rejection::new(RejectionKind::CostTooHigh)).no_retry);
    assert!(Outcome::rejected(Rejection::new(RejectionKind::NoShard)).no_retry);
    assert!(!Outcome::rejected(limited()).no_retry);
    assert!(!Outcome::failure().no_retry && Outcome::failure().with_no_retry().no_retry);
}

#[test]
fn an_outcome_of_a_refusal_while_the_service_worked_is_not_unprocessed() {
    for kind in [RejectionKind::Timeout, RejectionKind::DeadlineExceeded, RejectionKind::Collapsed] {
        assert!(!Outcome::rejected(Rejection::new(kind)).unprocessed, "{kind}");
    }
}

#[test]
fn at_the_head_the_guard_is_told_once_and_the_response_left_alone() {
    struct Told<'a>(&'a RefCell<Vec<&'static str>>);
    impl Guard for Told<'_> {
        fn end(&mut self, end: &End<'_>) {
            assert_eq!(*end, End::Head);
            self.0.borrow_mut().push("end");
        }
    }
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("drop");
        }
    }

    let log = RefCell::new(Vec::new());
    let response = Finish::<(), u32, Told<'_>>::finish(&AtHead, (), 7, Told(&log));
    assert_eq!((response, log.into_inner()), (7, vec!["end", "drop"]));
}

#[test]
fn a_report_of_load_has_sound_numbers_whatever_it_is_given() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        let report = LoadReport::new().with_cpu(bad).with_application(bad).with_rate(bad).with_errors(bad);
        assert_eq!(report, LoadReport::new());
    }
    let report = LoadReport::new().with_cpu(1.5).with_rate(7.0).with_errors(0.5);
    assert_eq!((report.utilization(), report.rate(), report.errors()), (1.5, 7.0, 0.5));
    assert_eq!(report.with_application(0.5).utilization(), 0.5);
}

#[test]
fn facts_are_absent_until_written_and_share_one_slot() {
    let mut req = http::Request::new(());
    assert!(req.facts().is_none() && req.extensions().is_empty());

    let facts = req.facts_mut().unwrap();
    assert_eq!((facts.attempt, facts.deadline), (1, None));
    facts.limit_deadline(Timestamp::from_nanos(9));
    facts.limit_deadline(Timestamp::from_nanos(10));
    facts.tried.push(EndpointId::new(3));

    assert_eq!(req.extensions().len(), 1);
    assert_eq!(req.facts().unwrap().deadline, Some(Timestamp::from_nanos(9)));
    assert_eq!(req.facts().unwrap().tried[0].get(), 3);
    assert_eq!(req.extensions().get::<Facts>(), req.facts());
}

#[test]
fn a_request_type_without_a_place_for_facts_has_none() {
    struct Mine;
    impl HasFacts for Mine {}
    assert!(Mine.facts().is_none() && Mine.facts_mut().is_none());
}

#[test]
fn a_decision_is_about_one_limit_and_waits_for_nothing_unless_it_says_so() {
    #[derive(Debug)]
    struct Refused;
    impl Decided for Refused {
        fn admitted(&self) -> bool {
            false
        }
        fn retry_after(&self) -> Option<Duration> {
            None
        }
        fn never(&self) -> bool {
            true
        }
    }
    assert_eq!((Refused.delay(), Refused.binding()), (Duration::ZERO, 0));
    assert!(Refused.violates(0) && !Refused.violates(1) && !Refused.shadowed(0));
}

#[test]
fn names_are_equal_by_their_text() {
    let names = [Name::from("n"), Name::from(String::from("n")), Name::from(Arc::<str>::from("n"))];
    assert!(names.iter().all(|name| *name == "n" && name == &names[0] && hash(name) == hash("n")));
    assert_eq!(format!("{} {:?}", names[0], names[1]), r#"n "n""#);
    let set: std::collections::HashSet<_> = names.into_iter().collect();
    assert!(set.len() == 1 && set.contains("n"));
}

#[test]
fn the_words_go_wherever_a_service_may_go() {
    fn auto<T: Send + Sync + Clone + Unpin + std::panic::UnwindSafe>() {}
    auto::<(Clock, ManualClock)>();
    auto::<(Rejection, Facts, Outcome, Name)>();
    auto::<(OnCall<()>, LiftErrors<()>, Strict<()>)>();
    auto::<(HashSink, Costed<Global, ()>, AtHead, Fail, ErrIsFailure, ByCause)>();
    fn send<T: Send>() {}
    send::<Sleep>();
}

#[test]
fn where_an_attempt_goes_is_written_down_below_and_read_above() {
    let [seven, nine] = [7, 9].map(EndpointId::new);
    let mut first = Facts::new();
    first.chose(seven);
    assert_eq!(first.trail, None, "nobody asks");

    let trail = first.trail.insert(Trail::new()).clone();
    let mut second = first.clone();
    first.chose(seven);
    assert_eq!(trail.endpoints(), [seven], "while it is under way");
    second.follow_trail();
    assert_eq!(second.tried, [seven]);

    second.chose(nine);
    second.chose(seven);
    let mut third = second.clone();
    third.follow_trail();
    assert_eq!(third.tried, [seven, nine], "each once, in order");
    assert_eq!(first.trail, Some(trail.clone()));
    assert_eq!(format!("{trail:?}"), "Trail([EndpointId(7), EndpointId(9)])");
    assert_ne!(trail, Trail::new());
}
