//! The layers of this crate keep the contract.

use buttress_http::LiftBodiesLayer;
use buttress_http::answer::AnswerErrorsLayer;
use buttress_testkit::Contract;
use http::StatusCode;
use tower_layer::Stack;

#[test]
fn answering_errors_keeps_the_contract() {
    // The suite's bodies cannot be made of bytes, so they are lifted.
    Contract::http(|| Stack::new(LiftBodiesLayer::new(), AnswerErrorsLayer::new()))
        .refuses("an error answered with a success", || AnswerErrorsLayer::new().otherwise(StatusCode::OK))
        .run();
}
