//! A service that cannot be shared, as axum does.

use std::task::{Context, Poll};

use tower_layer::layer_fn;
use tower_service::Service;

#[derive(Clone)]
struct Broken<S> {
    inner: S,
    _state: std::cell::Cell<u32>,
}

impl<S: Service<u32>> Service<u32> for Broken<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: u32) -> Self::Future {
        self.inner.call(req)
    }
}

fn main() {
    buttress_testkit::contract(|| layer_fn(|inner| Broken { inner, _state: std::cell::Cell::new(0) }));
}
