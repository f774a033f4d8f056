//! Point 8: what a call costs when all is well.

use super::exchange::Exchange;
use super::rig::{Checked, Rig, oneshot};
use super::{Subject, WAITERS};
use crate::task::Task;

#[cfg(feature = "alloc")]
pub(super) fn allocations<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>, allowed: u64) -> Checked {
    const CALLS: u32 = 16;

    let mut service = rig.service();
    let (mut bare, _handle) = super::Inner::<X>::new(X::reply);
    let requests = |_| X::request(0, super::exchange::Shape::Two);

    let mut count = [0; 2];
    // The first round warms tables and thread-locals up, the second one counts.
    for _ in 0..2 {
        let mut all: Vec<_> = (0..2 * CALLS).map(requests).collect();
        let half: Vec<_> = all.drain(..CALLS as usize).collect();
        let mut good = true;
        count[0] = crate::allocations(|| {
            half.into_iter().for_each(|req| good &= call_now::<X, _>(&mut service, req))
        });
        if !good {
            return Err(
                "a call does not finish at once although the inner service is ready and answers at once"
                    .into(),
            );
        }
        count[1] =
            crate::allocations(|| all.into_iter().for_each(|req| good &= call_now::<X, _>(&mut bare, req)));
    }

    let [layered, without] = count;
    if layered > without + allowed * u64::from(CALLS) {
        let added = layered - without;
        return Err(format!("{CALLS} calls make {added} allocations more than without the layer; {allowed} per call are allowed").into());
    }
    rig.close(service)
}

/// A whole call without a task or a box around it.
#[cfg(feature = "alloc")]
fn call_now<X, S>(service: &mut S, request: X::Request) -> bool
where
    X: Exchange,
    S: tower_service::Service<X::Request, Response: super::exchange::Answer<X>>,
{
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use http_body::Body;

    use super::exchange::Answer;

    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { return false };
    let call = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = call.poll(&mut cx) else { return false };
    let (number, body) = response.split();
    let mut body = pin!(body);
    while !body.is_end_stream() {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
        }
    }
    number.is_ok()
}

pub(super) fn no_task_per_call<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    // A layer may own tasks, and may start them with its first call.
    rig.serve(&mut service, "with a ready inner service")?;
    rig.settle();
    let before = rig.runtime.metrics().num_alive_tasks();
    rig.inner.hold();
    let mut calls: Vec<_> =
        (0..WAITERS).map(|_| Task::new(oneshot::<L, X>(service.clone(), rig.request().1))).collect();
    rig.run_all(&mut calls)?;
    let tasks = rig.runtime.metrics().num_alive_tasks().saturating_sub(before);
    rig.inner.release();
    rig.run_all(&mut calls)?;
    drop(calls);
    if tasks > 1 {
        return Err(format!("{WAITERS} calls in flight spawned {tasks} tasks").into());
    }
    rig.close(service)
}
