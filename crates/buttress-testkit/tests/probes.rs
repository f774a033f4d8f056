//! The parts of the kit, one by one.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_testkit::{
    BoxError, ScriptedBody, StrictHandle, StrictService, Task, WakeCounter, advance, allocations, poll_once,
};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use tower_service::Service;

fn doubles() -> (StrictService<u32, u32>, StrictHandle) {
    StrictService::new(|n| n * 2)
}

fn ready<S: Service<u32>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    Task::new(poll_fn(|cx| service.poll_ready(cx))).run()
}

#[test]
fn a_service_that_was_not_readied_panics_when_called() {
    let (mut service, handle) = doubles();

    assert!(catch_unwind(AssertUnwindSafe(|| service.call(1))).is_err());
    assert_eq!((handle.unready_calls(), handle.calls()), (1, 0));
}

#[test]
fn readiness_is_lost_on_clone_and_after_a_call() {
    let (mut service, handle) = doubles();
    assert!(ready(&mut service).is_ready());
    assert_eq!(handle.reserved(), 1);

    let mut clone = service.clone();
    assert!(catch_unwind(AssertUnwindSafe(|| clone.call(1))).is_err());
    assert!(matches!(poll_once(&mut service.call(1)), Poll::Ready(Ok(2))));

    assert!(catch_unwind(AssertUnwindSafe(|| service.call(1))).is_err());
    assert_eq!((handle.clones(), handle.alive(), handle.reserved()), (1, 2, 0));
    drop((service, clone));
    assert_eq!(handle.alive(), 0);
}

#[test]
fn a_grant_goes_to_the_instance_that_has_waited_longest_and_then_to_the_next() {
    let (mut first, handle) = doubles();
    let mut second = first.clone();
    handle.not_ready();
    assert!(ready(&mut first).is_pending());
    assert!(ready(&mut second).is_pending());

    handle.grant();
    assert!(ready(&mut second).is_pending());
    drop(first);

    assert!(ready(&mut second).is_ready(), "the grant of a dropped instance is the next one's");
    assert_eq!(handle.waiting(), 0);

    handle.grant();
    let mut third = second.clone();
    assert!(ready(&mut third).is_ready(), "a grant that nobody waits for is kept");
    assert!(ready(&mut second.clone()).is_pending());
}

#[test]
fn held_calls_finish_one_by_one_or_all_at_once() {
    let (mut service, handle) = doubles();
    handle.hold();
    let mut calls: Vec<_> = (0..3)
        .map(|n| {
            assert!(ready(&mut service).is_ready());
            Task::new(service.call(n))
        })
        .collect();
    assert!(calls.iter_mut().all(|call| call.run().is_pending()));
    assert_eq!(handle.in_flight(), 3);

    handle.release_one();
    assert_eq!(calls.iter().map(Task::is_woken).collect::<Vec<_>>(), [true, false, false]);
    assert!(calls[0].run().is_ready());

    drop(calls.pop());
    handle.release();
    assert!(calls[1].run().is_ready());
    assert_eq!((handle.in_flight(), handle.finished(), handle.abandoned()), (0, 2, 1));
}

#[test]
fn scripts_are_used_up_by_the_next_call() {
    let (mut service, handle) = doubles();
    handle.fail("no".into());
    handle.panic_in_call();
    handle.panic_in_future();
    handle.fail_ready("not even ready".into());

    assert!(matches!(ready(&mut service), Poll::Ready(Err(_))));
    assert!(ready(&mut service).is_ready());
    assert!(matches!(poll_once(&mut service.call(1)), Poll::Ready(Err(_))));
    assert!(ready(&mut service).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(|| service.call(1))).is_err());
    assert!(ready(&mut service).is_ready());
    let mut call = service.call(1);
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err());
    drop(call);
    assert!(ready(&mut service).is_ready());
    assert!(matches!(poll_once(&mut service.call(1)), Poll::Ready(Ok(2))));
    assert_eq!((handle.in_flight(), handle.unready_calls()), (0, 0));
}

