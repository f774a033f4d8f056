use std::fmt;
use std::sync::Arc;

use buttress_core::Endpoint;

use super::shared::Shared;
use super::station::Sweep;
use crate::{Outlook, Policy};

/// Reads the state of a [`Balancer`](crate::Balancer) while it is in use.
///
/// To steer it, change its [`endpoints`](crate::Balancer::endpoints).
#[derive(Clone)]
pub struct Handle(Arc<dyn Look>);

/// An endpoint as a balancer sees it now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    /// The endpoint, with its condition.
    pub endpoint: Endpoint,
    /// How many calls it has in flight.
    pub in_flight: u32,
    /// Whether it has left the list, and drains.
    pub has_left: bool,
}

trait Look: Send + Sync {
    fn views(&self) -> Vec<View>;
    fn outlook(&self) -> Outlook;
    fn waiting(&self) -> usize;
}

impl Handle {
    pub(crate) fn new<S, P, C>(shared: Arc<Shared<S, P, C>>) -> Self
    where
        S: Clone + Send + Sync + 'static,
        P: Policy,
        C: Send + Sync + 'static,
    {
        Self(shared)
    }

    /// The endpoints as they are now, and then those that have left and still have calls.
    #[must_use]
    pub fn endpoints(&self) -> Vec<View> {
        self.0.views()
    }

    /// The endpoint of this name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<View> {
        self.endpoints().into_iter().find(|view| view.endpoint.name().as_str() == name)
    }

    /// How traffic is shared among priorities and zones now.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        self.0.outlook()
    }

    /// How many calls wait for an endpoint.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

impl<S, P, C> Look for Shared<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    fn views(&self) -> Vec<View> {
        // Where there is no runtime, nobody else has looked whether their time is over.
        self.sweep();
        let snapshot = self.snapshot();
        let present = snapshot.tables.members.iter().map(|member| (member, false));
        let left = snapshot.leaving.iter().map(|(member, _)| (member, true));
        let view = |(member, has_left): (&super::station::Member<S, P, C>, bool)| View {
            endpoint: member.endpoint.clone(),
            in_flight: member.station.load.in_flight(),
            has_left,
        };
        present.chain(left).map(view).collect()
    }

    fn outlook(&self) -> Outlook {
        self.snapshot().outlook.clone()
    }

    fn waiting(&self) -> usize {
        self.rules.waiting.load(crate::sync::Ordering::SeqCst)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
