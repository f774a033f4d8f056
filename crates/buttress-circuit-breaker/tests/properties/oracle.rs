//! A breaker as one would write it with no regard for speed, threads or memory: it keeps every result.

use std::time::Duration;

use buttress_circuit_breaker::{Judged, Mode, Ramp, State, Window};
use buttress_core::Timestamp;

use crate::schedule::Numbers;

#[derive(Debug)]
pub(crate) struct Oracle {
    numbers: Numbers,
    pub(crate) generation: u32,
    pub(crate) stale: u32,
    /// The latest slice.
    latest: u64,
    state: Now,
}

/// A call that was let through, and whether it is a probe that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    generation: u32,
    answered: bool,
}

#[derive(Debug)]
enum Now {
    /// Results with their slices, and failures in a row.
    Counting {
        state: State,
        results: Vec<Result>,
        row: u32,
    },
    Open {
        until: Option<Timestamp>,
        growth: i32,
    },
    HalfOpen {
        until: Timestamp,
        growth: i32,
        in_flight: u32,
        answered: u32,
        judged: Vec<Result>,
    },
    Ramping {
        until: Option<Timestamp>,
        growth: i32,
        step: u32,
        judged: Vec<Result>,
        row: u32,
    },
    Set(State),
}

#[derive(Clone, Copy, Debug)]
struct Result {
    failed: bool,
    slow: bool,
    slice: u64,
}

