//! Sources of endpoints.

#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "tower")]
mod services;
mod watched;

use std::error::Error;
use std::time::Duration;

use buttress_balance::discover::DiscoverEvent;
use buttress_core::Endpoints;
use tokio::sync::mpsc;

/// An event, as it can be kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Changed(usize),
    Failed { endpoints: usize, error: String, retry_after: Option<Duration> },
    Ended(usize),
}

/// The events of a source, in order.
pub(crate) struct Events(mpsc::UnboundedReceiver<Told>);

impl Events {
    /// These, and the observer that they come from.
    pub(crate) fn new() -> (Self, impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) {
        let (send, receive) = mpsc::unbounded_channel();
        let observer = move |event: &DiscoverEvent<'_>| {
            let told = match *event {
                DiscoverEvent::Changed { endpoints, .. } => Told::Changed(endpoints),
                DiscoverEvent::Failed { endpoints, error, retry_after, .. } => {
                    Told::Failed { endpoints, error: in_full(error), retry_after }
                }
                DiscoverEvent::Ended { endpoints, .. } => Told::Ended(endpoints),
                _ => panic!("{event:?}"),
            };
            let _ = send.send(told);
        };
        (Self(receive), observer)
    }

    pub(crate) async fn next(&mut self) -> Told {
        self.0.recv().await.expect("the source is there")
    }

    /// The next one, which is a failure: how many endpoints stay, and why.
    pub(crate) async fn failure(&mut self) -> (usize, String) {
        match self.next().await {
            Told::Failed { endpoints, error, .. } => (endpoints, error),
            told => panic!("{told:?}"),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn in_full(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(crate) fn names(endpoints: &Endpoints) -> Vec<String> {
    endpoints.list().iter().map(|endpoint| endpoint.name().to_string()).collect()
}
