use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, mem};

use buttress_core::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alarm::Alarm;
use super::config::body_error;
use super::connection::{Fault, Verdict};
use super::{Connection, Phase, Scanner, Step, Violation};

/// The most bytes that are read ahead of the answer to a request that may end HTTP/1.
const AHEAD: usize = 16 * 1024;
/// The most bytes that are read, and thrown away, behind a refused request while it is answered.
const DISCARDED: usize = 256 * 1024;
/// How long a client that still sends is listened to after the answer: closing at once would reset the connection, and
/// the client could lose the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
/// What hyper reads in place of a head that is refused. The service answers it by its number.
const IN_PLACE: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
const IN_PLACE_OF_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// A socket, or what stands for one, that hands hyper only HTTP/1 requests that are right.
///
/// Bytes are read into hyper's own buffer and looked at there, so that a head that comes whole is never copied. A part
/// of a head is held back until the rest has come. In place of a head that is refused hyper gets a small one, whose
/// call the [`Checked`](super::Checked) service answers by its number; a body that is refused fails. After either
/// nothing more is read from the client.
///
/// It is for HTTP/1 alone: whoever serves HTTP/2 too looks for its preface first.
pub struct Guard<IO> {
    io: IO,
    scanner: Scanner,
    connection: Connection,
    /// Bytes that hyper has not got: up to `ready` it may have them.
    held: Vec<u8>,
    given: usize,
    ready: usize,
    /// The rest has not been looked at.
    unread: bool,
    mode: Mode,
    alarm: Alarm,
    /// When the part of a head that is held back began, or when nothing came of a body.
    since: Option<Timestamp>,
    /// The client has not taken what hyper wrote.
    stalled: bool,
    /// When it had.
    taken_at: Timestamp,
    closing: Option<Timestamp>,
}

#[derive(Clone, Copy)]
enum Mode {
    Reading,
    /// A head was refused: so many bytes behind it have been thrown away.
    Refused(usize),
    /// A body was.
    Broken(Violation),
    /// The connection was idle for too long.
    Ended,
}

impl<IO> Guard<IO> {
    pub(super) fn new(io: IO, connection: Connection) -> Self {
        Self {
            io,
            scanner: Scanner::new(connection.0.wire.limits),
            connection,
            held: Vec::new(),
            given: 0,
            ready: 0,
            unread: false,
            mode: Mode::Reading,
            alarm: Alarm::default(),
            since: None,
            stalled: false,
            taken_at: Timestamp::ZERO,
            closing: None,
        }
    }

