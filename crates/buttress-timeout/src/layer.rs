use std::sync::Arc;
use std::time::Duration;

use buttress_core::{AtHead, Clock, Fail, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use buttress_http::body::AtEnd;

use crate::policy::Limits;
use crate::shared::{Shared, Watch, checked};
use crate::{Timeout, TimeoutEvent};

/// Ends calls that take too long: at the head, between two frames of the body, or as a whole.
///
/// | timeout | from | to | then |
/// |---|---|---|---|
/// | [`head`](Self::head) | the call; waiting until the inner service is ready is part of it | the response head | the call is refused |
/// | [`idle`](Self::idle) | the moment the reader begins to wait for a frame of the body | that frame | the body ends with an error |
/// | [`total`](Self::total) | the call | the end of the body | the call is refused, or the body ends with an error |
///
/// One layer holds up to three: begin with one, add others by [`and_head`](Self::and_head),
/// [`and_idle`](Self::and_idle), [`and_total`](Self::and_total). None has a default: how long a call may take
/// is known to you alone.
///
/// - A head-only layer works for any request and response. Idle and total (feature `http`) reach into the
///   body and make the response `http::Response<TimeoutBody<B>>`.
/// - A refusal is a [`Rejection`](buttress_core::Rejection) of kind `Timeout`. By default the call fails with
///   it; `on_reject(reject::respond())` answers with status 504.
/// - At the timeout the inner future, or body, is dropped at once, and with it the call below. An answer that
///   comes later is not seen by anyone.
/// - A response that streams (`text/event-stream`, gRPC, or marked `field::Streaming`) has no total timeout
///   once its head is there; a request marked so has none from the start.
/// - The idle timeout runs only while the reader waits for the body below. A slow client does not trip it.
///
/// A clone of the layer and every service made by it have the same limits. There is no other state: a call
/// holds its own timer, which does not exist until the call has to wait.
///
/// # Strict
///
/// Under [`strict`](Self::strict) the inner service is readied in `poll_ready`, before the call begins, and
/// so that wait does not count towards any timeout.
#[derive(Clone, Debug)]
pub struct TimeoutLayer<J = Fail, M = AtHead> {
    shared: Arc<Shared>,
    reject: J,
    reach: M,
}

impl TimeoutLayer {
    /// Allows `limit` from the call to the response head.
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[must_use]
    #[track_caller]
    pub fn head(limit: Duration) -> Self {
        Self::without_limits(AtHead).and_head(limit)
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl TimeoutLayer<Fail, AtEnd> {
    /// Allows `limit` for each wait of the reader for a frame of the body.
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[must_use]
    #[track_caller]
    pub fn idle(limit: Duration) -> Self {
        Self::without_limits(AtEnd).and_idle(limit)
    }

    /// Allows `limit` from the call to the end of the body.
    ///
    /// It is looked at whenever the reader asks for the body and while it waits for it. A reader that never
    /// asks again is not ended by it: that is for the server's own write timeout.
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[must_use]
    #[track_caller]
    pub fn total(limit: Duration) -> Self {
        Self::without_limits(AtEnd).and_total(limit)
    }
}

impl<M> TimeoutLayer<Fail, M> {
    fn without_limits(reach: M) -> Self {
        let shared = Shared { limits: Limits::NONE, watch: Watch::new() };
        Self { shared: Arc::new(shared), reject: Fail, reach }
    }
}

impl<J, M> TimeoutLayer<J, M> {
    /// Adds a head timeout, or replaces it: see [`head`](Self::head).
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[must_use]
    #[track_caller]
    pub fn and_head(mut self, limit: Duration) -> Self {
        self.shared_mut().limits.head = checked("head timeout", limit);
        self
    }

    /// Adds an idle timeout, or replaces it: see [`idle`](Self::idle).
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    #[track_caller]
    pub fn and_idle(mut self, limit: Duration) -> TimeoutLayer<J, AtEnd> {
        self.shared_mut().limits.idle = checked("idle timeout", limit);
        self.reaching_into_the_body()
    }

    /// Adds a total timeout, or replaces it: see [`total`](Self::total).
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    #[track_caller]
    pub fn and_total(mut self, limit: Duration) -> TimeoutLayer<J, AtEnd> {
        self.shared_mut().limits.total = checked("total timeout", limit);
        self.reaching_into_the_body()
    }

    /// Refuses by `reject` instead of [`Fail`]: `reject::respond()` of `buttress-http` answers with status
    /// 504.
    #[must_use]
    pub fn on_reject<J2>(self, reject: J2) -> TimeoutLayer<J2, M> {
        TimeoutLayer { shared: self.shared, reject, reach: self.reach }
    }

    /// Names the layer, in rejections and events. The default is no name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.shared_mut().watch.name = Some(name.into());
        self
    }

    /// Tells `observer` of each timeout. The default is none.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&TimeoutEvent<'_>) + Send + Sync + 'static) -> Self {
        self.shared_mut().watch.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock`. The default is [`Clock::default`] at the time the layer is made.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.shared_mut().watch.clock = clock;
        self
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`].
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }

    #[cfg(feature = "http")]
    fn reaching_into_the_body(self) -> TimeoutLayer<J, AtEnd> {
        TimeoutLayer { shared: self.shared, reject: self.reject, reach: AtEnd }
    }

    /// The settings to change. A layer that was cloned before parts with its clones here.
    fn shared_mut(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.shared)
    }
}

impl<S, J: Clone, M: Clone> Wrap<S> for TimeoutLayer<J, M> {
    type Service = Timeout<S, J, M>;

    fn wrap(&self, inner: S) -> Timeout<S, J, M> {
        Timeout::new(inner, self.shared.clone(), self.reject.clone(), self.reach.clone())
    }
}

impl<S, J: Clone, M: Clone> Layer<S> for TimeoutLayer<J, M> {
    type Service = Timeout<OnCall<S>, J, M>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}
