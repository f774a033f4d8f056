//! Who is compared: our limiter and its peers, under one limit that never refuses and one that always does.
#![allow(dead_code, reason = "each bench takes what it compares")]

use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{Limit, Memory};
use governor::Quota;
use governor::clock::Clock;
use governor::nanos::Nanos;
use http::{HeaderValue, Request, Response, header};
use tower::Service;

/// More per second than one thread can ask for: every call passes.
pub(crate) const RATE: u32 = 1_000_000_000;

/// A power of two, so that walking round the keys is a mask.
pub(crate) const KEYS: usize = 1024;

/// What the layers by key allow: more than comes, in numbers of the usual length.
pub(crate) const AMPLE: u32 = 1_000_000;

pub(crate) fn memory() -> Memory {
    Memory::new(Limit::per_second(RATE.into()))
}

pub(crate) fn ample() -> Limit {
    Limit::per_second(AMPLE.into())
}

/// Passes one call of each key, then none for a minute.
pub(crate) fn tight() -> Limit {
    Limit::per_minute(1)
}

#[inline(always)]
pub(crate) fn admitted(memory: &Memory, key: <Memory as Store>::Sink, now: Timestamp) -> bool {
    match memory.decide(key, 1, now) {
        Answer::Now(decision) => decision.admitted(),
        Answer::Later(_) => unreachable!("local state answers at once"),
    }
}

#[inline(always)]
pub(crate) fn check(memory: &Memory, now: Timestamp, key: impl KeyPart) -> bool {
    let mut sink = memory.sink();
    key.write(&mut sink);
    admitted(memory, sink, now)
}

/// A check, and a report of what is left.
#[inline]
pub(crate) fn check_and_tell(memory: &Memory, now: Timestamp, key: impl KeyPart) -> u64 {
    let mut sink = memory.sink();
    key.write(&mut sink);
    let Answer::Now(decision) = memory.decide(sink, 1, now) else {
        unreachable!("local state answers at once")
    };
    let mut left = 0;
    memory.quotas(&decision, &mut |quota| left = quota.remaining + quota.reset.as_nanos() as u64);
    left
}

pub(crate) fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(RATE).expect("not 0"))
}

pub(crate) fn tight_quota() -> Quota {
    Quota::per_minute(NonZeroU32::MIN)
}

/// A clock that costs nothing, for governor: what is left is the check alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed;

impl Clock for Fixed {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        black_box(Nanos::new(1))
    }
}

/// The same for ours.
#[inline]
pub(crate) fn fixed() -> Timestamp {
    black_box(Timestamp::from_nanos(1))
}

pub(crate) fn numbers(count: usize) -> Vec<u64> {
    (0..count as u64).map(scatter).collect()
}

pub(crate) fn addresses(count: usize) -> Vec<IpAddr> {
    (0..count as u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n * 7919))).collect()
}

/// 19 bytes each.
pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("api-key-{n:011}")).collect()
}

/// A permutation of the integers that looks like chance (SplitMix64).
#[inline]
pub(crate) const fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// An error that can carry a rejection.
pub(crate) type Error = buttress_core::Error<std::convert::Infallible>;

/// A service that answers at once, with one field and a short body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello;

impl Service<Request<()>> for Hello {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Ready<Result<Response<Body>, Error>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, _: Request<()>) -> Self::Future {
        let mut response = Response::new(Body::from("hello"));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        ready(Ok(response))
    }
}

/// A service that does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit;

impl Service<()> for Unit {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

/// A request as axum hands it on, from this client.
pub(crate) fn request(client: IpAddr) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 50123)));
    request
}

/// One call, from readiness to the answer, by a waker that does nothing.
#[inline]
pub(crate) fn call<S, Req>(service: &mut S, req: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    ready_now(pin!(service.call(req)))
}

/// The output of a future that does not wait.
#[inline]
pub(crate) fn poll<F: Future>(future: F) -> F::Output {
    ready_now(pin!(future))
}

/// The output of a future that does not wait, pinned where it was made: nothing is counted for moving it.
#[inline]
pub(crate) fn ready_now<F: Future>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the answer is there at once"),
    }
}

/// The layers that are compared, over [`Hello`].
pub(crate) mod layers {
    use super::*;
    use buttress_core::Fail;
    use buttress_http::{key, reject};
    use buttress_rate_limit::RateLimitLayer;
    use tower::Layer;
    use tower_governor::GovernorLayer;
    use tower_governor::governor::GovernorConfigBuilder;
    use tower_resilience_ratelimiter::RateLimiterLayer;

    /// What all of them are.
    pub(crate) trait Api:
        Service<Request<()>, Response = Response<Body>, Error: std::fmt::Debug>
    {
    }

    impl<S: Service<Request<()>, Response = Response<Body>, Error: std::fmt::Debug>> Api for S {}

    /// Ours, by address; a refusal is an error.
    pub(crate) fn typed(limit: Limit) -> impl Api {
        RateLimitLayer::new(limit).by(key::client_ip()).on_reject(Fail).layer(Hello)
    }

    /// Ours, by address; a refusal is a response, and `fields` go onto every answer or onto refusals alone.
    pub(crate) fn answered(limit: Limit, fields: bool) -> impl Api {
        RateLimitLayer::new(limit)
            .by(key::client_ip())
            .on_reject(reject::respond())
            .annotate_success(fields)
            .layer(Hello)
    }

    /// Ours with one budget; a refusal is an error.
    pub(crate) fn global(limit: Limit) -> impl Api {
        RateLimitLayer::new(limit).layer(Hello)
    }

    /// `tower_governor` by address, with `use_headers`.
    pub(crate) fn governor(period: Duration, burst: u32) -> impl Api {
        let config = GovernorConfigBuilder::default().period(period).burst_size(burst).use_headers().finish();
        GovernorLayer::new(config.expect("neither is 0")).layer(Hello)
    }

    /// `tower_governor` by address, as it comes.
    pub(crate) fn governor_silent(period: Duration, burst: u32) -> impl Api {
        let config = GovernorConfigBuilder::default().period(period).burst_size(burst).finish();
        GovernorLayer::new(config.expect("neither is 0")).layer(Hello)
    }

    /// `tower-resilience`, which has no keys and no fields, with its default algorithm.
    pub(crate) fn resilience(limit: usize, period: Duration) -> impl Api {
        RateLimiterLayer::builder()
            .limit_for_period(limit)
            .refresh_period(period)
            .timeout_duration(Duration::ZERO)
            .build()
            .expect("the numbers are in range")
            .layer(Hello)
    }
}
