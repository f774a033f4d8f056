//! The world: hosts, a clock that jumps from event to event, and clients that each have a [`Balancer`] of their own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use buttress_balance::{Balancer, Members, Policy, Settings, Subset};
use buttress_core::{BoxError, Endpoint, EndpointId, ManualClock, Outcome, Timestamp};
use tower::Service;

use crate::host::{Answer, Host};
use crate::measure::{Measured, Watch};
use crate::scenarios::{Row, Scenario};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// A timestamp of zero is one that always was.
const START: Timestamp = Timestamp::from_nanos(1_000 * SECOND);

/// Hosts, and the endpoints that stand for them.
pub(crate) struct Farm {
    pub(crate) hosts: Vec<Host>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) now: Timestamp,
}

fn judge(result: Result<&Answer, &BoxError>) -> Outcome {
    match result {
        Ok(answer) if !answer.fails => Outcome::success().with_load(answer.report),
        Ok(answer) => Outcome::failure().with_load(answer.report),
        Err(error) => Outcome::of_error(error),
    }
}

/// Where the balancer leaves its choice, and finds the answer when it is time.
#[derive(Default)]
struct Desk {
    chosen: AtomicU32,
    answer: Mutex<Option<Answer>>,
}

impl Desk {
    fn put(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The service of one host.
#[derive(Clone)]
struct Door {
    host: u32,
    desk: Arc<Desk>,
}

/// Asked when the host has answered, and not before.
struct Waits(Arc<Desk>);

impl Future for Waits {
    type Output = Result<Answer, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
    }
}

impl Service<u64> for Door {
    type Response = Answer;
    type Error = BoxError;
    type Future = Waits;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Waits {
        self.desk.chosen.store(self.host, Ordering::Relaxed);
        Waits(Arc::clone(&self.desk))
    }
}

/// A call that is in flight.
#[derive(Clone, Copy, Default)]
struct Call {
    came: u64,
    host: u32,
    /// How long it takes, in means.
    work: f64,
    fails: bool,
}

/// The calls that are in flight, by their places, and when they end.
struct Calls<F> {
    calls: Vec<Call>,
    futures: Vec<Option<Pin<Box<F>>>>,
    free: Vec<u32>,
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    /// What a call takes on average, in nanoseconds.
    mean: f64,
}

impl<F: Future> Calls<F> {
    const fn new(mean: f64) -> Self {
        Self { calls: Vec::new(), futures: Vec::new(), free: Vec::new(), ends: BinaryHeap::new(), mean }
    }

    fn begin(&mut self, call: Call, future: F, host: &mut Host) {
        let place = self.free.pop().unwrap_or(self.calls.len() as u32);
        let at = place as usize;
        if at == self.calls.len() {
            self.calls.push(call);
            self.futures.push(None);
        }
        self.calls[at] = call;
        self.futures[at] = Some(Box::pin(future));
        if host.busy < host.workers {
            self.serve(host, place, call.came);
        } else {
            host.queue.push_back(place);
        }
    }

    /// A worker that is free takes this call.
    fn serve(&mut self, host: &mut Host, place: u32, now: u64) {
        host.busy += 1;
        let call = &mut self.calls[place as usize];
        call.fails = host.fails;
        self.ends.push(Reverse((now + host.takes(call.work * self.mean), place)));
    }

    /// The host has left the answer of this call.
    fn end(&mut self, place: u32, host: &mut Host, now: u64) {
        host.busy -= 1;
        if let Some(next) = host.queue.pop_front() {
            self.serve(host, next, now);
        }
        self.free.push(place);
        let mut future = self.futures[place as usize].take().expect("it is in flight");
        let answered = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(answered.is_ready(), "the host has answered");
    }
}

/// Runs one row of a scenario with this policy.
pub(crate) fn simulate<P: Policy + Clone>(scenario: &Scenario, row: &Row, policy: &P) -> Measured {
    let mut farm = scenario.farm(row);
    let (time, desk) = (ManualClock::new(), Arc::new(Desk::default()));
    time.set(START);
    let mut clients: Vec<_> = (0..scenario.clients)
        .map(|client| {
            let settings = (row.settings)(Settings::default().clock(time.clock()), client);
            Balancer::new(members(&farm, row.subset, client, &desk))
                .policy(policy.clone())
                .classify(judge)
                .settings(settings)
                .by(|key: &u64| Some(*key))
        })
        .collect();

    let start = START.as_nanos();
    let end = start + scenario.seconds * SECOND;
    let gap = (end - start) as f64 / scenario.calls as f64;
    let mut random = Random(scenario.calls);
    let (mut next_call, mut next_tick, mut tick) = (start, start, 0);
    let mut calls = Calls::new(scenario.mean() * 1e9);
    let mut watch = Watch::new(scenario);
    let mut came = 0;
    loop {
        let next_end = calls.ends.peek().map_or(u64::MAX, |&Reverse((at, _))| at);
        let now = next_end.min(next_call).min(next_tick);
        if now == u64::MAX {
            return watch.done();
        }
        let since = now - start;
        farm.now = Timestamp::from_nanos(now);
        time.set(farm.now);
        if now == next_tick {
            (scenario.script)(&mut farm, tick);
            tick += 1;
            next_tick = if tick < scenario.seconds { now + SECOND } else { u64::MAX };
        } else if now == next_end {
            let Some(Reverse((_, place))) = calls.ends.pop() else { unreachable!("it was looked at") };
            let call = calls.calls[place as usize];
            let host = &mut farm.hosts[call.host as usize];
            host.pass(now);
            desk.put(host.answer(call.fails));
            calls.end(place, host, now);
            watch.ended(call.host as usize, call.came - start, since, call.fails);
        } else {
            let client = random.below(scenario.clients);
            let key = scenario.key(came, &mut random);
            let work = random.exponential();
            desk.chosen.store(u32::MAX, Ordering::Relaxed);
            let future = clients[client as usize].call(key);
            let host = desk.chosen.load(Ordering::Relaxed);
            assert_ne!(host, u32::MAX, "a call waits for an endpoint: this world always has one");
            let call = Call { came: now, host, work, fails: false };
            let host = &mut farm.hosts[host as usize];
            host.pass(now);
            watch.began(call.host as usize, key, host.in_flight() + 1, since);
            calls.begin(call, future, host);
            came += 1;
            let wait = (random.exponential() * gap) as u64;
            next_call = if came < scenario.calls { now + wait } else { u64::MAX };
        }
    }
}

fn members(farm: &Farm, subset: Option<usize>, client: u64, desk: &Arc<Desk>) -> Members<Door> {
    let subset = subset.map(|size| Subset::rendezvous(size, client).choose(&farm.endpoints));
    let chosen: Option<HashSet<EndpointId>> = subset.map(|subset| subset.iter().map(Endpoint::id).collect());
    let doors = (0..).map(|host| Door { host, desk: Arc::clone(desk) });
    let all = farm.endpoints.iter().cloned().zip(doors);
    let list: Vec<(Endpoint, Door)> =
        all.filter(|(endpoint, _)| chosen.as_ref().is_none_or(|ids| ids.contains(&endpoint.id()))).collect();
    list.into()
}

/// *SplitMix64* (Steele, Lea and Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) const fn below(&mut self, count: u64) -> u64 {
        ((self.next() as u128 * count as u128) >> u64::BITS) as u64
    }

    /// Above 0 and below 1.
    pub(crate) fn even(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of the mean 1.
    fn exponential(&mut self) -> f64 {
        -self.even().ln()
    }
}