#[test]
fn a_call_through_the_strict_service_allocates_nothing() {
    let (mut service, _handle) = doubles();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(Pin::new(&mut service.call(1)).poll(&mut cx).is_ready());
    };
    call();

    assert_eq!(allocations(call), 0);
}

#[test]
fn a_counter_tells_its_own_wakes_from_others() {
    let counter = WakeCounter::new();
    let mut once = Box::pin(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    assert!(counter.poll(once.as_mut()).is_pending());
    counter.waker().wake();

    assert_eq!((counter.wakes(), counter.self_wakes()), (2, 1));
    assert!(counter.is_woken());
}

#[test]
fn a_task_that_wakes_itself_for_ever_is_stopped() {
    let mut spins = Task::new(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));

    assert!(catch_unwind(AssertUnwindSafe(|| spins.run())).is_err());
}

#[test]
fn a_task_is_polled_when_it_is_woken_and_not_before() {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let mut task = Task::new(rx);
    assert!(task.run().is_pending());
    assert!(task.run().is_pending());
    assert_eq!(task.polls(), 1);

    task.change_waker();
    assert!(task.run().is_pending());
    tx.send(1).unwrap();
    assert!(task.run().is_ready());
    assert_eq!((task.polls(), task.is_done()), (3, true));
}

#[test]
fn a_scripted_body_plays_its_script() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let mut body = ScriptedBody::new().data("ab").stall().data("c").trailers(trailers);
    let handle = body.handle();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));

    assert_eq!(&frame(&mut body).unwrap().into_data().unwrap()[..], b"ab");
    let mut stalled = Task::new(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
    assert!(stalled.run().is_pending());
    handle.resume();
    assert!(stalled.is_woken());
    assert!(stalled.run().is_ready());
    drop(stalled);

    assert!(frame(&mut body).unwrap().is_trailers());
    assert!(body.is_end_stream());
    assert_eq!((handle.frames(), handle.is_finished(), handle.is_dropped()), (3, true, false));
}

#[test]
fn a_chunked_body_ends_with_none_and_a_failed_one_with_its_error() {
    let mut body = ScriptedBody::new().data("a").chunked();
    assert_eq!(body.size_hint().exact(), None);
    assert!(frame(&mut body).is_some());
    assert!(!body.is_end_stream());
    assert!(frame(&mut body).is_none());
    assert!(body.is_end_stream());

    let mut body = ScriptedBody::new().error("reset").data("never seen");
    let Poll::Ready(Some(Err(error))) = poll_once(&mut poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)))
    else {
        panic!("the body fails");
    };
    assert_eq!(error.to_string(), "reset");
    assert!(body.is_end_stream());
}

fn frame(body: &mut ScriptedBody) -> Option<http_body::Frame<bytes::Bytes>> {
    match poll_once(&mut poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))) {
        Poll::Ready(frame) => frame.map(|frame: Result<_, BoxError>| frame.expect("no error in the script")),
        Poll::Pending => panic!("the body does not stall here"),
    }
}

#[tokio::test(start_paused = true)]
async fn advance_lets_the_tasks_run_that_became_due() {
    let clock = buttress_core::Clock::tokio();
    let start = clock.now();
    let sleeper = tokio::spawn({
        let clock = clock.clone();
        async move {
            clock.sleep(Duration::from_secs(5)).await;
            clock.now() - start
        }
    });
    advance(Duration::from_secs(4)).await;
    assert!(!sleeper.is_finished());

    advance(Duration::from_secs(1)).await;
    assert!(sleeper.is_finished());
    assert!(sleeper.await.unwrap() >= Duration::from_secs(5));
}

#[cfg(feature = "http")]
#[test]
fn a_refusal_can_be_answered_with_a_scripted_body() {
    use buttress_http::body::ReplyBody;

    let mut body = ScriptedBody::reply("no".into());
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(2), false));
    assert_eq!(frame(&mut body).unwrap().into_data().unwrap(), "no");
    assert!(ScriptedBody::reply(bytes::Bytes::new()).is_end_stream());
}
