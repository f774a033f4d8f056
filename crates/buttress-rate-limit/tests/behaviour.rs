//! What the layer does around a service, on a clock that the test moves.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{
    Answer, BoxError, Cause, Clock, Decided, Error, Fail, Global, Key, KeyPart, KeySink, ManualClock, Quota,
    Reject, Rejection, RejectionKind, Store, Timestamp, reject,
};
use buttress_rate_limit::{
    FixedWindow, Handle, Limit, LimitState, Memory, MissingKey, Policy, RateLimit, RateLimitEvent,
    RateLimitFuture, RateLimitLayer, Ruling, SlidingLog, SlidingWindow,
};
use buttress_testkit::{
    StrictHandle, StrictService, Task, allocations, assert_send, assert_send_sync_clone_unpin,
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_layer::Layer;

const SECOND: Duration = Duration::from_secs(1);

type Echo = StrictService<u32, u32>;

fn echo() -> (Echo, StrictHandle) {
    StrictService::new(|n| n)
}

/// One call on a clone, which has to finish at once.
fn call<S>(service: &S, req: u32) -> Result<u32, S::Error>
where
    S: Service<u32, Response = u32> + Clone,
{
    match Task::new(service.clone().oneshot(req)).run() {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a call waits although the inner service is ready"),
    }
}

fn rejection(result: Result<u32, BoxError>) -> Rejection {
    result.expect_err("the call is refused").rejection().expect("the error is a rejection").clone()
}

fn passes<S>(service: &S, req: u32) -> bool
where
    S: Service<u32, Response = u32> + Clone,
{
    call(service, req).is_ok()
}

mod time {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_call_per_tenth_of_a_second() {
        let (inner, _) = echo();
        let service = RateLimitLayer::per_second(10).burst(3).clock(Clock::tokio()).layer(inner);

        assert_eq!([1, 2, 3, 4].map(|n| passes(&service, n)), [true, true, true, false]);
        buttress_testkit::advance(Duration::from_millis(99)).await;
        assert!(!passes(&service, 5));
        buttress_testkit::advance(Duration::from_millis(1)).await;
        assert_eq!([6, 7].map(|n| passes(&service, n)), [true, false]);
    }

    #[test]
    fn a_client_that_waits_as_told_passes() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let service = RateLimitLayer::per_minute(7).burst(1).clock(time.clock()).layer(inner);

        for n in 0..100 {
            assert!(passes(&service, n));
            let wait = rejection(call(&service, n)).retry_after.expect("it may come again");
            time.advance(wait - Duration::from_nanos(1));
            assert!(!passes(&service, n));
            time.advance(Duration::from_nanos(1));
        }
    }

    #[test]
    fn a_fixed_window_begins_anew_for_all() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let window = FixedWindow::new(2, SECOND).phase(Duration::ZERO);
        let service = RateLimitLayer::new(window).clock(time.clock()).layer(inner);

        assert_eq!([1, 2, 3].map(|n| passes(&service, n)), [true, true, false]);
        time.advance(SECOND);
        assert_eq!([1, 2, 3].map(|n| passes(&service, n)), [true, true, false]);
    }

    /// At each of these moments, in tenths of a second, so many calls come: how many pass.
    fn passed_at<const N: usize>(limit: impl Into<Limit>, moments: [(u64, u32); N]) -> [u32; N] {
        let time = ManualClock::new();
        let service = RateLimitLayer::new(limit).clock(time.clock()).layer(echo().0);
        moments.map(|(tenths, calls)| {
            time.set(Timestamp::from_nanos(tenths * 100_000_000));
            (0..calls).filter(|n| passes(&service, *n)).count() as u32
        })
    }

    #[test]
    fn a_sliding_counter_lets_go_of_the_window_before_little_by_little() {
        let limit = || SlidingWindow::new(10, SECOND * 10);

        // All at 3 s. At 15 s half of that window is outside, wherever in it they were.
        assert_eq!(passed_at(limit(), [(30, 12), (99, 12), (100, 12), (150, 12)]), [10, 0, 0, 5]);
        assert_eq!(passed_at(limit(), [(30, 10), (110, 1), (111, 1), (120, 12)]), [10, 1, 0, 1]);
        assert_eq!(passed_at(limit(), [(30, 10), (200, 12)]), [10, 10]);
    }

    #[test]
    fn a_strict_window_lets_go_of_whole_parts() {
        let limit = || SlidingWindow::strict(10, SECOND * 10, 5);

        // In the part from 2 s to 4 s, which is outside ten seconds after its end.
        assert_eq!(passed_at(limit(), [(30, 12), (130, 12), (139, 12), (140, 12)]), [10, 0, 0, 10]);
        assert_eq!(passed_at(limit(), [(30, 4), (80, 12), (140, 12), (200, 12)]), [4, 6, 4, 6]);
    }

    #[test]
    fn a_log_lets_go_of_each_call_a_window_after_it() {
        let limit = || SlidingLog::new(10, SECOND * 10);

        assert_eq!(passed_at(limit(), [(30, 12), (129, 12), (130, 12)]), [10, 0, 10]);
        assert_eq!(passed_at(limit(), [(30, 4), (80, 12), (130, 12), (180, 12)]), [4, 6, 4, 6]);
    }

    #[test]
    fn a_layer_takes_the_default_clock_of_where_it_is_built() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let layer = Clock::with_default(time.clock(), || RateLimitLayer::per_second(1));
        let service = layer.layer(inner);

        assert!(passes(&service, 1));
        assert!(!passes(&service, 2));
        time.advance(SECOND);
        assert!(passes(&service, 3));
    }
}

