use std::fmt;
use std::sync::Arc;

#[cfg(feature = "http")]
use buttress_core::End;
use buttress_core::{Clock, Fail, Global, Name, OnCall, Store, Strict, Wrap};
use tower_layer::Layer;

use crate::gate::{Core, Gate, LIMITS, MissingKey};
use crate::policy::{Limit, LimitError};
use crate::rules::{AllowIf, DenyIf, Rules};
#[cfg(feature = "http")]
use crate::settle::ByEnd;
use crate::settle::{ByCharge, ByHead};
use crate::top::Top;
use crate::{Charge, Handle, Memory, Plans, RateLimit, RateLimitEvent, WhenFull};

/// Limits how often the service below is called. See the [crate] page for an example.
///
/// The layer is its own builder, and holds the state: one layer value is one budget. A clone shares it, and so
/// do all services that one value makes, however often `layer()` is called. The steps that change what is counted
/// ([`burst`](Self::burst), [`wait`](Self::wait), [`queue`](Self::queue), [`settle`](Self::settle),
/// [`capacity`](Self::capacity), [`when_full`](Self::when_full), [`store`](Self::store)) begin a new one.
///
/// | setting | default | why |
/// |---|---|---|
/// | `burst` | one period's worth | as "100 per second" is commonly read |
/// | `by` | [`Global`], one budget for all | needs no request type |
/// | `cost` | 1 | a call is a call |
/// | `settle` | as charged | most calls are known before |
/// | `wait`, `queue` | refuse at once | waiting costs a parked task; with either, 1 s and 1024 calls |
/// | `allow_if`, `deny_if` | nobody | |
/// | `shadow` | off | a limit is there to limit |
/// | `on_reject` | [`Fail`] | the error is what a client wants; servers take `reject::respond()` |
/// | `on_missing_key` | [`MissingKey::Shared`] | neither a way around the limit nor an outage |
/// | `capacity` | 65 536 keys | see [`Memory`] |
/// | `when_full` | [`WhenFull::EvictLeastDebt`] | no caller is refused for others |
/// | `annotate_success` | off | it costs each response time and bytes |
/// | `top_refused` | off | it keeps keys in readable form |
/// | `clock` | [`Clock::default`] | |
#[derive(Clone)]
pub struct RateLimitLayer<K = Global, J = Fail, St: Store = Memory, R = Rules> {
    gate: Gate<K, J, St, R>,
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
        Self::over(Memory::new(limit), name, Rules::default())
    }

    /// Enforces several limits at once, all or nothing: a call passes when each lets it pass, and is charged to all of
    /// them or to none. Refusals name the limit that refuses for longest, and the others that refuse too.
    ///
    /// Name the limits, so that they are told apart:
    ///
    /// ```
    /// use buttress_rate_limit::{Limit, RateLimitLayer};
    ///
    /// let layer =
    ///     RateLimitLayer::all([Limit::per_second(10).named("burst"), Limit::per_day(10_000).named("daily")]);
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// When there is no limit, more than 16, or two of one name.
    #[must_use]
    #[track_caller]
    pub fn all(limits: impl IntoIterator<Item = impl Into<Limit>>) -> Self {
        let memory = Memory::all(limits);
        let name = match &*memory.limits(0) {
            [only] => only.name().clone(),
            _ => Name::from_static("default"),
        };
        Self::over(memory, name, Rules::default())
    }

    /// Enforces what the plan of each call says: `free`, `pro`. The next step, [`Plans::plan`], says how a call's plan
    /// is found. A plan has one [`Limit`], or several as an array or a `Vec`; a limit without a name takes its plan's.
    ///
    /// ```
    /// use buttress_rate_limit::{Limit, RateLimitLayer, key};
    /// use http::Request;
    ///
    /// # struct Body;
    /// let layer = RateLimitLayer::plans([("free", Limit::per_minute(60)), ("pro", Limit::per_minute(6000))])
    ///     .plan(|req: &Request<Body>| if req.headers().contains_key("x-pro") { "pro" } else { "free" })
    ///     .by(key::header("x-api-key"));
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// When there is no plan, two of one name, or one whose limits [`all`](Self::all) would not take.
    #[track_caller]
    pub fn plans<N: Into<Name>>(plans: impl IntoIterator<Item = (N, impl crate::PlanLimits)>) -> Plans {
        Plans::new(plans)
    }
}

