//! Settling, several limits, shaping, plans, lists, shadows, and what a handle can do: one story each, on a clock that
//! the test moves.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Cause, Global, ManualClock, Rejection, RejectionKind};
use buttress_rate_limit::{
    CarryOver, Charge, FixedWindow, Handle, Limit, LimitCounts, Memory, MissingKey, RateLimitEvent,
    RateLimitLayer, SlidingLog, SlidingWindow, TopKey,
};
use buttress_testkit::{StrictHandle, StrictService, Task, allocations};
use tower::{Service, ServiceExt};
use tower_layer::Layer;

const SECOND: Duration = Duration::from_secs(1);

type Echo = StrictService<u32, u32>;

fn echo() -> (Echo, StrictHandle) {
    StrictService::new(|n| n)
}

/// The layer on a clock that stands still.
fn frozen<K, J, R>(layer: RateLimitLayer<K, J, Memory, R>) -> RateLimitLayer<K, J, Memory, R> {
    layer.clock(ManualClock::new().clock())
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

fn passes<S>(service: &S, req: u32) -> bool
where
    S: Service<u32, Response = u32> + Clone,
{
    call(service, req).is_ok()
}

fn rejection(result: Result<u32, BoxError>) -> Rejection {
    result.expect_err("the call is refused").rejection().expect("the error is a rejection").clone()
}

mod settling {
    use super::*;

    #[test]
    fn a_thousand_good_logins_pass_and_the_sixth_bad_one_is_refused() {
        let time = ManualClock::new();
        let layer = RateLimitLayer::per_minute(5)
            .clock(time.clock())
            .by(|_: &u32| Some("ann"))
            .settle(|n: &u32| u32::from(n.is_multiple_of(2)));
        let service = layer.layer(echo().0);

        for _ in 0..1_000 {
            assert!(passes(&service, 1));
        }
        for _ in 0..5 {
            assert!(passes(&service, 2));
        }

        assert!(!passes(&service, 2), "the sixth bad one");
        assert!(!passes(&service, 1), "and nobody can guess on");
        assert_eq!(layer.handle().snapshot().settled, 1_005);
        time.advance(SECOND * 12);
        assert_eq!([1, 1, 2, 1].map(|n| passes(&service, n)), [true, true, true, false]);
    }

    #[test]
    fn guesses_at_the_same_time_cannot_exceed_five() {
        let (inner, watch) = echo();
        let mut service = frozen(RateLimitLayer::per_minute(5)).settle(|_: &u32| 0).layer(inner);
        watch.hold();

        let mut tasks: Vec<_> = (0..100).map(|n| Task::new(service.call(n))).collect();
        let refused =
            tasks.iter_mut().map(Task::run).filter(|polled| matches!(polled, Poll::Ready(Err(_)))).count();

        assert_eq!((refused, watch.in_flight()), (95, 5));
    }

    #[test]
    fn a_call_that_took_less_gives_the_rest_back() {
        let layer = frozen(RateLimitLayer::per_minute(90_000)).cost(|n: &u32| *n).settle(|n: &u32| n / 10);
        let service = layer.layer(echo().0);

        assert!(passes(&service, 60_000));

        assert_eq!(layer.handle().peek(Global)[0].remaining, 84_000);
        assert!(passes(&service, 84_000));
    }

    #[test]
    fn a_call_that_took_more_owes_it() {
        let time = ManualClock::new();
        let layer = RateLimitLayer::per_minute(60).clock(time.clock()).settle(|n: &u32| *n);
        let service = layer.layer(echo().0);

        assert!(passes(&service, 90), "held for one, it took ninety");

        assert!(!passes(&service, 1));
        time.advance(SECOND * 30);
        assert!(!passes(&service, 1), "thirty beyond the limit are paid back first");
        time.advance(SECOND);
        assert!(passes(&service, 1));
    }

    #[test]
    fn a_cost_stays_when_the_key_is_chosen_after_it() {
        let layer = frozen(RateLimitLayer::per_minute(10)).cost(|n: &u32| *n).by(|_: &u32| Some("ann"));
        let service = layer.layer(echo().0);

        assert_eq!([6, 6, 4].map(|n| passes(&service, n)), [true, false, true]);
    }

    #[test]
    fn what_is_owed_ends_at_one_more_full_limit() {
        let time = ManualClock::new();
        let service =
            RateLimitLayer::per_minute(60).clock(time.clock()).settle(|_: &u32| u32::MAX).layer(echo().0);

        assert!(passes(&service, 1));

        time.advance(SECOND * 61);
        assert!(passes(&service, 1));
    }

    #[test]
    fn a_call_that_fails_or_is_dropped_stays_charged() {
        let (inner, watch) = echo();
        let mut service = frozen(RateLimitLayer::per_minute(2)).settle(|_: &u32| 0).layer(inner);
        watch.fail("out of paper".into());
        assert!(call(&service, 1).is_err());
        watch.hold();

        let mut dropped = Task::new(service.call(1));
        assert!(dropped.run().is_pending());
        drop(dropped);

        assert!(rejection(call(&service, 1)).retry_after.is_some());
    }

    #[test]
    fn a_charge_may_be_settled_after_the_answer() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let layer = frozen(RateLimitLayer::per_minute(5)).settle_with(move |n: u32, charge| {
            keep.lock().unwrap().push(charge);
            n + 1
        });
        let service = layer.layer(echo().0);
        let remaining = || layer.handle().peek(Global)[0].remaining;

        assert_eq!(call(&service, 1).unwrap(), 2);
        assert_eq!(call(&service, 2).unwrap(), 3);
        assert_eq!(remaining(), 3, "held");
        kept.lock().unwrap().pop().unwrap().settle(0);
        assert_eq!(remaining(), 4);
        kept.lock().unwrap().clear();
        assert_eq!(remaining(), 4, "a charge that is dropped stays");
    }

    #[test]
    fn calls_that_are_not_counted_are_not_settled() {
        let layer = frozen(RateLimitLayer::per_minute(5)).allow_if(|_: &u32| true).settle(|_: &u32| 9);
        let service = layer.layer(echo().0);

        assert!(passes(&service, 1));

        assert_eq!((layer.handle().snapshot().settled, layer.handle().peek(Global)[0].remaining), (0, 5));
    }

    #[test]
    fn a_settled_call_of_a_key_that_is_held_allocates_nothing() {
        let layer = frozen(RateLimitLayer::per_minute(1_000)).by(|n: &u32| Some(*n)).settle(|_: &u32| 3);
        let mut service = layer.layer(echo().0);
        let mut call = |n| {
            let polled = buttress_testkit::poll_once(&mut Box::pin(service.call(n)));
            assert!(matches!(polled, Poll::Ready(Ok(_))));
        };
        call(1);

        // The box is the test's.
        assert_eq!(allocations(|| call(1)), 1);
    }

    /// Calls on a budget of five per minute that are charged by hand and answered by hand.
    struct Logins {
        time: ManualClock,
        call: Box<dyn FnMut() -> Option<Charge>>,
    }

    impl Logins {
        fn new() -> Self {
            let time = ManualClock::new();
            let held = Arc::new(Mutex::new(None));
            let keep = held.clone();
            let layer =
                RateLimitLayer::per_minute(5).clock(time.clock()).settle_with(move |n: u32, charge| {
                    *keep.lock().unwrap() = Some(charge);
                    n
                });
            let service = layer.layer(echo().0);
            let call = Box::new(move || {
                let passed = passes(&service, 1);
                passed.then(|| held.lock().unwrap().take().expect("a call that passes has a charge"))
            });
            Self { time, call }
        }

        fn hold(&mut self, calls: usize) -> Vec<Charge> {
            (0..calls).map(|_| (self.call)().expect("it passes")).collect()
        }

        /// Bad guesses until one is refused.
        fn guesses(&mut self) -> usize {
            std::iter::from_fn(|| (self.call)()).count()
        }
    }

    #[test]
    fn what_was_earned_again_before_the_answer_is_not_given_back_too() {
        let mut logins = Logins::new();
        let slow = logins.hold(5);
        logins.time.advance(SECOND * 60);
        assert_eq!(logins.guesses(), 5);

        slow.into_iter().for_each(|good| good.settle(0));

        assert_eq!(logins.guesses(), 0);
    }

    #[test]
    fn slow_good_logins_make_no_room_for_bad_guesses_in_whatever_order_they_are_answered() {
        let mut logins = Logins::new();
        // Five slow ones of one moment, each of which was the last in a full bucket.
        let mut slow: Vec<Charge> = Vec::new();
        for held in 0..5 {
            let mut fast = logins.hold(5 - held);
            slow.extend(fast.pop());
            fast.into_iter().for_each(|good| good.settle(0));
        }
        logins.time.advance(SECOND * 47);
        // Of the five four fifths and more are earned again.
        let before = logins.guesses();
        slow.into_iter().rev().for_each(|good| good.settle(0));

        assert_eq!((before, logins.guesses()), (3, 2));
    }

    #[test]
    fn all_that_is_answered_well_leaves_the_whole_budget() {
        let mut logins = Logins::new();
        for round in 0..200_usize {
            let mut held = logins.hold(5);
            for left in (1..=5).rev() {
                logins.time.advance(SECOND * (round % 3) as u32);
                held.swap_remove(round * 7 % left).settle(0);
            }
        }
        assert_eq!(logins.guesses(), 5);
    }

    #[test]
    fn of_several_limits_each_gives_back_what_it_was_charged() {
        let time = ManualClock::new();
        let limits = [Limit::per_minute(5).named("minute"), Limit::per_hour(50).named("hour")];
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let layer = RateLimitLayer::all(limits).clock(time.clock()).settle_with(move |n: u32, charge| {
            keep.lock().unwrap().push(charge);
            n
        });
        let service = layer.layer(echo().0);
        let remaining = || layer.handle().peek(Global).iter().map(|left| left.remaining).collect::<Vec<_>>();

        assert!((0..5).all(|_| passes(&service, 1)));
        let slow: Vec<Charge> = kept.lock().unwrap().drain(..).collect();
        time.advance(SECOND * 60);
        assert!((0..5).all(|_| passes(&service, 1)));
        assert_eq!(remaining(), [0, 40]);
        slow.into_iter().for_each(|good| good.settle(0));

        assert_eq!(remaining(), [0, 45], "of the minute's all was earned again, of the hour's nothing yet");
    }

    #[test]
    fn what_is_settled_after_a_reset_gives_nothing_back() {
        for reset in [
            |handle: &Handle| handle.reset(),
            |handle: &Handle| {
                handle.set_limit(0, Limit::per_minute(5), CarryOver::Reset).unwrap();
            },
        ] {
            let kept = Arc::new(Mutex::new(Vec::new()));
            let keep = kept.clone();
            let layer = frozen(RateLimitLayer::per_minute(5)).settle_with(move |n: u32, charge| {
                keep.lock().unwrap().push(charge);
                n
            });
            let service = layer.layer(echo().0);
            let remaining = || layer.handle().peek(Global)[0].remaining;
            assert!(passes(&service, 1));
            reset(&layer.handle());
            assert!(passes(&service, 1));
            let charges: Vec<Charge> = kept.lock().unwrap().drain(..).collect();

            let left = charges.into_iter().map(|charge| {
                charge.settle(0);
                remaining()
            });
            assert_eq!(left.collect::<Vec<_>>(), [4, 5]);
        }
    }
}

