//! The layers of this crate keep the contract.

use buttress_http::LiftBodiesLayer;
use buttress_http::answer::AnswerErrorsLayer;
use buttress_testkit::Contract;
use http::StatusCode;
use tower_layer::Stack;

#[test]
fn lifting_bodies_keeps_the_contract() {
    buttress_testkit::http_contract(LiftBodiesLayer::new);
}

#[test]
fn answering_errors_keeps_the_contract() {
    Contract::http(AnswerErrorsLayer::new)
        .refuses("an error answered with a success", || AnswerErrorsLayer::new().otherwise(StatusCode::OK))
        .run();
}

#[test]
fn answering_errors_over_lifted_bodies_keeps_the_contract() {
    Contract::http(|| Stack::new(LiftBodiesLayer::new(), AnswerErrorsLayer::new())).run();
}
