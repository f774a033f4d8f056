//! Around the layers of a route: its requests are counted, and the record in the access log learns its name.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress::{
    Finish, Rejection,
    body::{AtEnd, EndForm, Tracked},
};
use http::{Request, Response};
use hyper::body::Body;
use pin_project::pin_project;
use tower::Service;

use super::{said, whole::Noted};
use crate::metrics::{self, InFlight, RouteCounts};

#[derive(Clone)]
pub(super) struct Routed<S> {
    service: S,
    route: Arc<str>,
    counts: Option<Arc<RouteCounts>>,
}

impl<S> Routed<S> {
    pub(super) fn new(service: S, route: Arc<str>, counts: Option<Arc<RouteCounts>>) -> Self {
        Self { service, route, counts }
    }
}

impl<S, Q, B> Service<Request<Q>> for Routed<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    type Response = Response<Tracked<B, InFlight>>;
    type Error = Infallible;
    type Future = RoutedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let noted = request.extensions().get::<Noted>().cloned();
        if let Some(Noted(call)) = &noted {
            call.learn(|known| known.route = Some(Arc::clone(&self.route)));
        }
        let form = Finish::<_, Response<B>, InFlight>::form(&AtEnd, &request);
        let counted = self.counts.as_ref().map(|counts| (counts.begin(), form));
        RoutedFuture { future: self.service.call(request), counted, noted }
    }
}

#[pin_project]
pub(super) struct RoutedFuture<F> {
    #[pin]
    future: F,
    counted: Option<(InFlight, EndForm)>,
    noted: Option<Noted>,
}

impl<F, B> Future for RoutedFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<Tracked<B, InFlight>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.future.poll(cx));
        said::routed();
        let rejection = response.extensions().get::<Rejection>();
        let refused =
            rejection.map(|rejection| metrics::rejection(rejection.kind)).or_else(said::take_failed);
        if let (Some(Noted(call)), Some(reason)) = (this.noted, refused) {
            call.learn(|known| known.refused = Some(reason.into()));
        }
        Poll::Ready(Ok(match this.counted.take() {
            None => response.map(Tracked::untracked),
            Some((mut counted, form)) => {
                counted.answered(response.status(), refused);
                Finish::<Request<()>, _, _>::finish(&AtEnd, form, response, counted)
            }
        }))
    }
}