mod several {
    use super::*;

    fn both() -> [Limit; 2] {
        [Limit::per_second(10).named("burst"), Limit::per_day(15).named("daily")]
    }

    #[test]
    fn all_of_them_have_to_let_a_call_pass() {
        let time = ManualClock::new();
        let layer = RateLimitLayer::all(both()).clock(time.clock());
        let service = layer.layer(echo().0);

        assert_eq!((0..20).filter(|n| passes(&service, *n)).count(), 10);
        assert_eq!(layer.handle().peek(Global)[1].remaining, 5, "refused calls are charged to none");
        time.advance(SECOND);
        assert_eq!((0..20).filter(|n| passes(&service, *n)).count(), 5);
    }

    #[test]
    fn the_one_that_binds_is_named_with_the_others_that_refuse() {
        let layer = frozen(RateLimitLayer::all(both())).cost(|n: &u32| *n);
        let service = layer.layer(echo().0);
        assert!(passes(&service, 10));

        let burst = rejection(call(&service, 1));
        assert_eq!((burst.policy, burst.also.len()), (Some("burst".into()), 0));
        assert_eq!(burst.retry_after, Some(Duration::from_millis(100)));

        let daily = rejection(call(&service, 6));
        assert_eq!((daily.policy, daily.also), (Some("daily".into()), vec!["burst".into()]));
        assert_eq!(daily.retry_after, Some(SECOND * 5760));

        let never = rejection(call(&service, 11));
        assert_eq!((never.kind, never.policy), (RejectionKind::CostTooHigh, Some("burst".into())));
        assert_eq!(never.retry_after, None, "waiting does not help");
    }

