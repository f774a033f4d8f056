use std::time::Duration;

use buttress_circuit_breaker::{Breaker, Judged, Ramp, State};
use buttress_core::Timestamp;
use proptest::prelude::*;

use crate::cases;
use crate::schedule::{Event, Numbers, events, numbers};

const DRAW: fn() -> u64 = || 0;

/// Lets `events` happen; what is left on its way never comes back. The last thing to happen is a call.
fn after(numbers: &Numbers, events: Vec<Event>) -> (Breaker, Timestamp) {
    let rules = numbers.rules();
    let breaker = Breaker::new(&rules);
    let (mut now, mut on_their_way) = (Timestamp::ZERO, Vec::new());
    for event in events {
        match event {
            Event::Ask(draw) => on_their_way.extend(breaker.admit(&rules, || now, || draw, |_| {})),
            Event::Jump(to) => {
                now = to;
                on_their_way.extend(breaker.admit(&rules, || now, DRAW, |_| {}));
            }
            Event::On(time) => now += time,
            Event::End { which, judged, slow } => {
                if !on_their_way.is_empty() {
                    let admission = on_their_way.swap_remove(which % on_their_way.len());
                    breaker.record(&rules, admission, judged, slow, || now, DRAW, |_| {});
                }
            }
            Event::Answer { which, slow_after } => {
                if !on_their_way.is_empty() {
                    let which = which % on_their_way.len();
                    breaker.answered(&mut on_their_way[which], now, slow_after.map(|time| now + time));
                }
            }
            Event::Force(mode) => breaker.force(&rules, mode, now, |_| {}),
            Event::Reset => breaker.reset(&rules, now, |_| {}),
            Event::Tick => breaker.tick(&rules, now, DRAW, |_| {}),
        }
    }
    let _ = breaker.admit(&rules, || now, DRAW, |_| {});
    if breaker.state().is_forced() {
        breaker.reset(&rules, now, |_| {});
    }
    (breaker, now)
}

proptest! {
    #![proptest_config(cases(2_000, 1_000_000))]

    /// The contract: one full open time and one half-open time after the last event, one success leads to Closed.
    /// Where there are several probes, it has led there when the time for the others is over, and so has a good answer that
    /// goes on for ever.
    ///
    /// A clock that goes back is noticed by a call, so one comes after each jump, and the open time runs from there.
    #[test]
    fn nothing_leaves_a_breaker_stuck(
        numbers in numbers(),
        events in events(40),
        ends in any::<bool>(),
    ) {
        let rules = numbers.rules();
        let (breaker, mut now) = after(&numbers, events);
        let half_open = numbers.overdue.unwrap_or(numbers.longest);

        now += numbers.longest + half_open;
        breaker.tick(&rules, now, DRAW, |_| {});
        let admission = breaker.admit(&rules, || now, DRAW, |_| {});
        prop_assert!(admission.is_ok(), "{:?} after the longest time: {:?}", admission, breaker.view(&rules, now));
        let mut admission = admission.unwrap();
        if ends || !admission.is_probe() {
            breaker.record(&rules, admission, Judged::Success, false, || now, DRAW, |_| {});
        } else {
            breaker.answered(&mut admission, now, None);
        }
        if breaker.state() == State::HalfOpen {
            now += half_open;
            breaker.tick(&rules, now, DRAW, |_| {});
        }

        match numbers.ramp {
            None => {}
            Some(Ramp::Time(step)) => {
                now += step * 4;
                breaker.tick(&rules, now, DRAW, |_| {});
            }
            Some(_) => {
                // At most twenty calls are judged, and the number drawn is among those that pass.
                for _ in 0..20 {
                    let admission = breaker.admit(&rules, || now, DRAW, |_| {}).unwrap();
                    breaker.record(&rules, admission, Judged::Success, false, || now, DRAW, |_| {});
                }
            }
        }
        prop_assert_eq!(breaker.state(), State::Closed);
        prop_assert_eq!(breaker.view(&rules, now + Duration::ZERO).growth, 0);
    }
}
