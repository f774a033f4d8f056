//! The health protocol of gRPC: `grpc.health.v1.Health`, its two messages written by hand.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{Clock, Endpoint, Sleep};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderMap, Request, Uri, Version};

use super::dial::{Dial, Io, split};
use super::{Beat, Kept, Kind, Probe, Probed, Probing, Then, dialing};
use crate::{CheckError, Failure, HealthCheck, ProbeReport};

/// The most that a message may take: one that tells a status takes two bytes.
const MOST: usize = 4 * 1024;

const OK: u32 = 0;
const UNIMPLEMENTED: u32 = 12;
const SERVING: u64 = 1;

/// A probe by the health protocol of gRPC. See [`HealthCheck::grpc`].
#[derive(Clone, Debug)]
pub struct Grpc {
    pub(super) dial: Dial,
    service: String,
    watch: bool,
    reuse: bool,
}

impl HealthCheck<Grpc> {
    /// Probes by `Check` of `grpc.health.v1.Health` over HTTP/2: that `service` is `SERVING` is a pass. The empty name is
    /// the whole server.
    ///
    /// Where the server does not implement the protocol, nothing can be asked: the endpoint is healthy, and is not probed
    /// again until its configuration changes (gRPC proposal A17). Nobody notices then when it dies: over servers without the
    /// protocol [`tcp`](HealthCheck::tcp) is better. A name that the server does not know fails.
    #[must_use]
    pub fn grpc(service: impl Into<String>) -> Self {
        Self::of(Grpc { dial: Dial::default(), service: service.into(), watch: false, reuse: true })
    }

    /// Follows `Watch` where the server implements it, and else asks by `Check`.
    ///
    /// A server that is watched tells of each change as it happens, and that decides at once. In between a `PING` at each
    /// interval shows that it is alive. A stream is kept open for each endpoint, which takes none of the places for
    /// concurrent probes.
    #[must_use]
    pub fn watch(mut self) -> Self {
        self.probe.watch = true;
        self
    }

    /// Whether a connection is kept for the next probe of its endpoint: true unless it is said. A kept connection that is
    /// found closed is no failure: the probe connects anew. No more are kept than
    /// [`max_concurrent_probes`](Self::max_concurrent_probes).
    #[must_use]
    pub fn reuse_connection(mut self, reuse: bool) -> Self {
        self.probe.reuse = reuse;
        self
    }
}

dialing!(Grpc, tls, "h2");

impl Kind for Grpc {
    fn into_probe(self) -> Result<Arc<dyn Probe>, CheckError> {
        if self.service.len() > MOST {
            return Err(CheckError::new("service", self.service.len(), "must have 4096 bytes at most"));
        }
        Ok(Arc::new(Arc::new(self)))
    }
}

impl Probe for Arc<Grpc> {
    fn probe(&self, endpoint: &Endpoint, kept: Kept, beat: &Beat) -> Probing {
        let (grpc, address, beat) = (Self::clone(self), endpoint.address().clone(), beat.clone());
        Box::pin(async move {
            let asked = grpc.ask(address.as_str(), kept, beat).await;
            asked.unwrap_or_else(|failure| ProbeReport::fail(failure).into())
        })
    }
}

/// Why a call has no message.
enum Ended {
    /// By this status.
    Status(u32),
    Broken(Failure),
}

impl Grpc {
    async fn ask(&self, address: &str, kept: Kept, beat: Beat) -> Result<Probed, Failure> {
        if let Some(link) = kept.and_then(|kept| kept.downcast::<Link>().ok())
            && let Ok(probed) = self.check(address, link).await
        {
            return Ok(probed);
        }
        // None was kept, or it was closed, by time or by a restart, which says nothing of now.
        let mut link = Box::new(Link::new(self.dial.connect(address).await?).await?);
        if self.watch {
            match self.call(&mut link, address, "Watch").await {
                Ok((mut stream, status)) => {
                    // What came along with the first message comes out by the stream.
                    stream.messages.push_front(status);
                    return Ok(watched(*link, stream, beat));
                }
                Err(Ended::Status(UNIMPLEMENTED)) => {}
                Err(Ended::Status(code)) => return Err(Failure::Grpc(code)),
                Err(Ended::Broken(failure)) => return Err(failure),
            }
        }
        self.check(address, link).await
    }

    async fn check(&self, address: &str, mut link: Box<Link>) -> Result<Probed, Failure> {
        let (report, then) = match self.call(&mut link, address, "Check").await {
            Ok((_, status)) => (told(status), Then::Again),
            Err(Ended::Status(UNIMPLEMENTED)) => (ProbeReport::pass().at_once(), Then::Never),
            Err(Ended::Status(code)) => (ProbeReport::fail(Failure::Grpc(code)), Then::Again),
            Err(Ended::Broken(failure)) => return Err(failure),
        };
        let keeps = self.reuse && matches!(then, Then::Again) && link.connection.is_some();
        Ok(Probed { report, kept: if keeps { Some(link) } else { None }, then })
    }

