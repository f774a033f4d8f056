//! One endpoint that is checked.

use std::any::Any;
use std::sync::Arc;

use buttress_core::{Endpoint, Health, Timestamp};
use futures_util::future::AbortHandle;

use crate::policy::check::{Admin, Check, ProbeReport};

pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) check: Check,
    pub(super) place: Place,
    /// With its place among all that are kept.
    pub(super) kept: Option<(Box<dyn Any + Send>, Arc<()>)>,
    /// Its probe was late, and was spread anew.
    pub(super) spread: bool,
}

/// Where it is in its turn.
pub(super) enum Place {
    /// Its probe is due then.
    Waits(Timestamp),
    /// Its probe is due, and waits until others are done.
    Queued,
    /// It is probed, or tells by itself. The number tells this probe from earlier ones.
    Asked(u64, AbortHandle),
    /// It cannot be asked.
    Left,
}

impl Target {
    pub(super) fn new(endpoint: Endpoint, due: Timestamp) -> Self {
        Self { endpoint, check: Check::new(), place: Place::Waits(due), kept: None, spread: false }
    }

    /// Ends what is under way.
    pub(super) fn stop(&self) {
        if let Place::Asked(_, handle) = &self.place {
            handle.abort();
        }
    }

    /// Says what is known of its health, if anything is.
    pub(super) fn say(&self, now: Timestamp) {
        if self.check.health() != Health::Unknown {
            self.endpoint.set_health(self.check.health(), now);
        }
    }

    /// Does what its agent asks for.
    pub(super) fn obey(&self, report: &ProbeReport, now: Timestamp) {
        if let Some(percent) = report.weight_percent {
            self.endpoint.set_weight_percent(percent, now);
        }
        match report.admin {
            Some(Admin::Ready) => self.endpoint.resume(now),
            Some(Admin::Drain) => self.endpoint.drain(now),
            Some(Admin::Maintain) => self.endpoint.maintain(now),
            None => false,
        };
    }
}
