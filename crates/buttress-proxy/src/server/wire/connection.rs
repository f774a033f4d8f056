use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::{fmt, mem};

use buttress_core::Timestamp;

use super::{BadRequest, Checked, Guard, Violation, Wire};

/// What the [`Guard`] and the [`Checked`] service of one HTTP/1 connection know together. A clone is the same one.
///
/// Requests are told by their number on the connection. The guard counts heads, the service counts calls, and hyper
/// makes one call of each head, in order.
#[derive(Clone)]
pub struct Connection(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) wire: Wire,
    peer: Option<SocketAddr>,
    /// Calls that have begun.
    begun: AtomicU64,
    /// Calls whose answer has been handed over to its end, or given up.
    ended: AtomicU64,
    /// When the last of them was.
    ended_at: AtomicU64,
    /// The request at fault, or 0.
    at_fault: AtomicU64,
    fault: Mutex<Option<Fault>>,
    /// The request that asked last for what may end HTTP/1, or 0.
    asked: AtomicU64,
    /// Of those, the last of which it is known that it has not, or has.
    settled: AtomicU64,
    upgraded: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

#[derive(Clone, Copy)]
pub(super) struct Fault {
    pub(super) violation: Violation,
    /// The service has the request already.
    pub(super) in_body: bool,
}

/// Whether HTTP/1 has ended with the request that asked for it.
pub(super) enum Verdict {
    Unknown,
    Http1,
    Tunnel,
}

impl Connection {
    pub(super) fn new(wire: Wire, peer: Option<SocketAddr>) -> Self {
        let now = wire.clock.now().as_nanos();
        Self(Arc::new(Shared {
            wire,
            peer,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ended_at: AtomicU64::new(now),
            at_fault: AtomicU64::new(0),
            fault: Mutex::new(None),
            asked: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            waiting: Mutex::new(None),
        }))
    }

    /// The socket as hyper shall read it. A connection has one.
    pub fn guard<IO>(&self, io: IO) -> Guard<IO> {
        Guard::new(io, self.clone())
    }

    /// The service that hyper shall call: it answers what the guard has refused, and calls `service` for the rest.
    pub fn check<S>(&self, service: S) -> Checked<S> {
        Checked::new(service, self.clone())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.0.peer)
            .field("requests", &self.0.begun.load(Relaxed))
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Counts a call that begins, and gives its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, AcqRel) + 1
    }

    /// How many calls have begun.
    pub(super) fn called(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// Counts a call whose answer has been handed over.
    pub(super) fn end(&self) {
        self.ended_at.store(self.wire.clock.now().as_nanos(), Relaxed);
        self.ended.fetch_add(1, AcqRel);
    }

    /// Since when no call is under way; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Timestamp> {
        let ended = self.ended.load(Acquire);
        let idle = ended == self.begun.load(Acquire);
        idle.then(|| Timestamp::from_nanos(self.ended_at.load(Relaxed)))
    }

    /// Notes that a request is refused, and tells who watches. The first one stays.
    #[cold]
    pub(super) fn refuse(&self, request: u64, fault: Fault, line: &[u8]) {
        if self.at_fault.load(Acquire) != 0 {
            return;
        }
        *lock(&self.fault) = Some(fault);
        self.at_fault.store(request, SeqCst);
        if let Some(observer) = &self.wire.observer {
            let (field, value) = excerpt(fault.violation, line);
            let (field, value) = (field.as_deref(), value.as_deref());
            observer(&BadRequest { violation: fault.violation, peer: self.peer, request, field, value });
        }
    }

    /// What is wrong with a request, where something is.
    #[inline]
    pub(super) fn fault(&self, request: u64) -> Option<Fault> {
        if self.at_fault.load(Acquire) == request { *lock(&self.fault) } else { None }
    }

    /// Notes that a request asks for what may end HTTP/1.
    pub(super) fn ask(&self, request: u64) {
        self.asked.store(request, SeqCst);
    }

    /// Whether a request asks for what may end HTTP/1.
    #[inline]
    pub(super) fn asks(&self, request: u64) -> bool {
        self.asked.load(Acquire) == request
    }

    /// Notes whether a request that asked has ended HTTP/1, and wakes the guard.
    pub(super) fn settle(&self, request: u64, upgraded: bool) {
        if upgraded {
            self.upgraded.store(true, SeqCst);
        }
        self.settled.fetch_max(request, SeqCst);
        let waiting = mem::take(&mut *lock(&self.waiting));
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Whether it has; where it is not known, `waker` is told.
    pub(super) fn verdict(&self, request: u64, waker: &Waker) -> Verdict {
        // Registered first and looked at second, so that a `settle` in between is not missed.
        let former = lock(&self.waiting).replace(waker.clone());
        drop(former);
        match self.settled.load(SeqCst) {
            settled if settled < request => Verdict::Unknown,
            _ if self.upgraded.load(SeqCst) => Verdict::Tunnel,
            _ => Verdict::Http1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What may be shown of the line at which a head was refused.
fn excerpt(violation: Violation, line: &[u8]) -> (Option<String>, Option<String>) {
    const SHOWN: usize = 80;

    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
    let line = &line[..end];
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return (None, None);
    };
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    match violation {
        Violation::HostRepeated
        | Violation::HostInvalid
        | Violation::TransferCoding
        | Violation::TransferEncodingInvalid
        | Violation::TransferEncodingRepeated
        | Violation::TransferEncodingInHttp10
        | Violation::LengthInvalid
        | Violation::LengthRepeated => (Some(shown(name)), Some(shown(value))),
        Violation::FieldName
        | Violation::SpaceBeforeColon
        | Violation::Folding
        | Violation::Nul
        | Violation::BareCr
        | Violation::BareLf
        | Violation::ControlByte
        | Violation::TooManyFields
        | Violation::TrailerForbidden => (Some(shown(name)), None),
        _ => (None, None),
    }
}
