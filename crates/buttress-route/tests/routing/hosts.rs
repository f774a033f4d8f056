use buttress_route::{Route, Router};
use http::Request;

use crate::{Named, router, who};

fn hosts() -> Router<Named> {
    router()
        .route(Route::any("/").host("API.example.com."), Named("exact"))
        .route(Route::any("/").host("*.example.com"), Named("wildcard"))
        .route(Route::any("/").host("*.eu.example.com"), Named("longer wildcard"))
        .route(Route::any("/").host("[::1]"), Named("address"))
        .route(Route::any("/"), Named("any"))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_name_goes_before_a_wildcard_and_more_labels_before_fewer() {
    let router = hosts();

    assert_eq!(who(&router, Request::get("http://api.example.com/")).await, "exact");
    assert_eq!(who(&router, Request::get("http://www.example.com/")).await, "wildcard");
    assert_eq!(who(&router, Request::get("http://a.b.example.com/")).await, "wildcard");
    assert_eq!(who(&router, Request::get("http://www.eu.example.com/")).await, "longer wildcard");
    assert_eq!(who(&router, Request::get("http://eu.example.com/")).await, "wildcard");
    assert_eq!(who(&router, Request::get("http://example.com/")).await, "any");
    assert_eq!(who(&router, Request::get("http://notexample.com/")).await, "any");
}

#[tokio::test]
async fn port_case_user_and_last_dot_do_not_count() {
    let router = hosts();

    for host in [
        "api.example.com",
        "API.Example.COM",
        "api.example.com:8443",
        "api.example.com.",
        "api.example.com.:80",
    ] {
        assert_eq!(who(&router, Request::get("/").header("host", host)).await, "exact", "{host}");
    }
    assert_eq!(who(&router, Request::get("http://user@api.example.com/")).await, "exact");
    assert_eq!(who(&router, Request::get("/").header("host", "[::1]:8080")).await, "address");
}

#[tokio::test]
async fn the_authority_of_the_uri_counts_before_the_field() {
    let request = Request::get("http://api.example.com/").header("host", "other.example");

    assert_eq!(who(&hosts(), request).await, "exact");
}

#[tokio::test]
async fn a_host_that_is_not_certain_is_none() {
    let router = hosts();

    assert_eq!(who(&router, Request::get("/")).await, "any");
    let two = Request::get("/").header("host", "api.example.com").header("host", "www.example.com");
    assert_eq!(who(&router, two).await, "any");
    for host in ["", ":80", ".example.com", "[::1", "api.example.com..", "api example com"] {
        assert_eq!(who(&router, Request::get("/").header("host", host)).await, "any", "{host:?}");
    }
    let long = format!("{}.example.com", "a".repeat(300));
    assert_eq!(who(&router, Request::get("/").header("host", long)).await, "any");
}

#[tokio::test]
async fn what_a_host_has_no_route_for_goes_to_a_less_specific_host() {
    let router = router()
        .route(Route::any("/a").host("x.example"), Named("x"))
        .route(Route::any("/{*rest}"), Named("any"))
        .build()
        .unwrap();

    assert_eq!(who(&router, Request::get("http://x.example/a")).await, "x");
    assert_eq!(who(&router, Request::get("http://x.example/b")).await, "any");
}
