//! How even are the shares of each policy, which keys move when an endpoint leaves, and how many does a bound on the load
//! move off their owners? Nothing here is timed; these are the tables of the README of `buttress-balance`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize};

use buttress_balance::{
    BoundedLoad, ConsistentHash, HashRing, Loads, Maglev, Modulo, Node, Order, PolicyError, Rendezvous, Ring,
};

mod race;
mod sides;
use race::Ask;
use sides::scatter;

fn main() {
    let ask = Ask::from_args();
    spread(&ask);
    moved(&ask);
    bounded(&ask);
}

fn nodes(count: u32) -> Vec<Node> {
    (0..count).map(|at| Node::new(format!("10.0.{}.{}:443", at / 250, at % 250))).collect()
}

fn ring(points: u32, seed: u64) -> impl Fn(&[Node]) -> Result<HashRing, PolicyError> {
    move |nodes| ConsistentHash::ring().points(points).seed(seed).build(nodes)
}

fn preset(ring: Ring) -> impl Fn(&[Node]) -> Result<HashRing, PolicyError> {
    move |nodes| ConsistentHash::ring().preset(ring).build(nodes)
}

fn maglev(slots: u32) -> impl Fn(&[Node]) -> Result<Maglev, PolicyError> {
    move |nodes| ConsistentHash::maglev().slots(slots).build(nodes)
}

fn rendezvous(nodes: &[Node]) -> Result<Rendezvous, PolicyError> {
    ConsistentHash::rendezvous().build(nodes)
}

fn owner(order: &impl Order, hash: u64) -> usize {
    order.pick(hash, |_| true).expect("there is an endpoint")
}

/// Standard deviation and largest share by the mean.
fn spread(ask: &Ask) {
    let keys = ask.scale(4_000_000);
    println!("{:<28} {:>16} {:>16} {:>16}", "spread", "10", "100", "1000");
    let rings = if ask.test { 1 } else { 20 };
    for points in [100, 160, 1000] {
        let what = format!("ring, {points} points each");
        row(&what, |count| mean((0..rings).map(|seed: u32| of(&ring(points, seed.into()), count, keys))));
    }
    for ring in [Ring::NginxCrc32, Ring::LibketamaMd5, Ring::EnvoyXxh64] {
        row(&format!("{ring:?}"), |count| of(&preset(ring), count, keys));
    }
    for slots in [65_537, 655_373] {
        row(&format!("Maglev {slots}"), |count| of(&maglev(slots), count, keys));
    }
}

fn of<O: Order>(build: &impl Fn(&[Node]) -> Result<O, PolicyError>, count: u32, keys: u64) -> (f64, f64) {
    let order = build(&nodes(count)).expect("the endpoints make a policy");
    let mut shares = vec![0.0; count as usize];
    // At equal distances, so that nothing is left to the chance of the keys.
    for key in 0..keys {
        shares[owner(&order, ((u128::from(key) << u64::BITS) / u128::from(keys)) as u64)] += 1.0;
    }
    let mean = keys as f64 / f64::from(count);
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / f64::from(count);
    (variance.sqrt() / mean, shares.iter().copied().fold(0.0, f64::max) / mean)
}

fn mean(spreads: impl ExactSizeIterator<Item = (f64, f64)>) -> (f64, f64) {
    let count = spreads.len() as f64;
    let sum = spreads.fold((0.0, 0.0), |sum, spread| (sum.0 + spread.0, sum.1 + spread.1));
    (sum.0 / count, sum.1 / count)
}

fn row(what: &str, of: impl Fn(u32) -> (f64, f64)) {
    let cells = [10, 100, 1000].map(|count| {
        let (deviation, largest) = of(count);
        format!("{deviation:.4} ({largest:.3})")
    });
    println!("{what:<28} {:>16} {:>16} {:>16}", cells[0], cells[1], cells[2]);
}

/// Percent of keys that move when one endpoint leaves, and of those that need not.
fn moved(ask: &Ask) {
    let keys = ask.scale(1_000_000);
    println!("\n{:<28} {:>16} {:>16} {:>16}", "moved: all (needless)", "10", "100", "1000");
    moves("ring", &ring(160, 0), keys);
    moves("rendezvous", &rendezvous, keys / 100);
    moves("Maglev 65537", &maglev(65_537), keys);
    moves("Maglev 655373", &maglev(655_373), keys);
    moves("EnvoyXxh64", &preset(Ring::EnvoyXxh64), keys);
    moves("modulo", &Modulo::new, keys);
}

fn moves<O: Order>(what: &str, build: &impl Fn(&[Node]) -> Result<O, PolicyError>, keys: u64) {
    let cells = [10, 100, 1000].map(|count| {
        let nodes = nodes(count);
        let gone = count as usize / 3;
        let rest = [&nodes[..gone], &nodes[gone + 1..]].concat();
        let policy = |nodes: &[Node]| build(nodes).expect("the endpoints make a policy");
        let (before, after) = (policy(&nodes), policy(&rest));
        let (mut all, mut needless) = (0.0, 0.0);
        for hash in (0..keys).map(scatter) {
            let (old, new) = (owner(&before, hash), owner(&after, hash));
            if nodes[old] != rest[new] {
                all += 100.0 / keys as f64;
                needless += if old == gone { 0.0 } else { 100.0 / keys as f64 };
            }
        }
        format!("{all:.2} ({needless:.2})")
    });
    println!("{what:<28} {:>16} {:>16} {:>16}", cells[0], cells[1], cells[2]);
}

struct InFlight(Vec<AtomicU32>, AtomicUsize);

impl Loads for InFlight {
    fn load(&self, endpoint: usize) -> &AtomicU32 {
        &self.0[endpoint]
    }

    fn total(&self) -> &AtomicUsize {
        &self.1
    }
}

/// 100 endpoints, 2 000 calls in flight, keys that are all different.
fn bounded(ask: &Ask) {
    let calls = ask.scale(300_000);
    println!("\n{:<28} {:>16} {:>16}", "bounded load", "at owner, %", "passed over");
    for factor in [1.1, 1.25, 1.5, 2.0] {
        let nodes = nodes(100);
        let ring = ring(160, 0)(&nodes).expect("the endpoints make a ring");
        let bound = BoundedLoad::new(factor, &nodes).expect("the factor is in range");
        let loads = InFlight(nodes.iter().map(|_| AtomicU32::new(0)).collect(), AtomicUsize::new(0));
        let mut flying = VecDeque::new();
        let (mut at_owner, mut passed) = (0, 0);
        for hash in (0..calls).map(scatter) {
            let at = bound.place(&ring, hash, &loads, bound.weight(), |_| true).expect("all can be used");
            let before = ring.candidates(hash).take_while(|&other| other != at).count();
            at_owner += u64::from(before == 0);
            passed += before;
            flying.push_back(at);
            if flying.len() > 2000 {
                bound.release(flying.pop_front().expect("calls are in flight"), &loads);
            }
        }
        let share = 100.0 * at_owner as f64 / calls as f64;
        println!("{:<28} {share:>16.2} {:>16.4}", format!("factor {factor}"), passed as f64 / calls as f64);
    }
}
