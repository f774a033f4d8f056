use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{ByCause, Chance, Clock, Name, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use {crate::ReplayPool, http::HeaderName, http::StatusCode};

use crate::handle::Tally;
use crate::within::{NoTimeout, WithTimeout, Within};
use crate::{Answers, Backoff, Budget, Cloning, Handle, Http, Replaying, Retry, RetryEvent, SettingError};

/// Tries again what fails, where that can do no harm. See the [crate] page for an example and the rule.
///
/// The layer is its own builder. It holds the budget, the memory for bodies, and the counts: a clone shares them, and so do
/// all services that it makes, however often `layer()` is called. Give [`budget`](Self::budget) and `replay_pool` to have
/// others.
///
/// | setting | default | why |
/// |---|---|---|
/// | `attempts` | 3 in all | what the second does not help, a fourth seldom does |
/// | `backoff` | exponential, 25 ms to 1 s, full jitter | see [`Backoff`] |
/// | `budget` | 20 % of the calls and 10 per second | see [`Budget`] |
/// | `per_try_timeout` | none | how long a call may take is known to you alone |
/// | `overall` | none, besides the deadline in a request's `Facts` | as above |
/// | `retry_after_cap` | 10 s | few callers wait longer |
/// | `classify` | [`Answers`] for HTTP, [`ByCause`] for others | |
/// | `elsewhere` | no | most often nothing below chooses among endpoints |
/// | `attempt_header`, `no_retry_header` | none | no standard names them |
/// | `replay_limit` | 64 KiB for each request | as in linkerd: most bodies that are retried are short |
/// | `replay_pool` | 64 MiB for all of them | a thousand of the longest |
/// | `clock` | [`Clock::default`] | |
///
/// `on_status`, `on_grpc`, the fields and `replay_…` are there for HTTP (feature `http`).
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct RetryLayer<R = Http, C = Answers, T = NoTimeout, O = NoTimeout> {
    settings: Settings,
    repeat: R,
    classify: C,
    per_try: T,
    overall: O,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) budget: Budget,
    pub(crate) retry_after_cap: Duration,
    pub(crate) per_try: Duration,
    pub(crate) overall: Duration,
    pub(crate) elsewhere: bool,
    pub(crate) chance: Arc<Chance>,
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

type Observer = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

impl Watch {
    pub(crate) fn tell<'a>(&'a self, event: impl FnOnce(Option<&'a Name>) -> RetryEvent<'a>) {
        if let Some(observer) = &self.observer {
            observer(&event(self.name.as_ref()));
        }
    }
}

impl Settings {
    fn new() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::default(),
            budget: Budget::default(),
            retry_after_cap: Duration::from_secs(10),
            per_try: Duration::MAX,
            overall: Duration::MAX,
            elsewhere: false,
            chance: Arc::default(),
            tally: Arc::default(),
            watch: Watch { clock: Clock::default(), name: None, observer: None },
        }
    }
}

#[cfg(feature = "http")]
impl Default for RetryLayer {
    /// Retries HTTP requests, idempotent ones alone, with the defaults of the table above.
    fn default() -> Self {
        Self::of(Http::default(), Answers::default())
    }
}

impl<F> RetryLayer<Cloning<F>, ByCause> {
    /// Retries requests that are `Clone`; the closure says which of them may be carried out twice. Others are tried again
    /// only where an error shows that nothing was sent ([`NothingSent`](buttress_core::NothingSent)).
    ///
    /// ```
    /// use buttress_retry::RetryLayer;
    ///
    /// #[derive(Clone)]
    /// enum Command {
    ///     Get(String),
    ///     Append(String),
    /// }
    ///
    /// // It carries nothing between layers.
    /// impl buttress_core::HasFacts for Command {}
    ///
    /// let layer = RetryLayer::cloning(|command: &Command| matches!(command, Command::Get(_)));
    /// # let _ = layer;
    /// ```
    ///
    /// The closure names the type of the request, as above.
    pub fn cloning<Req>(is_idempotent: F) -> Self
    where
        F: Fn(&Req) -> bool,
    {
        Self::of(Cloning::new(is_idempotent), ByCause)
    }
}

impl RetryLayer<Replaying, ByCause> {
    /// Retries requests that say themselves how they are sent again: see [`Replay`](crate::Replay).
    pub fn replaying() -> Self {
        Self::of(Replaying, ByCause)
    }
}

impl<R, C> RetryLayer<R, C> {
    fn of(repeat: R, classify: C) -> Self {
        Self { settings: Settings::new(), repeat, classify, per_try: NoTimeout, overall: NoTimeout }
    }
}

