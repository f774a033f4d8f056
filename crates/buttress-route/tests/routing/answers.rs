use buttress_route::{Fixed, Matched, Route, Router};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::{Named, answer, router, who};

#[tokio::test]
async fn refusals_are_problems_for_http_and_codes_for_grpc() {
    let router = router().route(Route::post("/a"), Named("a")).build().unwrap();
    let grpc = |path: &str| Request::get(path).header("content-type", "application/grpc");

    for (path, status) in [("/b", 404), ("/a", 405), ("//a", 400)] {
        let response = answer(&router, Request::get(path)).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());

        let head = answer(&router, Request::head(path)).await;
        assert_eq!(head.status(), status);
        assert_ne!(head.headers()["content-length"], "0");
        assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    for (path, code) in [("/b", "12"), ("/a", "12"), ("//a", "3")] {
        let response = answer(&router, grpc(path)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], code);
    }
}

#[tokio::test]
async fn a_fixed_answer_is_the_same_for_all_and_has_no_body_for_head() {
    let page = Fixed::new(StatusCode::NOT_FOUND)
        .header(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"))
        .body(HeaderValue::from_static("text/plain"), "nothing");
    let router = router().respond(Route::any("/x"), page.clone()).build().unwrap();

    for request in [Request::get("/x"), Request::post("/x")] {
        let response = answer(&router, request).await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["cache-control"], "max-age=60");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "nothing");
    }
    let head = answer(&router, Request::head("/x")).await;
    assert_eq!(head.headers()["content-length"], "7");
    assert_eq!(head.headers()["content-type"], "text/plain");
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());

    let alone = page.oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert_eq!(alone.status(), 404);
}

#[test]
#[should_panic(expected = "an answer has a status of 200 or above")]
fn a_fixed_answer_is_final() {
    let _ = Fixed::new(StatusCode::CONTINUE);
}

#[test]
#[should_panic(expected = "such an answer has no body")]
fn a_fixed_answer_that_has_no_body_gets_none() {
    let _ = Fixed::new(StatusCode::NO_CONTENT).body(HeaderValue::from_static("text/plain"), "x");
}

#[tokio::test]
async fn boxed_services_are_of_any_type_with_a_stack_each() {
    let tagged = ServiceBuilder::new()
        .map_response(|mut response: http::Response<Full<bytes::Bytes>>| {
            response.headers_mut().insert("x-layer", HeaderValue::from_static("1"));
            response
        })
        .service(Named("layered"));
    let closure = service_fn(|request: Request<()>| async move {
        let id = request.extensions().get::<Matched>().unwrap().param("id").unwrap().into_owned();
        Ok(http::Response::new(Full::from(id)))
    });
    let router = Router::boxed()
        .route(Route::get("/layered"), tagged)
        .route(Route::get("/id/{id}"), closure)
        .route(Route::get("/plain"), Named("plain"))
        .fallback(Fixed::new(StatusCode::GONE))
        .build()
        .unwrap();
    let ask = |path: &str| router.clone().oneshot(Request::get(path).body(()).unwrap());

    assert_eq!(ask("/layered").await.unwrap().headers()["x-layer"], "1");
    assert!(!ask("/plain").await.unwrap().headers().contains_key("x-layer"));
    assert_eq!(ask("/id/7").await.unwrap().into_body().collect().await.unwrap().to_bytes(), "7");
    assert_eq!(ask("/else").await.unwrap().status(), 410);
}

#[tokio::test]
async fn a_router_inside_a_router_tells_its_own_route() {
    let inner =
        router().route(Route::any("/a/{x}"), Named("inner")).fallback(Named("outer's")).build().unwrap();
    let outer = Router::builder().route(Route::any("/{*all}"), inner).build().unwrap();
    let ask = |path: &str| outer.clone().oneshot(Request::get(path).body(()).unwrap());

    let template =
        |response: &http::Response<_>| response.extensions().get::<Matched>().unwrap().template().to_owned();
    assert_eq!(template(&ask("/a/1").await.unwrap()), "/a/{x}");
    assert_eq!(template(&ask("/b").await.unwrap()), "/{*all}");
}

#[tokio::test]
async fn a_router_without_routes_answers_404() {
    let router = router().build().unwrap();

    assert_eq!(who(&router, Request::get("/")).await, "404");
    assert!(router.find(&Request::get("/").body(()).unwrap()).is_none());
}
