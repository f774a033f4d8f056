use buttress_balance::NotMirrored;
use buttress_testkit::Task;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_sent_outlives_its_call() {
    let clock = Clock::tokio();
    let (recorder, seen) = recorder();
    let shadow = service_fn(move |request: Request<MirroredBody>| {
        let (recorder, clock) = (recorder.clone(), clock.clone());
        async move {
            clock.sleep(5 * SECOND).await;
            recorder.oneshot(request).await
        }
    });
    let layer = MirrorLayer::new(shadow).clock(Clock::tokio());
    let never = service_fn(|_: Request<TeeBody<ScriptedBody>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>()
    });

    let mut call = Task::new(layer.layer(never).oneshot(get("/")));
    assert!(call.run().is_pending());
    drop(call);
    advance(5 * SECOND).await;

    assert_eq!((seen.count(), layer.handle().counts().answered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_its_body_is_read_has_no_copy() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let handle = layer.handle();
    let body = ScriptedBody::new().data("one ").stall().data("two");

    let mut call = Task::new(Box::pin(send(layer.layer(echo()), post(body))));
    assert!(call.run().is_pending());
    assert_eq!(handle.in_flight(), 1);
    drop(call);
    settle().await;

    assert_eq!((handle.in_flight(), handle.not_mirrored(NotMirrored::Incomplete)), (0, 1));
    assert_eq!(seen.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_the_main_service_leaves_half_read_has_no_copy() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let impatient = service_fn(|request: Request<TeeBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        body.frame().await;
        Ok::<_, BoxError>(Response::new(Full::from("too long")))
    });

    let answer = send(layer.layer(impatient), post(ScriptedBody::new().data("one ").data("two"))).await;
    settle().await;

    assert_eq!(answer.unwrap(), "too long");
    assert_eq!((seen.count(), layer.handle().not_mirrored(NotMirrored::Incomplete)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_stops_reading_at_the_known_length_has_read_it_all() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    // As hyper does, that stops at the declared length.
    let exact = service_fn(|request: Request<TeeBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        body.frame().await;
        body.frame().await;
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(Response::new(Full::from(body.frame().await.unwrap()?.into_data().unwrap())))
    });

    let body = ScriptedBody::new().data("one ").data("two").stall();
    let mut call = Task::new(Box::pin(send(layer.layer(exact), post(body))));
    assert!(call.run().is_pending(), "the body is still held");
    settle().await;

    assert_eq!(seen.all()[0].body().0, "one two");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_trailers_behind_a_known_length_has_read_it_all() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let without_trailers = service_fn(|request: Request<TeeBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        body.frame().await;
        Ok::<_, BoxError>(Response::new(Full::from("thanks")))
    });
    let mut request = post(ScriptedBody::new().data("all of it").trailers(HeaderMap::new()));
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    let mut broken = post(ScriptedBody::new().data("all of it").error("the client is gone"));
    broken.headers_mut().insert("trailer", "x-sum".parse().unwrap());

    send(layer.layer(without_trailers), request).await.unwrap();
    send(layer.layer(echo()), broken).await.unwrap_err();
    settle().await;

    assert_eq!((seen.count(), layer.handle().not_mirrored(NotMirrored::Incomplete)), (1, 1));
    assert_eq!(seen.all()[0].body(), &(Bytes::from("all of it"), None));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_main_service_leaves_nothing_behind() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let handle = layer.handle();
    let panics = service_fn(
        |_: Request<TeeBody<ScriptedBody>>| -> std::future::Ready<Result<Response<()>, BoxError>> {
            std::panic::resume_unwind(Box::new("as scripted"))
        },
    );

    for request in [get("/"), post(ScriptedBody::new().data("x"))] {
        let service = layer.layer(panics);
        let called = tokio::spawn(async move { service.oneshot(request).await.map(drop) }).await;
        assert!(called.is_err());
    }
    settle().await;

    assert_eq!((seen.count(), handle.in_flight(), handle.not_mirrored(NotMirrored::Incomplete)), (0, 0, 2));
}
