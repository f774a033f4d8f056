use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerEvent, Settings, ToEnd, classify};
use buttress_core::{AtHead, Clock, Name, OnCall, Strict, Wrap};
use buttress_retry::{Budget, Retry, RetryEvent, RetryLayer};
use buttress_timeout::{Timeout, TimeoutEvent};
use tower_layer::Layer;

use super::attempt::{Attempt, AttemptLayer};

/// Bounds, repeats, counts and cuts short the calls of an HTTP client: see [`Client`].
pub fn client() -> Client {
    Client { retry: RetryLayer::default(), attempt: AttemptLayer::new() }
}

/// The stack of a client: total timeout, retries within a budget, a breaker for each authority, the timeout of an attempt.
/// See the [module](super) for the picture, an example, and what stands below it.
///
/// It is its own builder, and holds the state: a clone shares it, and so do all services that it makes. [`named`](Self::named),
/// [`clock`](Self::clock), [`breaker`](Self::breaker), [`observe_breaker`](Self::observe_breaker) and the timeouts begin new
/// breakers, so take the [`handle`](Self::handle) after them.
///
/// | setting | default | why |
/// |---|---|---|
/// | `total_timeout` | 30 s, or three times the attempt's where that is longer | as in .NET's standard handler: nobody waits longer for a page |
/// | `attempts` | 3 in all | what the second does not help, a fourth seldom does |
/// | `budget` | 20 % of the calls and 10 per second | a fifth more load can be borne; see [`Budget`] |
/// | `retry` | idempotent requests, full jitter from 25 ms to 1 s, and the other defaults of [`RetryLayer`] | |
/// | `breaker` | [`Settings::default`] over the last 30 s, or three times the attempt's timeout where that is longer | half of 20 calls; results of calls that hang come late, and the window must hold enough of them |
/// | its key | the authority | what fails together |
/// | its capacity | 1024 authorities | |
/// | `attempt_timeout` | 10 s, or a third of the total's where that is shorter | a hung attempt leaves time for two more |
/// | `clock` | [`Clock::default`] | |
///
/// Both timeouts end with the head of the answer. A body that stalls is for an idle timeout of your own, a
/// [`TimeoutLayer`](buttress_timeout::TimeoutLayer) above or below.
///
/// # What it costs
///
/// A GET without fields and extensions allocates nothing, whether it is answered at once or after a wait (but for one where its
/// URI is a path of its own that nobody has cloned before). Other requests that may be tried again take a clone of their
/// fields and of their extensions, and one for a body, with a list where it comes in several frames. There is one timer for the attempt and one for the call, made when the call has to wait.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct Client<C = classify::Status, F = AtHead> {
    retry: RetryLayer,
    attempt: AttemptLayer<C, F>,
}

/// What a [`Client`] makes of the service `S`, for a field of your own.
///
/// ```
/// use buttress::presets::{self, ClientService};
/// use tower::Layer;
///
/// # #[derive(Clone)] struct HttpClient;
/// struct Orders {
///     client: ClientService<HttpClient>,
/// }
///
/// let orders = Orders { client: presets::client().named("orders").layer(HttpClient) };
/// # let _ = orders.client;
/// ```
pub type ClientService<S, C = classify::Status, F = AtHead> = Stack<OnCall<S>, C, F>;

type Stack<S, C, F> = Timeout<Retry<Attempt<S, C, F>>>;

impl Client {
    /// Judges calls as gRPC: by the code in the head or in the trailers, for which the breaker follows the answer's body.
    ///
    /// No gRPC call is idempotent by itself. Mark those that are with [`RetrySafe`](buttress_retry::RetrySafe).
    pub fn grpc(self) -> Client<classify::Grpc, ToEnd> {
        Client { retry: self.retry, attempt: self.attempt.grpc() }
    }
}

impl<C, F> Client<C, F> {
    /// Makes at most `attempts` attempts for a call, the first one among them; 1 never retries. The default is 3.
    ///
    /// # Panics
    ///
    /// When `attempts` is 0.
    #[track_caller]
    pub fn attempts(self, attempts: u32) -> Self {
        self.retry(|retry| retry.attempts(attempts))
    }

    /// Ends an attempt after `limit`, from its call to the head of its answer. The breaker counts it as a failure, and it may
    /// be tried again.
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

    /// Ends the call after `limit`, all attempts and waits together, at the head of the last answer; and begins no wait that
    /// would go on past it.
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

    /// Withdraws retries from `budget`. A clone of one that other layers have is shared with them.
    pub fn budget(self, budget: Budget) -> Self {
        self.retry(|retry| retry.budget(budget))
    }

    /// Changes how calls are tried again: the backoff, statuses, the memory for bodies, a field with the attempt's number.
    ///
    /// ```
    /// use buttress::presets;
    ///
    /// let stack = presets::client().retry(|retry| retry.on_status([503]).attempt_header("x-attempt"));
    /// # let _ = stack;
    /// ```
    pub fn retry(mut self, change: impl FnOnce(RetryLayer) -> RetryLayer) -> Self {
        self.retry = change(self.retry);
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
        self.retry = self.retry.named(name.clone());
        self.attempt = self.attempt.named(name);
        self
    }

    /// Reads the time from `clock` in all layers. The default is [`Clock::default`] at the time the preset is made.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.retry = self.retry.clock(clock.clone());
        self.attempt = self.attempt.clock(clock);
        self
    }

    /// Tells `observer` of each retry and each one that is skipped.
    pub fn observe_retries(self, observer: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.retry(|retry| retry.observe(observer))
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
    pub fn handle(&self) -> ClientHandle {
        ClientHandle { retries: self.retry.handle(), breaker: self.attempt.handle() }
    }

    /// Readies the inner service in `poll_ready` instead of in `call`: see [`Strict`].
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S: Clone, C: Clone, F: Clone> Wrap<S> for Client<C, F> {
    type Service = Stack<S, C, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        self.retry.clone().overall(self.attempt.total()).wrap(self.attempt.wrap(inner))
    }
}

// One `OnCall` at the bottom is enough: what stands above it is ready when it is, always.
impl<S: Clone, C: Clone, F: Clone> Layer<S> for Client<C, F> {
    type Service = ClientService<S, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

/// The handles of a [`Client`]'s layers.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    retries: buttress_retry::Handle,
    breaker: buttress_circuit_breaker::Handle,
}

impl ClientHandle {
    /// What was tried again and what was not, and what is left of the budget.
    #[must_use]
    pub const fn retries(&self) -> &buttress_retry::Handle {
        &self.retries
    }

    /// The breakers: all of them, and [`key(authority)`](buttress_circuit_breaker::Handle::key) is one.
    #[must_use]
    pub const fn breaker(&self) -> &buttress_circuit_breaker::Handle {
        &self.breaker
    }
}
