use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::BoxError;
use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http_body::Body;
use pin_project::pin_project;

use crate::body::RequestBody;
use crate::error::RequestBodyError;

/// The body of a request on its way into its stream, as fast as the upstream lets it and no faster.
///
/// It is done when the last frame was given to the connection, or when the upstream wants no more: what then became of
/// the call its answer says.
#[pin_project]
pub(super) struct Upload<B> {
    stream: SendStream<Bytes>,
    #[pin]
    body: RequestBody<B>,
    /// Read from the body, not yet sent; empty when there is none.
    chunk: Bytes,
    /// How much the head has promised that is still to come.
    left: Option<u64>,
    ended: bool,
}

impl<B> Upload<B> {
    pub(super) const fn new(stream: SendStream<Bytes>, body: RequestBody<B>, length: Option<u64>) -> Self {
        Self { stream, body, chunk: Bytes::new(), left: length, ended: false }
    }
}

impl<B> Future for Upload<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<(), RequestBodyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            while !this.chunk.is_empty() {
                this.stream.reserve_capacity(this.chunk.len());
                let Some(Ok(room)) = ready!(this.stream.poll_capacity(cx)) else {
                    return Poll::Ready(Ok(()));
                };
                let part = this.chunk.split_to(room.min(this.chunk.len()));
                let last = *this.ended && this.chunk.is_empty();
                if this.stream.send_data(part, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
            }
            if this.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(fail(this.stream, error)),
                None if this.left.is_some_and(|left| left > 0) => {
                    return Poll::Ready(fail(this.stream, short()));
                }
                None => {
                    let _ = this.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                Ok(mut data) => {
                    *this.chunk = data.copy_to_bytes(data.remaining());
                    if let Some(left) = this.left {
                        match left.checked_sub(this.chunk.len() as u64) {
                            Some(less) => *left = less,
                            None => return Poll::Ready(fail(this.stream, long())),
                        }
                    }
                    *this.ended = this.body.is_end_stream() && this.left.is_none_or(|left| left == 0);
                    if *this.ended && this.chunk.is_empty() {
                        let _ = this.stream.send_data(Bytes::new(), true);
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = this.stream.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// The upstream must not take what has come so far for a whole request.
fn fail(stream: &mut SendStream<Bytes>, error: RequestBodyError) -> Result<(), RequestBodyError> {
    stream.send_reset(Reason::CANCEL);
    Err(error)
}

fn short() -> RequestBodyError {
    RequestBodyError("it is shorter than its Content-Length".into())
}

fn long() -> RequestBodyError {
    RequestBodyError("it is longer than its Content-Length".into())
}