mod sharing {
    use super::*;

    #[test]
    fn clones_of_a_service_share_one_budget() {
        let service = frozen(RateLimitLayer::per_second(3)).layer(echo().0);
        let clone = service.clone();

        let passed = [&service, &clone, &service, &clone].map(|service| passes(service, 0));

        assert_eq!(passed, [true, true, true, false]);
    }

    #[test]
    fn all_services_of_one_layer_share_one_budget() {
        // As axum does: `layer()` once per route, and a clone per connection.
        let layer = frozen(RateLimitLayer::per_second(3));
        let services: Vec<_> = (0..6).map(|_| layer.clone().layer(echo().0)).collect();

        let passed = services.iter().filter(|service| passes(*service, 0)).count();

        assert_eq!(passed, 3);
    }

    #[test]
    fn two_layers_are_two_budgets() {
        let one = frozen(RateLimitLayer::per_second(1)).layer(echo().0);
        let two = frozen(RateLimitLayer::per_second(1)).layer(echo().0);

        assert!(passes(&one, 0) && passes(&two, 0));
        assert!(!passes(&one, 0) && !passes(&two, 0));
    }

    #[test]
    fn a_step_that_changes_what_is_counted_begins_a_new_budget() {
        let base = frozen(RateLimitLayer::per_second(1)).by(|n: &u32| Some(*n));
        let one = base.clone().layer(echo().0);
        assert!(passes(&one, 7) && !passes(&one, 7));

        let other = base.clone().burst(2).layer(echo().0);
        assert!(passes(&other, 7) && passes(&other, 7));

        let renamed = base.named("mine").layer(echo().0);
        assert!(!passes(&renamed, 7), "a name changes nothing");
    }

    #[test]
    fn threads_on_a_frozen_clock_admit_exactly_the_burst() {
        for key in [None, Some(7)] {
            let layer = frozen(RateLimitLayer::per_second(1).burst(5_000)).by(move |_: &u32| key);
            let handle = layer.handle();

            std::thread::scope(|scope| {
                for _ in 0..8 {
                    let layer = layer.clone();
                    scope.spawn(move || {
                        let service = layer.layer(echo().0);
                        for n in 0..1_000 {
                            let _ = call(&service, n);
                        }
                    });
                }
            });

            assert_eq!((handle.allowed(), handle.refused()), (5_000, 3_000));
        }
    }
}

mod inner_service {
    use super::*;

    #[test]
    fn a_refused_call_does_not_touch_it() {
        let (inner, watch) = echo();
        let service = frozen(RateLimitLayer::per_second(1)).layer(inner);
        assert!(passes(&service, 1));
        let (polls, calls) = (watch.polls(), watch.calls());

        assert!(!passes(&service, 2));

        assert_eq!((watch.polls(), watch.calls()), (polls, calls));
    }

