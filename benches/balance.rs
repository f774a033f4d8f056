//! How much of its peers' time does a pick by consistent hashing take, how long is a ring in the making, and how much
//! memory does a point take?
//!
//! A pick includes the hash of its key: 65 536 keys of 24 bytes in an order like chance. Every endpoint has 160 points.
//! Times are nanoseconds, of a build as of a pick.

use std::net::{Ipv4Addr, SocketAddr};

use buttress_balance::{ConsistentHash, HashRing, Maglev, Node, Order, Random, RoundRobin};
use pingora_ketama::{Bucket, Continuum};

mod race;
mod sides;
use race::{Ask, Races, time, times};
use sides::scatter;

const POINTS: u32 = 160;
const KETAMA: &str = "pingora-ketama";
const HASHRING: &str = "hashring";

/// hashring gives an endpoint the points of whatever it is told to be one: here its number with those of its points.
type Peer = hashring::HashRing<(u32, u32)>;

fn main() {
    let ask = Ask::from_args();
    let races = Races::new(ask.clone());
    picks(&races);
    others(&races);
    builds(&races);
    changes(&races);
    memory(&ask);
}

fn address(endpoint: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + endpoint), 443))
}

fn nodes(count: u32) -> Vec<Node> {
    (0..count).map(|endpoint| Node::new(address(endpoint).to_string())).collect()
}

fn ring(count: u32) -> HashRing {
    ConsistentHash::ring().points(POINTS).build(&nodes(count)).expect("the endpoints make a ring")
}

fn maglev(slots: u32, count: u32) -> Maglev {
    ConsistentHash::maglev().slots(slots).build(&nodes(count)).expect("the endpoints make a table")
}

fn ketama(count: u32) -> Continuum {
    Continuum::new(&(0..count).map(|endpoint| Bucket::new(address(endpoint), 1)).collect::<Vec<_>>())
}

fn peer(count: u32) -> Peer {
    let mut peer = Peer::new();
    peer.batch_add((0..count).flat_map(|endpoint| (0..POINTS).map(move |point| (endpoint, point))).collect());
    peer
}

fn keys() -> Vec<String> {
    (0..1 << 16).map(|key| format!("session-{:016x}", scatter(key))).collect()
}

fn picks(races: &Races) {
    let keys = keys();
    let key = |i: u64| &*keys[i as usize % keys.len()];
    for count in [10, 1_000, 10_000] {
        let (ours, ketama) = (ring(count), ketama(count));
        let pick = |n| times(n, |i| ours.pick(ours.hashing().of(key(i).as_bytes()), |_| true));
        let what = format!("ring of {count}");
        races.row(&what, KETAMA, Some(1.0 / 3.5), 50_000, pick, |n| {
            times(n, |i| ketama.node(key(i).as_bytes()))
        });
        drop(ketama);
        let hashring = peer(count);
        races.row(&what, HASHRING, None, 50_000, pick, |n| times(n, |i| hashring.get(&key(i))));
    }
}

fn others(races: &Races) {
    let keys = keys();
    let key = |i: u64| &*keys[i as usize % keys.len()];
    for (slots, count) in [(65_537, 10), (65_537, 1_000), (655_373, 1_000)] {
        let (ours, ketama) = (maglev(slots, count), ketama(count));
        races.row(
            &format!("Maglev {slots} of {count}"),
            KETAMA,
            None,
            50_000,
            |n| times(n, |i| ours.pick(ours.hashing().of(key(i).as_bytes()), |_| true)),
            |n| times(n, |i| ketama.node(key(i).as_bytes())),
        );
    }
    for count in [10, 64, 1_000] {
        let ours = ConsistentHash::rendezvous().build(&nodes(count)).expect("the endpoints make a policy");
        let ketama = ketama(count);
        races.row(
            &format!("rendezvous of {count}"),
            KETAMA,
            None,
            5_000,
            |n| times(n, |i| ours.pick(ours.hashing().of(key(i).as_bytes()), |_| true)),
            |n| times(n, |i| ketama.node(key(i).as_bytes())),
        );
    }
    let (turns, chance) = (RoundRobin::new(&nodes(1_000)), Random::new(&nodes(1_000)));
    let (turns, chance) = (turns.expect("a round is laid out"), chance.expect("a table is made"));
    races.row(
        "round robin of 1000",
        "random of 1000",
        None,
        50_000,
        |n| times(n, |i| turns.pick(i, |_| true)),
        |n| times(n, |i| chance.pick(scatter(i), |_| true)),
    );
}

fn builds(races: &Races) {
    for count in [10, 1_000, 10_000] {
        let what = format!("build of a ring of {count}");
        races.row(&what, KETAMA, None, 1, |_| time(|| drop(ring(count))), |_| time(|| drop(ketama(count))));
        if count < 10_000 {
            races.row(
                &what,
                HASHRING,
                None,
                1,
                |_| time(|| drop(ring(count))),
                |_| time(|| drop(peer(count))),
            );
        }
    }
    races.row(
        "build of Maglev 65537 of 1000",
        KETAMA,
        None,
        1,
        |_| time(|| drop(maglev(65_537, 1_000))),
        |_| time(|| drop(ketama(1_000))),
    );
}

/// One endpoint more, and one fewer: pingora-ketama builds anew, hashring sorts anew.
fn changes(races: &Races) {
    for count in [1_000, 10_000] {
        let (ours, joins) = (ring(count), Node::new("10.9.9.9:443"));
        races.row(
            &format!("one more than {count}"),
            KETAMA,
            None,
            1,
            |_| time(|| drop(ours.with(joins.clone()).expect("there is room"))),
            |_| time(|| drop(ketama(count + 1))),
        );
        races.row(
            &format!("one fewer than {count}"),
            KETAMA,
            None,
            1,
            |_| time(|| drop(ours.without(count as usize / 2).expect("others are left"))),
            |_| time(|| drop(ketama(count - 1))),
        );
    }
}

fn memory(ask: &Ask) {
    println!("\n{:<24} {:>10} {:>14} {:>14}", "bytes", "points", "each, indexed", "in all");
    for count in [10, 1_000, 10_000] {
        let what = format!("memory of a ring of {count}");
        if ask.wants(&what) {
            let ring = ring(count);
            let each = ring.table_bytes() as f64 / ring.points() as f64;
            println!("{what:<24} {:>10} {each:>14.1} {:>14}", ring.points(), ring.table_bytes());
        }
    }
}
