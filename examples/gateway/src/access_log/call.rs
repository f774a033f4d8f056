//! What is known of a request: begun when it comes, filled by those it passes, written when it is over.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use buttress::{
    Timestamp,
    proxy::server::{TlsSession, wire::Violation},
};
use http::{HeaderMap, Method, Request, Version, header::HOST};

/// The most of a path, and of a host, that is kept. What is longer ends in `…`.
const LONGEST: usize = 4096;

/// One request. It lies in the request's extensions, where the layers below find it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) begun: SystemTime,
    pub(crate) client: Option<IpAddr>,
    pub(crate) method: Option<Method>,
    version: Version,
    /// The path, and behind it the host.
    text: Box<str>,
    path: usize,
    started: Timestamp,
    status: AtomicU16,
    /// Nanoseconds from the start; 0 where there was no head.
    head: AtomicU64,
    total: AtomicU64,
    end: AtomicU8,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    known: Mutex<Known>,
}

/// What is learnt on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The path of the route, as the configuration has it.
    pub(crate) route: Option<Arc<str>>,
    /// The endpoint of the last attempt.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) attempts: u32,
    /// Why the gateway answered in the place of the upstream.
    pub(crate) refused: Option<Arc<str>>,
    pub(crate) request_id: Option<Arc<str>>,
    /// The version of TLS.
    pub(crate) tls: Option<&'static str>,
}

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ended {
    /// The client was given all of it.
    Complete,
    /// It broke off: the upstream's fault, or that of our patience with it.
    Failed,
    /// The client went away.
    Aborted,
}

impl Call {
    /// A request that has come.
    pub(crate) fn new<B>(
        request: &Request<B>,
        client: Option<IpAddr>,
        with_query: bool,
        (begun, started): (SystemTime, Timestamp),
    ) -> Self {
        let uri = request.uri();
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let path = if with_query { target } else { uri.path() };
        // One authority is that of the request's target, where it has one.
        let host = match uri.authority() {
            Some(authority) => authority.as_str().into(),
            None => request
                .headers()
                .get(HOST)
                .map(|host| String::from_utf8_lossy(host.as_bytes()))
                .unwrap_or_default(),
        };
        let mut text = String::with_capacity(path.len().min(LONGEST) + host.len().min(LONGEST));
        push_start(&mut text, path);
        let path = text.len();
        push_start(&mut text, &host);
        Self {
            begun,
            client,
            method: Some(request.method().clone()),
            version: request.version(),
            text: text.into(),
            path,
            started,
            status: AtomicU16::new(0),
            head: AtomicU64::new(0),
            total: AtomicU64::new(0),
            end: AtomicU8::new(Ended::Aborted as u8),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            known: Mutex::new(Known { tls: tls_of(request), ..Known::default() }),
        }
    }

    /// A request that is refused before it is one: what it asked for is not known.
    pub(crate) fn refused(
        client: Option<IpAddr>,
        violation: Violation,
        (begun, started): (SystemTime, Timestamp),
    ) -> Self {
        Self {
            begun,
            client,
            method: None,
            version: Version::HTTP_11,
            text: "".into(),
            path: 0,
            started,
            status: AtomicU16::new(violation.status().as_u16()),
            head: AtomicU64::new(0),
            total: AtomicU64::new(0),
            end: AtomicU8::new(Ended::Complete as u8),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            known: Mutex::new(Known { refused: Some(violation.name().into()), ..Known::default() }),
        }
    }

    /// An answer begins.
    pub(crate) fn answered(&self, status: http::StatusCode, now: Timestamp) {
        self.status.store(status.as_u16(), Relaxed);
        self.head.store(since(self.started, now).max(1), Relaxed);
    }

    /// So many bytes of the request's body have come.
    pub(crate) fn took(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// So many bytes of the answer's body were handed out.
    pub(crate) fn gave(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn ended(&self, end: Ended, now: Timestamp) {
        self.end.store(end as u8, Relaxed);
        self.total.store(since(self.started, now), Relaxed);
    }

    /// Another attempt goes to this endpoint.
    pub(crate) fn attempt(&self, endpoint: &Arc<str>) {
        let mut known = self.lock();
        known.attempts += 1;
        known.endpoint = Some(Arc::clone(endpoint));
    }

    /// Adds to what is known.
    pub(crate) fn learn(&self, learn: impl FnOnce(&mut Known)) {
        learn(&mut self.lock());
    }

    pub(super) fn known(&self) -> Known {
        self.lock().clone()
    }

    pub(super) fn path(&self) -> Option<&str> {
        Some(&self.text[..self.path]).filter(|path| !path.is_empty())
    }

    pub(super) fn host(&self) -> Option<&str> {
        Some(&self.text[self.path..]).filter(|host| !host.is_empty())
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_11 => "HTTP/1.1",
            _ => "HTTP/1.0",
        }
    }

    /// None where no answer began.
    pub(super) fn status(&self) -> Option<u16> {
        Some(self.status.load(Relaxed)).filter(|&status| status > 0)
    }

    pub(super) fn head(&self) -> Option<Duration> {
        Some(self.head.load(Relaxed)).filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    pub(super) fn end(&self) -> Ended {
        match self.end.load(Relaxed) {
            0 => Ended::Complete,
            1 => Ended::Failed,
            _ => Ended::Aborted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tls_of<B>(request: &Request<B>) -> Option<&'static str> {
    request.extensions().get().map(TlsSession::version)
}

/// The request's id, where its fields have one: a text that a log line can hold.
pub(crate) fn request_id(fields: &HeaderMap) -> Option<Arc<str>> {
    let id = fields.get("x-request-id")?;
    Some(String::from_utf8_lossy(&id.as_bytes()[..id.len().min(256)]).into())
}

fn since(started: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.since(started).as_nanos()).unwrap_or(u64::MAX)
}

/// Adds `part`, or its beginning.
fn push_start(text: &mut String, part: &str) {
    if part.len() <= LONGEST {
        return text.push_str(part);
    }
    let mut end = LONGEST;
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    text.push_str(&part[..end]);
    text.push('…');
}
