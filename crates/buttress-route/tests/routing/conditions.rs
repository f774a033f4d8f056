use buttress_route::Route;
use http::Request;

use crate::{Named, router, who};

async fn takes(route: Route, request: http::request::Builder) -> bool {
    let router = router().route(route, Named("it")).build().unwrap();
    who(&router, request).await == "it"
}

#[tokio::test]
async fn a_header_is_compared_whole_and_its_first_line_counts() {
    let route = || Route::any("/").header("X-Version", "2");

    assert!(takes(route(), Request::get("/").header("x-version", "2")).await);
    assert!(takes(route(), Request::get("/").header("x-version", "2").header("x-version", "3")).await);
    assert!(!takes(route(), Request::get("/").header("x-version", "3").header("x-version", "2")).await);
    assert!(!takes(route(), Request::get("/").header("x-version", "22")).await);
    assert!(!takes(route(), Request::get("/")).await);
    assert!(takes(Route::any("/").has_header("x-version"), Request::get("/").header("x-version", "")).await);
    assert!(!takes(Route::any("/").has_header("x-version"), Request::get("/")).await);
}

#[tokio::test]
async fn a_query_parameter_is_compared_decoded_and_the_first_counts() {
    let route = || Route::any("/").query("na me", "a+b c");

    assert!(takes(route(), Request::get("/?na+me=a%2Bb+c")).await);
    assert!(takes(route(), Request::get("/?x&na%20me=%61%2bb%20c&na+me=other")).await);
    assert!(!takes(route(), Request::get("/?na+me=other&na+me=a%2Bb+c")).await);
    assert!(!takes(route(), Request::get("/?na+me=a+b+c")).await);
    assert!(!takes(route(), Request::get("/?na+me=a%2Bb+c+")).await);
    assert!(!takes(route(), Request::get("/")).await);
    assert!(takes(Route::any("/").has_query("debug"), Request::get("/?debug")).await);
    assert!(takes(Route::any("/").query("debug", ""), Request::get("/?debug")).await);
    assert!(!takes(Route::any("/").has_query("debug"), Request::get("/?debugger=1")).await);
}

#[tokio::test]
async fn a_cookie_is_found_in_every_line_and_the_first_counts() {
    let route = || Route::any("/").cookie("group", "b");

    assert!(takes(route(), Request::get("/").header("cookie", "a=1; group=b; c")).await);
    assert!(takes(route(), Request::get("/").header("cookie", "a=1").header("cookie", "group=b")).await);
    assert!(!takes(route(), Request::get("/").header("cookie", "group=a; group=b")).await);
    assert!(!takes(route(), Request::get("/").header("cookie", "Group=b")).await);
    assert!(!takes(route(), Request::get("/").header("cookie", "xgroup=b")).await);
    assert!(!takes(route(), Request::get("/").header("cookie", "group")).await);
    assert!(takes(Route::any("/").has_cookie("group"), Request::get("/").header("cookie", "group=")).await);
    assert!(!takes(Route::any("/").has_cookie("group"), Request::get("/")).await);
}

#[tokio::test]
async fn all_conditions_are_to_be_met() {
    let route = || Route::any("/").header("x", "1").query("y", "2").cookie("z", "3");

    assert!(takes(route(), Request::get("/?y=2").header("x", "1").header("cookie", "z=3")).await);
    assert!(!takes(route(), Request::get("/?y=2").header("x", "1")).await);
    assert!(!takes(route(), Request::get("/?y=2").header("cookie", "z=3")).await);
    assert!(!takes(route(), Request::get("/").header("x", "1").header("cookie", "z=3")).await);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_no_error() {
    let binary = http::HeaderValue::from_bytes(b"\xff\xfe=1; group=b").unwrap();

    assert!(
        takes(Route::any("/").cookie("group", "b"), Request::get("/").header("cookie", binary.clone())).await
    );
    assert!(!takes(Route::any("/").header("cookie", "1"), Request::get("/").header("cookie", binary)).await);
    assert!(!takes(Route::any("/").query("a", "b"), Request::get("/?%ff=%&=&&a")).await);
}
