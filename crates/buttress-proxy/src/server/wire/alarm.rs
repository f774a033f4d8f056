use std::pin::Pin;
use std::task::{Context, Waker};

use buttress_core::{Clock, Sleep, Timestamp};

/// One timer for all that a connection waits for.
///
/// It is set anew only where it would ring too late; where it rings too early its owner looks at the time and sets it
/// again. So a request costs no timer, only a look at the clock.
#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

impl Alarm {
    /// Wakes the task at `deadline`, or before.
    pub(super) fn ring(&mut self, clock: &Clock, now: Timestamp, deadline: Timestamp, cx: &mut Context<'_>) {
        match &mut self.sleep {
            Some(sleep) if sleep.deadline() > deadline || sleep.deadline() <= now => {
                sleep.as_mut().reset(deadline);
            }
            Some(_) if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) => return,
            Some(_) => {}
            empty => *empty = Some(Box::pin(clock.sleep_until(deadline))),
        }
        self.waker = Some(cx.waker().clone());
        if self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            cx.waker().wake_by_ref();
        }
    }

    /// Wakes the task some time: at the latest after `deadline`, where no other moment is set.
    pub(super) fn ring_some_time(
        &mut self,
        clock: &Clock,
        now: Timestamp,
        deadline: Timestamp,
        cx: &mut Context<'_>,
    ) {
        let set = self.sleep.as_ref().map(|sleep| sleep.deadline()).filter(|&deadline| deadline > now);
        self.ring(clock, now, set.unwrap_or(deadline), cx);
    }
}
