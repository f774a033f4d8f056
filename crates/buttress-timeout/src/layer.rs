use std::sync::Arc;
use std::time::Duration;

use buttress_core::{AtHead, Clock, Fail, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use buttress_http::body::AtEnd;

#[cfg(feature = "http")]
use crate::AfterUpload;
use crate::policy::Limits;
#[cfg(feature = "http")]
use crate::reach::Mode;
use crate::shared::{Shared, Watch, checked};
use crate::{Timeout, TimeoutEvent};

/// Ends calls that take too long: while the request is sent, until the head, between two frames of the body, or as a
/// whole.
///
/// | timeout | from | to | then |
/// |---|---|---|---|
/// | [`upload`](Self::upload) | the moment the inner service begins to wait for a frame of the request body, and again when it has got it | that frame, and the next wait | the call is refused |
/// | [`head`](Self::head) | the call, or, with an upload timeout, the end of the request body | the response head | the call is refused |
/// | [`idle`](Self::idle) | the moment the reader begins to wait for a frame of the response body | that frame | the body ends with an error |
/// | [`total`](Self::total) | the call | the end of the response body | the call is refused, or the body ends with an error |
///
/// One layer holds up to four: begin with one, add others by [`and_upload`](Self::and_upload),
/// [`and_head`](Self::and_head), [`and_idle`](Self::and_idle), [`and_total`](Self::and_total). None has a default: how
/// long a call may take is known to you alone.
///
/// - A head-only layer works for any request and response. Its time covers the whole request: **an upload that takes
///   longer than the head timeout is refused**, however well it moves. Where uploads may be slow, add an upload timeout.
/// - Idle and total (feature `http`) reach into the body and make the response `http::Response<TimeoutBody<B>>`. Upload
///   reaches into the request, and the inner service gets an `http::Request<UploadBody<B>>`.
/// - A refusal is a [`Rejection`](buttress_core::Rejection) of kind `Timeout`. By default the call fails with
///   it; `on_reject(reject::respond())` answers with status 504.
/// - At the timeout the inner future, or body, is dropped at once, and with it the call below. An answer that
///   comes later is not seen by anyone.
/// - A response that streams (`text/event-stream`, gRPC, or marked `field::Streaming`) has no total timeout
///   once its head is there; a request marked so has none from the start.
/// - The idle timeout runs only while the reader waits for the body below. A slow client does not trip it.
/// - After the head, idle and total are looked at when the body is polled. A client that stops reading is no longer
///   polled for: to end it is for a write timeout of the server's socket.
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
    /// Allows `limit` from the call to the response head, the time to send the request included.
    ///
    /// With an upload timeout the time begins when the request body is at its end.
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
impl TimeoutLayer<Fail, AfterUpload> {
    /// Allows `limit` for each standstill of the request body, and lets the head time begin at its end.
    ///
    /// Until the inner service has read the request body to its end, or has dropped it, or has answered, two waits take
    /// turns: the service waits for the client to send the next frame, and then has that frame to work on before it asks
    /// for another. Each may take `limit`, so that an upload may last as long as it moves, and ends when either side
    /// stands still. [`TimeoutEvent::Upload`] says which.
    ///
    /// From the end of the request body the head timeout runs. A request without a body is sent from the start.
    ///
    /// The refusal is of kind `Timeout`, and so a 504 by `reject::respond()`, for a client that stands still as well.
    ///
    /// ```
    /// use buttress_timeout::{AfterUpload, TimeoutLayer};
    /// use std::time::Duration;
    ///
    /// // Ten seconds to answer, however long it takes to send the question.
    /// let layer = TimeoutLayer::upload(Duration::from_secs(30)).and_head(Duration::from_secs(10));
    /// # let _: TimeoutLayer<_, AfterUpload> = layer;
    /// ```
    ///
    /// It costs one allocation for a request with a body, and for each of its frames a look at the clock and an
    /// uncontended lock.
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none: only the head time is moved to the end of the request.
    #[must_use]
    #[track_caller]
    pub fn upload(limit: Duration) -> Self {
        Self::without_limits(AfterUpload(AtHead)).and_upload(limit)
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl TimeoutLayer<Fail, AtEnd> {
    /// Allows `limit` for each wait of the reader for a frame of the response body.
    ///
    /// It runs while the body is polled for that frame. A reader that does not ask is not waited for.
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none.
    #[must_use]
    #[track_caller]
    pub fn idle(limit: Duration) -> Self {
        Self::without_limits(AtEnd).and_idle(limit)
    }

    /// Allows `limit` from the call to the end of the response body.
    ///
    /// It is looked at whenever the reader asks for the body and while it waits for it. A reader that never
    /// asks again, as a server does whose client no longer reads, is not ended by it: that is for a write timeout of the
    /// server's socket.
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

    /// Adds an upload timeout, or replaces it: see [`upload`](Self::upload).
    ///
    /// # Panics
    ///
    /// When `limit` is zero. [`Duration::MAX`] means none: only the head time is moved to the end of the request.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    #[track_caller]
    pub fn and_upload(mut self, limit: Duration) -> TimeoutLayer<J, M::AfterUpload>
    where
        M: Mode,
    {
        self.shared_mut().limits.upload = checked("upload timeout", limit);
        self.mode(M::after_upload)
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
    pub fn and_idle(mut self, limit: Duration) -> TimeoutLayer<J, M::ToEnd>
    where
        M: Mode,
    {
        self.shared_mut().limits.idle = checked("idle timeout", limit);
        self.mode(M::to_end)
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
    pub fn and_total(mut self, limit: Duration) -> TimeoutLayer<J, M::ToEnd>
    where
        M: Mode,
    {
        self.shared_mut().limits.total = checked("total timeout", limit);
        self.mode(M::to_end)
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
    fn mode<M2>(self, change: impl FnOnce(M) -> M2) -> TimeoutLayer<J, M2> {
        TimeoutLayer { shared: self.shared, reject: self.reject, reach: change(self.reach) }
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