    #[test]
    fn refusals_are_counted_by_limit() {
        let layer = frozen(RateLimitLayer::all(both())).cost(|n: &u32| *n);
        let service = layer.layer(echo().0);

        assert_eq!([10, 1, 6].map(|n| passes(&service, n)), [true, false, false]);

        let counts = layer.handle().limits();
        assert_eq!(counts.iter().map(|count| &*count.limit).collect::<Vec<_>>(), ["burst", "daily"]);
        assert_eq!(counts.iter().map(|count| count.refused).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn an_admitted_call_allocates_nothing() {
        let layer = frozen(RateLimitLayer::all(both())).by(|n: &u32| Some(*n));
        let mut service = layer.layer(echo().0);
        let mut call = |n| {
            let polled = buttress_testkit::poll_once(&mut Box::pin(service.call(n)));
            assert!(matches!(polled, Poll::Ready(Ok(_))));
        };
        call(0);

        // The box is the test's.
        assert_eq!(allocations(|| call(1)), 1);
    }

    #[test]
    #[should_panic(expected = "over several limits")]
    fn a_burst_belongs_to_one_of_them() {
        let _ = RateLimitLayer::all(both()).burst(5);
    }
}

mod algorithms {
    use super::*;

    #[test]
    fn each_keeps_its_word_to_the_nanosecond_as_time_goes_on() {
        // What is told to whoever has spent all at once: in which bounds, since windows begin where the key says.
        let minute = SECOND * 60;
        let each = [
            (Limit::per_minute(6), SECOND * 10, SECOND * 10),
            (FixedWindow::new(6, minute).into(), Duration::from_nanos(1), minute),
            (SlidingWindow::new(6, minute).into(), SECOND * 10, SECOND * 70),
            (SlidingWindow::strict(6, minute, 6).into(), minute, SECOND * 70),
            (SlidingLog::new(6, minute).into(), minute, minute),
        ];
        for (limit, least, most) in each {
            let time = ManualClock::new();
            let layer = RateLimitLayer::new(limit.clone()).clock(time.clock()).by(|n: &u32| Some(*n));
            let service = layer.layer(echo().0);
            time.advance(minute * 10);

            for _ in 0..3 {
                assert_eq!((0..10).filter(|_| passes(&service, 1)).count(), 6, "{limit:?}");
                let wait = rejection(call(&service, 1)).retry_after.expect("it passes some time");
                assert!(least <= wait && wait <= most, "{limit:?} tells {wait:?}");

                time.advance(wait - Duration::from_nanos(1));
                assert!(!passes(&service, 1), "{limit:?}");
                time.advance(Duration::from_nanos(1));
                assert!(passes(&service, 1), "{limit:?}");
                assert!(passes(&service, 2), "another key");
                time.advance(minute * 3);
            }
        }
    }
}

mod shaping {
    use super::*;

    fn even(time: &ManualClock) -> RateLimitLayer {
        RateLimitLayer::per_second(10).burst(1).wait(Duration::from_millis(350)).clock(time.clock())
    }

    fn ready<F: Future>(tasks: &mut [Task<F>]) -> Vec<bool> {
        tasks.iter_mut().map(|task| task.run().is_ready()).collect()
    }

    #[test]
    fn calls_that_come_too_fast_go_one_after_the_other() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = even(&time);
        let mut service = layer.layer(inner);

        let mut tasks: Vec<_> = (0..5).map(|n| Task::new(service.call(n))).collect();
        let (mut departed, mut done) = (Vec::new(), [false; 5]);
        for step in 0..=40 {
            let before = departed.len();
            for (task, done) in tasks.iter_mut().zip(&mut done) {
                *done = *done || task.run().is_ready();
            }
            departed.extend((before..watch.calls()).map(|_| 10 * step));
            time.advance(Duration::from_millis(10));
        }

        assert_eq!(departed, [0, 100, 200, 300], "and the fifth could not have gone in time");
        let seen = layer.handle().snapshot();
        assert_eq!((seen.allowed, seen.refused, seen.waited, seen.abandoned), (4, 1, 3, 0));
    }

    #[test]
    fn units_given_back_by_hand_are_no_turn_of_those_that_wait() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = even(&time);
        let mut service = layer.layer(inner);
        let mut tasks: Vec<_> = (0..3).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(ready(&mut tasks), [true, false, false]);

        layer.handle().refund(Global, 1);
        let mut waiting = tasks.split_off(1);
        waiting.push(Task::new(service.call(3)));

        for calls in 1..=4 {
            waiting.retain_mut(|task| task.run().is_pending());
            assert_eq!(watch.calls(), calls, "one each tenth of a second");
            time.advance(SECOND / 10);
        }
    }

