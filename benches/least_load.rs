//! What does a call by load take, from the pick to its end, beside Tower's balancer, and what do the pick and the note of its end take of
//! that?
//!
//! Both sides choose the better of two endpoints by chance. Tower's side is a whole call, readiness to response, since its parts cannot be
//! told apart; ours is pick, place, two looks at the clock, note and release. Endpoints answer at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_balance::{Among, Ended, LeastLoad, Load, Node, Picker, Policy};
use buttress_core::{Clock, Outcome, Timestamp};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma, PendingRequests};

mod race;
mod sides;
use race::{Ask, Races, times};
use sides::scatter;

const COUNTS: [u32; 3] = [10, 1_000, 10_000];

fn main() {
    let races = Races::new(Ask::from_args());
    for count in COUNTS {
        calls(&races, count);
    }
    parts(&races);
}

/// Endpoints that are all usable.
struct Farm {
    nodes: Vec<Node>,
    loads: Vec<Load>,
    clock: Clock,
}

impl Farm {
    fn new(count: u32) -> Self {
        let nodes = (0..count).map(|endpoint| Node::new(endpoint.to_string())).collect();
        Self { nodes, loads: (0..count).map(|_| Load::new(1)).collect(), clock: Clock::monotonic() }
    }

    fn call<P: Policy>(&self, policy: &P, picker: &P::Picker, hash: u64) -> Option<usize> {
        let started = if policy.is_timed() { self.clock.now() } else { Timestamp::ZERO };
        let endpoint = picker.pick(hash, &At { farm: self, now: started })?;
        let load = &self.loads[endpoint];
        if policy.is_timed() {
            policy.ended(load, &Ended::new(started, self.clock.now(), Some(&Outcome::success())));
        }
        load.leave();
        Some(endpoint)
    }
}

struct At<'a> {
    farm: &'a Farm,
    now: Timestamp,
}

impl Among for At<'_> {
    fn is_usable(&self, _: usize) -> bool {
        true
    }

    fn admit(&self, endpoint: usize) -> bool {
        self.farm.loads[endpoint].enter();
        true
    }

    fn load(&self, endpoint: usize) -> &Load {
        &self.farm.loads[endpoint]
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// Answers at once.
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: u64) -> Self::Future {
        ready(Ok(req))
    }
}

fn answer<S: Service<u64>>(service: &mut S, req: u64) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    pin!(service.call(req)).poll(cx).is_ready()
}

fn calls(races: &Races, count: u32) {
    let farm = Farm::new(count);
    let policy = LeastLoad::peak_ewma();
    let picker = policy.build(&farm.nodes).expect("the endpoints make a policy");
    let (initial, decay) = (Duration::from_millis(30), 10e9);
    let echo = || PeakEwma::new(Echo, initial, decay, CompleteOnResponse::default());
    let mut tower = Balance::new(ServiceList::new::<u64>((0..count).map(|_| echo())));
    races.row(
        &format!("call by peak EWMA over {count}"),
        "tower p2c",
        Some(1.0 / 8.0),
        50_000,
        |n| times(n, |i| farm.call(&policy, &picker, scatter(i))),
        |n| times(n, |i| answer(&mut tower, i)),
    );

    let policy = LeastLoad::connections();
    let picker = policy.build(&farm.nodes).expect("the endpoints make a policy");
    let echo = || PendingRequests::new(Echo, CompleteOnResponse::default());
    let mut tower = Balance::new(ServiceList::new::<u64>((0..count).map(|_| echo())));
    races.row(
        &format!("call by connections over {count}"),
        "tower p2c",
        None,
        50_000,
        |n| times(n, |i| farm.call(&policy, &picker, scatter(i))),
        |n| times(n, |i| answer(&mut tower, i)),
    );
}

/// A pick alone, and what is noted at the end of a call, without the clock.
fn parts(races: &Races) {
    let farm = Farm::new(1_000);
    let start = farm.clock.now();
    // A microsecond a call, as many would have it.
    let at = |i: u64| start + Duration::from_micros(i);
    macro_rules! part {
        ($what:literal, $policy:expr) => {
            let (what, policy) = ($what, $policy);
            let picker = policy.build(&farm.nodes).expect("the endpoints make a policy");
            let pick = |i| picker.pick(scatter(i), &At { farm: &farm, now: at(i) });
            let success = Outcome::success();
            races.row(
                &format!("pick by {what}"),
                "note of its end",
                None,
                50_000,
                |n| times(n, pick),
                |n| {
                    times(n, |i| {
                        policy.ended(
                            &farm.loads[(i % 1000) as usize],
                            &Ended::new(start, at(i), Some(&success)),
                        )
                    })
                },
            );
        };
    }
    part!("peak EWMA", LeastLoad::peak_ewma());
    part!("connections", LeastLoad::connections());
    part!("response time", LeastLoad::response_time());
    part!("hot and cold", LeastLoad::hot_cold());
    part!("bandwidth", LeastLoad::bandwidth());
    part!("reports", LeastLoad::reported());
    part!("peak EWMA of eight", LeastLoad::peak_ewma().choices(8));
    part!("peak EWMA of all 1000", LeastLoad::peak_ewma().all());
}
