use std::fmt;
use std::sync::Arc;

use buttress_core::{Clock, Costed, Fail, Global, Name, OnCall, Store, Strict, Wrap};
use tower_layer::Layer;

use crate::gate::{Gate, MissingKey};
use crate::policy::Limit;
use crate::{Handle, Memory, RateLimit, RateLimitEvent};

/// Limits how often the service below is called. See the [crate] page for an example.
///
/// The layer is its own builder, and holds the state: one layer value is one budget. A clone shares it, and so
/// do all services that one value makes, however often `layer()` is called. The steps that change what is counted
/// ([`burst`](Self::burst), [`capacity`](Self::capacity), [`store`](Self::store)) begin a new one.
///
/// | setting | default | why |
/// |---|---|---|
/// | `burst` | one period's worth | as "100 per second" is commonly read |
/// | `by` | [`Global`], one budget for all | needs no request type |
/// | `cost` | 1 | a call is a call |
/// | `on_reject` | [`Fail`] | the error is what a client wants; servers take `reject::respond()` |
/// | `on_missing_key` | [`MissingKey::Shared`] | neither a way around the limit nor an outage |
/// | `capacity` | 65 536 keys | see [`Memory`] |
/// | `annotate_success` | off | it costs each response time and bytes |
/// | `clock` | [`Clock::default`] | |
#[derive(Clone)]
pub struct RateLimitLayer<K = Global, J = Fail, St = Memory> {
    gate: Gate<K, J, St>,
}

impl RateLimitLayer {
    /// Allows `n` units per second, and as many at once: a token bucket.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_new`] fails: `n` is 0 or above 29·10⁹.
    #[must_use]
    #[track_caller]
    pub fn per_second(n: u64) -> Self {
        Self::new(Limit::per_second(n))
    }

    /// Allows `n` units per minute, and as many at once: a token bucket.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_new`] fails.
    #[must_use]
    #[track_caller]
    pub fn per_minute(n: u64) -> Self {
        Self::new(Limit::per_minute(n))
    }

    /// Allows `n` units per hour, and as many at once: a token bucket.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_new`] fails.
    #[must_use]
    #[track_caller]
    pub fn per_hour(n: u64) -> Self {
        Self::new(Limit::per_hour(n))
    }

    /// Allows `n` units per day, and as many at once: a token bucket.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_new`] fails.
    #[must_use]
    #[track_caller]
    pub fn per_day(n: u64) -> Self {
        Self::new(Limit::per_day(n))
    }

    /// Enforces `limit`: a [`Limit`], or an algorithm such as [`FixedWindow`](crate::FixedWindow).
    #[must_use]
    pub fn new(limit: impl Into<Limit>) -> Self {
        let limit = limit.into();
        let name = limit.name().clone();
        Self { gate: Gate::new(Global, Fail, Memory::new(limit), name) }
    }
}

impl<K, J> RateLimitLayer<K, J, Memory> {
    /// Allows `burst` units at once; the rate stays as it is. Begins a new budget.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_burst`] fails: `burst` is 0 or too large, or the limit is a fixed window.
    #[must_use]
    #[track_caller]
    pub fn burst(mut self, burst: u64) -> Self {
        let limit = self.gate.store.limit().burst(burst);
        self.gate.restart(|store| store.relimit(limit));
        self
    }

    /// Holds up to `keys` keys, 65 536 unless said otherwise; the memory is set aside now. [`Memory`] says what
    /// it costs and what happens at the bound. Begins a new budget.
    ///
    /// # Panics
    ///
    /// When `keys` is 0, or above 2³².
    #[must_use]
    #[track_caller]
    pub fn capacity(mut self, keys: usize) -> Self {
        self.gate.restart(|store| store.clone().capacity_for(keys));
        self
    }
}

