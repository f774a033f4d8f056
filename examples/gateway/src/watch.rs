//! What watches the gateway: one value that sees every event of every layer, and stands around each route and around the
//! whole service. It outlives a configuration: reloads ask it anew for what watches a route or an upstream.

use std::sync::Arc;

use buttress::{
    answer::AnswerEvent,
    balance::{BalanceEvent, MirrorEvent, SplitEvent, StickyEvent},
    circuit_breaker::CircuitBreakerEvent,
    health::HealthEvent,
    rate_limit::RateLimitEvent,
    retry::RetryEvent,
    timeout::TimeoutEvent,
};

use crate::{faults, stack::Stack};

/// All that is watched. A clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Watch {}

/// Where something happened.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At a route, above its upstream.
    Route { route: Arc<str>, upstream: Arc<str> },
    /// At an upstream, for all routes to it.
    Upstream(Arc<str>),
}

/// What happened, by the layer that tells it.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the log has no line for some of them")]
pub(crate) enum Event<'a> {
    Answer(&'a AnswerEvent<'a>),
    RateLimit(&'a RateLimitEvent<'a>),
    Retry(&'a RetryEvent<'a>),
    Timeout(&'a TimeoutEvent<'a>),
    CircuitBreaker(&'a CircuitBreakerEvent<'a>),
    Health(&'a HealthEvent<'a>),
    Balance(&'a BalanceEvent<'a>),
    Sticky(&'a StickyEvent<'a>),
    Split(&'a SplitEvent<'a>),
    Mirror(&'a MirrorEvent<'a>),
}

/// What watches one place. A clone watches it too.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    place: Arc<Place>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {}
    }

    /// What watches a route, by its name and that of its upstream.
    pub(crate) fn route(&self, route: &str, upstream: &str) -> Watching {
        Watching { place: Arc::new(Place::Route { route: route.into(), upstream: upstream.into() }) }
    }

    /// What watches an upstream.
    pub(crate) fn upstream(&self, name: &str) -> Watching {
        Watching { place: Arc::new(Place::Upstream(name.into())) }
    }

    /// Stands around the whole service: it sees what no route takes, too.
    pub(crate) fn around<S: Stack>(&self, service: S) -> impl Stack + use<S> {
        service
    }
}

impl Watching {
    /// Is told of each event, in the midst of a call.
    pub(crate) fn saw(&self, event: Event<'_>) {
        faults::note_event(&self.place, event);
    }

    /// Stands around all layers of a route.
    pub(crate) fn around<S: Stack>(&self, stack: S) -> impl Stack + use<S> {
        stack
    }
}