impl<R> RateLimitLayer<Global, Fail, Memory, R> {
    pub(crate) fn over(memory: Memory, name: Name, rules: R) -> Self {
        let single = memory.limits(0).len() == 1;
        let mut core = Core::new(memory, name, LIMITS);
        core.single = single;
        Self { gate: Gate { key: Global, reject: Fail, rules, core: Arc::new(core) } }
    }

    pub(crate) fn of_plans(memory: Memory, plans: Arc<[Name]>, rules: R) -> Self {
        let mut core = Core::new(memory, Name::from_static("default"), LIMITS * plans.len());
        core.plans = plans;
        Self { gate: Gate { key: Global, reject: Fail, rules, core: Arc::new(core) } }
    }
}

impl<K, J, R> RateLimitLayer<K, J, Memory, R> {
    /// Allows `burst` units at once; the rate stays as it is. Begins a new budget.
    ///
    /// # Panics
    ///
    /// When [`Limit::try_burst`] fails: `burst` is 0 or too large, or the limit is a window. When there are several
    /// limits: each has a burst of its own, `Limit::per_second(10).burst(20)`.
    #[must_use]
    #[track_caller]
    pub fn burst(self, burst: u64) -> Self {
        let store = &self.gate.core.store;
        assert!(
            self.gate.core.plans.is_empty() && store.limits(0).len() == 1,
            "rate limit with `burst` = {burst} over several limits: give it to each, `Limit::per_second(10).burst({burst})`"
        );
        self.relimit(|limit| limit.try_burst(burst))
    }

    /// Lets a call that comes too early wait for its turn, for up to `wait`, and then refuses: shaping. With it comes
    /// a queue of 1024 calls for each key, which [`queue`](Self::queue) changes. Begins a new budget.
    ///
    /// The limit becomes a [`LeakyBucket`](crate::LeakyBucket) with the burst that it has: with `burst(1)` calls are
    /// spaced out evenly. Calls go in the order they came, each at a moment that is known when it comes; one that could
    /// not go in time, or finds the queue full, is refused at once and changes nothing. When a call is dropped while it
    /// waits, those behind it move up by one (unless their costs differ: then its turn passes unused, if it is not the
    /// last).
    ///
    /// While a call waits, the service below is not asked (in the [`strict`](Self::strict) form it was, and is held
    /// ready). A call that waits allocates its timer and its place in the line; one that does not allocates nothing.
    /// Calls leave about a tenth of a millisecond after their turn has come, never before it
    /// ([`Sleep::precise`](buttress_core::Sleep::precise)).
    ///
    /// ```
    /// use buttress_rate_limit::RateLimitLayer;
    /// use std::time::Duration;
    ///
    /// let layer = RateLimitLayer::per_second(50).wait(Duration::from_millis(200)).queue(64);
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// When a limit is a window or a log, which have no order to wait in, or when `wait` is above 146 years.
    #[must_use]
    #[track_caller]
    pub fn wait(self, wait: std::time::Duration) -> Self {
        self.relimit(|limit| limit.try_wait(wait))
    }

    /// Lets up to `queue` calls of a key wait at a time, for up to a second unless [`wait`](Self::wait) says otherwise.
    /// Begins a new budget.
    ///
    /// # Panics
    ///
    /// When a limit is a window or a log.
    #[must_use]
    #[track_caller]
    pub fn queue(self, queue: u32) -> Self {
        self.relimit(|limit| limit.try_queue(queue))
    }

    #[track_caller]
    fn relimit(self, mut change: impl FnMut(Limit) -> Result<Limit, LimitError>) -> Self {
        let mut failed = None;
        let layer = self.restart(|store| {
            store.rebuild(|setup| {
                for limit in setup.plans.iter_mut().flatten() {
                    match change(limit.clone()) {
                        Ok(changed) => *limit = changed,
                        Err(error) => failed = Some(error),
                    }
                }
            })
        });
        if let Some(error) = failed {
            panic!("{error}");
        }
        layer
    }

