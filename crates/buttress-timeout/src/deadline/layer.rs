use std::sync::Arc;
use std::time::Duration;

use buttress_core::{AtHead, Clock, Fail, Name, OnCall, Strict, Wrap};
use buttress_http::body::AtEnd;
use http::header::HeaderName;
use tower_layer::Layer;

use super::fields::Fields;
use crate::policy::{Limits, Terms};
use crate::shared::{Shared, Watch, checked};
use crate::{Deadline, TimeoutEvent};

/// Carries a caller's deadline from hop to hop, and holds the call to it.
///
/// On each call the layer
///
/// 1. takes the earliest of what the request's fields ask for, what [`Facts`](buttress_core::Facts) of the
///    request already say, and its own limit ([`at_most`](Self::at_most));
/// 2. refuses the call when less than the [`floor`](Self::floor) is left;
/// 3. stores the deadline in `Facts` for the layers below (retries, queues);
/// 4. writes what is left into the request's fields for the next hop;
/// 5. drops the inner call and refuses when the deadline passes before the response head is there.
///
/// A refusal is a [`Rejection`](buttress_core::Rejection) of kind `DeadlineExceeded`. By default the call
/// fails with it; `on_reject(reject::respond())` answers with status 504, and gRPC requests with
/// `DEADLINE_EXCEEDED`.
///
/// Nobody can lengthen a deadline: every rule takes the earlier of two. A request without a deadline passes
/// untouched, and costs no allocation and no look at the clock.
///
/// # Where to put it
///
/// The fields say how much time is left at the moment they are written. So put one at the top of a server,
/// where it reads what the caller wrote, and one at the bottom, directly above the client, where it writes
/// what retries and queues have left. The second finds the first one's deadline in `Facts`; both may be
/// clones of one layer.
///
/// # Fields
///
/// | field | value | read | written |
/// |---|---|---|---|
/// | `grpc-timeout` | 1–8 digits and `H`, `M`, `S`, `m`, `u` or `n` | always | for gRPC requests, and where it was there |
/// | `x-envoy-expected-rq-timeout-ms`, or [`header`](Self::header) | milliseconds | always | for other requests, and where it was there |
///
/// No standard names a field for HTTP. The default is the one that Envoy, and what is built on it, sends and
/// reads. Of several lines of a field the first counts. A value of 0 is a deadline that has passed. A
/// malformed field counts as absent, is told to the observer, and is not passed on.
///
/// # The body
///
/// By default the call is held to its deadline until the response head is there. [`to_end`](Self::to_end) holds the body
/// to it as well, streams included, as gRPC understands a deadline: then the body ends with an error.
///
/// ```
/// use buttress_timeout::DeadlineLayer;
/// use std::time::Duration;
///
/// let layer = DeadlineLayer::new().at_most(Duration::from_secs(30));
/// # let _: DeadlineLayer = layer;
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineLayer<J = Fail, M = AtHead> {
    settings: Arc<Settings>,
    reject: J,
    reach: M,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) terms: Terms,
    pub(super) fields: Fields,
    pub(super) trust: bool,
    /// What calls take along: the layer's watch, and no limits.
    pub(super) shared: Arc<Shared>,
}

impl DeadlineLayer {
    /// Holds calls to their callers' deadlines, and has no limit of its own.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Shared { limits: Limits::NONE, watch: Watch::new() });
        let settings = Settings { terms: Terms::DEFAULT, fields: Fields::DEFAULT, trust: true, shared };
        Self { settings: Arc::new(settings), reject: Fail, reach: AtHead }
    }
}

impl Default for DeadlineLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J, M> DeadlineLayer<J, M> {
    /// Allows a call `limit` at most, also when it comes without a deadline. The default is
    /// [`Duration::MAX`]: no limit.
    ///
    /// # Panics
    ///
    /// When `limit` is zero, or is not enough for floor and margin.
    #[must_use]
    #[track_caller]
    pub fn at_most(self, limit: Duration) -> Self {
        let limit = checked("at_most", limit);
        self.with_terms(|terms| terms.at_most = limit)
    }

    /// Refuses calls that have less than `floor` left, after the margin. The default is one millisecond:
    /// timers and the field in milliseconds are no finer. [`Duration::ZERO`] refuses those alone that have
    /// nothing left.
    ///
    /// # Panics
    ///
    /// When the layer's own limit is less than floor and margin.
    #[must_use]
    #[track_caller]
    pub fn floor(self, floor: Duration) -> Self {
        self.with_terms(|terms| terms.floor = floor)
    }

