//! Every interleaving of two threads on one breaker. Runs under `--cfg buttress_loom` alone.
#![cfg(buttress_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use buttress_circuit_breaker::{
    Admission, Breaker, Judged, Keyed, Mode, Ramp, Refused, Rules, Settings, State, Sums, Transition, Window,
};
use buttress_core::Timestamp;
use loom::thread;

const SECOND: Duration = Duration::from_secs(1);
const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

/// Open for one second each time, and half-open for one at most.
fn settings() -> Settings {
    Settings::default()
        .window(Window::last(2))
        .minimum_calls(2)
        .open_for(SECOND, SECOND)
        .jitter(0.0)
        .half_open_for(SECOND)
        .probes(1)
}

/// A breaker that threads share, and what it has told.
#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    rules: Rules,
    breaker: Breaker,
    /// How many transitions there were into each state.
    told: [AtomicU32; 8],
}

impl Shared {
    fn new(settings: Settings) -> Self {
        let rules = settings.rules().unwrap();
        let breaker = Breaker::new(&rules);
        Self(Arc::new(Inner { rules, breaker, told: Default::default() }))
    }

    fn tell(&self) -> impl FnMut(Transition) + '_ {
        |transition| _ = self.0.told[transition.to as usize].fetch_add(1, Ordering::Relaxed)
    }

    fn told(&self, to: State) -> u32 {
        self.0.told[to as usize].load(Ordering::Relaxed)
    }

    fn admit(&self, now: Timestamp) -> Result<Admission, Refused> {
        self.0.breaker.admit(&self.0.rules, || now, || 0, self.tell())
    }

    fn record(&self, admission: Admission, judged: Judged, now: Timestamp) {
        self.0.breaker.record(&self.0.rules, admission, judged, false, || now, || 0, self.tell());
    }

    fn answered(&self, admission: &mut Admission, now: Timestamp) {
        self.0.breaker.answered(admission, now, None);
    }

    fn call(&self, judged: Judged, now: Timestamp) {
        if let Ok(admission) = self.admit(now) {
            self.record(admission, judged, now);
        }
    }

    fn state(&self) -> State {
        self.0.breaker.state()
    }

    fn sums(&self, now: Timestamp) -> Sums {
        self.0.breaker.view(&self.0.rules, now).sums
    }

    fn stale(&self) -> u32 {
        self.0.breaker.view(&self.0.rules, START).stale
    }

    /// Opened at [`START`].
    fn opened(settings: Settings) -> Self {
        let breaker = Self::new(settings);
        breaker.call(Judged::Failure, START);
        breaker.call(Judged::Failure, START);
        assert_eq!(breaker.state(), State::Open);
        breaker
    }
}

fn counts(sums: Sums) -> (u32, u32, u32) {
    (sums.total, sums.failed, sums.slow)
}

#[test]
fn no_more_probes_pass_than_there_may_be() {
    for probes in [1, 2] {
        loom::model(move || {
            let breaker = Shared::opened(settings().probes(probes));
            let later = START + SECOND;
            let other = breaker.clone();
            let first = thread::spawn(move || {
                [other.admit(later), other.admit(later)].iter().filter(|answer| answer.is_ok()).count()
            });

            let second = [breaker.admit(later), breaker.admit(later)].iter().flatten().count();

            assert_eq!(first.join().unwrap() + second, probes as usize);
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(breaker.told(State::HalfOpen), 1);
        });
    }
}

#[test]
fn no_more_probes_pass_than_there_may_be_for_three_threads() {
    loom::model(|| {
        let breaker = Shared::opened(settings());
        let later = START + SECOND;
        let others = [breaker.clone(), breaker.clone()];
        let threads = others.map(|other| thread::spawn(move || other.admit(later).is_ok()));

        let mut passed = u32::from(breaker.admit(later).is_ok());
        for thread in threads {
            passed += u32::from(thread.join().unwrap());
        }

        assert_eq!(passed, 1);
    });
}

#[test]
fn probes_that_come_back_make_no_room_for_more_than_may_be_judged() {
    loom::model(|| {
        // Of three probes none, one or two may fail.
        let breaker = Shared::opened(settings().probes(2).failure_rate(1.0));
        let later = START + SECOND;
        let judged = Arc::new(AtomicU32::new(0));
        let call = move |breaker: &Shared, judged: &AtomicU32| {
            if let Ok(admission) = breaker.admit(later)
                && admission.state() == State::HalfOpen
            {
                judged.fetch_add(1, Ordering::Relaxed);
                breaker.record(admission, Judged::Success, later);
            }
        };
        let (other, count) = (breaker.clone(), judged.clone());
        let thread = thread::spawn(move || {
            call(&other, &count);
            call(&other, &count);
        });

        call(&breaker, &judged);
        thread.join().unwrap();

        assert_eq!(judged.load(Ordering::Relaxed), 2);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.told(State::Closed), 1);
    });
}

