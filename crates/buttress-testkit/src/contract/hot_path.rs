//! Point 8: what a call costs when all is well.

use super::exchange::Exchange;
use super::rig::{Checked, Rig, oneshot};
use super::{Subject, WAITERS};
use crate::task::Task;

/// `cloned`: as axum does, each call goes through a clone of its own.
#[cfg(feature = "alloc")]
pub(super) fn allocations<L: Subject<X>, X: Exchange>(
    mut rig: Rig<L, X>,
    allowed: u64,
    cloned: bool,
) -> Checked {
    let mut service = rig.service();
    let (mut bare, _handle) = super::Inner::<X>::new(X::reply);
    // The first round warms tables and thread-locals up.
    count::<X, _>(&mut service, cloned)?;
    let with = count::<X, _>(&mut service, cloned)?;
    count::<X, _>(&mut bare, cloned)?;
    let without = count::<X, _>(&mut bare, cloned)?;

    if with > without + allowed * u64::from(CALLS) {
        let (added, calls) = (with - without, if cloned { "calls, each on a clone," } else { "calls" });
        return Err(format!(
            "{CALLS} {calls} make {added} allocations more than without the layer; {allowed} per call are allowed"
        )
        .into());
    }
    rig.close(service)
}

#[cfg(feature = "alloc")]
const CALLS: u32 = 16;

#[cfg(feature = "alloc")]
fn count<X, S>(service: &mut S, cloned: bool) -> Checked<u64>
where
    X: Exchange,
    S: tower_service::Service<X::Request, Response: super::exchange::Answer<X>> + Clone,
{
    let requests: Vec<_> = (0..CALLS).map(|_| X::request(0, super::exchange::Shape::Two)).collect();
    let mut good = true;
    let count = crate::allocations(|| {
        for request in requests {
            good &= if cloned {
                call_now::<X, _>(&mut service.clone(), request)
            } else {
                call_now::<X, _>(service, request)
            };
        }
    });
    if good {
        Ok(count)
    } else {
        Err("a call does not finish at once although the inner service is ready and answers at once".into())
    }
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

/// Each touch of the tripwire asks the layer what it holds: under a lock of the layer that never returns.
pub(super) fn closures_run_outside_locks<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    if let Some(held) = rig.probe() {
        let layer = rig.layer.clone();
        rig.tripwire.look(move || {
            held(&layer);
        });
        rig.serve(&mut service, "while a closure of the user asks what the layer holds")?;
    }
    Ok(())
}
