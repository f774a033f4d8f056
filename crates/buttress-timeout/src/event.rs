use std::time::Duration;

/// What happened in a timeout or deadline layer, as its observer is told.
///
/// `name` is the layer's ([`named`](crate::TimeoutLayer::named)). The observer runs after the inner future or
/// body has been dropped, and no lock is held.
///
/// ```
/// use buttress_timeout::{TimeoutEvent, TimeoutLayer};
/// use std::time::Duration;
///
/// let layer = TimeoutLayer::head(Duration::from_secs(10)).named("upstream").observe(|event| {
///     if let TimeoutEvent::Head { name, elapsed, .. } = event {
///         eprintln!("{}: no answer in {elapsed:?}", name.unwrap_or("timeout"));
///     }
/// });
/// # let _: TimeoutLayer = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutEvent<'a> {
    /// The request stood still longer than the upload timeout.
    #[non_exhaustive]
    Upload {
        /// The layer's name.
        name: Option<&'a str>,
        /// The timeout.
        limit: Duration,
        /// How long it has stood still.
        elapsed: Duration,
        /// Whether the client was waited for. If not, then the inner service, which did not ask for more.
        client: bool,
    },
    /// No response head came within the head timeout.
    #[non_exhaustive]
    Head {
        /// The layer's name.
        name: Option<&'a str>,
        /// The timeout.
        limit: Duration,
        /// How long ago the call began; with an upload timeout, how long ago the request was at its end.
        elapsed: Duration,
    },
    /// The reader waited for the body longer than the idle timeout.
    #[non_exhaustive]
    Idle {
        /// The layer's name.
        name: Option<&'a str>,
        /// The timeout.
        limit: Duration,
        /// How long the reader has waited for this frame.
        elapsed: Duration,
    },
    /// The call was not over within the total timeout.
    #[non_exhaustive]
    Total {
        /// The layer's name.
        name: Option<&'a str>,
        /// The timeout.
        limit: Duration,
        /// How long ago the call began.
        elapsed: Duration,
    },
    /// The caller's deadline passed while the inner service worked, or while its body was read.
    #[non_exhaustive]
    Deadline {
        /// The layer's name.
        name: Option<&'a str>,
        /// How long ago the call began.
        elapsed: Duration,
    },
    /// The caller's deadline left too little time to begin.
    #[non_exhaustive]
    BelowFloor {
        /// The layer's name.
        name: Option<&'a str>,
        /// How much time was left.
        left: Duration,
        /// The least that is needed.
        floor: Duration,
    },
    /// A deadline field was not understood and counted as absent.
    #[non_exhaustive]
    Malformed {
        /// The layer's name.
        name: Option<&'a str>,
        /// The name of the field.
        field: &'a str,
    },
}