#[test]
fn a_permit_of_a_dead_cycle_is_not_given_back_into_the_next() {
    loom::model(|| {
        let breaker = Shared::opened(settings());
        let half_open = START + SECOND;
        let first = breaker.admit(half_open).unwrap();
        // The first probe is overdue, and the breaker was open once more.
        let later = half_open + SECOND + SECOND;
        let other = breaker.clone();
        let back = thread::spawn(move || other.record(first, Judged::Cancelled, half_open));

        let second = breaker.admit(later);
        back.join().unwrap();

        // Whether the first came back in time or not, one probe is on its way and there is room for none.
        assert!(second.is_ok());
        assert!(breaker.admit(later).is_err());
        assert_eq!(breaker.0.breaker.view(&breaker.0.rules, later).probes_in_flight, 1);
    });
}

#[test]
fn an_answer_beside_the_deadline_counts_in_its_cycle_or_not_at_all() {
    loom::model(|| {
        let breaker = Shared::opened(settings());
        let half_open = START + SECOND;
        let mut probe = breaker.admit(half_open).unwrap();
        let later = half_open + SECOND;
        let other = breaker.clone();
        // It has read the clock in time.
        let thread = thread::spawn(move || {
            other.answered(&mut probe, half_open);
            probe
        });

        let asked = breaker.admit(later);
        let probe = thread.join().unwrap();

        if let Ok(admission) = asked {
            assert_eq!((admission.state(), breaker.told(State::Closed)), (State::Closed, 1), "it was first");
            breaker.record(probe, Judged::Failure, later);
            assert_eq!((breaker.state(), counts(breaker.sums(later))), (State::Closed, (0, 0, 0)));
        } else {
            assert_eq!((breaker.state(), breaker.told(State::Open)), (State::Open, 2), "it was overdue");
            let next = breaker.admit(later + SECOND).unwrap();
            breaker.record(probe, Judged::Cancelled, later + SECOND);
            assert!(
                next.is_probe() && breaker.admit(later + SECOND).is_err(),
                "nor did its permit come back"
            );
        }
    });
}

#[test]
fn probes_that_are_answered_keep_their_permits_until_they_end() {
    loom::model(|| {
        let breaker = Shared::opened(settings().probes(2));
        let later = START + SECOND;
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            let mut probe = other.admit(later).unwrap();
            other.answered(&mut probe, later);
            other.record(probe, Judged::Ignored, later);
        });

        let mut first = breaker.admit(later).unwrap();
        breaker.answered(&mut first, later);
        thread.join().unwrap();

        assert_eq!(breaker.0.breaker.view(&breaker.0.rules, later).probes_in_flight, 1);
        let second = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err());
        breaker.record(first, Judged::Success, later);
        breaker.record(second, Judged::Success, later);
        assert_eq!((breaker.state(), breaker.stale()), (State::Closed, 0));
    });
}

#[test]
fn a_late_result_moves_nothing() {
    loom::model(|| {
        let breaker = Shared::new(settings());
        let late = breaker.admit(START).unwrap();
        breaker.call(Judged::Failure, START);
        breaker.call(Judged::Failure, START);
        let later = START + SECOND;
        let other = breaker.clone();
        let thread = thread::spawn(move || other.record(late, Judged::Success, later));

        let probe = breaker.admit(later).unwrap();
        thread.join().unwrap();

        assert!(probe.is_probe());
        assert_eq!(breaker.state(), State::HalfOpen, "the probe has not come back");
        assert_eq!(breaker.stale(), 1);
        breaker.record(probe, Judged::Success, later);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(counts(breaker.sums(later)), (0, 0, 0), "the window is empty");
    });
}

#[test]
fn two_threads_that_open_it_open_it_once() {
    loom::model(|| {
        let breaker = Shared::new(settings().minimum_calls(1));
        let other = breaker.clone();
        let thread = thread::spawn(move || other.call(Judged::Failure, START));

        breaker.call(Judged::Failure, START);
        thread.join().unwrap();

        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.told(State::Open), 1);
        let refused = breaker.admit(START).unwrap_err();
        assert_eq!(refused.retry_after, Some(SECOND));
    });
}

