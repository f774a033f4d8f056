//! A body that holds a guard until it is complete or aborted.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_core::{End, Guard};
use bytes::Buf;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http_body::{Body, Frame, SizeHint};
use pin_project::{pin_project, pinned_drop};

use crate::field;

/// A body that holds a guard until it has ended, and tells it how.
///
/// The guard is told of each frame's bytes, then exactly once of the end, and dropped at once, on the frame that completes the body; the [module](super) says
/// which one that is. Frames, `size_hint`, `is_end_stream` and trailers pass through unchanged. Nothing is allocated,
/// and after the guard has gone a poll is a poll of the inner body.
///
/// # Cancel safety
///
/// Dropping the body tells the guard [`End::Aborted`], unless everything had been handed out.
#[pin_project(PinnedDrop)]
pub struct Tracked<B: Body, G: Guard> {
    #[pin]
    inner: B,
    guard: Option<G>,
    left: Left,
}

impl<B: Body, G: Guard> Tracked<B, G> {
    /// Holds `guard` until `body` has ended.
    ///
    /// The body's own exact `size_hint` is the only length known here. [`AtEnd`](super::AtEnd) also knows the head of the
    /// response and the method of its request.
    #[must_use]
    pub fn new(body: B, guard: G) -> Self {
        Self::with_left(body, guard, Left { bytes: None, trailers: Trailers::Unannounced })
    }

    /// A body without a guard: it passes everything through.
    #[must_use]
    pub fn untracked(body: B) -> Self {
        Self { inner: body, guard: None, left: Left { bytes: None, trailers: Trailers::Unannounced } }
    }

    /// Whether the guard is still held.
    #[must_use]
    pub fn is_tracking(&self) -> bool {
        self.guard.is_some()
    }

    /// The inner body.
    #[must_use]
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// Holds `guard` until a body that belongs to these header fields has ended.
    pub(super) fn described(fields: &HeaderMap, body: B, guard: G) -> Self {
        Self::with_left(body, guard, Left { bytes: declared(fields), trailers: Trailers::of(fields) })
    }

    fn with_left(body: B, guard: G, mut left: Left) -> Self {
        // Whichever is less ends the body: hyper stops at the declared length, the body at its own.
        left.bytes = match (left.bytes, body.size_hint().exact()) {
            (Some(declared), Some(exact)) => Some(declared.min(exact)),
            (declared, exact) => declared.or(exact),
        };
        let mut guard = Some(guard);
        if left.settles() || body.is_end_stream() {
            settle(&mut guard, &End::Complete { trailers: None });
        }
        Self { inner: body, guard, left }
    }
}

impl<B: Body, G: Guard> Body for Tracked<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if this.guard.is_none() {
            return this.inner.poll_frame(cx);
        }

        let armed = Armed(this.guard);
        let polled = this.inner.as_mut().poll_frame(cx);
        let end = match &polled {
            Poll::Pending => None,
            Poll::Ready(None) => Some(End::Complete { trailers: None }),
            Poll::Ready(Some(Err(_))) => Some(End::Failed),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = data.remaining() as u64;
                    this.left.hand_out(bytes);
                    if let Some(guard) = armed.0 {
                        guard.data(bytes);
                    }
                    (this.left.settles() || this.inner.is_end_stream())
                        .then_some(End::Complete { trailers: None })
                } else {
                    frame.trailers_ref().map(|trailers| End::Complete { trailers: Some(trailers) })
                }
            }
        };
        armed.disarm();

        if let Some(end) = end {
            settle(this.guard, &end);
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

#[pinned_drop]
impl<B: Body, G: Guard> PinnedDrop for Tracked<B, G> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if this.guard.is_some() {
            let complete = this.left.may_end_here() || this.inner.is_end_stream();
            settle(this.guard, &if complete { End::Complete { trailers: None } } else { End::Aborted });
        }
    }
}

impl<B: Body + fmt::Debug, G: Guard> fmt::Debug for Tracked<B, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("inner", &self.inner).field("tracking", &self.is_tracking()).finish()
    }
}

/// Tells the guard, once, and lets it go. It is out of its place before user code runs, so a panic in it tells no one
/// twice.
pub(super) fn settle<G: Guard>(guard: &mut Option<G>, end: &End<'_>) {
    if let Some(mut guard) = guard.take() {
        guard.end(end);
    }
}

/// Counts a panic of the inner body, in our own poll, as a failure.
struct Armed<'a, G: Guard>(&'a mut Option<G>);

impl<G: Guard> Armed<'_, G> {
    fn disarm(self) {
        mem::forget(self);
    }
}

impl<G: Guard> Drop for Armed<'_, G> {
    fn drop(&mut self) {
        settle(self.0, &End::Failed);
    }
}

/// What is still to come, as far as it is known.
struct Left {
    /// Bytes not handed out yet.
    bytes: Option<u64>,
    trailers: Trailers,
}

/// Whether something comes after the last byte. (gRPC-Web says nothing: its trailers are part of the body.)
#[derive(PartialEq, Eq)]
enum Trailers {
    Unannounced,
    /// There is a `Trailer` field. Who cannot take trailers, as an HTTP/1 connection with a length, has all of the body
    /// without them.
    Announced,
    /// It is gRPC, where the answer itself is in the trailers.
    Due,
}

impl Trailers {
    fn of(fields: &HeaderMap) -> Self {
        if field::is_grpc(fields) {
            Self::Due
        } else if fields.contains_key(TRAILER) {
            Self::Announced
        } else {
            Self::Unannounced
        }
    }
}

impl Left {
    fn hand_out(&mut self, bytes: u64) {
        if let Some(left) = &mut self.bytes {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Whether this was the end.
    fn settles(&self) -> bool {
        self.bytes == Some(0) && self.trailers == Trailers::Unannounced
    }

    /// Whether who stops reading here has had all of it.
    fn may_end_here(&self) -> bool {
        self.bytes == Some(0) && self.trailers != Trailers::Due
    }
}

/// The declared `Content-Length`, if there is one and it counts (RFC 9112, section 6.3).
fn declared(fields: &HeaderMap) -> Option<u64> {
    if fields.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    let first = lines.next()?;
    if lines.any(|other| other != first) {
        return None;
    }
    let digits = first.to_str().ok()?;
    // `parse` alone would take a leading plus.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
