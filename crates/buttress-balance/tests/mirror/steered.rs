use buttress_balance::{Mirror, MirrorEnd, MirrorEvent, MirrorHandle, NotMirrored};
use buttress_testkit::{assert_send, assert_send_sync_clone_unpin};
use http::StatusCode;

use super::*;

const _: () = {
    assert_send_sync_clone_unpin::<MirrorLayer>();
    assert_send_sync_clone_unpin::<Mirror<Main>>();
    assert_send_sync_clone_unpin::<MirrorHandle>();
    assert_send::<TeeBody<ScriptedBody>>();
    assert_send::<MirroredBody>();
};

#[tokio::test(start_paused = true)]
async fn the_sample_is_changed_while_services_serve() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow).sample(0.0);
    let (service, handle) = (layer.layer(echo()), layer.handle());

    send(service.clone(), get("/1")).await.unwrap();
    handle.set_sample(1.0).unwrap();
    send(service.clone(), get("/2")).await.unwrap();
    handle.set_sample(0.0).unwrap();
    send(service, get("/3")).await.unwrap();
    settle().await;

    assert_eq!(seen.paths(), ["/2"]);
    handle.set_sample(0.25).unwrap();
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = handle.set_sample(bad).unwrap_err();
        assert_eq!(
            (error.field(), error.value(), error.rule()),
            ("sample", &*format!("{bad:?}"), "must be from 0 to 1")
        );
    }
    assert_eq!(handle.sample(), 0.25);
    assert_eq!(
        handle.set_sample(2.0).unwrap_err().to_string(),
        "mirror with `sample` = 2.0: must be from 0 to 1"
    );
}

#[tokio::test(start_paused = true)]
async fn services_and_clones_of_one_layer_share_places_and_counts() {
    let layer = mirror(hangs()).in_flight(2);
    for layer in [layer.clone(), layer.clone(), layer.clone()] {
        send(layer.layer(echo()), get("/")).await.unwrap();
    }
    assert_eq!((layer.handle().in_flight(), layer.handle().not_mirrored(NotMirrored::Full)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let (shadow, _) = recorder();
    let layer = mirror(shadow).named("next").body_limit(3).observe(move |event| {
        seen.lock().unwrap().push(match *event {
            MirrorEvent::Mirrored { policy, .. } => format!("{policy}: mirrored"),
            MirrorEvent::NotMirrored { policy, reason, .. } => format!("{policy}: not mirrored, {reason}"),
            MirrorEvent::Ended { policy, end, .. } => format!("{policy}: {end:?}"),
            _ => "?".into(),
        });
    });

    send(layer.layer(echo()), get("/")).await.unwrap();
    settle().await;
    send(layer.layer(echo()), post(ScriptedBody::new().data("long"))).await.unwrap();

    assert_eq!(
        told.lock().unwrap().join("\n"),
        format!(
            "next: mirrored\nnext: {:?}\nnext: not mirrored, its body is too long",
            MirrorEnd::Answered(StatusCode::OK)
        )
    );
}

#[tokio::test(start_paused = true)]
async fn the_mirrors_time_is_settable() {
    let layer = mirror(hangs()).timeout(SECOND);
    send(layer.layer(echo()), get("/")).await.unwrap();

    advance(SECOND - Duration::from_millis(1)).await;
    assert_eq!(layer.handle().in_flight(), 1);
    advance(Duration::from_millis(1)).await;

    assert_eq!((layer.handle().in_flight(), layer.handle().counts().timed_out), (0, 1));
}

#[test]
fn what_goes_through_can_be_looked_at() {
    let (shadow, _) = recorder();
    let layer = MirrorLayer::new(shadow);
    let text = format!("{layer:?} {:?} {:?}", layer.handle(), layer.layer("inner"));
    assert!(text.contains("default") && text.contains("65536"), "{text}");
}
