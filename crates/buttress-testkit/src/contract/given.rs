//! Points 6, 9 and 11: a black box cannot show these; the caller gives the suite a way to look.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::exchange::Exchange;
use super::rig::{Checked, Probe, Rig, exchange};
use super::{Failure, Point, Subject};
use crate::service::Fault;
use crate::task::Task;

/// Moves a layer to its next epoch, and describes the state that outcomes move.
pub(super) struct Epoch<L> {
    pub(super) next: Arc<dyn Fn(&L) + Send + Sync>,
    pub(super) state: Arc<dyn Fn(&L) -> String + Send + Sync>,
}

impl<L> Clone for Epoch<L> {
    fn clone(&self) -> Self {
        Self { next: self.next.clone(), state: self.state.clone() }
    }
}

/// How the late call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Success,
    Failure,
    Panic,
    Drop,
}

pub(super) fn late_outcome<L: Subject<X>, X: Exchange>(
    mut rig: Rig<L, X>,
    epoch: &Epoch<L>,
    ending: Ending,
) -> Checked {
    let mut service = rig.service();
    rig.inner.hold();
    match ending {
        Ending::Failure => {
            let Some(error) = X::Error::fault() else { return Ok(()) };
            rig.inner.fail(error);
        }
        Ending::Panic => rig.inner.panic_in_future(),
        Ending::Success | Ending::Drop => {}
    }
    let mut call = Task::new(exchange::<L, X>(&mut service, rig.request().1));
    rig.run(&mut call)?;

    (epoch.next)(&rig.layer);
    let before = (epoch.state)(&rig.layer);
    if !matches!(ending, Ending::Drop) {
        rig.inner.release();
        if let Ok(Err(wrong)) = catch_unwind(AssertUnwindSafe(|| rig.run(&mut call))) {
            return Err(wrong);
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
    rig.settle();
    let after = (epoch.state)(&rig.layer);
    if before != after {
        return Err(format!(
            "a call of the last epoch ends ({ending:?}) and moves the state from {before} to {after}"
        )
        .into());
    }
    rig.close(service)
}

pub(super) fn bounded<L: Subject<X>, X: Exchange>(
    mut rig: Rig<L, X>,
    most: usize,
    size: &Probe<L>,
) -> Checked {
    let mut service = rig.service();
    for sent in 1..=4 * most + 64 {
        rig.run(&mut Task::new(exchange::<L, X>(&mut service, rig.request().1)))?;
        let now = size(&rig.layer);
        if now > most {
            return Err(format!(
                "after {sent} different requests the layer keeps {now} entries; {most} are allowed"
            )
            .into());
        }
    }
    rig.clean("after many different requests")?;
    rig.close(service)
}

/// A build that must panic.
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) build: Box<dyn Fn() + Send + Sync>,
}

impl Refusal {
    pub(super) fn check(&self) -> Option<Failure> {
        let what = match catch_unwind(AssertUnwindSafe(&self.build)) {
            Ok(()) => "is accepted, so that it fails when a request comes, or never".to_owned(),
            Err(payload) => match super::suite::message(&*payload) {
                Some(message) if message.contains(' ') => return None,
                _ => "is refused without a sentence that says what to write".to_owned(),
            },
        };
        Some(Failure { point: Point::Config, during: format!("building with {}", self.what), what })
    }
}
