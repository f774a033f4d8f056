//! One of several services by weight and by key.

mod behaviour;
mod contract;
#[cfg(feature = "http")]
mod header;
mod properties;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_core::Key;
use tower::{Service, ServiceExt};

/// Answers with its own number.
#[derive(Clone, Copy, Debug)]
struct Side(usize);

impl<Req> Service<Req> for Side {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(Ok(self.0))
    }
}

fn sides(weights: &[u32]) -> Vec<(u32, Side)> {
    weights.iter().enumerate().map(|(side, weight)| (*weight, Side(side))).collect()
}

/// Users are numbers.
fn user() -> impl Key<u64> + Copy {
    |user: &u64| Some(*user)
}

/// The side that answers.
fn ask<S, Req>(split: &S, req: Req) -> usize
where
    S: Service<Req, Response = usize, Error = Infallible> + Clone,
{
    let call = split.clone().oneshot(req);
    let mut call = buttress_testkit::Task::new(call);
    match call.run() {
        Poll::Ready(Ok(side)) => side,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => panic!("a call waits although its side is ready"),
    }
}
