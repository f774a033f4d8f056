use std::time::Duration;

use buttress_core::Name;

use crate::{State, Transition};

/// What a circuit breaker tells its observer.
///
/// Each transition is told once, those of one breaker in the order in which they were made. All events are told outside
/// every lock, in the task of the call that caused them; a transition may be told by another call that has one to tell
/// at the same time. The observer may use the layer's [`Handle`](crate::Handle).
///
/// A key that makes way for another takes its breaker with it, in whatever state that was, and nobody is told: it is no
/// transition. [`Counts::evicted`](crate::Counts::evicted) has how often, and [`Handle::keys`](crate::Handle::keys) who is
/// there: take a gauge of each key's state from there, and not from the last transition.
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreakerEvent, CircuitBreakerLayer};
///
/// let layer = CircuitBreakerLayer::default().named("payments").observe(|event| {
///     if let CircuitBreakerEvent::Transition { policy, transition, .. } = event {
///         eprintln!("{policy}: {} -> {} ({})", transition.from, transition.to, transition.reason);
///     }
/// });
/// # let _: CircuitBreakerLayer = layer;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CircuitBreakerEvent<'a> {
    /// A breaker has changed its state.
    #[non_exhaustive]
    Transition {
        /// The layer's name.
        policy: &'a Name,
        /// The key that the breaker is for; `None` for that of all calls without one, and where the key has made way for
        /// another since.
        key: Option<&'a Name>,
        /// From where to where, and why.
        transition: &'a Transition,
        /// What an operator gave as the reason, of a breaker that is [`Isolated`](State::Isolated).
        note: Option<&'a Name>,
    },
    /// A call was refused.
    #[non_exhaustive]
    Refused {
        /// The layer's name.
        policy: &'a Name,
        /// The key that the breaker is for; `None` for that of all calls without one.
        key: Option<&'a Name>,
        /// The state that refuses.
        state: State,
        /// After how long a call may pass; `None` when no time decides that: a hand does, or the next call may pass (on a
        /// ramp), or the state lasts for ever.
        retry_after: Option<Duration>,
        /// What an operator gave as the reason, of a breaker that is [`Isolated`](State::Isolated).
        note: Option<&'a Name>,
    },
    /// The result of a call came after its breaker had changed its state, and was not counted.
    #[non_exhaustive]
    Stale {
        /// The layer's name.
        policy: &'a Name,
        /// The key that the breaker is for; `None` for that of all calls without one, and where the key has made way for
        /// another since.
        key: Option<&'a Name>,
    },
}
