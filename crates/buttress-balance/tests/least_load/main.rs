//! Policies that look at load, driven without a balancer.

mod failures;
mod picks;
mod reported;
mod scores;
mod threads;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use buttress_balance::{Among, Ended, Load, Node, Picker, Policy};
use buttress_core::{Chance, Outcome, Timestamp};

/// Endpoints with their loads, and what a pick asked of them.
pub(crate) struct Farm {
    pub(crate) nodes: Vec<Node>,
    pub(crate) loads: Vec<Load>,
    pub(crate) down: HashSet<usize>,
    pub(crate) full: HashSet<usize>,
    pub(crate) now: Cell<Timestamp>,
    /// Whose load was looked at, in order.
    pub(crate) looked: RefCell<Vec<usize>>,
    /// Who was asked to take the call.
    pub(crate) asked: RefCell<Vec<usize>>,
    /// How often somebody was asked whether it is usable.
    pub(crate) checks: Cell<usize>,
}

impl Farm {
    pub(crate) fn new(weights: &[u32]) -> Self {
        let node = |(at, &weight): (usize, &u32)| Node::new(format!("10.0.0.{at}:443")).weight(weight);
        Self {
            nodes: weights.iter().enumerate().map(node).collect(),
            loads: weights.iter().map(|&weight| Load::new(weight)).collect(),
            down: HashSet::new(),
            full: HashSet::new(),
            now: Cell::new(START),
            looked: RefCell::default(),
            asked: RefCell::default(),
            checks: Cell::new(0),
        }
    }

    pub(crate) fn picker<P: Policy>(&self, policy: &P) -> P::Picker {
        policy.build(&self.nodes).expect("these settings and endpoints make a policy")
    }

    /// Picks one, which takes the call.
    pub(crate) fn pick(&self, picker: &impl Picker, hash: u64) -> Option<usize> {
        self.looked.borrow_mut().clear();
        self.asked.borrow_mut().clear();
        self.checks.set(0);
        picker.pick(hash, self)
    }

    /// Picks for a call that is over at once, and leaves no trace.
    pub(crate) fn glance(&self, picker: &impl Picker, hash: u64) -> Option<usize> {
        self.pick(picker, hash).inspect(|&endpoint| self.loads[endpoint].leave())
    }

    /// How often each is picked in so many picks.
    pub(crate) fn shares(&self, picker: &impl Picker, picks: u64) -> Vec<u64> {
        let mut shares = vec![0; self.nodes.len()];
        for hash in (0..picks).map(scatter) {
            shares[self.glance(picker, hash).expect("one is usable")] += 1;
        }
        shares
    }

    /// A call to an endpoint that took so long, and ends now.
    pub(crate) fn ended(
        &self,
        policy: &impl Policy,
        endpoint: usize,
        took: Duration,
        outcome: &Option<Outcome>,
    ) {
        let now = self.now.get();
        policy.ended(&self.loads[endpoint], &Ended::new(now - took, now, outcome.as_ref()));
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }
}

impl Among for Farm {
    fn is_usable(&self, endpoint: usize) -> bool {
        self.checks.set(self.checks.get() + 1);
        !self.down.contains(&endpoint)
    }

    fn admit(&self, endpoint: usize) -> bool {
        let mut asked = self.asked.borrow_mut();
        assert!(!asked.contains(&endpoint), "{endpoint} is asked twice");
        asked.push(endpoint);
        let takes = !self.down.contains(&endpoint) && !self.full.contains(&endpoint);
        if takes {
            self.loads[endpoint].enter();
        }
        takes
    }

    fn load(&self, endpoint: usize) -> &Load {
        self.looked.borrow_mut().push(endpoint);
        &self.loads[endpoint]
    }

    fn now(&self) -> Timestamp {
        self.now.get()
    }
}

/// Some time after the origin, and the start of a second.
pub(crate) const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A hash, or a random value, for a number.
pub(crate) fn scatter(number: u64) -> u64 {
    Chance::new(Some(number)).draw()
}

/// Whether a count out of `all` is within so many standard deviations of what chance gives at this probability.
pub(crate) fn is_chance(count: u64, all: u64, probability: f64, deviations: f64) -> bool {
    let mean = all as f64 * probability;
    let deviation = (mean * (1.0 - probability)).sqrt();
    (count as f64 - mean).abs() <= deviations * deviation
}

/// Whether a number is the expected one to a thousandth.
#[track_caller]
pub(crate) fn about(number: f64, expected: f64) {
    assert!((number - expected).abs() <= expected * 1e-3, "{number} is not about {expected}");
}
