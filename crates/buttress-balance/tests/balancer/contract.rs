//! The contract of every layer, for a balancer over one endpoint.

use buttress_balance::{BalanceLayer, ConsistentHash, Members, Settings, Static};
use buttress_testkit::{Contract, Point};
use tower::Layer;

/// A balancer over the one service that the suite gives.
#[derive(Clone)]
struct Over<L>(L);

impl<S, L> Layer<S> for Over<L>
where
    S: Clone + Send + Sync + 'static,
    L: Layer<Members<S>>,
{
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(Members::from([("only", inner)]))
    }
}

const CLONES: &str = "endpoints are shared by all calls, each of which takes a clone";

#[test]
fn the_default_keeps_it() {
    Contract::new(|| Over(BalanceLayer::default())).exempt(Point::Instance, CLONES).run();
}

#[test]
fn a_consistent_hash_with_all_bounds_keeps_it() {
    let layer = || {
        let settings =
            Settings::default().bounded_load(1.25).max_in_flight(1000.try_into().expect("is not zero"));
        Over(BalanceLayer::new(ConsistentHash::ring()).by(|n: &u32| Some(*n)).settings(settings))
    };
    Contract::new(layer).exempt(Point::Instance, CLONES).run();
}

#[test]
fn turns_keep_it() {
    Contract::new(|| Over(BalanceLayer::new(Static::round_robin()))).exempt(Point::Instance, CLONES).run();
}

#[cfg(feature = "http")]
#[test]
fn following_bodies_it_keeps_it() {
    use buttress_http::classify;

    let layer = || Over(BalanceLayer::default().classify(classify::status()).at_end());
    Contract::http(layer).exempt(Point::Instance, CLONES).run();
}