impl<R, C, T, O> RetryLayer<R, C, T, O> {
    /// Makes at most `attempts` attempts for a call, the first one among them; 1 never retries.
    ///
    /// # Panics
    ///
    /// When `attempts` is 0.
    #[track_caller]
    pub fn attempts(mut self, attempts: u32) -> Self {
        if attempts == 0 {
            panic!("{}", bad("attempts", attempts, "must be at least 1, the first attempt"));
        }
        self.settings.attempts = attempts;
        self
    }

    /// Waits as `backoff` says between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Withdraws retries from `budget`. A clone of one that other layers have is shared with them; hedges may share it
    /// too.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// Waits at most this long because the service asks for it (`Retry-After`, a gRPC pushback); when it asks for more the
    /// call ends with the answer that is there. A wait is never cut short.
    pub fn retry_after_cap(mut self, cap: Duration) -> Self {
        self.settings.retry_after_cap = cap;
        self
    }

    /// Ends each attempt after `limit`, from its call to the head of its answer.
    ///
    /// The service below is wrapped into a [`Timeout`](buttress_timeout::Timeout), and so its error type must have a place
    /// for a rejection (lift it at the bottom of the stack). What stands below this layer anyway, such as a
    /// `TimeoutLayer` of your own with an idle time, does the same and more.
    ///
    /// # Panics
    ///
    /// When `limit` is zero, or not below [`overall`](Self::overall).
    #[track_caller]
    pub fn per_try_timeout(mut self, limit: Duration) -> RetryLayer<R, C, WithTimeout, O> {
        self.settings.per_try = limit;
        self.settings.check_times();
        let Self { settings, repeat, classify, overall, .. } = self;
        RetryLayer { settings, repeat, classify, per_try: WithTimeout, overall }
    }

    /// Ends the call after `limit`, all attempts and waits together, at the head of the last answer; and begins no wait
    /// that would go on past it.
    ///
    /// This layer's service is wrapped into a [`Timeout`](buttress_timeout::Timeout), and so the error type must have a
    /// place for a rejection. A deadline that a `DeadlineLayer` above has put into the request's
    /// [`Facts`](buttress_core::Facts) is kept in any case.
    ///
    /// # Panics
    ///
    /// When `limit` is zero, or not above [`per_try_timeout`](Self::per_try_timeout).
    #[track_caller]
    pub fn overall(mut self, limit: Duration) -> RetryLayer<R, C, T, WithTimeout> {
        self.settings.overall = limit;
        self.settings.check_times();
        let Self { settings, repeat, classify, per_try, .. } = self;
        RetryLayer { settings, repeat, classify, per_try, overall: WithTimeout }
    }

    /// Judges by `classify` which results are worth another attempt: failures and soft failures are.
    ///
    /// Whatever it says, what one of our own layers refused is not tried again here, and neither is what asks not to be.
    pub fn classify<C2>(self, classify: C2) -> RetryLayer<R, C2, T, O> {
        let Self { settings, repeat, per_try, overall, .. } = self;
        RetryLayer { settings, repeat, classify, per_try, overall }
    }

    /// Says that something below chooses among several endpoints, a balancer say. A call that one endpoint's breaker or
    /// limit refused, and that may be tried elsewhere ([`Rejection::elsewhere`](buttress_core::Rejection)), is then tried
    /// again at once, and at no cost to the budget: no service has seen it. It counts as an attempt. Where one has (a layer
    /// below made an attempt before it was refused), it takes from the budget, and may not go where it must not be repeated.
    ///
    /// Each attempt then also says where it goes ([`Facts::chose`](buttress_core::Facts::chose)), so that the next one knows
    /// ([`Facts::tried`](buttress_core::Facts)), whether it failed with an answer, with an error or by time. That costs each
    /// call that may be tried again a few allocations.
    ///
    /// By default a refusal of ours is not tried again: it would be refused again.
    pub fn elsewhere(mut self) -> Self {
        self.settings.elsewhere = true;
        self
    }

