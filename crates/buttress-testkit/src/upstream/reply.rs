use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What an [`Upstream`](super::Upstream) answers one request with.
///
/// A reply is `200` with an empty body of known length until it is told otherwise. Whatever it says, the
/// upstream does: a reply with a wrong length, a head of garbage or a reset in its middle goes out as it is.
///
/// ```
/// use buttress_testkit::Reply;
/// use std::time::Duration;
///
/// Reply::new(200).body("hello");
/// Reply::new(503).field("retry-after", "1").delay(Duration::from_millis(20));
/// Reply::new(200).body("hello world").chunked().trailer("x-sum", "7");
/// Reply::new(200).body(vec![0; 1 << 20]).reset_at(100_000);
/// Reply::new(200).body("hello").stall_at(2);
/// Reply::new(200).endless();
/// Reply::garbage("HTTP/1.1 abc\r\n\r\n");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a reply does nothing until an upstream sends it"]
pub struct Reply {
    pub(super) head: Head,
    pub(super) fields: HeaderMap,
    pub(super) trailers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) endless: bool,
    pub(super) chunked: bool,
    pub(super) delay: Duration,
    pub(super) cut: Option<(usize, Cut)>,
}

#[derive(Clone, Debug)]
pub(super) enum Head {
    Status(StatusCode),
    Raw(Bytes),
}

/// What happens at a byte of the body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Close,
    Reset,
    Stall,
}

impl Reply {
    /// Answers with `status`.
    ///
    /// # Panics
    ///
    /// When `status` is not between 100 and 999.
    pub fn new(status: u16) -> Self {
        Self::with_head(Head::Status(
            StatusCode::from_u16(status).expect("a status lies between 100 and 999"),
        ))
    }

    /// Answers with these bytes and closes the connection.
    pub fn garbage(bytes: impl Into<Bytes>) -> Self {
        Self::with_head(Head::Raw(bytes.into()))
    }

    /// Closes the connection without a word.
    pub fn close() -> Self {
        Self::garbage(Bytes::new())
    }

    /// Sends `body`, with `Content-Length` unless the reply is [`chunked`](Self::chunked).
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends chunks for ever. [`Upstream::bytes_sent`](super::Upstream::bytes_sent) tells how many bytes it
    /// got rid of before the client went away.
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self.chunked()
    }

    /// Sends the body in chunks, without a length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Adds a field. A `content-length` or `transfer-encoding` given here replaces the right one.
    ///
    /// # Panics
    ///
    /// When name or value is not one that HTTP allows.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let (name, value) = field(name, value);
        self.fields.append(name, value);
        self
    }

    /// Adds a trailer; the body is chunked then.
    ///
    /// # Panics
    ///
    /// When name or value is not one that HTTP allows.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let (name, value) = field(name, value);
        self.trailers.append(name, value);
        self.chunked()
    }

    /// Waits before the head is sent. Follows tokio's paused time.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after `byte` bytes of the body: a short body.
    pub fn close_at(self, byte: usize) -> Self {
        self.cut(byte, Cut::Close)
    }

    /// Resets the connection after `byte` bytes of the body. What the client has not read by then, it may never
    /// see.
    pub fn reset_at(self, byte: usize) -> Self {
        self.cut(byte, Cut::Reset)
    }

    /// Sends nothing more after `byte` bytes of the body, until
    /// [`Upstream::resume`](super::Upstream::resume) is called or the client goes away.
    pub fn stall_at(self, byte: usize) -> Self {
        self.cut(byte, Cut::Stall)
    }

    fn cut(mut self, byte: usize, cut: Cut) -> Self {
        self.cut = Some((byte, cut));
        self
    }

    fn with_head(head: Head) -> Self {
        Self {
            head,
            fields: HeaderMap::new(),
            trailers: HeaderMap::new(),
            body: Bytes::new(),
            endless: false,
            chunked: false,
            delay: Duration::ZERO,
            cut: None,
        }
    }
}

fn field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().expect("a field name"), value.parse().expect("a field value"))
}
