//! hyper behind a guard, or without one, over a connection in memory.

use std::sync::{Arc, Mutex};

use buttress_core::{Clock, ManualClock};
use buttress_proxy::server::wire::Wire;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A request as a service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    /// `None` where it failed.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// What a service saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn taken(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Reads the whole request, notes it, and answers with its target; 502 where its body failed.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let collected = body.collect().await;
        let failed = collected.is_err();
        let (body, trailers) = match collected {
            Ok(collected) => {
                let trailers = collected.trailers().cloned();
                (Some(collected.to_bytes().to_vec()), trailers)
            }
            Err(_) => (None, None),
        };
        let answer = Response::new(Full::from(head.uri.to_string()));
        self.0.lock().unwrap().push(Seen {
            method: head.method,
            target: head.uri,
            version: head.version,
            fields: head.headers,
            body,
            trailers,
        });
        Ok(if failed {
            answer.map(|_| Full::from("the body failed")).map_status(StatusCode::BAD_GATEWAY)
        } else {
            answer
        })
    }
}

trait MapStatus {
    fn map_status(self, status: StatusCode) -> Self;
}

impl<B> MapStatus for Response<B> {
    fn map_status(mut self, status: StatusCode) -> Self {
        *self.status_mut() = status;
        self
    }
}

/// The client's end of a connection to hyper behind a guard.
pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    pub(crate) log: Log,
    pub(crate) time: ManualClock,
}

/// A wire whose time the test has in its hand.
pub(crate) fn wire(time: &ManualClock) -> Wire {
    Clock::with_default(time.clock(), Wire::new)
}

impl Client {
    pub(crate) fn connect() -> Self {
        Self::connect_with(|wire| wire)
    }

    pub(crate) fn connect_with(change: impl FnOnce(Wire) -> Wire) -> Self {
        let time = ManualClock::new();
        let wire = change(wire(&time));
        let log = Log::default();
        let (io, server) = tokio::io::duplex(64 * 1024);
        let connection = wire.connection(None);
        let service = {
            let log = log.clone();
            hyper::service::service_fn(move |request| log.clone().answer(request))
        };
        let mut builder = http1::Builder::new();
        wire.prepare(&mut builder);
        let guard = TokioIo::new(connection.guard(server));
        let served = builder.serve_connection(guard, connection.check(service));
        tokio::spawn(served);
        Self { io, log, time }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// All answers until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// What has come so far, when all that can be done has been.
    pub(crate) async fn so_far(&mut self) -> String {
        crate::support::settle().await;
        let mut bytes = vec![0; 64 * 1024];
        let mut space = tokio::io::ReadBuf::new(&mut bytes);
        std::future::poll_fn(|cx| {
            let _ = tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut self.io), cx, &mut space);
            std::task::Poll::Ready(())
        })
        .await;
        String::from_utf8(space.filled().to_vec()).unwrap()
    }
}

/// What hyper makes of these bytes, all at once and without a guard, and what it answers.
pub(crate) async fn without_guard(bytes: &[u8]) -> (Vec<Seen>, String) {
    let log = Log::default();
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1024) + 1024 * 1024);
    let service = {
        let log = log.clone();
        hyper::service::service_fn(move |request| log.clone().answer(request))
    };
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    // Its error is the client's: it has sent what is not whole.
    let _ = http1::Builder::new()
        .half_close(true)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(server), service)
        .await;
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    (log.taken(), answers)
}
