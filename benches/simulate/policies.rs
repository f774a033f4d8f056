//! The policies that are not those of `buttress-balance` as they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress_balance::{Bandwidth, Ended, LeastLoad, LeastLoadRules, Load, Node, Policy, PolicyError, Score};
use buttress_core::Timestamp;

/// The cost of an endpoint as `tower::load::PeakEwma` 0.5 has it, between which the same two choices are made: so what differs is the
/// score alone.
///
/// ```text
/// cost = estimate · (in flight + 1)
/// a sample above the estimate    the sample
/// any other                      estimate · e^(-t / 10 s) + sample · (1 - e^(-t / 10 s))
/// each look at the cost          a sample of 0
/// ```
///
/// Each call that ends is a sample of the time it took, however it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tower(Arc<Mutex<HashMap<usize, Estimate>>>);

#[derive(Clone, Copy, Debug)]
struct Estimate {
    nanos: f64,
    at: Timestamp,
}

impl Estimate {
    fn update(&mut self, sample: f64, now: Timestamp) -> f64 {
        const DECAY: f64 = 10e9;
        self.nanos = if self.nanos < sample {
            sample
        } else {
            let old = (-((now - self.at).as_nanos() as f64) / DECAY).exp();
            self.nanos * old + sample * (1.0 - old)
        };
        self.at = now;
        self.nanos
    }
}

impl Tower {
    pub(crate) fn policy() -> LeastLoadRules<Self> {
        LeastLoad::by(Self::default())
    }

    /// Each load stays in its place as long as its balancer is there.
    fn update(&self, load: &Load, sample: f64, now: Timestamp) -> f64 {
        const FIRST: f64 = 30e6;
        let mut all: MutexGuard<'_, _> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(std::ptr::from_ref(load).addr())
            .or_insert(Estimate { nanos: FIRST, at: now })
            .update(sample, now)
    }
}

impl Score for Tower {
    type Seen = ();
    const TIMED: bool = true;

    fn score(&self, (): &(), load: &Load, now: Timestamp) -> f64 {
        self.update(load, 0.0, now) * (f64::from(load.in_flight()) + 1.0)
    }

    fn ended(&self, load: &Load, call: &Ended<'_>) {
        self.update(load, (call.now - call.started).as_nanos() as f64, call.now);
    }
}

/// Least bandwidth over answers of one size: what a balancer that follows bodies tells the policy is told at the end of each call.
#[derive(Clone, Debug)]
pub(crate) struct Metered(pub(crate) LeastLoadRules<Bandwidth>);

const BYTES: u64 = 10_000;

impl Policy for Metered {
    type Picker = <LeastLoadRules<Bandwidth> as Policy>::Picker;

    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        self.0.build(nodes)
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn ended(&self, load: &Load, call: &Ended<'_>) {
        self.0.received(load, BYTES, call.now);
    }
}
