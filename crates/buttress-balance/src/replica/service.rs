use std::fmt;
use std::iter::once;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{
    Access, AccessOf, BySafety, Clock, Fail, Global, HashSink, Key, Name, OnCall, Reject, Rejection,
    RejectionKind, draw,
};
use tower_service::Service;

use super::future::Write;
use super::rules::{By, Chosen, Rules, Shared, WRITES};
use super::{
    CarriedTokens, NoTokens, ReplicaError, ReplicaPolicy, ReplicaRules, ReplicaSplitEvent,
    ReplicaSplitFuture, ReplicaSplitHandle, Route, Tokens, WrittenTokens,
};
use crate::{Hashing, Node, Order, RoundRobin};

/// Sends writes to a primary and reads to its replicas, so that each one's own writes are read back.
///
/// After a write, reads of the same key go to the primary for the lag bound and a margin, or, where writes answer with a position
/// ([`tokens`](Self::tokens)), until a replica has reported that position. What is one key is up to [`by`](Self::by): a record, a
/// user, a session. Replicas above the lag bound are skipped; where there is no other, the primary serves.
///
/// | | default | other |
/// |---|---|---|
/// | reads and writes are told apart by | the method of an HTTP request | [`access`](Self::access) |
/// | reads of one key see its writes; a key is | all calls together | [`by`](Self::by) |
/// | after a write the primary serves | for 2 s + 500 ms | [`ReplicaRules`], or until a token is reported: [`tokens`](Self::tokens) |
/// | of the replicas is used | the next, round robin | any [`Order`]: [`order`](Self::order), [`order_at_random`](Self::order_at_random), [`order_by_key`](Self::order_by_key) |
/// | no replica is within the bound | the primary serves | [`ReplicaRules::refusing`] |
/// | a refusal is | an error | [`on_reject`](Self::on_reject) |
///
/// Replicas are used from their first report of lag on ([`ReplicaSplitHandle::report_lag`]); where nobody reports, say
/// [`ReplicaRules::trusting`].
///
/// All clones share the services and what is known of them. Each call clones the one service that it goes to, readies that
/// and calls it, so `poll_ready` is always ready and holds nothing. Processes do not tell each other of their writes: where
/// calls of a key come to several, let the caller keep the token ([`carried_tokens`](Self::carried_tokens)).
///
/// What this promises is that a caller reads what it wrote, once the write was answered. Two reads of one key may go to two replicas, of
/// which the second is behind the first; an [`order_by_key`](Self::order_by_key) keeps a key's reads on one replica as long as
/// that is within the bound.
///
/// ```
/// use buttress_balance::{ReplicaRules, ReplicaSplit};
/// use buttress_core::BoxError;
/// use http::{Request, Response};
/// use std::time::Duration;
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let pool = |name: &'static str| service_fn(move |_: Request<()>| async move { Ok::<_, BoxError>(Response::new(name)) });
/// let store = ReplicaSplit::new(pool("primary"), [pool("replica")], ReplicaRules::default())?
///     .by(|req: &Request<()>| req.headers().get("x-session").cloned());
/// store.handle().report_lag(0, Duration::from_millis(20));
///
/// let read = || Request::get("/cart").header("x-session", "s17").body(()).unwrap();
/// let write = Request::put("/cart").header("x-session", "s17").body(()).unwrap();
/// assert_eq!(*store.clone().oneshot(read()).await?.body(), "replica");
/// assert_eq!(*store.clone().oneshot(write).await?.body(), "primary");
/// assert_eq!(*store.clone().oneshot(read()).await?.body(), "primary");
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Nothing is held between calls. A write that fails or is dropped holds its key at the primary as one that was answered
/// without a token.
pub struct ReplicaSplit<S, K = Global, A = BySafety, T = NoTokens, J = Fail> {
    /// The primary, and behind it the replicas.
    services: Arc<[S]>,
    shared: Arc<Shared>,
    rules: Arc<Rules<K, A, T, J>>,
}

impl<S> ReplicaSplit<S> {
    /// Over a primary and its replicas.
    ///
    /// # Errors
    ///
    /// When there are no replicas, or there is no room for what is to be remembered.
    pub fn new(
        primary: S,
        replicas: impl IntoIterator<Item = S>,
        rules: ReplicaRules,
    ) -> Result<Self, ReplicaError> {
        let services: Arc<[S]> = once(primary).chain(replicas).collect();
        let policy = ReplicaPolicy::new(services.len() - 1, rules)?;
        let nodes: Vec<Node> = (1..services.len()).map(|at| Node::new(format!("{at:08}"))).collect();
        let turns = RoundRobin::new(&nodes)?;
        let rules = Rules {
            key: Global,
            access: BySafety,
            tokens: NoTokens,
            reject: Fail,
            name: Name::from_static("replicas"),
            order: Chosen::new(turns, By::Turn),
        };
        let shared = Arc::new(Shared::new(policy, Clock::default()));
        Ok(Self { services, shared, rules: Arc::new(rules) })
    }
}