    /// Passes on `margin` less than what is left, for the way to the next hop and back. The default is zero.
    ///
    /// With a margin the next hop gives up before this one does, and its answer can still be passed on.
    ///
    /// # Panics
    ///
    /// When the layer's own limit is less than floor and margin.
    #[must_use]
    #[track_caller]
    pub fn margin(self, margin: Duration) -> Self {
        self.with_terms(|terms| terms.margin = margin)
    }

    /// Reads and writes the field `name`, in milliseconds, instead of `x-envoy-expected-rq-timeout-ms`.
    ///
    /// # Panics
    ///
    /// When `name` is not the name of a field.
    #[must_use]
    #[track_caller]
    pub fn header<N>(mut self, name: N) -> Self
    where
        N: TryInto<HeaderName, Error: std::fmt::Display>,
    {
        let name = name.try_into().unwrap_or_else(|error| panic!("header is no name of a field: {error}"));
        self.settings_mut().fields.millis = name;
        self
    }

    /// Whether the fields of a request are believed. The default is that they are: a caller can only shorten
    /// its own time.
    ///
    /// With `false` they are ignored, and removed where this layer does not write its own: for the public
    /// edge, where a stranger must not make calls fail early (and so look like failures of the service
    /// behind). `Facts` are believed always.
    #[must_use]
    pub fn trust(mut self, trust: bool) -> Self {
        self.settings_mut().trust = trust;
        self
    }

    /// Refuses by `reject` instead of [`Fail`]: `reject::respond()` of `buttress-http` answers with status
    /// 504.
    #[must_use]
    pub fn on_reject<J2>(self, reject: J2) -> DeadlineLayer<J2, M> {
        DeadlineLayer { settings: self.settings, reject, reach: self.reach }
    }

    /// Holds the response body to the deadline as well. The default is that the deadline ends with the head.
    ///
    /// The response becomes `http::Response<TimeoutBody<B>>`; when the deadline passes before the end of its body, that
    /// ends with [`TimeoutBodyError::Deadline`](crate::TimeoutBodyError::Deadline), and a server resets the stream.
    /// Streams are no exception: the caller has said how long it reads. It is looked at when the body is polled, as
    /// [`TimeoutLayer::total`](crate::TimeoutLayer::total) is.
    #[must_use]
    pub fn to_end(self) -> DeadlineLayer<J, AtEnd> {
        DeadlineLayer { settings: self.settings, reject: self.reject, reach: AtEnd }
    }

    /// Names the layer, in rejections and events. The default is no name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.watch_mut().name = Some(name.into());
        self
    }

    /// Tells `observer` of each refusal and each malformed field. The default is none.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&TimeoutEvent<'_>) + Send + Sync + 'static) -> Self {
        self.watch_mut().observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock`. The default is [`Clock::default`] at the time the layer is made.
    ///
    /// Layers of one stack meet in `Facts`, so they all read the same clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.watch_mut().clock = clock;
        self
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`].
    ///
    /// The wait for it then is not part of the deadline, since the request is not there yet.
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }

    #[track_caller]
    fn with_terms(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        let terms = &mut self.settings_mut().terms;
        change(terms);
        assert!(
            terms.can_be_met(),
            "at_most is {:?}: it must leave the floor of {:?} after the margin of {:?}, or every call is refused",
            terms.at_most,
            terms.floor,
            terms.margin,
        );
        self
    }

    /// The settings to change. A layer that was cloned before parts with its clones here.
    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
    fn watch_mut(&mut self) -> &mut Watch {
        &mut Arc::make_mut(&mut self.settings_mut().shared).watch
    }
}

impl<S, J: Clone, M: Clone> Wrap<S> for DeadlineLayer<J, M> {
    type Service = Deadline<S, J, M>;

    fn wrap(&self, inner: S) -> Deadline<S, J, M> {
        Deadline::new(inner, self.settings.clone(), self.reject.clone(), self.reach.clone())
    }
}

impl<S, J: Clone, M: Clone> Layer<S> for DeadlineLayer<J, M> {
    type Service = Deadline<OnCall<S>, J, M>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}
