use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{ByCause, Clock, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use {crate::ReplayPool, crate::layer::field, http::HeaderName, http::StatusCode};

use super::delay::{Delay, Moving, MovingTerms};
use super::handle::Tally;
use crate::within::{NoTimeout, WithTimeout, Within};
use crate::{Answers, Budget, Cloning, Hedge, HedgeEvent, HedgeHandle, Http, Replaying, SettingError};

/// Makes another attempt of a call that takes long, while the first goes on, and gives the answer that comes first.
///
/// Where one call in twenty is slow by chance (a pause of a collector, a queue, a bad disk), a second attempt after the
/// time that the other nineteen take is slow once in four hundred, at the price of one call in twenty more. It is
/// [*The Tail at Scale*](https://research.google/pubs/the-tail-at-scale/)'s hedged request. Where all of a service is slow,
/// hedges only add to it, and that is what the budget is for.
///
/// ```
/// use buttress_retry::{Budget, HedgeLayer};
/// use std::time::Duration;
///
/// # #[cfg(feature = "http")] {
/// // After the time that 95 of 100 calls take, and 50 ms while that is not known; at most one hedge in 20 calls.
/// let layer = HedgeLayer::after_quantile(0.95)
///     .until_known(Duration::from_millis(50))
///     .budget(Budget::ratio(0.05));
/// # let _ = layer;
/// # }
/// ```
///
/// - What is hedged is what a [`RetryLayer`](crate::RetryLayer) would try again: idempotent requests, or marked ones, whose
///   body is at hand; a body that is still being sent is not. All others pass through.
/// - A hedge is an attempt of its own: it goes to a clone of the inner service, which is readied for it, and from it on the
///   request has [`Facts`](buttress_core::Facts) that say which attempt it is, and that no layer below may multiply it.
/// - The first answer that is no failure is given. The other attempts are dropped: layers below see them cancelled, and no
///   breaker or latency counts them.
/// - When an attempt fails and is worth another, that one is made at once, or when the answer asks for it (`Retry-After`,
///   gRPC pushback). While other attempts go on, a failure is not the answer; when all have failed, the last one is, but
///   for a refusal of ours, or proof that its attempt was not carried out, where another may have been.
/// - There is no hedge after the deadline, and none when the budget is spent: then the call goes on as it is. One that gets
///   ready inside its call ([`OnCall`]) is not asked again whether it is late; whoever holds the deadline ends the call.
///
/// The layer is its own builder. It holds the budget, the latencies and the counts: a clone shares them, and so do all
/// services that it makes. The steps that change the delay begin new latencies.
///
/// | setting | default | why |
/// |---|---|---|
/// | `at_most` | 1 hedge for a call | what the second attempt does not help, a third seldom does |
/// | `budget` | 5 % of the calls and 1 per second | what a quantile of 0.95 asks for |
/// | `elsewhere` | no | most often nothing below chooses among endpoints |
/// | `min_samples` | 100 in the last 10 s | fewer say little of a high quantile |
/// | `until_known` | no hedge | what a call takes is known to you alone |
/// | `overall` | none, besides the deadline in a request's `Facts` | how long a call may take is known to you alone |
/// | `classify` | [`Answers`] for HTTP, [`ByCause`] for others | as a retry layer |
/// | `attempt_header`, `no_retry_header` | none | no standard names them |
/// | `replay_limit`, `replay_pool` | 64 KiB for each request, 64 MiB for all | as a retry layer |
/// | `clock` | [`Clock::default`] | |
///
/// `on_status`, `on_grpc`, the fields and `replay_…` are there for HTTP (feature `http`).
///
/// A call that has to wait registers a timer; one that is answered at once does not. A hedge allocates; a call without one
/// allocates nothing but what it takes to send its request again (over HTTP, a copy of its head).
///
/// Hedge *above* a balancer, so that the second attempt may go elsewhere, and below or instead of a retry layer: both
/// withdraw from a budget, which they may share (see [`Budget::without_deposits`]).
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct HedgeLayer<R = Http, C = Answers, O = NoTimeout> {
    settings: Settings,
    repeat: R,
    classify: C,
    overall: O,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) at_most: u32,
    pub(crate) delay: Arc<Delay>,
    pub(crate) budget: Budget,
    pub(crate) elsewhere: bool,
    pub(crate) overall: Duration,
    pub(crate) tally: Arc<Tally>,
    pub(crate) watch: Watch,
}

