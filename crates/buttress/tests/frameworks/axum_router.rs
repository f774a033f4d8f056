use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use buttress::key::Key;
use buttress::{RateLimitLayer, Reject, Rejection, RejectionKind, reject};
use http::{Request, Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt};

use crate::{limit, listen};

fn three_routes() -> Router {
    Router::new()
        .route("/users", get(|| async { "users" }))
        .route("/orders", get(|| async { "orders" }))
        .route("/payments", get(|| async { "payments" }))
}

async fn ask(router: &Router, path: &str) -> Response<Body> {
    router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn three_routes_spend_one_budget() {
    let (limit, time) = limit(3);
    let router = three_routes().layer(limit.on_reject(reject::respond()));

    for path in ["/users", "/orders", "/payments"] {
        assert_eq!(ask(&router, path).await.status(), StatusCode::OK, "{path}");
    }
    for path in ["/users", "/orders", "/payments"] {
        assert_eq!(ask(&router, path).await.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
    }

    time.advance(Duration::from_secs(1));
    assert_eq!(ask(&router, "/orders").await.status(), StatusCode::OK);
    assert_eq!(ask(&router, "/users").await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_refusal_is_problem_json_that_says_when_to_come_again() {
    let (limit, _time) = limit(1);
    let router = three_routes().layer(limit.named("api").on_reject(reject::respond()));
    ask(&router, "/users").await;

    let refused = ask(&router, "/orders").await;

    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.headers().contains_key("ratelimit"), "{:?}", refused.headers());
    assert!(refused.headers().contains_key("ratelimit-policy"));
    let rejection = refused.extensions().get::<Rejection>().expect("it travels with the response");
    assert_eq!(rejection.kind, RejectionKind::RateLimited);
    assert_eq!(rejection.policy.as_deref(), Some("api"));
}

#[tokio::test]
async fn it_stands_in_a_service_builder_among_others_and_answers_errors_at_the_top() {
    use buttress::ServiceBuilderExt;

    let (limit, _time) = limit(1);
    let stack = ServiceBuilder::new().answer_errors().layer(limit).lift_errors();
    let router = three_routes().layer(stack);

    assert_eq!(ask(&router, "/users").await.status(), StatusCode::OK);
    let refused = ask(&router, "/orders").await;

    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
}

#[tokio::test]
async fn it_serves_over_a_socket() {
    let (limit, _time) = limit(1);
    let router = three_routes().layer(limit.on_reject(reject::respond()));
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });

    let client = reqwest::Client::new();
    let first = client.get(format!("http://{address}/users")).send().await.unwrap();
    let second = client.get(format!("http://{address}/orders")).send().await.unwrap();

    assert_eq!(first.text().await.unwrap(), "users");
    assert_eq!(second.status(), 429);
    assert!(second.text().await.unwrap().contains("quota"), "a body that says so");
}

#[tokio::test]
async fn a_key_counts_each_value_on_its_own() {
    let (limit, _time) = limit(1);
    let router = three_routes().layer(
        limit
            .by(|request: &Request<Body>| request.headers().get("x-tenant").cloned())
            .on_reject(reject::respond()),
    );
    let from = |tenant: &'static str| {
        let request = Request::get("/users").header("x-tenant", tenant).body(Body::empty()).unwrap();
        router.clone().oneshot(request)
    };

    assert_eq!(from("a").await.unwrap().status(), StatusCode::OK);
    assert_eq!(from("b").await.unwrap().status(), StatusCode::OK);
    assert_eq!(from("a").await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
}

/// The layer's types fit into a struct, by name.
struct Limits<K: Key<Request<Body>>, J: Reject<Request<Body>, Response<Body>, std::convert::Infallible>> {
    layer: RateLimitLayer<K, J>,
}

#[tokio::test]
async fn its_types_can_be_named() {
    let (limit, _time) = limit(1);
    let limits: Limits<buttress::Global, reject::Respond> =
        Limits { layer: limit.on_reject(reject::respond()) };

    let router = three_routes().layer(limits.layer.clone());

    assert_eq!(ask(&router, "/users").await.status(), StatusCode::OK);
}
