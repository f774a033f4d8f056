//! When a breaker opens, what it lets through, and how it comes back: each rule by a short trace.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use buttress_circuit_breaker::{
    Admission, Breaker, Judged, Mode, OnDrop, Ramp, Reason, Recorded, Refused, Rules, Settings, State,
    Transition, View, Window,
};
use buttress_core::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A breaker with its own time, that remembers what it has told.
struct Bench {
    rules: Rules,
    breaker: Breaker,
    now: Cell<Timestamp>,
    draw: Cell<u64>,
    told: RefCell<Vec<Transition>>,
}

/// Without jitter, so that the times are those of the settings.
fn bench(settings: Settings) -> Bench {
    let rules = settings.jitter(0.0).rules().unwrap();
    let breaker = Breaker::new(&rules);
    let now = Cell::new(Timestamp::ZERO + HOUR);
    Bench { rules, breaker, now, draw: Cell::new(0), told: RefCell::default() }
}

/// The last ten calls, from two on.
fn of_ten() -> Settings {
    Settings::default().window(Window::last(10)).minimum_calls(2)
}

impl Bench {
    fn pass(&self, time: Duration) -> &Self {
        self.now.set(self.now.get() + time);
        self
    }

    fn tell(&self) -> impl FnMut(Transition) + '_ {
        |transition| self.told.borrow_mut().push(transition)
    }

    fn admit(&self) -> Result<Admission, Refused> {
        self.breaker.admit(&self.rules, || self.now.get(), || self.draw.get(), self.tell())
    }

    fn end(&self, admission: Admission, judged: Judged, slow: bool) -> Recorded {
        let now = || self.now.get();
        self.breaker.record(&self.rules, admission, judged, slow, now, || self.draw.get(), self.tell())
    }

    fn answered(&self, admission: &mut Admission, slow_at: Option<Timestamp>) {
        self.breaker.answered(admission, self.now.get(), slow_at);
    }

    fn call(&self, judged: Judged) -> &Self {
        let admission = self.admit().expect("it passes");
        self.end(admission, judged, false);
        self
    }

    fn calls(&self, calls: u32, judged: Judged) -> &Self {
        (0..calls).for_each(|_| _ = self.call(judged));
        self
    }

    /// Opens it and waits until a probe may pass.
    fn opened(self) -> Self {
        self.calls(2, Judged::Failure);
        assert_eq!(self.state(), State::Open);
        self.pass(self.view().lasts.unwrap());
        self
    }

    fn force(&self, mode: Mode) {
        self.breaker.force(&self.rules, mode, self.now.get(), self.tell());
    }

    fn tick(&self) -> State {
        self.breaker.tick(&self.rules, self.now.get(), || self.draw.get(), self.tell());
        self.state()
    }

    fn state(&self) -> State {
        self.breaker.state()
    }

    fn view(&self) -> View {
        self.breaker.view(&self.rules, self.now.get())
    }

    fn refused(&self) -> Option<Duration> {
        self.admit().expect_err("it is refused").retry_after
    }

    fn last(&self) -> Transition {
        *self.told.borrow().last().expect("something was told")
    }
}

#[test]
fn by_default_half_of_twenty_calls_in_ten_seconds_open_it() {
    let bench = bench(Settings::default());

    bench.calls(10, Judged::Success).calls(9, Judged::Failure);
    assert_eq!((bench.state(), bench.view().failure_rate), (State::Closed, None));
    bench.call(Judged::Failure);

    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.refused(), Some(5 * SECOND));
    let told = bench.last();
    assert_eq!((told.from, told.to, told.reason), (State::Closed, State::Open, Reason::FailureRate));
    assert_eq!((told.generation, told.lasts), (1, Some(5 * SECOND)));
    assert_eq!(told.sums.map(|sums| (sums.total, sums.failed)), Some((20, 10)));
}

