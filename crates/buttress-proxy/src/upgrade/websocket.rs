//! Ends WebSockets in order when the server drains (RFC 6455 §7.1.1): with a Close frame, where a frame may begin.
//!
//! ```text
//!   Open ──drain, and the next byte begins a frame──▶ Closing ──written──▶ Over ──end of the reader──▶ its end
//!   Open ──the sender's own Close has passed────────▶ Over
//! ```
//!
//! In `Over` what still comes is dropped: behind a Close no frame may follow. It is read though, since a socket that is
//! closed with bytes unread is reset, and the peer might lose the Close that it was sent.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Draining;

/// Follows the frames of one direction (RFC 6455 §5.2), however its bytes are cut into pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// The bytes of a head that is not whole; the first of them are enough to know how long it is.
    head: [u8; 14],
    have: usize,
    /// What is left of the payload of the frame whose head has passed.
    payload: u64,
    close: Close,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Close {
    #[default]
    None,
    /// Its head has passed.
    Begun,
    Passed,
}

const OPCODE_CLOSE: u8 = 8;

/// How much is read at once while it ends.
const SMALL: usize = 1024;

impl Frames {
    /// Whether the next byte begins a frame.
    pub(crate) const fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Whether a Close frame has passed as a whole: nothing may follow it.
    pub(crate) const fn closed(&self) -> bool {
        matches!(self.close, Close::Passed)
    }

    /// How many bytes may pass without passing the end of the present frame, as far as is known; 0 at a boundary.
    pub(crate) fn within_frame(&self) -> u64 {
        if self.at_boundary() {
            0
        } else if self.have > 0 {
            (self.head_length() - self.have) as u64
        } else {
            self.payload
        }
    }

    /// Takes notice of bytes that pass. Behind a Close nothing is looked at.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.closed() {
            if self.payload > 0 {
                let step = self.payload.min(bytes.len() as u64);
                self.payload -= step;
                // Not more than there are bytes, so it fits.
                bytes = &bytes[step as usize..];
            } else {
                self.head[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                if self.have == self.head_length() {
                    self.begin();
                }
            }
            if self.at_boundary() && self.close == Close::Begun {
                self.close = Close::Passed;
            }
        }
    }

    /// The length of a head, of which at least one byte is known: 2 until its second byte is.
    fn head_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.head[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    /// A head is whole.
    fn begin(&mut self) {
        let head = self.head;
        self.payload = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
            127 => {
                u64::from_be_bytes([head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]])
            }
            short => u64::from(short),
        };
        if head[0] & 0x0f == OPCODE_CLOSE {
            self.close = Close::Begun;
        }
        self.have = 0;
    }
}

/// Which way a Close goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Client,
    Upstream,
}

/// A Close with 1001, "going away".
fn close_frame(to: To, mask: [u8; 4]) -> Vec<u8> {
    const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
    let first = 0x80 | OPCODE_CLOSE;
    match to {
        To::Client => vec![first, 2, GOING_AWAY[0], GOING_AWAY[1]],
        // What a client sends is masked (§5.3).
        To::Upstream => {
            let [a, b, c, d] = mask;
            vec![first, 0x80 | 2, a, b, c, d, GOING_AWAY[0] ^ a, GOING_AWAY[1] ^ b]
        }
    }
}

/// One side of a WebSocket: what is read from it ends with a Close when the server drains.
pub(crate) struct Side<IO> {
    io: IO,
    frames: Frames,
    draining: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    state: State,
    to: To,
    mask: [u8; 4],
}

enum State {
    Open,
    Closing { frame: Vec<u8>, written: usize },
    Over,
}

impl<IO> Side<IO> {
    /// `to` is where goes what is read here; `mask` is a number by chance.
    pub(crate) fn new(io: IO, to: To, mut draining: Draining, mask: [u8; 4]) -> Self {
        let draining = Box::pin(async move { draining.begun().await });
        Self { io, frames: Frames::default(), draining: Some(draining), state: State::Open, to, mask }
    }

