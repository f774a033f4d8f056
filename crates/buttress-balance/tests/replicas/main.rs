//! Services over replicated stores.

mod behaviour;
mod contract;
mod policy;
mod properties;

use std::task::{Context, Poll, Waker};

use buttress_core::Chance;
use tower_service::Service;

/// Calls a service that answers at once.
fn now<S, Req>(service: &S, req: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req> + Clone,
{
    let mut service = service.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match Box::pin(service.call(req)).as_mut().poll(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it does not answer at once"),
    }
}

/// The same steps for the same seed.
struct Random(Chance);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Chance::new(Some(seed)))
    }

    fn below(&self, count: u64) -> u64 {
        self.0.draw() % count
    }
}
