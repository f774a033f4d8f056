//! Floods of HTTP/2 frames that cost us more than they cost the client.
//!
//! h2 bounds by itself what one connection holds: streams, the size of a header list, CONTINUATION frames (at most so
//! many as the header list needs), streams reset before they were seen, streams reset for the client's errors, small DATA
//! frames, answers to pings that were not taken. It does not bound how *often* the client makes it do something. That is
//! counted here, as the bytes pass, with the numbers of nghttp2 (`nghttp2_option_set_stream_reset_rate_limit`,
//! `nghttp2_option_set_glitch_rate_limit`):
//!
//! | frames | at once | per second |
//! |---|---|---|
//! | RST_STREAM (rapid reset, CVE-2023-44487) | 1 000 | 33 |
//! | PING, SETTINGS, PRIORITY, unknown ones, DATA without data | 10 000 | 330 |
//!
//! A connection with more is closed. And a header block has to be whole within the time for a head, as in HTTP/1.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::Sleep;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::options::Options;
use super::rate::Rate;

/// The bytes that an HTTP/2 client sends before its first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;

/// Counts the frames in the bytes that it is shown.
#[derive(Debug)]
struct Counter {
    /// Bytes that belong to no frame's header.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
    /// The header block that began has not ended.
    in_block: bool,
    resets: Rate,
    others: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    Resets,
    Others,
}

impl Counter {
    fn new(options: &Options) -> Self {
        let ((resets, resets_burst), (others, others_burst)) =
            (options.http2.reset_rate, options.http2.control_rate);
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            filled: 0,
            in_block: false,
            resets: Rate::new(resets, resets_burst),
            others: Rate::new(others, others_burst),
        }
    }

    /// The clock is read for frames that are counted, and those are few.
    fn see(&mut self, mut bytes: &[u8], options: &Options) -> Result<(), Flood> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER {
                self.filled = 0;
                self.frame(options)?;
            }
        }
    }

    fn frame(&mut self, options: &Options) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.skip = length;
        // RFC 9113 §6. An acknowledgement (flag 1) answers us.
        let (ack, end_stream, end_headers) = (flags & 1 != 0, flags & 1 != 0, flags & 4 != 0);
        let (rate, flood) = match kind {
            0x1 | 0x9 => {
                self.in_block = !end_headers;
                return Ok(());
            }
            0x0 if length > 0 || end_stream => return Ok(()),
            0x4 | 0x6 if ack => return Ok(()),
            // They come with the data that we send.
            0x8 => return Ok(()),
            0x3 => (&mut self.resets, Flood::Resets),
            _ => (&mut self.others, Flood::Others),
        };
        rate.take(options.clock.now()).map_err(|_| flood)
    }

    /// Whether a header block is on its way: begun, and its last byte not seen.
    fn in_head(&self) -> bool {
        self.in_block || (self.skip > 0 && matches!(self.header[3], 0x1 | 0x9))
    }
}

/// A stream of HTTP/2 frames that ends where there are too many.
pub(super) struct Frames<IO> {
    io: IO,
    options: Arc<Options>,
    counter: Counter,
    /// There is a timer only while a header block is waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl<IO> Frames<IO> {
    pub(super) fn new(io: IO, options: &Arc<Options>) -> Self {
        Self { io, counter: Counter::new(options), options: Arc::clone(options), late: None }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Frames<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_ready() {
            let seen = this.counter.see(&buf.filled()[before..], &this.options);
            if !this.counter.in_head() {
                this.late = None;
            }
            return match seen {
                Ok(()) => read,
                Err(Flood::Resets) => {
                    Poll::Ready(Err(io::Error::other("too many streams reset by the client")))
                }
                Err(Flood::Others) => {
                    Poll::Ready(Err(io::Error::other("too many control frames from the client")))
                }
            };
        }
        if this.counter.in_head() {
            let options = &this.options;
            let late = this.late.get_or_insert_with(|| Box::pin(options.clock.sleep(options.head_timeout)));
            if pin!(late).poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Poll::Pending
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Frames<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
    use super::*;

    fn options() -> Options {
        let mut options = Options { clock: buttress_core::ManualClock::new().clock(), ..Options::default() };
        options.http2.reset_rate = (1, 3);
        options.http2.control_rate = (1, 5);
        options
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        // Payload that would count, were it taken for a header.
        frame.extend(std::iter::repeat_n(3, length.into()));
        frame
    }

    fn stream(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        [vec![b'P'; PREFACE], frames.into_iter().flatten().collect()].concat()
    }

    #[test]
    fn resets_are_counted_wherever_the_bytes_are_cut() {
        let options = options();
        let bytes = stream((0..4).flat_map(|_| [frame(0, 0, 200), frame(1, 4, 30), frame(3, 0, 4)]));
        for size in [1, 2, 7, 9, 10, 100, bytes.len()] {
            let mut counter = Counter::new(&options);
            let seen: Result<Vec<()>, _> =
                bytes.chunks(size).map(|piece| counter.see(piece, &options)).collect();
            assert_eq!(seen, Err(Flood::Resets), "{size}");
            let mut counter = Counter::new(&options);
            let three = &bytes[..bytes.len() - frame(3, 0, 4).len()];
            assert!(three.chunks(size).all(|piece| counter.see(piece, &options).is_ok()), "{size}");
        }
    }

    #[test]
    fn frames_that_answer_us_or_carry_something_are_not_counted() {
        let options = options();
        let mut counter = Counter::new(&options);
        let harmless =
            [frame(6, 1, 8), frame(4, 1, 0), frame(0, 0, 1), frame(0, 1, 0), frame(8, 0, 4), frame(1, 4, 9)];
        let bytes = stream((0..100).flat_map(|_| harmless.clone()));
        assert_eq!(counter.see(&bytes, &options), Ok(()));

        for flood in [frame(6, 0, 8), frame(4, 0, 0), frame(0, 0, 0), frame(2, 0, 5), frame(99, 0, 0)] {
            let mut counter = Counter::new(&options);
            let bytes = stream((0..6).map(|_| flood.clone()));
            assert_eq!(counter.see(&bytes, &options), Err(Flood::Others), "{flood:?}");
        }
    }

    #[test]
    fn a_header_block_is_on_its_way_from_its_first_frame_to_its_last_byte() {
        let options = options();
        let mut counter = Counter::new(&options);
        let mut see = |bytes: &[u8]| {
            counter.see(bytes, &options).unwrap();
            counter.in_head()
        };

        assert!(!see(&[b'P'; PREFACE]));
        assert!(!see(&frame(4, 0, 6)));
        assert!(see(&frame(1, 0, 5)));
        let last = frame(9, 4, 5);
        assert!(see(&last[..13]));
        assert!(!see(&last[13..]));
        assert!(!see(&frame(0, 0, 5)[..11]));
    }
}
