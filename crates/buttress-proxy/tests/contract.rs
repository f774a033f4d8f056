//! The contract of every layer, for the one that this crate has.

use buttress_proxy::IdentityLayer;
use buttress_testkit::Contract;

#[test]
fn the_identity_layer_keeps_the_contract_and_costs_no_allocation() {
    Contract::http(|| IdentityLayer::new().field("x-user-id").prefix("x-envoy-"))
        .refuses("a name that is none", || IdentityLayer::new().field("not a name"))
        .refuses("a name without which a request is another", || IdentityLayer::new().field("host"))
        .refuses("a prefix of such a name", || IdentityLayer::new().prefix("content-"))
        .run();
}
