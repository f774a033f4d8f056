//! What a call takes from the allocator: nothing for the check, one buffer at most for the fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{FixedWindow, LeakyBucket, Limit, Memory, SlidingLog, SlidingWindow};
use buttress_testkit::{allocations, held_bytes};

fn check(memory: &Memory, cost: u32, key: impl KeyPart) -> bool {
    let mut sink = memory.sink();
    key.write(&mut sink);
    match memory.decide(sink, cost, Timestamp::from_nanos(1)) {
        Answer::Now(decision) => decision.admitted(),
        Answer::Later(_) => unreachable!("local state answers at once"),
    }
}

/// Admits the first call of a key, and refuses the second: without an allocation either time.
fn takes_nothing<K: KeyPart + Copy>(seen: K, new: K) {
    let memory = Memory::with_capacity(Limit::per_minute(1), 1000);
    assert!(check(&memory, 1, seen));

    assert_eq!(allocations(|| assert!(!check(&memory, 1, seen))), 0, "refused");
    assert_eq!(allocations(|| assert!(check(&memory, 1, new))), 0, "admitted, at first sight");
    assert_eq!(allocations(|| assert!(check(&memory, 0, new))), 0, "peeked at");
    assert_eq!(allocations(|| assert!(!check(&memory, 2, new))), 0, "never");
}

