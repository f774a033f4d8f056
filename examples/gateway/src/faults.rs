//! What the operator is told: the client gets a status and a sentence, the log gets the cause.

use std::{error::Error, fmt, iter::successors};

use buttress::{
    RejectionKind, answer::AnswerEvent, balance::BalanceEvent, circuit_breaker::CircuitBreakerEvent,
    health::HealthEvent, proxy, rate_limit::RateLimitEvent,
};

use crate::{
    print::note,
    watch::{Event, Place},
};

/// Writes a line where an event is one for whoever is on call.
pub(crate) fn note_event(place: &Place, event: Event<'_>) {
    match (event, place) {
        (Event::Answer(event), Place::Route { route, upstream }) => answer(route, upstream, event),
        (Event::CircuitBreaker(event), _) => transition(event),
        (Event::Health(event), _) => health(event),
        (Event::Balance(event), Place::Upstream(name)) => balancing(name, event),
        (Event::RateLimit(event), _) => shadow(event),
        _ => {}
    }
}

/// A call that its upstream, or our patience with it, failed. Faults of the client make no line; nor does a body that
/// breaks off after its head, since no answer is made of it.
fn answer(route: &str, upstream: &str, event: &AnswerEvent<'_>) {
    match event {
        AnswerEvent::Failed { error: Some(error), status } if status.is_server_error() => {
            note(format_args!("{route} -> {upstream}: {}: {}", status.as_u16(), Cause(*error)));
        }
        // A breaker tells when it opens; all that it then refuses would be told over and over.
        AnswerEvent::Refused { rejection } if rejection.kind == RejectionKind::CircuitOpen => {}
        AnswerEvent::Refused { rejection } => note(format_args!("{route} -> {upstream}: {rejection}")),
        _ => {}
    }
}

/// A breaker changes its state.
fn transition(event: &CircuitBreakerEvent<'_>) {
    if let CircuitBreakerEvent::Transition { policy, transition, .. } = event {
        let (from, to, reason) = (transition.from, transition.to, transition.reason);
        note(format_args!("{policy}: circuit breaker {from} -> {to} ({reason})"));
    }
}

/// An endpoint is taken out, or comes back.
fn health(event: &HealthEvent<'_>) {
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

/// So few endpoints are well that health is no longer believed, and it is again.
fn balancing(name: &str, event: &BalanceEvent<'_>) {
    match event {
        BalanceEvent::Panic { priority } => {
            note(format_args!("{name}: too few endpoints of priority {priority} are well: all are used"));
        }
        BalanceEvent::Calm { priority } => {
            note(format_args!("{name}: enough endpoints of priority {priority} are well"));
        }
        _ => {}
    }
}

/// A limit would have refused a call if it did more than watch.
fn shadow(event: &RateLimitEvent<'_>) {
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
