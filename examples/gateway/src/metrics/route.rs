//! What is counted of a route.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use buttress::{Clock, Guard, RejectionKind, Timestamp, proxy};
use http::StatusCode;

use super::histogram::Histogram;

/// How requests end: by the first figure of their status, or without one. A word for each stands in [`CLASSES`].
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why the gateway answers in the place of the upstream.
pub(super) const REASONS: [&str; 20] = [
    "rate_limited",
    "cost_too_high",
    "denied",
    "circuit_open",
    "overloaded",
    "timeout",
    "deadline_exceeded",
    "no_endpoint",
    "no_shard",
    "not_ready",
    "collapsed",
    "connect",
    "connect_timeout",
    "closed",
    "reset",
    "incomplete",
    "bad_response",
    "request_body",
    "bad_request",
    "other",
];

/// The counts of one route.
#[derive(Debug)]
pub(crate) struct RouteCounts {
    clock: Clock,
    pub(super) begun: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) classes: [AtomicU64; CLASSES.len()],
    pub(super) refusals: [AtomicU64; REASONS.len()],
    pub(super) head: Histogram,
    pub(super) whole: Histogram,
}

impl RouteCounts {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            classes: Default::default(),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            head: Histogram::new(),
            whole: Histogram::new(),
        }
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.begin_at(self.clock.now())
    }

    /// A request has come then.
    pub(crate) fn begin_at(self: &Arc<Self>, started: Timestamp) -> InFlight {
        self.begun.fetch_add(1, Relaxed);
        InFlight { started, class: 0, counts: Arc::clone(self) }
    }

    pub(super) fn in_flight(&self) -> u64 {
        // In this order, so that it is never below 0.
        let ended = self.ended.load(Relaxed);
        self.begun.load(Relaxed).saturating_sub(ended)
    }
}

/// The word for a refusal of a layer.
pub(crate) const fn rejection(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::RateLimited => "rate_limited",
        RejectionKind::CostTooHigh => "cost_too_high",
        RejectionKind::Denied => "denied",
        RejectionKind::CircuitOpen => "circuit_open",
        RejectionKind::Overloaded => "overloaded",
        RejectionKind::Timeout => "timeout",
        RejectionKind::DeadlineExceeded => "deadline_exceeded",
        RejectionKind::NoEndpoint => "no_endpoint",
        RejectionKind::NoShard => "no_shard",
        RejectionKind::NotReady => "not_ready",
        RejectionKind::Collapsed => "collapsed",
        _ => "other",
    }
}

/// The word for a failure of the proxy.
pub(crate) const fn failure(kind: proxy::ErrorKind) -> &'static str {
    match kind {
        proxy::ErrorKind::Connect => "connect",
        proxy::ErrorKind::ConnectTimeout => "connect_timeout",
        proxy::ErrorKind::Closed => "closed",
        proxy::ErrorKind::Reset => "reset",
        proxy::ErrorKind::Incomplete => "incomplete",
        proxy::ErrorKind::BadResponse => "bad_response",
        proxy::ErrorKind::RequestBody => "request_body",
        proxy::ErrorKind::BadRequest => "bad_request",
        _ => "other",
    }
}

/// A request that is under way; dropped, it is over.
#[derive(Debug)]
pub(crate) struct InFlight {
    started: Timestamp,
    class: usize,
    counts: Arc<RouteCounts>,
}

impl InFlight {
    /// The head of its answer is there; where the gateway answers in the place of the upstream, for a reason of [`REASONS`].
    pub(crate) fn answered(&mut self, status: StatusCode, refused: Option<&str>) {
        self.class = usize::from(status.as_u16() / 100).min(CLASSES.len() - 1);
        self.counts.head.observe(self.counts.clock.now().since(self.started));
        if let Some(reason) = refused {
            let at = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
            self.counts.refusals[at].fetch_add(1, Relaxed);
        }
    }
}

impl Guard for InFlight {}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counts = &self.counts;
        counts.classes[self.class].fetch_add(1, Relaxed);
        counts.whole.observe(counts.clock.now().since(self.started));
        counts.ended.fetch_add(1, Relaxed);
    }
}
