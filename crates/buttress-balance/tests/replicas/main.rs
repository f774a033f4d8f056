//! Services over replicated stores.
//!
//! The full property runs 10^6 steps of each kind:
//! `BUTTRESS_FULL_PROPERTIES=1 cargo test --release -p buttress-balance --test replicas`.

mod behaviour;
mod contract;
mod policy;
mod properties;

use std::task::{Context, Poll, Waker};

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
