//! A future that cannot be spawned.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::layer_fn;
use tower_service::Service;

#[derive(Clone)]
struct Broken<S> {
    inner: S,
}

impl<S: Service<u32, Future: 'static>> Service<u32> for Broken<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: u32) -> Self::Future {
        Box::pin(self.inner.call(req))
    }
}

fn main() {
    buttress_testkit::contract(|| layer_fn(|inner| Broken { inner }));
}
