use std::fmt;
use std::time::Duration;

use buttress_core::{LoadReport, Timestamp, nanos};

use super::average::{moment, passed};
use super::choice::{self, MOST_CHOICES};
use super::says::within;
use super::stride::Stride;
use crate::hash::nth;
use crate::sync::Ordering;
use crate::{Among, Ended, Load, Node, Picker, Policy, PolicyError, Random};

/// What a [`Reported`] is built by.
///
/// | | default | why |
/// |---|---|---|
/// | blackout | 10 s | A58's: the first reports of an endpoint tell of its start |
/// | expiry | 3 min | A58's: what is older tells nothing |
/// | update | 1 s | A58's: how often the weights of all are taken anew |
/// | error_penalty | 1.0 | A58's: one where every call fails weighs as if its utilisation were 1 higher |
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "rules do nothing until a balancer takes them"]
pub struct ReportedRules {
    blackout: Duration,
    expiry: Duration,
    update: Duration,
    error_penalty: f64,
}

impl ReportedRules {
    pub(super) const NEW: Self = Self {
        blackout: Duration::from_secs(10),
        expiry: Duration::from_secs(180),
        update: Duration::from_secs(1),
        error_penalty: 1.0,
    };

    /// How long an endpoint has to report until its weight counts: up to 1 h. 10 s by default.
    pub const fn blackout(mut self, blackout: Duration) -> Self {
        self.blackout = blackout;
        self
    }

    /// How long a report counts: from 1 s to 1 h. 3 minutes by default. After that a new blackout begins with the next report.
    pub const fn expiry(mut self, expiry: Duration) -> Self {
        self.expiry = expiry;
        self
    }

    /// How often weights are taken anew: from 100 ms to 1 h. 1 s by default.
    pub const fn update(mut self, update: Duration) -> Self {
        self.update = update;
        self
    }

    /// What is added to the utilisation for the share of calls that fail: 0 or more. 1.0 by default.
    pub const fn error_penalty(mut self, penalty: f64) -> Self {
        self.error_penalty = penalty;
        self
    }

    fn check(&self) -> Result<(), PolicyError> {
        let hour = Duration::from_secs(3600);
        within("blackout", self.blackout, Duration::ZERO, hour)?;
        within("expiry", self.expiry, Duration::from_secs(1), hour)?;
        within("update", self.update, Duration::from_millis(100), hour)?;
        if !(self.error_penalty.is_finite() && self.error_penalty >= 0.0) {
            return Err(PolicyError::ErrorPenalty { penalty: self.error_penalty });
        }
        Ok(())
    }

    /// The weight that a report says; `None` where it says none.
    fn weigh(&self, report: &LoadReport) -> Option<f32> {
        let [rate, errors, utilization] =
            [report.rate(), report.errors(), report.utilization()].map(f64::from);
        if rate <= 0.0 || utilization <= 0.0 {
            return None;
        }
        let weight = (rate / (utilization + errors / rate * self.error_penalty)) as f32;
        (weight.is_normal()).then_some(weight)
    }

    fn note(&self, load: &Load, weight: f32, now: Timestamp) {
        let last = load.report.load(Ordering::Acquire);
        let since = load.reported_since.load(Ordering::Relaxed);
        if last == 0 || self.has_expired(last, now) || since > now.as_nanos() {
            load.reported_since.store(now.as_nanos(), Ordering::Relaxed);
        }
        // Who sees the weight sees since when there are reports.
        load.report
            .store(u64::from(weight.to_bits()) << u32::BITS | u64::from(moment(now)), Ordering::Release);
    }

    const fn has_expired(&self, report: u64, now: Timestamp) -> bool {
        passed(moment(now), report as u32) >= (nanos(self.expiry) >> 20) as u32
    }

    /// The weight of an endpoint that has reported for long enough, and of late.
    fn weight(&self, load: &Load, now: Timestamp) -> Option<f64> {
        let report = load.report.load(Ordering::Acquire);
        if report == 0 || self.has_expired(report, now) {
            return None;
        }
        let since = Timestamp::from_nanos(load.reported_since.load(Ordering::Relaxed));
        let is_out = now - since >= self.blackout;
        is_out.then(|| f64::from(f32::from_bits((report >> u32::BITS) as u32)))
    }
}

impl Default for ReportedRules {
    fn default() -> Self {
        Self::NEW
    }
}

