//! What is measured of a run.

use std::collections::HashMap;

use crate::scenarios::Scenario;
use crate::world::SECOND;

/// Shares of calls are looked at in each so many seconds.
const WINDOW: u64 = 10;

/// What a run came to, from the end of its first sixth on.
pub(crate) struct Measured {
    /// Of calls that were served, in milliseconds: median, 99th and 99.9th percentile.
    pub(crate) times: [f64; 3],
    /// The calls in flight at the endpoint that has most of them, averaged over time, by the mean of all endpoints.
    pub(crate) most_load: f64,
    pub(crate) errors: f64,
    /// The share of calls that went where the one before of their key had gone.
    pub(crate) affinity: f64,
    /// The most calls that an endpoint was given in ten seconds, by the mean of all endpoints.
    pub(crate) most_calls: f64,
    /// The most calls that an endpoint had at once.
    pub(crate) most_at_once: usize,
}

pub(crate) struct Watch {
    from: u64,
    times: Vec<f32>,
    loads: Vec<f64>,
    calls: u64,
    errors: u64,
    homes: HashMap<u64, u32>,
    has_keys: bool,
    repeated: u64,
    at_home: u64,
    window: u64,
    given: Vec<u32>,
    most_calls: f64,
    most_at_once: usize,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            from: scenario.seconds * SECOND / 6,
            times: Vec::with_capacity(scenario.calls as usize),
            loads: vec![0.0; scenario.hosts],
            calls: 0,
            errors: 0,
            homes: HashMap::new(),
            has_keys: scenario.has_keys(),
            repeated: 0,
            at_home: 0,
            window: 0,
            given: vec![0; scenario.hosts],
            most_calls: 0.0,
            most_at_once: 0,
        }
    }

    /// A call goes to `host`, which then has so many, so long after the start.
    pub(crate) fn began(&mut self, host: usize, key: u64, in_flight: usize, at: u64) {
        if at < self.from {
            return;
        }
        let window = (at - self.from) / (WINDOW * SECOND);
        if window != self.window {
            self.window = window;
            self.close_window();
        }
        self.given[host] += 1;
        self.most_at_once = self.most_at_once.max(in_flight);
        if self.has_keys
            && let Some(home) = self.homes.insert(key, host as u32)
        {
            self.repeated += 1;
            self.at_home += u64::from(home as usize == host);
        }
    }

    fn close_window(&mut self) {
        let all: u32 = self.given.iter().sum();
        let most = self.given.iter().copied().max().unwrap_or_default();
        self.most_calls = self.most_calls.max(f64::from(most) * self.given.len() as f64 / f64::from(all));
        self.given.fill(0);
    }

    /// A call that came then ends now.
    pub(crate) fn ended(&mut self, host: usize, came: u64, at: u64, fails: bool) {
        if came < self.from {
            return;
        }
        let took = (at - came) as f64 / 1e6;
        self.calls += 1;
        self.loads[host] += took;
        if fails {
            self.errors += 1;
        } else {
            self.times.push(took as f32);
        }
    }

    pub(crate) fn done(mut self) -> Measured {
        let mean = self.loads.iter().sum::<f64>() / self.loads.len() as f64;
        let most = self.loads.iter().copied().fold(0.0, f64::max);
        let times = [0.5, 0.99, 0.999].map(|part| {
            let rank = (self.times.len() as f64 * part) as usize;
            f64::from(*self.times.select_nth_unstable_by(rank, f32::total_cmp).1)
        });
        Measured {
            times,
            most_load: most / mean,
            errors: self.errors as f64 / self.calls as f64,
            affinity: self.at_home as f64 / self.repeated.max(1) as f64,
            most_calls: self.most_calls,
            most_at_once: self.most_at_once,
        }
    }
}
