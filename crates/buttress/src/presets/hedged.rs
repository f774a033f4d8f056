use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerEvent, Settings, ToEnd, classify};
use buttress_core::{AtHead, Clock, Name, OnCall, Strict, Wrap};
use buttress_retry::{Budget, Hedge, HedgeEvent, HedgeHandle, HedgeLayer};
use buttress_timeout::{Timeout, TimeoutEvent};
use tower_layer::Layer;

use super::attempt::{Attempt, AttemptLayer};

/// Bounds, hedges, counts and cuts short the calls of an HTTP client: see [`HedgedClient`].
pub fn hedged_client() -> HedgedClient {
    let hedge = HedgeLayer::after_quantile(0.95).until_known(Duration::from_secs(2));
    HedgedClient { hedge, attempt: AttemptLayer::new() }
}

/// The stack of a client whose calls are slow by chance: total timeout, hedges within a budget, a breaker for each authority,
/// the timeout of an attempt. See the [module](super) for the picture, and what stands below it.
///
/// A call that takes longer than 95 of 100 is made a second time, and the first answer is given. One that fails is made again
/// at once, so that there are two attempts at most, and no retries besides. Take [`client`](super::client) where failures are
/// what hurts, and this where the tail is and something below chooses among several machines.
///
/// It is its own builder, and holds the state: a clone shares it, and so do all services that it makes. [`named`](Self::named),
/// [`clock`](Self::clock), [`breaker`](Self::breaker), [`observe_breaker`](Self::observe_breaker) and the timeouts begin new
/// breakers, so take the [`handle`](Self::handle) after them.
///
/// | setting | default | why |
/// |---|---|---|
/// | `total_timeout` | 30 s, or three times the attempt's where that is longer | as in .NET's standard handler |
/// | `hedge` | after the time of 95 of 100 calls; after 2 s while fewer than 100 in 10 s are known | 5 % more calls at most; 2 s is .NET's |
/// | `hedges` | 1 for a call | what the second attempt does not help, a third seldom does |
/// | `budget` | 5 % of the calls and 1 per second | what a quantile of 0.95 asks for |
/// | `breaker` | [`Settings::default`] over the last 30 s, or three times the attempt's timeout where that is longer, for each authority | as in [`Client`](super::Client) |
/// | `attempt_timeout` | 10 s, or a third of the total's where that is shorter | |
/// | `clock` | [`Clock::default`] | |
///
/// The attempt that loses is dropped, and the breaker counts it as nothing. Both timeouts end with the head of the answer.
///
/// # What it costs
///
/// As [`Client`](super::Client), and a third timer, that of the hedge.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct HedgedClient<C = classify::Status, F = AtHead> {
    hedge: HedgeLayer,
    attempt: AttemptLayer<C, F>,
}

/// What a [`HedgedClient`] makes of the service `S`, for a field of your own.
pub type HedgedClientService<S, C = classify::Status, F = AtHead> = Stack<OnCall<S>, C, F>;

type Stack<S, C, F> = Timeout<Hedge<Attempt<S, C, F>>>;

impl HedgedClient {
    /// Judges calls as gRPC: by the code in the head or in the trailers, for which the breaker follows the answer's body.
    ///
    /// No gRPC call is idempotent by itself. Mark those that are with [`RetrySafe`](buttress_retry::RetrySafe).
    pub fn grpc(self) -> HedgedClient<classify::Grpc, ToEnd> {
        let Self { hedge, attempt } = self;
        HedgedClient { hedge, attempt: attempt.grpc() }
    }
}

impl<C, F> HedgedClient<C, F> {
    /// Makes at most `hedges` further attempts for a call. The default is 1.
    ///
    /// # Panics
    ///
    /// When `hedges` is 0, or `u32::MAX`.
    #[track_caller]
    pub fn hedges(self, hedges: u32) -> Self {
        self.hedge(|hedge| hedge.at_most(hedges))
    }

