//! Services over sharded stores.

mod contract;
mod directory;
mod maps;
mod moving;
mod routing;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use buttress_core::{BoxError, Chance, Rejection, RejectionKind};
use tower_service::Service;

/// Looks once, without a runtime.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Calls a service that answers at once.
fn now<S, Req>(service: &S, req: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req> + Clone,
{
    let mut service = service.clone();
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    match poll(&mut Box::pin(service.call(req))) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it does not answer at once"),
    }
}

fn kind(error: &BoxError) -> RejectionKind {
    error.downcast_ref::<Rejection>().expect("it is a refusal of ours").kind
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

fn full() -> bool {
    std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1")
}
