use buttress_balance::Split;
use buttress_testkit::{Contract, Inner, Plain};
use tower_layer::layer_fn;

#[test]
fn it_keeps_the_contract() {
    // A clone of the split is a list of its sides.
    Contract::new(|| layer_fn(|inner: Inner<Plain>| Split::new([(1, inner)]))).allocations(1).run();
}

#[test]
fn several_sides_of_one_service_keep_the_contract() {
    let sides = || {
        layer_fn(|inner: Inner<Plain>| Split::new([(1, inner.clone()), (0, inner)]).by(|n: &u32| Some(*n)))
    };
    Contract::new(sides).allocations(1).run();
}

#[test]
fn every_closure_may_panic() {
    Contract::with_closures(|wire| {
        let wire = wire.clone();
        layer_fn(move |inner: Inner<Plain>| {
            let (key, said, observer) = (wire.clone(), wire.clone(), wire.clone());
            Split::new([(1, inner)])
                .by(move |_: &u32| {
                    key.touch();
                    Some("all")
                })
                .override_by(move |_: &u32| {
                    said.touch();
                    None
                })
                .observe(move |_| observer.touch())
        })
    })
    .allocations(1)
    .refuses("no sides", || Split::<()>::new([]))
    .refuses("no weight", || Split::new([(0, ()), (0, ())]))
    .refuses("weights that overflow", || Split::new([(u32::MAX, ()), (1, ())]))
    .run();
}

#[cfg(feature = "http")]
#[test]
fn over_http_it_keeps_the_contract() {
    Contract::http(|| {
        layer_fn(|inner: Inner<buttress_testkit::Http>| {
            Split::new([(1, inner)])
                .by(buttress_http::key::header("x-user-id"))
                .override_header("x-canary", [("always", 0)])
        })
    })
    .allocations(1)
    .refuses("a side that is not there", || {
        Split::new([(1, ())]).override_header("x-canary", [("always", 1)])
    })
    .refuses("a field that is none", || Split::new([(1, ())]).override_header("x canary", []))
    .refuses("a value that is none", || Split::new([(1, ())]).override_header("x-canary", [("\n", 0)]))
    .run();
}
