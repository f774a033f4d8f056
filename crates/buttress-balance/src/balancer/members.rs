use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use buttress_core::{Endpoint, EndpointId, Endpoints, EndpointsError};
use tower_service::Service;

use super::ready::{Ready, ready};

pub(crate) type Make<S> = Arc<dyn Fn(&Endpoint) -> Option<(S, Option<Gate>)> + Send + Sync>;
/// Whether an endpoint would take a call now.
pub(crate) type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// The endpoints of a balancer, and how a service is made of each.
///
/// A list of pairs is one, of endpoints that never change; so is an [`Endpoints`] that discovery feeds, with a closure:
///
/// ```
/// use buttress_balance::Members;
/// use buttress_core::{Endpoint, Endpoints};
/// use tower::service_fn;
///
/// # fn main() -> Result<(), buttress_core::EndpointsError> {
/// let connect = |endpoint: &Endpoint| {
///     let address = endpoint.address().clone();
///     service_fn(move |query: String| {
///         let address = address.clone();
///         async move { Ok::<_, std::convert::Infallible>(format!("{address} answers {query}")) }
///     })
/// };
/// let fixed = Members::from([("10.0.0.1:80", "one"), ("10.0.0.2:80", "two")]);
/// let discovered = Members::new(Endpoints::new([])?, connect);
/// # let _ = (fixed, discovered);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Members<S> {
    pub(crate) endpoints: Result<Endpoints, EndpointsError>,
    pub(crate) make: Make<S>,
    /// Whether the list is meant to stay as it is, so that an empty one is a mistake.
    pub(crate) is_fixed: bool,
    pub(crate) ready: Option<Ready<S>>,
}

impl<S> Members<S> {
    /// These endpoints, as they come and go, each with the service that `make` makes of it.
    ///
    /// `make` is called once for an endpoint that joins, and again when its configuration changes; now and then once more, when two
    /// changes meet. It runs on the thread that changes the list, so it should not block: make services that
    /// connect when they are first called.
    pub fn new(endpoints: Endpoints, make: impl Fn(&Endpoint) -> S + Send + Sync + 'static) -> Self {
        Self::looked_up(endpoints, move |endpoint| Some(make(endpoint)))
    }

    /// The same, where `make` gives a gate as well, which says whether the endpoint would take a call now: a circuit breaker that is
    /// open would not.
    ///
    /// A balancer asks it last, and goes on to the next endpoint where it says no. Where all say no the call goes to the one
    /// that it would have gone to, which refuses it and says why. It runs at each pick, so it should only look.
    pub fn gated<G>(endpoints: Endpoints, make: impl Fn(&Endpoint) -> (S, G) + Send + Sync + 'static) -> Self
    where
        G: Fn() -> bool + Send + Sync + 'static,
    {
        let make = move |endpoint: &Endpoint| {
            let (service, gate) = make(endpoint);
            Some((service, Some(Arc::new(gate) as Gate)))
        };
        Self { endpoints: Ok(endpoints), make: Arc::new(make), is_fixed: false, ready: None }
    }

    /// Readies the service of each endpoint before a call comes, for calls of type `Req`: a clone of it is asked whether it is ready when
    /// the endpoint joins, until it is, and then dropped. After an error it is asked again, in 1 s, then in twice that, up to 30 s. So what
    /// clones share, a pool of connections say, is there for the first call.
    ///
    /// Without this, and afterwards, a service is readied by its calls alone. It takes a tokio runtime where the balancer is made and its
    /// list is changed. Whether an endpoint that cannot be readied is used is for its health check to say.
    ///
    /// ```
    /// use buttress_balance::{Balancer, Members};
    /// use buttress_core::{Endpoint, Endpoints, EndpointsError};
    /// # use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EndpointsError> {
    /// # let connect = |_: &Endpoint| service_fn(|query: String| async { Ok::<_, buttress_core::BoxError>(query) });
    /// let endpoints = Endpoints::new(["10.0.0.1:80", "10.0.0.2:80"].map(Endpoint::new))?;
    /// let balancer = Balancer::new(Members::new(endpoints, connect).readied::<String>());
    /// # let _ = balancer;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn readied<Req>(mut self) -> Self
    where
        S: Service<Req> + Clone + Send + 'static,
        Req: 'static,
    {
        self.ready = Some(ready());
        self
    }

    /// The same, where an endpoint without a service is left out.
    pub(crate) fn looked_up(
        endpoints: Endpoints,
        make: impl Fn(&Endpoint) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        let make = move |endpoint: &Endpoint| Some((make(endpoint)?, None));
        Self { endpoints: Ok(endpoints), make: Arc::new(make), is_fixed: false, ready: None }
    }
}

impl<S, E> From<Vec<(E, S)>> for Members<S>
where
    S: Clone + Send + Sync + 'static,
    E: Into<Endpoint>,
{
    fn from(list: Vec<(E, S)>) -> Self {
        let list: Vec<(Endpoint, S)> =
            list.into_iter().map(|(endpoint, service)| (endpoint.into(), service)).collect();
        let endpoints = Endpoints::new(list.iter().map(|(endpoint, _)| endpoint.clone()));
        let services: HashMap<EndpointId, S> =
            list.into_iter().map(|(endpoint, service)| (endpoint.id(), service)).collect();
        let make = move |endpoint: &Endpoint| Some((services.get(&endpoint.id())?.clone(), None));
        Self { endpoints, make: Arc::new(make), is_fixed: true, ready: None }
    }
}

impl<S, E, const N: usize> From<[(E, S); N]> for Members<S>
where
    S: Clone + Send + Sync + 'static,
    E: Into<Endpoint>,
{
    fn from(list: [(E, S); N]) -> Self {
        Vec::from(list).into()
    }
}

impl<S> fmt::Debug for Members<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
