use buttress_core::Timestamp;

use crate::Node;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A schedule of turns by weights that change in place: gRPC's static stride scheduler.
///
/// All endpoints are visited one after the other, round by round. One of weight `w` takes `w` visits of 65 535 rounds, as evenly spread as
/// can be: in round `r` where `(w · r + offset) mod 65 535` has come around since the round before. So the one of the largest weight takes each of
/// its visits, and a turn is found within one round.
pub(crate) struct Stride {
    /// Of each endpoint by its position, 0 to 65 535.
    shares: Box<[AtomicU32]>,
    /// The number of the next visit.
    visit: AtomicU64,
    /// When the shares are to be taken anew.
    due: AtomicU64,
}

const WHOLE: u64 = u16::MAX as u64;

/// What a reported weight counts for at most and at least, by the mean.
const MOST: f64 = 10.0;
const LEAST: f64 = 0.01;

impl Stride {
    /// With the configured weights of `nodes`, of which `order` has the positions of those above 0.
    pub(crate) fn new(order: &[u32], nodes: &[Node], visit: u64) -> Self {
        let shares = nodes.iter().map(|_| AtomicU32::new(0)).collect();
        let stride = Self { shares, visit: AtomicU64::new(visit), due: AtomicU64::new(0) };
        stride.weigh(order, |endpoint| (f64::from(nodes[endpoint].share()), None));
        stride
    }

    /// The number of the next visit.
    pub(crate) fn turn(&self) -> u64 {
        self.visit.load(Ordering::Relaxed)
    }

    pub(crate) fn share(&self, endpoint: usize) -> u32 {
        self.shares[endpoint].load(Ordering::Relaxed)
    }

    /// Whether the caller is the one to take the weights anew. Who is the first of all begins at the visit that `random` says.
    pub(crate) fn is_due(&self, now: Timestamp, update: u64, random: u64) -> bool {
        let (now, due) = (now.as_nanos(), self.due.load(Ordering::Relaxed));
        let next = now.saturating_add(update);
        // Later than the next update it is where the clock went back.
        if due != 0 && now < due && due <= next
            || self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return false;
        }
        if due == 0 {
            let visit = 1 + (random >> u32::BITS);
            let _ = self.visit.compare_exchange(0, visit, Ordering::Relaxed, Ordering::Relaxed);
        }
        true
    }

    /// Takes the weights anew, of which `weight` gives the configured one and that which was reported.
    pub(crate) fn weigh(&self, order: &[u32], weight: impl Fn(usize) -> (f64, Option<f64>)) {
        let weights = || order.iter().map(|&endpoint| (endpoint as usize, weight(endpoint as usize)));
        let (mut count, mut reported, mut configured) = (0, 0.0, 0.0);
        for (_, (own, report)) in weights() {
            if let Some(report) = report {
                count += 1;
                reported += report;
                configured += own;
            }
        }
        // What a unit of configured weight is worth to those that have reported.
        let unit = reported / configured;
        let of = |(own, report): (f64, Option<f64>)| match report {
            _ if count < 2 => own,
            Some(report) => report,
            None => own * unit,
        };
        let mean = weights().map(|(_, weight)| of(weight)).sum::<f64>() / order.len() as f64;
        let of = |weight| {
            let weight = of(weight);
            if count < 2 { weight } else { weight.clamp(mean * LEAST, mean * MOST) }
        };
        let largest = weights().map(|(_, weight)| of(weight)).fold(0.0, f64::max);
        for (endpoint, weight) in weights() {
            let share = (of(weight) / largest * WHOLE as f64).round();
            self.shares[endpoint].store((share as u32).clamp(1, WHOLE as u32), Ordering::Relaxed);
        }
    }

    /// Whose turn it is, of `order`, which is not empty.
    #[inline]
    pub(crate) fn next(&self, order: &[u32]) -> usize {
        let count = order.len() as u64;
        let mut endpoint = 0;
        // Shares that change meanwhile could let a round pass without a turn.
        for _ in 0..=count {
            let visit = self.visit.fetch_add(1, Ordering::Relaxed);
            let (round, at) = (visit / count, visit % count);
            endpoint = order[at as usize] as usize;
            let share = u64::from(self.share(endpoint));
            // Offsets keep equal endpoints from passing in the same rounds.
            let place = share.wrapping_mul(round).wrapping_add(at * (WHOLE / 2)) % WHOLE;
            if place >= WHOLE - share {
                break;
            }
        }
        endpoint
    }
}
