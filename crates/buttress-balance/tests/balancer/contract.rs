//! The contract of every layer, for a balancer over one endpoint.

use std::sync::{Arc, Mutex};

use buttress_balance::{BalanceLayer, Balancer, ConsistentHash, Handle, Members, Policy, Settings, Static};
use buttress_testkit::{Contract, Point};
use tower::Layer;

/// A balancer over the one service that the suite gives, and the handles of those that were made.
#[derive(Clone)]
struct Over<L>(L, Arc<Mutex<Vec<Handle>>>);

impl<L> Over<L> {
    fn new(layer: L) -> Self {
        Self(layer, Arc::default())
    }

    /// The calls in flight, and those that wait.
    fn held(&self) -> usize {
        let of = |handle: &Handle| {
            let in_flight: u32 = handle.endpoints().iter().map(|view| view.in_flight).sum();
            in_flight as usize + handle.waiting()
        };
        self.1.lock().unwrap().iter().map(of).sum()
    }
}

trait Handled {
    fn handle_of(&self) -> Handle;
}

impl<S, P, K, J, C, F> Handled for Balancer<S, P, K, J, C, F>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    fn handle_of(&self) -> Handle {
        self.handle()
    }
}

impl<S, L> Layer<S> for Over<L>
where
    S: Clone + Send + Sync + 'static,
    L: Layer<Members<S>, Service: Handled>,
{
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        let balancer = self.0.layer(Members::from([("only", inner)]));
        self.1.lock().unwrap().push(balancer.handle_of());
        balancer
    }
}

const CLONES: &str = "endpoints are shared by all calls, each of which takes a clone";

#[test]
fn the_default_keeps_it() {
    Contract::new(|| Over::new(BalanceLayer::default()))
        .exempt(Point::Instance, CLONES)
        .held(Over::held)
        .run();
}

#[test]
fn a_consistent_hash_with_all_bounds_keeps_it() {
    let layer = || {
        let settings =
            Settings::default().bounded_load(1.25).max_in_flight(1000.try_into().expect("is not zero"));
        Over::new(BalanceLayer::new(ConsistentHash::ring()).by(|n: &u32| Some(*n)).settings(settings))
    };
    Contract::new(layer).exempt(Point::Instance, CLONES).held(Over::held).run();
}

#[test]
fn turns_keep_it() {
    Contract::new(|| Over::new(BalanceLayer::new(Static::round_robin())))
        .exempt(Point::Instance, CLONES)
        .held(Over::held)
        .run();
}

#[cfg(feature = "http")]
#[test]
fn following_bodies_it_keeps_it() {
    use buttress_http::classify;

    let layer = || Over::new(BalanceLayer::default().classify(classify::status()).at_end());
    Contract::http(layer).exempt(Point::Instance, CLONES).held(Over::held).run();
}
