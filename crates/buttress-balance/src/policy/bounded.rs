use std::fmt;

use crate::node::by_name;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::{Node, Order, PolicyError};

/// A factor is kept in millionths.
const UNIT: f64 = 1e6;
const MOST: f64 = 1000.0;

/// Nobody loses so many races in a row. Counters that do not add up would let a call go round for ever.
const PASSES: u32 = 100;

/// The calls that are in flight, as the caller counts them.
///
/// [`BoundedLoad::place`] adds to these counters and [`BoundedLoad::release`] takes away. Whoever else adds to them adds to
/// `total` first and takes from it last, so that it is never less than the sum of the others.
pub trait Loads {
    /// The calls that are in flight at `endpoint`.
    fn load(&self, endpoint: usize) -> &AtomicU32;

    /// All that are in flight, those that are being placed included.
    fn total(&self) -> &AtomicUsize;
}

/// Consistent hashing with bounded loads: no endpoint gets more than `factor` times its fair share of the calls that are
/// in flight (Mirrokni, Thorup and Zadimoghaddam 2016).
///
/// A call goes to the first of its candidates that has room. So one hot key, or many that are aimed at one endpoint, fill
/// that endpoint up to its bound and then go on to the next, in the same order each time. The bound of an endpoint of weight `w`
/// out of `W` is `max(1, ceil(factor · m · w / W))` where `m` counts the calls in flight, this one included. It is
/// kept when a call is admitted; as other calls end, it falls, and an endpoint may be above it for a while.
///
/// A small factor spreads load evenly and moves more keys off their owners; a large one keeps them and lets load be
/// uneven. From 1.25 to 2 is usual. It works over every [`Order`], and says most over those where a key's second choice
/// differs from that of its neighbours: a ring, Maglev and rendezvous.
///
/// ```
/// use buttress_balance::{BoundedLoad, ConsistentHash, Loads, Node};
/// use std::sync::atomic::{AtomicU32, AtomicUsize};
///
/// #[derive(Default)]
/// struct InFlight([AtomicU32; 3], AtomicUsize);
///
/// impl Loads for InFlight {
///     fn load(&self, endpoint: usize) -> &AtomicU32 { &self.0[endpoint] }
///     fn total(&self) -> &AtomicUsize { &self.1 }
/// }
///
/// # fn main() -> Result<(), buttress_balance::PolicyError> {
/// let nodes = ["a", "b", "c"].map(Node::new);
/// let ring = ConsistentHash::ring().build(&nodes)?;
/// let (bound, loads) = (BoundedLoad::new(1.25, &nodes)?, InFlight::default());
///
/// let all = bound.weight();
/// let hot_key = ring.hashing().of(b"everyone's favourite");
/// let placed: Vec<_> = (0..6).filter_map(|_| bound.place(&ring, hot_key, &loads, all, |_| true)).collect();
/// assert_eq!(placed.len(), 6);
/// assert!((0..3).all(|endpoint| placed.iter().filter(|&&at| at == endpoint).count() <= 3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BoundedLoad {
    millionths: u64,
    weights: Box<[u32]>,
    weight: u64,
}

impl BoundedLoad {
    /// Bounds the loads of `nodes`, in the positions that they have here, to `factor` times their fair shares, from 1
    /// to 1000, in steps of a millionth.
    ///
    /// # Errors
    ///
    /// When the factor is out of range or not a number, there are no endpoints, or two have one name.
    pub fn new(factor: f64, nodes: &[Node]) -> Result<Self, PolicyError> {
        if !(1.0..=MOST).contains(&factor) {
            return Err(PolicyError::Factor { factor, most: MOST });
        }
        by_name(nodes)?;
        let weights: Box<[u32]> = nodes.iter().map(Node::share).collect();
        let weight = weights.iter().map(|&weight| u64::from(weight)).sum();
        Ok(Self { millionths: (factor * UNIT).round() as u64, weights, weight })
    }

