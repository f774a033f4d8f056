//! What a call takes from the allocator: nothing, neither when it passes nor when it is refused with an error.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, Ramp, Window};
use buttress_core::{Classify, Error, Fail, Key, ManualClock};
use buttress_testkit::allocations;
use tower::{Layer, Service};

/// Answers at once.
#[derive(Clone)]
struct Echo;

impl Service<u32> for Echo {
    type Response = u32;
    type Error = Error<Infallible>;
    type Future = Ready<Result<u32, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

/// Whether a call passes.
fn call<S>(service: &mut S) -> bool
where
    S: Service<u32, Response = u32, Error = Error<Infallible>>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    match std::pin::pin!(service.call(7)).poll(cx) {
        Poll::Ready(result) => result.is_ok(),
        Poll::Pending => unreachable!("the inner service answers at once"),
    }
}

/// A call that passes takes nothing, and neither does one that is refused.
fn takes_nothing<K, C>(layer: &CircuitBreakerLayer<K, Fail, C>)
where
    K: Key<u32> + Clone,
    C: Classify<u32, Error<Infallible>> + Clone,
{
    let mut service = layer.layer(Echo);
    assert!(call(&mut service), "the first call of a key makes its breaker");

    assert_eq!(allocations(|| assert!(call(&mut service))), 0, "a call that passes");

    layer.handle().force_open();
    assert_eq!(allocations(|| assert!(!call(&mut service))), 0, "a call that is refused by hand");
    layer.handle().reset();
    layer.handle().open_for(Duration::from_secs(1));
    assert!(layer.handle().keys().iter().all(|key| key.open_for(Duration::from_secs(1))));
    assert_eq!(allocations(|| assert!(!call(&mut service))), 0, "a call that is refused with a wait");
}

fn simple() -> CircuitBreakerLayer {
    CircuitBreakerLayer::default().named(String::from("a name of its own")).clock(ManualClock::new().clock())
}

#[test]
fn a_call_allocates_nothing_whatever_is_judged() {
    takes_nothing(&simple());
    takes_nothing(&simple().window(Window::last(100)));
    takes_nothing(&simple().window(Window::last(20_000)).consecutive_failures(5));
    takes_nothing(&simple().slow_calls(Duration::from_secs(1), 0.5).ramp(Ramp::Calls(10)));
}

#[test]
fn nor_whatever_its_key_is() {
    takes_nothing(&simple().by(|n: &u32| Some(*n)));
    takes_nothing(&simple().by(|_: &u32| Some(IpAddr::V6(Ipv6Addr::LOCALHOST))));
    takes_nothing(
        &simple().by(|_: &u32| Some("a key that is longer than what any short string keeps in place")),
    );
}

#[test]
fn nor_where_there_is_no_room_for_its_breaker() {
    let layer = simple().by(|n: &u32| Some(*n)).capacity(1);
    assert_eq!((100..108_u32).filter(|key| layer.handle().key(*key).force_open()).count(), 8);
    let mut service = layer.layer(Echo);

    assert_eq!(allocations(|| assert!(call(&mut service))), 0);
    assert_eq!(layer.handle().counts().crowded, 1);
}

#[test]
fn an_observer_costs_a_refusal_nothing() {
    takes_nothing(&simple().by(|n: &u32| Some(*n)).observe(|_| {}));
}

#[test]
fn a_probe_and_a_call_on_the_ramp_allocate_nothing() {
    let time = ManualClock::new();
    let layer = simple().clock(time.clock()).probes(3).ramp(Ramp::Time(Duration::from_secs(1)));
    let mut service = layer.layer(Echo);
    layer.handle().open_for(Duration::from_secs(1));
    time.advance(Duration::from_secs(1));
    assert!(call(&mut service), "the step to half-open may");

    assert_eq!(allocations(|| assert!(call(&mut service))), 0, "a probe");

    assert!(call(&mut service), "the step to the ramp may");
    assert_eq!(allocations(|| (0..50).filter(|_| call(&mut service)).count()), 0, "on the ramp");
}

#[cfg(feature = "http")]
mod http {
    use ::http::{HeaderValue, Request, Response, header};
    use buttress_circuit_breaker::{classify, reject};
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[derive(Clone)]
    struct Hello;

    impl Service<Request<()>> for Hello {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let mut response = Response::new(Full::from(Bytes::from_static(b"hello")));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            ready(Ok(response))
        }
    }

    /// What one call takes.
    fn taken<S: Service<Request<()>>>(service: &mut S) -> u64 {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut once = || {
            assert!(service.poll_ready(cx).is_ready());
            assert!(std::pin::pin!(service.call(Request::new(()))).poll(cx).is_ready());
        };
        once();
        allocations(once)
    }

    #[test]
    fn a_call_that_passes_allocates_nothing_at_the_head_or_at_the_end() {
        let layer = simple().classify(classify::status()).on_reject(reject::respond());
        let bare = taken(&mut Hello);

        assert_eq!(taken(&mut layer.layer(Hello)), bare);
        let layer = layer.slow_calls(Duration::from_secs(1), 0.5);
        assert_eq!(taken(&mut layer.clone().at_end().layer(Hello)), bare);
        assert_eq!(taken(&mut layer.slow_to_end().layer(Hello)), bare);
    }

    #[test]
    fn a_refusal_as_a_response_takes_sixteen_allocations_at_most() {
        let layer = simple().classify(classify::status()).on_reject(reject::respond());
        layer.handle().open_for(Duration::from_secs(1));

        let taken = taken(&mut layer.layer(Hello));

        // The body, the map of the fields, the extensions, and the values in them.
        assert!(taken <= 16, "{taken} allocations");
    }
}
