//! Runs two sides by turns and prints how long one takes for each unit of time that the other takes.
//!
//! Turns are short, and each pair is one sample of the ratio: what else runs on the machine slows both sides alike,
//! and the median leaves out the pairs where it did not.
#![allow(dead_code, reason = "each bench takes what it needs")]

use std::hint::black_box;
use std::time::Duration;

use buttress_core::Clock;

/// One row needs this many pairs at least, and goes on for this long.
const PAIRS: usize = 15;
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

/// What `cargo bench` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// `--test`: one short turn of each, to see that it runs.
    pub(crate) test: bool,
    only: Option<String>,
}

impl Ask {
    pub(crate) fn from_args() -> Self {
        let mut ask = Self { test: false, only: None };
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                "--test" => ask.test = true,
                flag if flag.starts_with('-') => {}
                word => ask.only = Some(word.to_owned()),
            }
        }
        ask
    }

    /// Whether the row of this name is asked for.
    pub(crate) fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| what.contains(only))
    }

    /// `full`, or a little of it for a test.
    pub(crate) fn scale(&self, full: u64) -> u64 {
        if self.test { full.min(2000) } else { full }
    }
}

/// A table whose rows are races.
#[derive(Debug)]
pub(crate) struct Races(Ask);

impl Races {
    pub(crate) fn new(ask: Ask) -> Self {
        println!(
            "{:<36} {:>12} {:>12}  {:>5}  {:>5}  peer",
            "ns each, medians", "buttress", "peer", "ratio", "goal"
        );
        Self(ask)
    }

    /// One row: both sides do `count` operations a turn and say how long that took.
    pub(crate) fn row(
        &self,
        what: &str,
        peer: &str,
        goal: Option<f64>,
        count: u64,
        mut ours: impl FnMut(u64) -> Duration,
        mut theirs: impl FnMut(u64) -> Duration,
    ) {
        if !self.0.wants(what) {
            return;
        }
        let count = self.0.scale(count);
        // The first turn makes tables and warms caches.
        let _ = (ours(count), theirs(count));
        let mut pairs = Vec::new();
        let mut spent = Duration::ZERO;
        while pairs.is_empty() || !self.0.test && (pairs.len() < PAIRS || spent < LONG_ENOUGH) {
            let pair = if pairs.len() % 2 == 0 {
                (ours(count), theirs(count))
            } else {
                let theirs = theirs(count);
                (ours(count), theirs)
            };
            spent += pair.0 + pair.1;
            pairs.push((pair.0.as_secs_f64(), pair.1.as_secs_f64()));
        }
        let each = |seconds: f64| seconds * 1e9 / count as f64;
        println!(
            "{what:<36} {:>12.1} {:>12.1}  {:>5.2}  {:>5}  {peer}",
            each(median(pairs.iter().map(|pair| pair.0))),
            each(median(pairs.iter().map(|pair| pair.1))),
            median(pairs.iter().map(|pair| pair.0 / pair.1)),
            goal.map_or_else(String::new, |goal| format!("{goal:.2}")),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long `work` takes.
#[inline]
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let clock = Clock::monotonic();
    let start = clock.now();
    work();
    clock.now() - start
}

/// How long `work` takes `count` times over.
#[inline]
pub(crate) fn times<T>(count: u64, mut work: impl FnMut(u64) -> T) -> Duration {
    time(|| {
        for i in 0..count {
            black_box(work(black_box(i)));
        }
    })
}
