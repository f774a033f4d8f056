use std::fmt;
use std::sync::Arc;

use buttress_core::{AtHead, ByCause, Fail, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use buttress_http::body::AtEnd;

use crate::call::Judge;
use crate::service::Gate;
use crate::{Health, Readiness};

/// Refuses calls while the service is not ready, and marks how those went that it lets through.
///
/// ```
/// use buttress_health::{HealthLayer, Readiness, classify, reject};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use std::convert::Infallible;
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Infallible> {
/// let readiness = Readiness::starting();
/// let layer = HealthLayer::new(&readiness).classify(classify::status()).on_reject(reject::respond());
/// let mut app = ServiceBuilder::new().layer(layer).service_fn(|_: Request<()>| async {
///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
/// });
///
/// assert_eq!(app.ready().await?.call(Request::new(())).await?.status(), 503);
/// readiness.started();
/// assert_eq!(app.ready().await?.call(Request::new(())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// A call is refused while the service starts, and while something critical fails: as far as is known from the last probe,
/// since no call waits for a check. A refused call has the critical checks run again that are older than their TTL, so that
/// the service comes back even where no one probes it.
///
/// **While the service stops no call is refused.** It is not ready then, and `/readyz` says so; but until every balancer
/// has seen that, calls still come, and after that those on connections that are open. They are what a shutdown in order is
/// for. What ends them is its grace.
///
/// The outcomes are counted in the [`Readiness`], for all layers that share it, and mean there what
/// [`Readiness::traffic`] says: by default a service of whose calls half fail is degraded. A success and a failure count as
/// that; what is soft (429) counts as a success, as the service is well; what is ignored, refused by one of our own layers
/// below (but for a timeout), or dropped by the caller counts as nothing; a panic is a failure.
///
/// | setting | default | why |
/// |---|---|---|
/// | `classify` | [`ByCause`]: an error is a failure | needs no response type; **over HTTP take `classify::status()`**, which knows a 500 |
/// | `on_reject` | [`Fail`] | needs no response type; servers take `reject::respond()`, a 503 |
/// | `even_while_failing` | off: refuses while something critical fails | what `/readyz` says |
/// | `at_end` | judged at the head | the response type stays as it is |
///
/// The probes must not pass through it: put [`HealthEndpoints`](crate::HealthEndpoints) beside or above.
///
/// A clone shares the state, which is the [`Readiness`]'.
#[derive(Clone)]
pub struct HealthLayer<J = Fail, C = ByCause, F = AtHead> {
    readiness: Readiness,
    reject: J,
    classify: C,
    finish: F,
    while_failing: bool,
}

impl HealthLayer {
    /// Refuses and marks calls by this state.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        let readiness = readiness.clone();
        Self { readiness, reject: Fail, classify: ByCause, finish: AtHead, while_failing: true }
    }
}

impl<J, C, F> HealthLayer<J, C, F> {
    /// Judges results by `classify` instead of [`ByCause`]: `classify::status()` for HTTP, `classify::grpc()`, or a closure
    /// from a result to an [`Outcome`](buttress_core::Outcome).
    #[must_use]
    pub fn classify<Other>(self, classify: Other) -> HealthLayer<J, Other, F> {
        let Self { readiness, reject, finish, while_failing, .. } = self;
        HealthLayer { readiness, reject, classify, finish, while_failing }
    }

    /// Answers refused calls through `reject`: [`Fail`] with an error (the default), `reject::respond()` with a 503,
    /// `reject::with(..)` as a closure likes.
    #[must_use]
    pub fn on_reject<Other>(self, reject: Other) -> HealthLayer<Other, C, F> {
        let Self { readiness, classify, finish, while_failing, .. } = self;
        HealthLayer { readiness, reject, classify, finish, while_failing }
    }

    /// Follows each response to the end of its body, where the classifier wants to see it: gRPC by trailers, a body that
    /// breaks off. The response's body becomes [`Tracked`](buttress_http::body::Tracked).
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn at_end(self) -> HealthLayer<J, C, AtEnd> {
        let Self { readiness, reject, classify, while_failing, .. } = self;
        HealthLayer { readiness, reject, classify, finish: AtEnd, while_failing }
    }

    /// Refuses calls only while the service starts, and lets them through while something critical fails: for a service that
    /// would rather try, and whose balancer goes by `/readyz` in any case.
    #[must_use]
    pub fn even_while_failing(mut self) -> Self {
        self.while_failing = false;
        self
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`]. A refused call then waits for the inner service too, and
    /// leaves it ready for the next.
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S, J, C, F> Wrap<S> for HealthLayer<J, C, F>
where
    J: Clone,
    C: Clone,
    F: Clone,
{
    type Service = Health<S, J, C, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        let Self { readiness, reject, classify, finish, while_failing } = self.clone();
        let judge = Arc::new(Judge { classify, inner: Arc::clone(readiness.inner()) });
        Health::new(inner, Arc::new(Gate { reject, finish, while_failing, judge }))
    }
}

impl<S, J, C, F> Layer<S> for HealthLayer<J, C, F>
where
    J: Clone,
    C: Clone,
    F: Clone,
{
    type Service = Health<OnCall<S>, J, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<J, C, F> fmt::Debug for HealthLayer<J, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthLayer").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}
