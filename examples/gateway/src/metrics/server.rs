//! What is counted at the door: connections, and requests that are refused before a service sees them.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use buttress::proxy::server::{Event, wire::Violation};

/// The counts of all ports together.
#[derive(Debug)]
pub(crate) struct ServerCounts {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    /// Closed at once, as the client has as many as it may.
    pub(super) refused: AtomicU64,
    /// Ended with an error.
    pub(super) failed: AtomicU64,
    /// The system gave none.
    pub(super) not_accepted: AtomicU64,
    violations: [AtomicU64; Violation::ALL.len()],
}

impl ServerCounts {
    pub(super) fn new() -> Self {
        Self {
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            not_accepted: AtomicU64::new(0),
            violations: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    pub(crate) fn saw(&self, event: &Event<'_>) {
        let count = match event {
            Event::Opened { .. } => &self.opened,
            Event::Closed { .. } => &self.closed,
            Event::Refused { .. } => &self.refused,
            Event::Failed { .. } => &self.failed,
            Event::AcceptFailed { .. } => &self.not_accepted,
            Event::BadRequest(bad) => match Violation::ALL.iter().position(|known| *known == bad.violation) {
                Some(at) => &self.violations[at],
                None => return,
            },
            _ => return,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn open(&self) -> u64 {
        // In this order, so that it is never below 0.
        let closed = self.closed.load(Relaxed);
        self.opened.load(Relaxed).saturating_sub(closed)
    }

    /// What was refused, by the rule's name.
    pub(super) fn violations(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.violations.iter().map(|count| count.load(Relaxed));
        Violation::ALL.iter().map(|violation| violation.name()).zip(counts).filter(|&(_, count)| count > 0)
    }
}
