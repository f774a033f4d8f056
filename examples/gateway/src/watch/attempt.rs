//! At an endpoint: the record in the access log learns where the request went.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use buttress::Endpoint;
use http::Request;
use tower::{Layer, Service};

use super::whole::Noted;

/// Tells the record of each request of the endpoint that it goes to.
#[derive(Clone, Debug)]
pub(crate) struct AttemptLayer(Option<Arc<str>>);

impl AttemptLayer {
    /// Without an endpoint it tells nobody.
    pub(super) fn new(endpoint: Option<&Endpoint>) -> Self {
        Self(endpoint.map(|endpoint| endpoint.name().as_str().into()))
    }
}

impl<S> Layer<S> for AttemptLayer {
    type Service = Attempt<S>;

    fn layer(&self, service: S) -> Attempt<S> {
        Attempt { service, endpoint: self.0.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Attempt<S> {
    service: S,
    endpoint: Option<Arc<str>>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Attempt<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let (Some(endpoint), Some(Noted(call))) = (&self.endpoint, request.extensions().get()) {
            call.attempt(endpoint);
        }
        self.service.call(request)
    }
}
