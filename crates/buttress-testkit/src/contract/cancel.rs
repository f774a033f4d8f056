//! Point 4: a call may be dropped at any stage.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use http_body::Body;
use tower_service::Service;

use super::exchange::{Answer, Exchange, Shape};
use super::rig::{Checked, Rig, answered, exchange, oneshot};
use super::{ROUNDS, Subject};
use crate::service::Fault;
use crate::task::Task;

pub(super) fn before_the_first_poll<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for _ in 0..ROUNDS {
        rig.must_ready(&mut service)?;
        drop(service.call(rig.request().1));
    }
    rig.clean("after calls were dropped before their first poll")?;
    rig.serve(&mut service, "after calls were dropped before their first poll")?;
    rig.close(service)
}

pub(super) fn waiting_for_readiness<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.not_ready();
    for polled in (0..ROUNDS).map(|round| round % 2 == 0) {
        let mut clone = service.clone();
        if !rig.ready(&mut clone)? {
            // Waits in poll_ready: the clone goes away with its place in the queue.
            continue;
        }
        let mut call = Task::new(clone.call(rig.request().1));
        if polled {
            rig.run(&mut call)?;
        }
        drop(call);
        rig.settle();
        if rig.inner.waiting() > 0 {
            return Err(
                "a call dropped while it waits for the inner service keeps its place in that one's queue"
                    .into(),
            );
        }
    }
    rig.clean("after calls were dropped while they waited for the inner service")?;
    rig.inner.ready();
    rig.serve(&mut service, "after calls were dropped while they waited for the inner service")?;
    rig.close(service)
}

pub(super) fn waiting_for_the_response<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.hold();
    for _ in 0..ROUNDS {
        rig.run(&mut Task::new(exchange::<L, X>(&mut service, rig.request().1)))?;
    }
    rig.clean("after calls were dropped while the inner service worked on them")?;
    rig.inner.release();
    rig.serve(&mut service, "after calls were dropped while the inner service worked on them")?;
    rig.close(service)
}

/// Not a drop, but an end that must give back as much.
pub(super) fn a_call_that_ends<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for _ in 0..ROUNDS {
        rig.serve(&mut service, "with a ready inner service")?;
    }
    rig.clean("after calls that succeeded")?;
    for _ in 0..2 {
        if let Some(error) = X::Error::fault() {
            rig.inner.fail(error);
            // A layer may try again, and so succeed.
            rig.run(&mut Task::new(exchange::<L, X>(&mut service, rig.request().1)))?;
        }
    }
    rig.clean("after calls that failed")?;
    rig.serve(&mut service, "after calls that failed")?;
    rig.close(service)
}

/// A second call may wait for the first inside the layer; dropping either must not cost the other.
pub(super) fn behind_another_call<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for first_goes in [false, true] {
        rig.inner.hold();
        let mut first = Task::new(oneshot::<L, X>(service.clone(), rig.request().1));
        rig.run(&mut first)?;
        let mut second = Task::new(oneshot::<L, X>(service.clone(), rig.request().1));
        rig.run(&mut second)?;
        let (gone, mut rest) = if first_goes { (first, second) } else { (second, first) };
        drop(gone);
        rig.run(&mut rest)?;
        rig.inner.release();
        rig.run(&mut rest)?;
        if !rest.is_done() {
            let (gone, left) = if first_goes { ("first", "second") } else { ("second", "first") };
            return Err(format!("of two calls the {gone} was dropped, and the {left} never finishes").into());
        }
    }
    rig.clean("after one of two calls was dropped")?;
    rig.serve(&mut service, "after one of two calls was dropped")?;
    rig.close(service)
}

/// Three calls. The first one ends and so wakes the second, which is dropped before it can look: what was handed
/// to it must go on to the third.
pub(super) fn woken_and_then_dropped<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.hold();
    let mut calls: Vec<_> =
        (0..3).map(|_| Task::new(oneshot::<L, X>(service.clone(), rig.request().1))).collect();
    rig.run_all(&mut calls)?;
    rig.inner.release();
    rig.run(&mut calls[0])?;
    drop(calls.remove(1));
    rig.run_all(&mut calls)?;
    if !calls.iter().all(Task::is_done) {
        return Err(
            "of three calls the first ended, the second was woken and dropped, and the third never finishes"
                .into(),
        );
    }
    rig.clean("after a woken call was dropped")?;

    rig.inner.not_ready();
    let mut calls: Vec<_> =
        (0..2).map(|_| Task::new(oneshot::<L, X>(service.clone(), rig.request().1))).collect();
    rig.run_all(&mut calls)?;
    rig.inner.grant();
    drop(calls.remove(0));
    rig.run_all(&mut calls)?;
    if !calls.iter().all(Task::is_done) {
        return Err(
            "the inner service let in a call that was dropped then, and the next in line never finishes"
                .into(),
        );
    }
    rig.inner.ready();
    rig.clean("after a call that was let in was dropped")?;
    rig.serve(&mut service, "after woken calls were dropped")?;
    rig.close(service)
}

/// Futures outlive the service that made them (hyper and axum drop it at once).
pub(super) fn the_service_goes_first<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.hold();
    rig.must_ready(&mut service)?;
    let mut call = Task::new(answered::<L, X>(service.call(rig.request().1)));
    rig.run(&mut call)?;
    drop(service);
    rig.run(&mut call)?;
    rig.inner.release();
    rig.run(&mut call)?;
    if !call.is_done() {
        return Err("a call does not finish when the service that made it was dropped".into());
    }
    rig.close(call)
}

pub(super) fn after_the_head<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for shape in Shape::ALL.into_iter().cycle().take(ROUNDS) {
        drop(head(&rig, &mut service, shape)?);
    }
    rig.clean("after responses were dropped with their body unread")?;
    rig.serve(&mut service, "after responses were dropped with their body unread")?;
    rig.close(service)
}

pub(super) fn mid_body<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for shape in [Shape::Two, Shape::Trailers, Shape::Stall, Shape::Error].into_iter().cycle().take(ROUNDS) {
        let (_, body) = head(&rig, &mut service, shape)?.split();
        let mut body = Box::pin(body);
        rig.run(&mut Task::new(first_frame(body.as_mut())))?;
        if shape == Shape::Stall {
            rig.run(&mut Task::new(first_frame(body.as_mut())))?;
        }
    }
    rig.clean("after bodies were dropped half read")?;
    rig.serve(&mut service, "after bodies were dropped half read")?;
    rig.close(service)
}

/// The head of a response to a call that has to succeed.
pub(super) fn head<L: Subject<X>, X: Exchange>(
    rig: &Rig<L, X>,
    service: &mut L::Layered,
    shape: Shape,
) -> Checked<<L::Layered as Service<X::Request>>::Response> {
    rig.must_ready(service)?;
    match rig.run(&mut Task::new(service.call(rig.shaped(shape).1)))? {
        Some(Ok(response)) => Ok(response),
        Some(Err(_)) => Err("a call fails although the inner service answers".into()),
        None => Err("a call does not finish although the inner service is ready and answers at once".into()),
    }
}

fn first_frame<B: Body>(mut body: Pin<&mut B>) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if body.is_end_stream() {
            return Poll::Ready(());
        }
        body.as_mut().poll_frame(cx).map(drop)
    })
}