    /// Holds up to `keys` keys, 65 536 unless said otherwise; the memory is set aside now. [`Memory`] says what
    /// it costs and what happens at the bound. Begins a new budget.
    ///
    /// # Panics
    ///
    /// When `keys` is 0, or above 2³².
    #[must_use]
    #[track_caller]
    pub fn capacity(self, keys: usize) -> Self {
        let store = self.gate.core.store.clone().capacity_for(keys);
        self.restart(|_| store)
    }

    /// Says what happens to a new key when there is no place for it. Begins a new budget.
    #[must_use]
    pub fn when_full(self, rule: WhenFull) -> Self {
        self.restart(|store| store.clone().when_full(rule))
    }

    /// Begins a new budget, and so new counts.
    fn restart(mut self, store: impl FnOnce(&Memory) -> Memory) -> Self {
        let old = &*self.gate.core;
        let mut core = old.with_store(store(&old.store), LIMITS * old.plans.len().max(1));
        core.single = old.single;
        self.gate.core = Arc::new(core);
        self
    }
}

impl<K, J, St: Store, C, P, L, A> RateLimitLayer<K, J, St, Rules<C, P, L, A>> {
    /// Charges what `cost` says instead of 1 per call. A cost of 0 passes and is not counted; one above the burst
    /// is refused as [`CostTooHigh`](buttress_core::RejectionKind::CostTooHigh).
    ///
    /// The closure's argument needs its type written out: `|req: &Request<Body>| …`.
    #[must_use]
    pub fn cost<Req, F>(self, cost: F) -> RateLimitLayer<K, J, St, Rules<F, P, L, A>>
    where
        F: Fn(&Req) -> u32,
    {
        self.rules(|Rules { plan, lists, settle, .. }| Rules { cost, plan, lists, settle })
    }

    /// Corrects the charge of each call to what `actual` makes of its response. What was charged before is held
    /// meanwhile, so calls at the same time cannot pass together on what is enough for one.
    ///
    /// Less is given back, as if it had never been charged, as far as it was not earned again since: each charge is
    /// kept account of for that, in a box for each key that holds something ([`Memory`]). More is owed, beyond the limit if need be, by at
    /// most one more full limit. A call that fails with an error, or is dropped before its response, stays charged as
    /// it was: nobody can tell what it took, and hanging up must not make a guess free. So does a call
    /// whose closure panics.
    ///
    /// Only failures count when the rest is settled to 0, as here for five failed logins per minute:
    ///
    /// ```
    /// use buttress_rate_limit::{RateLimitLayer, key};
    /// use http::{Response, StatusCode};
    ///
    /// # struct Body;
    /// let logins = RateLimitLayer::per_minute(5)
    ///     .by(key::client_ip())
    ///     .settle(|res: &Response<Body>| u32::from(res.status() == StatusCode::UNAUTHORIZED));
    /// # let _ = logins;
    /// ```
    #[must_use]
    pub fn settle<Res, F>(self, actual: F) -> RateLimitLayer<K, J, St, Rules<C, P, L, ByHead<F>>>
    where
        F: Fn(&Res) -> u32,
    {
        self.settling().rules(|Rules { cost, plan, lists, .. }| Rules {
            cost,
            plan,
            lists,
            settle: ByHead(actual),
        })
    }

    /// Gives each response together with its [`Charge`] to `hand_over`, which settles it now or later: in the body
    /// that it makes of the response's, in a task. The response may change its type.
    ///
    /// A call that is not counted comes with a charge that does nothing.
    #[must_use]
    pub fn settle_with<Res, Out, F>(
        self,
        hand_over: F,
    ) -> RateLimitLayer<K, J, St, Rules<C, P, L, ByCharge<F>>>
    where
        F: Fn(Res, Charge<St>) -> Out,
    {
        self.settling().rules(|Rules { cost, plan, lists, .. }| Rules {
            cost,
            plan,
            lists,
            settle: ByCharge(hand_over),
        })
    }

