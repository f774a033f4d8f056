//! A future against a moment in time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{Clock, Sleep, Timestamp};
use pin_project::pin_project;

/// Runs a future until a moment.
///
/// The future is polled first: one that is ready at once never makes a timer, and an answer that is there is
/// taken even when its time has just passed. The future is dropped as soon as the race is decided, in the
/// poll that decides it.
#[pin_project]
pub(crate) struct Race<F> {
    #[pin]
    future: Option<F>,
    #[pin]
    alarm: Alarm,
}

/// Who won a [`Race`].
pub(crate) enum Won<T> {
    Future(T),
    Time,
}

impl<F: Future> Race<F> {
    pub(crate) const fn new(future: F) -> Self {
        Self { future: Some(future), alarm: Alarm::new() }
    }

    /// Polls the future, and while that is pending the timer, for the moment that `until` then says.
    ///
    /// # Panics
    ///
    /// When the race was decided before.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        clock: &Clock,
        until: impl FnOnce(&Context<'_>) -> Timestamp,
    ) -> Poll<Won<F::Output>> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect("polled after it was ready");
        let won = match future.poll(cx) {
            Poll::Ready(output) => Won::Future(output),
            Poll::Pending => {
                let until = until(cx);
                ready!(this.alarm.as_mut().poll(cx, clock, until));
                Won::Time
            }
        };
        this.future.set(None);
        this.alarm.set(Alarm::new());
        Poll::Ready(won)
    }
}

/// A timer that exists from the first time it is waited for.
#[pin_project]
pub(crate) struct Alarm {
    #[pin]
    sleep: Option<Sleep>,
}

impl Alarm {
    pub(crate) const fn new() -> Self {
        Self { sleep: None }
    }

    /// Completes once `until` has come; [`Timestamp::MAX`] is never, and needs no timer.
    ///
    /// `until` may differ from poll to poll. A later one costs nothing until the timer goes off for the
    /// earlier one.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        clock: &Clock,
        until: Timestamp,
    ) -> Poll<()> {
        if until == Timestamp::MAX {
            return Poll::Pending;
        }
        let mut sleep = self.project().sleep;
        if sleep.is_none() {
            sleep.set(Some(clock.sleep_until(until)));
        }
        let mut sleep = sleep.as_pin_mut().expect("set above");
        if until < sleep.deadline() {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}
