//! What may happen to a breaker, and by which numbers it may be run.

use std::time::Duration;

use buttress_circuit_breaker::{Judged, Mode, Ramp, Rules, Settings, Window};
use buttress_core::Timestamp;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A call asks to pass, having drawn this number.
    Ask(u64),
    /// One of those that are on their way ends. A panic is a failure, and a dropped call is cancelled.
    End {
        which: usize,
        judged: Judged,
        slow: bool,
    },
    /// One of them has a good answer, and goes on. It is slow after so long.
    Answer {
        which: usize,
        slow_after: Option<Duration>,
    },
    /// The clock goes on.
    On(Duration),
    /// The clock goes back, or on by far, and a call asks to pass.
    Jump(Timestamp),
    Force(Mode),
    Reset,
    Tick,
}

pub(crate) fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 0..most)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => any::<u64>().prop_map(Event::Ask),
        30 => (any::<usize>(), judged(), prop::bool::weighted(0.2))
            .prop_map(|(which, judged, slow)| Event::End { which, judged, slow }),
        10 => (any::<usize>(), prop::option::weighted(0.3, steps()))
            .prop_map(|(which, slow_after)| Event::Answer { which, slow_after }),
        10 => steps().prop_map(Event::On),
        2 => jumps().prop_map(Event::Jump),
        1 => prop::sample::select(vec![
            Mode::Disabled, Mode::MetricsOnly, Mode::ForcedOpen, Mode::Isolated,
        ]).prop_map(Event::Force),
        1 => Just(Event::Reset),
        1 => Just(Event::Tick),
    ]
}

fn judged() -> impl Strategy<Value = Judged> {
    prop_oneof![
        6 => Just(Judged::Failure),
        4 => Just(Judged::Success),
        1 => Just(Judged::Soft),
        1 => Just(Judged::Ignored),
        2 => Just(Judged::Cancelled),
        1 => steps().prop_map(Judged::OpenFor),
        1 => Just(Judged::OpenFor(Duration::MAX)),
    ]
}

/// Whole microseconds: a state ends at one.
fn steps() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0_u64..3_000).prop_map(Duration::from_millis),
        2 => (0_u64..100_000).prop_map(Duration::from_millis),
        1 => (0_u64..3_000).prop_map(Duration::from_micros),
    ]
}

fn jumps() -> impl Strategy<Value = Timestamp> {
    // Up to a hundred years, and in a place where breakers are not at the end of the clock for ever.
    (0_u64..100 * 365 * 86_400_000).prop_map(|millis| Timestamp::ZERO + Duration::from_millis(millis))
}

/// What a breaker is run by.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) window: Window,
    pub(crate) minimum: u32,
    pub(crate) failure: Option<f64>,
    pub(crate) slow: Option<f64>,
    pub(crate) row: Option<u32>,
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) factor: f64,
    pub(crate) probes: u32,
    pub(crate) overdue: Option<Duration>,
    pub(crate) ramp: Option<Ramp>,
}

impl Numbers {
    pub(crate) fn rules(&self) -> Rules {
        let mut settings = Settings::default()
            .window(self.window)
            .minimum_calls(self.minimum)
            .open_for(self.first, self.longest)
            .growing_by(self.factor)
            .jitter(0.0)
            .probes(self.probes);
        settings = match self.failure {
            Some(rate) => settings.failure_rate(rate),
            None => settings.no_failure_rate(),
        };
        if let Some(rate) = self.slow {
            settings = settings.slow_calls(Duration::from_secs(1), rate);
        }
        if let Some(calls) = self.row {
            settings = settings.consecutive_failures(calls);
        }
        if let Some(time) = self.overdue {
            settings = settings.half_open_for(time);
        }
        if let Some(ramp) = self.ramp {
            settings = settings.ramp(ramp);
        }
        settings.rules().expect("the numbers are in range")
    }
}

pub(crate) fn numbers() -> impl Strategy<Value = Numbers> {
    let window = prop_oneof![
        (1_u32..=60).prop_map(Window::last),
        (1_u64..20_000).prop_map(|millis| Window::time(Duration::from_millis(millis))),
    ];
    let rates = (prop::option::weighted(0.8, rate()), prop::option::of(rate()), prop::option::of(1_u32..=5));
    let open = (1_u64..5_000, 1_u32..20, prop_oneof![Just(1.0), Just(2.0), 1.0..4.0]);
    let ramp = prop_oneof![
        4 => Just(None),
        1 => (1_u64..2_000).prop_map(|millis| Some(Ramp::Time(Duration::from_millis(millis)))),
        1 => (1_u32..=5).prop_map(|calls| Some(Ramp::Calls(calls))),
    ];
    let half_open = (1_u32..=5, prop::option::of((1_u64..5_000).prop_map(Duration::from_millis)));
    (window, 1_u32..=8, rates, open, half_open, ramp).prop_map(
        |(window, minimum, (failure, slow, row), (first, times, factor), (probes, overdue), ramp)| {
            let first = Duration::from_millis(first);
            Numbers {
                window,
                minimum: if let Window::Last(calls) = window { minimum.min(calls) } else { minimum },
                failure: failure.or_else(|| (slow.is_none() && row.is_none()).then_some(0.5)),
                slow,
                row,
                first,
                longest: first * times,
                factor,
                probes,
                overdue,
                ramp,
            }
        },
    )
}

fn rate() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.5), Just(1.0), Just(0.1), 0.01..=1.0]
}
