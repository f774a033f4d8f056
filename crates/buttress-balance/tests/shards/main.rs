//! Services over sharded stores.

mod contract;
mod directory;
mod maps;
mod moving;
mod routing;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use buttress_core::{BoxError, Rejection, RejectionKind};
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

/// A splitmix64 generator: the same steps for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

fn full() -> bool {
    std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1")
}