#[test]
fn an_open_breaker_never_takes_the_end_of_another_state_for_its_own() {
    loom::model(|| {
        // The end of the half-open state is in the past when the breaker opens again.
        let breaker = Shared::opened(settings());
        let probe = breaker.admit(START + SECOND).unwrap();
        let now = START + SECOND + SECOND / 2;
        let other = breaker.clone();
        let thread = thread::spawn(move || other.record(probe, Judged::Failure, now));

        let answer = breaker.admit(now);
        thread.join().unwrap();

        assert!(answer.is_err(), "half-open with its probe given out, or open");
        let just_before = now + SECOND - Duration::from_millis(1);
        assert!(breaker.admit(just_before).is_err());
        assert!(breaker.admit(now + SECOND).is_ok());
    });
}

/// A window that never opens the breaker, so that the sums can be looked at.
fn counting(window: Window) -> Shared {
    let breaker = Shared::new(settings().window(window).minimum_calls(1));
    breaker.0.breaker.force(&breaker.0.rules, Mode::MetricsOnly, START, |_| {});
    breaker
}

#[test]
fn the_sums_of_the_last_calls_do_not_drift() {
    for window in [1, 2] {
        loom::model(move || {
            let breaker = counting(Window::last(window));
            let other = breaker.clone();
            let thread = thread::spawn(move || {
                other.call(Judged::Failure, START);
                other.call(Judged::Success, START);
            });

            breaker.call(Judged::Success, START);
            breaker.call(Judged::Failure, START);
            thread.join().unwrap();

            let sums = breaker.sums(START);
            assert_eq!(sums.total, window);
            assert!(sums.failed <= window);
            // What is left of them leaves with them.
            (0..window).for_each(|_| breaker.call(Judged::Success, START));
            assert_eq!(counts(breaker.sums(START)), (window, 0, 0));
            (0..window).for_each(|_| breaker.call(Judged::Failure, START));
            assert_eq!(counts(breaker.sums(START)), (window, window, 0));
        });
    }
}

#[test]
fn all_results_of_one_time_are_counted() {
    loom::model(|| {
        let breaker = counting(Window::time(10 * SECOND));
        let other = breaker.clone();
        // The next slice.
        let next = START + SECOND;
        let thread = thread::spawn(move || {
            other.call(Judged::Failure, START);
            other.call(Judged::Success, next);
        });

        breaker.call(Judged::Failure, next);
        thread.join().unwrap();

        assert_eq!(counts(breaker.sums(next)), (3, 2, 0));
        assert!(breaker.sums(next + 9 * SECOND).total <= 3);
        assert_eq!(counts(breaker.sums(next + 10 * SECOND)), (0, 0, 0));
    });
}

#[test]
fn of_two_failures_the_later_one_sees_the_other() {
    for window in [Window::last(2), Window::time(10 * SECOND)] {
        loom::model(move || {
            let breaker = Shared::new(settings().window(window));
            let other = breaker.clone();
            let thread = thread::spawn(move || other.call(Judged::Failure, START));

            breaker.call(Judged::Failure, START);
            thread.join().unwrap();

            assert_eq!(breaker.state(), State::Open, "two of two have failed");
        });
    }
}

#[test]
fn a_result_beside_a_new_generation_is_not_counted_in_its_window() {
    // The last: it has read the time in the slice after that of the transition.
    for (window, at) in [
        (Window::last(2), START),
        (Window::time(10 * SECOND), START),
        (Window::time(10 * SECOND), START + SECOND),
    ] {
        loom::model(move || {
            let breaker = counting(window);
            let late = breaker.admit(START).unwrap();
            let other = breaker.clone();
            let thread = thread::spawn(move || other.record(late, Judged::Failure, at));

            breaker.0.breaker.force(&breaker.0.rules, Mode::MetricsOnly, START, |_| {});
            breaker.call(Judged::Success, START);
            thread.join().unwrap();

            assert_eq!(counts(breaker.sums(START)), (1, 0, 0));
            // Nor is it taken out of it later.
            (0..2).for_each(|_| breaker.call(Judged::Success, START));
            (0..2).for_each(|_| breaker.call(Judged::Failure, START));
            assert_eq!(breaker.sums(START).failed, 2);
        });
    }
}

