use std::fmt;

use buttress_core::{AtHead, ByCause, Fail};
use tower_layer::Layer;

#[cfg(feature = "http")]
use buttress_http::body::AtEnd;

#[cfg(feature = "http")]
use super::MarkEndpoint;
use super::members::Members;
use super::settings::Settings;
use super::shared::Made;
use super::station::Rules;
use crate::{Balancer, ConsistentHash, DefaultPolicy, NoKey, Policy, RingRules};

/// Makes a [`Balancer`] of [`Members`]: of endpoints and what makes a service of each.
///
/// It is for stacks that are written as one `ServiceBuilder`. The state belongs to the balancer: `layer()` called twice makes two
/// that know nothing of each other's load, so call it once and clone the balancer.
///
/// ```
/// use buttress_balance::{BalanceLayer, Members};
/// use buttress_core::{Endpoint, Endpoints};
/// use tower::{ServiceBuilder, service_fn};
///
/// # fn main() -> Result<(), buttress_core::EndpointsError> {
/// let endpoints = Endpoints::new(["10.0.0.1:80", "10.0.0.2:80"].map(Endpoint::new))?;
/// let connect = |endpoint: &Endpoint| {
///     let address = endpoint.address().clone();
///     service_fn(move |query: String| {
///         let address = address.clone();
///         async move { Ok::<_, buttress_core::BoxError>(format!("{address} answers {query}")) }
///     })
/// };
/// let balancer = ServiceBuilder::new()
///     .layer(BalanceLayer::consistent_hash(|query: &String| Some(query.len() as u64)))
///     .service(Members::new(endpoints, connect));
/// # fn check<S: tower::Service<String, Response = String>>(_: S) {}
/// # check(balancer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BalanceLayer<P = DefaultPolicy, K = NoKey, J = Fail, C = ByCause, F = AtHead> {
    policy: P,
    key: K,
    reject: J,
    classify: C,
    finish: F,
    settings: Settings,
}

impl<K> BalanceLayer<RingRules, K> {
    /// A ring of 160 points for each unit of weight, by `key`.
    #[must_use]
    pub fn consistent_hash(key: K) -> Self {
        BalanceLayer::new(ConsistentHash::ring()).by(key)
    }
}

impl Default for BalanceLayer {
    /// By load: [`LeastLoad::peak_ewma`](crate::LeastLoad::peak_ewma).
    fn default() -> Self {
        Self::new(DefaultPolicy::default())
    }
}

impl<P> BalanceLayer<P> {
    /// Chooses by `policy`.
    #[must_use]
    pub fn new(policy: P) -> Self {
        Self {
            policy,
            key: NoKey,
            reject: Fail,
            classify: ByCause,
            finish: AtHead,
            settings: Settings::default(),
        }
    }
}

impl<P, K, J, C, F> BalanceLayer<P, K, J, C, F> {
    /// Takes the key of a call from its request, see [`Balancer::by`].
    #[must_use]
    pub fn by<Other>(self, key: Other) -> BalanceLayer<P, Other, J, C, F> {
        let Self { policy, reject, classify, finish, settings, .. } = self;
        BalanceLayer { policy, key, reject, classify, finish, settings }
    }

    /// Judges results by `classify`, see [`Balancer::classify`].
    #[must_use]
    pub fn classify<Other>(self, classify: Other) -> BalanceLayer<P, K, J, Other, F> {
        let Self { policy, key, reject, finish, settings, .. } = self;
        BalanceLayer { policy, key, reject, classify, finish, settings }
    }

    /// Answers calls that no endpoint can take through `reject`, see [`Balancer::on_reject`].
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> BalanceLayer<P, K, Other, C, F> {
        let Self { policy, key, classify, finish, settings, .. } = self;
        BalanceLayer { policy, key, reject, classify, finish, settings }
    }

    /// Writes into each answer which endpoint gave it, see [`Balancer::mark_endpoint`].
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn mark_endpoint(self) -> BalanceLayer<P, K, J, C, MarkEndpoint<F>> {
        let Self { policy, key, reject, classify, finish, settings } = self;
        BalanceLayer { policy, key, reject, classify, finish: MarkEndpoint::new(finish), settings }
    }

    /// Counts a call as in flight until what `finish` binds it to has ended, see [`Balancer::finish`].
    #[must_use]
    pub fn finish<Other>(self, finish: Other) -> BalanceLayer<P, K, J, C, Other> {
        let Self { policy, key, reject, classify, settings, .. } = self;
        BalanceLayer { policy, key, reject, classify, finish, settings }
    }

    /// Does what is beside the policy by these settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }
}

#[cfg(feature = "http")]
impl<P, K, J, C> BalanceLayer<P, K, J, C> {
    /// Counts a call as in flight until the body of its response has ended, see [`Balancer::at_end`].
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn at_end(self) -> BalanceLayer<P, K, J, C, AtEnd> {
        let Self { policy, key, reject, classify, settings, .. } = self;
        BalanceLayer { policy, key, reject, classify, finish: AtEnd, settings }
    }
}

impl<S, P, K, J, C, F> Layer<Members<S>> for BalanceLayer<P, K, J, C, F>
where
    S: Clone + Send + Sync + 'static,
    P: Policy + Clone,
    K: Clone,
    J: Clone,
    C: Clone + Send + Sync + 'static,
    F: Clone,
{
    type Service = Balancer<S, P, K, J, C, F>;

    /// # Panics
    ///
    /// When the settings cannot work, two endpoints have one name, or a list that cannot change is empty.
    fn layer(&self, members: Members<S>) -> Self::Service {
        let Self { policy, key, reject, classify, finish, settings } = self.clone();
        let rules = Rules::new(policy, classify, settings);
        Balancer::start(members, rules, Made::new(), key, reject, finish)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<P, K, J, C, F> fmt::Debug for BalanceLayer<P, K, J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
