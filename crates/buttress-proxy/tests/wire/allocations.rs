//! What a request costs a guard on a connection that is kept.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use buttress_core::ManualClock;
use buttress_testkit::allocations;
use tokio::io::{AsyncRead, ReadBuf};

use crate::serve::wire;

/// A client that sends the same bytes again and again, and waits in between.
struct Repeats {
    bytes: &'static [u8],
    waits: bool,
}

impl AsyncRead for Repeats {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waits = !self.waits;
        if !self.waits {
            return Poll::Pending;
        }
        buf.put_slice(self.bytes);
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_request_that_comes_whole_costs_no_allocation() {
    for bytes in [
        "GET /a HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ] {
        let time = ManualClock::new();
        let mut guard = wire(&time).connection(None).guard(Repeats { bytes: bytes.as_bytes(), waits: false });
        let mut cx = Context::from_waker(Waker::noop());
        let mut space = [0; 1024];
        let mut requests = |count| {
            for _ in 0..count {
                let mut buf = ReadBuf::new(&mut space);
                assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buf).is_ready());
                assert_eq!(buf.filled(), bytes.as_bytes());
                assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buf).is_pending());
            }
        };
        // The connection's timer is made at the first wait.
        requests(2);

        assert_eq!(allocations(|| requests(100)), 0, "{bytes:?}");
    }
}
