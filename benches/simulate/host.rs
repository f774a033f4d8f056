//! A host: workers, a queue, and a report of its load.

use std::collections::VecDeque;

use buttress_core::LoadReport;

use crate::world::SECOND;

/// What one that fails takes to do so.
const FAILS_IN: u64 = SECOND / 1000;
/// Seconds over which reports look back.
const DECAY: f64 = 5.0;

/// What serves calls: some at a time, the others wait in turn.
pub(crate) struct Host {
    pub(crate) workers: u32,
    /// How many times longer than usual it takes.
    pub(crate) slowness: f64,
    /// It answers each call with a failure, at once.
    pub(crate) fails: bool,
    pub(crate) busy: u32,
    /// The places of the calls that wait.
    pub(crate) queue: VecDeque<u32>,
    gauge: Gauge,
}

/// What a host knows of its own load, over the last seconds.
#[derive(Default)]
struct Gauge {
    at: f64,
    busy: f64,
    rate: f64,
    errors: f64,
}

impl Gauge {
    fn pass(&mut self, now: f64, busy: f64) {
        let old = ((self.at - now) / DECAY).exp();
        self.at = now;
        self.busy = self.busy * old + busy * (1.0 - old);
        self.rate *= old;
        self.errors *= old;
    }

    fn report(&self) -> LoadReport {
        LoadReport::new()
            .with_application(self.busy as f32)
            .with_rate(self.rate as f32)
            .with_errors(self.errors as f32)
    }
}

impl Host {
    pub(crate) fn new(workers: u32) -> Self {
        Self {
            workers,
            slowness: 1.0,
            fails: false,
            busy: 0,
            queue: VecDeque::new(),
            gauge: Gauge::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.busy as usize + self.queue.len()
    }

    /// How long it takes for this work, in nanoseconds.
    pub(crate) fn takes(&self, work: f64) -> u64 {
        if self.fails { FAILS_IN } else { (work * self.slowness) as u64 }
    }

    /// Time goes on to `now`: to be said before anything changes.
    pub(crate) fn pass(&mut self, now: u64) {
        self.gauge.pass(now as f64 / SECOND as f64, f64::from(self.busy) / f64::from(self.workers));
    }

    /// Answers a call, with a report of the load.
    pub(crate) fn answer(&mut self, fails: bool) -> Answer {
        self.gauge.rate += 1.0 / DECAY;
        self.gauge.errors += f64::from(u32::from(fails)) / DECAY;
        Answer { fails, report: self.gauge.report() }
    }
}

/// How a call was answered.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) fails: bool,
    pub(crate) report: LoadReport,
}
