use std::time::Duration;

use buttress_circuit_breaker::Breaker;
use buttress_core::Timestamp;
use proptest::prelude::*;

use crate::cases;
use crate::oracle::Oracle;
use crate::schedule::{Event, Numbers, events, numbers};

/// Runs both side by side and compares all that can be seen of them after each event.
fn same(numbers: Numbers, events: Vec<Event>) -> Result<(), TestCaseError> {
    let rules = numbers.rules();
    let (breaker, mut oracle) = (Breaker::new(&rules), Oracle::new(numbers));
    let (mut now, mut on_their_way, mut told) =
        (Timestamp::from_nanos(1_000_000_000), Vec::new(), Vec::new());
    for event in events {
        let mut ask = |now: Timestamp, draw: u64, told: &mut Vec<_>| {
            let answer = breaker.admit(&rules, || now, || draw, |transition| told.push(transition));
            let expected = oracle.ask(now, draw);
            prop_assert_eq!(
                answer.as_ref().map(drop).map_err(|refused| refused.retry_after),
                expected.as_ref().map(drop).map_err(|left| *left),
                "asked at {:?}",
                now
            );
            if let (Ok(answer), Ok(expected)) = (answer, expected) {
                on_their_way.push((answer, expected));
            }
            Ok(())
        };
        match event {
            Event::Ask(draw) => ask(now, draw, &mut told)?,
            Event::Jump(to) => {
                now = to;
                ask(now, 0, &mut told)?;
            }
            Event::On(time) => now += time,
            Event::End { which, judged, slow } => {
                if !on_their_way.is_empty() {
                    let (answer, expected) = on_their_way.swap_remove(which % on_their_way.len());
                    let tell = |transition| told.push(transition);
                    breaker.record(&rules, answer, judged, slow, || now, || 0, tell);
                    oracle.end(expected, judged, slow, now);
                }
            }
            Event::Answer { which, slow_after } => {
                if !on_their_way.is_empty() {
                    let which = which % on_their_way.len();
                    let (answer, expected) = &mut on_their_way[which];
                    let slow_at = slow_after.map(|time| now + time);
                    breaker.answered(answer, now, slow_at);
                    oracle.answer(expected, now, slow_at);
                }
            }
            Event::Force(mode) => {
                breaker.force(&rules, mode, now, |transition| told.push(transition));
                oracle.force(mode, now);
            }
            Event::Reset => {
                breaker.reset(&rules, now, |transition| told.push(transition));
                oracle.close(now);
            }
            Event::Tick => {
                breaker.tick(&rules, now, || 0, |transition| told.push(transition));
                oracle.tick(now);
            }
        }

        let view = breaker.view(&rules, now);
        let sums = (view.sums.total, view.sums.failed, view.sums.slow, view.probes_in_flight);
        prop_assert_eq!(view.state, oracle.state(), "after {:?}", event);
        prop_assert_eq!(view.generation, oracle.generation, "after {:?}", event);
        prop_assert_eq!(sums, oracle.sums(now), "after {:?}", event);
        prop_assert_eq!(view.stale, oracle.stale, "after {:?}", event);
        prop_assert!(view.probes_in_flight + view.sums.total <= 31 || view.probes_in_flight == 0);
    }
    // One for each generation, each from where the one before led to.
    prop_assert_eq!(told.len() as u32, oracle.generation);
    for (at, pair) in told.windows(2).enumerate() {
        prop_assert_eq!(pair[0].to, pair[1].from);
        prop_assert_eq!(pair[0].generation, at as u32 + 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(600, 200_000))]

    #[test]
    fn a_breaker_does_what_one_that_keeps_every_result_does(numbers in numbers(), events in events(200)) {
        same(numbers, events)?;
    }

    #[test]
    fn extremes_are_ordinary_input(
        numbers in numbers(),
        events in events(60),
        times in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 60),
        forever in any::<bool>(),
    ) {
        let mut numbers = numbers;
        if forever {
            (numbers.longest, numbers.overdue) = (Duration::MAX, numbers.overdue.map(|_| Duration::MAX));
        }
        let rules = numbers.rules();
        let breaker = Breaker::new(&rules);
        let mut on_their_way = Vec::new();
        for (event, time) in events.into_iter().zip(times) {
            let now = Timestamp::from_nanos(time);
            match event {
                Event::End { which, judged, slow } if !on_their_way.is_empty() => {
                    let admission = on_their_way.swap_remove(which % on_their_way.len());
                    breaker.record(&rules, admission, judged, slow, || now, || time, |_| {});
                }
                Event::Answer { which, slow_after } if !on_their_way.is_empty() => {
                    let which = which % on_their_way.len();
                    breaker.answered(&mut on_their_way[which], now, slow_after.map(|time| now + time));
                }
                Event::Force(mode) => breaker.force(&rules, mode, now, |_| {}),
                Event::Reset => breaker.reset(&rules, now, |_| {}),
                Event::Tick => breaker.tick(&rules, now, || time, |_| {}),
                _ => on_their_way.extend(breaker.admit(&rules, || now, || time, |_| {})),
            }
            let view = breaker.view(&rules, now);
            prop_assert!(view.sums.failed <= view.sums.total && view.sums.slow <= view.sums.total);
        }
    }
}
