//! What holds of hedges whatever attempts do, and of the quantile whatever calls take.

mod scripted;

use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Clock, ManualClock, Timestamp};
use buttress_retry::{Budget, HedgeHandle, HedgeLayer};
use buttress_testkit::Task;
use proptest::prelude::*;
use scripted::{Call, End, Layered, Play, hedged, ms};
use tower::{Layer, Service};

fn plays() -> impl Strategy<Value = Vec<Play>> {
    let end = prop_oneof![
        3 => Just(End::Answer),
        3 => Just(End::Fail),
        1 => Just(End::Unsent),
        1 => Just(End::Refuse),
    ];
    prop::collection::vec((0_u64..40, end), 5)
}

fn layer(time: &ManualClock, hedges: u32, spare: u32) -> Layered {
    hedged(time)
        .at_most(hedges)
        .budget(Budget::ratio(1e-6).min_per_second(spare).window(Duration::from_secs(1)))
}

proptest! {
    #[test]
    fn a_call_has_one_answer_the_first_good_one_and_no_more_attempts_than_it_may(
        hedges in 1_u32..5,
        spare in 0_u32..5,
        request in 0_u32..2,
        plays in plays(),
    ) {
        let time = ManualClock::new();
        let layer = layer(&time, hedges, spare);
        let mut call = Call::new(&time, &layer, request, plays.clone());

        let (result, took) = call.end();

        let starts = call.log.starts();
        let most = 1 + hedges.min(spare) as usize;
        prop_assert!(starts.len() <= most && call.log.most() <= most, "{starts:?}");
        prop_assert_eq!(call.log.under_way(), 0);
        prop_assert!(call.task.is_done());
        prop_assert_eq!(layer.handle().snapshot().fired, starts.len() as u64 - 1);

        // When each attempt ends, or would have ended.
        let ends: Vec<_> = starts.iter().zip(&plays).map(|(start, (takes, end))| (start + takes, *end)).collect();
        let first_good = ends.iter().filter(|(_, end)| *end == End::Answer).map(|(at, _)| *at).min();
        match result {
            Ok(number) => {
                prop_assert_eq!(Some(took), first_good);
                prop_assert_eq!(ends[number - 1], (took, End::Answer));
            }
            Err(_) => {
                prop_assert_eq!(first_good, None);
                prop_assert_eq!(Some(took), ends.iter().map(|(at, _)| *at).max());
            }
        }

        // Each hedge has its reason: 10 ms after the one before, or a failure in that moment.
        for (at, start) in starts.iter().enumerate().skip(1) {
            let failed = ends[..at].iter().any(|(end, how)| end == start && *how != End::Answer);
            prop_assert!(failed || request > 0 && *start == starts[at - 1] + 10, "{starts:?} {ends:?}");
        }
    }

    #[test]
    fn a_call_that_is_dropped_at_any_moment_leaves_nothing_behind(
        hedges in 1_u32..4,
        plays in plays(),
    ) {
        for moment in 0.. {
            let time = ManualClock::new();
            let layer = layer(&time, hedges, 5);
            let mut call = Call::new(&time, &layer, 1, plays.clone());
            // The first is before the first poll.
            let over = moment > 0 && call.pass(moment - 1).is_ready();
            let (log, most) = (call.log.clone(), 1 + hedges as usize);
            prop_assert!(log.under_way() <= most);

            drop(call);

            prop_assert_eq!(log.under_way(), 0);
            let taken = 5 - layer.handle().snapshot().budget_left;
            prop_assert_eq!(taken, log.begun() as u64 - 1, "what is taken is what was sent");
            if over {
                break;
            }
        }
    }

    #[test]
    fn the_quantile_is_within_a_twentieth_of_the_exact_one(
        quantile in prop::sample::select(vec![0.5, 0.9, 0.95, 0.99]),
        calls in prop::collection::vec((gap(), latency()), 100..400),
    ) {
        let mut feed = Feed::new(quantile);
        for (gap, latency) in calls {
            feed.time.advance(gap);
            feed.call(latency);
            feed.check(quantile);
        }
    }
}