    #[test]
    fn a_refusal_does_not_wait_for_it() {
        let (inner, watch) = echo();
        let service = frozen(RateLimitLayer::per_second(1)).layer(inner);
        assert!(passes(&service, 1));
        watch.not_ready();

        assert!(!passes(&service, 2), "and answers at once");
        assert_eq!(watch.waiting(), 0);
    }

    #[test]
    fn its_own_errors_pass_unchanged() {
        let (inner, watch) = echo();
        let service = frozen(RateLimitLayer::per_second(1)).layer(inner);
        watch.fail("out of paper".into());

        assert_eq!(call(&service, 1).unwrap_err().to_string(), "out of paper");
    }

    #[test]
    fn the_strict_form_waits_for_it_and_a_refusal_leaves_it_ready() {
        let (inner, watch) = echo();
        let mut service = frozen(RateLimitLayer::per_second(1)).strict().layer(inner);
        watch.not_ready();
        assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_pending());

        watch.ready();
        assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_ready());
        assert!(Task::new(service.call(1)).run().is_ready());
        assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_ready());
        assert!(matches!(Task::new(service.call(2)).run(), Poll::Ready(Err(_))));

        assert_eq!((watch.reserved(), watch.clones()), (1, 0));
    }

    #[test]
    fn a_call_that_is_dropped_was_still_counted() {
        let (inner, watch) = echo();
        let mut service = frozen(RateLimitLayer::per_second(2)).layer(inner);
        watch.hold();

        drop(service.call(1));
        let mut second = Task::new(service.call(2));
        assert!(second.run().is_pending());
        drop(second);

        assert_eq!(watch.in_flight(), 0);
        assert!(!passes(&service, 3));
    }
}

mod keys {
    use super::*;

    #[test]
    fn each_key_has_a_budget_of_its_own() {
        let service = frozen(RateLimitLayer::per_second(2)).by(|n: &u32| Some(n % 10)).layer(echo().0);

        assert_eq!([1, 11, 21].map(|n| passes(&service, n)), [true, true, false]);
        assert_eq!([2, 12, 22].map(|n| passes(&service, n)), [true, true, false]);
    }

    #[test]
    fn a_key_may_have_several_parts() {
        let key = |n: &u32| Some((n % 2, String::from(if *n < 10 { "low" } else { "high" })));
        let service = frozen(RateLimitLayer::per_second(1)).by(key).layer(echo().0);

        assert_eq!([1, 11, 3, 13, 2].map(|n| passes(&service, n)), [true, true, false, false, true]);
    }

    fn odd_only(n: &u32) -> Option<u32> {
        (n % 2 == 1).then_some(*n)
    }

    #[test]
    fn calls_without_a_key_share_one_budget() {
        let service = frozen(RateLimitLayer::per_second(1)).by(odd_only).layer(echo().0);

        assert_eq!([2, 4, 6].map(|n| passes(&service, n)), [true, false, false]);
        assert!(passes(&service, 1), "keys are not concerned");
    }

    #[test]
    fn the_shared_budget_is_found_again_after_half_a_key_was_written() {
        #[derive(Clone)]
        struct HalfKey;
        impl Key<u32> for HalfKey {
            fn key<K: KeySink>(&self, n: &u32, to: &mut K) -> bool {
                n.write(to);
                false
            }
        }
        let service = frozen(RateLimitLayer::per_second(1)).by(HalfKey).layer(echo().0);

        assert_eq!([2, 4].map(|n| passes(&service, n)), [true, false]);
    }

    #[test]
    fn calls_without_a_key_pass_uncounted_where_that_is_allowed() {
        let layer = frozen(RateLimitLayer::per_second(1)).by(odd_only).on_missing_key(MissingKey::Allow);
        let service = layer.layer(echo().0);

        assert_eq!([2, 2, 2, 1, 1].map(|n| passes(&service, n)), [true, true, true, true, false]);
        assert_eq!(layer.handle().snapshot().unkeyed, 3);
    }

    #[test]
    fn calls_without_a_key_are_denied_where_one_is_demanded() {
        let layer = frozen(RateLimitLayer::per_second(1)).by(odd_only).on_missing_key(MissingKey::Deny);
        let service = layer.named("tenants").layer(echo().0);

        let rejection = rejection(call(&service, 2));

        assert_eq!(rejection.kind, RejectionKind::Denied);
        assert_eq!((rejection.policy, rejection.retry_after), (Some("tenants".into()), None));
        assert!(passes(&service, 1));
    }
}

