use std::time::Duration;

use buttress_core::Name;

use crate::Skip;

/// What a retry layer tells its observer ([`observe`](crate::RetryLayer::observe)), outside every lock.
///
/// `name` is the layer's ([`named`](crate::RetryLayer::named)). A call that succeeds at once is not told.
///
/// ```
/// use buttress_retry::{RetryEvent, RetryLayer};
///
/// let layer = RetryLayer::default().named("orders").observe(|event| match event {
///     RetryEvent::Retrying { attempt, delay, .. } => eprintln!("attempt {attempt} follows in {delay:?}"),
///     RetryEvent::Skipped { reason, .. } => eprintln!("not tried again: {reason}"),
///     _ => {}
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryEvent<'a> {
    /// An attempt failed, and another one follows. The failed one is over and dropped.
    #[non_exhaustive]
    Retrying {
        /// The layer's name.
        name: Option<&'a Name>,
        /// Which attempt follows; the first retry is attempt 2.
        attempt: u32,
        /// After how long.
        delay: Duration,
    },
    /// An attempt failed in a way that is worth another one, but there is none.
    #[non_exhaustive]
    Skipped {
        /// The layer's name.
        name: Option<&'a Name>,
        /// How many attempts were made.
        attempts: u32,
        /// Why there are no more.
        reason: Skip,
    },
    /// A call succeeded that was tried more than once.
    #[non_exhaustive]
    Recovered {
        /// The layer's name.
        name: Option<&'a Name>,
        /// How many attempts it took.
        attempts: u32,
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
