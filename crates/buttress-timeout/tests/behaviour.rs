//! Head timeouts, over a service that is not HTTP.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{
    BoxError, Cause, Clock, Fail, ManualClock, OnCall, Rejection, RejectionKind, Timestamp, reject,
};
use buttress_testkit::{StrictHandle, StrictService, Task, allocations};
use buttress_timeout::{Timeout, TimeoutEvent, TimeoutLayer};
use tower::{Layer, Service, ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

type Inner = StrictService<u32, u32>;

fn inner() -> (Inner, StrictHandle) {
    StrictService::new(|number| number)
}

/// A service that is given ten seconds, and holds its calls.
fn slow(time: &ManualClock) -> (Timeout<OnCall<Inner>>, StrictHandle) {
    let (inner, handle) = inner();
    handle.hold();
    (TimeoutLayer::head(10 * SECOND).named("upstream").clock(time.clock()).layer(inner), handle)
}

fn rejection<T: std::fmt::Debug>(answer: Poll<Result<T, BoxError>>) -> Rejection {
    let Poll::Ready(answer) = answer else { panic!("the call still waits") };
    answer.expect_err("the call is refused").rejection().expect("by one of our layers").clone()
}

#[test]
fn a_call_is_refused_when_its_time_is_over_and_no_moment_earlier() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());

    time.advance(10 * SECOND - TICK);
    assert!(!call.is_woken());
    assert!(call.poll().is_pending());

    time.advance(TICK);
    assert!(call.is_woken());
    let rejection = rejection(call.run());
    assert_eq!(rejection.kind, RejectionKind::Timeout);
    assert_eq!(rejection.policy.as_deref(), Some("upstream"));
    assert_eq!(handle.abandoned(), 1);
}

#[test]
fn the_inner_call_is_dropped_at_the_timeout_even_when_the_outer_future_is_kept() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    let mut call = Box::pin(service.call(1));
    let mut poll = || call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());

    time.advance(10 * SECOND);

    assert!(poll().is_ready());
    assert_eq!(handle.in_flight(), 0);
    drop(call);
}

#[test]
fn an_answer_in_time_is_passed_on_and_leaves_no_timer() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    let mut call = Task::new(service.call(7));
    assert!(call.run().is_pending());
    time.advance(9 * SECOND);

    handle.release();

    assert!(matches!(call.run(), Poll::Ready(Ok(7))));
    let counter = call.counter().clone();
    let before = counter.wakes();
    time.advance(10 * SECOND);
    assert_eq!(counter.wakes(), before);
}

#[test]
fn an_answer_that_is_there_wins_over_a_time_that_is_over() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    let mut call = Task::new(service.call(7));
    assert!(call.run().is_pending());

    time.advance(11 * SECOND);
    handle.release();

    assert!(matches!(call.run(), Poll::Ready(Ok(7))));
}

#[test]
fn an_answer_that_comes_after_the_timeout_reaches_nobody() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());
    time.advance(10 * SECOND);
    assert!(call.run().is_ready());

    handle.release();

    assert_eq!((handle.finished(), handle.abandoned()), (0, 1));
    let mut next = Task::new(service.call(2));
    assert!(matches!(next.run(), Poll::Ready(Ok(2))));
}

#[test]
fn an_error_of_the_inner_service_passes_unchanged() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    handle.fail("broken".into());
    handle.release();

    let mut call = Task::new(service.call(1));

    let Poll::Ready(Err(error)) = call.run() else { panic!("it fails") };
    assert_eq!(error.to_string(), "broken");
    assert!(error.rejection().is_none());
}

#[test]
fn waiting_until_the_inner_service_is_ready_counts_towards_the_timeout() {
    let time = ManualClock::new();
    let (mut service, handle) = slow(&time);
    handle.not_ready();
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());
    assert_eq!(handle.waiting(), 1);

    time.advance(10 * SECOND);

    assert_eq!(rejection(call.run()).kind, RejectionKind::Timeout);
    assert_eq!((handle.waiting(), handle.calls()), (0, 0), "its place in the queue is given back");
}

#[test]
fn in_the_strict_form_readiness_is_waited_for_before_the_call_and_not_counted() {
    let time = ManualClock::new();
    let (inner, handle) = inner();
    let mut service = TimeoutLayer::head(SECOND).clock(time.clock()).strict().layer(inner);
    handle.not_ready();
    let mut ready = Task::new(poll_fn(|cx| service.poll_ready(cx)));
    assert!(ready.run().is_pending());

    time.advance(60 * SECOND);
    assert!(!ready.is_woken());
    handle.ready();
    assert!(ready.run().is_ready());
    drop(ready);

    assert!(matches!(Task::new(service.call(3)).run(), Poll::Ready(Ok(3))));
}

