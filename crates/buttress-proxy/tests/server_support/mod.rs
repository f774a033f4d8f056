//! Servers in tests, and clients that say and hear every byte.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use buttress_core::ManualClock;
use buttress_proxy::server::{Body, Ended, Handler, Server};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs until it is told to drain, or the test ends.
pub(crate) struct Running {
    pub(crate) addresses: Vec<SocketAddr>,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<Ended>>,
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn drain(&mut self) {
        self.drain.take().expect("a server is drained once").send(()).unwrap();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) async fn ended(self) -> Ended {
        // The sender may still be there: then the server has ended by itself.
        let _drain = self.drain;
        self.task.await.unwrap().unwrap()
    }

    /// Drops the server in the midst of serving.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A service, and no more said.
pub(crate) trait AnyHandler: Handler {}

impl<S: Handler> AnyHandler for S {}

pub(crate) fn start(server: Server, service: impl AnyHandler) -> Running {
    let addresses = server.addresses().collect();
    let (drain, drained) = oneshot::channel();
    let begun = async {
        if drained.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let task = tokio::spawn(server.shutdown(begun).serve(service));
    Running { addresses, drain: Some(drain), task }
}

pub(crate) async fn local() -> Server {
    Server::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) type Reply = Response<Full<Bytes>>;

/// Answers with what `answer` makes of the request, once its body was read.
pub(crate) fn answering(
    answer: impl Fn(Request<Bytes>) -> Reply + Clone + Send + 'static,
) -> impl AnyHandler {
    tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let bytes =
                body.collect().await.map_or_else(|_| Bytes::from_static(b"broken"), |body| body.to_bytes());
            Ok::<_, std::convert::Infallible>(answer(Request::from_parts(head, bytes)))
        }
    })
}

pub(crate) fn hello() -> impl AnyHandler {
    answering(|_| text("hello"))
}

pub(crate) fn text(text: impl Into<Bytes>) -> Reply {
    Response::new(Full::new(text.into()))
}

/// A client that writes and reads bytes.
pub(crate) struct Client<IO = TcpStream> {
    pub(crate) io: IO,
    ahead: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// From another address of this machine: all of 127/8 is.
    pub(crate) async fn from(own: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(own, 0)).unwrap();
        Self::over(socket.connect(address).await.unwrap())
    }
}

impl Client {
    /// Reads what is there and throws it away: `Some(0)` where the connection has ended, `None` where nothing is there.
    pub(crate) async fn try_more(&mut self) -> Option<usize> {
        tokio::task::yield_now().await;
        match self.io.try_read(&mut [0; 4096]) {
            Ok(count) => Some(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(0),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Client<IO> {
    pub(crate) fn over(io: IO) -> Self {
        Self { io, ahead: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer, head and body; `None` where the connection has ended before its first byte.
    pub(crate) async fn answer(&mut self) -> Option<String> {
        let head = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                assert!(self.ahead.is_empty(), "it ended within {:?}", String::from_utf8_lossy(&self.ahead));
                return None;
            }
        };
        let length = String::from_utf8_lossy(&self.ahead[..head])
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ").map(|length| length.parse())
            })
            .map_or(0, |length| length.unwrap());
        let whole: usize = head + length;
        while self.ahead.len() < whole {
            assert!(self.more().await, "it ended within a body");
        }
        let rest = self.ahead.split_off(whole);
        Some(String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap())
    }

    pub(crate) async fn get(&mut self, path: &str) -> Option<String> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
        self.answer().await
    }

    /// An answer, or none where the server has closed the connection by then.
    pub(crate) async fn try_get(&mut self, path: &str) -> Option<String> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes()).await.ok()?;
        self.answer().await
    }

    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await
    }

    /// Completes when the server has closed the connection; a reset is one end as good as another.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {}
    }

    async fn more(&mut self) -> bool {
        matches!(self.io.read_buf(&mut self.ahead).await, Ok(1..))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub(crate) type Http2 = http2::SendRequest<Empty<Bytes>>;

/// An HTTP/2 client by prior knowledge, and the task that drives its connection.
pub(crate) async fn http2(address: SocketAddr) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    (client, tokio::spawn(connection))
}

pub(crate) fn http2_get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://a.example{path}")).body(Empty::new()).unwrap()
}

pub(crate) async fn whole(answer: Response<hyper::body::Incoming>) -> (u16, Bytes) {
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

/// Moves time on, bit by bit, until `future` completes; says how long that took by the manual clock.
pub(crate) async fn while_time_passes<T>(
    time: &ManualClock,
    future: impl Future<Output = T>,
) -> (T, std::time::Duration) {
    let start = time.now();
    let mut future = std::pin::pin!(future);
    loop {
        for _ in 0..20 {
            tokio::select! {
                biased;
                done = &mut future => return (done, time.now().since(start)),
                () = tokio::task::yield_now() => {}
            }
        }
        time.advance(std::time::Duration::from_millis(100));
    }
}

/// What an observer has been told, in words.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn on(&self, server: Server) -> Server {
        let log = self.clone();
        server.observe(move |event| log.0.lock().unwrap().push(format!("{event:?}")))
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }

    pub(crate) async fn until(&self, part: &str) {
        while !self.has(part) {
            tokio::task::yield_now().await;
        }
    }
}
