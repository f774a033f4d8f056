use buttress_balance::NotMirrored;

use super::*;

#[tokio::test(start_paused = true)]
async fn at_most_64_are_in_flight_and_the_rest_is_counted() {
    let layer = mirror(hangs());
    let (handle, service) = (layer.handle(), layer.layer(echo()));

    for _ in 0..100 {
        send(service.clone(), get("/")).await.unwrap();
    }

    assert_eq!(handle.in_flight(), 64);
    assert_eq!((handle.counts().mirrored, handle.not_mirrored(NotMirrored::Full)), (64, 36));
    advance(15 * SECOND).await;
    assert_eq!(handle.in_flight(), 0);
    send(service, get("/")).await.unwrap();
    assert_eq!(handle.counts().mirrored, 65, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn who_is_still_being_read_has_a_place() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow).in_flight(1);
    let (handle, service) = (layer.handle(), layer.layer(echo()));
    let body = ScriptedBody::new().data("one ").stall().data("two");
    let steer = body.handle();

    let slow = tokio::spawn(send(service.clone(), post(body)));
    settle().await;
    assert_eq!(handle.in_flight(), 1);
    send(service, get("/")).await.unwrap();
    steer.resume();
    slow.await.unwrap().unwrap();
    settle().await;

    assert_eq!(handle.not_mirrored(NotMirrored::Full), 1);
    assert_eq!((handle.in_flight(), seen.paths()), (0, vec!["/orders".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_64_kib_is_mirrored_and_a_longer_one_is_not() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let (handle, service) = (layer.handle(), layer.layer(echo()));
    let body = |bytes: usize| post(ScriptedBody::new().data(vec![b'x'; bytes]));

    assert_eq!(send(service.clone(), body(65_536)).await.unwrap().len(), 65_536);
    assert_eq!(send(service, body(65_537)).await.unwrap().len(), 65_537);
    settle().await;

    assert_eq!(seen.count(), 1);
    assert_eq!(seen.all()[0].body().0.len(), 65_536);
    assert_eq!(handle.not_mirrored(NotMirrored::TooLong), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_grows_over_the_limit_is_not_mirrored_and_reaches_the_main_service_whole() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow).body_limit(10);
    let (handle, service) = (layer.handle(), layer.layer(echo()));
    let body = ScriptedBody::new().data("01234").data("56789").data("x").stall().data("rest").chunked();
    let steer = body.handle();

    let call = tokio::spawn(send(service.clone(), post(body)));
    settle().await;
    assert_eq!(handle.in_flight(), 0, "its place is free as soon as that is known");
    steer.resume();
    assert_eq!(call.await.unwrap().unwrap(), "0123456789xrest");
    let fits = ScriptedBody::new().data("01234").data("56789").chunked();
    assert_eq!(send(service, post(fits)).await.unwrap(), "0123456789");
    settle().await;

    assert_eq!(handle.not_mirrored(NotMirrored::TooLong), 1);
    assert_eq!(seen.count(), 1);
    assert_eq!(seen.all()[0].body().0, "0123456789");
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_0_requests_without_a_body_alone_are_mirrored() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow).body_limit(0);

    send(layer.layer(echo()), get("/")).await.unwrap();
    send(layer.layer(echo()), post(ScriptedBody::new().data("x"))).await.unwrap();
    send(layer.layer(echo()), post(ScriptedBody::new().data("x").chunked())).await.unwrap();
    send(layer.layer(echo()), post(ScriptedBody::new().data("").chunked())).await.unwrap();
    settle().await;

    assert_eq!(seen.paths(), ["/", "/orders"]);
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_a_tunnel_is_not_mirrored() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let mut socket = get("/chat");
    socket.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let connect = Request::connect("example.com:443").body(ScriptedBody::new()).unwrap();

    send(layer.layer(echo()), socket).await.unwrap();
    send(layer.layer(echo()), connect).await.unwrap();
    settle().await;

    assert_eq!((seen.count(), layer.handle().not_mirrored(NotMirrored::Tunnel)), (0, 2));
}

#[test]
fn without_a_runtime_there_is_no_copy_and_the_call_goes_on() {
    let (shadow, seen) = recorder();
    let layer = MirrorLayer::new(shadow);
    let mut call = buttress_testkit::Task::new(Box::pin(send(layer.layer(echo()), get("/"))));

    assert!(matches!(call.run(), std::task::Poll::Ready(Ok(_))));
    assert_eq!((seen.count(), layer.handle().not_mirrored(NotMirrored::NoRuntime)), (0, 1));
    assert_eq!((layer.handle().in_flight(), layer.handle().counts().mirrored), (0, 0));
}