impl<S, K: Clone, A: Clone, T: Clone, J: Clone> ReplicaSplit<S, K, A, T, J> {
    fn ruled<K2, A2, T2, J2>(
        self,
        rules: impl FnOnce(Rules<K, A, T, J>) -> Rules<K2, A2, T2, J2>,
    ) -> ReplicaSplit<S, K2, A2, T2, J2> {
        let Self { services, shared, rules: former } = self;
        ReplicaSplit { services, shared, rules: Arc::new(rules(Arc::unwrap_or_clone(former))) }
    }

    /// Keeps reads behind the writes of the same key: of a record, or of a session. A write without a key holds all reads at the primary,
    /// and a read without a key is held by no other.
    #[must_use]
    pub fn by<K2>(self, key: K2) -> ReplicaSplit<S, K2, A, T, J> {
        self.ruled(|Rules { access, tokens, reject, name, order, .. }| Rules {
            key,
            access,
            tokens,
            reject,
            name,
            order,
        })
    }

    /// Tells reads from writes by a closure that gives an [`Access`], instead of by the method of an HTTP request.
    #[must_use]
    pub fn access<A2>(self, access: A2) -> ReplicaSplit<S, K, A2, T, J> {
        self.ruled(|Rules { key, tokens, reject, name, order, .. }| Rules {
            key,
            access,
            tokens,
            reject,
            name,
            order,
        })
    }

    /// Reads the position that the primary had reached with a write off its answer. Reads of the key then go to replicas that have
    /// reported that position, however long that takes. A write whose answer gives none, or that fails, holds its key for the
    /// time of the window.
    ///
    /// ```
    /// # use buttress_balance::{ReplicaRules, ReplicaSplit};
    /// # use buttress_core::BoxError;
    /// # use http::{Request, Response};
    /// # fn main() -> Result<(), BoxError> {
    /// # let pool = || tower::service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    /// let store = ReplicaSplit::new(pool(), [pool()], ReplicaRules::default())?
    ///     .tokens(|res: &Response<()>| res.headers().get("x-lsn")?.to_str().ok()?.parse().ok());
    /// # let _ = store.handle();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tokens<W, Res>(self, written: W) -> ReplicaSplit<S, K, A, WrittenTokens<W>, J>
    where
        W: Fn(&Res) -> Option<u64>,
    {
        self.tokens_by(WrittenTokens(written))
    }

    /// As [`tokens`](Self::tokens), and `asked` reads a token off a request: where the caller keeps what its last write gave it, no
    /// process needs to know of the writes of another.
    #[must_use]
    pub fn carried_tokens<Q, W, Req, Res>(
        self,
        asked: Q,
        written: W,
    ) -> ReplicaSplit<S, K, A, CarriedTokens<Q, W>, J>
    where
        Q: Fn(&Req) -> Option<u64>,
        W: Fn(&Res) -> Option<u64>,
    {
        self.tokens_by(CarriedTokens(asked, written))
    }

    fn tokens_by<T2>(self, tokens: T2) -> ReplicaSplit<S, K, A, T2, J> {
        self.ruled(|Rules { key, access, reject, name, order, .. }| Rules {
            key,
            access,
            tokens,
            reject,
            name,
            order,
        })
    }

    /// Takes replicas by turns of `order`, which is built of the replicas in their order and asked with the number of the turn:
    /// a weighted [`RoundRobin`]. The default is one without weights.
    ///
    /// # Errors
    ///
    /// When it is of another number of endpoints.
    pub fn order(self, order: impl Order + Send + Sync + 'static) -> Result<Self, ReplicaError> {
        self.ordered(order, By::Turn)
    }

    /// Takes replicas by `order`, asked with random values: such as [`Random`](crate::Random), where many processes read the
    /// same replicas.
    ///
    /// # Errors
    ///
    /// When it is of another number of endpoints.
    pub fn order_at_random(self, order: impl Order + Send + Sync + 'static) -> Result<Self, ReplicaError> {
        self.ordered(order, By::Chance)
    }

    /// Takes for each key its own replica by `order`, such as a [`HashRing`](crate::HashRing) and its
    /// [`hashing`](crate::HashRing::hashing): caches of the replicas stay warm, and reads of a key do not go back in time.
    ///
    /// # Errors
    ///
    /// When it is of another number of endpoints.
    pub fn order_by_key(
        self,
        order: impl Order + Send + Sync + 'static,
        hashing: Hashing,
    ) -> Result<Self, ReplicaError> {
        self.ordered(order, By::Key(hashing))
    }

