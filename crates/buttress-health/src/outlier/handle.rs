use std::fmt;
use std::sync::Arc;

use buttress_core::{Endpoint, Timestamp};

use super::core::Core;
use super::{SkipReason, UnejectionReason};
use crate::EjectionReason;

/// Reads and steers what [`Outliers`](crate::Outliers) know, while calls are judged.
#[derive(Clone)]
pub struct OutlierHandle {
    core: Arc<Core>,
}

/// An endpoint that is ejected.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ejected {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Why.
    pub reason: EjectionReason,
    /// Since when.
    pub since: Timestamp,
    /// When it ends at the latest.
    pub until: Timestamp,
    /// How often in a row: its time is so many times the base.
    pub times: u32,
}

/// What is known of one endpoint at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutlierView {
    /// Its ejection, while there is one.
    pub ejected: Option<Ejected>,
    /// How many times the base its last ejection took; one less for each whole interval without one.
    pub multiplier: u32,
    /// Its failures in a row.
    pub failures_in_a_row: u32,
    /// Its gateway failures in a row.
    pub gateway_failures_in_a_row: u32,
    /// Its failures in a row without a response, where these are split off.
    pub local_failures_in_a_row: u32,
    /// How many of its calls have succeeded in this interval.
    pub succeeded: u64,
    /// How many of its calls have failed in this interval, or were told to come less often.
    pub failed: u64,
}

/// What a detection has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlierCounts {
    /// By [`EjectionReason`].
    pub(super) ejections: [u64; EjectionReason::COUNT],
    /// Ejections that have ended.
    pub unejections: u64,
    /// Ejections that were skipped, since as many of the priority were ejected as may be.
    pub over_max_ejection_percent: u64,
    /// Ejections that were skipped, since no other endpoint of the priority was usable.
    pub last_usable: u64,
    /// Ejections that were skipped, since their rule is enforced in a share of all cases.
    pub not_enforced: u64,
    /// Results of calls that were begun before their endpoint was ejected, or while it was: nothing has moved.
    pub late: u64,
}

impl OutlierCounts {
    /// How often an endpoint was ejected for this reason.
    #[must_use]
    pub const fn ejections(&self, reason: EjectionReason) -> u64 {
        self.ejections[reason as usize]
    }

    /// How often an endpoint was ejected.
    #[must_use]
    pub fn all_ejections(&self) -> u64 {
        self.ejections.iter().sum()
    }
}

impl OutlierHandle {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The endpoints that are ejected now, in the order of the list.
    #[must_use]
    pub fn ejected(&self) -> Vec<Ejected> {
        self.core.change(|members, _| members.all_ejected())
    }

    /// What is known of the endpoint of this name. `None` where the list has none.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<OutlierView> {
        self.core.change(|members, _| Some(members.view(members.named(name)?, self.core.turn())))
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> OutlierCounts {
        let late = self.core.late();
        self.core.change(|members, _| OutlierCounts { late, ..members.counts })
    }

    /// Ejects the endpoint of this name, for as long as a rule would. Where it is to get no calls for longer than that,
    /// or although it is the last one, use [`Endpoint::maintain`].
    ///
    /// # Errors
    ///
    /// When it may not be ejected, is ejected already, or is not in the list.
    pub fn eject(&self, name: &str) -> Result<(), SkipReason> {
        self.core.change(|members, now| {
            let place = members.named(name).ok_or(SkipReason::Unknown)?;
            members.eject(&self.core.rules, place, EjectionReason::ByHand, now)
        })
    }

    /// Ends the ejection of the endpoint of this name. Returns whether there was one of this detection's.
    #[expect(clippy::must_use_candidate, reason = "most who end an ejection know that there is one")]
    pub fn uneject(&self, name: &str) -> bool {
        self.core.change(|members, now| {
            members.named(name).is_some_and(|place| members.uneject(place, UnejectionReason::ByHand, now))
        })
    }

    /// Says that an active health check of the endpoint of this name has passed: that ends its ejection, unless
    /// [`uneject_on_health_check`](crate::OutlierDetection::uneject_on_health_check) says otherwise. Returns whether it did.
    ///
    /// A check that turns the endpoint's [`Health`](buttress_core::Health) from bad to good is seen without this. One that
    /// passes like those before it changes nothing there: whoever makes the checks says so here.
    #[expect(clippy::must_use_candidate, reason = "who checks does not need to know")]
    pub fn check_passed(&self, name: &str) -> bool {
        self.core.rules.uneject_on_check
            && self.core.change(|members, now| {
                let place = members.named(name);
                place.is_some_and(|place| members.uneject(place, UnejectionReason::HealthCheck, now))
            })
    }
}

impl fmt::Debug for OutlierHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierHandle").field("name", &self.core.name).finish_non_exhaustive()
    }
}
