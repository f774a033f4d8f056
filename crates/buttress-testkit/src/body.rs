use std::collections::VecDeque;
use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::BoxError;

/// A body that plays a script: data, trailers, a stall, an error, a panic.
///
/// It knows its size, as a body with `Content-Length` does, and is at its end right after its last frame;
/// [`chunked`](Self::chunked) makes it one whose end is only known when `None` is polled. Polling it after
/// its end panics.
///
/// ```
/// use buttress_testkit::ScriptedBody;
/// use http_body::Body;
///
/// let body = ScriptedBody::new().data("hello ").stall().data("world");
/// assert_eq!(body.size_hint().exact(), Some(11));
/// let handle = body.handle();
/// assert!(!handle.is_dropped());
/// drop(body);
/// assert!(handle.is_dropped() && !handle.is_finished());
/// ```
#[derive(Default)]
pub struct ScriptedBody {
    steps: VecDeque<Step>,
    chunked: bool,
    ended: bool,
    watch: BodyHandle,
}

enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Stall,
    Error(BoxError),
    Panic,
}

impl ScriptedBody {
    /// Makes an empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a data frame.
    #[must_use]
    pub fn data(self, data: impl Into<Bytes>) -> Self {
        self.step(Step::Data(data.into()))
    }

    /// Adds trailers.
    #[must_use]
    pub fn trailers(self, trailers: HeaderMap) -> Self {
        self.step(Step::Trailers(trailers))
    }

    /// Waits here until the [handle](Self::handle) says [`resume`](BodyHandle::resume).
    #[must_use]
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Fails here, as a body does whose connection was reset.
    #[must_use]
    pub fn error(self, error: impl Into<BoxError>) -> Self {
        self.step(Step::Error(error.into()))
    }

    /// Panics here, without a message on stderr.
    #[must_use]
    pub fn panic(self) -> Self {
        self.step(Step::Panic)
    }

    /// Makes the size unknown and the end visible only as `None`.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Watches and steers this body.
    #[must_use]
    pub fn handle(&self) -> BodyHandle {
        self.watch.clone()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(Step::Stall) = self.steps.front() {
            let watch = self.handle();
            let mut watch = watch.lock();
            if watch.resumes == 0 {
                watch.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            watch.resumes -= 1;
            drop(watch);
            self.steps.pop_front();
            return self.poll_frame(cx);
        }
        let frame = match self.steps.pop_front() {
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Error(error)) => {
                self.steps.clear();
                self.ended = true;
                Some(Err(error))
            }
            Some(Step::Panic) => {
                self.ended = true;
                resume_unwind(Box::new("the body panics, as scripted"));
            }
            Some(Step::Stall) | None => {
                assert!(!self.ended, "ScriptedBody: polled again after its end");
                self.ended = true;
                None
            }
        };
        let finished = self.ended || (self.steps.is_empty() && !self.chunked);
        let mut watch = self.watch.lock();
        watch.frames += usize::from(frame.is_some());
        watch.finished |= finished;
        drop(watch);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.steps.is_empty() && !self.chunked)
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            return SizeHint::default();
        }
        let left = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            Step::Trailers(_) | Step::Stall | Step::Error(_) | Step::Panic => 0,
        });
        SizeHint::with_exact(left.sum())
    }
}

#[cfg(feature = "http")]
impl buttress_http::body::ReplyBody for ScriptedBody {
    fn reply(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::new() } else { Self::new().data(bytes) }
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        self.watch.lock().dropped = true;
    }
}

impl fmt::Debug for ScriptedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedBody").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// Watches and steers one [`ScriptedBody`].
#[derive(Clone, Default)]
pub struct BodyHandle(Arc<Mutex<Watch>>);

#[derive(Default)]
struct Watch {
    resumes: usize,
    waker: Option<Waker>,
    frames: usize,
    finished: bool,
    dropped: bool,
}

impl BodyHandle {
    /// Lets the body go on past one stall.
    pub fn resume(&self) {
        let mut watch = self.lock();
        watch.resumes += 1;
        let waker = watch.waker.take();
        drop(watch);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Frames handed out so far, an error among them.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.lock().frames
    }

    /// Whether the body came to its end or error.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Whether the body was dropped.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for BodyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyHandle")
            .field("frames", &self.frames())
            .field("finished", &self.is_finished())
            .field("dropped", &self.is_dropped())
            .finish()
    }
}
