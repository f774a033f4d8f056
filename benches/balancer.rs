//! What does a whole call through a balancer take beside its pick alone, do two threads get twice as much done, and how
//! long does a flip of an endpoint's health take?
//!
//! The endpoints answer at once, so that what is left is the balancer's. Keys as in `balance.rs`.

use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use buttress_balance::{Balancer, ConsistentHash, Members, Node, Order, Policy};
use buttress_core::{BoxError, Endpoint, Endpoints, Health, Timestamp};
use tower::Service;

mod race;
mod sides;
use race::{Ask, Races, times};
use sides::scatter;

const COUNTS: [u32; 3] = [10, 1_000, 10_000];

fn main() {
    let races = Races::new(Ask::from_args());
    calls(&races);
    threads(&races);
    flips(&races);
}

/// Answers at once.
#[derive(Clone)]
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: u64) -> Self::Future {
        ready(Ok(req))
    }
}

fn name(endpoint: u32) -> String {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + endpoint), 443)).to_string()
}

fn members(count: u32) -> Members<Echo> {
    let list = (0..count).map(|endpoint| Endpoint::new(name(endpoint)));
    Members::new(Endpoints::new(list).expect("no name comes twice"), |_| Echo)
}

/// The key is a number, so that its hash takes next to nothing on both sides.
fn by_number<P: Policy>(policy: P, count: u32) -> Balancer<Echo, P, impl Fn(&u64) -> Option<u64> + Clone> {
    Balancer::new(members(count)).policy(policy).by(|req: &u64| Some(*req))
}

fn answer<S>(service: &mut S, req: u64) -> bool
where
    S: Service<u64, Response = u64, Error = BoxError>,
{
    let call = pin!(service.call(req));
    matches!(call.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_)))
}

fn calls(races: &Races) {
    for count in COUNTS {
        let nodes: Vec<Node> = (0..count).map(|endpoint| Node::new(name(endpoint))).collect();
        let ring = ConsistentHash::ring().build(&nodes).expect("the endpoints make a ring");
        let mut balancer = by_number(ConsistentHash::ring(), count);
        races.row(
            &format!("call over a ring of {count}"),
            "its pick",
            None,
            50_000,
            |n| times(n, |i| answer(&mut balancer, scatter(i))),
            |n| times(n, |i| ring.pick(ring.hashing().of(&scatter(i).to_be_bytes()), |_| true)),
        );
        let mut load = Balancer::new(members(count));
        races.row(
            &format!("call by load over {count}"),
            "call over a ring",
            None,
            50_000,
            |n| times(n, |i| answer(&mut load, scatter(i))),
            |n| times(n, |i| answer(&mut balancer, scatter(i))),
        );
    }
}

fn threads(races: &Races) {
    let balancer = by_number(ConsistentHash::ring(), 1_000);
    let mut alone = balancer.clone();
    races.row(
        "two threads, each",
        "one alone",
        Some(1.0 / 0.9),
        50_000,
        |n| both(n, &balancer),
        |n| times(n, |i| answer(&mut alone, scatter(i))),
    );
}

/// How long it takes two threads that start together to do `count` calls each.
fn both<S>(count: u64, balancer: &S) -> Duration
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + Sync,
{
    let start = Barrier::new(2);
    let run = |from: u64| {
        let (start, mut balancer) = (&start, balancer.clone());
        move || {
            start.wait();
            times(count, |i| answer(&mut balancer, scatter(from + i)))
        }
    };
    thread::scope(|threads| {
        let other = threads.spawn(run(1 << 32));
        let mine = run(0)();
        mine.max(other.join().expect("the work does not panic"))
    })
}

fn flips(races: &Races) {
    let (endpoint, states) = (Endpoint::new("a"), [Health::Healthy, Health::Unhealthy]);
    let flip = |i: u64| endpoint.set_health(states[i as usize % 2], Timestamp::from_nanos(i));
    let mut balancer = by_number(ConsistentHash::ring(), 10);
    races.row(
        "a flip of health",
        "call over a ring of 10",
        None,
        50_000,
        |n| times(n, flip),
        |n| times(n, |i| answer(&mut balancer, scatter(i))),
    );
}
