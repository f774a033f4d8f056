//! The layer in front of an HTTP service: what a client sees.
#![cfg(feature = "http")]

use std::convert::Infallible;
use std::time::Duration;

use buttress_core::{ManualClock, Rejection, RejectionKind};
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