mod cost {
    use super::*;

    #[test]
    fn a_call_is_charged_what_it_costs() {
        let layer = frozen(RateLimitLayer::per_second(10)).cost(|n: &u32| *n);
        let service = layer.layer(echo().0);

        assert_eq!([4, 4, 4, 2, 1].map(|n| passes(&service, n)), [true, true, false, true, false]);
    }

    #[test]
    fn a_cost_of_zero_passes_and_takes_nothing() {
        let layer = frozen(RateLimitLayer::per_second(1)).by(|_: &u32| Some("all")).cost(|n: &u32| *n);
        let service = layer.layer(echo().0);

        assert_eq!([0, 1, 0, 1, 0].map(|n| passes(&service, n)), [true, true, true, false, true]);
    }

    #[test]
    fn a_cost_above_the_burst_says_that_waiting_does_not_help() {
        let service = frozen(RateLimitLayer::per_second(10)).cost(|n: &u32| *n).layer(echo().0);

        let rejection = rejection(call(&service, 11));

        assert_eq!((rejection.kind, rejection.retry_after), (RejectionKind::CostTooHigh, None));
        assert!(passes(&service, 10), "nothing was taken");
    }
}

mod refusals {
    use super::*;

    #[test]
    fn a_rejection_names_the_limit_and_the_time() {
        let service = frozen(RateLimitLayer::new(Limit::per_second(4).named("burst"))).layer(echo().0);
        for n in 0..4 {
            assert!(passes(&service, n));
        }

        let rejection = rejection(call(&service, 4));

        assert_eq!(rejection.to_string(), "rate limited by `burst`, retry after 250ms");
    }

    #[test]
    fn a_typed_error_carries_it_too() {
        let (inner, _) = StrictService::<u32, u32, Error<Infallible>>::new(|n| n);
        let service = frozen(RateLimitLayer::per_second(1)).layer(inner);
        assert!(passes(&service, 1));

        assert!(matches!(call(&service, 2), Err(Error::Rejected(_))));
    }

    #[test]
    fn a_closure_may_answer_instead() {
        let (inner, _) = StrictService::<u32, u32, Infallible>::new(|n| n);
        let answer =
            reject::with(|rejection: Rejection| Ok(rejection.retry_after.unwrap().as_millis() as u32));
        let service = frozen(RateLimitLayer::per_second(10)).on_reject(answer).layer(inner);
        for n in 0..10 {
            assert_eq!(call(&service, n), Ok(n));
        }

        assert_eq!(call(&service, 10), Ok(100));
    }

    /// Answers refusals with 0 and keeps what it was told is left.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<Quota>>>);

    impl<Err> Reject<u32, u32, Err> for Notes {
        type Form = u32;
        fn form(&self, req: &u32) -> u32 {
            *req
        }
        fn reject(&self, _: u32, _: Rejection) -> Result<u32, Err> {
            Ok(0)
        }
        fn annotate(&self, form: u32, res: &mut u32, quotas: &[Quota]) {
            *res += 1000 * form;
            self.0.lock().unwrap().extend_from_slice(quotas);
        }
    }

    #[test]
    fn a_refusal_tells_what_is_left() {
        let notes = Notes::default();
        let layer = frozen(RateLimitLayer::per_second(2)).on_reject(notes.clone()).cost(|n: &u32| *n);
        let service = layer.layer(echo().0);

        assert_eq!([1, 2].map(|n| call(&service, n).unwrap()), [1, 2000]);

        let quota = Quota::new("default", 2, 1, Duration::from_millis(500), SECOND);
        assert_eq!(*notes.0.lock().unwrap(), [quota]);
    }

    #[test]
    fn an_answer_tells_what_is_left_when_asked_to() {
        let notes = Notes::default();
        let layer = frozen(RateLimitLayer::per_second(2)).on_reject(notes.clone()).annotate_success(true);
        let service = layer.layer(echo().0);

        assert_eq!([1, 2, 3].map(|n| call(&service, n).unwrap()), [1001, 2002, 3000]);

        let left: Vec<_> = notes.0.lock().unwrap().iter().map(|quota| quota.remaining).collect();
        assert_eq!(left, [1, 0, 0]);
    }