#[test]
fn failures_in_a_row_are_counted_by_two_threads() {
    loom::model(|| {
        let breaker = Shared::new(settings().no_failure_rate().consecutive_failures(3));
        let other = breaker.clone();
        let thread = thread::spawn(move || other.call(Judged::Failure, START));

        breaker.call(Judged::Failure, START);
        breaker.call(Judged::Soft, START);
        thread.join().unwrap();

        assert_eq!(breaker.state(), State::Closed);
        breaker.call(Judged::Failure, START);
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn failures_in_a_row_on_a_ramp_are_counted_by_two_threads() {
    loom::model(|| {
        let layer = settings().no_failure_rate().consecutive_failures(2).ramp(Ramp::Calls(5));
        let breaker = Shared::opened(layer);
        let later = START + SECOND;
        breaker.call(Judged::Success, later);
        assert_eq!(breaker.state(), State::Ramping);
        let other = breaker.clone();
        let thread = thread::spawn(move || other.call(Judged::Failure, later));

        breaker.call(Judged::Failure, later);
        thread.join().unwrap();

        assert_eq!((breaker.state(), breaker.told(State::Open)), (State::Open, 2));
    });
}

#[test]
fn a_state_set_by_hand_stays_whatever_calls_do() {
    loom::model(|| {
        let breaker = Shared::new(settings().minimum_calls(1));
        let other = breaker.clone();
        let thread = thread::spawn(move || other.call(Judged::Failure, START));

        breaker.0.breaker.force(&breaker.0.rules, Mode::Isolated, START, breaker.tell());
        thread.join().unwrap();

        assert_eq!(breaker.state(), State::Isolated);
        assert_eq!(breaker.told(State::Isolated), 1);
        assert!(breaker.admit(START + 10 * SECOND).is_err());
    });
}

#[test]
fn a_key_that_makes_way_takes_no_other_keys_breaker_with_it() {
    loom::model(|| {
        let rules = Arc::new(settings().minimum_calls(1).rules().unwrap());
        // Under the model there is one slot.
        let keyed = Arc::new(Keyed::new(1, SECOND));
        let call = |keyed: &Keyed, rules: &Rules, key, judged| {
            let asked = keyed.admit(rules, key, START, || 0, |_| {});
            if let (Some(place), Some(Ok(admission))) = (asked.place, asked.answer) {
                keyed.record(rules, place, admission, judged, false, || START, || 0, |_| {});
            }
        };
        call(&keyed, &rules, 1, Judged::Success);
        let (other, shared) = (keyed.clone(), rules.clone());
        let thread = thread::spawn(move || call(&other, &shared, 1, Judged::Failure));

        call(&keyed, &rules, 2, Judged::Success);
        thread.join().unwrap();

        if let Some(breaker) = keyed.get(2) {
            assert_eq!(breaker.state(), State::Closed, "the failure was of the other key");
            assert_eq!(breaker.view(&rules, START).sums.failed, 0);
        }
        assert_eq!(keyed.len(), 1);
    });
}

#[test]
fn whoever_is_forced_is_forced_and_nobody_else() {
    loom::model(|| {
        let rules = Arc::new(settings().minimum_calls(1).rules().unwrap());
        // Under the model there is one slot.
        let keyed = Arc::new(Keyed::new(1, SECOND));
        let call = |key| {
            let asked = keyed.admit(&rules, key, START, || 0, |_| {});
            if let (Some(place), Some(Ok(admission))) = (asked.place, asked.answer) {
                keyed.record(&rules, place, admission, Judged::Success, false, || START, || 0, |_| {});
            }
        };
        call(1);
        let (other, shared) = (keyed.clone(), rules.clone());
        let thread = thread::spawn(move || {
            let force = |breaker: &Breaker| breaker.force(&shared, Mode::Isolated, START, |_| {});
            other.steer(&shared, 1, START, force)
        });

        call(2);
        let forced = thread.join().unwrap();

        assert_eq!(forced, Some(()));
        assert_eq!(keyed.get(1).map(Breaker::state), Some(State::Isolated));
        assert_eq!(keyed.len(), 1);
    });
}

#[test]
fn a_breaker_that_opens_does_not_make_way() {
    loom::model(|| {
        let rules = Arc::new(settings().minimum_calls(1).rules().unwrap());
        let keyed = Arc::new(Keyed::new(1, SECOND));
        let asked = keyed.admit(&rules, 1, START, || 0, |_| {});
        let (place, admission) = (asked.place.unwrap(), asked.answer.unwrap().unwrap());
        let (other, shared) = (keyed.clone(), rules.clone());
        let thread = thread::spawn(move || {
            let mut opened = false;
            let tell = |transition: Transition| opened = transition.to == State::Open;
            other.record(&shared, place, admission, Judged::Failure, false, || START, || 0, tell);
            opened
        });

        let _ = keyed.admit(&rules, 2, START, || 0, |_| {});

        if thread.join().unwrap() {
            assert_eq!(keyed.get(1).map(Breaker::state), Some(State::Open));
            assert_eq!((keyed.evicted(), keyed.crowded()), (0, 1));
        }
    });
}