    /// Corrects the charge of each call at the end of its response's body, as [`settle`](Self::settle) does at the
    /// head: `actual` sees the trailers, or how the body ended instead. `None` leaves the call charged as it was.
    ///
    /// The response's body becomes [`Tracked`](buttress_http::body::Tracked).
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn settle_at_end<F>(self, actual: F) -> RateLimitLayer<K, J, St, Rules<C, P, L, ByEnd<F>>>
    where
        F: Fn(&End<'_>) -> Option<u32> + Clone,
    {
        self.settling().rules(|Rules { cost, plan, lists, .. }| Rules {
            cost,
            plan,
            lists,
            settle: ByEnd(actual),
        })
    }

    /// Puts calls on an allow list: those that `allowed` says pass uncounted. Deny lists go before allow lists.
    ///
    /// The lists are asked before anything else, and may be several.
    #[must_use]
    pub fn allow_if<Req, F>(self, allowed: F) -> RateLimitLayer<K, J, St, Rules<C, P, AllowIf<L, F>, A>>
    where
        F: Fn(&Req) -> bool,
    {
        self.rules(|Rules { cost, plan, lists, settle }| {
            let lists = AllowIf(lists, allowed);
            Rules { cost, plan, lists, settle }
        })
    }

    /// Puts calls on a deny list: those that `denied` says are refused as
    /// [`Denied`](buttress_core::RejectionKind::Denied), and counted as such only.
    #[must_use]
    pub fn deny_if<Req, F>(self, denied: F) -> RateLimitLayer<K, J, St, Rules<C, P, DenyIf<L, F>, A>>
    where
        F: Fn(&Req) -> bool,
    {
        self.rules(|Rules { cost, plan, lists, settle }| {
            let lists = DenyIf(lists, denied);
            Rules { cost, plan, lists, settle }
        })
    }
}

impl<K, J, St: Store, R> RateLimitLayer<K, J, St, R> {
    /// Gives each key a budget of its own. Keys are `key::client_ip()`, `key::header(..)` and others, tuples of
    /// them, and closures `|req: &Request<Body>| -> Option<impl KeyPart>`.
    ///
    /// The state stays: clones of one layer that differ in their keys share one table, and keys that are the same
    /// bytes share one budget. Make a layer of its own for each kind of key.
    #[must_use]
    pub fn by<Other>(self, key: Other) -> RateLimitLayer<Other, J, St, R> {
        let Gate { reject, rules, core, .. } = self.gate;
        RateLimitLayer { gate: Gate { key, reject, rules, core } }
    }

    /// Keeps account of each charge from now on.
    fn settling(mut self) -> Self {
        let old = &*self.gate.core;
        let mut core = old.with_store(old.store.clone().settling(), LIMITS * old.plans.len().max(1));
        (core.single, core.settles) = (old.single, true);
        self.gate.core = Arc::new(core);
        self
    }

    fn rules<Other>(self, change: impl FnOnce(R) -> Other) -> RateLimitLayer<K, J, St, Other> {
        let Gate { key, reject, rules, core } = self.gate;
        RateLimitLayer { gate: Gate { key, reject, rules: change(rules), core } }
    }

    /// Answers refused calls through `reject`: [`Fail`] with an error (the default), `reject::respond()` with a
    /// response, `reject::with(..)` as a closure likes.
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> RateLimitLayer<K, Other, St, R> {
        let Gate { key, rules, core, .. } = self.gate;
        RateLimitLayer { gate: Gate { key, reject, rules, core } }
    }