    /// Ends an attempt after `limit`, from its call to the head of its answer. The breaker counts it as a failure.
    ///
    /// # Panics
    ///
    /// When `limit` is zero, not below a [`total_timeout`](Self::total_timeout) that was given, or above half of the window of
    /// a [`breaker`](Self::breaker) that was given. [`Duration::MAX`] means none: then a call that hangs until the total is over only went away, to the breaker, and does not open it.
    #[track_caller]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt = self.attempt.attempt_timeout(limit);
        self
    }

    /// Ends the call after `limit`, all attempts together, at the head of the answer; and begins no hedge after it, nor waits for
    /// one that would begin then.
    ///
    /// # Panics
    ///
    /// When `limit` is below three nanoseconds, or not above an [`attempt_timeout`](Self::attempt_timeout) that was given.
    /// [`Duration::MAX`] means none.
    #[track_caller]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.attempt = self.attempt.total_timeout(limit);
        self
    }

    /// Withdraws hedges from `budget`. A clone of one that other layers have is shared with them.
    pub fn budget(self, budget: Budget) -> Self {
        self.hedge(|hedge| hedge.budget(budget))
    }

    /// Changes how calls are hedged: the delay or the quantile, what there is to go by until that is known.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use buttress::presets;
    ///
    /// let stack = presets::hedged_client().hedge(|hedge| hedge.delay(Duration::from_millis(50)));
    /// # let _ = stack;
    /// ```
    pub fn hedge(mut self, change: impl FnOnce(HedgeLayer) -> HedgeLayer) -> Self {
        self.hedge = change(self.hedge);
        self
    }

    /// Opens and closes the breakers by `settings`, whose window is then as it says there, 10 s unless you change it. It should
    /// be two attempts long at least: calls that hang have a result once an attempt is over, and shorter windows seldom hold
    /// enough of those.
    ///
    /// # Panics
    ///
    /// When the settings cannot work, see [`Settings::rules`], or judge by a window of time that is below twice an
    /// [`attempt_timeout`](Self::attempt_timeout) that was given.
    #[track_caller]
    pub fn breaker(mut self, settings: Settings) -> Self {
        self.attempt = self.attempt.settings(settings);
        self
    }

    /// Names the layers, in events and rejections. The default is none; the breaker's is `default`.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        let name = name.into();
        self.hedge = self.hedge.named(name.clone());
        self.attempt = self.attempt.named(name);
        self
    }

    /// Reads the time from `clock` in all layers. The default is [`Clock::default`] at the time the preset is made.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.hedge = self.hedge.clock(clock.clone());
        self.attempt = self.attempt.clock(clock);
        self
    }

    /// Tells `observer` of each hedge and each one that is skipped.
    pub fn observe_hedges(self, observer: impl Fn(&HedgeEvent<'_>) + Send + Sync + 'static) -> Self {
        self.hedge(|hedge| hedge.observe(observer))
    }

    /// Tells `observer` of each transition of a breaker, and of each call that one refuses.
    pub fn observe_breaker(
        mut self,
        observer: impl Fn(&CircuitBreakerEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.attempt = self.attempt.observe_breaker(observer);
        self
    }

    /// Tells `observer` of each attempt that took too long. That a call did, its error says.
    pub fn observe_attempts(mut self, observer: impl Fn(&TimeoutEvent<'_>) + Send + Sync + 'static) -> Self {
        self.attempt = self.attempt.observe_attempts(observer);
        self
    }

    /// Reads and steers what all services of this stack share.
    #[must_use]
    pub fn handle(&self) -> HedgedClientHandle {
        HedgedClientHandle { hedges: self.hedge.handle(), breaker: self.attempt.handle() }
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`].
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S: Clone, C: Clone, F: Clone> Wrap<S> for HedgedClient<C, F> {
    type Service = Stack<S, C, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        self.hedge.clone().overall(self.attempt.total()).wrap(self.attempt.wrap(inner))
    }
}

impl<S: Clone, C: Clone, F: Clone> Layer<S> for HedgedClient<C, F> {
    type Service = HedgedClientService<S, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

/// The handles of a [`HedgedClient`]'s layers.
#[derive(Clone, Debug)]
pub struct HedgedClientHandle {
    hedges: HedgeHandle,
    breaker: buttress_circuit_breaker::Handle,
}

impl HedgedClientHandle {
    /// What was hedged and what was not, the delay, and what is left of the budget.
    #[must_use]
    pub const fn hedges(&self) -> &HedgeHandle {
        &self.hedges
    }

    /// The breakers: all of them, and [`key(authority)`](buttress_circuit_breaker::Handle::key) is one.
    #[must_use]
    pub const fn breaker(&self) -> &buttress_circuit_breaker::Handle {
        &self.breaker
    }
}
