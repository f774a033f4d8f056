//! Who does what time brings: a task, or the calls.

use super::*;
use buttress_core::{Clock, Timestamp};
use std::task::Waker;

#[tokio::test(start_paused = true)]
async fn with_the_task_an_ejection_ends_on_time_without_any_call() {
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    let clock = Clock::tokio();
    let outliers = plain().clock(clock.clone()).follow(&endpoints);
    let task = tokio::spawn(outliers.run());
    let a = endpoints.get("a").unwrap();
    (0..5).for_each(|_| call(&outliers, &a, Failed));
    assert!(a.condition().is_ejected());

    clock.sleep(30 * SECOND - Duration::from_millis(5)).await;
    assert!(a.condition().is_ejected());

    clock.sleep(Duration::from_millis(10)).await;
    assert!(!a.condition().is_ejected());
    assert!(clock.now() - a.usable_since() <= Duration::from_millis(10), "its slow start counts from then");
    assert!(!task.is_finished());

    drop(outliers);
    clock.sleep(11 * SECOND).await;
    assert!(task.is_finished(), "nobody is left to watch");
}

#[test]
fn with_the_task_rates_are_judged_without_any_call() {
    let rig = rig("a b c d e f", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    for name in ["a", "b", "c", "d", "e"] {
        rig.calls(name, Good, 100);
    }
    (0..50).for_each(|_| [Good, Failed].into_iter().for_each(|reply| rig.call("f", reply)));

    rig.time.advance(10 * SECOND);
    assert!(task.run().is_pending());

    assert_eq!(rig.ejected(), "f");
}

#[test]
fn with_the_task_a_health_check_that_passes_brings_one_back_at_once() {
    let rig = rig("a b c", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    rig.calls("a", Failed, 5);
    assert!(task.run().is_pending());

    rig.endpoint("a").set_health(Health::Healthy, rig.time.now());
    assert!(task.is_woken());
    assert!(task.run().is_pending());

    assert_eq!(rig.ejected(), "", "no time has passed");
}

#[test]
fn with_the_task_a_new_list_is_followed_at_once() {
    let rig = rig("a b", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    rig.calls("a", Failed, 5);
    assert!(task.run().is_pending());

    rig.endpoints.replace(named("a"), rig.time.now()).unwrap();
    assert!(task.run().is_pending());

    assert_eq!(rig.ejected(), "", "it is the last one now");
}

#[test]
fn while_the_task_lives_calls_leave_the_clock_alone_and_when_it_is_gone_they_look_again() {
    let rig = rig("a b c", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    rig.calls("a", Failed, 5);
    rig.time.advance(MINUTE);

    rig.call("b", Good);
    assert_eq!(rig.ejected(), "a", "it is the task's to do");

    drop(task);
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "");
}

#[test]
fn a_task_that_was_never_polled_takes_nothing_from_the_calls() {
    let rig = rig("a b c", plain());
    let _idle = rig.outliers.run();
    rig.calls("a", Failed, 5);
    rig.time.advance(MINUTE);

    rig.call("b", Good);

    assert_eq!(rig.ejected(), "");
}

#[test]
fn the_task_sleeps_while_nothing_happens() {
    let rig = rig("a b c", plain());
    let mut task = Task::new(rig.outliers.run());
    assert!(task.run().is_pending());
    // Other tests of this process change endpoints of their own, which wakes all tasks: so this looks for polls without a
    // wake, and `Task::run` panics at a task that wakes itself for ever.
    rig.calls("b", Good, 1000);
    for _ in 0..100 {
        rig.time.advance(SECOND);
        assert!(task.run().is_pending());
    }
    assert_eq!(task.counter().self_wakes(), 0);
}

#[test]
fn a_clock_that_is_set_back_makes_no_ejection_longer_than_one_that_begins_then() {
    let rig = rig("a b c", plain());
    rig.time.set(Timestamp::from_nanos(0) + 1000 * MINUTE);
    rig.call("b", Good);
    rig.calls("a", Failed, 5);
    assert_eq!(rig.ejected(), "a");

    rig.time.set(Timestamp::from_nanos(0));
    rig.call("b", Good);
    assert_eq!(rig.ejected(), "a");
    rig.time.advance(5 * MINUTE);
    rig.call("b", Good);

    assert_eq!(rig.ejected(), "", "five minutes are the longest");
}

#[test]
fn a_clock_that_is_set_back_does_not_hold_up_the_intervals() {
    let rig = rig("a b c d e f", plain());
    rig.time.set(Timestamp::from_nanos(0) + 1000 * MINUTE);
    rig.call("b", Good);
    rig.time.set(Timestamp::from_nanos(0));
    rig.call("b", Good);
    for name in ["a", "b", "c", "d", "e"] {
        rig.calls(name, Good, 100);
    }
    (0..50).for_each(|_| [Good, Failed].into_iter().for_each(|reply| rig.call("f", reply)));

    rig.time.advance(10 * SECOND);
    rig.call("a", Good);

    assert_eq!(rig.ejected(), "f");
}

#[test]
fn the_end_of_time_is_an_ordinary_moment() {
    let detection = plain().base_ejection_time(Duration::MAX).max_ejection_time_jitter(Duration::MAX);
    let rig = rig("a b c", detection.interval(Duration::from_millis(1)));
    rig.calls("a", Failed, 5);
    rig.time.set(Timestamp::MAX);
    rig.call("b", Good);
    rig.call("b", Good);
    rig.time.set(Timestamp::ZERO);
    rig.call("b", Good);
    rig.calls("b", Failed, 5);
    assert!(rig.endpoint("b").condition().is_usable() || rig.endpoint("a").condition().is_usable());
}

#[test]
fn the_task_is_send_and_ends_at_its_first_poll_when_nothing_is_left() {
    fn assert_send<T: Send + 'static>(value: T) -> T {
        value
    }
    let run = {
        let outliers = plain().clock(ManualClock::new().clock()).follow(&Endpoints::new([]).unwrap());
        assert_send(outliers.run())
    };

    assert!(std::pin::pin!(run).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
