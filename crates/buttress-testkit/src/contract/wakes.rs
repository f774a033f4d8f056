//! Point 3: who waits is woken, by an event, and not otherwise.

use super::exchange::Exchange;
use super::rig::{Checked, Rig, exchange, oneshot};
use super::{Subject, WAITERS};
use crate::service::StrictHandle;
use crate::task::Task;

/// What the calls wait for.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    Readiness,
    Response,
}

impl Wait {
    fn begin<E>(self, inner: &StrictHandle<E>) {
        match self {
            Self::Readiness => inner.not_ready(),
            Self::Response => inner.hold(),
        }
    }

    fn end<E>(self, inner: &StrictHandle<E>) {
        match self {
            Self::Readiness => inner.ready(),
            Self::Response => inner.release(),
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Readiness => "the inner service became ready",
            Self::Response => "the inner service answered",
        }
    }
}

/// Several clones wait for one event; then `drops` of them (by index) are dropped before it.
pub(super) fn all_are_woken<L: Subject<X>, X: Exchange>(
    mut rig: Rig<L, X>,
    wait: Wait,
    gone: Option<usize>,
) -> Checked {
    let mut service = rig.service();
    wait.begin(&rig.inner);
    let mut calls: Vec<_> =
        (0..WAITERS).map(|_| Task::new(oneshot::<L, X>(service.clone(), rig.request().1))).collect();

    rig.run_all(&mut calls)?;
    let polls: usize = calls.iter().map(Task::polls).sum();
    rig.settle();
    rig.run_all(&mut calls)?;
    if calls.iter().map(Task::polls).sum::<usize>() != polls {
        return Err("calls that wait are woken while nothing happens".into());
    }
    if let Some(gone) = gone {
        drop(calls.remove(gone));
        rig.run_all(&mut calls)?;
    }

    wait.end(&rig.inner);
    rig.run_all(&mut calls)?;
    match calls.iter().filter(|call| !call.is_done()).count() {
        0 => {}
        stuck => {
            let dropped = if gone.is_some() { " and one of those who waited was dropped" } else { "" };
            return Err(format!(
                "{}{dropped}, but {stuck} of {WAITERS} clones that waited are never woken",
                wait.event()
            )
            .into());
        }
    }
    drop(calls);
    rig.serve(&mut service, "after several clones waited")?;
    rig.close(service)
}

/// A call moves to another task while it waits.
pub(super) fn the_last_waker_counts<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>, wait: Wait) -> Checked {
    let mut service = rig.service();
    wait.begin(&rig.inner);
    let (_, request) = rig.request();
    let mut call = Task::new(exchange::<L, X>(&mut service, request));
    if rig.run(&mut call)?.is_none() {
        call.change_waker();
        if rig.run(&mut call)?.is_none() {
            wait.end(&rig.inner);
            if rig.run(&mut call)?.is_none() {
                return Err(
                    format!("{}, but the task that polled the call last is not woken", wait.event()).into()
                );
            }
        }
    }
    drop(call);
    wait.end(&rig.inner);
    rig.serve(&mut service, "after a call moved to another task")?;
    rig.close(service)
}