impl Policy for ReportedRules {
    type Picker = Reported;

    fn build(&self, nodes: &[Node]) -> Result<Reported, PolicyError> {
        self.check()?;
        let order = Random::new(nodes)?;
        let stride = Stride::new(order.positions(), nodes, 0);
        Ok(Reported { rules: *self, order, stride })
    }

    fn rebuild(&self, present: &Reported, nodes: &[Node]) -> Result<Reported, PolicyError> {
        self.check()?;
        let order = Random::new(nodes)?;
        let stride = Stride::new(order.positions(), nodes, present.stride.turn());
        Ok(Reported { rules: *self, order, stride })
    }

    #[inline]
    fn is_timed(&self) -> bool {
        true
    }

    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        let report = call.outcome.and_then(|outcome| outcome.load.as_ref());
        if let Some(weight) = report.and_then(|report| self.weigh(report)) {
            self.note(load, weight, call.now);
        }
    }
}

/// Turns by the weights that the endpoints report: weighted round robin as in gRPC's A58. Built by [`ReportedRules`].
///
/// ```text
/// weight = qps / (utilisation + eps / qps · error penalty)
/// ```
///
/// The utilisation is the application's own, or that of the processors; qps are the calls a second that the endpoint answers in all, and eps
/// those of them that fail. Reports come with answers: a classifier puts them into the outcome (`buttress_http::classify::orca`, or
/// your own by [`Outcome::with_load`](buttress_core::Outcome::with_load)). One that lacks its utilisation or its qps says nothing.
///
/// Where fewer than two endpoints have a weight by now, configured weights stand for all. Else an endpoint without one gets the mean of the others, times its
/// configured weight by theirs. No weight counts for more than ten times the mean, or less than a hundredth of it.
///
/// Turns go by a static stride schedule, as in gRPC: each endpoint is visited in turn and takes as many of its visits as its weight is
/// of the largest, evenly spread. A pick is one addition to a shared number for each endpoint that it visits, of which there are as many as the largest weight is times the
/// mean, on average. The schedule begins at a
/// place by chance, so that many balancers do not march in step, and its weights are taken anew by the first pick after each second, in place.
///
/// A turn of an endpoint that cannot serve goes to the next. After eight of these, one is drawn by its weight among eight usable ones by chance, and
/// then any that takes the call.
pub struct Reported {
    rules: ReportedRules,
    order: Random,
    stride: Stride,
}

/// So many turns are tried before one is drawn.
const TURNS: usize = 8;

impl Reported {
    /// The share of turns that an endpoint has now, as weighed at the last update, of 65 535 that the one of the largest has; 0 for one of
    /// weight 0.
    ///
    /// # Panics
    ///
    /// When there is no such endpoint.
    #[must_use]
    pub fn share(&self, endpoint: usize) -> u32 {
        self.stride.share(endpoint)
    }

    fn weigh_anew(&self, hash: u64, among: &impl Among, now: Timestamp) {
        if self.stride.is_due(now, nanos(self.rules.update), hash) {
            let order = self.order.positions();
            self.stride.weigh(order, |endpoint| {
                let load = among.load(endpoint);
                (load.divisor(), self.rules.weight(load, now))
            });
        }
    }
}

impl Picker for Reported {
    fn pick(&self, hash: u64, among: &impl Among) -> Option<usize> {
        let order = self.order.positions();
        if order.is_empty() {
            return None;
        }
        self.weigh_anew(hash, among, among.now());
        let mut asked = [usize::MAX; TURNS];
        let mut count = 0;
        for _ in 0..TURNS {
            let endpoint = self.stride.next(order);
            if asked[..count].contains(&endpoint) {
                continue;
            }
            if among.admit(endpoint) {
                return Some(endpoint);
            }
            asked[count] = endpoint;
            count += 1;
        }
        // The least of these falls to each as its weight is of all (exponential clocks). Candidates come by configured weights.
        let clock = |endpoint: usize| {
            let even = ((nth(hash, endpoint as u64 + 1) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -even.ln() * among.load(endpoint).divisor() / f64::from(self.stride.share(endpoint).max(1))
        };
        choice::few(&self.order, MOST_CHOICES, hash, among, &asked[..count], clock)
    }
}

impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reported")
            .field("rules", &self.rules)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}