    #[test]
    fn a_layer_that_only_watches_keeps_nobody_waiting() {
        let time = ManualClock::new();
        let service = even(&time).shadow().layer(echo().0);

        assert!((0..10).all(|n| passes(&service, n)));
    }

    #[test]
    fn a_call_that_cannot_go_in_time_is_refused_at_once_and_changes_nothing() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let mut service = even(&time).layer(inner);
        let _waiting: Vec<_> = (0..4).map(|n| service.call(n)).collect();

        for _ in 0..100 {
            let refused = rejection(call(&service, 9));
            assert_eq!(refused.kind, RejectionKind::RateLimited);
            assert_eq!(refused.retry_after, Some(Duration::from_millis(50)));
        }
        time.advance(Duration::from_millis(50));
        assert!(Task::new(service.call(10)).run().is_pending(), "now it may wait");
    }

    #[test]
    fn a_full_queue_refuses() {
        let (inner, _) = echo();
        let layer = frozen(RateLimitLayer::per_second(50).burst(1).wait(SECOND).queue(2));
        let mut service = layer.layer(inner);

        let mut tasks: Vec<_> = (0..4).map(|n| Task::new(service.call(n))).collect();

        assert_eq!(ready(&mut tasks), [true, false, false, true]);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_waits() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let layer =
            RateLimitLayer::per_second(50).wait(Duration::from_millis(200)).queue(64).clock(time.clock());
        let mut service = layer.layer(inner);

        let mut tasks: Vec<_> = (0..61).map(|n| Task::new(service.call(n))).collect();

        let ready = ready(&mut tasks);
        assert_eq!(ready.iter().filter(|ready| **ready).count(), 51);
        assert!(ready[..50].iter().all(|ready| *ready) && ready[60]);
        time.advance(Duration::from_millis(200));
        assert!(tasks[50..60].iter_mut().all(|task| task.run().is_ready()));
    }

    #[test]
    fn a_call_dropped_while_it_waits_gives_its_place_back() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = even(&time);
        let mut service = layer.layer(inner);
        assert!(Task::new(service.call(1)).run().is_ready());

        for n in 0..50 {
            let mut waiting = Task::new(service.call(n));
            assert!(waiting.run().is_pending(), "call {n}");
            // Another, which was not even polled.
            drop(service.call(n));
        }

        let mut last = Task::new(service.call(99));
        time.advance(Duration::from_millis(100));
        assert!(last.run().is_ready(), "its place is the first");
        assert_eq!((watch.calls(), layer.handle().snapshot().abandoned), (2, 100));
    }

    #[test]
    fn those_behind_a_call_that_gives_up_move_up() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = RateLimitLayer::per_second(10).burst(1).queue(4).clock(time.clock());
        let mut service = layer.layer(inner);
        let mut tasks: Vec<_> = (0..6).map(|n| Some(Task::new(service.call(n)))).collect();
        let run = |tasks: &mut Vec<Option<Task<_>>>| {
            for task in tasks.iter_mut() {
                if task.as_mut().is_some_and(|task| task.run().is_ready()) {
                    *task = None;
                }
            }
            tasks.iter().enumerate().filter(|(_, task)| task.is_some()).map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!(run(&mut tasks), [1, 2, 3, 4], "the first has gone, and the last found the queue full");

        tasks[2] = None;

        assert!(tasks[3].as_ref().unwrap().is_woken());
        tasks.push(Some(Task::new(service.call(6))));
        assert_eq!(run(&mut tasks), [1, 3, 4, 6], "there is room for one more");
        for left in [&[3, 4, 6][..], &[4, 6], &[6], &[]] {
            time.advance(Duration::from_millis(99));
            let before = watch.calls();
            run(&mut tasks);
            assert_eq!(watch.calls(), before, "no two go closer than a tenth of a second");
            time.advance(Duration::from_millis(1));
            assert_eq!(run(&mut tasks), left);
        }
    }

    #[test]
    fn a_turn_that_has_come_is_no_use_to_others() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let mut service = RateLimitLayer::per_second(10).burst(1).queue(4).clock(time.clock()).layer(inner);
        let mut tasks: Vec<_> = (0..4).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(ready(&mut tasks[..1]), [true]);

        time.advance(Duration::from_millis(190));
        drop(tasks.remove(1));

        assert_eq!(ready(&mut tasks[1..]), [false, false]);
        time.advance(Duration::from_millis(10));
        assert_eq!((ready(&mut tasks[1..]), watch.calls()), (vec![true, false], 2));
    }

    #[test]
    fn thousands_that_give_up_leave_nothing_behind() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let layer = RateLimitLayer::per_second(1_000).burst(1).wait(SECOND * 10).queue(10_000);
        let layer = layer.clock(time.clock()).cost(|n: &u32| 1 + n % 2);
        let mut service = layer.layer(inner);
        for odd in [0, 1] {
            let mut waiting: Vec<_> = (0..2_000).map(|n| service.call(n * odd)).collect();
            // From the middle, from the end, from the front.
            drop(waiting.drain(500..1_000));
            waiting.truncate(1_000);
            drop(waiting);
            time.advance(SECOND * 10);
        }

        assert_eq!(layer.handle().snapshot().keys, 0);
        assert!(Task::new(service.call(0)).run().is_ready());
    }

    #[test]
    fn threads_may_come_and_give_up_as_they_like() {
        let time = ManualClock::new();
        let layer = RateLimitLayer::per_second(1_000).burst(1).wait(SECOND).queue(1_000).clock(time.clock());

        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let mut service = layer.layer(echo().0);
                scope.spawn(move || {
                    for round in 0..50 {
                        let mut waiting: Vec<_> = (0..10).map(|n| Task::new(service.call(n))).collect();
                        waiting.iter_mut().for_each(|task| drop(task.run()));
                        drop(waiting.swap_remove((thread + round) % 10));
                        drop(waiting);
                    }
                });
            }
        });

        let seen = layer.handle().snapshot();
        assert_eq!((seen.waited, seen.allowed), (0, seen.abandoned + 1), "the first went at once");
        time.advance(SECOND + SECOND);
        assert_eq!(layer.handle().snapshot().keys, 0);
    }

    #[test]
    fn nothing_of_the_inner_service_is_held_while_a_call_waits() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let mut service = even(&time).layer(inner);
        assert!(Task::new(service.call(1)).run().is_ready());
        let polls = watch.polls();

        let mut waiting = Task::new(service.call(2));
        assert!(waiting.run().is_pending());
        assert_eq!((watch.polls(), watch.reserved(), watch.in_flight()), (polls, 0, 0));

        time.advance(Duration::from_millis(100));
        assert!(waiting.is_woken());
        assert!(matches!(waiting.run(), Poll::Ready(Ok(2))));
    }

    #[tokio::test(start_paused = true)]
    async fn departures_keep_the_schedule_of_the_runtimes_clock() {
        let clock = buttress_core::Clock::tokio();
        let start = clock.now();
        let layer = RateLimitLayer::per_second(100).burst(1).wait(SECOND).queue(100).clock(clock.clone());
        let service = layer.layer(tower::service_fn(move |n: u32| {
            let gone = clock.now() - start;
            async move { Ok::<_, BoxError>((n, gone)) }
        }));

        let calls = (0..20).map(|n| {
            let service = service.clone();
            tokio::spawn(service.oneshot(n))
        });
        for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
            let (number, gone) = call.await.unwrap().unwrap();
            let due = Duration::from_millis(10 * n as u64);
            assert_eq!(number, n as u32);
            assert!(gone >= due && gone <= due + Duration::from_millis(1), "call {n} goes at {gone:?}");
        }
    }

    #[test]
    fn a_call_that_does_not_wait_allocates_nothing() {
        let mut service = frozen(RateLimitLayer::per_second(10).wait(SECOND)).layer(echo().0);
        let mut call = |n| {
            let polled = buttress_testkit::poll_once(&mut Box::pin(service.call(n)));
            assert!(matches!(polled, Poll::Ready(Ok(_))));
        };
        call(0);

        // The box is the test's.
        assert_eq!(allocations(|| call(1)), 1);
    }

    #[test]
    fn each_key_has_a_queue_of_its_own() {
        let (time, (inner, _)) = (ManualClock::new(), echo());
        let mut service = even(&time).by(|n: &u32| Some(n % 10)).layer(inner);

        let mut tasks: Vec<_> = [1, 11, 2, 12].map(|n| Task::new(service.call(n))).into_iter().collect();

        assert_eq!(ready(&mut tasks), [true, false, true, false]);
    }

    #[test]
    #[should_panic(expected = "does not apply to a window")]
    fn a_window_has_no_order_to_wait_in() {
        let _ = RateLimitLayer::new(FixedWindow::new(1, SECOND)).wait(SECOND);
    }
}