    /// Keeps the state in `store`, which brings limits of its own. Begins a new budget.
    #[must_use]
    pub fn store<Other: Store>(self, store: Other) -> RateLimitLayer<K, J, Other, R> {
        let Gate { key, reject, rules, core } = self.gate;
        let store = if core.settles { store.settling() } else { store };
        let core = Arc::new(core.with_store(store, LIMITS * core.plans.len().max(1)));
        RateLimitLayer { gate: Gate { key, reject, rules, core } }
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`]. A refused call then waits for the inner service
    /// too, and leaves it ready for the next.
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<K, J, St: Store, R> RateLimitLayer<K, J, St, R> {
    /// Says what to do with requests that have no key. The default is [`MissingKey::Shared`].
    #[must_use]
    pub fn on_missing_key(mut self, rule: MissingKey) -> Self {
        self.gate.core_mut().missing_key = rule;
        self
    }

    /// Only watches: what would be refused passes uncharged, is counted in [`Snapshot::shadowed`](crate::Snapshot) and
    /// told as [`Shadow`](RateLimitEvent::Shadow). To watch with one limit of several, use [`Limit::shadow`].
    ///
    /// Lists and missing keys are not concerned: what they refuse is refused.
    #[must_use]
    pub fn shadow(mut self) -> Self {
        self.gate.core_mut().shadow = true;
        self
    }

    /// Names the layer, in events, and its limit, in rejections and the `RateLimit` fields. The default is the
    /// [`Limit`]'s own name, and that is `default`. Where there are several limits, each keeps its own.
    ///
    /// Names in ASCII are the same wherever they are told. The fields can carry nothing else and write `?` for it, while
    /// `violated-policies` of a problem has the name as it is.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.gate.core_mut().name = name.into();
        self
    }

    /// Reports what is left on the answers to allowed calls too, as `on_reject` does on refusals: what is left when the
    /// answer comes, which is taken for the moment of the decision where it is there at the first poll. Off unless said
    /// otherwise. With [`Fail`] there is nowhere to report, and this changes nothing.
    #[must_use]
    pub fn annotate_success(mut self, annotate: bool) -> Self {
        self.gate.core_mut().annotate_success = annotate;
        self
    }

    /// Tells `observer` of each decision, in the task that makes the call, which waits for it. There is none
    /// unless said otherwise.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&RateLimitEvent<'_>) + Send + Sync + 'static) -> Self {
        self.gate.core_mut().observer = Some(Arc::new(observer));
        self
    }

    /// Keeps track of the `keys` keys that are refused most, for [`Handle::top_refused`]. Off unless said otherwise, as
    /// it keeps the first 64 bytes of each in readable form, be they an API key. 32 is a good number: a key that makes up
    /// more than one in 32 refusals is then among them.
    ///
    /// It costs a refusal a second reading of the key, and a look through the list under a lock; an allowed call
    /// nothing.
    ///
    /// # Panics
    ///
    /// When `keys` is 0.
    #[must_use]
    #[track_caller]
    pub fn top_refused(mut self, keys: usize) -> Self {
        assert!(keys > 0, "rate limit with `top_refused` = 0: must be at least 1 key");
        self.gate.core_mut().top = Some(Arc::new(Top::new(keys)));
        self
    }

    /// Reads the time from `clock` instead of [`Clock::default`]. Set it before the first call: the times of two
    /// clocks do not compare.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.gate.core_mut().clock = clock;
        self
    }

    /// Reads and steers the state that this layer shares with all its services.
    #[must_use]
    pub fn handle(&self) -> Handle<St> {
        Handle::new(Arc::clone(&self.gate.core))
    }
}

impl<S, K, J, St, R> Wrap<S> for RateLimitLayer<K, J, St, R>
where
    K: Clone,
    J: Clone,
    St: Store,
    R: Clone,
{
    type Service = RateLimit<S, K, J, St, R>;

    fn wrap(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, Arc::new(self.gate.clone()))
    }
}

impl<S, K, J, St, R> Layer<S> for RateLimitLayer<K, J, St, R>
where
    K: Clone,
    J: Clone,
    St: Store,
    R: Clone,
{
    type Service = RateLimit<OnCall<S>, K, J, St, R>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<K, J, St: Store + fmt::Debug, R> fmt::Debug for RateLimitLayer<K, J, St, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("name", &self.gate.core.name)
            .field("store", &self.gate.core.store)
            .field("missing_key", &self.gate.core.missing_key)
            .finish_non_exhaustive()
    }
}
