use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Endpoint, Endpoints, EndpointsError, Name};

use super::DiscoverEvent;

type Observer = Arc<dyn Fn(&DiscoverEvent<'_>) + Send + Sync>;

/// The list that a source keeps, and who is told of it.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) source: Name,
    pub(super) endpoints: Endpoints,
    pub(super) clock: Clock,
    observer: Option<Observer>,
}

impl Feed {
    pub(super) fn new(source: Name, endpoints: Endpoints) -> Self {
        Self { source, endpoints, clock: Clock::default(), observer: None }
    }

    /// Of a source that has no list yet.
    #[cfg(any(feature = "dns", feature = "file", feature = "tower"))]
    pub(super) fn empty(source: Name) -> Self {
        Self::new(source, Endpoints::new([]).expect("no two of none have one name"))
    }

    pub(super) fn observe(&mut self, observer: impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) {
        self.observer = Some(Arc::new(observer));
    }

    /// Puts `list` in the place of the present one. Returns whether it was another, and not the same in another order.
    pub(super) fn put(&self, list: Vec<Endpoint>) -> Result<bool, EndpointsError> {
        let (before, _) = self.endpoints.numbered();
        self.endpoints.replace(list, self.clock.now())?;
        if self.endpoints.numbered().0 == before {
            return Ok(false);
        }
        self.changed();
        Ok(true)
    }

    pub(super) fn changed(&self) {
        let endpoints = self.endpoints.list().len();
        self.tell(&DiscoverEvent::Changed { source: &self.source, endpoints });
    }

    pub(super) fn failed(&self, error: &(dyn Error + Send + Sync + 'static), retry_after: Option<Duration>) {
        let endpoints = self.endpoints.list().len();
        self.tell(&DiscoverEvent::Failed { source: &self.source, error, endpoints, retry_after });
    }

    pub(super) fn ended(&self) {
        let endpoints = self.endpoints.list().len();
        self.tell(&DiscoverEvent::Ended { source: &self.source, endpoints });
    }

    fn tell(&self, event: &DiscoverEvent<'_>) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("source", &self.source)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
