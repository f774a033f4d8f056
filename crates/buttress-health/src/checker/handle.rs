use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress_core::{EndpointId, Health, Name, Timestamp};

use crate::Finding;

/// Reads what a [`Checker`](crate::Checker) knows, while it runs and afterwards.
#[derive(Clone)]
pub struct CheckHandle(Arc<Shared>);

#[derive(Default)]
pub(super) struct Shared(Mutex<Seen>);

#[derive(Default)]
pub(super) struct Seen {
    pub(super) views: HashMap<EndpointId, CheckView>,
    pub(super) counts: CheckCounts,
}

/// What a check knows of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckView {
    /// The endpoint's name.
    pub name: Name,
    /// What its probes say together.
    pub health: Health,
    /// What the last one found; `None` before the first.
    pub last: Option<Finding>,
    /// When that ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How many in a row have contradicted the state.
    pub opposite: u32,
    /// Probes that passed, since the endpoint is in the list.
    pub passed: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Changes of its state, the first result's included.
    pub changes: u64,
    /// Whether it tells of changes by itself, and is not probed.
    pub watched: bool,
    /// Whether it is not probed any more, as it cannot be asked: until its configuration changes.
    pub left: bool,
}

impl CheckView {
    pub(super) const fn new(name: Name) -> Self {
        Self {
            name,
            health: Health::Unknown,
            last: None,
            at: Timestamp::ZERO,
            took: Duration::ZERO,
            opposite: 0,
            passed: 0,
            failed: 0,
            changes: 0,
            watched: false,
            left: false,
        }
    }
}

/// What a checker has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckCounts {
    /// Probes that were begun.
    pub probes: u64,
    /// Results that passed, what endpoints tell by themselves included.
    pub passed: u64,
    /// Results that failed.
    pub failed: u64,
    /// Probes that were left out since calls show that the endpoint serves.
    pub skipped: u64,
    /// Probes that were given up, since their endpoint was removed or has another address.
    pub stopped: u64,
    /// Changes of state.
    pub changes: u64,
    /// Probes under way now.
    pub running: usize,
    /// Probes that are due now, and wait until fewer run.
    pub queued: usize,
}

impl CheckHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What is known of each endpoint in the list, by name.
    #[must_use]
    pub fn endpoints(&self) -> Vec<CheckView> {
        let mut views: Vec<_> = self.0.lock().views.values().cloned().collect();
        views.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        views
    }

    /// What is known of the endpoint of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<CheckView> {
        self.0.lock().views.values().find(|view| view.name.as_str() == name).cloned()
    }

    /// What the checker has done.
    #[must_use]
    pub fn counts(&self) -> CheckCounts {
        self.0.lock().counts
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing under this lock can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CheckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckHandle").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
