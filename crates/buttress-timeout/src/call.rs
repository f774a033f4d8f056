use std::sync::Arc;

use buttress_core::{Rejection, RejectionKind};

use crate::TimeoutEvent;
use crate::policy::{Due, Phase};
use crate::shared::Shared;

/// A call that is under way, for its head or in its body.
#[derive(Debug)]
#[expect(unnameable_types, reason = "the sealed traits of the modes pass it on")]
pub struct Call {
    pub(crate) shared: Arc<Shared>,
    /// From the call to the moment when it must be over.
    pub(crate) end: Due,
}

impl Call {
    /// The call ran into `due`: tells the observer, and makes the refusal.
    pub(crate) fn refuse(&self, due: Due) -> Rejection {
        let Shared { limits, watch } = &*self.shared;
        let limit = limits.of(due.by);
        let elapsed = watch.clock.now() - due.since;
        watch.tell(|name| match due.by {
            Phase::Upload { client } => TimeoutEvent::Upload { name, limit, elapsed, client },
            Phase::Head => TimeoutEvent::Head { name, limit, elapsed },
            Phase::Idle => TimeoutEvent::Idle { name, limit, elapsed },
            Phase::Total => TimeoutEvent::Total { name, limit, elapsed },
            Phase::Deadline => TimeoutEvent::Deadline { name, elapsed },
        });
        watch.rejection(match due.by {
            Phase::Deadline => RejectionKind::DeadlineExceeded,
            _ => RejectionKind::Timeout,
        })
    }
}