    fn drains(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(draining) = &mut self.draining {
            if draining.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.draining = None;
        }
        true
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Side<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {
                    let drains = this.drains(cx);
                    if drains && this.frames.at_boundary() {
                        this.state = State::Closing { frame: close_frame(this.to, this.mask), written: 0 };
                        continue;
                    }
                    let room = if drains {
                        // No further than the end of the frame: there it is looked at again.
                        usize::try_from(this.frames.within_frame()).unwrap_or(usize::MAX)
                    } else {
                        usize::MAX
                    };
                    ready!(read(&mut this.io, cx, buf, room, &mut this.frames))?;
                    if this.frames.closed() {
                        this.state = State::Over;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Closing { frame, written } => {
                    let left = &frame[*written..];
                    let step = left.len().min(buf.remaining());
                    buf.put_slice(&left[..step]);
                    *written += step;
                    if *written == frame.len() {
                        this.state = State::Over;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Over => {
                    let mut dropped = [MaybeUninit::uninit(); SMALL];
                    let mut dropped = ReadBuf::uninit(&mut dropped);
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut dropped))?;
                    if dropped.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// Reads at most `room` bytes, and lets `frames` see them.
fn read<IO: AsyncRead + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    room: usize,
    frames: &mut Frames,
) -> Poll<io::Result<()>> {
    if room >= buf.remaining() {
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        frames.pass(&buf.filled()[before..]);
        return Poll::Ready(Ok(()));
    }
    // The last of a frame goes by way of the stack: to say that a part of `buf` has been filled takes `unsafe`.
    let mut part = [MaybeUninit::uninit(); SMALL];
    let mut part = ReadBuf::uninit(&mut part[..room.min(SMALL)]);
    ready!(Pin::new(io).poll_read(cx, &mut part))?;
    frames.pass(part.filled());
    buf.put_slice(part.filled());
    Poll::Ready(Ok(()))
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Side<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::Drain;

    /// A frame, payload and all, and whether it is a Close.
    fn frame() -> impl Strategy<Value = (Vec<u8>, bool)> {
        let length = prop_oneof![
            6 => 0_usize..10,
            2 => 120_usize..130,
            1 => Just(65_535_usize),
            1 => Just(65_536_usize),
        ];
        let opcode = prop_oneof![6 => prop::sample::select(vec![0_u8, 1, 2, 9, 10]), 1 => Just(OPCODE_CLOSE)];
        // A length may be written longer than it need be.
        (length, opcode, any::<bool>(), any::<bool>(), 0_u8..3).prop_map(
            |(length, opcode, fin, masked, form)| {
                let mask = if masked { 0x80 } else { 0 };
                let mut frame = vec![opcode | if fin { 0x80 } else { 0 }];
                match (length, form) {
                    (0..=125, 0) => frame.push(mask | length as u8),
                    (0..=65_535, 0 | 1) => {
                        frame.push(mask | 126);
                        frame.extend((length as u16).to_be_bytes());
                    }
                    _ => {
                        frame.push(mask | 127);
                        frame.extend((length as u64).to_be_bytes());
                    }
                }
                frame.extend(vec![0x88; length + if masked { 4 } else { 0 }]);
                (frame, opcode == OPCODE_CLOSE)
            },
        )
    }

    fn frames() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        prop::collection::vec(frame(), 1..6)
    }

    /// Where each frame ends; nothing counts behind a Close.
    fn ends(frames: &[(Vec<u8>, bool)]) -> Vec<usize> {
        let mut at = 0;
        let mut ends = vec![0];
        for (frame, close) in frames {
            at += frame.len();
            ends.push(at);
            if *close {
                break;
            }
        }
        ends
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_are_cut(
            frames in frames(),
            cuts in prop::collection::vec(1_usize..20_000, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let ends = ends(&frames);
            let closed = frames.iter().any(|(_, close)| *close).then(|| ends[ends.len() - 1]);
            let mut seen = Frames::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                if at >= bytes.len() || seen.closed() {
                    break;
                }
                let until = bytes.len().min(at + cut);
                seen.pass(&bytes[at..until]);
                at = until;
                prop_assert_eq!(seen.closed(), closed.is_some_and(|closed| at >= closed));
                if !seen.closed() {
                    prop_assert_eq!(seen.at_boundary(), ends.contains(&at), "at {}", at);
                    let next = ends.iter().find(|&&end| end >= at).map_or(0, |end| end - at) as u64;
                    prop_assert!(seen.within_frame() <= next);
                    prop_assert_eq!(seen.within_frame() == 0, seen.at_boundary());
                }
            }
        }

        #[test]
        fn what_passes_until_the_drain_is_whole_frames_and_one_close(
            frames in frames(),
            pieces in prop::collection::vec(1_usize..5_000, 1..20),
            begins in 0_usize..200_000,
            room in 1_usize..20_000,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let drain = Drain::new();
            let (mut far, near) = tokio::io::duplex(1 << 20);
            let mut side = Side::new(near, To::Client, drain.draining(), [0; 4]);
            let passed = runtime.block_on(async {
                let mut passed = Vec::new();
                let mut buffer = vec![0; room];
                let mut left = &bytes[..];
                for piece in pieces.iter().cycle() {
                    if passed.len() >= begins || left.is_empty() {
                        drain.begin();
                    }
                    let (piece, rest) = left.split_at(left.len().min(*piece));
                    left = rest;
                    tokio::io::AsyncWriteExt::write_all(&mut far, piece).await.unwrap();
                    if left.is_empty() {
                        tokio::io::AsyncWriteExt::shutdown(&mut far).await.unwrap();
                        drain.begin();
                        side.read_to_end(&mut passed).await.unwrap();
                        return passed;
                    }
                    let read = side.read(&mut buffer[..]);
                    let mut read = std::pin::pin!(read);
                    let read = std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
                    if let Poll::Ready(read) = read {
                        passed.extend_from_slice(&buffer[..read.unwrap()]);
                    }
                }
                passed
            });

            let ends = ends(&frames);
            let theirs = frames.iter().any(|(_, close)| *close).then(|| ends[ends.len() - 1]);
            match passed.strip_suffix(&[0x88, 2, 0x03, 0xe9]) {
                Some(before) if ends.contains(&before.len()) && theirs != Some(before.len()) => {
                    prop_assert_eq!(before, &bytes[..before.len()]);
                }
                _ => {
                    // The sender's own Close came first; what came in one piece with it may have passed behind it.
                    prop_assert!(theirs.is_some_and(|end| passed.len() >= end), "{} of {:?}", passed.len(), theirs);
                    prop_assert_eq!(&passed[..], &bytes[..passed.len()]);
                }
            }
        }
    }

    #[test]
    fn a_close_to_the_upstream_is_masked() {
        assert_eq!(close_frame(To::Client, [1, 2, 3, 4]), [0x88, 2, 0x03, 0xe9]);
        assert_eq!(close_frame(To::Upstream, [1, 2, 3, 4]), [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
    }
}