    /// Takes as many seconds as it is asked to.
    fn slow(time: &ManualClock) -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone {
        let clock = time.clock();
        tower::service_fn(move |seconds: u32| {
            let work = clock.sleep(SECOND * seconds);
            async move {
                work.await;
                Ok(seconds)
            }
        })
    }

    /// What is told with the answer that comes after so many seconds.
    fn told_after<S>(service: &S, seconds: u32, time: &ManualClock, notes: &Notes) -> Vec<(u64, Duration)>
    where
        S: Service<u32, Response = u32, Error = BoxError> + Clone,
    {
        let mut task = Task::new(service.clone().oneshot(seconds));
        if task.run().is_pending() {
            time.advance(SECOND * seconds);
            assert!(task.run().is_ready());
        }
        notes.0.lock().unwrap().drain(..).map(|quota| (quota.remaining, quota.reset)).collect()
    }

    #[test]
    fn an_answer_that_took_its_time_tells_what_is_left_then() {
        let (time, notes) = (ManualClock::new(), Notes::default());
        let layer = RateLimitLayer::per_minute(1).clock(time.clock()).on_reject(notes.clone());
        let layer = layer.annotate_success(true);
        let (one, keyed) = (layer.layer(slow(&time)), layer.by(|n: &u32| Some(*n)).layer(slow(&time)));

        assert_eq!(told_after(&one, 0, &time, &notes), [(0, SECOND * 60)]);
        time.advance(SECOND * 60);
        assert_eq!(told_after(&one, 90, &time, &notes), [(1, Duration::ZERO)]);
        assert_eq!(told_after(&keyed, 45, &time, &notes), [(0, SECOND * 15)]);
    }

    #[test]
    fn a_settled_answer_that_took_its_time_tells_what_is_left_then() {
        let (time, notes) = (ManualClock::new(), Notes::default());
        let layer = RateLimitLayer::per_minute(4).clock(time.clock()).on_reject(notes.clone());
        let service = layer.annotate_success(true).settle(|n: &u32| *n / 30).layer(slow(&time));

        assert_eq!(told_after(&service, 0, &time, &notes), [(4, Duration::ZERO)]);
        assert_eq!(told_after(&service, 60, &time, &notes), [(3, SECOND * 15)]);
        assert_eq!(told_after(&service, 90, &time, &notes), [(2, SECOND * 15)]);
    }

    #[test]
    fn an_answer_after_a_wait_tells_what_is_left_then() {
        let (time, notes) = (ManualClock::new(), Notes::default());
        let layer = RateLimitLayer::per_minute(60).burst(1).wait(SECOND * 9).clock(time.clock());
        let service = layer.on_reject(notes.clone()).annotate_success(true).layer(slow(&time));
        assert_eq!(told_after(&service, 0, &time, &notes), [(9, SECOND)]);

        let mut task = Task::new(service.clone().oneshot(0));
        assert!(task.run().is_pending());
        time.advance(SECOND);
        assert!(task.run().is_ready());

        let told: Vec<_> = notes.0.lock().unwrap().iter().map(|quota| quota.remaining).collect();
        assert_eq!(told, [9], "and not 8, as when it came");
    }
}

mod watching {
    use super::*;

    #[test]
    fn an_observer_sees_each_decision_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let layer = frozen(RateLimitLayer::per_second(2))
            .named("api")
            .by(|n: &u32| (*n > 0).then_some("all"))
            .on_missing_key(MissingKey::Deny)
            .observe(move |event| {
                log.lock().unwrap().push(match *event {
                    RateLimitEvent::Allowed { policy, cost, decision, .. } => {
                        format!("{policy} allows {cost}: {}", decision.admitted())
                    }
                    RateLimitEvent::Refused { policy, cost, decision, .. } => {
                        format!("{policy} refuses {cost} for {:?}", decision.retry_after().unwrap())
                    }
                    RateLimitEvent::Unkeyed { policy, rule, .. } => format!("{policy} has no key: {rule:?}"),
                    _ => "?".to_owned(),
                });
            });
        let service = layer.layer(echo().0);

