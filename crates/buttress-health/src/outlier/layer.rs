use std::fmt;
use std::sync::Arc;

use buttress_core::{AtHead, ByCause, OnCall, Strict, Wrap};
use tower_layer::Layer;

#[cfg(feature = "http")]
use buttress_http::{body::AtEnd, classify};

#[cfg(feature = "http")]
use super::ByStatus;
use super::core::Core;
use super::guard::Judge;
use super::host::Host;
use super::{ByResult, Outlier};

/// Judges the calls of one endpoint, for the [`Outliers`](crate::Outliers) that made it.
///
/// The state is that of the endpoint: all layers and services that were made for it share it. So is what
/// [`classify`](Self::classify) and the other steps return.
///
/// | setting | default | why |
/// |---|---|---|
/// | `classify` | [`ByCause`]: an error is a failure | needs no response type; **over HTTP take [`over_http`](Self::over_http)**, which knows a 503 |
/// | `blame` | [`ByResult`]: an error is local, a response the service's | the same |
/// | `at_end` | judged at the head | the response type stays as it is |
#[derive(Clone)]
pub struct OutlierLayer<C = ByCause, B = ByResult, F = AtHead> {
    classify: C,
    blame: B,
    finish: F,
    core: Arc<Core>,
    host: Arc<Host>,
}

impl OutlierLayer {
    pub(crate) const fn new(core: Arc<Core>, host: Arc<Host>) -> Self {
        Self { classify: ByCause, blame: ByResult, finish: AtHead, core, host }
    }
}

impl<C, B, F> OutlierLayer<C, B, F> {
    /// Judges results by `classify` instead of [`ByCause`]: `classify::status()`, `classify::grpc()`, or a closure from a
    /// result to an [`Outcome`](buttress_core::Outcome).
    ///
    /// A success and a failure count as that. What is soft (status 429) lowers the success rate and is no failure in a
    /// row. What is ignored counts as nothing. A refusal by one of our layers further down counts as nothing either,
    /// unless it was a timeout or a deadline, which is a failure.
    #[must_use]
    pub fn classify<Other>(self, classify: Other) -> OutlierLayer<Other, B, F> {
        let Self { blame, finish, core, host, .. } = self;
        OutlierLayer { classify, blame, finish, core, host }
    }

    /// Finds out where failures come from by `blame` instead of [`ByResult`].
    #[must_use]
    pub fn blame<Other>(self, blame: Other) -> OutlierLayer<C, Other, F> {
        let Self { classify, finish, core, host, .. } = self;
        OutlierLayer { classify, blame, finish, core, host }
    }

    /// Judges by the status: 5xx and errors fail, 429 is soft, and 502, 503 and 504 are failures of a gateway. Short for
    /// `classify(classify::status())` and `blame(ByStatus)`.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn over_http(self) -> OutlierLayer<classify::Status, ByStatus, F> {
        self.classify(classify::status()).blame(ByStatus)
    }

    /// Judges by `grpc-status`, in the trailers too. Short for `classify(classify::grpc())`, `blame(ByStatus)` and
    /// [`at_end`](Self::at_end).
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn over_grpc(self) -> OutlierLayer<classify::Grpc, ByStatus, AtEnd> {
        self.classify(classify::grpc()).blame(ByStatus).at_end()
    }

    /// Follows each response to the end of its body, where the classifier wants to see it: gRPC by trailers, a body that
    /// breaks off. The response's body becomes [`Tracked`](buttress_http::body::Tracked).
    ///
    /// A call whose head is enough is judged there all the same. A body that the caller drops half read counts as
    /// nothing.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn at_end(self) -> OutlierLayer<C, B, AtEnd> {
        let Self { classify, blame, core, host, .. } = self;
        OutlierLayer { classify, blame, finish: AtEnd, core, host }
    }

    /// Lets `poll_ready` be the inner service's, see [`Strict`].
    #[must_use]
    pub fn strict(self) -> Strict<Self> {
        Strict::new(self)
    }
}

impl<S, C: Clone, B: Clone, F: Clone> Wrap<S> for OutlierLayer<C, B, F> {
    type Service = Outlier<S, C, B, F>;

    fn wrap(&self, inner: S) -> Self::Service {
        let Self { classify, blame, finish, core, host } = self.clone();
        Outlier::new(inner, Arc::new(Judge { classify, blame, core, host }), finish)
    }
}

impl<S, C: Clone, B: Clone, F: Clone> Layer<S> for OutlierLayer<C, B, F> {
    type Service = Outlier<OnCall<S>, C, B, F>;

    fn layer(&self, inner: S) -> Self::Service {
        self.wrap(OnCall::new(inner))
    }
}

impl<C, B, F> fmt::Debug for OutlierLayer<C, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutlierLayer").field("name", &self.core.name).finish_non_exhaustive()
    }
}
