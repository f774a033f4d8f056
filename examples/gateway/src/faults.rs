//! What the operator is told: the client gets a status and a sentence, the log gets the cause.

use std::{error::Error, fmt, iter::successors};

use buttress::{
    RejectionKind, answer::AnswerEvent, balance::BalanceEvent, circuit_breaker::CircuitBreakerEvent,
    health::HealthEvent, proxy, rate_limit::RateLimitEvent,
};

use crate::{
    config::{Route, Upstream},
    print::note,
};

/// Writes a line for each call of `route` that its upstream, or our patience with it, failed. Faults of the client make
/// none; nor does a body that breaks off after its head, since no answer is made of it.
pub(crate) fn faults(route: &Route) -> impl Fn(&AnswerEvent<'_>) + Send + Sync + use<> {
    let route = format!("{} -> {}", route.prefix().as_str(), route.upstream());
    move |event| match event {
        AnswerEvent::Failed { error: Some(error), status } if status.is_server_error() => {
            note(format_args!("{route}: {}: {}", status.as_u16(), Cause(*error)));
        }
        // A breaker tells when it opens; all that it then refuses would be told over and over.
        AnswerEvent::Refused { rejection } if rejection.kind == RejectionKind::CircuitOpen => {}
        AnswerEvent::Refused { rejection } => note(format_args!("{route}: {rejection}")),
        _ => {}
    }
}

/// Writes a line when a breaker changes its state.
pub(crate) fn transitions(event: &CircuitBreakerEvent<'_>) {
    if let CircuitBreakerEvent::Transition { policy, transition, .. } = event {
        let (from, to, reason) = (transition.from, transition.to, transition.reason);
        note(format_args!("{policy}: circuit breaker {from} -> {to} ({reason})"));
    }
}

/// Writes a line when an endpoint is taken out, or comes back.
pub(crate) fn health(event: &HealthEvent<'_>) {
    match event {
        HealthEvent::Ejected { policy, endpoint, reason, time, .. } => {
            note(format_args!("{policy}: {} is ejected for {time:?} ({reason})", endpoint.name()));
        }
        HealthEvent::Unejected { policy, endpoint, .. } => {
            note(format_args!("{policy}: {} is back from its ejection", endpoint.name()));
        }
        HealthEvent::Changed { name, endpoint, from, to, finding, .. } => {
            note(format_args!("{name}: {} is {to:?}, was {from:?} ({finding:?})", endpoint.name()));
        }
        _ => {}
    }
}

/// Writes a line when so few endpoints are well that health is no longer believed, and when it is again.
pub(crate) fn balancing(upstream: &Upstream) -> impl Fn(&BalanceEvent<'_>) + Send + Sync + use<> {
    let name = upstream.name().to_owned();
    move |event| match event {
        BalanceEvent::Panic { priority } => {
            note(format_args!("{name}: too few endpoints of priority {priority} are well: all are used"));
        }
        BalanceEvent::Calm { priority } => {
            note(format_args!("{name}: enough endpoints of priority {priority} are well"));
        }
        _ => {}
    }
}

/// Writes a line for each call that a limit would have refused if it did more than watch.
pub(crate) fn shadows(event: &RateLimitEvent<'_>) {
    if let RateLimitEvent::Shadow { policy, decision, .. } = event {
        match decision.retry_after() {
            Some(wait) => note(format_args!("{policy}: would be a 429 (shadow), retry after {wait:?}")),
            None => note(format_args!("{policy}: would be a 429 (shadow)")),
        }
    }
}

/// The error, which upstream it met, and what is at the bottom of it.
struct Cause<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if let Some(upstream) = self.0.downcast_ref().and_then(proxy::Error::upstream) {
            write!(f, " ({upstream})")?;
        }
        match successors(self.0.source(), |&error| error.source()).last() {
            Some(root) => write!(f, ": {root}"),
            None => Ok(()),
        }
    }
}