mod plans {
    use super::*;

    fn tariffs() -> [(&'static str, Limit); 2] {
        [("free", Limit::per_minute(1)), ("pro", Limit::per_minute(3))]
    }

    #[test]
    fn each_call_is_held_to_its_plan() {
        let plan = |n: &u32| if n.is_multiple_of(2) { "pro" } else { "free" };
        let service =
            frozen(RateLimitLayer::plans(tariffs()).plan(plan)).by(|n: &u32| Some(*n)).layer(echo().0);

        assert_eq!([1, 1, 3, 3].map(|n| passes(&service, n)), [true, false, true, false]);
        assert_eq!([2, 2, 2, 2].map(|n| passes(&service, n)), [true, true, true, false]);
        assert_eq!(rejection(call(&service, 1)).policy, Some("free".into()), "a limit takes its plan's name");
    }

    #[test]
    fn a_plan_that_is_not_there_is_the_first_and_is_counted() {
        let layer = frozen(RateLimitLayer::plans(tariffs()).plan(|_: &u32| String::from("gold")));
        let service = layer.layer(echo().0);

        assert_eq!([1, 2].map(|n| passes(&service, n)), [true, false]);
        assert_eq!(layer.handle().snapshot().unplanned, 2);
    }

    #[test]
    fn a_plan_may_be_told_by_its_index_or_left_out() {
        let layer = frozen(RateLimitLayer::plans(tariffs()).plan(|n: &u32| (*n > 0).then_some(1_usize)));
        let service = layer.layer(echo().0);

        assert_eq!([0, 0, 5, 6, 7, 8].map(|n| passes(&service, n)), [true, false, true, true, true, false]);
        assert_eq!(layer.handle().snapshot().unplanned, 0);
    }

    #[test]
    fn a_plan_may_have_several_limits_and_refusals_are_counted_by_plan() {
        let pro = vec![Limit::per_second(2).named("burst"), Limit::per_day(3).named("daily")];
        let layer = frozen(
            RateLimitLayer::plans([("free", vec![Limit::per_day(1)]), ("pro", pro)]).plan(|_: &u32| "pro"),
        );
        let service = layer.layer(echo().0);

        assert_eq!([1, 2, 3].map(|n| passes(&service, n)), [true, true, false]);

        let told = |count: &LimitCounts| {
            format!("{}/{}: {}", count.plan.as_ref().unwrap(), count.limit, count.refused)
        };
        let counts: Vec<_> = layer.handle().limits().iter().map(told).collect();
        assert_eq!(counts, ["free/free: 0", "pro/burst: 1", "pro/daily: 0"]);
    }

    #[test]
    #[should_panic(expected = "two plans `pro`")]
    fn two_plans_of_one_name_are_refused() {
        let _ = RateLimitLayer::plans([("pro", Limit::per_day(1)), ("pro", Limit::per_day(2))]);
    }
}

mod lists {
    use super::*;