    /// Calls `method` and reads the first message of its answer.
    async fn call(&self, link: &mut Link, address: &str, method: &str) -> Result<(Messages, u64), Ended> {
        let request = self.request(address, method).map_err(Ended::Broken)?;
        let response = link.call(request, self.message()).await.map_err(Ended::Broken)?;
        let (head, body) = response.into_parts();
        if head.status != 200 {
            return Err(Ended::Broken(Failure::Status(head.status.as_u16())));
        }
        // An answer without a message has its status in the head.
        if let Some(code) = status_of(&head.headers) {
            return Err(Ended::Status(code));
        }
        let mut messages = Messages { body, buffer: BytesMut::new(), messages: VecDeque::new() };
        let first = std::future::poll_fn(|cx| {
            let end = link.drive(cx);
            match (messages.poll(cx), end) {
                (Poll::Pending, Some(failure)) => Poll::Ready(Err(Ended::Broken(failure))),
                (polled, _) => polled,
            }
        });
        let first = first.await?;
        Ok((messages, first))
    }

    fn request(&self, address: &str, method: &str) -> Result<Request<()>, Failure> {
        let authority = match address.strip_prefix("unix:") {
            Some(_) => "localhost".to_owned(),
            None => {
                let (host, port) = split(address).ok_or(Failure::Address)?;
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
            }
        };
        let uri = Uri::builder()
            .scheme(if self.dial.is_tls() { "https" } else { "http" })
            .authority(authority)
            .path_and_query(format!("/grpc.health.v1.Health/{method}"))
            .build()
            .map_err(|_| Failure::Address)?;
        Request::post(uri)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "buttress-health")
            .body(())
            .map_err(|_| Failure::Address)
    }

    /// `HealthCheckRequest { string service = 1; }` with the length in front.
    fn message(&self) -> Bytes {
        let mut request = BytesMut::new();
        if !self.service.is_empty() {
            request.put_u8(0x0a);
            let mut length = self.service.len();
            while length >= 0x80 {
                request.put_u8(length as u8 | 0x80);
                length >>= 7;
            }
            request.put_u8(length as u8);
            request.put_slice(self.service.as_bytes());
        }
        let mut message = BytesMut::with_capacity(5 + request.len());
        message.put_u8(0);
        message.put_u32(request.len() as u32);
        message.put_slice(&request);
        message.freeze()
    }
}

fn told(status: u64) -> ProbeReport {
    if status == SERVING { ProbeReport::pass() } else { ProbeReport::fail(Failure::NotServing) }
}

fn status_of(fields: &HeaderMap) -> Option<u32> {
    let code = fields.get("grpc-status")?;
    // One that cannot be read is UNKNOWN.
    Some(code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2))
}

/// The statuses that a body tells, as they come.
struct Messages {
    body: RecvStream,
    buffer: BytesMut,
    messages: VecDeque<u64>,
}