/// The clock, the name and the observer of a layer.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) clock: Clock,
    pub(crate) name: Option<Name>,
    observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&HedgeEvent<'_>) + Send + Sync>;

impl Watch {
    pub(crate) fn tell<'a>(&'a self, event: impl FnOnce(Option<&'a Name>) -> HedgeEvent<'a>) {
        if let Some(observer) = &self.observer {
            observer(&event(self.name.as_ref()));
        }
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl HedgeLayer {
    /// Hedges HTTP requests that take longer than `delay`; each further hedge follows after another `delay`.
    ///
    /// # Panics
    ///
    /// When `delay` is zero: that would be two calls for each.
    #[track_caller]
    pub fn after(delay: Duration) -> Self {
        Self::of(fixed(delay), Http::default(), Answers::default())
    }

    /// Hedges HTTP requests that take longer than the part `quantile` of the calls of the last 10 s.
    ///
    /// What counts is the time from the call to its answer, of calls that may be hedged and succeed: a call that a hedge
    /// won took longer than the delay, and so the quantile does not sink by what hedges do. An attempt that is given up is
    /// not counted. The quantile is within 5 % of the exact one; it is looked at once in 10 ms. Of more than 4096 samples in
    /// 10 s, those of the quarter of a second that is leaving the window are taken to have come evenly: where most of the
    /// samples lie in it, and latencies changed within it, the quantile is the exact one only a quarter of a second later.
    ///
    /// Until there are [`min_samples`](Self::min_samples), the delay is [`until_known`](Self::until_known). The latencies
    /// take 200 kB.
    ///
    /// # Panics
    ///
    /// When `quantile` is not above 0 and below 1.
    #[track_caller]
    pub fn after_quantile(quantile: f64) -> Self {
        Self::of(moving(quantile), Http::default(), Answers::default())
    }
}

impl<F> HedgeLayer<Cloning<F>, ByCause> {
    /// Hedges requests that are `Clone`, those of which the closure says that they may be carried out twice: after the time
    /// that 95 of 100 calls take, unless [`delay`](Self::delay) or [`delay_quantile`](Self::delay_quantile) says otherwise.
    ///
    /// ```
    /// use buttress_retry::HedgeLayer;
    /// use std::time::Duration;
    ///
    /// # #[derive(Clone)] enum Command { Get(String), Append(String) }
    /// let layer = HedgeLayer::cloning(|command: &Command| matches!(command, Command::Get(_)))
    ///     .delay(Duration::from_millis(20));
    /// # let _ = layer;
    /// ```
    pub fn cloning<Req>(is_idempotent: F) -> Self
    where
        F: Fn(&Req) -> bool,
    {
        Self::of(moving(0.95), Cloning::new(is_idempotent), ByCause)
    }
}

impl HedgeLayer<Replaying, ByCause> {
    /// Hedges requests that say themselves how they are sent again: see [`Replay`](crate::Replay). The delay is that of
    /// [`cloning`](HedgeLayer::cloning).
    pub fn replaying() -> Self {
        Self::of(moving(0.95), Replaying, ByCause)
    }
}

impl<R, C> HedgeLayer<R, C> {
    fn of(delay: Delay, repeat: R, classify: C) -> Self {
        let settings = Settings {
            at_most: 1,
            delay: Arc::new(delay),
            budget: Budget::ratio(0.05).min_per_second(1),
            elsewhere: false,
            overall: Duration::MAX,
            tally: Arc::default(),
            watch: Watch { clock: Clock::default(), name: None, observer: None },
        };
        Self { settings, repeat, classify, overall: NoTimeout }
    }
}

impl<R, C, O> HedgeLayer<R, C, O> {
    /// Hedges calls that take longer than `delay`; each further hedge follows after another `delay`.
    ///
    /// # Panics
    ///
    /// When `delay` is zero.
    #[track_caller]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.settings.delay = Arc::new(fixed(delay));
        self
    }

    /// Hedges calls that take longer than the part `quantile` of the calls of the last 10 s.
    ///
    /// # Panics
    ///
    /// When `quantile` is not above 0 and below 1.
    #[track_caller]
    pub fn delay_quantile(mut self, quantile: f64) -> Self {
        self.settings.delay = Arc::new(moving(quantile));
        self
    }

    /// Goes by the quantile when there are at least `samples` in the last 10 s, 100 unless said otherwise.
    ///
    /// # Panics
    ///
    /// When `samples` is 0, or the delay is a fixed one.
    #[track_caller]
    pub fn min_samples(self, samples: u32) -> Self {
        if samples == 0 {
            panic!("{}", bad("min_samples", samples, "must be at least 1"));
        }
        self.change_moving("min_samples", samples, |terms| terms.min_samples = samples)
    }

    /// Hedges after `delay` as long as the quantile is not known. By default there is no hedge then.
    ///
    /// # Panics
    ///
    /// When `delay` is zero, or the delay is a fixed one.
    #[track_caller]
    pub fn until_known(self, delay: Duration) -> Self {
        if delay.is_zero() {
            panic!("{}", bad("until_known", delay, NOT_ZERO));
        }
        self.change_moving("until_known", delay, |terms| terms.until_known = Some(delay))
    }

    #[track_caller]
    fn change_moving(
        mut self,
        field: &'static str,
        value: impl fmt::Debug,
        change: impl FnOnce(&mut MovingTerms),
    ) -> Self {
        let Delay::Moving(moving) = &*self.settings.delay else {
            panic!("{}", bad(field, value, "is for a layer with a moving quantile, not a fixed delay"));
        };
        let mut terms = moving.terms;
        change(&mut terms);
        self.settings.delay = Arc::new(Delay::Moving(Moving::new(terms)));
        self
    }

    /// Makes at most `hedges` further attempts for a call.
    ///
    /// # Panics
    ///
    /// When `hedges` is 0, or `u32::MAX`.
    #[track_caller]
    pub fn at_most(mut self, hedges: u32) -> Self {
        if hedges == 0 || hedges == u32::MAX {
            panic!("{}", bad("at_most", hedges, "must be at least 1 and below 2³² - 1"));
        }
        self.settings.at_most = hedges;
        self
    }

    /// Withdraws hedges from `budget`. A clone of one that other layers have is shared with them; retries may share it too.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// Judges by `classify` which results are failures, and so not the answer while other attempts go on.
    pub fn classify<C2>(self, classify: C2) -> HedgeLayer<R, C2, O> {
        let Self { settings, repeat, overall, .. } = self;
        HedgeLayer { settings, repeat, classify, overall }
    }

    /// Ends the call after `limit`, all attempts together, at the head of the answer; and begins no hedge after it, nor waits
    /// for one that an answer puts off past it.
    ///
    /// This layer's service is wrapped into a [`Timeout`](buttress_timeout::Timeout), and so the error type must have a
    /// place for a rejection. A deadline that a `DeadlineLayer` above has put into the request's
    /// [`Facts`](buttress_core::Facts) is kept in any case.
    ///
    /// # Panics
    ///
    /// When `limit` is zero.
    #[track_caller]
    pub fn overall(mut self, limit: Duration) -> HedgeLayer<R, C, WithTimeout> {
        if limit.is_zero() {
            panic!("{}", bad("overall", limit, "must be longer than zero"));
        }
        self.settings.overall = limit;
        let Self { settings, repeat, classify, .. } = self;
        HedgeLayer { settings, repeat, classify, overall: WithTimeout }
    }

    /// Says that something below chooses among several endpoints, a balancer say. Each attempt then says where it goes
    /// ([`Facts::chose`](buttress_core::Facts::chose)), while it is under way, and a hedge is told where the ones before it
    /// went ([`Facts::tried`](buttress_core::Facts)).
    ///
    /// That costs each call that may be hedged a few allocations, so it is not the default.
    pub fn elsewhere(mut self) -> Self {
        self.settings.elsewhere = true;
        self
    }

    /// Names the layer, in events. The default is no name.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.watch.name = Some(name.into());
        self
    }

