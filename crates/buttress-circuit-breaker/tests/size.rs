//! What breakers take of memory, and calls of the allocator.

use std::time::Duration;

use allocation_counter::measure;
use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Judged, Keyed, Rules, Settings, Window};
use buttress_core::Timestamp;

const START: Timestamp = Timestamp::from_nanos(3_600_000_000_000);

fn rules(window: Window) -> Rules {
    Settings::default().window(window).rules().unwrap()
}

/// All bytes of a breaker: its own, and what it has allocated.
fn bytes(window: Window) -> usize {
    let rules = rules(window);
    let mut kept = None;
    let heap = measure(|| kept = Some(Breaker::new(&rules))).bytes_current;
    size_of::<Breaker>() + usize::try_from(heap).unwrap()
}

#[test]
fn a_breaker_takes_at_most_128_bytes() {
    let last = bytes(Window::last(100));
    let time = bytes(Window::time(Duration::from_secs(10)));

    assert!(last <= 128, "{last} with a window of 100 calls");
    assert!(time <= 128, "{time} with a window of ten slices");
}

#[test]
fn a_long_window_takes_little_more_than_two_bits_for_each_call() {
    let bytes = bytes(Window::last(20_000));

    assert!(bytes < 20_000 / 4 * 8 / 7 + 128, "{bytes} for 20 000 calls");
}

#[test]
fn a_key_takes_less_than_256_bytes_and_more_keys_take_no_more() {
    for window in [Window::last(100), Window::time(Duration::from_secs(10))] {
        let rules = rules(window);
        let mut kept = None;
        let heap = measure(|| {
            let keyed = Keyed::new(1000, Duration::from_secs(60));
            (0..1000_u64).for_each(|key| ask(&keyed, &rules, key));
            kept = Some(keyed);
        });
        let keyed = kept.unwrap();
        let each = heap.bytes_current / keyed.len() as i64;

        let more = measure(|| (1000..10_000).for_each(|key| ask(&keyed, &rules, key)));

        assert!(each <= 256, "{each} bytes for each of {} keys", keyed.len());
        let room = (keyed.capacity() - 1000) as i64 * 256;
        assert!(more.bytes_current <= room, "{} bytes more", more.bytes_current);
        let most = measure(|| (10_000..100_000).for_each(|key| ask(&keyed, &rules, key)));
        assert_eq!(most.count_total, 0);
    }
}

fn ask(keyed: &Keyed, rules: &Rules, key: u64) {
    // Spread as hashes are.
    let hash = (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let _ = keyed.admit(rules, hash ^ hash >> 29, START, || 0, |_| {});
}

#[test]
fn a_call_allocates_nothing_and_a_refusal_neither() {
    for window in [Window::last(100), Window::time(Duration::from_secs(10))] {
        let rules = rules(window);
        let breaker = Breaker::new(&rules);
        let call = |judged| {
            if let Ok(admission) = breaker.admit(&rules, || START, || 0, |_| {}) {
                breaker.record(&rules, admission, judged, false, || START, || 0, |_| {});
            }
        };

        let calls = measure(|| {
            (0..100).for_each(|_| call(Judged::Success));
            // It opens, and then refuses.
            (0..200).for_each(|_| call(Judged::Failure));
        });

        assert!(breaker.admit(&rules, || START, || 0, |_| {}).is_err());
        assert_eq!(calls.count_total, 0);
    }
}

#[test]
fn the_name_of_a_key_takes_its_text_and_64_bytes_on_top() {
    for window in [Window::last(100), Window::time(Duration::from_secs(10))] {
        let layer = CircuitBreakerLayer::default().window(window).capacity(1000);
        let handle = layer.handle();

        let heap = measure(|| {
            for n in 0..1000 {
                // As long as an authority gets.
                handle.key(&*format!("{n:056}.svc")).metrics_only();
            }
        });

        let keys = handle.counts().keys;
        let each = heap.bytes_current / keys as i64;
        assert!(keys > 980 && each <= 256 + 64 + 64, "{each} bytes for each of {keys} keys");
    }
}
