//! What holds for any limits, fields and times.

#![cfg(feature = "http")]

use std::task::Poll;
use std::time::Duration;

use buttress_core::{Clock, HasFacts, ManualClock, Timestamp};
use buttress_http::field;
use buttress_testkit::{StrictService, Task};
use buttress_timeout::{DeadlineLayer, TimeoutLayer};
use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;
use tower::{Layer, Service};

const MILLIS: &str = "x-envoy-expected-rq-timeout-ms";

/// What the service below saw, unless the call was refused.
fn send(layer: &DeadlineLayer, request: Request<()>) -> Option<(HeaderMap, Option<Timestamp>)> {
    let (inner, _) = StrictService::<Request<()>, _>::new(|request: Request<()>| {
        let deadline = request.facts().and_then(|facts| facts.deadline);
        (request.headers().clone(), deadline)
    });
    let mut service = layer.layer(inner);
    match Task::new(service.call(request)).run() {
        Poll::Ready(answer) => answer.ok(),
        Poll::Pending => panic!("the service below answers at once"),
    }
}

/// Bytes, most of them from what the fields are made of.
fn soup() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![4 => prop::sample::select(b"0123456789HMSmun".to_vec()), 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..24)
        .prop_filter_map("bytes that are no field value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

proptest! {
    #[test]
    fn no_field_value_panics_or_lengthens_a_deadline(
        grpc in proptest::option::of(soup()),
        millis in proptest::option::of(soup()),
        at_most in 1_000_000_u64..10_000_000_000,
        known in proptest::option::of(0_u64..20_000_000_000),
    ) {
        let (at_most, known) = (Duration::from_nanos(at_most), known.map(Timestamp::from_nanos));
        let time = ManualClock::new();
        time.advance(Duration::from_secs(5));
        let now = time.now();
        let mut request = Request::new(());
        grpc.map(|value| request.headers_mut().insert("grpc-timeout", value));
        millis.map(|value| request.headers_mut().insert(MILLIS, value));
        if let Some(known) = known {
            request.facts_mut().unwrap().deadline = Some(known);
        }
        let asked = field::grpc_timeout(request.headers());

        if let Some((headers, deadline)) = send(&DeadlineLayer::new().at_most(at_most).clock(time.clock()), request) {
            let deadline = deadline.expect("the layer has a limit of its own");
            prop_assert!(deadline > now && deadline <= now + at_most);
            prop_assert!(known.is_none_or(|known| deadline <= known));
            prop_assert!(asked.is_none_or(|asked| deadline <= now + asked));
            let onward: u64 = headers[MILLIS].to_str().unwrap().parse().unwrap();
            prop_assert!(now + Duration::from_millis(onward) <= deadline);
            if headers.contains_key("grpc-timeout") {
                prop_assert!(now + field::grpc_timeout(&headers).expect("well formed") <= deadline);
            }
        }
    }

    #[test]
    fn a_grpc_timeout_goes_round_without_growing_and_nearly_without_loss(
        number in 0_u32..=99_999_999,
        unit in prop::sample::select(vec!['H', 'M', 'S', 'm', 'u', 'n']),
    ) {
        let mut request = Request::new(());
        request.headers_mut().insert("grpc-timeout", format!("{number}{unit}").parse().unwrap());
        let asked = field::grpc_timeout(request.headers()).expect("well formed");
        let layer = DeadlineLayer::new().floor(Duration::ZERO).clock(ManualClock::new().clock());

        match send(&layer, request) {
            None => prop_assert!(asked.is_zero()),
            // More than 584 years: no deadline.
            Some((headers, None)) => prop_assert!(asked.as_nanos() >= u128::from(u64::MAX) && headers.is_empty()),
            Some((headers, Some(deadline))) => {
                prop_assert_eq!(deadline, Timestamp::ZERO + asked);
                let onward = field::grpc_timeout(&headers).expect("well formed");
                prop_assert!(onward <= asked && asked - onward <= asked / 100_000, "{:?} of {:?}", onward, asked);
            }
        }
    }

    #[test]
    fn a_timeout_fires_never_early_and_at_most_a_tick_late(
        limit in 1_u64..5_000_000_000,
        asleep in 0_u64..1000,
    ) {
        let limit = Duration::from_nanos(limit);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();

        let took = runtime.block_on(async {
            // Whole ticks: tokio's paused time rounds the start down as well, and so may add a second one.
            tokio::time::advance(Duration::from_millis(asleep)).await;
            let clock = Clock::tokio();
            let (inner, handle) = StrictService::<(), ()>::new(|()| ());
            handle.hold();
            let mut service = TimeoutLayer::head(limit).clock(clock.clone()).layer(inner);
            let start = clock.now();
            service.call(()).await.unwrap_err();
            clock.now() - start
        });

        prop_assert!(took >= limit && took <= limit + Duration::from_millis(1), "{:?} of {:?}", took, limit);
    }
}
