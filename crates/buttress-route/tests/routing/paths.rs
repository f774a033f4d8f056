use buttress_core::{Key, KeySink};
use buttress_route::{Matched, Route, Router, key};
use http::Request;

use crate::{Named, answer, router, who};

fn files() -> Router<Named> {
    router()
        .route(Route::any("/users/{id}"), Named("user"))
        .route(Route::any("/files/{*path}"), Named("file"))
        .route(Route::any("/caf%C3%A9/{{x}}"), Named("literal"))
        .route(Route::any("/a/"), Named("slash"))
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let router = files();

    for path in [
        "/files/../users",
        "/files/.",
        "/files/%2e%2E/x",
        "/files/..;a=b/x",
        "/files/.%2e",
        "/files//x",
        "//files/x",
        "/files/a%2fb",
        "/files/a%2Fb",
        "/files/a%5cb",
        "/files/a\\b",
        "/./files",
    ] {
        assert_eq!(who(&router, Request::get(path)).await, "400", "{path}");
    }
    for path in
        ["/files/...", "/files/.a", "/files/a..b", "/files/a.", "/files/%2ea", "/files/100%", "/files/%zz"]
    {
        assert_eq!(who(&router, Request::get(path)).await, "file", "{path}");
    }
}

#[tokio::test]
async fn taken_all_the_same_an_encoded_slash_parts_no_segment() {
    let router = router()
        .route(Route::any("/users/{id}"), Named("user"))
        .route(Route::any("/users/{id}/{more}"), Named("more"))
        .route(Route::any("/users/a%2Fb"), Named("literal"))
        .allow_ambiguous_paths()
        .build()
        .unwrap();

    let response = answer(&router, Request::get("/users/x%2Fy")).await;
    assert_eq!(response.extensions().get::<Matched>().unwrap().template(), "/users/{id}");
    assert_eq!(response.extensions().get::<Matched>().unwrap().param("id").unwrap(), "x/y");
    assert_eq!(who(&router, Request::get("/users/x/y")).await, "more");
    assert_eq!(who(&router, Request::get("/users/a%2fb")).await, "literal");
    assert_eq!(who(&router, Request::get("/users/a/b")).await, "more");
    assert_eq!(who(&router, Request::get("/users//b")).await, "404");
}

#[tokio::test]
async fn segments_are_matched_as_they_read_decoded() {
    let router = files();

    assert_eq!(who(&router, Request::get("/%75sers/1")).await, "user");
    assert_eq!(who(&router, Request::get("/caf%c3%a9/%7Bx%7D")).await, "literal");
    assert_eq!(who(&router, Request::get("/%75%73%65%72/1")).await, "404");
    // Longer than any literal, once decoded.
    assert_eq!(who(&router, Request::get(format!("/{}/1", "%75".repeat(300)))).await, "404");
    // Decoded once, not twice.
    assert_eq!(who(&router, Request::get("/%2575sers/1")).await, "404");
}

#[tokio::test]
async fn a_parameter_is_one_segment_and_neither_it_nor_a_rest_is_empty() {
    let router = files();

    assert_eq!(who(&router, Request::get("/users/")).await, "404");
    assert_eq!(who(&router, Request::get("/users")).await, "404");
    assert_eq!(who(&router, Request::get("/users/1/2")).await, "404");
    assert_eq!(who(&router, Request::get("/files/")).await, "404");
    assert_eq!(who(&router, Request::get("/files")).await, "404");
    assert_eq!(who(&router, Request::get("/files/a/")).await, "file");
    assert_eq!(who(&router, Request::get("/a")).await, "404");
    assert_eq!(who(&router, Request::get("/a/")).await, "slash");
}

#[tokio::test]
async fn the_service_is_told_the_template_and_the_parameters() {
    let router =
        router().route(Route::any("/u/{id}/{*rest}").host("*.example.com"), Named("it")).build().unwrap();

    let response = answer(&router, Request::get("http://a.example.com/u/a%20%ff/b/c%2B?q=1")).await;
    let matched = response.extensions().get::<Matched>().unwrap();
    assert_eq!(matched.template(), "/u/{id}/{*rest}");
    assert_eq!(matched.host(), Some("*.example.com"));
    assert_eq!(matched.params().collect::<Vec<_>>(), [("id", "a%20%ff"), ("rest", "b/c%2B")]);
    assert_eq!(matched.param("id").unwrap(), "a%20%ff", "what is not UTF-8 stays as it was sent");
    assert_eq!(matched.param("rest").unwrap(), "b/c+");
    assert_eq!(matched.raw("other"), None);
}

/// The key of a request once it has passed the router.
fn key_of(key: &impl Key<Request<()>>, path: &str) -> Option<Vec<u8>> {
    let mut request = Request::get(path).body(()).unwrap();
    if let Some(matched) = files().find(&request) {
        request.extensions_mut().insert(matched);
    }
    let mut bytes = Vec::new();
    key.key(&request, &mut bytes).then_some(bytes)
}

#[test]
fn a_key_is_the_template_or_a_parameter_in_one_spelling() {
    let written = |part: &str| {
        let mut bytes = Vec::new();
        bytes.bytes(part.as_bytes());
        Some(bytes)
    };

    assert_eq!(key_of(&key::template(), "/users/1"), written("/users/{id}"));
    assert_eq!(key_of(&key::param("id"), "/users/anna"), written("anna"));
    assert_eq!(key_of(&key::param("id"), "/users/%61nn%61"), written("anna"));
    assert_eq!(key_of(&key::param("id"), "/files/anna"), None);
    assert_eq!(key_of(&key::template(), "/nowhere"), None);
}

#[tokio::test]
async fn the_longest_path_is_taken() {
    let router = files();
    let path = format!("/files/{}", "a/".repeat(32_000));

    let response = answer(&router, Request::get(path.as_str())).await;
    assert_eq!(response.extensions().get::<Matched>().unwrap().raw("path").unwrap().len(), 64_000);
}