impl Oracle {
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self { numbers, generation: 0, stale: 0, latest: 0, state: Now::counting(State::Closed) }
    }

    pub(crate) fn state(&self) -> State {
        match &self.state {
            Now::Counting { state, .. } | Now::Set(state) => *state,
            Now::Open { .. } => State::Open,
            Now::HalfOpen { .. } => State::HalfOpen,
            Now::Ramping { .. } => State::Ramping,
        }
    }

    /// All results, failures, slow calls and probes that are on their way.
    pub(crate) fn sums(&self, now: Timestamp) -> (u32, u32, u32, u32) {
        let (results, in_flight) = match &self.state {
            Now::Counting { results, .. } => (self.in_window(results, now), 0),
            Now::HalfOpen { judged, in_flight, answered, .. } => (judged.clone(), *in_flight + *answered),
            Now::Ramping { judged, .. } => (judged.clone(), 0),
            _ => (Vec::new(), 0),
        };
        let (total, failed, slow) = sums(&results);
        (total, failed, slow, in_flight)
    }

    /// The ticket, or the time that is left of a state that refuses.
    pub(crate) fn ask(&mut self, now: Timestamp, draw: u64) -> std::result::Result<Ticket, Option<Duration>> {
        self.come_to(now);
        let (probes, ticket) = (self.numbers.probes, Ticket { generation: self.generation, answered: false });
        match &mut self.state {
            Now::Counting { .. } | Now::Set(State::Disabled) => Ok(ticket),
            Now::Set(_) => Err(None),
            Now::Open { until, growth } => {
                if until.is_none_or(|until| until > now) {
                    return Err(until.map(|until| until - now));
                }
                let growth = *growth;
                let until = micros(now + self.half_open(growth));
                self.go(now, Now::HalfOpen { until, growth, in_flight: 1, answered: 0, judged: Vec::new() });
                Ok(Ticket { generation: self.generation, answered: false })
            }
            Now::HalfOpen { until, in_flight, answered, judged, .. } => {
                if *in_flight + *answered + judged.len() as u32 == probes {
                    return Err(Some(*until - now));
                }
                *in_flight += 1;
                Ok(ticket)
            }
            Now::Ramping { .. } => {
                let share = [0.1, 0.25, 0.5, 1.0][self.step(now) as usize];
                if (draw as f64) < share * (u64::MAX as f64) { Ok(ticket) } else { Err(None) }
            }
        }
    }

    /// A good answer, of a call that is slow from `slow_at` on unless it has ended.
    pub(crate) fn answer(&mut self, ticket: &mut Ticket, now: Timestamp, slow_at: Option<Timestamp>) {
        if let Now::HalfOpen { until, in_flight, answered, .. } = &mut self.state
            && ticket.generation == self.generation
            && !ticket.answered
            && now < *until
            && slow_at.is_none_or(|slow_at| slow_at > *until)
        {
            ticket.answered = true;
            *in_flight -= 1;
            *answered += 1;
        }
    }

    pub(crate) fn end(&mut self, ticket: Ticket, judged: Judged, slow: bool, now: Timestamp) {
        let says = !matches!(judged, Judged::Ignored | Judged::Cancelled);
        if ticket.generation == self.generation
            && matches!(self.state, Now::HalfOpen { .. } | Now::Ramping { .. })
        {
            self.come_to(now);
        }
        if ticket.generation != self.generation {
            self.stale += u32::from(says);
            return;
        }
        let failed = matches!(judged, Judged::Failure | Judged::Soft | Judged::OpenFor(_));
        let asked =
            if let Judged::OpenFor(wait) = judged { Some(wait.min(self.numbers.longest)) } else { None };
        let result = Result { failed, slow, slice: 0 };
        let step = self.step(now);
        let numbers = self.numbers.clone();
        let (before, latest) = (self.latest, self.slice(now));
        match &mut self.state {
            Now::Counting { state, results, row } if says => {
                self.latest = latest;
                if latest < before {
                    results.clear();
                }
                results.push(Result { slice: latest, ..result });
                match judged {
                    Judged::Soft => {}
                    Judged::Success => *row = 0,
                    _ => *row += 1,
                }
                let (state, row) = (*state, *row);
                let results = results.clone();
                let (total, failures, slows) = sums(&self.in_window(&results, now));
                let rates =
                    total >= numbers.minimum && numbers.too_many(numbers.failure, failures, slows, total);
                let in_a_row = failed && numbers.row.is_some_and(|most| row >= most);
                if state == State::Closed && (asked.is_some() || in_a_row || (failed || slow) && rates) {
                    self.open(now, asked, 0);
                }
            }
            Now::HalfOpen { in_flight, answered, judged, growth, .. } => {
                *(if ticket.answered { answered } else { in_flight }) -= 1;
                let growth = *growth;
                if says {
                    judged.push(result);
                    let (total, failures, slows) = sums(judged);
                    if asked.is_some()
                        || numbers.too_many(numbers.probe_rate(), failures, slows, numbers.probes)
                    {
                        self.open(now, asked, growth + 1);
                    } else if total == numbers.probes {
                        self.recover(now, growth);
                    }
                }
            }
            Now::Ramping { judged: results, growth, step: of, row, .. } if says => {
                let growth = *growth;
                if *of != step {
                    results.clear();
                    *of = step;
                }
                results.push(result);
                match judged {
                    Judged::Soft => {}
                    Judged::Success => *row = 0,
                    _ => *row += 1,
                }
                let (total, failures, slows) = sums(results);
                let least = match numbers.ramp {
                    Some(Ramp::Calls(calls)) => calls,
                    _ => numbers.probes.max(numbers.minimum),
                };
                if asked.is_some()
                    || numbers.row.is_some_and(|most| *row >= most)
                    || numbers.too_many(numbers.failure, failures, slows, total.max(least))
                {
                    self.open(now, asked, growth + 1);
                } else if numbers.ramp == Some(Ramp::Calls(total)) {
                    results.clear();
                    *of += 1;
                    if *of == 4 {
                        self.close(now);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn force(&mut self, mode: Mode, now: Timestamp) {
        let state = State::from(mode);
        self.go(now, if state == State::MetricsOnly { Now::counting(state) } else { Now::Set(state) });
    }

    pub(crate) fn close(&mut self, at: Timestamp) {
        self.go(at, Now::counting(State::Closed));
    }

    pub(crate) fn tick(&mut self, now: Timestamp) {
        if matches!(self.state, Now::HalfOpen { .. } | Now::Ramping { .. }) {
            self.come_to(now);
        }
    }

    /// Ends what is over by now, and notices when the clock has gone back.
    fn come_to(&mut self, now: Timestamp) {
        loop {
            let most = match &self.state {
                Now::Open { .. } => self.numbers.longest,
                Now::HalfOpen { growth, .. } => self.half_open(*growth),
                Now::Ramping { .. } => self.numbers.ramp_time().unwrap_or(Duration::MAX),
                _ => return,
            };
            match &mut self.state {
                Now::Open { until: Some(until), .. } => {
                    *until = (*until).min(micros(now + most));
                    return;
                }
                Now::HalfOpen { until, growth, in_flight, answered, judged } => {
                    *until = (*until).min(micros(now + most));
                    if *until > now {
                        return;
                    }
                    let (at, growth) = (*until, *growth);
                    let (total, failed, slow) = sums(judged);
                    let total = total + *answered;
                    let good = *in_flight == 0
                        && total > 0
                        && !self.numbers.too_many(self.numbers.probe_rate(), failed, slow, total);
                    if good {
                        // A ramp begins when that is noticed.
                        self.recover(if self.numbers.ramp.is_some() { now } else { at }, growth);
                    } else {
                        self.open(at, None, growth + 1);
                    }
                }
                Now::Ramping { until: Some(until), .. } => {
                    *until = (*until).min(micros(now + most));
                    if *until > now {
                        return;
                    }
                    let at = *until;
                    self.close(at);
                }
                _ => return,
            }
        }
    }

    fn open(&mut self, now: Timestamp, asked: Option<Duration>, growth: i32) {
        let wait = asked.unwrap_or_else(|| self.numbers.wait(growth));
        self.go(now, Now::Open { until: Some(micros(now + wait)), growth });
    }

    fn recover(&mut self, now: Timestamp, growth: i32) {
        if self.numbers.ramp.is_none() {
            return self.close(now);
        }
        let until = self.numbers.ramp_time().map(|time| micros(now + time));
        self.go(now, Now::Ramping { until, growth, step: 0, judged: Vec::new(), row: 0 });
    }

    fn go(&mut self, at: Timestamp, to: Now) {
        self.latest = self.slice(at);
        self.state = to;
        self.generation += 1;
    }

    fn half_open(&self, growth: i32) -> Duration {
        self.numbers.overdue.unwrap_or_else(|| self.numbers.wait(growth))
    }

    fn step(&self, now: Timestamp) -> u32 {
        match (&self.state, self.numbers.ramp) {
            (Now::Ramping { until: Some(until), step, .. }, Some(Ramp::Time(length))) => {
                let left = (*until - now).as_nanos().div_ceil(length.as_nanos());
                (4 - left.min(4) as u32).min(3).max(*step)
            }
            (Now::Ramping { step, .. }, _) => *step,
            _ => 0,
        }
    }

    /// What results count towards: the latest slice still when the clock goes back by up to the window, and no further.
    fn slice(&self, now: Timestamp) -> u64 {
        let slice = self.numbers.slice(now);
        if slice + 10 < self.latest { slice } else { slice.max(self.latest) }
    }

    fn in_window(&self, results: &[Result], now: Timestamp) -> Vec<Result> {
        match self.numbers.window {
            Window::Last(calls) => results[results.len().saturating_sub(calls as usize)..].to_vec(),
            _ => {
                let slice = self.slice(now);
                let is_in = |result: &Result| result.slice <= slice && result.slice + 10 > slice;
                results.iter().copied().filter(is_in).collect()
            }
        }
    }
}

impl Now {
    fn counting(state: State) -> Self {
        Self::Counting { state, results: Vec::new(), row: 0 }
    }
}

impl Numbers {
    fn slice(&self, now: Timestamp) -> u64 {
        match self.window {
            Window::Time(time) => now.as_nanos() / (time.as_nanos() as u64 / 10),
            _ => 0,
        }
    }

    fn wait(&self, growth: i32) -> Duration {
        let nanos = self.first.as_nanos() as f64 * self.factor.powi(growth);
        Duration::from_nanos(nanos as u64).clamp(self.first, self.longest)
    }

    fn probe_rate(&self) -> Option<f64> {
        self.failure.or_else(|| self.row.map(|_| 1e-9))
    }

    fn too_many(&self, rate: Option<f64>, failed: u32, slow: u32, of: u32) -> bool {
        let reached = |part: u32, rate: Option<f64>| {
            part > 0 && rate.is_some_and(|rate| f64::from(part) / f64::from(of) > rate - 2e-9)
        };
        reached(failed, rate) || reached(slow, self.slow)
    }

    pub(crate) fn ramp_time(&self) -> Option<Duration> {
        if let Some(Ramp::Time(step)) = self.ramp { Some(step * 4) } else { None }
    }
}

fn sums(results: &[Result]) -> (u32, u32, u32) {
    let count = |is: fn(&Result) -> bool| results.iter().filter(|result| is(result)).count() as u32;
    (results.len() as u32, count(|result| result.failed), count(|result| result.slow))
}

/// States end at whole microseconds.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.as_nanos() / 1000 * 1000)
}
