use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use buttress_core::{Clock, Timestamp};
use pin_project::pin_project;

/// hyper's timer over a [`Clock`].
pub(super) struct ClockTimer {
    clock: Clock,
    /// hyper reckons in instants: this one stands for `since`.
    origin: Instant,
    since: Timestamp,
}

impl ClockTimer {
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper's instants are counted from here; the time between is the clock's"
    )]
    pub(super) fn new(clock: Clock) -> Self {
        Self { since: clock.now(), origin: Instant::now(), clock }
    }

    fn boxed(&self, sleep: buttress_core::Sleep) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(sleep))
    }
}

impl hyper::rt::Timer for ClockTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.boxed(self.clock.sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let deadline = self.since + deadline.saturating_duration_since(self.origin);
        self.boxed(self.clock.sleep_until(deadline))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.now().since(self.since)
    }
}

#[pin_project]
struct Sleep(#[pin] buttress_core::Sleep);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().0.poll(cx)
    }
}

impl hyper::rt::Sleep for Sleep {}
