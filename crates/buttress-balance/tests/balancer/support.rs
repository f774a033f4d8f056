//! A small set of endpoints that say who they are.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use buttress_balance::{Balancer, Handle, Members, Policy};
use buttress_core::{BoxError, Clock, Endpoint, Endpoints, Facts, HasFacts, ManualClock, Timestamp};
use tower::{Service, ServiceExt};

pub(crate) const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// A call that is not HTTP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) key: u64,
    pub(crate) facts: Option<Facts>,
}

impl HasFacts for Query {
    fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }
}

pub(crate) fn query(key: u64) -> Query {
    Query { key, facts: None }
}

pub(crate) fn by_key(query: &Query) -> Option<u64> {
    Some(query.key)
}

/// Answers with its name, or never.
#[derive(Clone)]
pub(crate) struct Named {
    name: String,
    hangs: Arc<AtomicBool>,
}

impl Service<Query> for Named {
    type Response = String;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Query) -> Self::Future {
        let Self { name, hangs } = self.clone();
        Box::pin(async move {
            poll_fn(|_| if hangs.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }).await;
            Ok(name)
        })
    }
}

/// Endpoints, what makes services of them, and the time they live in.
pub(crate) struct Rig {
    pub(crate) endpoints: Endpoints,
    pub(crate) time: ManualClock,
    pub(crate) hangs: Arc<AtomicBool>,
}

impl Rig {
    pub(crate) fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let endpoints = Endpoints::new(endpoints).unwrap();
        Self { endpoints, time: ManualClock::new(), hangs: Arc::default() }
    }

    pub(crate) fn of(names: &[&'static str]) -> Self {
        Self::new(names.iter().copied().map(Endpoint::new))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.time.clock()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub(crate) fn members(&self) -> Members<Named> {
        let hangs = Arc::clone(&self.hangs);
        Members::new(self.endpoints.clone(), move |endpoint| Named {
            name: endpoint.name().to_string(),
            hangs: Arc::clone(&hangs),
        })
    }

    pub(crate) fn get(&self, name: &str) -> Endpoint {
        self.endpoints.get(name).unwrap()
    }
}

/// Who answers calls of these keys.
pub(crate) async fn owners<S>(balancer: &S, keys: impl IntoIterator<Item = u64>) -> Vec<String>
where
    S: Service<Query, Response = String, Error = BoxError> + Clone,
{
    let mut owners = Vec::new();
    for key in keys {
        owners.push(balancer.clone().oneshot(query(key)).await.unwrap());
    }
    owners
}

pub(crate) fn tally(owners: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for owner in owners {
        *tally.entry(owner.as_str()).or_default() += 1;
    }
    tally
}

pub(crate) fn in_flight(handle: &Handle) -> u32 {
    handle.endpoints().iter().map(|view| view.in_flight).sum()
}

/// Only for its bounds: a balancer is all this, whatever its policy.
pub(crate) fn assert_shared<S: Clone + Send + Sync + 'static, P: Policy>(_: &Balancer<S, P>) {
    fn is<T: Clone + Send + Sync>() {}
    is::<Balancer<Named, P>>();
}