    #[test]
    fn the_allow_list_passes_uncounted_and_the_deny_list_is_refused() {
        let layer = frozen(RateLimitLayer::per_second(1).named("api"))
            .deny_if(|n: &u32| *n == 13)
            .allow_if(|n: &u32| *n >= 10);
        let service = layer.layer(echo().0);

        assert_eq!(
            [10, 11, 12, 13, 1, 2].map(|n| passes(&service, n)),
            [true, true, true, false, true, false]
        );

        let denied = rejection(call(&service, 13));
        assert_eq!((denied.kind, denied.retry_after), (RejectionKind::Denied, None));
        assert_eq!(denied.policy, Some("api".into()));
        let seen = layer.handle().snapshot();
        assert_eq!((seen.allowlisted, seen.denied, seen.allowed, seen.refused), (3, 2, 1, 1));
    }

    #[test]
    fn a_request_on_the_allow_list_needs_no_key() {
        let layer = frozen(RateLimitLayer::per_second(1))
            .by(|_: &u32| None::<u32>)
            .on_missing_key(MissingKey::Deny)
            .allow_if(|n: &u32| *n == 0);
        let service = layer.layer(echo().0);

        assert_eq!([0, 1].map(|n| passes(&service, n)), [true, false]);
    }
}

mod shadows {
    use super::*;

