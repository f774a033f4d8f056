//! The layer of this crate keeps the contract.

use buttress_core::LiftErrorsLayer;

#[test]
fn lifting_errors_keeps_the_contract() {
    buttress_testkit::contract(LiftErrorsLayer::new);
    buttress_testkit::http_contract(LiftErrorsLayer::new);
}