    /// Names the layer, in events and in the rejections of its timeouts. The default is no name.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.watch.name = Some(name.into());
        self
    }

    /// Tells `observer` of each retry and each one that is skipped. The default is none.
    pub fn observe(mut self, observer: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.settings.watch.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock`. The default is [`Clock::default`] at the time the layer is made.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.watch.clock = clock;
        self
    }

    /// Draws the jitter from a generator with this seed, for tests that are to repeat. The default seed is random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.chance = Arc::new(Chance::new(Some(seed)));
        self
    }

    /// Reads what the layer does, while its services do it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let Settings { tally, budget, watch, .. } = &self.settings;
        Handle::new(tally.clone(), budget.clone(), watch.clock.clone())
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`]. That is for the first attempt; each
    /// further one readies an instance of its own.
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<T, O> RetryLayer<Http, Answers, T, O> {
    /// Tries again what is answered with one of these statuses, and no other.
    ///
    /// ```
    /// use buttress_retry::RetryLayer;
    /// use http::StatusCode;
    ///
    /// let layer = RetryLayer::default().on_status([503, 504]);
    /// let layer = layer.on_status([StatusCode::SERVICE_UNAVAILABLE]);
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// When one is no status, or below 400.
    #[track_caller]
    pub fn on_status<S>(mut self, statuses: impl IntoIterator<Item = S>) -> Self
    where
        S: TryInto<StatusCode> + fmt::Debug,
    {
        self.classify = self.classify.with_statuses("retry", statuses);
        self
    }

    /// Tries again what is answered with one of these gRPC codes, and no other: numbers, or `tonic::Code`s.
    ///
    /// # Panics
    ///
    /// When one is not from 1 to 16.
    #[track_caller]
    pub fn on_grpc<N: Into<i32>>(mut self, codes: impl IntoIterator<Item = N>) -> Self {
        self.classify = self.classify.with_codes("retry", codes);
        self
    }
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<C, T, O> RetryLayer<Http, C, T, O> {
    /// Keeps up to `bytes` of a request's body, to send it again. A longer one goes out once. With 0 only requests without
    /// a body are retried.
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

    /// Writes the number of the attempt into the field `name` of each retry, from 2 on, so that a server that is hard
    /// pressed can tell them apart. (gRPC requests have `grpc-previous-rpc-attempts` in any case.)
    ///
    /// # Panics
    ///
    /// When `name` is not the name of a field.
    #[track_caller]
    pub fn attempt_header<N>(mut self, name: N) -> Self
    where
        N: TryInto<HeaderName> + fmt::Debug,
    {
        self.repeat.attempt_header = Some(field("retry", "attempt_header", name));
        self
    }

    /// Does not try again what is answered with the field `name`, and writes it (with the value 1) into answers that were
    /// tried as often as they may be, so that clients further up do not try either. Inside the process
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
        self.repeat.no_retry_header = Some(field("retry", "no_retry_header", name));
        self
    }
}

#[cfg(feature = "http")]
#[track_caller]
pub(crate) fn field<N>(layer: &'static str, setting: &'static str, name: N) -> HeaderName
where
    N: TryInto<HeaderName> + fmt::Debug,
{
    let given = format!("{name:?}");
    let Ok(name) = name.try_into() else {
        let rule = "must be the name of a field";
        panic!("{}", SettingError::new(layer, setting, format_args!("{given}"), rule));
    };
    name
}

fn bad(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> SettingError {
    SettingError::new("retry", field, value, rule)
}

impl Settings {
    #[track_caller]
    fn check_times(&self) {
        const RULE: &str = "must be longer than zero";
        let Self { per_try, overall, .. } = *self;
        if per_try.is_zero() {
            panic!("{}", bad("per_try_timeout", per_try, RULE));
        }
        if overall.is_zero() {
            panic!("{}", bad("overall", overall, RULE));
        }
        if per_try >= overall && per_try != Duration::MAX {
            let rule = "must be below `overall`, or it ends no attempt";
            panic!("{}", bad("per_try_timeout", per_try, rule));
        }
    }
}

impl<S, R, C, T, O> Wrap<S> for RetryLayer<R, C, T, O>
where
    R: Clone,
    C: Clone,
    T: Within<S, Service: Clone>,
    O: Within<Retry<<T as Within<S>>::Service, R, C>>,
{
    type Service = <O as Within<Retry<<T as Within<S>>::Service, R, C>>>::Service;

    fn wrap(&self, inner: S) -> Self::Service {
        let Self { settings, repeat, classify, per_try, overall } = self;
        let Watch { clock, name, .. } = &settings.watch;
        let inner = per_try.within(inner, settings.per_try, clock, name.as_ref());
        let retry = Retry::new(inner, settings.clone(), repeat.clone(), classify.clone());
        overall.within(retry, settings.overall, clock, name.as_ref())
    }
}

impl<S, R, C, T, O> Layer<S> for RetryLayer<R, C, T, O>
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
        let Self { attempts, backoff, budget, retry_after_cap, per_try, overall, elsewhere, watch, .. } =
            self;
        f.debug_struct("Settings")
            .field("name", &watch.name)
            .field("attempts", attempts)
            .field("backoff", backoff)
            .field("budget", budget)
            .field("per_try_timeout", per_try)
            .field("overall", overall)
            .field("retry_after_cap", retry_after_cap)
            .field("elsewhere", elsewhere)
            .field("clock", &watch.clock)
            .field("observed", &watch.observer.is_some())
            .finish_non_exhaustive()
    }
}

impl<R: fmt::Debug, C: fmt::Debug, T, O> fmt::Debug for RetryLayer<R, C, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("settings", &self.settings)
            .field("repeat", &self.repeat)
            .field("classify", &self.classify)
            .finish()
    }
}
