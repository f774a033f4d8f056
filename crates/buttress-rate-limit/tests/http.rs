//! The layer in front of an HTTP service: what a client sees.
#![cfg(feature = "http")]

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{BoxError, End, Global, ManualClock, Rejection, RejectionKind};
use buttress_rate_limit::{Limit, RateLimitLayer, key, reject};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt};

fn limit(time: &ManualClock) -> RateLimitLayer<key::Header, reject::Respond> {
    RateLimitLayer::new(Limit::per_minute(2).named("api"))
        .clock(time.clock())
        .by(key::header("x-api-key"))
        .on_reject(reject::respond())
}

fn api(
    limit: RateLimitLayer<key::Header, reject::Respond>,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone {
    ServiceBuilder::new()
        .layer(limit)
        .service_fn(|_: Request<()>| async { Ok(Response::new(Full::<Bytes>::from("hello"))) })
}

async fn get<S>(api: &S, client: &str) -> Response<Full<Bytes>>
where
    S: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone,
{
    let request = Request::get("/").header("x-api-key", client).body(()).unwrap();
    let Ok(response) = api.clone().oneshot(request).await;
    response
}

fn field<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_told_when_to_come_back_and_is_let_in_then() {
    let time = ManualClock::new();
    let api = api(limit(&time));
    assert_eq!(get(&api, "ann").await.status(), 200);
    time.advance(Duration::from_millis(100));
    assert_eq!(get(&api, "ann").await.status(), 200);

    let refused = get(&api, "ann").await;

    assert_eq!(refused.status(), 429);
    assert_eq!(field(&refused, "retry-after"), Some("30"), "29.9 s, rounded up");
    assert_eq!(field(&refused, "ratelimit-policy"), Some(r#""api";q=2;w=60"#));
    assert_eq!(field(&refused, "ratelimit"), Some(r#""api";r=0;t=30"#));
    assert_eq!(field(&refused, "content-type"), Some("application/problem+json"));
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.kind, RejectionKind::RateLimited);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(r#""violated-policies":["api"]"#));

    assert_eq!(get(&api, "bob").await.status(), 200);
    time.advance(Duration::from_secs(30));
    assert_eq!(get(&api, "ann").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_tells_what_is_left_when_asked_to() {
    let time = ManualClock::new();
    let silent = get(&api(limit(&time)), "ann").await;
    assert_eq!(field(&silent, "ratelimit"), None);

    let answer = get(&api(limit(&time).annotate_success(true)), "ann").await;

    assert_eq!(answer.status(), 200);
    assert_eq!(field(&answer, "ratelimit"), Some(r#""api";r=1;t=30"#));
    assert_eq!(field(&answer, "retry-after"), None);
}

#[tokio::test(start_paused = true)]
async fn every_limit_has_its_place_in_the_fields_and_the_one_that_binds_sets_the_wait() {
    let time = ManualClock::new();
    let limits = [Limit::per_second(2).named("burst"), Limit::per_day(3).named("daily")];
    let layer = RateLimitLayer::all(limits)
        .clock(time.clock())
        .by(key::header("x-api-key"))
        .on_reject(reject::respond())
        .annotate_success(true);
    let api = api(layer);

    let first = get(&api, "ann").await;
    assert_eq!(field(&first, "ratelimit-policy"), Some(r#""burst";q=2;w=1, "daily";q=3;w=86400"#));
    assert_eq!(field(&first, "ratelimit"), Some(r#""burst";r=1;t=1, "daily";r=2;t=28800"#));
    assert_eq!(get(&api, "ann").await.status(), 200);

    let by_burst = get(&api, "ann").await;
    assert_eq!(by_burst.status(), 429);
    assert_eq!(field(&by_burst, "retry-after"), Some("1"));

    time.advance(Duration::from_secs(1));
    assert_eq!(get(&api, "ann").await.status(), 200);
    let by_daily = get(&api, "ann").await;
    assert_eq!(field(&by_daily, "retry-after"), Some("28799"));
    assert_eq!(field(&by_daily, "ratelimit"), Some(r#""burst";r=1;t=1, "daily";r=0;t=28799"#));
    let body = by_daily.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(r#""violated-policies":["daily"]"#));
}

#[tokio::test(start_paused = true)]
async fn the_keys_that_are_refused_most_are_told_to_the_handle_and_never_to_a_client() {
    let layer = limit(&ManualClock::new()).top_refused(32);
    let (handle, api) = (layer.handle(), api(layer));

    for _ in 0..5 {
        let answer = get(&api, "a-secret").await;
        assert!(!format!("{:?}", answer.headers()).contains("a-secret"));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("a-secret"));
    }

    let top = handle.top_refused();
    assert_eq!((top[0].key.as_str(), top[0].refused), ("a-secret", 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_settled_at_the_end_of_its_body() {
    let layer = RateLimitLayer::per_minute(10)
        .clock(ManualClock::new().clock())
        .cost(|_: &Request<()>| 4)
        .settle_at_end(|end| match end {
            End::Complete { .. } => Some(1),
            _ => None,
        });
    let handle = layer.handle();
    let remaining = || handle.peek(Global)[0].remaining;
    let api = ServiceBuilder::new().layer(layer).service_fn(|_: Request<()>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("hello")))
    });
    let ask = || api.clone().oneshot(Request::get("/").body(()).unwrap());

    let read = ask().await.unwrap();
    assert_eq!(remaining(), 6, "held while the body is on its way");
    read.into_body().collect().await.unwrap();
    assert_eq!(remaining(), 9);

    drop(ask().await.unwrap());
    assert_eq!(remaining(), 5, "who hangs up stays charged");
}
