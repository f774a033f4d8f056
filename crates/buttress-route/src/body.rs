use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_http::field;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;

/// Bodies up to this are read to look into them.
const LONGEST: usize = 64 * 1024;
/// A body of more frames is not looked into, however short they are: each costs more than its bytes.
const MOST_FRAMES: usize = 1024;

/// The request body that services below a router with [`json_bodies`](crate::RouterBuilder::json_bodies) get: the request's
/// own. What the router has read of it comes once more, frame by frame as it came, trailers and error included.
pub struct PeekBody<B: Body> {
    frames: VecDeque<Frame<Bytes>>,
    failed: Option<B::Error>,
    rest: B,
    /// Whether `rest` has come to its end or error.
    ended: bool,
}

/// How far the reading got.
pub(crate) enum Peeked {
    Whole,
    /// It is too long, or broke off.
    Part,
}

impl<B: Body> PeekBody<B> {
    /// A body of which nothing is read.
    pub const fn new(body: B) -> Self {
        Self { frames: VecDeque::new(), failed: None, rest: body, ended: false }
    }

    /// Whether it may be JSON of a length that is read.
    pub(crate) fn may_be_json(&self, headers: &HeaderMap) -> bool {
        is_json(headers) && self.rest.size_hint().lower() <= LONGEST as u64
    }

    fn data(&self) -> impl Iterator<Item = &Bytes> {
        self.frames.iter().filter_map(Frame::data_ref)
    }

    /// What was read, as JSON.
    pub(crate) fn to_json(&self) -> Option<Value> {
        let mut data = self.data();
        match (data.next(), data.next()) {
            (None, _) => None,
            (Some(only), None) => serde_json::from_slice(only).ok(),
            _ => serde_json::from_slice(&self.data().flatten().copied().collect::<Vec<u8>>()).ok(),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> PeekBody<B> {
    /// Reads on, and keeps what is read.
    pub(crate) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Peeked> {
        loop {
            if self.ended || self.rest.is_end_stream() {
                return Poll::Ready(Peeked::Whole);
            }
            match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
                Some(Ok(frame)) => self.frames.push_back(frame),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    self.ended = true;
                    return Poll::Ready(Peeked::Part);
                }
                None => self.ended = true,
            }
            if self.data().map(Bytes::len).sum::<usize>() > LONGEST || self.frames.len() > MOST_FRAMES {
                return Poll::Ready(Peeked::Part);
            }
        }
    }
}

/// `application/json`, and every type that says `+json` but the streams of gRPC and Connect: a body that is no document may
/// take for ever to come to its end.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let ends = |suffix: &str| {
        let at = essence.len().checked_sub(suffix.len());
        at.and_then(|at| essence.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    let stream = field::is_grpc(headers) || essence.eq_ignore_ascii_case("application/connect+json");
    essence.eq_ignore_ascii_case("application/json") || (ends("+json") && !stream)
}

// Nothing in it is pinned but the body itself, which moves.
impl<B: Body + Unpin> Unpin for PeekBody<B> {}

impl<B: Body<Data = Bytes> + Unpin> Body for PeekBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(frame) = this.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut this.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.failed.is_none() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.frames.is_empty() && !self.ended {
            return self.rest.size_hint();
        }
        let read = self.data().map(|data| data.len() as u64).sum::<u64>();
        if self.ended && self.failed.is_none() {
            return SizeHint::with_exact(read);
        }
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(read.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(read.saturating_add(upper));
        }
        hint
    }
}

impl<B: Body> fmt::Debug for PeekBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekBody").field("read", &self.frames.len()).finish_non_exhaustive()
    }
}
