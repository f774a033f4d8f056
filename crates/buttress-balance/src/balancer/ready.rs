//! Readying endpoints before a call comes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use buttress_core::{Endpoint, EndpointId};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tower_service::Service;

use super::shared::Shared;
use crate::backoff::backoff;
use crate::{BalanceEvent, Policy};

/// Readies a clone of a service, and says whether that has succeeded.
pub(crate) type Ready<S> = Arc<dyn Fn(&S) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

pub(crate) fn ready<S, Req>() -> Ready<S>
where
    S: Service<Req> + Clone + Send + 'static,
{
    Arc::new(|service: &S| {
        let mut service = service.clone();
        Box::pin(async move { poll_fn(|cx| service.poll_ready(cx)).await.is_ok() })
    })
}

/// The endpoints that are being readied, or have been.
#[derive(Default)]
pub(crate) struct Readying(Mutex<HashMap<EndpointId, Task>>);

/// Ends with its endpoint, and with the balancer.
struct Task {
    endpoint: Endpoint,
    task: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S, P, C> Shared<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    /// Readies the endpoints that are new, where that is asked for.
    pub(crate) fn ready(self: &Arc<Self>) {
        let Some(ready) = &self.ready else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let snapshot = self.snapshot();
        let members = &snapshot.tables.members;
        let present = |endpoint: &Endpoint| {
            let at = snapshot.tables.by_id.get(&endpoint.id());
            at.is_some_and(|&at| members[at as usize].endpoint.is_configured_as(endpoint))
        };
        let mut tasks = self.readying.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|_, task| present(&task.endpoint));
        for endpoint in members.iter().map(|member| &member.endpoint) {
            tasks.entry(endpoint.id()).or_insert_with(|| {
                let task = until_ready(Arc::downgrade(self), endpoint.id(), Arc::clone(ready));
                Task { endpoint: endpoint.clone(), task: runtime.spawn(task).abort_handle() }
            });
        }
    }
}

async fn until_ready<S, P, C>(shared: Weak<Shared<S, P, C>>, id: EndpointId, ready: Ready<S>)
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    let mut failures = 0;
    loop {
        let readied = {
            let Some(shared) = shared.upgrade() else { return };
            let snapshot = shared.snapshot();
            let Some(&at) = snapshot.tables.by_id.get(&id) else { return };
            ready(&snapshot.tables.members[at as usize].service)
        };
        if readied.await {
            return;
        }
        failures += 1;
        let retry_after = backoff(RETRY.0, RETRY.1, failures);
        let waits = {
            let Some(shared) = shared.upgrade() else { return };
            let settings = &shared.rules.settings;
            settings.tell(&BalanceEvent::NotReady { endpoint: id, retry_after });
            settings.clock.sleep(retry_after)
        };
        waits.await;
    }
}
