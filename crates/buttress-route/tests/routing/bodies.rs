use std::convert::Infallible;
use std::task::Poll;

use buttress_core::BoxError;
use buttress_route::{JsonBodies, PeekBody, Route, Router};
use buttress_testkit::{ScriptedBody, Task};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

type Boxed = BoxCloneSyncService<Request<PeekBody<ScriptedBody>>, Response<Full<Bytes>>, Infallible>;

/// Answers with its name and with all that it reads of the body.
fn named(name: &'static str) -> Boxed {
    BoxCloneSyncService::new(service_fn(move |request: Request<PeekBody<ScriptedBody>>| async move {
        let (mut read, mut trailers, mut failed) = (Vec::new(), HeaderMap::new(), false);
        let mut body = request.into_body();
        let hint = body.size_hint();
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => read.extend_from_slice(&data),
                Ok(Err(frame)) => trailers = frame.into_trailers().unwrap(),
                Err(_) => failed = true,
            }
        }
        assert!(body.is_end_stream() || failed);
        assert!(hint.lower() <= read.len() as u64 || failed);
        assert!(hint.upper().is_none_or(|upper| upper >= read.len() as u64));
        let mut response = Response::new(Full::from(read));
        response.headers_mut().insert("x-service", HeaderValue::from_static(name));
        response.headers_mut().extend(trailers);
        if failed {
            response.headers_mut().insert("x-failed", HeaderValue::from_static("1"));
        }
        Ok(response)
    }))
}

fn by_plan() -> Router<Boxed, JsonBodies> {
    Router::builder()
        .json_bodies()
        .route(Route::post("/").json("/user/plan", "gold"), named("gold"))
        .route(Route::post("/").has_json("/user/plan"), named("some plan"))
        .route(Route::post("/"), named("all"))
        .build()
        .unwrap()
}

async fn ask(body: ScriptedBody, content_type: &'static str) -> Response<Full<Bytes>> {
    let request = Request::post("/").header("content-type", content_type).body(body).unwrap();
    let Ok(response) = by_plan().oneshot(request).await;
    response
}

async fn who(body: ScriptedBody) -> (String, Bytes) {
    let response = ask(body, "application/json").await;
    let name = response.headers()["x-service"].to_str().unwrap().to_owned();
    (name, response.into_body().collect().await.unwrap().to_bytes())
}

const GOLD: &str = r#"{"user":{"plan":"gold"}}"#;

#[tokio::test]
async fn a_field_of_the_body_picks_the_route_and_the_body_comes_whole() {
    for (text, service) in [
        (GOLD, "gold"),
        (r#"{"user":{"plan":"silver"}}"#, "some plan"),
        (r#"{"user":{"plan":null}}"#, "some plan"),
        (r#"{"user":{}}"#, "all"),
        (r#"{"user":"plan"}"#, "all"),
        ("[]", "all"),
        ("", "all"),
        ("{", "all"),
        (r#"{"user":{"plan":"gold"}} and more"#, "all"),
        ("\u{feff}{}", "all"),
    ] {
        assert_eq!(
            who(ScriptedBody::new().data(text)).await,
            (service.to_owned(), Bytes::from(text)),
            "{text}"
        );
    }
}

#[tokio::test]
async fn of_members_with_one_name_the_last_counts() {
    let body = ScriptedBody::new().data(r#"{"user":{"plan":"gold","plan":"x"}}"#);

    assert_eq!(who(body).await.0, "some plan");
}

#[tokio::test]
async fn frames_and_trailers_come_as_they_came() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("7"));
    let body = ScriptedBody::new().data(&GOLD[..9]).data(&GOLD[9..]).trailers(trailers);

    let response = ask(body, "application/vnd.x+json; charset=utf-8").await;
    assert_eq!(response.headers()["x-service"], "gold");
    assert_eq!(response.headers()["x-checksum"], "7");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), GOLD);
}

#[tokio::test]
async fn a_body_of_64_kib_is_looked_into_and_a_longer_one_is_not() {
    let padded = |length: usize| format!("{GOLD}{}", " ".repeat(length - GOLD.len()));

    for chunked in [false, true] {
        let body = |length: usize| {
            let (first, second) = (padded(length)[..5].to_owned(), padded(length)[5..].to_owned());
            let body = ScriptedBody::new().data(first).data(second);
            if chunked { body.chunked() } else { body }
        };
        let (service, read) = who(body(65_536)).await;
        assert_eq!((service.as_str(), read.len()), ("gold", 65_536));
        let (service, read) = who(body(65_537)).await;
        assert_eq!((service.as_str(), read.len()), ("all", 65_537));
    }
}

#[tokio::test]
async fn a_body_in_too_many_frames_is_not_looked_into() {
    let body = (0..2000).fold(ScriptedBody::new(), |body, _| body.data(" ")).data(GOLD).chunked();

    let (service, read) = who(body).await;
    assert_eq!((service.as_str(), read.len()), ("all", 2000 + GOLD.len()));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_services_to_see() {
    let body = ScriptedBody::new().data(GOLD).error(BoxError::from("reset"));

    let response = ask(body, "application/json").await;
    assert_eq!(response.headers()["x-service"], "all");
    assert_eq!(response.headers()["x-failed"], "1");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), GOLD);
}

#[tokio::test]
async fn a_body_of_another_type_is_not_waited_for() {
    for content_type in
        ["application/grpc+json", "application/connect+json", "text/plain", "application/jsonp", ""]
    {
        let body = ScriptedBody::new().stall().data(GOLD);
        let handle = body.handle();
        let request = Request::post("/").header("content-type", content_type).body(body).unwrap();
        let call = by_plan().oneshot(request);
        let mut call = Task::new(call);

        assert!(call.run().is_pending());
        assert_eq!(handle.frames(), 0);
        handle.resume();
        let Poll::Ready(Ok(response)) = call.run() else { panic!("the service has what it waits for") };
        assert_eq!(response.headers()["x-service"], "all", "{content_type}");
    }
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_waited_for_and_dropped_with_the_call() {
    let slow = || ScriptedBody::new().data(&GOLD[..4]).stall().data(&GOLD[4..]);
    let request = |body| Request::post("/").header("content-type", "application/json").body(body).unwrap();

    let body = slow();
    let handle = body.handle();
    let mut call = Task::new(by_plan().oneshot(request(body)));
    assert!(call.run().is_pending());
    handle.resume();
    assert!(call.is_woken());
    let Poll::Ready(Ok(response)) = call.run() else { panic!("the body is there") };
    assert_eq!(response.headers()["x-service"], "gold");

    let body = slow();
    let handle = body.handle();
    let mut call = Task::new(by_plan().oneshot(request(body)));
    assert!(call.run().is_pending());
    drop(call);
    assert!(handle.is_dropped());
}

#[tokio::test]
async fn a_body_is_not_read_where_the_head_can_tell() {
    let router = Router::builder()
        .json_bodies()
        .route(Route::post("/").json("/a", 1).header("x", "1"), named("json"))
        .route(Route::put("/").json("/a", 1), named("put"))
        .route(Route::post("/{*rest}"), named("rest"))
        .build()
        .unwrap();
    let request = |method: &str, path: &str, body| {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        router.clone().oneshot(request.body(body).unwrap())
    };
    for (method, path, status) in [("POST", "/", 405), ("GET", "/", 405), ("GET", "/x", 405)] {
        let body = ScriptedBody::new().data("{}");
        let handle = body.handle();
        assert_eq!(request(method, path, body).await.unwrap().status(), status, "{method} {path}");
        assert_eq!(handle.frames(), 0);
    }
}
