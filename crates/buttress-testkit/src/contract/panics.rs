//! Point 5: a panic below is one failed call and no more.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::exchange::{Exchange, Shape};
use super::rig::{Checked, Rig, exchange};
use super::{PANICS, ROUNDS, Subject};
use crate::service::StrictHandle;
use crate::task::Task;

/// Where the inner service panics.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Ready,
    Call,
    Future,
}

impl Place {
    fn arm<E>(self, inner: &StrictHandle<E>) {
        match self {
            Self::Ready => inner.panic_in_ready(),
            Self::Call => inner.panic_in_call(),
            Self::Future => inner.panic_in_future(),
        }
    }
}

/// `late`: the inner service becomes ready only after the call was made.
pub(super) fn the_layer_works_on<L: Subject<X>, X: Exchange>(
    mut rig: Rig<L, X>,
    place: Place,
    late: bool,
) -> Checked {
    let mut service = rig.service();
    let mut other = service.clone();
    for _ in 0..PANICS {
        if late {
            rig.inner.not_ready();
        }
        let (_, request) = rig.request();
        let mut call = Task::new(exchange::<L, X>(&mut service, request));
        if late {
            rig.run(&mut call)?;
        }
        place.arm(&rig.inner);
        rig.inner.ready();
        // The layer may pass the panic on or make an error of it.
        let outcome = catch_unwind(AssertUnwindSafe(|| rig.run(&mut call)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        if let Ok(Err(wrong)) = outcome {
            return Err(wrong);
        }
        rig.clean("after the inner service panicked")?;
    }
    rig.serve(&mut service, "after the inner service panicked, on the same service")?;
    rig.serve(&mut other, "after the inner service panicked, on another clone")?;
    rig.close((service, other))
}

/// Two calls share the layer; one of them panics.
pub(super) fn the_other_call_finishes<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    let mut clone = service.clone();
    rig.inner.hold();
    rig.inner.panic_in_future();
    let mut one = Task::new(exchange::<L, X>(&mut service, rig.request().1));
    rig.run(&mut one)?;
    let mut two = Task::new(exchange::<L, X>(&mut clone, rig.request().1));
    rig.run(&mut two)?;
    rig.inner.release();
    let _ = catch_unwind(AssertUnwindSafe(|| rig.run(&mut one)));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(one)));
    rig.run(&mut two)?;
    if !two.is_done() {
        return Err("of two calls one panicked, and the other never finishes".into());
    }
    drop(two);
    rig.clean("after one of two calls panicked")?;
    rig.serve(&mut clone, "after one of two calls panicked")?;
    rig.close((service, clone))
}

/// Each touch of the tripwire in a call panics once.
pub(super) fn a_closure_panics<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    let wire = rig.tripwire.clone();
    let before = wire.touched();
    rig.serve(&mut service, "before a closure panics")?;
    let touches = wire.touched() - before;
    if touches == 0 {
        return Err("no closure touches its tripwire during a call".into());
    }
    for nth in 1..=touches.min(ROUNDS as u64) {
        wire.arm(nth);
        let mut call = Task::new(exchange::<L, X>(&mut service, rig.request().1));
        let outcome = catch_unwind(AssertUnwindSafe(|| rig.run(&mut call)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        wire.disarm();
        if let Ok(Err(wrong)) = outcome {
            return Err(wrong);
        }
        rig.clean("after a closure of the user panicked")?;
        rig.serve(&mut service, "after a closure of the user panicked")?;
    }
    rig.close(service)
}

pub(super) fn the_body_panics<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for _ in 0..PANICS {
        let (_, request) = rig.shaped(Shape::Panic);
        let mut call = Task::new(exchange::<L, X>(&mut service, request));
        let outcome = catch_unwind(AssertUnwindSafe(|| rig.run(&mut call)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        if let Ok(Err(wrong)) = outcome {
            return Err(wrong);
        }
        rig.clean("after the inner body panicked")?;
    }
    rig.serve(&mut service, "after the inner body panicked")?;
    rig.close(service)
}