    /// Tells `observer` of each hedge and each one that is skipped. The default is none.
    pub fn observe(mut self, observer: impl Fn(&HedgeEvent<'_>) + Send + Sync + 'static) -> Self {
        self.settings.watch.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock`. The default is [`Clock::default`] at the time the layer is made.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.watch.clock = clock;
        self
    }

    /// Reads what the layer does, while its services do it.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle {
        let Settings { tally, delay, budget, watch, .. } = self.settings.clone();
        HedgeHandle { tally, delay, budget, clock: watch.clock }
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`]. That is for the first attempt; each
    /// hedge readies an instance of its own.
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<O> HedgeLayer<Http, Answers, O> {
    /// Takes an answer with one of these statuses for a failure, and with no other: it brings the next attempt forward, and is
    /// not the answer while another one goes on.
    ///
    /// # Panics
    ///
    /// When one is no status, or below 400.
    #[track_caller]
    pub fn on_status<S>(mut self, statuses: impl IntoIterator<Item = S>) -> Self
    where
        S: TryInto<StatusCode> + fmt::Debug,
    {
        self.classify = self.classify.with_statuses("hedge", statuses);
        self
    }

    /// Takes a reply with one of these gRPC codes for a failure, and with no other: numbers, or `tonic::Code`s.
    ///
    /// # Panics
    ///
    /// When one is not from 1 to 16.
    #[track_caller]
    pub fn on_grpc<N: Into<i32>>(mut self, codes: impl IntoIterator<Item = N>) -> Self {
        self.classify = self.classify.with_codes("hedge", codes);
        self
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<C, O> HedgeLayer<Http, C, O> {
    /// Writes the number of the attempt into the field `name` of each hedge, from 2 on, so that a server that is hard pressed
    /// can tell them apart. (gRPC requests have `grpc-previous-rpc-attempts` in any case.)
    ///
    /// # Panics
    ///
    /// When `name` is not the name of a field.
    #[track_caller]
    pub fn attempt_header<N>(mut self, name: N) -> Self
    where
        N: TryInto<HeaderName> + fmt::Debug,
    {
        self.repeat.attempt_header = Some(field("hedge", "attempt_header", name));
        self
    }

    /// Makes no further attempt after an answer with the field `name`, and writes it (with the value 1) into the answer when
    /// all attempts have failed, so that clients further up do not try again. Inside the process
    /// [`NoRetry`](buttress_http::field::NoRetry) does that without a field.
    ///
    /// # Panics
    ///
    /// When `name` is not the name of a field.
    #[track_caller]
    pub fn no_retry_header<N>(mut self, name: N) -> Self
    where
        N: TryInto<HeaderName> + fmt::Debug,
    {
        self.repeat.no_retry_header = Some(field("hedge", "no_retry_header", name));
        self
    }

    /// Keeps up to `bytes` of a request's body, to send it again. A longer one goes out once. With 0 only requests without
    /// a body are hedged.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.repeat.limit = bytes;
        self
    }

    /// Keeps bodies in `pool`: a number of bytes for this layer, or a pool to share with others.
    ///
    /// # Panics
    ///
    /// When the number is 0.
    #[track_caller]
    pub fn replay_pool(mut self, pool: impl Into<ReplayPool>) -> Self {
        self.repeat.pool = pool.into();
        self
    }
}

const NOT_ZERO: &str = "must be longer than zero, or each call is made twice";

fn bad(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> SettingError {
    SettingError::new("hedge", field, value, rule)
}

#[track_caller]
fn fixed(delay: Duration) -> Delay {
    if delay.is_zero() {
        panic!("{}", bad("delay", delay, NOT_ZERO));
    }
    Delay::Fixed(delay)
}

#[track_caller]
fn moving(quantile: f64) -> Delay {
    // Not a number is in no range.
    if !(quantile > 0.0 && quantile < 1.0) {
        panic!("{}", bad("quantile", quantile, "must be above 0 and below 1"));
    }
    Delay::Moving(Moving::new(MovingTerms { quantile, min_samples: 100, until_known: None }))
}

impl<S, R, C, O> Wrap<S> for HedgeLayer<R, C, O>
where
    S: Clone,
    R: Clone,
    C: Clone,
    O: Within<Hedge<S, R, C>>,
{
    type Service = <O as Within<Hedge<S, R, C>>>::Service;

    fn wrap(&self, inner: S) -> Self::Service {
        let Self { settings, repeat, classify, overall } = self;
        let hedge = Hedge::new(inner, settings.clone(), repeat.clone(), classify.clone());
        overall.within(hedge, settings.overall, &settings.watch.clock, settings.watch.name.as_ref())
    }
}

impl<S, R, C, O> Layer<S> for HedgeLayer<R, C, O>
where
    Self: Wrap<OnCall<S>>,
{
    type Service = <Self as Wrap<OnCall<S>>>::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.watch.name)
            .field("at_most", &self.at_most)
            .field("delay", &self.delay)
            .field("budget", &self.budget)
            .field("overall", &self.overall)
            .field("elsewhere", &self.elsewhere)
            .field("clock", &self.watch.clock)
            .field("observed", &self.watch.observer.is_some())
            .finish_non_exhaustive()
    }
}

impl<R: fmt::Debug, C: fmt::Debug, O> fmt::Debug for HedgeLayer<R, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("settings", &self.settings)
            .field("repeat", &self.repeat)
            .field("classify", &self.classify)
            .finish()
    }
}