    fn ordered(self, order: impl Order + Send + Sync + 'static, by: By) -> Result<Self, ReplicaError> {
        let (endpoints, replicas) = (order.endpoints(), self.services.len() - 1);
        if endpoints != replicas {
            return Err(ReplicaError::Order { endpoints, replicas });
        }
        Ok(self.ruled(|rules| Rules { order: Chosen::new(order, by), ..rules }))
    }

    /// Refuses with `reject` instead of with an error.
    #[must_use]
    pub fn on_reject<J2>(self, reject: J2) -> ReplicaSplit<S, K, A, T, J2> {
        self.ruled(|Rules { key, access, tokens, name, order, .. }| Rules {
            key,
            access,
            tokens,
            reject,
            name,
            order,
        })
    }

    /// Names the service, in rejections and events. The default is `replicas`.
    #[must_use]
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.ruled(|rules| Rules { name: name.into(), ..rules })
    }
}

impl<S, K, A, T, J> ReplicaSplit<S, K, A, T, J> {
    /// Tells `observer` of what happens here, in all clones, and by the handle. The default is none.
    ///
    /// # Panics
    ///
    /// When there is one.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&ReplicaSplitEvent<'_>) + Send + Sync + 'static) -> Self {
        let set = self.shared.observer.set(Arc::new(observer));
        assert!(set.is_ok(), "the service and its clones have an observer: give them one that tells both");
        self
    }

    /// Takes what the replicas report, and tells what is made of it.
    #[must_use]
    pub fn handle(&self) -> ReplicaSplitHandle {
        ReplicaSplitHandle::new(Arc::clone(&self.shared), self.rules.name.clone())
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self) -> &S {
        &self.services[0]
    }

    /// The replicas, in their order.
    #[must_use]
    pub fn replicas(&self) -> &[S] {
        &self.services[1..]
    }

    fn hash<Req>(&self, req: &Req) -> Option<u64>
    where
        K: Key<Req>,
    {
        let mut sink = HashSink::new();
        self.rules.key.key(req, &mut sink).then(|| sink.finish())
    }

    fn route<Req, Res>(&self, req: &Req) -> Route
    where
        K: Key<Req>,
        T: Tokens<Req, Res>,
    {
        let Self { shared, rules, .. } = self;
        let hash = match rules.order.by {
            By::Turn => shared.turn(),
            By::Chance => draw(),
            By::Key(hashing) => {
                let mut sink = hashing.sink();
                if rules.key.key(req, &mut sink) { sink.finish() } else { draw() }
            }
        };
        let (key, asked) = (self.hash(req), rules.tokens.asked(req));
        let now = shared.clock.now();
        shared.policy.read(key, asked, now, |usable| (rules.order.pick)(hash, usable))
    }
}

impl<S, K, A, T, J, Req> Service<Req> for ReplicaSplit<S, K, A, T, J>
where
    S: Service<Req> + Clone,
    K: Key<Req>,
    A: AccessOf<Req>,
    T: Tokens<Req, S::Response>,
    J: Reject<Req, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReplicaSplitFuture<S, Req, K, A, T, J>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let this = &*self;
        let Self { services, shared, rules } = this;
        let called = |at: usize, req| OnCall::new(services[at].clone()).call(req);
        match rules.access.access(&req) {
            Access::Write => {
                shared.counts.add_one(WRITES);
                // Before the call, which may panic.
                let write = Write::new(shared, rules, this.hash(&req));
                ReplicaSplitFuture::called(called(0, req), Some(write))
            }
            Access::Read => {
                let route = this.route::<Req, S::Response>(&req);
                shared.note(route, &rules.name);
                match route {
                    Route::Replica(replica) => ReplicaSplitFuture::called(called(replica + 1, req), None),
                    Route::Primary(_) => ReplicaSplitFuture::called(called(0, req), None),
                    Route::Refused => {
                        let rejection =
                            Rejection::new(RejectionKind::NoEndpoint).with_policy(rules.name.clone());
                        let form = rules.reject.form(&req);
                        ReplicaSplitFuture::refused(rules.reject.reject(form, rejection))
                    }
                }
            }
        }
    }
}

impl<S, K, A, T, J> Clone for ReplicaSplit<S, K, A, T, J> {
    fn clone(&self) -> Self {
        Self {
            services: Arc::clone(&self.services),
            shared: Arc::clone(&self.shared),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl<S, K, A, T, J> fmt::Debug for ReplicaSplit<S, K, A, T, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaSplit")
            .field("name", &self.rules.name)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}
