use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{AtHead, ByCause, Clock, Fail, Global, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use crate::ToEnd;
use crate::gate::{Core, Gate, Judge, Setup};
use crate::{CircuitBreaker, CircuitBreakerEvent, Handle, OnDrop, Ramp, Settings, SettingsError, Window};

/// Stops calling the service below while it fails, and tries carefully whether it has come back. See the [crate] page for
/// an example.
///
/// The layer is its own builder, and holds the state: a clone shares it, and so do all services that one value makes,
/// however often `layer()` is called. [`by`](Self::by), [`classify`](Self::classify), [`on_reject`](Self::on_reject),
/// [`at_end`](Self::at_end) and [`strict`](Self::strict) keep that state; every other step begins a new one.
///
/// | setting | default | why |
/// |---|---|---|
/// | `failure_rate`, `window`, `minimum_calls` | 50 % of at least 20 calls in 10 s | see [`Settings`], for these and the others that open and close it |
/// | `open_for` | 5 s, growing to 60 s | |
/// | `probes` | 3 | |
/// | `classify` | [`ByCause`]: an error is a failure | needs no response type; **over HTTP take `classify::status()`**, which knows a 503 |
/// | `by` | [`Global`], one breaker for all | needs no request type |
/// | `capacity` | 1024 keys | more upstreams than most have, in 400 KiB at most, names and all |
/// | `at_end` | judged at the head | the response type stays as it is |
/// | `slow_calls` | not judged; then to the head | what is slow, only you know |
/// | `open_when_asked` | off | one answer would stop all calls |
/// | `on_reject` | [`Fail`] | the error is what a client wants; servers take `reject::respond()` |
/// | `clock` | [`Clock::default`] | |
#[derive(Clone)]
pub struct CircuitBreakerLayer<K = Global, J = Fail, C = ByCause, F = AtHead> {
    key: K,
    reject: J,
    classify: C,
    finish: F,
    core: Arc<Core>,
}

impl Default for CircuitBreakerLayer {
    /// Opens when half of at least 20 calls in 10 seconds fail; stays open for 5 seconds, growing to 60; closes after 3
    /// probes. [`Settings`] has the reasons.
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl CircuitBreakerLayer {
    /// Opens when this share of the calls has failed: above 0, at most 1.
    ///
    /// # Panics
    ///
    /// When `rate` is not in that range, or not a number.
    #[must_use]
    #[track_caller]
    pub fn failure_rate(rate: f64) -> Self {
        Self::new(Settings::default().failure_rate(rate))
    }

    /// Opens when so many calls in a row have failed, from 1 to 65 535, at whatever rate.
    ///
    /// Right where calls are few, so that a rate says little. Where they are many, a few in a row mean nothing.
    ///
    /// # Panics
    ///
    /// When `calls` is not in that range.
    #[must_use]
    #[track_caller]
    pub fn failures_in_a_row(calls: u32) -> Self {
        Self::new(Settings::default().no_failure_rate().consecutive_failures(calls))
    }

    /// Opens and closes by these settings.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(settings: Settings) -> Self {
        Self::try_new(settings).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens and closes by these settings; for settings that come from a configuration file.
    ///
    /// # Errors
    ///
    /// When they cannot work, see [`Settings::rules`].
    pub fn try_new(settings: Settings) -> Result<Self, SettingsError> {
        let core = Arc::new(Core::new(Setup::new(settings))?);
        Ok(Self { key: Global, reject: Fail, classify: ByCause, finish: AtHead, core })
    }
}

/// The steps of [`Settings`]: each checks at once, and begins a new state.
impl<K, J, C, F> CircuitBreakerLayer<K, J, C, F> {
    /// Judges the calls of this window: the last so many, or those of so long a time. The default is the last 10 s.
    ///
    /// # Panics
    ///
    /// When the window is empty, larger than 100 000 calls, or holds fewer calls than the minimum.
    #[must_use]
    #[track_caller]
    pub fn window(self, window: Window) -> Self {
        self.set(|settings| settings.window(window))
    }

    /// Judges by rates only when the window holds so many calls. The default is 20, or the window if that is smaller.
    ///
    /// # Panics
    ///
    /// When `calls` is 0, above 65 535, or more than the window holds.
    #[must_use]
    #[track_caller]
    pub fn minimum_calls(self, calls: u32) -> Self {
        self.set(|settings| settings.minimum_calls(calls))
    }

    /// Opens when so many calls in a row have failed as well, whatever the minimum is.
    ///
    /// # Panics
    ///
    /// When `calls` is 0, or above 65 535.
    #[must_use]
    #[track_caller]
    pub fn consecutive_failures(self, calls: u32) -> Self {
        self.set(|settings| settings.consecutive_failures(calls))
    }

    /// Opens when this share of the calls, above 0 and at most 1, took at least `threshold` as well: to the response's
    /// head, unless [`slow_to_end`](Self::slow_to_end) says otherwise.
    ///
    /// A response that streams never counts as slow, as far as the classifier can tell (`classify::status()` and
    /// `classify::grpc()` look, a closure does not); a request that is marked `Streaming` neither, in a layer that follows
    /// bodies (`at_end`, [`slow_to_end`](Self::slow_to_end)). It costs each call a second look at the clock.
    ///
    /// # Panics
    ///
    /// When `threshold` is zero, or `rate` not in its range.
    #[must_use]
    #[track_caller]
    pub fn slow_calls(self, threshold: Duration, rate: f64) -> Self {
        self.set(|settings| settings.slow_calls(threshold, rate))
    }

    /// Stays open for `first`, and for twice as long from one opening to the next until it has been closed, `longest` at
    /// most; [`jitter`](Self::jitter) and [`growing_by`](Self::growing_by) change how. The default is 5 s and 60 s.
    ///
    /// # Panics
    ///
    /// When `first` is shorter than a millisecond, or `longest` shorter than `first`.
    #[must_use]
    #[track_caller]
    pub fn open_for(self, first: Duration, longest: Duration) -> Self {
        self.set(|settings| settings.open_for(first, longest))
    }

    /// Stays open for `factor` times as long as the last time. The default is 2; 1 is a constant open time.
    ///
    /// # Panics
    ///
    /// When `factor` is below 1, or not a number.
    #[must_use]
    #[track_caller]
    pub fn growing_by(self, factor: f64) -> Self {
        self.set(|settings| settings.growing_by(factor))
    }

    /// Makes each open time shorter by a random share of up to `share` of it, so that many clients do not come back at one
    /// moment. The default is 0.1; 0 is none.
    ///
    /// # Panics
    ///
    /// When `share` is not between 0 and 1.
    #[must_use]
    #[track_caller]
    pub fn jitter(self, share: f64) -> Self {
        self.set(|settings| settings.jitter(share))
    }

    /// Lets so many calls through when half-open, and judges by these: never more at a time, and never more in all. The
    /// default is 3.
    ///
    /// # Panics
    ///
    /// When `calls` is 0, or above 31.
    #[must_use]
    #[track_caller]
    pub fn probes(self, calls: u32) -> Self {
        self.set(|settings| settings.probes(calls))
    }

    /// Gives the probes so long. What is then known decides; if nothing is, or a probe is not answered, the breaker opens
    /// again, for longer. Where bodies are followed, a probe is answered when its head is there, good and not slow. The default
    /// is the open time.
    ///
    /// It should be longer than a good head takes, and than the threshold of [`slow_calls`](Self::slow_calls): no probe is
    /// slow that is overdue before.
    ///
    /// # Panics
    ///
    /// When `time` is shorter than a millisecond.
    #[must_use]
    #[track_caller]
    pub fn half_open_for(self, time: Duration) -> Self {
        self.set(|settings| settings.half_open_for(time))
    }

    /// Lets calls come back step by step once the probes went well: 10 %, 25 %, 50 %, all. A step that fails opens the
    /// breaker again, for longer. Without it, it closes after the probes.
    ///
    /// # Panics
    ///
    /// When a step is shorter than a millisecond, or not of 1 to 100 calls.
    #[must_use]
    #[track_caller]
    pub fn ramp(self, ramp: Ramp) -> Self {
        self.set(|settings| settings.ramp(ramp))
    }

    /// Says what it means when a call is dropped before it is judged. By default it counts as nothing, and what it holds
    /// goes back.
    ///
    /// # Panics
    ///
    /// When it is [`OnDrop::FailWhenSlow`] and there are no [`slow_calls`](Self::slow_calls) yet.
    #[must_use]
    #[track_caller]
    pub fn on_drop(self, on_drop: OnDrop) -> Self {
        self.set(|settings| settings.on_drop(on_drop))
    }

    /// Opens and closes by these settings instead of those it has; key, name, clock and observer stay.
    ///
    /// # Panics
    ///
    /// When they cannot work, see [`Settings::rules`].
    #[must_use]
    #[track_caller]
    pub fn settings(self, settings: Settings) -> Self {
        self.set(|_| settings)
    }

    #[track_caller]
    fn set(self, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.restart(|setup| setup.settings = change(setup.settings.clone()))
    }

    /// Begins a new state, and so new counts.
    #[track_caller]
    fn restart(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.core.setup.clone();
        change(&mut setup);
        self.core = Arc::new(Core::new(setup).unwrap_or_else(|error| panic!("{error}")));
        self
    }
}

/// What a call is, and what becomes of one that is refused.
impl<K, J, C, F> CircuitBreakerLayer<K, J, C, F> {
    /// Gives each key a breaker of its own. Keys are `key::authority()` and others, tuples of them, and closures
    /// `|req: &Request<Body>| -> Option<impl KeyPart>`. Calls without a key share one.
    ///
    /// Take what the service below is spread over, an upstream or a shard. By client, a breaker would let no one
    /// find out that the service is down.
    #[must_use]
    pub fn by<Other>(self, key: Other) -> CircuitBreakerLayer<Other, J, C, F> {
        let Self { reject, classify, finish, core, .. } = self;
        CircuitBreakerLayer { key, reject, classify, finish, core }
    }

    /// Judges results by `classify` instead of [`ByCause`]: `classify::status()` for HTTP, `classify::grpc()`, or a
    /// closure from a result to an [`Outcome`](buttress_core::Outcome).
    ///
    /// A success and a failure count as that. What is soft (status 429) counts towards the failure rate and fails a
    /// probe, and is not among the consecutive failures. What is ignored counts as nothing. A refusal by one of our
    /// layers further down counts as nothing either, unless it was a timeout or a deadline, which is a failure.
    #[must_use]
    pub fn classify<Other>(self, classify: Other) -> CircuitBreakerLayer<K, J, Other, F> {
        let Self { key, reject, finish, core, .. } = self;
        CircuitBreakerLayer { key, reject, classify, finish, core }
    }

    /// Answers refused calls through `reject`: [`Fail`] with an error (the default), `reject::respond()` with a 503,
    /// `reject::with(..)` as a closure likes.
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> CircuitBreakerLayer<K, Other, C, F> {
        let Self { key, classify, finish, core, .. } = self;
        CircuitBreakerLayer { key, reject, classify, finish, core }
    }

    /// Follows each response to the end of its body, where the classifier wants to see it: gRPC by trailers, a body that
    /// breaks off. The response's body becomes [`Tracked`](buttress_http::body::Tracked).
    ///
    /// A call whose head is enough is judged there all the same, and so is one that may go on for as long as it likes: what is
    /// known to stream (server-sent events, a 101, what is marked [`Streaming`](buttress_http::field::Streaming), be it the
    /// request or the response), and a tunnel. A body that the caller drops half read is ignored, and a probe's permit goes
    /// back.
    ///
    /// A probe whose head was good, and whose body is not over when the time for the probes is, went well.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn at_end(self) -> CircuitBreakerLayer<K, J, C, ToEnd> {
        self.finish(ToEnd)
    }

    /// Takes the time of a slow call from the call to the end of the response's body, and judges every call there. Follows
    /// bodies as [`at_end`](Self::at_end) does.
    ///
    /// What is known to stream (server-sent events, a 101, what is marked
    /// [`Streaming`](buttress_http::field::Streaming), be it the request or the response) never counts as slow, and neither
    /// does a tunnel: they are judged at their head. Nothing tells a gRPC stream from a single message: mark the methods that
    /// stream.
    ///
    /// A probe has to be back before it is slow: one whose body goes on when the time for the probes is over went well if its
    /// head was good and it is not slow by then, and is overdue if it is.
    ///
    /// Begins a new state.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn slow_to_end(self) -> CircuitBreakerLayer<K, J, C, ToEnd> {
        self.restart(|setup| setup.slow_to_end = true).finish(ToEnd)
    }

    /// Takes the time of a slow call from the call to the response's head: the default, said aloud. A response that streams
    /// never counts as slow. Nothing tells a gRPC stream from a single message, so neither does gRPC: for gRPC take
    /// [`slow_to_end`](Self::slow_to_end).
    ///
    /// A request that is marked `Streaming`, a long poll, is seen by a layer that follows bodies alone: take `at_end` or
    /// `slow_to_end` for it, or mark its response.
    ///
    /// Begins a new state.
    #[must_use]
    pub fn slow_to_head(self) -> Self {
        self.restart(|setup| setup.slow_to_end = false)
    }

    #[cfg(feature = "http")]
    fn finish<Other>(self, finish: Other) -> CircuitBreakerLayer<K, J, C, Other> {
        let Self { key, reject, classify, core, .. } = self;
        CircuitBreakerLayer { key, reject, classify, finish, core }
    }

    /// Opens at once when a failed or soft answer says how long to wait (`Retry-After`, gRPC pushback), for that long: for
    /// the longest open time at most, and with no jitter: that is when the service wants to be asked. Off unless said
    /// otherwise, as one answer then stops all calls of the breaker.
    ///
    /// Begins a new state.
    #[must_use]
    pub fn open_when_asked(self) -> Self {
        self.restart(|setup| setup.open_when_asked = true)
    }

    /// Holds breakers for so many keys, from 1 to 1 000 000, and a third more; 1024 unless said otherwise. When there are
    /// more, one that was idle makes way: for ten minutes, or ten times the longest open time. Where none was, one that is
    /// closed or whose wait is over does, else one that is half-open or ramping; of these, the one that was left alone for
    /// longest. One that is open, or was set by hand, stays, and a key that finds no room for that reason goes without a
    /// breaker. [`Counts`](crate::Counts) has how often.
    ///
    /// With a window of time or of 100 calls, a key takes less than 256 bytes when the table holds as many as it was made
    /// for, and its name 64 and its text on top, which ends after some 64.
    ///
    /// Begins a new state.
    ///
    /// # Panics
    ///
    /// When `keys` is 0, or above 1 000 000.
    #[must_use]
    #[track_caller]
    pub fn capacity(self, keys: usize) -> Self {
        self.restart(|setup| setup.capacity = keys)
    }

    /// Names the layer, in rejections and events. The default is `default`. Begins a new state.
    #[must_use]
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.restart(|setup| setup.name = name.into())
    }

    /// Tells `observer` of each transition, and of each call that is refused or comes too late, in the task that makes the
    /// call, which waits for it. There is none unless said otherwise. Begins a new state.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&CircuitBreakerEvent<'_>) + Send + Sync + 'static) -> Self {
        self.restart(|setup| setup.observer = Some(Arc::new(observer)))
    }

    /// Reads the time from `clock` instead of [`Clock::default`]. Begins a new state.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.restart(|setup| setup.clock = clock)
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`]. A refused call then waits for the inner service
    /// too, and leaves it ready for the next.
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }

    /// Reads and steers the state that this layer shares with all its services.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.core))
    }
}

impl<S, K, J, C, F> Wrap<S> for CircuitBreakerLayer<K, J, C, F>
where
    K: Clone,
    J: Clone,
    C: Clone,
    F: Clone,
{
    type Service = CircuitBreaker<S, K, J, C, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        let Self { key, reject, classify, finish, core } = self.clone();
        let judge = Arc::new(Judge { classify, core });
        CircuitBreaker::new(inner, Arc::new(Gate { key, reject, finish, judge }))
    }
}

impl<S, K, J, C, F> Layer<S> for CircuitBreakerLayer<K, J, C, F>
where
    K: Clone,
    J: Clone,
    C: Clone,
    F: Clone,
{
    type Service = CircuitBreaker<OnCall<S>, K, J, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<K, J, C, F> fmt::Debug for CircuitBreakerLayer<K, J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.core.setup.name)
            .field("settings", &self.core.setup.settings)
            .finish_non_exhaustive()
    }
}