        for n in [1, 1, 1, 0] {
            let _ = call(&service, n);
        }

        let expected =
            ["api allows 1: true", "api allows 1: true", "api refuses 1 for 500ms", "api has no key: Deny"];
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    /// There are more threads than stripes, at a time and one after the other.
    #[test]
    fn counts_are_exact_however_many_threads_there_are() {
        let layer = RateLimitLayer::per_second(1_000_000);
        let (handle, service) = (layer.handle(), layer.layer(echo().0));
        let calls = |threads: usize| {
            let start = std::sync::Barrier::new(threads);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..100 {
                            let _ = call(&service, 1);
                        }
                    });
                }
            });
        };

        calls(48);
        (0..48).for_each(|_| calls(1));

        assert_eq!(handle.allowed() + handle.refused(), 2 * 48 * 100);
    }

    #[test]
    fn a_handle_counts_and_forgets() {
        let time = ManualClock::new();
        let layer = RateLimitLayer::per_second(1).by(|n: &u32| Some(*n)).clock(time.clock());
        let (handle, service) = (layer.handle(), layer.layer(echo().0));
        for n in [1, 2, 2, 3] {
            let _ = call(&service, n);
        }

        let seen = handle.snapshot();
        assert_eq!((seen.allowed, seen.refused, seen.evicted, seen.keys), (3, 1, 0, 3));

        handle.reset();
        assert_eq!(handle.snapshot().keys, 0);
        assert!(passes(&service, 2));

        time.advance(SECOND);
        assert_eq!(handle.snapshot().keys, 0, "whose budget is whole again holds nothing");
    }
}

mod names {
    use buttress_rate_limit::CarryOver;

    use super::*;

    fn refused_by(layer: &RateLimitLayer) -> String {
        let service = layer.layer(echo().0);
        assert!(passes(&service, 1));
        rejection(call(&service, 2)).policy.expect("it has a name").to_string()
    }

    #[test]
    fn the_only_limit_of_a_layer_is_refused_counted_and_changed_by_one_name() {
        let once = || Limit::per_minute(1);
        let each = [
            ("default", RateLimitLayer::new(once())),
            ("api", RateLimitLayer::new(once()).named("api")),
            ("burst", RateLimitLayer::new(once().named("burst"))),
            ("burst", RateLimitLayer::all([once().named("burst")])),
            ("api", RateLimitLayer::all([once().named("burst")]).named("api")),
        ];
        for (name, layer) in each {
            let layer = frozen(layer);
            let handle = layer.handle();
            assert_eq!(refused_by(&layer), name);
            assert_eq!(handle.limits()[0].limit.as_str(), name);
            handle.set_limit(name, once(), CarryOver::AsIs).unwrap();
            handle.set_limit(0, once().named("another"), CarryOver::Reset).unwrap();
            assert_eq!(refused_by(&layer), name, "as before");
        }
    }

    #[test]
    fn whoever_names_a_limit_that_is_not_there_is_told_which_are() {
        let layer =
            RateLimitLayer::all([Limit::per_second(1).named("burst"), Limit::per_day(9).named("daily")]);

        let error = layer.handle().set_limit("hourly", Limit::per_hour(1), CarryOver::AsIs).unwrap_err();

        assert_eq!(
            error.to_string(),
            r#"rate limit with `limits` = ["burst", "daily"]: must be picked by one of these names, or by an index of them"#
        );
    }
}

mod bounds {
    use super::*;

    fn keyed(capacity: usize, time: &ManualClock) -> RateLimitLayer<fn(&u32) -> Option<u32>> {
        let key: fn(&u32) -> Option<u32> = |n| Some(*n);
        RateLimitLayer::per_second(1).clock(time.clock()).by(key).capacity(capacity)
    }

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_is_counted() {
        let layer = keyed(1_000, &ManualClock::new());
        let (handle, mut service) = (layer.handle(), layer.layer(echo().0));
        assert!(passes(&service, 0));

        let taken = allocations(|| {
            for n in 1..200_000 {
                // Not even polled: the decision is made in `call`.
                drop(service.call(n));
            }
        });

        let seen = handle.snapshot();
        // Two keys may have the same tag, and then the second finds the budget spent. The error has a box.
        assert!(seen.refused <= 10 && taken <= seen.refused, "{taken} taken, {} refused", seen.refused);
        assert!(seen.keys <= 2_002, "{} keys", seen.keys);
        assert_eq!(seen.evicted, seen.allowed - seen.keys as u64);
    }

