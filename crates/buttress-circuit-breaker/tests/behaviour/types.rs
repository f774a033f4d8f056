use super::*;

/// They fit into a struct, by name.
struct Held {
    _service: CircuitBreaker<OnCall<Echo>>,
    _call: CircuitBreakerFuture<OnCall<Echo>, u32>,
}

const _: () = {
    assert_send_sync_clone_unpin::<CircuitBreakerLayer>();
    assert_send_sync_clone_unpin::<CircuitBreaker<OnCall<Echo>>>();
    assert_send_sync_clone_unpin::<Handle>();
    assert_send::<CircuitBreakerFuture<OnCall<Echo>, u32>>();
};

#[test]
fn types_can_be_named() {
    let layer: CircuitBreakerLayer<Global, Fail, ByCause, AtHead> =
        CircuitBreakerLayer::new(Settings::default());
    let mut service = layer.layer(Echo::new(|n| n).0);

    let call = service.call(1);

    let _ = Held { _service: service, _call: call };
}

#[test]
fn debug_output_tells_what_it_is() {
    let layer = simple().named("payments");

    assert!(format!("{layer:?}").contains("payments"));
    assert!(format!("{:?}", layer.handle()).contains("payments"));
    let mut service = layer.layer(Echo::new(|n| n).0);
    assert!(format!("{service:?}").contains("payments"));
    assert_eq!(format!("{:?}", service.call(1)), r#"CircuitBreakerFuture("called")"#);
}