impl Messages {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, Ended>> {
        loop {
            if let Some(status) = self.messages.pop_front() {
                return Poll::Ready(Ok(status));
            }
            if let Some(message) = self.take().map_err(Ended::Broken)? {
                let status = decode(&message).ok_or(Ended::Broken(Failure::Garbage))?;
                return Poll::Ready(Ok(status));
            }
            match std::task::ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.buffer.extend_from_slice(&data);
                    let _ = self.body.flow_control().release_capacity(data.len());
                }
                Some(Err(error)) => return Poll::Ready(Err(Ended::Broken(why(&error)))),
                None => {
                    let trailers = std::task::ready!(self.body.poll_trailers(cx));
                    let code =
                        trailers.map_err(|error| Ended::Broken(why(&error)))?.as_ref().and_then(status_of);
                    return Poll::Ready(Err(match code {
                        Some(code) if code != OK => Ended::Status(code),
                        _ => Ended::Broken(Failure::Closed),
                    }));
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        // Compressed ones were not asked for.
        if head[0] != 0 || length > MOST {
            return Err(Failure::Garbage);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(5 + length);
        Ok(Some(message.split_off(5).freeze()))
    }
}

/// `HealthCheckResponse { ServingStatus status = 1; }`. Other fields are passed over.
fn decode(mut message: &[u8]) -> Option<u64> {
    fn varint(from: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = from.split_first()?;
            *from = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    // The default of an enum is not written.
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let passed = match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(passed..)?;
    }
    Some(status)
}

/// A connection, driven while it is used and at no other time, unless it is watched.
struct Link {
    sender: SendRequest<Bytes>,
    connection: Option<Pin<Box<Connection<Box<dyn Io>, Bytes>>>>,
    pings: Option<PingPong>,
}

impl Link {
    async fn new(stream: Box<dyn Io>) -> Result<Self, Failure> {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(65_535)
            .initial_connection_window_size(65_535)
            .max_header_list_size(16 * 1024);
        let (sender, mut connection) = builder.handshake(stream).await.map_err(|error| why(&error))?;
        let pings = connection.ping_pong();
        Ok(Self { sender, connection: Some(Box::pin(connection)), pings })
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Option<Failure> {
        let Some(connection) = &mut self.connection else { return Some(Failure::Closed) };
        let Poll::Ready(end) = connection.as_mut().poll(cx) else { return None };
        self.connection = None;
        Some(end.map_or_else(|error| why(&error), |()| Failure::Closed))
    }

    async fn call(
        &mut self,
        request: Request<()>,
        message: Bytes,
    ) -> Result<http::Response<RecvStream>, Failure> {
        std::future::poll_fn(|cx| match (self.drive(cx), self.sender.poll_ready(cx)) {
            (_, Poll::Ready(ready)) => Poll::Ready(ready.map_err(|error| why(&error))),
            (Some(failure), _) => Poll::Ready(Err(failure)),
            (None, Poll::Pending) => Poll::Pending,
        })
        .await?;
        let (response, mut body) = self.sender.send_request(request, false).map_err(|error| why(&error))?;
        body.send_data(message, true).map_err(|error| why(&error))?;
        let mut response = std::pin::pin!(response);
        std::future::poll_fn(|cx| {
            let end = self.drive(cx);
            match (response.as_mut().poll(cx), end) {
                (Poll::Ready(response), _) => Poll::Ready(response.map_err(|error| why(&error))),
                (_, Some(failure)) => Poll::Ready(Err(failure)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

fn why(error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        return Failure::Io(io.kind());
    }
    if error.is_go_away() || error.is_reset() { Failure::Closed } else { Failure::Garbage }
}

/// A stream of `Watch`, and what keeps an eye on whether its server lives.
struct Watched {
    link: Link,
    messages: Messages,
    clock: Clock,
    interval: std::time::Duration,
    timeout: std::time::Duration,
    last: u64,
    sleep: Pin<Box<Sleep>>,
    pinged: bool,
}

fn watched(link: Link, mut messages: Messages, beat: Beat) -> Probed {
    let last = messages.messages.pop_front().unwrap_or(0);
    let Beat { clock, interval, timeout } = beat;
    let sleep = Box::pin(clock.sleep(interval));
    let watched = Watched { link, messages, clock, interval, timeout, last, sleep, pinged: false };
    let reports = futures_util::stream::unfold(Some(watched), |watched| async {
        let mut watched = watched?;
        match watched.next().await {
            Ok(report) => Some((report, Some(watched))),
            // Ended in order, as a server does that is restarted, or whose connections have an age: ask again.
            Err(None) => None,
            Err(Some(failure)) => Some((ProbeReport::fail(failure), None)),
        }
    });
    Probed { report: told(last).at_once(), kept: None, then: Then::Told(Box::pin(reports)) }
}

impl Watched {
    async fn next(&mut self) -> Result<ProbeReport, Option<Failure>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ProbeReport, Option<Failure>>> {
        loop {
            let end = self.link.drive(cx);
            match self.messages.poll(cx) {
                Poll::Ready(Ok(status)) => {
                    self.last = status;
                    return Poll::Ready(Ok(told(status).at_once()));
                }
                Poll::Ready(Err(Ended::Broken(Failure::Io(kind)))) => {
                    return Poll::Ready(Err(Some(Failure::Io(kind))));
                }
                Poll::Ready(Err(Ended::Broken(Failure::Garbage))) => {
                    return Poll::Ready(Err(Some(Failure::Garbage)));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(None)),
                Poll::Pending => {}
            }
            match end {
                Some(Failure::Closed) => return Poll::Ready(Err(None)),
                Some(failure) => return Poll::Ready(Err(Some(failure))),
                None => {}
            }
            if self.pinged
                && let Some(pings) = &mut self.link.pings
                && pings.poll_pong(cx).is_ready()
            {
                self.pinged = false;
                self.sleep.as_mut().reset(self.clock.now() + self.interval);
                // It is as it was, and lives.
                return Poll::Ready(Ok(told(self.last)));
            }
            std::task::ready!(self.sleep.as_mut().poll(cx));
            if self.pinged {
                return Poll::Ready(Err(Some(Failure::Timeout)));
            }
            let Some(Ok(())) = self.link.pings.as_mut().map(|pings| pings.send_ping(Ping::opaque())) else {
                return Poll::Ready(Err(None));
            };
            self.pinged = true;
            self.sleep.as_mut().reset(self.clock.now() + self.timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_status_is_found_among_fields_that_are_not_known() {
        assert_eq!(decode(&[]), Some(0));
        assert_eq!(decode(&[8, 1]), Some(1));
        assert_eq!(decode(&[16, 200, 1, 8, 2]), Some(2));
        assert_eq!(decode(&[0x1a, 3, 8, 1, 8, 8, 1]), Some(1), "what is inside of another field is not it");
        assert_eq!(decode(&[0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x2d, 1, 2, 3, 4]), Some(0));
    }

    #[test]
    fn what_is_no_message_is_garbage() {
        for bytes in [&[8_u8][..], &[8, 0x80], &[0x1a, 9, 1], &[0x0b], &[0xff; 11], &[0x21, 1]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
