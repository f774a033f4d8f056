use buttress_route::{BuildError, Fixed, Redirect, Route};
use http::{Method, StatusCode};

use crate::{Named, router};

fn refused(route: Route) -> String {
    router().route(route, Named("it")).build().unwrap_err().to_string()
}

#[test]
fn a_path_that_is_no_template_is_refused_with_the_rule() {
    for (path, rule) in [
        ("", "it begins with `/`"),
        ("users", "it begins with `/`"),
        ("/a?b=c", "it is a path alone"),
        ("/a#b", "it is a path alone"),
        ("/{id", "a parameter ends with `}`"),
        ("/id}", "a `}` has no `{`"),
        ("/{}", "the name of a parameter"),
        ("/{*}", "the name of a parameter"),
        ("/{a b}", "the name of a parameter"),
        ("/{a/b}", "a parameter ends with `}`"),
        ("/x-{id}", "a parameter is a whole segment"),
        ("/{a}{b}", "a parameter is a whole segment"),
        ("/{id}.json", "a parameter is a whole segment"),
        ("/{*rest}/x", "`{*name}` is its last segment"),
        ("/{id}/{id}", "each parameter has a name of its own"),
        ("/a//b", "only its last segment may be empty"),
        ("//", "only its last segment may be empty"),
        ("/a/../b", "a segment of dots"),
        ("/a/%2e", "a segment of dots"),
    ] {
        let error = refused(Route::any(path));
        assert!(error.starts_with(&format!("path `{path}`: {rule}")), "{error}");
    }
    assert!(refused(Route::any(format!("/{}", "a".repeat(256)))).contains("255 bytes at most"));
    assert!(refused(Route::any("/a".repeat(129))).contains("128 segments at most"));
    let params: String = (0..17).map(|number| format!("/{{p{number}}}")).collect();
    assert!(refused(Route::any(params)).contains("16 parameters at most"));
}

#[test]
fn the_largest_template_is_taken() {
    let params: String = (0..16).map(|number| format!("/{{p{number}}}")).collect();
    let path = params + &"/a".repeat(111) + "/" + &"x".repeat(255);
    let router = router().route(Route::any(path), Named("it")).build().unwrap();

    let asked = "/1".repeat(16) + &"/a".repeat(111) + "/" + &"x".repeat(255);
    let matched = router.find(&http::Request::get(asked).body(()).unwrap()).unwrap();
    assert_eq!(matched.raw("p15"), Some("1"));
}

#[test]
fn a_host_that_is_no_name_is_refused_with_the_rule() {
    for (host, rule) in [
        ("", "labels of letters"),
        ("a..b", "labels of letters"),
        ("a b", "labels of letters"),
        ("http://a", "it has no port"),
        ("a/b", "labels of letters"),
        ("a:80", "it has no port"),
        ("::1", "it has no port"),
        ("[::x]", "IPv6 address"),
        ("*", "a `*` is the whole first label"),
        ("*.", "labels of letters"),
        ("a.*", "a `*` is the whole first label"),
        ("*a.b", "a `*` is the whole first label"),
        ("*.*.b", "a `*` is the whole first label"),
        ("*.[::1]", "no names below"),
        ("bücher.example", "xn--"),
    ] {
        let error = refused(Route::any("/").host(host));
        assert!(error.starts_with(&format!("host `{host}`: ")) && error.contains(rule), "{host}: {error}");
    }
    assert!(refused(Route::any("/").host("a".repeat(254))).contains("labels of letters"));
}

#[test]
fn a_condition_that_cannot_be_met_is_refused_with_its_route() {
    for (route, condition) in [
        (Route::get("/").header("a b", "1"), "header `a b`"),
        (Route::get("/").header("a", "1\n"), "header `a`"),
        (Route::get("/").header("a", "1").header("A", "2"), "header `a`: there is one condition"),
        (Route::get("/").query("a", "1").has_query("a"), "query parameter `a`"),
        (Route::get("/").cookie("a", "1").cookie("a", "1"), "cookie `a`"),
        (Route::get("/").cookie("a=b", "1"), "cookie `a=b`"),
        (Route::get("/").cookie("a", "1;2"), "cookie `a`"),
        (Route::get("/").has_cookie(""), "cookie ``"),
        (Route::get("/").json("plan", "gold"), "JSON field `plan`: a pointer begins with `/`"),
    ] {
        let error = refused(route);
        assert!(error.starts_with("route `GET /") && error.contains(condition), "{error}");
    }
}

#[test]
fn two_routes_that_take_the_same_are_refused_and_both_are_named() {
    for (one, other) in [
        (Route::get("/a/{x}").host("h.example"), Route::get("/a/{y}").host("H.example.")),
        (Route::any("/a"), Route::any("/%61")),
        (Route::get("/a").or(Method::POST), Route::post("/a").or(Method::PUT)),
        (
            Route::get("/{*a}").header("X", "1").query("b", "2"),
            Route::get("/{*b}").query("b", "2").header("x", "1"),
        ),
        (Route::any("/").host("*.a.example"), Route::any("/").host("*.A.example")),
    ] {
        let names = [one.to_string(), other.to_string()];
        let error =
            router().route(one, Named("one")).respond(other, Fixed::new(StatusCode::OK)).build().unwrap_err();
        assert!(matches!(error, BuildError::Ambiguous { .. }));
        assert!(names.iter().all(|name| error.to_string().contains(&format!("`{name}`"))), "{error}");
    }
}

#[test]
fn routes_that_differ_in_anything_go_together() {
    let routes = [
        Route::any("/a"),
        Route::get("/a"),
        Route::post("/a"),
        Route::method(Method::HEAD, "/a"),
        Route::any("/a/"),
        Route::any("/a").host("h.example"),
        Route::any("/a").host("*.h.example"),
        Route::any("/a").has_header("x"),
        Route::any("/a").header("x", "1"),
        Route::any("/a").header("x", "2"),
        Route::any("/a").query("x", "1"),
        Route::any("/a").cookie("x", "1"),
    ];
    let builder = routes.into_iter().fold(router(), |router, route| router.route(route, Named("it")));

    assert!(builder.build().is_ok());
}

#[test]
fn a_body_that_nobody_reads_is_not_asked_for() {
    let error = router().route(Route::post("/").json("/plan", "gold"), Named("it")).build().unwrap_err();

    assert!(matches!(error, BuildError::BodyNotRead { .. }));
    assert!(error.to_string().contains("json_bodies()"), "{error}");
}

#[test]
fn a_redirect_asks_for_parameters_of_its_route() {
    let error = router()
        .redirect(Route::get("/old/{id}"), Redirect::permanent("/new/{name}").unwrap())
        .build()
        .unwrap_err();

    assert_eq!(error.to_string(), "route `GET /old/{id}` has no parameter `name` for its redirect");
}
