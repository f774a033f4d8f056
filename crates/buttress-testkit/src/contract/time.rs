//! Point 12: the clock may jump.

use std::time::Duration;

use buttress_core::Timestamp;

use super::Subject;
use super::exchange::Exchange;
use super::rig::{Checked, Rig, exchange};
use crate::task::Task;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn jumps_forward<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    for by in [Duration::ZERO, Duration::from_nanos(1), DAY, 365 * DAY] {
        rig.serve(&mut service, "before a time jump")?;
        rig.clock.advance(by);
        rig.runtime.block_on(tokio::time::advance(by.min(DAY)));
        rig.serve(&mut service, &format!("after the time jumped by {by:?}"))?;
    }
    rig.close(service)
}

pub(super) fn goes_back<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.clock.advance(2 * DAY);
    rig.serve(&mut service, "before the time went back")?;
    in_flight(&rig, &mut service, |rig| rig.clock.set(Timestamp::ZERO + DAY))?;
    rig.clock.set(Timestamp::ZERO);
    in_flight(&rig, &mut service, |_| ())?;
    rig.clock.set(Timestamp::ZERO + 4 * DAY);
    rig.clean("after the time went back and forth")?;
    rig.serve(&mut service, "after the time went back and then past its highest point")?;
    rig.close(service)
}

pub(super) fn ends<L: Subject<X>, X: Exchange>(mut rig: Rig<L, X>) -> Checked {
    let mut service = rig.service();
    rig.serve(&mut service, "before the end of time")?;
    in_flight(&rig, &mut service, |rig| rig.clock.set(Timestamp::MAX))?;
    in_flight(&rig, &mut service, |rig| rig.clock.advance(Duration::MAX))?;
    in_flight(&rig, &mut service, |rig| rig.clock.set(Timestamp::ZERO))?;
    rig.clean("after the end of time")?;
    rig.close(service)
}

/// A call during which the time jumps. It may be refused, or wait for a time to come, but holds nothing after.
fn in_flight<L: Subject<X>, X: Exchange>(
    rig: &Rig<L, X>,
    service: &mut L::Layered,
    jump: impl FnOnce(&Rig<L, X>),
) -> Checked {
    rig.inner.hold();
    let mut call = Task::new(exchange::<L, X>(service, rig.request().1));
    rig.run(&mut call)?;
    jump(rig);
    if !call.is_done() {
        rig.run(&mut call)?;
    }
    rig.inner.release();
    rig.run(&mut call)?;
    Ok(())
}