#[test]
fn a_check_allocates_nothing_whatever_the_key_is_made_of() {
    takes_nothing(1_u64, 2_u64);
    takes_nothing(IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    takes_nothing("ann", "a key that is longer than what any short string could keep in place");
    takes_nothing(("tenant", 1_u64, Ipv4Addr::LOCALHOST), ("tenant", 2_u64, Ipv4Addr::LOCALHOST));
}

#[test]
fn a_check_of_one_budget_allocates_nothing() {
    let memory = Memory::new(Limit::per_minute(2));
    let check = || match memory.decide(memory.sink(), 1, Timestamp::from_nanos(1)) {
        Answer::Now(decision) => decision.admitted(),
        Answer::Later(_) => unreachable!("local state answers at once"),
    };
    assert!(check());

    assert_eq!(allocations(|| assert!(check())), 0);
    assert_eq!(allocations(|| assert!(!check())), 0);
}

#[test]
fn a_flood_of_new_keys_allocates_nothing() {
    let memory = Memory::with_capacity(Limit::per_minute(1), 1000);
    assert!(check(&memory, 1, 0_u64));

    let mut refused = 0;
    let taken = allocations(|| {
        for key in 1..100_000_u64 {
            refused += u64::from(!check(&memory, 1, key));
        }
    });

    assert_eq!(taken, 0);
    // Two keys may have the same tag, and then the second finds the budget spent.
    assert!(refused <= 10, "{refused} refused");
}

#[cfg(feature = "http")]
/// Bytes per key of the capacity: when so many keys have come, and after a flood of others.
fn bytes_per_key(memory: &Memory) -> [i64; 2] {
    const KEYS: usize = 7_000;

    let (memory, table) = held_bytes(|| memory.clone().capacity_for(KEYS));
    let mut keys = 0_u64..;
    let mut flood =
        |count| held_bytes(|| keys.by_ref().take(count).for_each(|key| _ = check(&memory, 1, key))).1;
    let full = table + flood(KEYS);
    [full, full + flood(10 * KEYS)].map(|bytes| bytes / KEYS as i64)
}

#[test]
fn the_memory_of_a_key_is_what_the_readme_says() {
    let minute = Duration::from_secs(60);
    let named = |name| Limit::per_minute(1).named(name);
    let each = [
        (Memory::new(Limit::per_minute(1)), [16, 16]),
        (Memory::new(FixedWindow::new(64, minute)), [73, 73]),
        (Memory::new(SlidingWindow::new(64, minute)), [73, 73]),
        (Memory::new(LeakyBucket::new(64, minute)), [73, 73]),
        (Memory::all([named("one"), named("two")]), [110, 110]),
        (Memory::all([named("one"), named("two"), named("three")]), [147, 147]),
        (Memory::new(SlidingWindow::new(1_000_000_000, minute)), [122, 184]),
        (Memory::new(SlidingWindow::strict(64, minute, 6)), [150, 248]),
        (Memory::new(SlidingLog::new(64, minute)), [632, 1_354]),
        (Memory::new(Limit::per_minute(1)).settling(), [217, 403]),
    ];

    for (memory, most) in each {
        let seen = bytes_per_key(&memory);
        // Where keys go is drawn anew in each process.
        let near = |(seen, most): (&i64, &i64)| *seen <= most + most / 50 && *seen >= most - most / 20;
        assert!(seen.iter().zip(&most).all(near), "{memory:?} takes {seen:?}, and not {most:?}");
    }
}

mod layer {
    use super::*;
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context, Poll};

    use buttress_core::{Error, Fail, ManualClock};
    use buttress_rate_limit::{RateLimitLayer, key, reject};
    use bytes::Bytes;
    use http::{HeaderValue, Request, Response, header};
    use http_body_util::Full;
    use tower::{Layer, Service};

    /// Answers at once, with one field, so that the map has room for more.
    #[derive(Clone)]
    struct Hello;

    impl Service<Request<()>> for Hello {
        type Response = Response<Full<Bytes>>;
        type Error = Error<Infallible>;
        type Future = Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let mut response = Response::new(Full::from(Bytes::from_static(b"hello")));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            ready(Ok(response))
        }
    }

    /// What one call takes, the third of a client's, and whether it passes.
    fn third_call<S>(mut service: S) -> (u64, bool)
    where
        S: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Error<Infallible>>,
    {
        let mut requests: Vec<Request<()>> =
            (0..3).map(|_| Request::get("/").header("x-api-key", "ann").body(()).unwrap()).collect();
        let mut call = || {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            assert!(service.poll_ready(cx).is_ready());
            match std::pin::pin!(service.call(requests.pop().unwrap())).poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => unreachable!("the inner service answers at once"),
            }
        };
        let _ = (call(), call());
        let mut answer = None;
        let taken = allocations(|| answer = Some(call()));
        (taken, answer.unwrap().is_ok_and(|response| response.status() == 200))
    }

    fn limit(calls: u64) -> RateLimitLayer<key::Header> {
        RateLimitLayer::new(Limit::per_minute(calls))
            .clock(ManualClock::new().clock())
            .by(key::header("x-api-key"))
    }

    /// What one call takes without the layer.
    fn bare() -> u64 {
        third_call(Hello).0
    }

    #[test]
    fn a_call_that_passes_allocates_nothing() {
        assert_eq!(third_call(limit(10).layer(Hello)), (bare(), true));
        assert_eq!(third_call(limit(10).on_reject(reject::respond()).layer(Hello)), (bare(), true));
    }

    #[test]
    fn the_fields_of_a_call_that_passes_take_one_allocation_at_most() {
        let layer = limit(10).on_reject(reject::respond()).annotate_success(true);

        let (taken, passes) = third_call(layer.layer(Hello));

        assert!(passes);
        assert!(taken <= bare() + 1, "{taken} allocations, {} of them not ours", bare());
    }

    #[test]
    fn a_refusal_as_a_response_takes_eight_allocations_at_most() {
        let layer = limit(1).on_reject(reject::respond());

        let (taken, passes) = third_call(layer.layer(Hello));

        assert!(!passes);
        // The body, the map of the fields, the extensions, and the values in them.
        assert!(taken <= 8, "{taken} allocations");
    }

    #[test]
    fn a_refusal_as_an_error_allocates_nothing() {
        assert_eq!(third_call(limit(1).on_reject(Fail).layer(Hello)), (0, false));
    }
}