    /// The weight of all endpoints together: what [`place`](Self::place) is told while all can be used.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.weight
    }

    /// How many calls `endpoint` may have when `total` are in flight, of endpoints that weigh `weight` together.
    ///
    /// # Panics
    ///
    /// When there is no such endpoint.
    #[must_use]
    pub fn most(&self, endpoint: usize, total: usize, weight: u64) -> u64 {
        let share = self.share(endpoint, total);
        let most = share.div_ceil(u128::from(weight.max(1)) * UNIT as u128);
        u64::try_from(most).unwrap_or(u64::MAX).max(1)
    }

    /// Finds the first candidate of `hash` that is `usable` and has room, and counts the call there. `None` where nothing
    /// is usable, and then nothing is counted. (`None` also where a total below the sum of loads leaves no room for ever,
    /// which is a mistake of whoever counts.)
    ///
    /// `weight` is that of all usable endpoints together, as the caller counts it. Where it is too high, and all usable
    /// endpoints look full by it, they are weighed on the way and asked again: as long as something is usable, a call is
    /// placed.
    ///
    /// It is exact however many threads place at once: a place is taken first, then held against the bound, and given
    /// back when it is above. No thread waits for another, and nothing is allocated.
    ///
    /// # Panics
    ///
    /// When a candidate is none of the endpoints that the bound is for, or `usable` panics. Nothing stays counted then.
    pub fn place<O: Order>(
        &self,
        order: &O,
        hash: u64,
        loads: &impl Loads,
        mut weight: u64,
        mut usable: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let arrival = Arrival::new(loads.total());
        for _ in 0..PASSES {
            let mut weighed = 0;
            for endpoint in order.candidates(hash).filter(|&endpoint| usable(endpoint)) {
                let all = u128::from(weight) << Self::FRACTION;
                if self.reserve(endpoint, loads.load(endpoint), loads.total(), all, u32::MAX) {
                    arrival.stay();
                    return Some(endpoint);
                }
                weighed += u64::from(self.weights[endpoint]);
            }
            // All bounds together are `factor * total` at least, and so one has room for a call that is in the total: unless the
            // weight was wrong, or another call took the room, which is then placed.
            if weighed == 0 {
                return None;
            }
            weight = weighed;
        }
        None
    }

    /// Takes a place that [`place`](Self::place) counted away again: the call is over.
    pub fn release(&self, endpoint: usize, loads: &impl Loads) {
        loads.load(endpoint).fetch_sub(1, Ordering::SeqCst);
        loads.total().fetch_sub(1, Ordering::SeqCst);
    }

    /// The bits behind the point of the weights that [`reserve`](Self::reserve) reckons by.
    pub(crate) const FRACTION: u32 = 20;

    /// Takes a place at `endpoint` for a call that is in the total, unless it has `most` or is at its bound.
    pub(crate) fn reserve(
        &self,
        endpoint: usize,
        load: &AtomicU32,
        total: &AtomicUsize,
        weight: u128,
        most: u32,
    ) -> bool {
        // It never stands above its bound, not for a moment: a call that would see it there might be the last to look.
        let has_room =
            |load: u32| load < most && self.has_room(endpoint, load, total.load(Ordering::SeqCst), weight);
        let one_more = |load: u32| has_room(load).then_some(load + 1);
        load.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// Whether a call more than `load` is within `max(1, ceil(factor · total · own / weight))`, without a division.
    fn has_room(&self, endpoint: usize, load: u32, total: usize, weight: u128) -> bool {
        let share = self.share(endpoint, total).saturating_mul(1 << Self::FRACTION);
        load == 0 || u128::from(load).saturating_mul(weight).saturating_mul(UNIT as u128) < share
    }

    /// `factor · total · own`, in millionths.
    fn share(&self, endpoint: usize, total: usize) -> u128 {
        u128::from(self.millionths) * total as u128 * u128::from(self.weights[endpoint])
    }
}

/// A call that is being placed: it is in the total, and leaves it again unless it stays.
struct Arrival<'a>(&'a AtomicUsize);

impl<'a> Arrival<'a> {
    fn new(total: &'a AtomicUsize) -> Self {
        total.fetch_add(1, Ordering::SeqCst);
        Self(total)
    }

    fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for BoundedLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedLoad")
            .field("factor", &(self.millionths as f64 / UNIT))
            .field("endpoints", &self.weights.len())
            .finish_non_exhaustive()
    }
}
