use super::*;

#[test]
fn its_own_errors_pass_unchanged() {
    let rig = rig(simple());
    rig.inner.fail("out of paper".into());

    assert_eq!(rig.call(1).unwrap_err().to_string(), "out of paper");
}

#[test]
fn the_strict_form_waits_for_it_and_a_refusal_leaves_it_ready() {
    let (inner, watch) = Echo::new(|n| n);
    let layer = simple();
    let mut service = layer.clone().strict().layer(inner);
    layer.handle().force_open();
    watch.not_ready();
    assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_pending());

    watch.ready();
    assert!(Task::new(poll_fn(|cx| service.poll_ready(cx))).run().is_ready());
    assert!(matches!(Task::new(service.call(1)).run(), Poll::Ready(Err(_))));

    assert_eq!((watch.reserved(), watch.clones()), (1, 0));
    layer.handle().reset();
    assert!(matches!(Task::new(service.call(2)).run(), Poll::Ready(Ok(2))));
}

#[test]
fn a_service_that_is_not_clone_will_do_for_the_strict_form() {
    struct Once;
    impl Service<u32> for Once {
        type Response = u32;
        type Error = BoxError;
        type Future = std::future::Ready<Result<u32, BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, n: u32) -> Self::Future {
            std::future::ready(Ok(n))
        }
    }

    let mut service = simple().strict().layer(Once);

    assert!(matches!(Task::new(service.call(3)).run(), Poll::Ready(Ok(3))));
}
