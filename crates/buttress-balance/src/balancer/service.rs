use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{AtHead, ByCause, Classify, Endpoints, Fail, Finish, HasFacts, Key, Reject};
use tower_service::Service;

#[cfg(feature = "http")]
use buttress_http::body::AtEnd;

#[cfg(feature = "http")]
use super::MarkEndpoint;
use super::future::BalanceFuture;
use super::handle::Handle;
use super::members::Members;
use super::settings::Settings;
use super::shared::{Made, Shared};
use super::station::{Flight, Rules};
use crate::{DefaultPolicy, NoKey, Policy, PolicyError};

/// Gives each call to one of many endpoints, with the request in hand. See the [crate] page for an example.
///
/// `poll_ready` is always ready: the choice is made in `call`. Where no endpoint can take the call its future waits, until
/// [`fail_fast`](Settings::fail_fast), and is then refused; the error of a call that was made is the endpoint's.
///
/// A clone is the same balancer. The steps that set it up each begin a new state, so take them before it is cloned
/// and used.
///
/// | setting | default | why |
/// |---|---|---|
/// | `policy` | [`LeastLoad::peak_ewma`](crate::LeastLoad::peak_ewma) | the best where endpoints or calls differ, and no worse where they do not |
/// | `by` | [`NoKey`] | needs no request type; a consistent hash wants a key |
/// | `classify` | [`ByCause`]: an error is a failure | needs no response type; **over HTTP take `classify::status()`**, else an endpoint that fails fast looks fast |
/// | `at_end` | a call is over at the head | the response type stays as it is |
/// | `on_reject` | [`Fail`] | the error is what a client wants; servers take `reject::respond()` |
/// | `settings` | see [`Settings`] | |
///
/// # Cancel safety
///
/// Nothing is held between calls. What a call holds, its place at an endpoint or among those that wait for one, goes back
/// when its future, or with [`at_end`](Self::at_end) its body, is dropped.
pub struct Balancer<S, P: Policy = DefaultPolicy, K = NoKey, J = Fail, C = ByCause, F = AtHead> {
    members: Members<S>,
    shared: Arc<Shared<S, P, C>>,
    key: K,
    reject: J,
    finish: F,
}

impl<S: Clone + Send + Sync + 'static> Balancer<S> {
    /// Balances over these endpoints: a list of pairs of an endpoint and its service, or [`Members`] that come and go.
    ///
    /// # Panics
    ///
    /// When [`try_new`](Self::try_new) fails.
    #[must_use]
    #[track_caller]
    pub fn new(members: impl Into<Members<S>>) -> Self {
        Self::try_new(members).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Balances over these endpoints; for a list that comes from a configuration file.
    ///
    /// # Errors
    ///
    /// When two have one name, or a list that cannot change is empty.
    pub fn try_new(members: impl Into<Members<S>>) -> Result<Self, PolicyError> {
        Self::start(members.into(), Rules::default(), Made::new(), NoKey, Fail, AtHead)
    }
}

