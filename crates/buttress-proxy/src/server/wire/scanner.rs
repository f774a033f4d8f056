use super::chunks::{Chunks, Trailers};
use super::head::{Framing, Head, Looked};
use super::{Limits, Violation};

/// The most empty lines that are passed over before a request line. RFC 9112 §2.2 asks for one at the least.
const EMPTY_LINES: u8 = 2;

/// Reads the bytes of an HTTP/1 connection from a client, and says where each head and body ends, or why not.
///
/// It is a pure state machine: bytes in, [`Step`]s out, and where the bytes are cut makes no difference. It takes less
/// than hyper does, so that what it lets pass is framed by hyper, and by whatever reads it after that, in the same way.
///
/// ```text
/// Head --> Length, Chunked --> Trailers --> Head
///   \            \                 \--> Held   the head has `Upgrade`, or is a CONNECT
///    \            \--> Refused                  Held -- resume --> Head
///     \--> Refused                              Held -- tunnel --> Tunnel
/// ```
///
/// ```
/// use buttress_proxy::server::wire::{Limits, Violation, Scanner, Step};
///
/// let mut scanner = Scanner::new(Limits::new());
/// assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n"), Step::More);
/// // What it asks more for is given again, with more behind it.
/// assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"), Step::Pass(27));
///
/// let smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
/// assert_eq!(scanner.scan(smuggled), Step::Refused(Violation::LengthBesideTransferEncoding));
/// ```
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    /// Of the request under way, and when it has been read, of the last.
    head: Head,
    requests: u64,
    empty_lines: u8,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunks),
    Trailers(Trailers),
    Held,
    Tunnel,
    Refused(Violation),
}

/// What is to be done with the first of the bytes that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// So many may be passed on. There is at least one, unless none were given.
    Pass(usize),
    /// So many are to be left out: an empty line before a request line.
    Skip(usize),
    /// They are a part of a head or of a trailer section. Give them again when there are more.
    More,
    /// They follow a request that may end HTTP/1 on this connection: keep them until it is known whether it has, then
    /// call [`Scanner::resume`] or [`Scanner::tunnel`].
    Hold,
    /// The request is refused, and nothing more can be read of this connection. It stays so.
    Refused(Violation),
}

/// Which part of a connection's bytes comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// A head, or the rest of one.
    Head,
    /// A body, its trailer section with it.
    Body,
    /// What follows a request that may end HTTP/1.
    Held,
    /// Anything: it is not HTTP/1 any more.
    Tunnel,
    /// Nothing: a request was refused.
    Refused,
}

impl Scanner {
    /// One for a new connection.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        let head = Head::new();
        Self { limits, state: State::Head, head, requests: 0, empty_lines: 0 }
    }

    /// Looks at the bytes that have not been passed on or left out.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8]) -> Step {
        match self.state {
            State::Head => self.scan_head(bytes),
            State::Length(left) => {
                let taken = left.min(bytes.len() as u64);
                self.after_body_bytes(left - taken);
                // Not more than the length of a slice.
                Step::Pass(taken as usize)
            }
            State::Chunked(_) | State::Trailers(_) => self.scan_chunked(bytes),
            State::Held => Step::Hold,
            State::Tunnel => Step::Pass(bytes.len()),
            State::Refused(violation) => Step::Refused(violation),
        }
    }

    /// How many whole heads have been read.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Which part comes next.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Head => Phase::Head,
            State::Length(_) | State::Chunked(_) | State::Trailers(_) => Phase::Body,
            State::Held => Phase::Held,
            State::Tunnel => Phase::Tunnel,
            State::Refused(_) => Phase::Refused,
        }
    }

    /// Whether the last whole head asked for what may end HTTP/1: it had an `Upgrade`, or was a `CONNECT`.
    #[must_use]
    pub const fn may_upgrade(&self) -> bool {
        self.head.may_upgrade()
    }

    /// Whether the last method read is `HEAD`.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        self.head.is_head()
    }

    /// Whether the head of the request under way has been read, so that what is refused is its body.
    #[must_use]
    pub const fn is_in_body(&self) -> bool {
        self.head.is_whole()
    }

    /// Where in the bytes given last the line begins at which a head was refused.
    pub(super) const fn line(&self) -> usize {
        self.head.line()
    }

    /// The request did not end HTTP/1: another may follow.
    pub fn resume(&mut self) {
        if let State::Held = self.state {
            self.state = State::Head;
            self.head = Head::new();
        }
    }

    /// HTTP/1 has ended on this connection: everything passes.
    pub fn tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// Refuses the request whose head or body is under way, for a reason that its bytes do not tell.
    pub fn refuse(&mut self, violation: Violation) {
        self.state = State::Refused(violation);
    }

    #[inline]
    fn scan_head(&mut self, bytes: &[u8]) -> Step {
        // A head that has been read stays, for who asks about it, until the first byte of the next.
        if self.head.is_whole() && !bytes.is_empty() {
            self.head = Head::new();
        }
        match self.head.look(bytes, &self.limits) {
            Ok(Looked::Whole(length)) => {
                self.requests += 1;
                self.empty_lines = 0;
                match self.head.framing() {
                    Framing::None => self.request_ends(),
                    Framing::Length(length) => self.state = State::Length(length),
                    Framing::Chunked => self.state = State::Chunked(Chunks::new()),
                }
                Step::Pass(length)
            }
            Ok(Looked::Part) if bytes.is_empty() => Step::Pass(0),
            Ok(Looked::Part) => Step::More,
            Ok(Looked::EmptyLine) => {
                self.head = Head::new();
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    self.refused(Violation::EmptyLines)
                } else {
                    Step::Skip(2)
                }
            }
            Err(violation) => self.refused(violation),
        }
    }

    fn scan_chunked(&mut self, bytes: &[u8]) -> Step {
        let mut passed = 0;
        if let State::Chunked(chunks) = &mut self.state {
            let (read, ended) = chunks.read(bytes);
            passed = read;
            match ended {
                Ok(false) => return Step::Pass(passed),
                Ok(true) => self.state = State::Trailers(Trailers::new()),
                // What was right is passed on first.
                Err(violation) if passed > 0 => {
                    self.state = State::Refused(violation);
                    return Step::Pass(passed);
                }
                Err(violation) => return self.refused(violation),
            }
        }
        let State::Trailers(trailers) = &mut self.state else { unreachable!("set above") };
        match trailers.look(&bytes[passed..], &self.limits) {
            Ok(Some(length)) => {
                self.request_ends();
                Step::Pass(passed + length)
            }
            // Looked at once more from their beginning.
            _ if passed > 0 => {
                self.state = State::Trailers(Trailers::new());
                Step::Pass(passed)
            }
            Ok(None) if bytes.is_empty() => Step::Pass(0),
            Ok(None) => Step::More,
            Err(violation) => self.refused(violation),
        }
    }

    fn after_body_bytes(&mut self, left: u64) {
        if left == 0 { self.request_ends() } else { self.state = State::Length(left) }
    }

    fn request_ends(&mut self) {
        self.state = if self.head.may_upgrade() { State::Held } else { State::Head };
    }

    #[cold]
    fn refused(&mut self, violation: Violation) -> Step {
        self.state = State::Refused(violation);
        Step::Refused(violation)
    }
}
