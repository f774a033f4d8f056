//! HTTP/1 and HTTP/2 told apart by the first bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first (RFC 9113 §3.4). No HTTP/1 request begins so: there is no method `PRI`.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read already, and are read again.
pub(super) struct Sniffed<IO> {
    io: IO,
    bytes: [u8; PREFACE.len()],
    filled: u8,
    given: u8,
}

impl<IO: AsyncRead + Unpin> Sniffed<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, bytes: [0; PREFACE.len()], filled: 0, given: 0 }
    }

    /// Whether the client speaks HTTP/2. It is known with the first byte that differs, so a slow client of HTTP/1 gets
    /// on with its request. `None`: it has ended without a word.
    pub(super) fn poll_http2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<bool>>> {
        while (self.filled as usize) < PREFACE.len() {
            let mut buf = ReadBuf::new(&mut self.bytes[self.filled as usize..]);
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            self.filled += read as u8;
            let filled = self.filled as usize;
            if filled == 0 {
                return Poll::Ready(Ok(None));
            }
            if read == 0 || self.bytes[..filled] != PREFACE[..filled] {
                return Poll::Ready(Ok(Some(false)));
            }
        }
        Poll::Ready(Ok(Some(true)))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sniffed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.filled {
            let bytes = &self.bytes[self.given as usize..self.filled as usize];
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            self.given += count as u8;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sniffed<IO> {
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
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_preface_is_known_in_pieces_and_read_again() {
        let (mut client, server) = duplex(64);
        let mut server = Sniffed::new(server);
        for piece in [&PREFACE[..1], &PREFACE[1..20]] {
            client.write_all(piece).await.unwrap();
            let pending = poll_fn(|cx| Poll::Ready(server.poll_http2(cx).is_pending())).await;
            assert!(pending);
        }

        client.write_all(&PREFACE[20..]).await.unwrap();
        client.write_all(b"more").await.unwrap();
        drop(client);

        assert_eq!(poll_fn(|cx| server.poll_http2(cx)).await.unwrap(), Some(true));
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [&PREFACE[..], b"more"].concat());
    }

    #[tokio::test]
    async fn the_first_other_byte_says_http1() {
        for start in ["G", "PUT", "PRI * HTTP/1.1"] {
            let (mut client, server) = duplex(64);
            let mut server = Sniffed::new(server);
            client.write_all(start.as_bytes()).await.unwrap();

            assert_eq!(poll_fn(|cx| server.poll_http2(cx)).await.unwrap(), Some(false), "{start}");
        }
    }

    #[tokio::test]
    async fn an_end_before_the_first_byte_is_none_and_one_within_the_preface_is_http1() {
        let (client, server) = duplex(64);
        drop(client);
        assert_eq!(poll_fn(|cx| Sniffed::new(&b""[..]).poll_http2(cx)).await.unwrap(), None);
        let mut server = Sniffed::new(server);
        assert_eq!(poll_fn(|cx| server.poll_http2(cx)).await.unwrap(), None);
        assert_eq!(poll_fn(|cx| Sniffed::new(&b"PRI"[..]).poll_http2(cx)).await.unwrap(), Some(false));
    }
}
