use buttress_core::{Facts, HasFacts, Timestamp};
use http::{Method, Version};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_copy_is_the_request_without_its_facts() {
    let (shadow, seen) = recorder();
    let mut request = Request::put("http://example.com/a/b?c=d")
        .version(Version::HTTP_2)
        .header("x-one", "1")
        .header("x-two", "2")
        .header("x-two", "22")
        .extension("kept")
        .body(ScriptedBody::new().data("some ").data("text"))
        .unwrap();
    request.facts_mut().unwrap().limit_deadline(Timestamp::ZERO + SECOND);

    let facts = Arc::new(Mutex::new(None));
    let (main, of_main) = (echo(), Arc::clone(&facts));
    let main = service_fn(move |request: Request<TeeBody<ScriptedBody>>| {
        *of_main.lock().unwrap() = request.facts().cloned();
        main.clone().oneshot(request)
    });
    send(mirror(shadow).layer(main), request).await.unwrap();
    settle().await;

    let copy = seen.all().remove(0);
    assert_eq!((copy.method(), copy.version()), (&Method::PUT, Version::HTTP_2));
    assert_eq!(copy.uri(), "http://example.com/a/b?c=d");
    let fields: Vec<_> =
        copy.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(fields, [("x-one", "1"), ("x-two", "2"), ("x-two", "22")]);
    assert_eq!(copy.extensions().get::<&str>(), Some(&"kept"));
    assert_eq!(copy.body(), &(Bytes::from("some text"), None));
    assert_eq!(copy.facts(), None);
    assert!(facts.lock().unwrap().is_some(), "the main call has them");
}

#[tokio::test(start_paused = true)]
async fn trailers_are_copied_with_and_without_a_known_length() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let chunked = post(ScriptedBody::new().data("x").trailers(trailers.clone()).chunked());
    let mut announced = post(ScriptedBody::new().data("x").trailers(trailers.clone()));
    announced.headers_mut().insert("trailer", "x-sum".parse().unwrap());

    send(layer.layer(echo()), chunked).await.unwrap();
    send(layer.layer(echo()), announced).await.unwrap();
    settle().await;

    let bodies: Vec<_> = seen.all().into_iter().map(Request::into_body).collect();
    assert_eq!(bodies, vec![(Bytes::from("x"), Some(trailers)); 2]);
}

#[tokio::test(start_paused = true)]
async fn the_buffers_are_shared_and_not_copied() {
    let (shadow, seen) = recorder();
    let text = Bytes::from(vec![b'x'; 1024]);

    send(mirror(shadow).layer(echo()), post(ScriptedBody::new().data(text.clone()))).await.unwrap();
    settle().await;

    assert_eq!(seen.all()[0].body().0.as_ptr(), text.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn short_frames_hold_no_long_buffers() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let holds = Arc::clone(&held);
    let shadow = service_fn(move |request: Request<MirroredBody>| {
        holds.lock().unwrap().push(request.into_body());
        std::future::pending::<Result<Response<ScriptedBody>, BoxError>>()
    });
    let text = Bytes::from(vec![b'x'; 8192]);
    let short = |body: ScriptedBody, _| body.data(text.slice(..7));
    let body = (0..3).fold(ScriptedBody::new(), short).data(vec![b'y'; 2000]);
    let body = (0..2000).fold(body, short);

    send(mirror(BoxCloneSyncService::new(shadow)).layer(echo()), post(body)).await.unwrap();
    settle().await;

    let body = held.lock().unwrap().remove(0);
    assert!(text.is_unique(), "nothing else holds it");
    let copy = body.collect().await.unwrap().to_bytes();
    let expected = [vec![b'x'; 21], vec![b'y'; 2000], vec![b'x'; 14_000]].concat();
    assert_eq!(copy, expected, "many or few, in their order");
}

#[tokio::test(start_paused = true)]
async fn all_methods_are_mirrored_unless_only_safe_ones_are_asked_for() {
    let methods =
        || [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::POST, Method::DELETE];
    for (safe_only, expected) in [(false, &methods()[..]), (true, &methods()[..4])] {
        let (shadow, seen) = recorder();
        let layer = mirror(shadow);
        let layer = if safe_only { layer.safe_only() } else { layer };
        for method in methods() {
            let mut request = get("/");
            *request.method_mut() = method;
            send(layer.layer(echo()), request).await.unwrap();
        }
        settle().await;

        let seen: Vec<_> = seen.all().iter().map(|request| request.method().clone()).collect();
        assert_eq!(seen, expected);
        assert_eq!(layer.handle().counts().not_mirrored, 0, "they were not to be mirrored");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_is_not_mirrored_again() {
    let (shadow, seen) = recorder();
    let layer = mirror(shadow);
    for attempt in 1..4 {
        let mut request = get("/");
        let mut facts = Facts::new();
        facts.attempt = attempt;
        request.extensions_mut().insert(facts);
        send(layer.layer(echo()), request).await.unwrap();
    }
    settle().await;
    assert_eq!(seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_host_is_marked_by_option() {
    let marked = |uri: &'static str, host: Option<&'static str>, mark: bool| async move {
        let (shadow, seen) = recorder();
        let layer = if mark { mirror(shadow).shadow_host() } else { mirror(shadow) };
        let mut request = get(uri);
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        send(layer.layer(echo()), request).await.unwrap();
        settle().await;
        let copy = seen.all().remove(0);
        let host = copy.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        (copy.uri().to_string(), host.unwrap_or_default())
    };
    let pair = |uri: &str, host: &str| (uri.to_owned(), host.to_owned());

    assert_eq!(marked("/a?b", Some("example.com"), false).await, pair("/a?b", "example.com"));
    assert_eq!(marked("/a?b", Some("example.com"), true).await, pair("/a?b", "example.com-shadow"));
    assert_eq!(marked("/", Some("example.com:8080"), true).await, pair("/", "example.com-shadow:8080"));
    assert_eq!(marked("/", Some("[::1]:8080"), true).await, pair("/", "[::1]:8080"));
    assert_eq!(marked("/", None, true).await, pair("/", ""));
    assert_eq!(
        marked("http://example.com:80/a?b", None, true).await,
        pair("http://example.com-shadow:80/a?b", "")
    );
    assert_eq!(marked("http://me@example.com/", None, true).await, pair("http://me@example.com-shadow/", ""));
}
