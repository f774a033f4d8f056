//! The contract of every layer, for each form of these.

use buttress_core::{BoxError, Outcome};
use buttress_health::{Dependency, Health, HealthLayer, Phase, Readiness, Shutdown, Traffic};
use buttress_testkit::{Contract, assert_send, assert_send_sync_clone_unpin, contract};

fn layer() -> HealthLayer {
    HealthLayer::new(&Readiness::new())
}

/// With failures that count, and something to depend on.
fn full() -> HealthLayer {
    let traffic = Traffic::critical().failure_rate(1.0).minimum_calls(65_535);
    let readiness = Readiness::new().traffic(traffic);
    HealthLayer::new(
        &readiness.depends_on(Dependency::critical("database", || async { Ok::<_, BoxError>(()) })),
    )
}

#[test]
fn the_default_keeps_the_contract() {
    Contract::new(layer)
        .refuses("no failure rate", || Traffic::optional().failure_rate(0.0))
        .refuses("a failure rate that is no number", || Traffic::optional().failure_rate(f64::NAN))
        .refuses("no minimum", || Traffic::optional().minimum_calls(0))
        .refuses("a minimum that no slice can hold", || Traffic::optional().minimum_calls(65_536))
        .refuses("a window too short", || Traffic::optional().window(std::time::Duration::from_millis(999)))
        .run();
    contract(|| layer().strict());
}

#[test]
fn with_everything_on_it_keeps_the_contract() {
    contract(full);
    contract(|| full().strict());
    contract(|| full().even_while_failing());
}

#[test]
fn counting_nothing_it_keeps_the_contract() {
    contract(|| HealthLayer::new(&Readiness::new().traffic(Traffic::ignored())));
}

#[test]
fn while_the_service_stops_it_keeps_the_contract() {
    contract(|| {
        let readiness = Readiness::new();
        readiness.stop();
        assert_eq!(readiness.phase(), Phase::Stopping);
        HealthLayer::new(&readiness)
    });
}

#[test]
fn with_a_classifier_of_ones_own_it_keeps_the_contract() {
    Contract::with_closures(|wire| {
        let wire = wire.clone();
        full().classify(move |result: Result<&u32, &BoxError>| {
            wire.touch();
            if result.is_ok() { Outcome::success() } else { Outcome::failure() }
        })
    })
    .run();
}

#[test]
fn the_types_are_send_and_sync() {
    type Inner = tower::util::BoxCloneSyncService<(), (), BoxError>;
    assert_send_sync_clone_unpin::<HealthLayer>();
    assert_send_sync_clone_unpin::<Health<Inner>>();
    assert_send_sync_clone_unpin::<Readiness>();
    assert_send_sync_clone_unpin::<Shutdown>();
    assert_send::<buttress_health::HealthFuture<Inner, ()>>();
}

#[cfg(feature = "http")]
mod http {
    use buttress_health::{HealthEndpoints, WithHealthEndpoints, classify, reject};

    use super::*;

    #[test]
    fn following_bodies_it_keeps_the_contract() {
        Contract::http(|| full().classify(classify::status()).at_end()).run();
        Contract::http(|| full().classify(classify::grpc()).at_end().on_reject(reject::respond())).run();
        Contract::http(|| full().classify(classify::grpc()).at_end().strict()).run();
    }

    #[test]
    fn the_endpoints_in_front_of_a_service_keep_the_contract() {
        Contract::http(|| HealthEndpoints::new(&Readiness::new()).layer()).run();
        Contract::http(|| HealthEndpoints::new(&Readiness::new()).layer().strict()).run();
    }

    #[test]
    fn the_types_of_the_endpoints_are_send_and_sync() {
        assert_send_sync_clone_unpin::<HealthEndpoints>();
        assert_send_sync_clone_unpin::<WithHealthEndpoints<()>>();
        assert_send::<buttress_health::HealthEndpointsFuture>();
    }
}
