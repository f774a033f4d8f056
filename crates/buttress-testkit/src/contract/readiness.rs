//! Points 1 and 2: which instance is called, and what `poll_ready` may cost.

use std::future::poll_fn;

use tower_service::Service;

use super::exchange::Exchange;
use super::rig::{Checked, Rig, answered, exchange};
use super::{ROUNDS, Subject};
use crate::service::Fault;
use crate::task::Task;

pub(super) fn inner_is_ready<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    let before = rig.inner.clones();
    for _ in 0..ROUNDS {
        rig.serve(&mut service, "with a ready inner service")?;
    }
    match rig.inner.clones() - before {
        0 => rig.close(service),
        clones => {
            Err(format!("clones the inner service {clones} times in {ROUNDS} calls although it is ready")
                .into())
        }
    }
}

pub(super) fn inner_becomes_ready<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.not_ready();
    for _ in 0..ROUNDS {
        let (_, request) = rig.request();
        let mut call = Task::new(exchange::<L, X>(&mut service, request));
        if rig.run(&mut call)?.is_some() {
            // Shed, or answered without the inner service: nothing waits.
            continue;
        }
        rig.inner.grant();
        if rig.run(&mut call)?.is_none() {
            return Err(
                "the inner service lets in the instance that has waited longest, but the call that waits \
                        is not that instance"
                    .into(),
            );
        }
    }
    rig.inner.ready();
    rig.serve(&mut service, "after calls that waited")?;
    rig.close(service)
}

pub(super) fn poll_ready_is_repeatable<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for _ in 0..ROUNDS {
        for _ in 0..3 {
            rig.must_ready(&mut service)?;
        }
        if rig.inner.reserved() > 1 {
            return Err("poll_ready, repeated, readies more than one instance of the inner service".into());
        }
        rig.serve(&mut service, "after poll_ready was repeated")?;
    }
    rig.clean("after poll_ready was repeated")?;
    rig.close(service)
}

pub(super) fn a_clone_is_not_ready<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut original = rig.service();
    rig.must_ready(&mut original)?;
    let mut clone = original.clone();

    // The clone may wait for what the original has reserved, but not be called in its place.
    let (_, request) = rig.request();
    let mut second = Task::new(exchange::<L, X>(&mut clone, request));
    let early = rig.run(&mut second)?;
    let (_, request) = rig.request();
    let mut first = Task::new(answered::<L, X>(original.call(request)));
    if rig.run(&mut first)?.is_none() {
        return Err("a readied service, called after a clone of it, does not finish".into());
    }
    drop(first);
    if early.is_none() && rig.run(&mut second)?.is_none() {
        return Err("a clone of a readied service does not finish its call".into());
    }
    drop(second);
    rig.serve(&mut clone, "on a clone")?;
    rig.clean("after calls on a service and its clone")?;
    drop(clone);
    rig.close(original)
}

pub(super) fn another_task_polls_ready<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.inner.not_ready();
    let mut first = Task::new(poll_fn(|cx| service.poll_ready(cx)));
    let waits = rig.run(&mut first)?.is_none();
    drop(first);
    if waits {
        let mut second = Task::new(poll_fn(|cx| service.poll_ready(cx)));
        rig.run(&mut second)?;
        rig.inner.ready();
        if rig.run(&mut second)?.is_none() {
            return Err("poll_ready was polled by another task last, but that task is not woken".into());
        }
    }
    rig.inner.ready();
    rig.serve(&mut service, "after another task polled poll_ready")?;
    rig.close(service)
}

pub(super) fn readied_and_dropped<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for _ in 0..ROUNDS * 4 {
        rig.must_ready(&mut service.clone())?;
    }
    rig.clean("after readied clones were dropped")?;
    rig.inner.not_ready();
    for _ in 0..ROUNDS * 4 {
        rig.ready(&mut service.clone())?;
    }
    rig.clean("after clones that waited in poll_ready were dropped")?;
    if rig.inner.waiting() > 0 {
        return Err("a dropped clone keeps its place in the inner service's queue".into());
    }
    rig.inner.ready();
    for _ in 0..ROUNDS {
        rig.serve(&mut service, "after readied clones were dropped")?;
    }
    rig.close(service)
}

pub(super) fn readiness_fails<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    let mut clone = service.clone();
    let Some(error) = X::Error::fault() else { return Ok(()) };

    rig.inner.fail_ready(error);
    let (_, request) = rig.request();
    if rig.run(&mut Task::new(exchange::<L, X>(&mut service, request)))?.is_none() {
        return Err("the inner poll_ready failed, but the call neither fails nor finishes".into());
    }
    // A service that failed is dropped, as `poll_ready` asks; the others go on.
    drop(service);
    rig.clean("after the inner poll_ready failed")?;
    for _ in 0..ROUNDS {
        rig.serve(&mut clone, "after the inner poll_ready failed once")?;
    }
    rig.close(clone)
}

pub(super) fn readiness_fails_late<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    let mut clone = service.clone();
    let Some(error) = X::Error::fault() else { return Ok(()) };

    rig.inner.not_ready();
    let (_, request) = rig.request();
    let mut call = Task::new(exchange::<L, X>(&mut service, request));
    if rig.run(&mut call)?.is_none() {
        rig.inner.fail_ready(error);
        if rig.run(&mut call)?.is_none() && !call.is_woken() && rig.inner.waiting() == 0 {
            return Err("the inner poll_ready failed, but the call that waited never hears of it".into());
        }
    }
    drop(call);
    drop(service);
    rig.inner.ready();
    rig.clean("after the inner poll_ready failed")?;
    rig.serve(&mut clone, "after the inner poll_ready failed while a call waited")?;
    rig.close(clone)
}