    /// The socket.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Looks at bytes in hyper's buffer, and says how many of them may stay there.
    #[inline]
    fn look(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self.scanner.scan(&bytes[at..]) {
                Step::Pass(length) => at += length,
                step => {
                    self.keep(step, &bytes[at..]);
                    break;
                }
            }
        }
        self.looked();
        at
    }

    /// Takes back what may not stay in hyper's buffer.
    #[cold]
    fn keep(&mut self, step: Step, rest: &[u8]) {
        match step {
            Step::Refused(violation) => self.refuse(violation, rest),
            Step::Skip(length) => {
                self.held.extend_from_slice(&rest[length..]);
                self.unread = true;
            }
            _ => self.held.extend_from_slice(rest),
        }
    }

    /// Looks at what is held back, when more has come or is known.
    fn look_at_held(&mut self) {
        let mut at = self.ready;
        self.unread = false;
        while at < self.held.len() {
            match self.scanner.scan(&self.held[at..]) {
                Step::Pass(length) => at += length,
                Step::Skip(length) => drop(self.held.drain(at..at + length)),
                Step::Refused(violation) => {
                    let rest = self.held.split_off(at);
                    self.refuse(violation, &rest);
                    return self.looked();
                }
                Step::More | Step::Hold => break,
            }
        }
        self.ready = at;
        if at > 0 {
            self.since = None;
        }
        self.looked();
    }

    /// After bytes were looked at: whether what comes next may not be HTTP/1.
    #[inline]
    fn looked(&mut self) {
        if self.scanner.may_upgrade() {
            self.connection.0.ask(self.scanner.requests());
        }
    }

    /// Refuses the request that `rest` begins with, or goes on with. What hyper may still get before is held.
    #[cold]
    fn refuse(&mut self, violation: Violation, rest: &[u8]) {
        let in_body = self.scanner.is_in_body();
        let line = if in_body { &[] } else { rest.get(self.scanner.line()..).unwrap_or_default() };
        let request = self.scanner.requests() + u64::from(!in_body);
        self.connection.0.refuse(request, Fault { violation, in_body }, line);
        self.since = None;
        self.mode = if in_body {
            Mode::Broken(violation)
        } else {
            let in_place = if self.scanner.is_head() { IN_PLACE_OF_HEAD } else { IN_PLACE };
            self.held.extend_from_slice(in_place);
            Mode::Refused(0)
        };
        self.ready = self.held.len();
    }

    /// Gives hyper what it may have of what is held.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let there = &self.held[self.given..self.ready];
        if there.is_empty() {
            return false;
        }
        let length = there.len().min(buf.remaining());
        buf.put_slice(&there[..length]);
        self.given += length;
        if self.given == self.ready {
            if self.ready == self.held.len() {
                // An idle connection holds no memory.
                self.held = Vec::new();
            } else {
                self.held.drain(..self.ready);
            }
            (self.given, self.ready) = (0, 0);
        }
        true
    }

    /// Nothing comes from the client. Whether that has gone on for too long, which changes the mode.
    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        let shared = &self.connection.0;
        let wire = &shared.wire;
        let now = wire.clock.now();
        let in_part = self.held.len() > self.ready;
        let deadline = match self.scanner.phase() {
            Phase::Head if in_part => *self.since.get_or_insert(now) + wire.head,
            Phase::Body => *self.since.get_or_insert(now) + wire.body,
            Phase::Head => match shared.idle_since().filter(|_| !self.stalled) {
                Some(since) => {
                    let first = self.scanner.requests() == 0;
                    since.max(self.taken_at) + if first { wire.first_byte } else { wire.keep_alive }
                }
                // A call is under way. Hyper need not ask again when it is over, so we must.
                None => {
                    self.alarm.ring_some_time(&wire.clock, now, now + wire.keep_alive, cx);
                    return false;
                }
            },
            Phase::Held | Phase::Tunnel | Phase::Refused => return false,
        };
        if now < deadline {
            self.alarm.ring(&wire.clock, now, deadline, cx);
            return false;
        }
        match self.scanner.phase() {
            Phase::Head if !in_part => self.mode = Mode::Ended,
            phase => {
                let violation =
                    if phase == Phase::Body { Violation::BodyTimeout } else { Violation::HeadTimeout };
                self.held.truncate(self.ready);
                self.scanner.refuse(violation);
                self.refuse(violation, &[]);
            }
        }
        true
    }

    /// Whether the client is told of an end while it may still be sending what nobody will read.
    fn lingers(&self) -> bool {
        matches!(self.mode, Mode::Refused(_) | Mode::Broken(_)) || self.scanner.phase() == Phase::Body
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    /// Reads once into `buf`, and says how many bytes came.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    /// The same, and keeps them from hyper: they are held, or thrown away.
    fn read_back(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        hold: bool,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        let read = ready!(self.read(cx, buf))?;
        if hold {
            self.held.extend_from_slice(&buf.filled()[before..]);
        }
        buf.set_filled(before);
        Poll::Ready(Ok(read))
    }

    /// Until the service has said whether HTTP/1 goes on, more is held, so that a client that leaves is noticed.
    fn poll_held(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        match self.connection.0.verdict(self.scanner.requests(), cx.waker()) {
            Verdict::Tunnel => self.scanner.tunnel(),
            Verdict::Http1 => self.scanner.resume(),
            Verdict::Unknown => {
                while self.held.len() < AHEAD {
                    if ready!(self.read_back(cx, buf, true))? == 0 {
                        return Poll::Ready(Ok(false));
                    }
                }
                return Poll::Pending;
            }
        }
        self.unread = true;
        Poll::Ready(Ok(true))
    }

    /// Behind a refused head. An end of the connection is kept from hyper, which would throw away an answer under way.
    fn poll_refused(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while let Mode::Refused(discarded) = self.mode
            && discarded < DISCARDED
        {
            let read = ready!(self.read_back(cx, buf, false))?;
            self.mode = Mode::Refused(if read == 0 { DISCARDED } else { discarded + read });
        }
        Poll::Pending
    }

    /// Whether the client has sent requests that will not be answered, on a connection that ends all the same.
    fn has_sent_more(&mut self, cx: &mut Context<'_>) -> bool {
        match self.scanner.phase() {
            // The tunnel's bytes are its owner's, who may close one half alone.
            Phase::Tunnel => false,
            _ if !self.held.is_empty() || self.scanner.requests() > self.connection.0.called() => true,
            _ => {
                let mut space = [0; 512];
                matches!(self.read_back(cx, &mut ReadBuf::new(&mut space), false), Poll::Ready(Ok(1..)))
            }
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>, until: Timestamp) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        for _ in 0..16 {
            match self.read_back(cx, &mut ReadBuf::new(&mut space), false) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let clock = &self.connection.0.wire.clock;
                    let now = clock.now();
                    if until <= now {
                        return Poll::Ready(Ok(()));
                    }
                    self.alarm.ring(clock, now, until, cx);
                    return Poll::Pending;
                }
            }
            if until <= self.connection.0.wire.clock.now() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.mode {
                Mode::Reading => {}
                Mode::Refused(_) => return this.poll_refused(cx, buf),
                Mode::Broken(violation) => return Poll::Ready(Err(body_error(violation))),
                Mode::Ended => return Poll::Ready(Ok(())),
            }
            if this.unread {
                this.look_at_held();
                continue;
            }
            match this.scanner.phase() {
                Phase::Tunnel => return this.read(cx, buf).map_ok(drop),
                Phase::Held if ready!(this.poll_held(cx, buf))? => continue,
                Phase::Held => return Poll::Ready(Ok(())),
                _ => {}
            }

            if this.held.is_empty() {
                let before = buf.filled().len();
                match this.read(cx, buf)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(())),
                    Poll::Ready(_) => {
                        this.since = None;
                        let passed = this.look(&buf.filled()[before..]);
                        buf.set_filled(before + passed);
                        if passed > 0 {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Poll::Pending if this.wait(cx) => {}
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                match this.read_back(cx, buf, true)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(())),
                    Poll::Ready(_) => this.look_at_held(),
                    Poll::Pending if this.wait(cx) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.stalled |= written.is_pending();
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, parts);
        this.stalled |= written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        if flushed.is_pending() {
            this.stalled = true;
        } else if mem::take(&mut this.stalled) {
            this.taken_at = this.connection.0.wire.clock.now();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let until = match this.closing {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                if !this.lingers() && !this.has_sent_more(cx) {
                    return Poll::Ready(Ok(()));
                }
                *this.closing.insert(this.connection.0.wire.clock.now() + LINGER)
            }
        };
        this.poll_linger(cx, until)
    }
}

impl<IO: fmt::Debug> fmt::Debug for Guard<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("io", &self.io)
            .field("phase", &self.scanner.phase())
            .field("requests", &self.scanner.requests())
            .finish_non_exhaustive()
    }
}
