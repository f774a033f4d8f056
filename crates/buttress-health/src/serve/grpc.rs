use std::collections::HashSet;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::Name;
use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::stream::unfold;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::{Phase, Readiness};

/// Tells gRPC clients and probes whether the service is ready: `grpc.health.v1.Health`.
///
/// ```
/// use buttress_health::{GrpcHealth, Readiness};
///
/// let readiness = Readiness::new();
/// let health = GrpcHealth::new(&readiness).service("shop.Orders").into_server();
/// // tonic::transport::Server::builder().add_service(health).serve_with_shutdown(address, shutdown.stopping())
/// # let _ = health;
/// ```
///
/// | call | answer |
/// |---|---|
/// | `Check` | `SERVING` while `/readyz` would be 200, else `NOT_SERVING`; of a service that is not known, the status `NOT_FOUND` |
/// | `Watch` | the same at once, and again at each change; of a service that is not known `SERVICE_UNKNOWN`, and the call goes on |
///
/// The name of the server as a whole is empty, and always known. All services share the one state. `List` is not in
/// tonic-health 0.14, and so is `UNIMPLEMENTED`.
///
/// Changes are told as they are noticed: those of the phase at once, those of a dependency when its check has run, which a
/// watch sees to every [`refresh`](Self::refresh).
///
/// When the service stops, a watch says `NOT_SERVING` and ends with `UNAVAILABLE`. A client that asks again is told the same.
/// Were it kept open, as the protocol would have it, each watching client would hold up the shutdown for the whole of its
/// grace.
#[derive(Clone, Debug)]
pub struct GrpcHealth {
    readiness: Readiness,
    services: Arc<HashSet<Name>>,
    refresh: Duration,
}

impl GrpcHealth {
    /// Answers by this state, for the server as a whole.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        Self { readiness: readiness.clone(), services: Arc::default(), refresh: Duration::from_secs(5) }
    }

    /// Answers for the service of this name too, `package.Service`.
    #[must_use]
    pub fn service(mut self, name: impl Into<Name>) -> Self {
        Arc::make_mut(&mut self.services).insert(name.into());
        self
    }

    /// Answers for this service of tonic's too: `service_of::<OrdersServer<Orders>>()`.
    #[must_use]
    pub fn service_of<S: NamedService>(self) -> Self {
        self.service(Name::from_static(S::NAME))
    }

    /// Has the checks run so often for each client that watches: those whose TTL is over, and once for all who watch. The
    /// default is 5 s, at which our own probes ask as well.
    ///
    /// # Panics
    ///
    /// When `every` is zero.
    #[must_use]
    #[track_caller]
    pub fn refresh(mut self, every: Duration) -> Self {
        assert!(!every.is_zero(), "refresh is 0s: it must be longer, as each has checks run");
        self.refresh = every;
        self
    }

    /// The service to add to a tonic server.
    #[must_use]
    pub fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(service)
    }

    async fn status(&self) -> ServingStatus {
        match self.readiness.report().await.status.is_ready() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }
}

#[async_trait]
impl Health for GrpcHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(HealthCheckResponse { status: self.status().await.into() }))
    }

    type WatchStream = GrpcWatch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<GrpcWatch>, Status> {
        let changes = self.readiness.changes();
        let known = self.knows(&request.get_ref().service);
        let watch = Watch { health: self.clone(), known, changes, said: None, state: State::Open };
        Ok(Response::new(GrpcWatch(Box::pin(unfold(watch, Watch::next)))))
    }
}

type Item = Result<HealthCheckResponse, Status>;

/// What a client is told that watches.
pub struct GrpcWatch(Pin<Box<dyn Stream<Item = Item> + Send>>);

impl Stream for GrpcWatch {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for GrpcWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcWatch").finish_non_exhaustive()
    }
}

struct Watch {
    health: GrpcHealth,
    known: bool,
    changes: watch::Receiver<()>,
    said: Option<ServingStatus>,
    state: State,
}

enum State {
    Open,
    /// All was said but the end.
    Stopping,
    Ended,
}

impl Watch {
    async fn next(mut self) -> Option<(Item, Self)> {
        loop {
            match self.state {
                State::Ended => return None,
                State::Stopping => {
                    self.state = State::Ended;
                    return Some((Err(Status::unavailable("shutting down")), self));
                }
                State::Open => {}
            }
            // Before the look, so that no change is missed that comes after it.
            self.changes.mark_unchanged();
            let stops = self.health.readiness.phase() == Phase::Stopping;
            let status = match self.known {
                false => ServingStatus::ServiceUnknown,
                // There is no need to wait for checks.
                true if stops => ServingStatus::NotServing,
                true => self.status_or_stop().await,
            };
            if stops {
                self.state = State::Stopping;
            }
            if self.said != Some(status) {
                self.said = Some(status);
                return Some((Ok(HealthCheckResponse { status: status.into() }), self));
            }
            if !stops {
                self.changed().await;
            }
        }
    }

    /// What the checks say; they are not waited for once the service stops.
    async fn status_or_stop(&self) -> ServingStatus {
        let mut changes = self.changes.clone();
        let stops = async {
            while self.health.readiness.phase() != Phase::Stopping && changes.changed().await.is_ok() {}
        };
        match select(pin!(self.health.status()), pin!(stops)).await {
            Either::Left((status, _)) => status,
            Either::Right(_) => ServingStatus::NotServing,
        }
    }

    /// Until something has changed, or the checks are to be run again.
    async fn changed(&mut self) {
        let clock = self.health.readiness.inner().clock();
        let refresh = pin!(clock.sleep(self.health.refresh));
        select(pin!(self.changes.changed()), refresh).await;
    }
}