    #[test]
    fn keys_that_hold_nothing_leave_their_place_at_no_loss() {
        let time = ManualClock::new();
        let layer = keyed(1_000, &time);
        let (handle, service) = (layer.handle(), layer.layer(echo().0));

        for round in 0..100 {
            for n in 0..200 {
                assert!(passes(&service, 200 * round + n));
            }
            time.advance(SECOND);
        }

        assert_eq!(handle.snapshot().evicted, 0);
    }

    #[test]
    fn the_key_that_holds_the_least_makes_way() {
        let time = ManualClock::new();
        let layer = keyed(1, &time).burst(100).capacity(1).cost(|n: &u32| if *n == 0 { 100 } else { 1 });
        let service = layer.layer(echo().0);
        assert!(passes(&service, 0));

        // Two keys may have the same tag, and then the second finds the budget spent.
        let passed = (1..10_000).filter(|n| passes(&service, *n)).count();
        assert!(passed >= 9_990);

        assert!(!passes(&service, 0), "it owes the most, and so it is still held");
    }

    #[test]
    fn a_full_table_displaces_about_one_key_in_a_hundred_and_a_half_full_one_almost_none() {
        for (keys, most) in [(65_536, 65_536 / 60), (32_768, 32_768 / 1_000)] {
            let layer = keyed(65_536, &ManualClock::new());
            let (handle, mut service) = (layer.handle(), layer.layer(echo().0));

            for n in 0..keys {
                drop(service.call(n));
            }

            let seen = handle.snapshot();
            assert!(seen.evicted <= most, "{} of {keys} evicted", seen.evicted);
            // Two keys may have the same tag, and then the second finds the budget spent.
            assert!(seen.refused <= 10);
            assert_eq!(seen.keys as u64 + seen.evicted + seen.refused, u64::from(keys));
        }
    }

    #[test]
    fn neither_an_admitted_nor_a_refused_call_allocates() {
        let (inner, _) = StrictService::<u32, u32, Error<Infallible>>::new(|n| n);
        let layer = RateLimitLayer::per_second(1).by(|n: &u32| Some(("tenant", *n)));
        let mut service = layer.clock(ManualClock::new().clock()).layer(inner);
        let mut call = |n| {
            let Poll::Ready(result) = buttress_testkit::poll_once(&mut Box::pin(service.call(n))) else {
                panic!("a call waits although the inner service is ready");
            };
            result.is_ok()
        };
        assert!(call(0) && !call(0));

        // The box is the test's.
        assert_eq!(allocations(|| call(1)), 1);
        assert_eq!(allocations(|| call(1)), 1);
    }
}

mod remote_stores {
    use super::*;

    /// A store whose answer takes a turn of the loop, or one of its own.
    #[derive(Clone)]
    struct Remote {
        limit: Limit,
        state: Arc<Mutex<LimitState>>,
        held: Arc<tokio::sync::Semaphore>,
    }

    impl Remote {
        fn new(limit: Limit) -> Self {
            Self { limit, state: Arc::default(), held: Arc::new(tokio::sync::Semaphore::new(1_000)) }
        }
    }

    impl Store for Remote {
        type Sink = Vec<u8>;
        type Decision = Ruling;
        type Wait = std::pin::Pin<Box<dyn Future<Output = Ruling> + Send>>;

        fn sink(&self) -> Vec<u8> {
            Vec::new()
        }

        fn decide(&self, _: Vec<u8>, cost: u32, now: Timestamp) -> Answer<Ruling, Self::Wait> {
            let this = self.clone();
            Answer::Later(Box::pin(async move {
                let _turn = this.held.acquire().await.expect("it is never closed");
                let mut state = this.state.lock().unwrap();
                this.limit.decide(&mut state, now, cost)
            }))
        }

        fn settle(&self, decision: &Ruling, actual: u32, now: Timestamp) {
            if decision.admitted() && actual == 0 {
                self.limit.refund(&mut self.state.lock().unwrap(), now, now, 1);
            }
        }

