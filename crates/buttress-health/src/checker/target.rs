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

/// As what a checker speaks: each has a place of its own in the condition of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) enum Voice {
    Check,
    Agent,
}

impl Voice {
    pub(super) fn say(self, endpoint: &Endpoint, health: Health, now: Timestamp) {
        match self {
            Self::Check => endpoint.set_health(health, now),
            Self::Agent => endpoint.set_agent_health(health, now),
        };
    }

    pub(super) fn has_said(self, endpoint: &Endpoint) -> Health {
        let condition = endpoint.condition();
        match self {
            Self::Check => condition.check_health(),
            Self::Agent => condition.agent_health(),
        }
    }
}

/// Where it is in its turn.
pub(super) enum Place {
    /// Its probe is due then.
    Waits(Timestamp),
    /// Its probe is due, and waits until others are done.
    Queued,
    /// It is probed. The number tells this probe from earlier ones.
    Asked(u64, AbortHandle),
    /// It tells by itself, since it was asked by the probe of this number.
    Tells(u64, AbortHandle),
    /// It cannot be asked.
    Left,
}

impl Target {
    pub(super) fn new(endpoint: Endpoint, due: Timestamp) -> Self {
        Self { endpoint, check: Check::new(), place: Place::Waits(due), kept: None, spread: false }
    }

    /// Ends what is under way.
    pub(super) fn stop(&self) {
        if let Place::Asked(_, handle) | Place::Tells(_, handle) = &self.place {
            handle.abort();
        }
    }

    /// Says what is known of its health, if anything is.
    pub(super) fn say(&self, voice: Voice, now: Timestamp) {
        if self.check.health() != Health::Unknown {
            voice.say(&self.endpoint, self.check.health(), now);
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
