use std::fmt;

use buttress_core::Name;
use http::StatusCode;

/// Why a request that was to be mirrored is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotMirrored {
    /// As many as may be are in flight.
    Full,
    /// Its body is too long, or comes in too many frames.
    TooLong,
    /// Its body did not come to its end: the client or the main service left it, it failed, or the call was dropped.
    Incomplete,
    /// It asks for a tunnel or another protocol, which has no copy.
    Tunnel,
    /// There is no tokio runtime to carry it.
    NoRuntime,
}

impl NotMirrored {
    pub(crate) const ALL: [Self; 5] =
        [Self::Full, Self::TooLong, Self::Incomplete, Self::Tunnel, Self::NoRuntime];
}

impl fmt::Display for NotMirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many are in flight",
            Self::TooLong => "its body is too long",
            Self::Incomplete => "its body did not come to its end",
            Self::Tunnel => "it asks for a tunnel",
            Self::NoRuntime => "there is no runtime",
        })
    }
}

/// How a mirrored request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MirrorEnd {
    /// The mirror answered with this status, and its answer was read to the end and dropped.
    Answered(StatusCode),
    /// The mirror failed, or its answer broke off.
    Failed,
    /// The mirror took too long, to become ready, to answer or to finish its answer.
    TimedOut,
    /// The mirror panicked.
    Panicked,
}

/// What a mirror layer tells its observer, outside every lock: in the task that makes the call or reads the request, which
/// waits for it, and for [`Ended`](Self::Ended) in the mirror's own.
///
/// ```
/// use buttress_balance::{MirrorEvent, MirrorLayer};
/// # use std::convert::Infallible;
/// # let shadow = tower::service_fn(|_: http::Request<buttress_balance::MirroredBody>| async {
/// #     Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
/// # });
///
/// let layer = MirrorLayer::new(shadow).observe(|event| match event {
///     MirrorEvent::NotMirrored { reason, .. } => eprintln!("not mirrored: {reason}"),
///     MirrorEvent::Ended { end, .. } => eprintln!("the mirror: {end:?}"),
///     _ => {}
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorEvent<'a> {
    /// A copy is on its way to the mirror.
    #[non_exhaustive]
    Mirrored {
        /// The layer's name.
        policy: &'a Name,
    },
    /// A request that was to be mirrored is not.
    #[non_exhaustive]
    NotMirrored {
        /// The layer's name.
        policy: &'a Name,
        /// Why.
        reason: NotMirrored,
    },
    /// The mirror is done with a copy.
    #[non_exhaustive]
    Ended {
        /// The layer's name.
        policy: &'a Name,
        /// How.
        end: MirrorEnd,
    },
}
