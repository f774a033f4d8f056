use buttress_balance::Mirror;
use buttress_core::{OnCall, Wrap};
use buttress_testkit::{Contract, Point};
use tower::util::MapRequest;

use super::*;

type Bare = fn(Request<TeeBody<ScriptedBody>>) -> Request<ScriptedBody>;

/// A mirror over what takes the request's own body, as the suite's service does.
#[derive(Clone)]
struct Peeled(MirrorLayer);

/// The same in its strict form.
#[derive(Clone)]
struct PeeledStrict(MirrorLayer);

fn bare<S>(inner: S) -> MapRequest<S, Bare> {
    MapRequest::new(inner, |request| request.map(TeeBody::into_inner))
}

impl<S> Layer<S> for Peeled {
    type Service = Mirror<OnCall<MapRequest<S, Bare>>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(bare(inner))
    }
}

impl<S> Layer<S> for PeeledStrict {
    type Service = Mirror<MapRequest<S, Bare>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.wrap(bare(inner))
    }
}

fn answers() -> Shadow {
    BoxCloneSyncService::new(service_fn(|_: Request<MirroredBody>| async {
        Ok::<_, BoxError>(Response::new(ScriptedBody::new()))
    }))
}

const A_TASK: &str = "a copy is carried by a task of its own";

#[test]
fn what_is_mirrored_keeps_the_contract_but_for_its_task() {
    Contract::http(|| Peeled(MirrorLayer::new(answers())))
        .held(|layer| layer.0.handle().in_flight())
        .exempt(Point::HotPath, A_TASK)
        .run();
    Contract::http(|| PeeledStrict(MirrorLayer::new(answers())))
        .held(|layer| layer.0.handle().in_flight())
        .exempt(Point::HotPath, A_TASK)
        .run();
}

#[test]
fn requests_that_are_not_mirrored_keep_the_contract_for_nothing() {
    Contract::http(|| Peeled(MirrorLayer::new(answers()).sample(0.0))).run();
    Contract::http(|| PeeledStrict(MirrorLayer::new(answers()).sample(0.0))).run();
}

#[test]
fn more_copies_in_flight_than_there_is_room_for_keep_the_contract() {
    Contract::http(|| Peeled(MirrorLayer::new(hangs()).in_flight(1))).exempt(Point::HotPath, A_TASK).run();
}

#[test]
fn the_observer_may_panic_and_bad_settings_are_refused() {
    Contract::http_with_closures(|wire| {
        let wire = wire.clone();
        Peeled(MirrorLayer::new(answers()).observe(move |_| wire.touch()))
    })
    .exempt(Point::HotPath, A_TASK)
    .refuses("a share below 0", || MirrorLayer::new(answers()).sample(-0.1))
    .refuses("a share above 1", || MirrorLayer::new(answers()).sample(1.5))
    .refuses("a share that is no number", || MirrorLayer::new(answers()).sample(f64::NAN))
    .refuses("no place", || MirrorLayer::new(answers()).in_flight(0))
    .refuses("no time", || MirrorLayer::new(answers()).timeout(Duration::ZERO))
    .run();
}
