use buttress_route::Route;
use http::Request;

use crate::{Named, router, who};

#[tokio::test]
async fn a_literal_goes_before_a_parameter_and_that_before_a_rest() {
    let router = router()
        .route(Route::get("/{*rest}"), Named("rest"))
        .route(Route::get("/users/{id}"), Named("id"))
        .route(Route::get("/users/me"), Named("me"))
        .route(Route::get("/users/{*rest}"), Named("below users"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/users/me")).await, "me");
    assert_eq!(who(&router, Request::get("/users/you")).await, "id");
    assert_eq!(who(&router, Request::get("/users/me/too")).await, "below users");
    assert_eq!(who(&router, Request::get("/else")).await, "rest");
}

#[tokio::test]
async fn the_first_segment_that_differs_decides() {
    let router = router()
        .route(Route::get("/a/{x}/c"), Named("literal first"))
        .route(Route::get("/{x}/b/c"), Named("parameter first"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/a/b/c")).await, "literal first");
    assert_eq!(who(&router, Request::get("/z/b/c")).await, "parameter first");
}

#[tokio::test]
async fn a_way_that_leads_nowhere_is_left_again() {
    let router = router()
        .route(Route::get("/a/b/c/d"), Named("literal"))
        .route(Route::get("/a/{x}/c/e"), Named("one"))
        .route(Route::get("/{x}/{y}/{z}/f"), Named("three"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/a/b/c/d")).await, "literal");
    assert_eq!(who(&router, Request::get("/a/b/c/e")).await, "one");
    assert_eq!(who(&router, Request::get("/a/b/c/f")).await, "three");
    assert_eq!(who(&router, Request::get("/a/b/c/g")).await, "404");
}

#[tokio::test]
async fn a_route_whose_conditions_are_not_met_is_passed_over() {
    let router = router()
        .route(Route::get("/users/me").header("x-beta", "1"), Named("beta"))
        .route(Route::get("/users/{id}"), Named("all"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/users/me").header("x-beta", "1")).await, "beta");
    assert_eq!(who(&router, Request::get("/users/me")).await, "all");
}

#[tokio::test]
async fn the_host_counts_more_than_the_path_and_the_path_more_than_the_method() {
    let router = router()
        .route(Route::any("/{*rest}").host("a.example"), Named("host"))
        .route(Route::any("/exact"), Named("path"))
        .route(Route::get("/{x}"), Named("method"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("http://a.example/exact")).await, "host");
    assert_eq!(who(&router, Request::get("http://b.example/exact")).await, "path");
    assert_eq!(who(&router, Request::get("http://b.example/other")).await, "method");
}

#[tokio::test]
async fn a_method_counts_more_than_conditions_and_headers_more_than_the_query() {
    let router = router()
        .route(Route::any("/").header("x", "1").query("y", "1"), Named("two conditions"))
        .route(Route::get("/"), Named("method"))
        .route(Route::any("/").query("y", "1").cookie("z", "1").query("w", "1"), Named("no header"))
        .route(Route::any("/").header("x", "1"), Named("header"))
        .build()
        .unwrap();
    let all = |request: http::request::Builder| request.header("x", "1").header("cookie", "z=1");

    assert_eq!(who(&router, all(Request::get("/?y=1&w=1"))).await, "method");
    assert_eq!(who(&router, all(Request::put("/?y=1&w=1"))).await, "two conditions");
    assert_eq!(who(&router, all(Request::put("/?w=1"))).await, "header");
    assert_eq!(who(&router, Request::put("/?y=1&w=1").header("cookie", "z=1")).await, "no header");
}

#[tokio::test]
async fn a_value_counts_more_than_presence() {
    let router = router()
        .route(Route::any("/").has_header("x"), Named("some"))
        .route(Route::any("/").header("x", "1"), Named("one"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("/").header("x", "1")).await, "one");
    assert_eq!(who(&router, Request::get("/").header("x", "2")).await, "some");
}
