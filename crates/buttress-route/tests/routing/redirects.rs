use buttress_route::{Redirect, Route};
use http::{Request, StatusCode};
use tower::ServiceExt;

use crate::{answer, router};

/// Where `path` is sent by a redirect of `template` to `target`, with its status.
async fn sent(template: &str, redirect: Redirect, path: &str) -> (u16, String) {
    let router = router().redirect(Route::any(template), redirect).allow_ambiguous_paths().build().unwrap();
    let response = answer(&router, Request::get(path)).await;
    let location = response.headers().get("location").map_or("", |value| value.to_str().unwrap());
    (response.status().as_u16(), location.to_owned())
}

async fn location(template: &str, target: &str, path: &str) -> String {
    sent(template, Redirect::permanent(target).unwrap(), path).await.1
}

#[tokio::test]
async fn parameters_go_into_the_target_as_they_were_sent_and_the_query_is_kept() {
    assert_eq!(
        location("/u/{id}/{*rest}", "/p/{rest}/of/{id}", "/u/a%20b/c/d?x=1&y").await,
        "/p/c/d/of/a%20b?x=1&y"
    );
    assert_eq!(
        location("/s/{q}", "/search?q={q}&v=2", "/s/a&b=c+d?x=1").await,
        "/search?q=a%26b%3Dc%2Bd&v=2&x=1"
    );
    let target = "https://new.example:8443/v2/{*rest}";
    assert_eq!(location("/v1/{*rest}", target, "/v1/a/b").await, "https://new.example:8443/v2/a/b");
    let plain = Redirect::found("/b").unwrap().without_query();
    assert_eq!(sent("/a", plain, "/a?x=1").await, (302, "/b".to_owned()));
}

#[tokio::test]
async fn each_status_is_as_asked() {
    for (redirect, status) in [
        (Redirect::moved("/b"), 301),
        (Redirect::found("/b"), 302),
        (Redirect::temporary("/b"), 307),
        (Redirect::permanent("/b"), 308),
    ] {
        assert_eq!(sent("/a", redirect.unwrap(), "/a").await, (status, "/b".to_owned()));
    }
    for status in [StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::NOT_MODIFIED] {
        let error = Redirect::new(status, "/b").unwrap_err().to_string();
        assert_eq!(error, format!("status {}: a redirect has 301, 302, 307 or 308", status.as_u16()));
    }
}

#[tokio::test]
async fn https_keeps_path_and_query_and_takes_the_host_from_the_configuration() {
    let https = || Redirect::https("www.example.com").unwrap();

    assert_eq!(
        sent("/{*rest}", https(), "/a/b?c=d").await,
        (308, "https://www.example.com/a/b?c=d".to_owned())
    );
    let forged = "http://evil.example/a";
    assert_eq!(sent("/{*rest}", https(), forged).await.1, "https://www.example.com/a");
    assert_eq!(
        sent("/{*rest}", https(), "//evil.example/a").await.1,
        "https://www.example.com/evil.example/a"
    );
    for host in
        ["", "a b", "a.example/x", "user@a.example", "a.example?x", "a:99999", "{host}", "a.example/{x}"]
    {
        assert!(Redirect::https(host).is_err(), "{host:?}");
    }
}

#[tokio::test]
async fn nothing_that_a_client_sends_makes_another_authority() {
    for path in [
        "//evil.example",
        "///evil.example",
        "//evil.example/%2e%2e",
        "/\\evil.example",
        "/\\/evil.example",
        "/%5Cevil.example",
        "/%2F%2Fevil.example",
        "/%09/evil.example",
        "/%0d%0aLocation:%20x",
        "/https://evil.example",
        "/@evil.example",
        "/;//evil.example",
        "//\\evil.example",
        "/{evil}\"",
        "/é",
    ] {
        let to = location("/{*rest}", "/{*rest}", path).await;
        let (first, rest) = to.split_at(1);
        assert_eq!(first, "/", "{path}: {to}");
        assert!(!rest.starts_with(['/', '\\']), "{path}: {to}");
        assert!(to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{path}: {to}");

        let to = location("/{*rest}", "https://a.example/{*rest}", path).await;
        let uri: http::Uri = to.parse().unwrap();
        assert_eq!(uri.host(), Some("a.example"), "{path}: {to}");
    }
}

#[test]
fn a_target_whose_host_is_open_is_refused_with_the_rule() {
    for (target, rule) in [
        ("", "its path begins with `/`"),
        ("new", "its path begins with `/`"),
        ("//evil.example/", "no empty segment"),
        ("/a//b", "no empty segment"),
        ("https://{host}/", "its host has no parameters"),
        ("https://a.example{rest}", "its host has no parameters"),
        ("https://a.example", "its path begins with `/`"),
        ("https://a.example?x", "its path begins with `/`"),
        ("https:///x", "labels of letters"),
        ("https://u@a.example/", "it names no user"),
        ("https://a.example:port/", "its port"),
        ("ftp://a.example/", "its scheme"),
        ("javascript://a/", "its scheme"),
        ("{scheme}://a/", "its scheme"),
        ("javascript:alert(1)", "its path begins with `/`"),
        ("/a\\b", "no backslash"),
        ("/a#b", "no fragment"),
        ("/a b", "ASCII of URIs"),
        ("/a\r\nb", "ASCII of URIs"),
        ("/ä", "ASCII of URIs"),
        ("/{id", "a parameter ends"),
    ] {
        let error = Redirect::permanent(target).unwrap_err().to_string();
        assert!(error.starts_with(&format!("target `{target}`: ")) && error.contains(rule), "{error}");
    }
}

#[tokio::test]
async fn alone_it_is_a_service_and_says_so_where_it_has_no_parameters() {
    let ask = |redirect: Redirect| redirect.oneshot(Request::get("/x?y").body(()).unwrap());

    let response = ask(Redirect::temporary("/z").unwrap()).await.unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], "/z?y");
    assert_eq!(ask(Redirect::temporary("/{z}").unwrap()).await.unwrap().status(), 500);
}
