use std::time::Duration;

use buttress_core::Name;

use crate::Skip;

/// What a hedge layer tells its observer ([`observe`](crate::HedgeLayer::observe)), outside every lock.
///
/// `name` is the layer's ([`named`](crate::HedgeLayer::named)). A call that is answered before a hedge is due is not told.
///
/// ```
/// use buttress_retry::{Budget, HedgeEvent, HedgeLayer};
/// use std::time::Duration;
///
/// # #[cfg(feature = "http")]
/// let layer = HedgeLayer::after(Duration::from_millis(50)).observe(|event| match event {
///     HedgeEvent::Fired { attempt, after, .. } => eprintln!("attempt {attempt} after {after:?}"),
///     HedgeEvent::Won { attempt, .. } => eprintln!("attempt {attempt} was the first to answer"),
///     HedgeEvent::Skipped { reason, .. } => eprintln!("not hedged: {reason}"),
///     _ => {}
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HedgeEvent<'a> {
    /// A further attempt is made: its instance is ready.
    #[non_exhaustive]
    Fired {
        /// The layer's name.
        name: Option<&'a Name>,
        /// Which attempt it is; the first hedge is attempt 2.
        attempt: u32,
        /// The time since the call began.
        after: Duration,
    },
    /// A call succeeded by one of its hedges. The other attempts are given up.
    #[non_exhaustive]
    Won {
        /// The layer's name.
        name: Option<&'a Name>,
        /// Which attempt answered; the first hedge is attempt 2.
        attempt: u32,
    },
    /// A hedge was due, because the call took long or an attempt failed, and is not made. A call that is due once more for
    /// the same reason does not tell it again.
    #[non_exhaustive]
    Skipped {
        /// The layer's name.
        name: Option<&'a Name>,
        /// How many attempts were made, or wait for their instance.
        attempts: u32,
        /// Why there is no other.
        reason: Skip,
    },
    /// A field of an answer was not understood. A `retry-after` then counts as absent, a `grpc-retry-pushback-ms` asks not
    /// to try again.
    #[non_exhaustive]
    Malformed {
        /// The layer's name.
        name: Option<&'a Name>,
        /// The name of the field.
        field: &'a str,
    },
}