#[test]
fn a_little_less_than_the_rate_does_not_open_it() {
    let bench = bench(Settings::default());

    bench.calls(100, Judged::Success).calls(99, Judged::Failure);

    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.view().failure_rate, Some(99.0 / 199.0));
    bench.call(Judged::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn two_of_three_reach_two_thirds() {
    let bench = bench(of_ten().minimum_calls(3).failure_rate(2.0 / 3.0));

    bench.call(Judged::Success).calls(2, Judged::Failure);

    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_success_opens_nothing_and_the_next_failure_does() {
    let bench = bench(of_ten().minimum_calls(4));

    bench.calls(3, Judged::Failure).call(Judged::Success);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Judged::Failure);

    assert_eq!(bench.state(), State::Open);
}

#[test]
fn however_many_calls_went_well_the_window_slides() {
    let bench = bench(of_ten());

    bench.calls(100_000, Judged::Success).calls(4, Judged::Failure);
    assert_eq!(bench.view().failure_rate, Some(0.4));
    bench.call(Judged::Failure);

    assert_eq!(bench.state(), State::Open);
}

#[test]
fn the_longest_window_holds_each_of_its_calls() {
    let bench = bench(Settings::default().window(Window::last(100_000)));
    bench.force(Mode::MetricsOnly);

    bench.calls(60_000, Judged::Failure).calls(70_000, Judged::Success);

    let sums = bench.view().sums;
    assert_eq!((sums.total, sums.failed), (100_000, 30_000));
}

#[test]
fn slow_calls_open_it_although_all_of_them_succeed() {
    let bench = bench(of_ten().slow_calls(SECOND, 0.5));

    for slow in [false, false, true] {
        bench.end(bench.admit().unwrap(), Judged::Success, slow);
    }
    assert_eq!(bench.state(), State::Closed);
    bench.end(bench.admit().unwrap(), Judged::Success, true);

    assert_eq!((bench.state(), bench.last().reason), (State::Open, Reason::SlowRate));
}

#[test]
fn failures_in_a_row_open_it_before_there_is_a_rate() {
    let bench = bench(Settings::default().consecutive_failures(3));

    bench.calls(2, Judged::Failure).call(Judged::Success).calls(2, Judged::Failure);
    bench.calls(5, Judged::Soft);
    assert_eq!(bench.state(), State::Closed, "soft ones do not count");
    bench.call(Judged::Failure);

    assert_eq!(bench.state(), State::Open, "and do not end the row");
    assert_eq!(bench.last().reason, Reason::ConsecutiveFailures);
}

#[test]
fn ignored_and_cancelled_calls_count_for_nothing() {
    let bench = bench(of_ten());

    bench.calls(50, Judged::Ignored).calls(50, Judged::Cancelled).call(Judged::Failure);

    assert_eq!(bench.view().sums.total, 1);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn calls_dropped_when_slow_fail_if_that_is_asked_for() {
    let settings = of_ten().slow_calls(SECOND, 1.0).on_drop(OnDrop::FailWhenSlow);
    let bench = bench(settings);

    bench.end(bench.admit().unwrap(), Judged::Cancelled, false);
    assert_eq!(bench.view().sums.total, 0);
    bench.end(bench.admit().unwrap(), Judged::Cancelled, true);
    bench.end(bench.admit().unwrap(), Judged::Cancelled, true);

    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_window_of_time_forgets_slice_by_slice() {
    let bench = bench(Settings::default().window(Window::time(10 * SECOND)).failure_rate(1.0));
    for _ in 0..10 {
        bench.call(Judged::Failure).call(Judged::Success).pass(SECOND);
    }

    assert_eq!(bench.view().sums.total, 18, "the first slice has gone");
    bench.pass(5 * SECOND);
    assert_eq!(bench.view().sums.total, 8);
    bench.call(Judged::Success);
    assert_eq!(bench.view().sums.total, 9);
}

#[test]
fn after_any_idle_time_a_window_of_time_is_empty() {
    for shift in 0..10 {
        // 327 680 slices are a whole turn of the tags and of the words alike.
        for slices in [10, 65_536, 327_680, 655_360, 30 * 86_400, 365 * 86_400] {
            let bench = bench(Settings::default().window(Window::time(10 * SECOND)));
            bench.pass(shift * SECOND).calls(10, Judged::Failure);

            bench.pass(slices * SECOND).call(Judged::Success);

            assert_eq!(bench.view().sums.total, 1, "{slices} slices later");
        }
    }
}

#[test]
fn a_slice_that_is_full_keeps_its_rate() {
    let bench = bench(Settings::default().failure_rate(0.9));

    for _ in 0..150_000 {
        bench.call(Judged::Failure).call(Judged::Success);
    }

    let rate = bench.view().failure_rate.unwrap();
    assert!((rate - 0.5).abs() < 0.001, "{rate}");
    assert!(bench.view().sums.total < 65_536);
}

#[test]
fn results_count_towards_the_latest_slice_while_the_clock_is_behind_by_up_to_the_window() {
    let bench = bench(Settings::default().window(Window::time(10 * SECOND)));
    bench.call(Judged::Success);
    bench.now.set(Timestamp::ZERO + HOUR - 10 * SECOND);

    bench.calls(18, Judged::Success).calls(10, Judged::Failure);
    assert_eq!(bench.view().sums.total, 29);
    bench.calls(9, Judged::Failure);

    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.refused(), Some(5 * SECOND));
}

#[test]
fn it_stays_open_for_longer_each_time_until_it_was_closed() {
    let bench = bench(of_ten().probes(1)).opened();

    let waits: Vec<_> = (0..5)
        .map(|_| {
            bench.call(Judged::Failure);
            let wait = bench.refused().unwrap();
            bench.pass(wait);
            wait.as_secs()
        })
        .collect();
    assert_eq!(waits, [10, 20, 40, 60, 60]);
    assert_eq!(bench.view().growth, 5);
    bench.call(Judged::Success);

    assert_eq!(bench.state(), State::Closed);
    bench.calls(2, Judged::Failure);
    assert_eq!(bench.refused(), Some(5 * SECOND));
}

#[test]
fn chance_makes_the_wait_shorter_and_never_longer() {
    for (draw, wait) in [(0, 5_000), (u64::MAX / 2, 4_500), (u64::MAX, 4_000)] {
        let rules = of_ten().jitter(0.2).rules().unwrap();
        let breaker = Breaker::new(&rules);
        let now = || Timestamp::ZERO;

        for _ in 0..2 {
            let admission = breaker.admit(&rules, now, || draw, |_| {}).unwrap();
            breaker.record(&rules, admission, Judged::Failure, false, now, || draw, |_| {});
        }

        let refused = breaker.admit(&rules, now, || draw, |_| {}).unwrap_err();
        let left = refused.retry_after.unwrap().as_secs_f64() * 1000.0;
        assert!((left - f64::from(wait)).abs() < 0.01, "{left} ms");
    }
}

#[test]
fn who_asks_to_be_left_alone_is_left_alone_for_so_long() {
    for (asked, wait) in [(7, 7), (1, 1), (3600, 60)] {
        let bench = bench(of_ten());

        bench.call(Judged::OpenFor(asked * SECOND));

        assert_eq!((bench.state(), bench.last().reason), (State::Open, Reason::Asked));
        assert_eq!(bench.refused(), Some(wait * SECOND), "asked for {asked} s");
    }
}

#[test]
fn an_open_breaker_lets_no_call_through_before_its_time_and_a_probe_then() {
    let bench = bench(of_ten());
    bench.calls(2, Judged::Failure);

    bench.pass(5 * SECOND - Duration::from_nanos(1001));
    assert!(bench.admit().is_err());
    bench.pass(Duration::from_nanos(1001));

    assert_eq!(bench.tick(), State::Open, "only a call can be a probe");
    assert!(bench.admit().unwrap().is_probe());
    assert_eq!((bench.state(), bench.last().reason), (State::HalfOpen, Reason::WaitOver));
}

#[test]
fn probes_are_bounded_in_flight_and_judged() {
    let bench = bench(of_ten().probes(3)).opened();
    let [first, second, third] = [bench.admit().unwrap(), bench.admit().unwrap(), bench.admit().unwrap()];
    bench.pass(SECOND);

    assert_eq!(bench.refused(), Some(4 * SECOND), "the time for the probes");
    assert_eq!((bench.view().probes_in_flight, bench.view().half_open_for), (3, Some(SECOND)));
    bench.end(first, Judged::Success, false);
    assert!(bench.admit().is_err(), "one is judged");
    bench.end(second, Judged::Ignored, false);
    bench.end(third, Judged::Cancelled, false);
    bench.calls(2, Judged::Success);

    assert_eq!((bench.state(), bench.last().reason), (State::Closed, Reason::ProbesPassed));
    assert_eq!(bench.view().sums.total, 0, "it begins anew");
}

#[test]
fn it_opens_again_as_soon_as_the_other_probes_cannot_help_in_any_order() {
    use Judged::{Failure, Soft, Success};
    for (results, state) in [
        (&[Failure, Soft][..], State::Open),
        (&[Failure, Success], State::HalfOpen),
        (&[Failure, Success, Success], State::Closed),
        (&[Success, Success, Failure], State::Closed),
        (&[Success, Failure, Failure], State::Open),
    ] {
        let bench = bench(of_ten().probes(3)).opened();

        for result in results {
            bench.call(*result);
        }

        assert_eq!(bench.state(), state, "after {results:?}");
    }
}

#[test]
fn slow_probes_open_it_again() {
    let bench = bench(of_ten().slow_calls(SECOND, 0.5).probes(2)).opened();

    bench.end(bench.admit().unwrap(), Judged::Success, true);

    assert_eq!((bench.state(), bench.last().reason), (State::Open, Reason::SlowRate));
    assert_eq!(bench.refused(), Some(10 * SECOND));
}

#[test]
fn without_a_rate_any_failed_probe_opens_it_again() {
    let settings = Settings::default().no_failure_rate().consecutive_failures(2).probes(10);
    let bench = bench(settings).opened();

    bench.calls(5, Judged::Success).call(Judged::Failure);

    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_probe_that_hangs_opens_it_again_for_longer() {
    let bench = bench(of_ten().probes(2).half_open_for(2 * SECOND)).opened();
    let hangs = bench.admit().unwrap();
    bench.call(Judged::Success);

    bench.pass(2 * SECOND + Duration::from_millis(500));
    assert_eq!(bench.tick(), State::Open);

    assert_eq!(bench.last().reason, Reason::ProbesOverdue);
    assert_eq!(bench.refused(), Some(Duration::from_millis(9500)), "ten seconds from when they were due");
    assert_eq!(bench.end(hangs, Judged::Success, false), Recorded::Stale);
    assert_eq!((bench.state(), bench.view().stale), (State::Open, 1));
}

#[test]
fn a_probe_that_comes_back_after_its_time_comes_too_late() {
    let bench = bench(of_ten().probes(1).half_open_for(SECOND)).opened();
    let probe = bench.admit().unwrap();

    bench.pass(SECOND);

    assert_eq!(bench.end(probe, Judged::Success, false), Recorded::Stale);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_probe_that_was_answered_and_goes_on_went_well_when_the_time_is_over() {
    let bench = bench(of_ten().probes(3)).opened();
    let mut goes_on = bench.admit().unwrap();
    bench.answered(&mut goes_on, None);
    bench.call(Judged::Failure);
    assert_eq!((bench.view().probes_in_flight, bench.view().sums.total), (1, 1));

    bench.pass(5 * SECOND);
    assert_eq!(bench.tick(), State::Open, "one of two has failed");
    assert_eq!(bench.last().sums.map(|sums| (sums.total, sums.failed)), Some((2, 1)));

    bench.pass(10 * SECOND);
    let probes = [bench.admit().unwrap(), bench.admit().unwrap(), bench.admit().unwrap()];
    let [mut first, mut second, third] = probes;
    bench.answered(&mut first, None);
    bench.answered(&mut second, None);
    assert!(bench.admit().is_err(), "they keep their permits");
    bench.end(third, Judged::Failure, false);
    bench.pass(10 * SECOND);
    assert_eq!((bench.tick(), bench.last().reason), (State::Closed, Reason::ProbesPassed));
    assert_eq!(bench.end(first, Judged::Failure, false), Recorded::Stale);
    assert_eq!(bench.end(second, Judged::Cancelled, false), Recorded::InTime);
    assert_eq!((bench.state(), bench.view().sums.total), (State::Closed, 0));
}

#[test]
fn thirty_one_probes_may_be_answered_fail_and_be_slow_all_at_once() {
    let settings = of_ten().failure_rate(1.0).slow_calls(SECOND, 1.0).probes(31);
    let bench = bench(settings).opened();
    let mut probes: Vec<_> = (0..31).map(|_| bench.admit().unwrap()).collect();
    assert!(bench.admit().is_err());

    for probe in &mut probes {
        bench.answered(probe, None);
        assert_eq!((bench.view().probes_in_flight, bench.view().generation), (31, 2));
    }
    let last = probes.pop().unwrap();
    for probe in probes {
        bench.end(probe, Judged::Failure, true);
    }
    let sums = bench.view().sums;
    assert_eq!((sums.total, sums.failed, sums.slow, bench.view().probes_in_flight), (30, 30, 30, 1));

    bench.end(last, Judged::Failure, true);
    assert_eq!((bench.state(), bench.view().growth), (State::Open, 1));
}

#[test]
fn a_probe_that_was_answered_is_judged_by_its_end_where_that_comes_in_time() {
    for (judged, state) in [(Judged::Success, State::Closed), (Judged::Failure, State::Open)] {
        let bench = bench(of_ten().probes(1)).opened();
        let mut probe = bench.admit().unwrap();
        bench.answered(&mut probe, None);
        bench.answered(&mut probe, None);

        bench.pass(4 * SECOND);
        bench.end(probe, judged, false);

        assert_eq!(bench.state(), state);
    }
}

#[test]
fn a_probe_is_overdue_that_is_answered_too_late_or_would_be_slow_by_then() {
    for (answered, slow_after, state) in [
        (4, None, State::Closed),
        (5, None, State::Open),
        (4, Some(1), State::Open),
        (4, Some(2), State::Closed),
    ] {
        let bench = bench(of_ten().probes(1)).opened();
        let mut probe = bench.admit().unwrap();

        bench.pass(answered * SECOND);
        bench.answered(&mut probe, slow_after.map(|seconds: u32| bench.now.get() + seconds * SECOND));
        bench.pass((5 - answered) * SECOND);

        assert_eq!(bench.tick(), state, "answered after {answered} s, slow {slow_after:?} s later");
    }
}

#[test]
fn by_slow_calls_alone_probes_that_fail_soon_close_it() {
    let settings = Settings::default().no_failure_rate().slow_calls(SECOND, 0.5).minimum_calls(1).probes(3);
    let bench = bench(settings);
    bench.end(bench.admit().unwrap(), Judged::Success, true);
    assert_eq!(bench.state(), State::Open);
    bench.pass(5 * SECOND);

    bench.calls(3, Judged::Failure);

    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn where_few_calls_come_those_that_did_decide_when_the_time_is_over() {
    let good = bench(of_ten().probes(3)).opened();
    good.call(Judged::Success).pass(5 * SECOND);
    assert_eq!((good.tick(), good.last().reason), (State::Closed, Reason::ProbesPassed));

    let bad = bench(of_ten().probes(3)).opened();
    bad.call(Judged::Failure).pass(5 * SECOND);
    assert_eq!((bad.tick(), bad.last().reason), (State::Open, Reason::FailureRate));

    let unknown = bench(of_ten().probes(3)).opened();
    unknown.call(Judged::Ignored).pass(5 * SECOND);
    assert_eq!((unknown.tick(), unknown.last().reason), (State::Open, Reason::ProbesOverdue));
}

#[test]
fn what_was_due_long_ago_is_made_up_for_in_order_when_a_call_comes() {
    let bench = bench(of_ten().probes(1).half_open_for(SECOND)).opened();
    let hangs = bench.admit().unwrap();

    bench.pass(HOUR);
    assert!(bench.admit().unwrap().is_probe());

    let told: Vec<_> = bench.told.borrow().iter().map(|told| (told.to, told.generation)).collect();
    let expected = [(State::Open, 1), (State::HalfOpen, 2), (State::Open, 3), (State::HalfOpen, 4)];
    assert_eq!(told, expected);
    assert_eq!(bench.end(hangs, Judged::Cancelled, false), Recorded::InTime, "it had nothing to say");
    assert_eq!(bench.view().probes_in_flight, 1, "and its permit is gone with its cycle");
}

#[test]
fn late_results_are_stale_and_move_nothing() {
    let bench = bench(of_ten());
    let [first, second, third] = [bench.admit().unwrap(), bench.admit().unwrap(), bench.admit().unwrap()];
    let bench = bench.opened();

    assert_eq!(bench.end(first, Judged::Success, false), Recorded::Stale);
    let probe = bench.admit().unwrap();
    bench.end(second, Judged::Success, false);
    bench.end(third, Judged::Failure, true);

    assert_eq!((bench.state(), bench.view().stale), (State::HalfOpen, 3));
    assert_eq!((bench.view().sums.total, bench.view().probes_in_flight), (0, 1));
    bench.end(probe, Judged::Success, false);
    assert_eq!(bench.view().sums.total, 1);
}

/// The share of calls that pass, in percent, of a hundred that draw all there is to draw.
fn share(bench: &Bench) -> usize {
    let passed = (0..100_u64).filter(|call| {
        bench.draw.set(u64::MAX / 100 * call + u64::MAX / 200);
        bench.admit().is_ok()
    });
    let share = passed.count();
    bench.draw.set(0);
    share
}

#[test]
fn a_ramp_of_time_lets_more_calls_through_step_by_step() {
    let bench = bench(of_ten().probes(1).ramp(Ramp::Time(10 * SECOND))).opened();
    bench.call(Judged::Success);
    assert_eq!((bench.state(), bench.last().lasts), (State::Ramping, Some(40 * SECOND)));

    for expected in [10, 25, 50, 100] {
        assert_eq!((share(&bench), bench.view().lets_through as usize), (expected, expected));
        bench.call(Judged::Success).pass(10 * SECOND);
    }

    assert_eq!((bench.tick(), bench.last().reason), (State::Closed, Reason::RampOver));
    assert_eq!(bench.view().growth, 0);
}

#[test]
fn a_ramp_of_calls_goes_on_when_so_many_are_judged() {
    let bench = bench(of_ten().probes(1).ramp(Ramp::Calls(4))).opened();
    bench.call(Judged::Success);

    for expected in [10, 25, 50, 100] {
        assert_eq!(share(&bench), expected);
        bench.pass(HOUR).calls(3, Judged::Success).call(Judged::Ignored);
        assert_eq!(share(&bench), expected);
        // One of four is below the rate.
        bench.call(Judged::Failure);
    }

    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_step_that_fails_opens_it_again_for_longer() {
    for ramp in [Ramp::Time(SECOND), Ramp::Calls(4)] {
        let bench = bench(of_ten().probes(3).ramp(ramp)).opened();
        bench.calls(3, Judged::Success);
        bench.calls(4, Judged::Success).pass(SECOND);
        assert_eq!(share(&bench), 25, "the second step");

        bench.call(Judged::Failure);
        assert_eq!(bench.state(), State::Ramping, "one of three may fail");
        bench.call(Judged::Failure);

        assert_eq!((bench.state(), bench.last().reason), (State::Open, Reason::FailureRate));
        assert_eq!(bench.refused(), Some(10 * SECOND));
        bench.pass(10 * SECOND).calls(3, Judged::Success);
        assert_eq!(share(&bench), 10, "from the first step");
    }
}

#[test]
fn by_failures_in_a_row_alone_a_ramp_is_judged_as_a_closed_breaker_is() {
    let in_a_row = || Settings::default().no_failure_rate().consecutive_failures(3).probes(1);
    for ramp in [Ramp::Time(10 * SECOND), Ramp::Calls(100)] {
        let bench = bench(in_a_row().ramp(ramp));
        bench.calls(3, Judged::Failure).pass(5 * SECOND).call(Judged::Success);
        assert_eq!(bench.state(), State::Ramping);

        bench.calls(50, Judged::Success).calls(2, Judged::Failure).calls(10, Judged::Soft);
        assert_eq!(bench.state(), State::Ramping, "two in a row, and what is soft is in none");
        bench.call(Judged::Success).calls(2, Judged::Failure);
        assert_eq!(bench.state(), State::Ramping, "the row has begun anew");
        bench.call(Judged::Failure);

        assert_eq!((bench.state(), bench.last().reason), (State::Open, Reason::ConsecutiveFailures));
        assert_eq!(bench.last().sums.map(|sums| sums.failed), Some(15));
        assert_eq!(bench.refused(), Some(10 * SECOND));
    }
}

#[test]
fn a_row_goes_on_from_one_step_of_a_ramp_to_the_next() {
    let settings = Settings::default().no_failure_rate().consecutive_failures(3).probes(1);
    let bench = bench(settings.ramp(Ramp::Calls(2)));
    bench.calls(3, Judged::Failure).pass(5 * SECOND).call(Judged::Success);

    bench.calls(2, Judged::Failure);
    assert_eq!(share(&bench), 25, "the second step");
    bench.call(Judged::Failure);

    assert_eq!(bench.state(), State::Open);
}

/// Calls of which so many in a hundred fail, by chance.
fn chance(percent: u64) -> impl FnMut() -> Judged {
    let mut seed = 7_u64;
    move || {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            seed ^= if left { seed << by } else { seed >> by };
        }
        if seed % 100 < percent { Judged::Failure } else { Judged::Success }
    }
}

#[test]
fn a_service_that_fails_less_than_the_rate_gets_through_a_timed_ramp() {
    for (percent, passes) in [(10, 199..=200), (20, 190..=200), (70, 0..=1)] {
        let mut judged = chance(percent);
        let mut passed = 0;
        for _ in 0..200 {
            let bench = bench(Settings::default().ramp(Ramp::Time(10 * SECOND)));
            bench.calls(20, Judged::Failure).pass(5 * SECOND).calls(3, Judged::Success);
            while bench.state() == State::Ramping {
                bench.pass(SECOND / 20);
                bench.call(judged());
            }
            passed += u32::from(bench.state() == State::Closed);
        }

        assert!(passes.contains(&passed), "where {percent} % fail, {passed} of 200 pass");
    }
}

#[test]
fn in_a_timed_step_the_rate_is_one_of_the_minimum_of_calls_and_of_no_more_than_63() {
    for (minimum, failures) in [(1, 2), (20, 10), (63, 32), (5_000, 32)] {
        let settings = Settings::default().minimum_calls(minimum).ramp(Ramp::Time(10 * SECOND));
        let bench = bench(settings);
        bench.calls(minimum, Judged::Failure).pass(5 * SECOND).calls(3, Judged::Success);

        bench.calls(failures - 1, Judged::Failure);
        assert_eq!(bench.state(), State::Ramping, "a minimum of {minimum}");
        bench.call(Judged::Failure);

        assert_eq!(bench.state(), State::Open, "a minimum of {minimum}");
    }
}

#[test]
fn a_half_open_breaker_that_was_left_alone_begins_its_ramp_with_the_next_call() {
    let bench = bench(of_ten().probes(3).ramp(Ramp::Time(10 * SECOND))).opened();
    bench.call(Judged::Success).pass(HOUR);

    bench.call(Judged::Success);

    assert_eq!((bench.state(), share(&bench)), (State::Ramping, 10));
    assert_eq!((bench.last().at, bench.last().lasts), (bench.now.get(), Some(40 * SECOND)));
    bench.pass(40 * SECOND);
    assert_eq!(bench.tick(), State::Closed);
}

#[test]
fn a_ramp_of_calls_waits_for_calls_that_say_something() {
    let bench = bench(of_ten().probes(1).ramp(Ramp::Calls(2))).opened();
    bench.call(Judged::Success);

    for _ in 0..1000 {
        bench.pass(HOUR).call(Judged::Ignored).call(Judged::Cancelled);
    }
    assert_eq!((bench.state(), share(&bench)), (State::Ramping, 10));

    bench.calls(8, Judged::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_ramp_refuses_without_a_time_since_the_next_call_may_pass() {
    let bench = bench(of_ten().probes(1).ramp(Ramp::Time(10 * SECOND))).opened();
    bench.call(Judged::Success);
    bench.draw.set(u64::MAX);

    let refused = bench.admit().unwrap_err();

    assert_eq!((refused.state, refused.retry_after), (State::Ramping, None));
}

#[test]
fn neither_time_nor_results_leave_a_state_set_by_hand() {
    for (mode, passes, counts) in [
        (Mode::Disabled, true, false),
        (Mode::MetricsOnly, true, true),
        (Mode::ForcedOpen, false, false),
        (Mode::Isolated, false, false),
    ] {
        let bench = bench(of_ten().consecutive_failures(2)).opened();
        let probe = bench.admit().unwrap();

        bench.force(mode);
        assert_eq!(bench.end(probe, Judged::Success, false), Recorded::Stale);
        for _ in 0..20 {
            if let Ok(admission) = bench.pass(HOUR).admit() {
                assert!(passes);
                bench.end(admission, Judged::Failure, true);
                bench.end(bench.admit().unwrap(), Judged::OpenFor(HOUR), true);
            } else {
                assert_eq!(bench.refused(), None);
            }
        }

        assert_eq!(bench.tick(), State::from(mode));
        assert_eq!(bench.view().failure_rate, counts.then_some(1.0));
        assert_eq!(bench.view().lets_through, if passes { 100 } else { 0 });
        bench.breaker.reset(&bench.rules, bench.now.get(), bench.tell());
        assert_eq!((bench.state(), bench.view().sums.total), (State::Closed, 0));
        assert_eq!(bench.last().reason, Reason::ByHand);
    }
}

#[test]
fn a_reset_forgets_whatever_happened_before_it() {
    // As often as the few bits that tell the words of one generation from another come round.
    for resets in [1, 2, 255, 256, 257, 512] {
        let bench = bench(of_ten());
        bench.call(Judged::Failure);

        for _ in 0..resets {
            bench.breaker.reset(&bench.rules, bench.now.get(), bench.tell());
        }

        assert_eq!(bench.view().sums.total, 0, "after {resets} resets");
        bench.calls(9, Judged::Success);
        assert_eq!(bench.view().sums.failed, 0);
    }
}

#[test]
fn it_can_be_opened_by_hand_for_a_time() {
    let bench = bench(of_ten());

    bench.breaker.open_for(&bench.rules, 3 * SECOND, bench.now.get(), bench.tell());
    assert_eq!(bench.refused(), Some(3 * SECOND));
    bench.pass(3 * SECOND);
    assert!(bench.admit().unwrap().is_probe());

    bench.force(Mode::Isolated);
    bench.breaker.open_for(&bench.rules, 3 * SECOND, bench.now.get(), bench.tell());
    assert_eq!(bench.state(), State::Isolated);
}

#[test]
fn a_clock_that_goes_back_keeps_it_open_for_no_longer_than_ever() {
    let bench = bench(of_ten());
    bench.calls(2, Judged::Failure);

    bench.now.set(Timestamp::ZERO);

    assert_eq!(bench.refused(), Some(60 * SECOND));
    bench.pass(60 * SECOND);
    assert!(bench.admit().is_ok());
}

#[test]
fn at_the_end_of_the_clock_it_still_answers() {
    let bench = bench(of_ten().open_for(SECOND, Duration::MAX).half_open_for(Duration::MAX));
    bench.now.set(Timestamp::MAX);

    bench.calls(2, Judged::Failure);

    assert_eq!(bench.refused(), None, "there is no time after it");
    bench.breaker.reset(&bench.rules, bench.now.get(), bench.tell());
    bench.calls(9, Judged::Success);
    assert_eq!(bench.view().sums.total, 9);
}

#[test]
fn settings_that_cannot_work_are_refused_with_field_value_and_rule() {
    let base = Settings::default;
    for (settings, field, value) in [
        (base().failure_rate(f64::NAN), "failure_rate", "NaN"),
        (base().failure_rate(0.0), "failure_rate", "0.0"),
        (base().failure_rate(1.01), "failure_rate", "1.01"),
        (base().failure_rate(f64::INFINITY), "failure_rate", "inf"),
        (base().slow_calls(SECOND, -0.5), "slow_calls", "-0.5"),
        (base().slow_calls(Duration::ZERO, 0.5), "slow_calls", "0ns"),
        (base().consecutive_failures(0), "consecutive_failures", "0"),
        (base().consecutive_failures(65_536), "consecutive_failures", "65536"),
        (base().no_failure_rate(), "no_failure_rate", "()"),
        (base().window(Window::last(0)), "window", "0"),
        (base().window(Window::last(100_001)), "window", "100001"),
        (base().window(Window::time(Duration::ZERO)), "window", "0ns"),
        (base().window(Window::time(Duration::from_micros(999))), "window", "999µs"),
        (base().minimum_calls(0), "minimum_calls", "0"),
        (base().minimum_calls(65_536), "minimum_calls", "65536"),
        (base().window(Window::last(10)).minimum_calls(11), "minimum_calls", "11"),
        (base().open_for(Duration::ZERO, SECOND), "open_for", "0ns"),
        (base().open_for(2 * SECOND, SECOND), "open_for", "1s"),
        (base().growing_by(0.9), "growing_by", "0.9"),
        (base().growing_by(f64::NAN), "growing_by", "NaN"),
        (base().growing_by(f64::INFINITY), "growing_by", "inf"),
        (base().jitter(-0.1), "jitter", "-0.1"),
        (base().jitter(1.1), "jitter", "1.1"),
        (base().jitter(f64::NAN), "jitter", "NaN"),
        (base().probes(0), "probes", "0"),
        (base().probes(32), "probes", "32"),
        (base().half_open_for(Duration::ZERO), "half_open_for", "0ns"),
        (base().ramp(Ramp::Time(Duration::ZERO)), "ramp", "0ns"),
        (base().ramp(Ramp::Calls(0)), "ramp", "0"),
        (base().ramp(Ramp::Calls(101)), "ramp", "101"),
        (base().on_drop(OnDrop::FailWhenSlow), "on_drop", "FailWhenSlow"),
    ] {
        let error = settings.rules().unwrap_err();

        assert_eq!((error.field(), error.value()), (field, value));
        assert!(!error.rule().is_empty());
        let text = format!("circuit breaker with `{field}` = {value}: {}", error.rule());
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_small_window_needs_no_more_calls_than_it_holds() {
    assert_eq!(Settings::default().window(Window::last(5)).rules().unwrap().minimum_calls(), 5);
    assert_eq!(Settings::default().window(Window::last(50)).rules().unwrap().minimum_calls(), 20);
}

#[test]
fn a_clock_that_goes_on_and_back_does_not_keep_old_results_in_the_window() {
    let bench = bench(Settings::default());
    bench.pass(24 * HOUR);
    (0..40).for_each(|_| _ = bench.call(Judged::Success));

    bench.now.set(Timestamp::ZERO + HOUR);

    assert_eq!(bench.view().sums.total, 0);
    (0..20).for_each(|_| _ = bench.call(Judged::Failure));
    assert_eq!(bench.breaker.state(), State::Open, "20 of 20 in this window");
}

#[test]
fn a_reset_forgets_what_was_counted_at_whatever_time() {
    for seconds in [0, 3, 8, 9, 3600] {
        let bench = bench(Settings::default());
        for ahead in 0..9 {
            bench.now.set(Timestamp::ZERO + (seconds + ahead) as u32 * SECOND);
            bench.call(Judged::Failure).call(Judged::Failure);
        }
        bench.now.set(Timestamp::ZERO + seconds as u32 * SECOND);

        bench.breaker.reset(&bench.rules, bench.now.get(), |_| {});

        assert_eq!(bench.view().sums.total, 0, "at {seconds} s");
        (0..19).for_each(|_| _ = bench.call(Judged::Failure));
        assert_eq!(bench.breaker.state(), State::Closed, "at {seconds} s");
    }
}

#[test]
fn a_probe_of_another_breaker_takes_no_permit_back_that_was_not_given() {
    let (one, other) = (bench(of_ten()), bench(of_ten()));
    let half_open = |bench: &Bench| {
        bench.breaker.open_for(&bench.rules, SECOND, bench.now.get(), |_| {});
        bench.pass(SECOND).admit().unwrap()
    };
    let (mine, another) = (half_open(&one), half_open(&other));
    one.end(mine, Judged::Ignored, false);

    let recorded = one.end(another, Judged::Failure, false);

    assert_eq!((recorded, one.state(), one.view().probes_in_flight), (Recorded::Stale, State::HalfOpen, 0));
}

#[test]
fn a_row_is_forgotten_whatever_number_the_generation_has() {
    let bench = bench(Settings::default().no_failure_rate().consecutive_failures(2));
    bench.call(Judged::Failure);

    // As many as sixteen bits count.
    (0..1 << 16).for_each(|_| bench.breaker.reset(&bench.rules, bench.now.get(), |_| {}));

    bench.call(Judged::Failure);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn the_open_time_is_never_shorter_than_a_millisecond() {
    let settings = Settings::default().minimum_calls(1).open_for(SECOND / 1000, SECOND);
    let rules = settings.jitter(1.0).rules().unwrap();
    let breaker = Breaker::new(&rules);
    let admission = breaker.admit(&rules, || Timestamp::ZERO, || 0, |_| {}).unwrap();

    breaker.record(&rules, admission, Judged::Failure, false, || Timestamp::ZERO, || u64::MAX, |_| {});

    let refused = breaker.admit(&rules, || Timestamp::ZERO, || 0, |_| {}).unwrap_err();
    assert_eq!(refused.retry_after, Some(SECOND / 1000));
}