impl<K, J, St> RateLimitLayer<K, J, St> {
    /// Gives each key a budget of its own. Keys are `key::client_ip()`, `key::header(..)` and others, tuples of
    /// them, and closures `|req: &Request<Body>| -> Option<impl KeyPart>`.
    ///
    /// The state stays: clones of one layer that differ in their keys share one table, and keys that are the same
    /// bytes share one budget. Make a layer of its own for each kind of key.
    #[must_use]
    pub fn by<Other>(self, key: Other) -> RateLimitLayer<Other, J, St> {
        RateLimitLayer { gate: self.gate.map(|_, reject, store| (key, reject, store)) }
    }

    /// Charges what `cost` says instead of 1 per call. A cost of 0 passes and is not counted; one above the burst
    /// is refused as [`CostTooHigh`](buttress_core::RejectionKind::CostTooHigh).
    ///
    /// The closure's argument needs its type written out: `|req: &Request<Body>| …`.
    #[must_use]
    pub fn cost<F>(self, cost: F) -> RateLimitLayer<Costed<K, F>, J, St> {
        RateLimitLayer { gate: self.gate.map(|key, reject, store| (Costed::new(key, cost), reject, store)) }
    }

    /// Says what to do with requests that have no key. The default is [`MissingKey::Shared`].
    #[must_use]
    pub fn on_missing_key(mut self, rule: MissingKey) -> Self {
        self.gate.missing_key = rule;
        self
    }

    /// Answers refused calls through `reject`: [`Fail`] with an error (the default), `reject::respond()` with a
    /// response, `reject::with(..)` as a closure likes.
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> RateLimitLayer<K, Other, St> {
        RateLimitLayer { gate: self.gate.map(|key, _, store| (key, reject, store)) }
    }

    /// Keeps the state in `store`, which brings a limit of its own. Begins a new budget.
    #[must_use]
    pub fn store<Other: Store>(self, store: Other) -> RateLimitLayer<K, J, Other> {
        let mut gate = self.gate.map(|key, reject, _| (key, reject, store));
        gate.tally = Arc::default();
        RateLimitLayer { gate }
    }

    /// Names the limit, in rejections, events and the `RateLimit` fields. The default is the [`Limit`]'s own
    /// name, and that is `default`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.gate.name = name.into();
        self
    }

    /// Reports what is left on the answers to allowed calls too, as `on_reject` does on refusals. Off unless said
    /// otherwise. With [`Fail`] there is nowhere to report, and this changes nothing.
    #[must_use]
    pub fn annotate_success(mut self, annotate: bool) -> Self {
        self.gate.annotate_success = annotate;
        self
    }

    /// Tells `observer` of each decision, in the task that makes the call, which waits for it. There is none
    /// unless said otherwise.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&RateLimitEvent<'_>) + Send + Sync + 'static) -> Self {
        self.gate.observer = Some(Arc::new(observer));
        self
    }

    /// Reads the time from `clock` instead of [`Clock::default`]. Set it before the first call: the times of two
    /// clocks do not compare.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.gate.clock = clock;
        self
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`]. A refused call then waits for the inner service
    /// too, and leaves it ready for the next.
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<K, J, St: Clone> RateLimitLayer<K, J, St> {
    /// Reads and steers the state that this layer shares with all its services.
    #[must_use]
    pub fn handle(&self) -> Handle<St> {
        Handle::new(self.gate.store.clone(), Arc::clone(&self.gate.tally), self.gate.clock.clone())
    }
}

impl<S, K, J, St> Wrap<S> for RateLimitLayer<K, J, St>
where
    K: Clone,
    J: Clone,
    St: Clone,
{
    type Service = RateLimit<S, K, J, St>;

    fn wrap(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, Arc::new(self.gate.clone()))
    }
}

impl<S, K, J, St> Layer<S> for RateLimitLayer<K, J, St>
where
    K: Clone,
    J: Clone,
    St: Clone,
{
    type Service = RateLimit<OnCall<S>, K, J, St>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<K, J, St: fmt::Debug> fmt::Debug for RateLimitLayer<K, J, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("name", &self.gate.name)
            .field("store", &self.gate.store)
            .field("missing_key", &self.gate.missing_key)
            .finish_non_exhaustive()
    }
}