impl<S, P, K, J, C, F> Balancer<S, P, K, J, C, F>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    pub(crate) fn start(
        members: Members<S>,
        rules: Rules<P, C>,
        made: Made<S>,
        key: K,
        reject: J,
        finish: F,
    ) -> Result<Self, PolicyError> {
        let shared = Shared::new(&members, rules, made)?;
        Ok(Self { members, shared, key, reject, finish })
    }

    /// Chooses by `policy`.
    ///
    /// # Panics
    ///
    /// When [`try_policy`](Self::try_policy) fails.
    #[must_use]
    #[track_caller]
    pub fn policy<Other: Policy>(self, policy: Other) -> Balancer<S, Other, K, J, C, F>
    where
        C: Clone,
    {
        self.try_policy(policy).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Chooses by `policy`; for one whose settings come from a configuration file.
    ///
    /// # Errors
    ///
    /// When its settings cannot work, or not for these endpoints.
    pub fn try_policy<Other: Policy>(
        self,
        policy: Other,
    ) -> Result<Balancer<S, Other, K, J, C, F>, PolicyError>
    where
        C: Clone,
    {
        let Rules { classify, settings, .. } = &*self.shared.rules;
        let rules = Rules::new(policy, classify.clone(), settings.clone());
        let made = self.shared.made();
        Balancer::start(self.members, rules, made, self.key, self.reject, self.finish)
    }

    /// Does what is beside the policy by these settings.
    ///
    /// # Panics
    ///
    /// When [`try_settings`](Self::try_settings) fails.
    #[must_use]
    #[track_caller]
    pub fn settings(self, settings: Settings) -> Self
    where
        P: Clone,
        C: Clone,
    {
        self.try_settings(settings).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Does what is beside the policy by these settings; for settings that come from a configuration file.
    ///
    /// # Errors
    ///
    /// When they cannot work.
    pub fn try_settings(self, settings: Settings) -> Result<Self, PolicyError>
    where
        P: Clone,
        C: Clone,
    {
        let Rules { policy, classify, .. } = &*self.shared.rules;
        let rules = Rules::new(policy.clone(), classify.clone(), settings);
        let made = self.shared.made();
        Self::start(self.members, rules, made, self.key, self.reject, self.finish)
    }

    /// Gives no endpoint more than `factor` times its fair share of the calls in flight: see
    /// [`BoundedLoad`](crate::BoundedLoad). The same as [`Settings::bounded_load`].
    ///
    /// # Panics
    ///
    /// When the factor is not from 1 to 1000.
    #[must_use]
    #[track_caller]
    pub fn bounded_load(self, factor: f64) -> Self
    where
        P: Clone,
        C: Clone,
    {
        let settings = self.shared.rules.settings.clone().bounded_load(factor);
        self.settings(settings)
    }

    /// Judges results by `classify` instead of [`ByCause`], for policies that go by failures: `classify::status()` for
    /// HTTP, `classify::grpc()`, or a closure from a result to an [`Outcome`](buttress_core::Outcome).
    ///
    /// # Panics
    ///
    /// When the list of endpoints has meanwhile become one that the policy cannot take.
    #[must_use]
    #[track_caller]
    pub fn classify<Other>(self, classify: Other) -> Balancer<S, P, K, J, Other, F>
    where
        P: Clone,
        Other: Send + Sync + 'static,
    {
        let Rules { policy, settings, .. } = &*self.shared.rules;
        let rules = Rules::new(policy.clone(), classify, settings.clone());
        let Self { members, shared, key, reject, finish } = self;
        let balancer = Balancer::start(members, rules, shared.made(), key, reject, finish);
        balancer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Takes the key of a call from its request: what a consistent hash goes by. Keys are `key::header(..)` and
    /// others, tuples of them, and closures `|req: &Request<Body>| -> Option<impl KeyPart>`. A call without a key goes
    /// where chance says.
    #[must_use]
    pub fn by<Other>(self, key: Other) -> Balancer<S, P, Other, J, C, F> {
        let Self { members, shared, reject, finish, .. } = self;
        Balancer { members, shared, key, reject, finish }
    }

    /// Answers calls that no endpoint can take through `reject`: [`Fail`] with an error (the default),
    /// `reject::respond()` with a 503, `reject::with(..)` as a closure likes.
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> Balancer<S, P, K, Other, C, F> {
        let Self { members, shared, key, finish, .. } = self;
        Balancer { members, shared, key, reject, finish }
    }

    /// Writes into each answer which endpoint gave it, as an [`EndpointId`](buttress_core::EndpointId) in its extensions: for a layer
    /// above that has several calls under way for one, as a [`StickyLayer`](crate::StickyLayer) above a hedge. It costs each answer
    /// an allocation or two.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn mark_endpoint(self) -> Balancer<S, P, K, J, C, MarkEndpoint<F>> {
        let Self { members, shared, key, reject, finish } = self;
        Balancer { members, shared, key, reject, finish: MarkEndpoint::new(finish) }
    }

    /// Counts a call as in flight until what `finish` binds it to has ended: for responses that are not HTTP's and last, such
    /// as a connection. [`AtHead`], the default, counts it until the response is there.
    ///
    /// ```
    /// use buttress_balance::{Balancer, LeastLoad};
    /// use buttress_core::Finish;
    ///
    /// /// Downloads are responses that last: each keeps what is bound to it.
    /// struct Download {
    ///     held: Vec<Box<dyn std::any::Any + Send>>,
    /// }
    ///
    /// #[derive(Clone, Copy)]
    /// struct AtClose;
    ///
    /// impl<Req, G: Send + 'static> Finish<Req, Download, G> for AtClose {
    ///     type Form = ();
    ///     type Out = Download;
    ///
    ///     fn form(&self, _: &Req) {}
    ///
    ///     fn finish(&self, (): (), mut download: Download, guard: G) -> Download {
    ///         download.held.push(Box::new(guard));
    ///         download
    ///     }
    /// }
    ///
    /// # fn open(_: ()) -> std::future::Ready<Result<Download, buttress_core::BoxError>> {
    /// #     std::future::ready(Ok(Download { held: Vec::new() }))
    /// # }
    /// # fn check<S: tower::Service<(), Response = Download>>(_: S) {}
    /// let service = tower::service_fn(open);
    /// let balancer = Balancer::new([("a", service)]).policy(LeastLoad::connections()).finish(AtClose);
    /// # check(balancer);
    /// ```
    #[must_use]
    pub fn finish<Other>(self, finish: Other) -> Balancer<S, P, K, J, C, Other> {
        let Self { members, shared, key, reject, .. } = self;
        Balancer { members, shared, key, reject, finish }
    }

    /// The endpoints, for health checks, discovery and operators: what is changed there, this balancer follows.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    /// Reads the state of the balancer while it is in use.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }
}

#[cfg(feature = "http")]
impl<S, P: Policy, K, J, C> Balancer<S, P, K, J, C> {
    /// Counts a call as in flight until the body of its response has ended. The response's body becomes
    /// [`Tracked`](buttress_http::body::Tracked).
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn at_end(self) -> Balancer<S, P, K, J, C, AtEnd> {
        let Self { members, shared, key, reject, .. } = self;
        Balancer { members, shared, key, reject, finish: AtEnd }
    }
}

impl<S, Req, P, K, J, C, F> Service<Req> for Balancer<S, P, K, J, C, F>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: HasFacts,
    P: Policy,
    K: Key<Req>,
    C: Classify<S::Response, S::Error> + Send + Sync + 'static,
    F: Finish<Req, S::Response, Flight<P, C>> + Clone,
    J: Reject<Req, F::Out, S::Error> + Clone,
{
    type Response = F::Out;
    type Error = S::Error;
    type Future = BalanceFuture<S, Req, P, J, C, F>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let hash = self.shared.hash(&self.key, &req);
        BalanceFuture::new(&self.shared, hash, req, &self.reject, &self.finish)
    }
}

impl<S: Clone, P: Policy, K: Clone, J: Clone, C, F: Clone> Clone for Balancer<S, P, K, J, C, F> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
            shared: Arc::clone(&self.shared),
            key: self.key.clone(),
            reject: self.reject.clone(),
            finish: self.finish.clone(),
        }
    }
}

impl<S, P: Policy, K, J, C, F> fmt::Debug for Balancer<S, P, K, J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("name", &self.shared.rules.settings.name)
            .field("endpoints", &self.shared.endpoints)
            .finish_non_exhaustive()
    }
}