#[test]
fn a_call_that_is_answered_at_once_makes_no_timer() {
    // There is no runtime here: a tokio timer would panic.
    let (inner, _handle) = inner();
    let mut service = TimeoutLayer::head(SECOND).clock(Clock::monotonic()).layer(inner);

    assert!(matches!(Task::new(service.call(3)).run(), Poll::Ready(Ok(3))));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_allocates_nothing() {
    let mut service = TimeoutLayer::head(SECOND)
        .clock(Clock::tokio())
        .layer(service_fn(|()| pending::<Result<(), BoxError>>()));
    let mut wait = || {
        let mut call = pin!(service.call(()));
        let mut cx = Context::from_waker(Waker::noop());
        allocations(|| assert!(call.as_mut().poll(&mut cx).is_pending()))
    };

    wait();
    assert_eq!(wait(), 0);
}

#[test]
fn an_endless_timeout_makes_no_timer_and_never_ends_a_call() {
    let (inner, handle) = inner();
    handle.hold();
    let mut service = TimeoutLayer::head(Duration::MAX).clock(Clock::monotonic()).layer(inner);
    let mut call = Task::new(service.call(3));

    assert!(call.run().is_pending());

    handle.release();
    assert!(call.run().is_ready());
}

#[test]
fn a_clock_that_is_set_back_does_not_end_a_call_early() {
    let time = ManualClock::new();
    time.advance(60 * SECOND);
    let (mut service, _handle) = slow(&time);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());

    time.set(Timestamp::ZERO);
    assert!(call.poll().is_pending());
    time.set(Timestamp::ZERO + 70 * SECOND);

    assert!(call.run().is_ready());
}

#[test]
fn the_observer_is_told_of_a_timeout_after_the_inner_call_is_gone() {
    let time = ManualClock::new();
    let (inner, handle) = inner();
    handle.hold();
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let (told, handle) = (told.clone(), handle.clone());
        move |event: &TimeoutEvent<'_>| {
            let TimeoutEvent::Head { name, limit, elapsed, .. } = *event else { panic!("{event:?}") };
            told.lock().unwrap().push((name.map(str::to_owned), limit, elapsed, handle.in_flight()));
        }
    };
    let mut service =
        TimeoutLayer::head(SECOND).named("db").observe(observer).clock(time.clock()).layer(inner);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());

    time.advance(3 * SECOND);
    assert!(call.run().is_ready());

    assert_eq!(*told.lock().unwrap(), [(Some("db".to_owned()), SECOND, 3 * SECOND, 0)]);
}

#[test]
fn an_observer_that_panics_leaves_nothing_behind() {
    let time = ManualClock::new();
    let (inner, handle) = inner();
    handle.hold();
    let layer = TimeoutLayer::head(SECOND).observe(|_| std::panic::resume_unwind(Box::new("observer")));
    let mut service = layer.clock(time.clock()).layer(inner);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());
    time.advance(SECOND);

    assert!(catch_unwind(AssertUnwindSafe(|| call.run())).is_err());

    assert_eq!((handle.in_flight(), handle.abandoned()), (0, 1));
}

#[test]
fn a_service_that_cannot_fail_is_answered_for() {
    let time = ManualClock::new();
    let (inner, handle) = StrictService::<u32, u32, Infallible>::new(|number| number);
    handle.hold();
    let layer = TimeoutLayer::head(SECOND).on_reject(reject::with(|_| Ok(504)));
    let mut service = layer.clock(time.clock()).layer(inner);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());

    time.advance(SECOND);

    assert!(matches!(call.run(), Poll::Ready(Ok(504))));
}

#[tokio::test(start_paused = true)]
async fn under_tokio_time_a_call_ends_by_itself() {
    let (inner, handle) = inner();
    handle.hold();
    let clock = Clock::tokio();
    let mut service = TimeoutLayer::head(30 * SECOND).clock(clock.clone()).layer(inner);
    let start = clock.now();

    let error = service.call(1).await.unwrap_err();

    assert_eq!(error.to_string(), "timed out");
    let took = clock.now() - start;
    assert!(took >= 30 * SECOND && took <= 30 * SECOND + Duration::from_millis(1), "{took:?}");
}

#[test]
#[should_panic(expected = "head timeout is 0ns: it must be longer than zero; `Duration::MAX` means none")]
fn a_timeout_of_zero_is_refused_when_it_is_built() {
    let _ = TimeoutLayer::head(Duration::ZERO);
}

#[test]
fn changing_a_clone_leaves_the_original_as_it_was() {
    let time = ManualClock::new();
    let layer = TimeoutLayer::head(SECOND).clock(time.clock());
    let _longer = layer.clone().and_head(60 * SECOND);
    let (inner, handle) = inner();
    handle.hold();
    let mut service = layer.layer(inner);
    let mut call = Task::new(service.call(1));
    assert!(call.run().is_pending());

    time.advance(SECOND);

    assert!(call.run().is_ready());
}

#[test]
fn the_types_are_inferred_in_a_builder_and_can_be_named_in_a_struct() {
    struct Client {
        service: Timeout<OnCall<Inner>>,
        layer: TimeoutLayer<Fail>,
    }

    let layer = TimeoutLayer::head(SECOND);
    let service = ServiceBuilder::new().layer(layer.clone()).service(inner().0);
    let client = Client { service, layer };

    let mut twice = ServiceBuilder::new().layer(client.layer).service(client.service);
    assert!(matches!(Task::new(twice.call(3)).run(), Poll::Ready(Ok(3))));
}