        fn quotas(&self, decision: &Ruling, report: &mut dyn FnMut(Quota)) {
            let (limit, remaining) = (decision.limit(), decision.remaining());
            report(Quota::new("remote", limit, remaining, decision.reset(), decision.window()));
        }
    }

    fn remote(n: u64) -> (Remote, RateLimitLayer<Global, Fail, Remote>) {
        let store = Remote::new(Limit::per_second(n));
        (store.clone(), frozen(RateLimitLayer::per_second(1)).store(store))
    }

    #[test]
    fn an_answer_that_comes_later_allows_or_refuses_as_well() {
        let (_, layer) = remote(2);
        let (handle, service) = (layer.handle(), layer.layer(echo().0));

        assert_eq!([1, 2, 3].map(|n| passes(&service, n)), [true, true, false]);
        assert_eq!((handle.allowed(), handle.refused()), (2, 1));
    }

    #[test]
    fn the_instance_that_was_readied_is_the_one_that_is_called() {
        let (_, layer) = remote(1);
        let (inner, watch) = echo();
        let mut service = layer.strict().layer(inner);

        assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_ready());
        assert!(matches!(Task::new(service.call(1)).run(), Poll::Ready(Ok(1))));

        assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_ready());
        assert!(matches!(Task::new(service.call(2)).run(), Poll::Ready(Err(_))));
        assert_eq!((watch.unready_calls(), watch.reserved(), watch.calls()), (0, 0, 1));
    }

    #[test]
    fn the_inner_service_is_not_asked_before_the_store_has_answered() {
        let (store, layer) = remote(1);
        let (inner, watch) = echo();
        let mut service = layer.layer(inner);
        let turns = store.held.try_acquire_many(1_000).unwrap();

        let mut call = Task::new(service.call(1));
        assert!(call.run().is_pending());
        assert_eq!((watch.polls(), watch.waiting()), (0, 0));

        drop(turns);
        assert!(call.is_woken());
        assert!(matches!(call.run(), Poll::Ready(Ok(1))));
    }

    #[test]
    fn a_call_dropped_while_the_store_thinks_leaves_nothing_behind() {
        let (store, layer) = remote(1);
        let (inner, watch) = echo();
        let mut service = layer.layer(inner);
        let turns = store.held.try_acquire_many(1_000).unwrap();
        let mut call = Task::new(service.call(1));
        assert!(call.run().is_pending());

        drop((call, turns));

        assert_eq!((watch.alive(), watch.in_flight()), (1, 0));
        assert!(passes(&service, 2), "the store had not counted it");
    }
}

mod types {
    use super::*;

    type Layered = RateLimit<buttress_core::OnCall<Echo>>;

    const _: () = assert_send_sync_clone_unpin::<RateLimitLayer>();
    const _: () = assert_send_sync_clone_unpin::<Layered>();
    const _: () = assert_send_sync_clone_unpin::<Handle>();
    const _: () = assert_send_sync_clone_unpin::<Memory>();
    const _: () = assert_send::<RateLimitFuture<buttress_core::OnCall<Echo>, u32, Global, Fail, Memory>>();

    struct Client {
        service: Layered,
        pending: Option<RateLimitFuture<buttress_core::OnCall<Echo>, u32, Global, Fail, Memory>>,
    }

    #[test]
    fn service_and_future_can_be_named_in_a_struct() {
        let mut client = Client { service: RateLimitLayer::per_second(1).layer(echo().0), pending: None };

        client.pending = Some(client.service.call(1));

        assert!(Task::new(client.pending.take().unwrap()).run().is_ready());
    }

    #[test]
    fn a_stack_needs_no_types_written_out() {
        let service = ServiceBuilder::new()
            .layer(frozen(RateLimitLayer::per_second(3)))
            .layer(frozen(RateLimitLayer::per_second(1)).by(|n: &u32| Some(*n)))
            .service(echo().0);

        assert_eq!([1, 1, 2, 3].map(|n| passes(&service, n)), [true, false, true, false]);
    }
}

/// The layer on a clock that stands still.
fn frozen(layer: RateLimitLayer) -> RateLimitLayer {
    layer.clock(ManualClock::new().clock())
}
