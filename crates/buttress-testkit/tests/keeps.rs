//! Layers that keep the contract pass the suite.

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{Error, OnCall};
use buttress_testkit::{Contract, Point, contract, http_contract};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower_layer::{Identity, layer_fn};

#[test]
fn no_layer_at_all_keeps_the_contract() {
    contract(Identity::new);
    http_contract(Identity::new);
}

#[test]
fn on_call_keeps_the_contract() {
    contract(|| layer_fn(OnCall::new));
    http_contract(|| layer_fn(OnCall::new));
}

#[test]
fn the_inner_error_may_be_of_any_type() {
    Contract::new(Identity::new).error::<Infallible>().run();
    Contract::new(Identity::new).error::<Error<std::io::Error>>().run();
    Contract::http(Identity::new).error::<Infallible>().run();
}

#[test]
fn layers_of_tower_keep_the_contract() {
    contract(|| TimeoutLayer::new(Duration::from_secs(1)));
    Contract::new(|| ConcurrencyLimitLayer::new(1))
        .exempt(Point::HotPath, "a semaphore permit clones an Arc, and its future is boxed")
        .run();
}

#[tokio::test]
async fn the_suite_runs_inside_a_runtime_too() {
    contract(Identity::new);
}

#[test]
fn a_report_says_what_was_not_checked() {
    let report = Contract::new(Identity::new).exempt(Point::Time, "it has no clock").check();

    assert!(report.is_ok());
    let skipped: Vec<_> = report.skipped.iter().map(|(point, _)| *point).collect();
    assert_eq!(skipped, [Point::Late, Point::BodyEnd, Point::Bounded, Point::Config, Point::Time]);
    assert!(report.to_string().contains("point 12 (Time): it has no clock"), "{report}");
}
