//! What does a layer that does nothing add to a call, beside the bare service and tower's own limit?

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::task::{Context, Poll, Waker};

use buttress_core::{Clock, LiftErrorsLayer, OnCall};
use criterion::{Criterion, criterion_group, criterion_main};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceBuilder};

#[derive(Clone, Copy)]
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: u64) -> Self::Future {
        ready(Ok(req))
    }
}

/// One call, from readiness to the answer, by a waker that does nothing.
fn call<S: Service<u64, Response = u64>>(service: &mut S) -> u64 {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    let future = std::pin::pin!(service.call(black_box(7)));
    match future.poll(cx) {
        Poll::Ready(Ok(answer)) => answer,
        _ => unreachable!("the service answers at once"),
    }
}

fn overhead(c: &mut Criterion) {
    let mut group = c.benchmark_group("overhead");
    group.bench_function("bare", |b| {
        let mut service = Echo;
        b.iter(|| call(&mut service));
    });
    group.bench_function("one OnCall", |b| {
        let mut service = OnCall::new(Echo);
        b.iter(|| call(&mut service));
    });
    group.bench_function("six OnCall", |b| {
        let six = OnCall::new(OnCall::new(OnCall::new(Echo)));
        let mut service = OnCall::new(OnCall::new(OnCall::new(six)));
        b.iter(|| call(&mut service));
    });
    group.bench_function("OnCall over lifted errors", |b| {
        let mut service = OnCall::new(LiftErrorsLayer::new().layer(Echo));
        b.iter(|| call(&mut service));
    });
    group.bench_function("peer: tower ConcurrencyLimit", |b| {
        let mut service = ServiceBuilder::new().service(ConcurrencyLimit::new(Echo, 1));
        b.iter(|| call(&mut service));
    });
    group.finish();
}

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    for (name, clock) in [("monotonic", Clock::monotonic()), ("coarse", Clock::coarse())] {
        group.bench_function(name, |b| b.iter(|| black_box(&clock).now()));
    }
    #[expect(clippy::disallowed_methods, reason = "the peer of our clock")]
    group.bench_function("peer: std Instant", |b| b.iter(std::time::Instant::now));
    group.finish();
}

criterion_group!(benches, overhead, clocks);
criterion_main!(benches);
