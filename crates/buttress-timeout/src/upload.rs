//! The request body on its way to the inner service, and what the response future sees of it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{AtHead, Timestamp};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::call::Call;
use crate::policy::{Due, Phase, Stage};
use crate::reach::sealed::Progress;
use crate::shared::Shared;

/// The head time begins when the request has been read to its end; apart from that as `M`.
///
/// The mode of a layer with an upload timeout: see [`TimeoutLayer::upload`](crate::TimeoutLayer::upload).
#[derive(Clone, Copy, Debug)]
pub struct AfterUpload<M = AtHead>(pub(crate) M);

/// A request body whose layer sees how far it has got.
///
/// Frames, errors, `size_hint`, `is_end_stream` and trailers of the inner body pass through. Its timeouts do not end it:
/// they end the call, and with it the inner service's future.
///
/// # Cancel safety
///
/// Dropping it drops the inner body. The request then counts as sent.
#[pin_project]
pub struct UploadBody<B> {
    #[pin]
    inner: B,
    /// `None` once it is at its end, and where there is nothing to see.
    sending: Option<Sending>,
}

impl<B: Body> UploadBody<B> {
    /// Allocates only for a body that is not at its end.
    pub(crate) fn begin(inner: B, call: &Call) -> (Self, Option<Watching>) {
        let Call { shared, end } = call;
        let endless = shared.limits.upload == Duration::MAX && shared.limits.head == Duration::MAX;
        if endless || inner.is_end_stream() {
            return (Self { inner, sending: None }, None);
        }
        let state = State { stage: Stage::Held, since: end.since, asleep: None };
        let upload = Arc::new(Upload { shared: shared.clone(), state: Mutex::new(state) });
        let sending = Sending { upload: upload.clone(), stage: Stage::Held };
        (Self { inner, sending: Some(sending) }, Some(Watching { upload, waker: None }))
    }
}

impl<B> UploadBody<B> {
    /// The inner body, which is seen no longer: the request counts as sent.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for UploadBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(cx);
        if let Some(sending) = this.sending {
            match &polled {
                Poll::Pending => sending.wait(),
                Poll::Ready(Some(Ok(_))) if !this.inner.is_end_stream() => sending.reach(Stage::Held),
                Poll::Ready(_) => *this.sending = None,
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for UploadBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// What the body tells and the future asks.
#[derive(Debug)]
struct Upload {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    since: Timestamp,
    /// While the future sleeps: whom to wake, and when it wakes by itself.
    asleep: Option<(Waker, Timestamp)>,
}

impl Upload {
    /// No code of others runs under the lock, so it is never poisoned.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body's end of it. Dropped, it says that the request is sent.
#[derive(Debug)]
struct Sending {
    upload: Arc<Upload>,
    stage: Stage,
}

impl Sending {
    /// The client is waited for, since now or already.
    fn wait(&mut self) {
        if self.stage != Stage::Awaited {
            self.reach(Stage::Awaited);
        }
    }

    fn reach(&mut self, stage: Stage) {
        self.stage = stage;
        // Alone: the call has its head, or is over.
        if Arc::strong_count(&self.upload) == 1 {
            return;
        }
        let Shared { limits, watch } = &*self.upload.shared;
        let now = watch.clock.now();
        let never = Due::new(Phase::Total, now, Duration::MAX);
        let due = limits.until_head(stage, now, never);

        let mut state = self.upload.state();
        (state.stage, state.since) = (stage, now);
        // Where the future wakes early enough by itself, it is left asleep.
        let late = state.asleep.take_if(|(_, until)| due.at < *until);
        drop(state);
        if let Some((waker, _)) = late {
            waker.wake();
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.reach(Stage::Sent);
    }
}

/// The future's end of it.
#[derive(Debug)]
#[expect(unnameable_types, reason = "it is a type of a sealed trait")]
pub struct Watching {
    upload: Arc<Upload>,
    /// The one of the last sleep, to use again.
    waker: Option<Waker>,
}

impl Progress for Option<Watching> {
    /// From here on the body does not wake the task: the inner future may well poll it in this very poll.
    fn awake(&mut self) {
        if let Some(watching) = self {
            let asleep = watching.upload.state().asleep.take();
            watching.waker = asleep.map(|(waker, _)| waker);
        }
    }

    fn sleep(&mut self, cx: &Context<'_>, call: &Call) -> Due {
        let Some(Watching { upload, waker }) = self else {
            return ().sleep(cx, call);
        };
        let waker =
            waker.take().filter(|last| last.will_wake(cx.waker())).unwrap_or_else(|| cx.waker().clone());
        let mut state = upload.state();
        let due = call.shared.limits.until_head(state.stage, state.since, call.end);
        state.asleep = Some((waker, due.at));
        due
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // The body may live on; the task's waker shall not.
        let asleep = self.upload.state().asleep.take();
        drop(asleep);
    }
}