    #[test]
    fn a_layer_that_only_watches_counts_what_it_would_refuse() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let layer = frozen(RateLimitLayer::per_second(2)).shadow().observe(move |event| {
            if let RateLimitEvent::Shadow { policy, decision, .. } = event {
                log.lock().unwrap().push((policy.to_string(), decision.retry_after()));
            }
        });
        let service = layer.layer(echo().0);

        assert!([1, 2, 3, 4].iter().all(|n| passes(&service, *n)));

        let counts = layer.handle().snapshot();
        assert_eq!((counts.allowed, counts.refused, counts.shadowed), (4, 0, 2));
        assert_eq!(layer.handle().limits()[0].shadowed, 2);
        assert_eq!(*seen.lock().unwrap(), vec![("default".to_owned(), Some(Duration::from_millis(500))); 2]);
    }

    #[test]
    fn one_limit_of_several_may_watch() {
        let limits = [Limit::per_second(5).named("hard"), Limit::per_second(2).named("soft").shadow()];
        let layer = frozen(RateLimitLayer::all(limits));
        let service = layer.layer(echo().0);

        assert_eq!((0..8).filter(|n| passes(&service, *n)).count(), 5);

        let counts: Vec<_> =
            layer.handle().limits().iter().map(|count| (count.refused, count.shadowed)).collect();
        assert_eq!(counts, [(3, 0), (0, 6)], "with those that the other refused");
    }
}

mod handles {
    use super::*;

    #[test]
    fn a_peek_takes_nothing_and_a_refund_gives_back() {
        let layer = frozen(RateLimitLayer::per_minute(3)).by(|n: &u32| Some(*n));
        let (handle, service) = (layer.handle(), layer.layer(echo().0));
        assert_eq!([7, 7, 7, 7].map(|n| passes(&service, n)), [true, true, true, false]);

        assert_eq!(handle.peek(7_u32)[0].remaining, 0);
        handle.refund(7_u32, 1);
        assert_eq!(handle.peek(7_u32)[0].remaining, 1);
        assert_eq!([7, 7].map(|n| passes(&service, n)), [true, false]);

        handle.refund(7_u32, u32::MAX);
        assert_eq!(handle.peek(7_u32)[0].remaining, 3, "never more than the limit");
        assert_eq!(handle.peek(8_u32)[0].remaining, 3);
        assert_eq!(handle.snapshot().keys, 0);
    }

    #[test]
    fn a_limit_changes_while_calls_go_on() {
        let layer = frozen(RateLimitLayer::per_minute(4)).by(|n: &u32| Some(*n));
        let (handle, service) = (layer.handle(), layer.layer(echo().0));
        assert_eq!([7, 7].map(|n| passes(&service, n)), [true, true]);

        handle.set_limit(0, Limit::per_minute(8), CarryOver::Proportional).unwrap();
        assert_eq!(handle.peek(7_u32)[0].remaining, 4, "half is used");
        handle.set_limit("default", Limit::per_minute(4), CarryOver::Reset).unwrap();
        assert_eq!(handle.peek(7_u32)[0].remaining, 4);
        assert_eq!((0..9).filter(|_| passes(&service, 7)).count(), 4);

        let missing = handle.set_limit("daily", Limit::per_minute(4), CarryOver::Reset).unwrap_err();
        assert!(missing.to_string().contains("index"), "{missing}");
    }

