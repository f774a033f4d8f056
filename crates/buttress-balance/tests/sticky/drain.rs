use super::*;

#[test]
fn a_client_leaves_an_endpoint_that_drains() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let first = site.visit(&[]);

    site.endpoint("a").drain(NOW);
    let moved = site.again(first.value());

    assert_eq!(moved.at, "b");
    let counts = site.handle.counts();
    assert_eq!((counts.known, counts.released, counts.moved), (1, 1, 1));
    site.endpoint("a").resume(NOW);
    assert_eq!(site.again(moved.value()).at, "b", "it is bound to the other now");
}

#[test]
fn a_session_survives_a_drain_by_option() {
    let site = Site::new(&["a", "b"], StickyLayer::survive_drain);
    let first = site.visit(&[]);

    site.endpoint("a").drain(NOW);

    assert_eq!(site.again(first.value()), Visit { at: "a".into(), set: vec![] });
    assert_eq!(site.visit(&[]).at, "b", "new clients go elsewhere");
    site.endpoint("a").maintain(NOW);
    assert_eq!(site.again(first.value()).at, "b", "until it is gone");
}

#[test]
fn no_client_is_bound_to_an_endpoint_that_drains() {
    let endpoints = endpoints(&["a"]);
    // A balancer in need takes what is draining.
    let service = layer(&endpoints).layer(tower::service_fn({
        let a = endpoints.list()[0].clone();
        move |req: Request<()>| {
            req.facts().unwrap().chose(a.id());
            ready(Ok::<_, Infallible>(Response::new(())))
        }
    }));
    let sets = || {
        let response = now(service.clone().oneshot(Request::new(())));
        response.headers().contains_key("set-cookie")
    };

    assert!(sets());
    endpoints.list()[0].drain(NOW);
    assert!(!sets());
}
