use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::copy::Copy;
use super::event::NotMirrored;

/// The request body that the main service gets: the request's own, copied on its way where it is mirrored.
///
/// Frames, trailers, errors, `size_hint` and `is_end_stream` are those of the body. The buffers are shared with the copy and
/// not copied where the data are [`Bytes`].
///
/// # Cancel safety
///
/// Dropped before its end, there is no mirrored request. A body whose length is known is at its end with its last byte, be
/// it asked for trailers or not.
#[pin_project]
pub struct TeeBody<B> {
    #[pin]
    inner: B,
    /// Apart, so that a body which is not mirrored does not make room for it.
    copy: Option<Box<Tee>>,
}

struct Tee {
    copy: Copy,
    /// Bytes that are still to come, where the length is known.
    left: Option<u64>,
    /// Whether there may be trailers after the last byte.
    trailers: bool,
}

impl Drop for Tee {
    fn drop(&mut self) {
        // Who cannot take trailers stops here, and has all of the body.
        if self.left == Some(0) {
            self.copy.send(None);
        }
    }
}

impl<B: Body> TeeBody<B> {
    pub(super) const fn uncopied(inner: B) -> Self {
        Self { inner, copy: None }
    }

    /// Copies what is read of a body that is not at its end.
    pub(super) fn copied(inner: B, copy: Copy, trailers: bool) -> Self {
        let left = inner.size_hint().exact();
        Self { inner, copy: Some(Box::new(Tee { copy, left, trailers })) }
    }

    /// The body of the request.
    #[must_use]
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body of the request, no longer copied.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for TeeBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let polled = ready!(this.inner.as_mut().poll_frame(cx));
        let frame = polled
            .map(|frame| frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))));
        let Some(mut tee) = this.copy.take() else { return Poll::Ready(frame) };
        match &frame {
            Some(Err(_)) => tee.copy.leave(NotMirrored::Incomplete),
            None => tee.copy.send(None),
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => {
                    tee.left = tee.left.map(|left| left.saturating_sub(data.len() as u64));
                    if tee.copy.push(data) {
                        // Who knows the length may not ask for more.
                        if tee.left == Some(0) && !tee.trailers || this.inner.is_end_stream() {
                            tee.copy.send(None);
                        } else {
                            *this.copy = Some(tee);
                        }
                    }
                }
                (None, Some(trailers)) => tee.copy.send(Some(trailers.clone())),
                (None, None) => *this.copy = Some(tee),
            },
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for TeeBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeeBody").field("is_copied", &self.copy.is_some()).finish_non_exhaustive()
    }
}

/// The request body that the mirror gets: all of it, at hand.
pub struct MirroredBody {
    frames: std::vec::IntoIter<Bytes>,
    trailers: Option<HeaderMap>,
}

impl MirroredBody {
    pub(super) fn new(frames: Vec<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { frames: frames.into_iter(), trailers }
    }
}

impl Body for MirroredBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.frames.next().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.len() == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.frames.as_slice().iter().map(|data| data.len() as u64).sum())
    }
}

impl fmt::Debug for MirroredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirroredBody").field("bytes_left", &self.size_hint().exact()).finish_non_exhaustive()
    }
}
