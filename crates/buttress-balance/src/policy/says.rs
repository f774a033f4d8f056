use std::time::Duration;

use buttress_core::{Outcome, OutcomeKind, RejectionKind};

use crate::{Ended, PolicyError};

/// What the end of a call says of its endpoint.
pub(crate) enum Says<'a> {
    /// It works, and this fast.
    Works,
    /// It failed, asked for less, or refused: how long it took is no measure of it.
    Fails(&'a Outcome),
    /// Nothing, except that it took so long without an answer.
    Waited,
    /// Nothing at all.
    Nothing,
}

impl<'a> Says<'a> {
    #[inline]
    pub(crate) const fn of(call: &Ended<'a>) -> Self {
        let Some(outcome) = call.outcome else { return Self::Waited };
        match &outcome.kind {
            OutcomeKind::Success => Self::Works,
            OutcomeKind::Failure | OutcomeKind::Soft => Self::Fails(outcome),
            OutcomeKind::Rejected(rejection) => match rejection.kind {
                // The caller's own fault.
                RejectionKind::CostTooHigh | RejectionKind::Denied | RejectionKind::NoShard => Self::Nothing,
                RejectionKind::DeadlineExceeded | RejectionKind::Collapsed => Self::Waited,
                // A breaker, a limit or the like below the balancer: the endpoint takes nothing now, and says so fast.
                _ => Self::Fails(outcome),
            },
            _ => Self::Nothing,
        }
    }
}

/// Whether a setting lies in its range.
pub(crate) fn within(
    field: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), PolicyError> {
    if value < least || value > most {
        return Err(PolicyError::Setting { field, value, least, most });
    }
    Ok(())
}