fn gap() -> impl Strategy<Value = Duration> {
    prop_oneof![
        20 => (0_u64..60_000_000).prop_map(Duration::from_nanos),
        1 => (0_u64..12_000_000_000).prop_map(Duration::from_nanos),
    ]
}

/// From two microseconds to eight seconds, most of them short.
fn latency() -> impl Strategy<Value = Duration> {
    (0.0_f64..1.0).prop_map(|part| Duration::from_secs_f64(2e-6 * 4e6_f64.powf(part.powi(3))))
}

/// Calls one after the other, and what they took.
struct Feed {
    time: ManualClock,
    clock: Clock,
    layer: Layered,
    handle: HedgeHandle,
    samples: Vec<(Timestamp, Duration)>,
}

impl Feed {
    fn new(quantile: f64) -> Self {
        let time = ManualClock::new();
        let layer: HedgeLayer<_, _> = hedged(&time).delay_quantile(quantile);
        Self { clock: time.clock(), handle: layer.handle(), time, layer, samples: Vec::new() }
    }

    fn call(&mut self, latency: Duration) {
        let time = self.time.clone();
        let inner = tower::service_fn(move |request: u32| {
            time.advance(latency);
            std::future::ready(Ok::<_, BoxError>(request))
        });
        let mut call = Task::new(self.layer.layer(inner).call(1));
        assert!(matches!(call.run(), Poll::Ready(Ok(1))));
        self.samples.push((self.clock.now(), latency));
    }

    /// Compares with the nearest rank of the samples themselves.
    fn check(&self, quantile: f64) {
        let now = self.clock.now();
        let of_late = |at: &Timestamp| *at + ms(10_000) > now;
        let mut exact: Vec<_> =
            self.samples.iter().rev().take_while(|(at, _)| of_late(at)).map(|(_, took)| *took).collect();
        let told = self.handle.delay();
        if exact.len() < 100 {
            assert_eq!(told, None, "{} samples", exact.len());
            return;
        }
        exact.sort_unstable();
        let exact = exact[(quantile * exact.len() as f64).ceil() as usize - 1];
        let off = told.expect("there are enough").as_secs_f64() / exact.as_secs_f64() - 1.0;
        assert!(off.abs() <= 0.05, "{told:?} for {exact:?}");
    }
}

/// More calls than are kept one by one.
#[test]
fn the_quantile_of_many_calls_is_within_a_twentieth_as_well() {
    let mut feed = Feed::new(0.95);
    let mut random = 1_u64;
    for call in 0..60_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Exponential; and after half of them all takes three times as long.
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let mean = if call < 30_000 { 200e-6 } else { 600e-6 };
        feed.call(Duration::from_secs_f64(2e-6 - mean * (1.0 - part).ln()));
        // In the ten seconds after the change the exact one moves as well.
        if call % 1000 == 999 {
            feed.check(0.95);
        }
    }
}

/// More calls in a second than are kept one by one, and then none: the first half of them has left the window.
#[test]
fn the_quantile_forgets_the_first_half_of_a_busy_second_before_the_second() {
    for (before, after) in [(100, 1), (1, 100)] {
        let time = ManualClock::new();
        let layer = hedged(&time).delay_quantile(0.95);
        let start = Timestamp::ZERO + ms(100_000);
        for call in 0..10_000 {
            let end = start + Duration::from_micros(call * 100);
            time.set(end - ms(if call < 5_000 { before } else { after }));
            let ending = time.clone();
            let inner = tower::service_fn(move |request: u32| {
                ending.set(end);
                std::future::ready(Ok::<_, BoxError>(request))
            });
            assert!(Task::new(layer.layer(inner).call(1)).run().is_ready());
        }

        time.set(start + ms(10_500));

        let off = layer.handle().delay().unwrap().as_secs_f64() / ms(after).as_secs_f64() - 1.0;
        assert!(off.abs() <= 0.05, "{off} from {after} ms");
    }
}
