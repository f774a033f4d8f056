//! Around the whole service: the record of a request begins and ends here.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwapOption;
use buttress::{
    Clock, End, Finish, Guard, Timestamp,
    body::{AtEnd, EndForm, Tracked},
    key::ClientIp,
};
use http::{Request, Response};
use hyper::body::Body;
use pin_project::pin_project;
use tower::Service;

use super::said;
use crate::{
    access_log::{AccessLog, Call, Ended, Settings, request_id},
    inbound::Inbound,
    metrics::RouteCounts,
};

/// The record of a request, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Noted(pub(super) Arc<Call>);

/// The access log of the present configuration.
#[derive(Debug)]
pub(super) struct Logging {
    pub(super) settings: Settings,
    pub(super) client: ClientIp,
    pub(super) log: AccessLog,
}

#[derive(Clone)]
pub(super) struct Whole<S> {
    service: S,
    clock: Clock,
    logging: Arc<ArcSwapOption<Logging>>,
    /// What the router answers itself.
    unrouted: Option<Arc<RouteCounts>>,
}

impl<S> Whole<S> {
    pub(super) fn new(
        service: S,
        clock: Clock,
        logging: Arc<ArcSwapOption<Logging>>,
        unrouted: Option<Arc<RouteCounts>>,
    ) -> Self {
        Self { service, clock, logging, unrouted }
    }
}

impl<S, B> Service<Request<Inbound>> for Whole<S>
where
    S: Service<Request<Inbound>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    type Response = Response<Tracked<B, Record>>;
    type Error = Infallible;
    type Future = WholeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Inbound>) -> Self::Future {
        let unrouted = self.unrouted.as_ref().map(|counts| (Arc::clone(counts), self.clock.now()));
        let record = self.logging.load().as_ref().map(|logging| {
            let client = logging.client.address(&request);
            let now = (self.clock.wall(), self.clock.now());
            let call = Arc::new(Call::new(&request, client, logging.log.with_query(), now));
            request.extensions_mut().insert(Noted(Arc::clone(&call)));
            let record =
                Record { call, clock: self.clock.clone(), log: logging.log.clone(), end: Ended::Aborted };
            (record, Finish::<_, Response<B>, Record>::form(&AtEnd, &request))
        });
        let request = match &record {
            Some((record, _)) => request.map(|body| body.counted(&record.call)),
            None => request,
        };
        WholeFuture { future: self.service.call(request), record, unrouted }
    }
}

#[pin_project]
pub(super) struct WholeFuture<F> {
    #[pin]
    future: F,
    record: Option<(Record, EndForm)>,
    unrouted: Option<(Arc<RouteCounts>, Timestamp)>,
}

impl<F, B> Future for WholeFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<Tracked<B, Record>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.future.poll(cx));
        let routed = said::take_routed();
        if let Some((counts, started)) = this.unrouted.take().filter(|_| !routed) {
            counts.begin_at(started).answered(response.status(), None);
        }
        Poll::Ready(Ok(match this.record.take() {
            None => response.map(Tracked::untracked),
            Some((record, form)) => {
                record.call.answered(response.status(), record.clock.now());
                if let Some(id) = request_id(response.headers()) {
                    record.call.learn(|known| known.request_id = Some(id));
                }
                Finish::<Request<()>, _, _>::finish(&AtEnd, form, response, record)
            }
        }))
    }
}

/// Writes the record when the request is over, however it ends.
#[derive(Debug)]
pub(crate) struct Record {
    call: Arc<Call>,
    clock: Clock,
    log: AccessLog,
    end: Ended,
}

impl Guard for Record {
    fn data(&mut self, bytes: u64) {
        self.call.gave(bytes);
    }

    fn end(&mut self, end: &End<'_>) {
        self.end = match end {
            End::Head | End::Complete { .. } => Ended::Complete,
            End::Failed => Ended::Failed,
            _ => Ended::Aborted,
        };
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.call.ended(self.end, self.clock.now());
        self.log.write(Arc::clone(&self.call));
    }
}
