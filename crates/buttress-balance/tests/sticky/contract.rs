use std::time::Duration;

use buttress_balance::SameSite;
use buttress_testkit::{Contract, ScriptedBody};
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use tower_layer::{Identity, Stack};

use super::*;

type Choose = fn(Request<ScriptedBody>) -> Request<ScriptedBody>;

/// The layer over what sends every call to one endpoint, so that each answer sets the cookie.
fn chosen<L>(layer: L) -> Stack<MapRequestLayer<Choose>, Stack<L, Identity>> {
    let choose: Choose = |request| {
        request.facts().expect("it has facts").chose(Endpoint::new("a").id());
        request
    };
    ServiceBuilder::new().layer(layer).map_request(choose).into_inner()
}

fn some() -> StickyLayer {
    layer(&endpoints(&["a", "b"]))
}

/// The facts beside the extension that the suite's requests have, the trail and what is noted on it; and the two that make
/// an endpoint for its id.
const FACTS: u64 = 6;

#[test]
fn it_keeps_the_contract() {
    Contract::http(|| chosen(some())).allocations(FACTS).run();
    Contract::http(|| chosen(some().strict())).allocations(FACTS).run();
}

#[test]
fn with_everything_on_it_keeps_the_contract() {
    let all = || {
        let layer = some().survive_drain().no_cache().pool("api");
        chosen(layer.max_age(Duration::from_secs(3600)).domain("example.com").path("/x"))
    };
    Contract::http(all).allocations(FACTS).run();
}

#[test]
fn the_observer_may_panic_and_bad_cookies_are_refused() {
    Contract::http_with_closures(|wire| {
        let wire = wire.clone();
        chosen(some().observe(move |_| wire.touch()))
    })
    .allocations(FACTS)
    .refuses("no name", || StickyLayer::cookie("").key(SECRET).over(&endpoints(&["a"])))
    .refuses("a short key", || StickyLayer::cookie("SERVERID").key("secret"))
    .refuses("a short former key", || StickyLayer::cookie("SERVERID").key(SECRET).former_key([0; 16]))
    .refuses("a path that is none", || some().path("shop"))
    .refuses("a path with more behind it", || some().path("/; Max-Age=0"))
    .refuses("no domain", || some().domain(""))
    .refuses("a domain with more behind it", || some().domain("example.com; Secure"))
    .refuses("a cookie that ends at once", || some().max_age(Duration::from_millis(999)))
    .refuses("plain HTTP in other sites' frames", || some().insecure().same_site(SameSite::None))
    .refuses("the same, the other way round", || some().same_site(SameSite::None).insecure())
    .refuses("an insecure __Secure-", || {
        StickyLayer::cookie("__Secure-s").key(SECRET).over(&endpoints(&["a"])).insecure()
    })
    .refuses("a __Host- with a domain", || {
        StickyLayer::cookie("__Host-s").key(SECRET).over(&endpoints(&["a"])).domain("example.com")
    })
    .refuses("a __Host- with a path", || {
        StickyLayer::cookie("__host-s").key(SECRET).over(&endpoints(&["a"])).path("/shop")
    })
    .run();
}
