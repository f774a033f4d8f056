use std::fmt;
use std::sync::Arc;

use buttress_core::Endpoint;

use super::{Beat, Kept, Kind, Probe, Probed, Probing};
use crate::{CheckError, HealthCheck, ProbeReport};

/// A probe of your own: an async closure. See [`HealthCheck::with`].
#[derive(Clone)]
pub struct Custom(Arc<dyn Fn(Endpoint) -> Asked + Send + Sync>);

type Asked = std::pin::Pin<Box<dyn Future<Output = ProbeReport> + Send>>;

impl HealthCheck<Custom> {
    /// Probes by `ask`, which gets the endpoint and returns a [`ProbeReport`], a `bool`, or a `Result`.
    ///
    /// The future is dropped at the timeout. A panic in it is a failed probe.
    ///
    /// ```
    /// use buttress_health::{HealthCheck, ProbeReport};
    ///
    /// let check = HealthCheck::with(|endpoint| async move {
    ///     // Ask for the lag of the replica at `endpoint.address()` here.
    ///     let lag = endpoint.address().len();
    ///     if lag > 30 { ProbeReport::degraded() } else { ProbeReport::pass() }
    /// });
    /// # let _ = check;
    /// ```
    #[must_use]
    pub fn with<F, Fut>(ask: F) -> Self
    where
        F: Fn(Endpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ProbeReport>> + Send + 'static,
    {
        Self::of(Custom(Arc::new(move |endpoint| {
            let asked = ask(endpoint);
            Box::pin(async move { asked.await.into() })
        })))
    }
}

impl Kind for Custom {
    fn into_probe(self) -> Result<Arc<dyn Probe>, CheckError> {
        Ok(Arc::new(self))
    }
}

impl Probe for Custom {
    fn probe(&self, endpoint: &Endpoint, _: Kept, _: &Beat) -> Probing {
        let (ask, endpoint) = (Arc::clone(&self.0), endpoint.clone());
        // The closure is called inside the future, where a panic is caught.
        Box::pin(async move { Probed::from(ask(endpoint).await) })
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").finish_non_exhaustive()
    }
}
