use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use crate::{Error, ErrorKind};

/// The body of an answer, which the upstream sends no faster than it is read.
pub(crate) struct Answer {
    stream: RecvStream,
    /// How much the head has promised that is still to come.
    left: Option<u64>,
    data_over: bool,
}

impl Answer {
    pub(super) fn new(stream: RecvStream, fields: &HeaderMap) -> Self {
        Self { stream, left: content_length(fields), data_over: false }
    }
}

/// The one that a message has, if it has one: of contradicting ones `h2` lets none pass.
pub(super) fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The reader has it now, so the upstream may send as much again.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return self.end(error),
                None => self.data_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => self.end(error),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.stream.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl Answer {
    fn end(&mut self, error: h2::Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // An upstream that wants no more of the request says so after a whole answer (RFC 9113 §8.1), and of that `h2`
        // gives the end. What comes here was cut off, unless all that was promised is there: Envoy cuts so too.
        let wants_no_more = error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        if wants_no_more && self.left == Some(0) {
            self.data_over = true;
            return Poll::Ready(None);
        }
        let kind = match kind_of(&error) {
            ErrorKind::Closed => ErrorKind::Incomplete,
            other => other,
        };
        Poll::Ready(Some(Err(Error::new(kind, error))))
    }
}

/// What the failure of a stream is.
pub(super) fn kind_of(error: &h2::Error) -> ErrorKind {
    if let Some(io) = error.get_io() {
        return kind_of_io(io);
    }
    if error.is_library() {
        return ErrorKind::BadResponse;
    }
    match (error.is_remote(), error.reason()) {
        (true, _) if error.is_go_away() => ErrorKind::Closed,
        (true, Some(Reason::REFUSED_STREAM)) => ErrorKind::Refused,
        // We end a stream ourselves for the sake of the request's body alone.
        (false, _) if error.is_reset() => ErrorKind::RequestBody,
        _ => ErrorKind::Reset,
    }
}

fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        // What `h2` says of an end of the connection.
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
        _ => ErrorKind::Reset,
    }
}

/// Whether the upstream has said that it has not looked at the request: it refused the stream, or left with a GOAWAY
/// whose last stream lies below (RFC 9113 §6.8, §8.7). `h2` fails no other stream with a GOAWAY of the upstream.
pub(super) fn never_processed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away() || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
}
