use buttress_route::Route;
use http::{Method, Request};

use crate::{Named, answer, router, who};

#[tokio::test]
async fn where_only_the_method_is_wrong_it_is_405_with_those_that_are_right() {
    let router = router()
        .route(Route::get("/a"), Named("get"))
        .route(Route::put("/a").or(Method::DELETE), Named("put"))
        .route(Route::method(Method::from_bytes(b"PURGE").unwrap(), "/a"), Named("purge"))
        .route(Route::post("/a").header("x", "1"), Named("post"))
        .build()
        .unwrap();

    let response = answer(&router, Request::patch("/a")).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD, PUT, DELETE, PURGE");
    assert_eq!(response.headers()["content-type"], "application/problem+json");

    let response = answer(&router, Request::patch("/a").header("x", "1")).await;
    assert_eq!(response.headers()["allow"], "GET, HEAD, POST, PUT, DELETE, PURGE");
    assert_eq!(who(&router, Request::delete("/a")).await, "put");
    assert_eq!(who(&router, Request::builder().method("PURGE").uri("/a")).await, "purge");
    assert_eq!(who(&router, Request::builder().method("BAN").uri("/a")).await, "405");
}

#[tokio::test]
async fn a_less_specific_route_takes_what_the_method_keeps_from_another() {
    let router = router()
        .route(Route::get("/a"), Named("get"))
        .route(Route::any("/{x}"), Named("any"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/a")).await, "get");
    assert_eq!(who(&router, Request::post("/a")).await, "any");
}

#[tokio::test]
async fn get_answers_head_unless_a_route_names_it() {
    let plain =
        router().route(Route::get("/"), Named("get")).route(Route::any("/"), Named("any")).build().unwrap();
    let named = router()
        .route(Route::get("/").header("x", "1"), Named("get"))
        .route(Route::method(Method::HEAD, "/"), Named("head"))
        .build()
        .unwrap();

    assert_eq!(who(&plain, Request::head("/")).await, "get");
    assert_eq!(who(&plain, Request::post("/")).await, "any");
    assert_eq!(who(&named, Request::head("/").header("x", "1")).await, "head");
}

#[tokio::test]
async fn conditions_that_are_not_met_are_404_and_not_405() {
    let router = router().route(Route::get("/a").header("x", "1"), Named("get")).build().unwrap();

    assert_eq!(who(&router, Request::get("/a")).await, "404");
    assert_eq!(who(&router, Request::post("/a")).await, "404");
    assert_eq!(who(&router, Request::post("/a").header("x", "1")).await, "405");
}

#[tokio::test]
async fn a_fallback_takes_what_no_route_takes_and_leaves_the_405() {
    let router = router().route(Route::get("/a"), Named("get")).fallback(Named("fallback")).build().unwrap();

    assert_eq!(who(&router, Request::get("/b")).await, "fallback");
    assert_eq!(who(&router, Request::post("/a")).await, "405");
    assert_eq!(who(&router, Request::options("*")).await, "fallback");
    assert_eq!(who(&router, Request::builder().method("CONNECT").uri("a.example:443")).await, "fallback");
}
