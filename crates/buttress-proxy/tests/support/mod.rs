//! Upstreams written byte by byte, and requests to send through the proxy.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress_proxy::Proxy;
use bytes::Bytes;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) type TestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A server that does on each connection what a test tells it to.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// `serve` gets the number of the connection, from 1, and the connection.
    pub(crate) async fn start<F>(serve: impl Fn(usize, Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(serve(number, Wire { stream, ahead: Vec::new() }));
            }
        });
        Self { address, accepted, task }
    }

    /// Answers each request, whose body it does not read, with the same bytes, and keeps the connection.
    pub(crate) async fn answering(answer: impl Into<Bytes>) -> Self {
        let answer = answer.into();
        Self::start(move |_, mut wire| {
            let answer = answer.clone();
            async move {
                while wire.head().await.is_some() {
                    wire.send(&answer).await;
                }
            }
        })
        .await
    }

    /// Answers each request once with the same bytes, and closes the connection.
    pub(crate) async fn answering_once(answer: impl Into<Bytes>) -> Self {
        let answer = answer.into();
        Self::start(move |_, mut wire| {
            let answer = answer.clone();
            async move {
                wire.head().await;
                wire.send(&answer).await;
            }
        })
        .await
    }

    /// Answers each request with its own head as the body.
    pub(crate) async fn echoing_heads() -> Self {
        Self::start(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())).await;
            }
        })
        .await
    }

    pub(crate) fn proxy(&self) -> Proxy<TestBody> {
        Proxy::to(self.address).unwrap()
    }

    /// How many connections were made.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The upstream's end of one connection.
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(to).await.unwrap(), ahead: Vec::new() }
    }

    /// The next head with its empty line; `None` when the connection has ended.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).unwrap())
    }

    /// What comes up to and with `end`; `None` when the connection ends before.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                return Some(self.ahead.drain(..at + end.len()).collect());
            }
            if self.more().await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next `length` bytes, or as many as come.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length && self.more().await.unwrap_or(0) > 0 {}
        let length = length.min(self.ahead.len());
        self.ahead.drain(..length).collect()
    }

    /// Reads until the connection ends, and says how much came, and how it ended.
    pub(crate) async fn rest(&mut self) -> (usize, io::Result<()>) {
        let mut read = 0;
        loop {
            read += self.ahead.len();
            self.ahead.clear();
            match self.more().await {
                Ok(0) => return (read, Ok(())),
                Ok(_) => {}
                Err(error) => return (read, Err(error)),
            }
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.ahead).await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Whether nothing has come that was not read, with every task having had its turn.
    pub(crate) async fn is_silent(&mut self) -> bool {
        settle().await;
        let nothing =
            self.stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.ahead.is_empty() && nothing
    }

    /// Ends what is sent; what comes can still be read.
    pub(crate) async fn shutdown(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn get(target: &str) -> Request<TestBody> {
    Request::get(target).header("host", "shop.example").body(body("")).unwrap()
}

pub(crate) fn post(bytes: impl Into<Bytes>) -> Request<TestBody> {
    Request::post("/").header("host", "shop.example").body(body(bytes)).unwrap()
}

/// The body of an answer as text.
pub(crate) async fn text(response: http::Response<buttress_proxy::Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Lets every other task run until none has anything to do but wait for the network.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
