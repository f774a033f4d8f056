use super::*;

#[test]
fn clones_and_all_services_of_one_layer_share_one_breaker() {
    let layer = simple();
    let (inner, watch) = Echo::new(|n| n);
    let (one, two) = (layer.layer(inner.clone()), layer.clone().layer(inner).clone());

    for service in [&one, &two] {
        watch.fail("out of paper".into());
        assert!(Task::new(service.clone().oneshot(1)).run().is_ready());
    }

    for service in [one, two] {
        let Poll::Ready(Err(refused)) = Task::new(service.oneshot(1)).run() else { panic!("refused") };
        assert_eq!(refused.rejection().map(|rejection| rejection.kind), Some(RejectionKind::CircuitOpen));
    }
}

#[test]
fn the_steps_that_only_look_keep_the_state_and_the_others_begin_a_new_one() {
    let layer = simple();
    layer.handle().force_open();

    let judged = layer.clone().classify(ByCause).on_reject(Fail).by(Global);
    assert_eq!(judged.handle().state(), State::ForcedOpen);
    assert_eq!(layer.clone().probes(2).handle().state(), State::Closed);
    assert_eq!(layer.named("other").handle().state(), State::Closed);
}

#[test]
fn two_layers_are_two_breakers() {
    let (one, two) = (simple(), simple());

    one.handle().force_open();

    assert_eq!(two.handle().state(), State::Closed);
}

#[test]
fn threads_see_one_breaker_and_nobody_is_lost() {
    let layer = CircuitBreakerLayer::failure_rate(1.0).window(Window::last(100));
    let handle = layer.handle();

    std::thread::scope(|scope| {
        for _ in 0..8 {
            let layer = layer.clone();
            scope.spawn(move || {
                let service = layer.layer(Echo::new(|n| n).0);
                for n in 0..1_000 {
                    assert!(Task::new(service.clone().oneshot(n)).run().is_ready());
                }
            });
        }
    });

    assert_eq!((handle.counts().succeeded, handle.view().sums.total), (8_000, 100));
}