    #[test]
    fn a_plan_is_changed_on_its_own() {
        let layer = frozen(
            RateLimitLayer::plans([("free", Limit::per_minute(1)), ("pro", Limit::per_minute(3))])
                .plan(|n: &u32| if *n == 0 { "free" } else { "pro" }),
        );
        let (handle, service) = (layer.handle(), layer.layer(echo().0));
        let pro = handle.plan("pro").unwrap();

        pro.set_limit(0, Limit::per_minute(2), CarryOver::Reset).unwrap();

        assert_eq!([1, 2, 3].map(|n| passes(&service, n)), [true, true, false]);
        assert_eq!((pro.peek(Global)[0].remaining, handle.peek(Global)[0].remaining), (0, 1));
        assert!(handle.plan("gold").is_none());
    }

    #[test]
    fn the_keys_that_are_refused_most_are_told() {
        let layer = frozen(RateLimitLayer::per_minute(1)).by(|n: &u32| Some((format!("user-{n}"), *n as u8)));
        let layer = layer.top_refused(4);
        let (handle, service) = (layer.handle(), layer.layer(echo().0));

        for n in 0..100 {
            let _ = call(&service, n % 3);
            let _ = call(&service, 7);
        }
        // A flood of others goes through the one place that is left, and pushes none of them out.
        for n in 1_000..1_020 {
            let _ = (call(&service, n), call(&service, n));
        }

        let top = handle.top_refused();
        let told = |key: &TopKey| format!("{}: {}", key.key, key.refused - key.over);
        assert_eq!(top.len(), 4);
        assert_eq!(told(&top[0]), "user-7/7: 99");
        assert!(top[1].refused >= 32 && top[1].key.starts_with("user-"));
    }

    #[test]
    fn nothing_is_told_of_keys_unless_asked() {
        let layer = frozen(RateLimitLayer::per_minute(1)).by(|n: &u32| Some(*n));
        let service = layer.layer(echo().0);

        assert_eq!([7, 7].map(|n| passes(&service, n)), [true, false]);

        assert!(layer.handle().top_refused().is_empty());
    }
}

mod events {
    use super::*;

    #[test]
    fn each_thing_that_happens_is_told() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let layer = frozen(RateLimitLayer::plans([("a", Limit::per_minute(2))]).plan(|n: &u32| match n {
            5 => "b",
            _ => "a",
        }))
        .cost(|n: &u32| *n)
        .named("api")
        .allow_if(|n: &u32| *n == 90)
        .deny_if(|n: &u32| *n == 91)
        .settle(|_: &u32| 0)
        .observe(move |event| {
            log.lock().unwrap().push(match *event {
                RateLimitEvent::Allowed { policy, cost, .. } => format!("{policy} allows {cost}"),
                RateLimitEvent::Refused { policy, cost, .. } => format!("{policy} refuses {cost}"),
                RateLimitEvent::Settled { policy, held, actual, .. } => {
                    format!("{policy} settles {held} to {actual}")
                }
                RateLimitEvent::Allowlisted { policy, .. } => format!("{policy} lets pass"),
                RateLimitEvent::Denied { policy, .. } => format!("{policy} denies"),
                RateLimitEvent::UnknownPlan { policy, .. } => format!("{policy} knows no such plan"),
                _ => "?".to_owned(),
            });
        });
        let service = layer.layer(echo().0);

        for n in [2, 5, 90, 91] {
            let _ = call(&service, n);
        }

        let expected = [
            "api allows 2",
            "api settles 2 to 0",
            "api knows no such plan",
            "a refuses 5",
            "api lets pass",
            "api denies",
        ];
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn evicted_keys_are_told_once_each() {
        let told = Arc::new(Mutex::new(0));
        let sum = told.clone();
        let layer =
            frozen(RateLimitLayer::per_minute(1).capacity(10)).by(|n: &u32| Some(*n)).observe(move |event| {
                if let RateLimitEvent::Evicted { keys, .. } = event {
                    *sum.lock().unwrap() += keys;
                }
            });
        let service = layer.layer(echo().0);

        for n in 0..1_000 {
            let _ = call(&service, n);
        }

        let evicted = layer.handle().snapshot().evicted;
        assert!(evicted > 900);
        assert_eq!(*told.lock().unwrap(), evicted);
    }

    #[test]
    fn a_call_that_waits_is_told_twice() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, time) = (seen.clone(), ManualClock::new());
        let layer = RateLimitLayer::per_second(1).wait(SECOND).clock(time.clock()).observe(move |event| {
            log.lock().unwrap().push(match *event {
                RateLimitEvent::Allowed { decision, .. } => format!("allowed after {:?}", decision.delay()),
                RateLimitEvent::Waited { waited, .. } => format!("waited {waited:?}"),
                _ => "?".to_owned(),
            });
        });
        let mut service = layer.layer(echo().0);

        let mut tasks = [1, 2].map(|n| Task::new(service.call(n)));
        time.advance(SECOND);
        assert!(tasks.iter_mut().all(|task| task.run().is_ready()));

        assert_eq!(*seen.lock().unwrap(), ["allowed after 0ns", "allowed after 1s", "waited 1s"]);
    }
}
