//! Which route takes a request.

use axum::{Router, extract::Request, routing::any};
use reqwest::{Client, redirect::Policy};

use crate::support::{Gateway, upstream};

/// Says its name and what it was asked for.
async fn named(name: &'static str) -> String {
    let service = any(async move |request: Request| format!("{name} {} {}", request.method(), request.uri()));
    format!("http://{}", upstream(Router::new().fallback(service)).await)
}

async fn routed(name: &str, routes: &str) -> Gateway {
    let (one, two) = (named("one").await, named("two").await);
    let config = format!(
        "upstream = [{{ name = 'one', url = '{one}' }}, {{ name = 'two', url = '{two}' }}]\n{routes}"
    );
    Gateway::with(name, &config).await
}

#[tokio::test]
async fn host_template_method_and_conditions_pick_the_route() {
    let gateway = routed(
        "conditions",
        "[[route]]
         path = '/'
         upstream = 'one'
         [[route]]
         template = '/users/{id}'
         methods = ['GET', 'DELETE']
         upstream = 'two'
         [[route]]
         path = '/'
         host = '*.example.com'
         upstream = 'two'
         [[route]]
         path = '/beta'
         headers = { x-channel = 'beta' }
         upstream = 'two'
         [[route]]
         path = '/any'
         headers = { x-channel = true }
         query = { page = '2' }
         cookies = { session = true }
         upstream = 'two'",
    )
    .await;
    let client = Client::new();
    let get = |path: &str| client.get(gateway.url(path));

    for (request, expected) in [
        (get("/users"), "one GET /users"),
        (get("/users/7?full=1"), "two GET /users/7?full=1"),
        (client.delete(gateway.url("/users/7")), "two DELETE /users/7"),
        (client.post(gateway.url("/users/7")), "one POST /users/7"),
        (get("/users/7/orders"), "one GET /users/7/orders"),
        (get("/x").header("host", "api.example.com"), "two GET /x"),
        (get("/x").header("host", "example.com"), "one GET /x"),
        (get("/beta/x").header("x-channel", "beta"), "two GET /beta/x"),
        (get("/beta/x").header("x-channel", "alpha"), "one GET /beta/x"),
        (get("/any?page=2").header("x-channel", "?").header("cookie", "session=1"), "two GET /any?page=2"),
        (get("/any?page=2").header("x-channel", "?"), "one GET /any?page=2"),
    ] {
        let answer = request.send().await.unwrap().text().await.unwrap();

        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn a_field_of_a_json_body_picks_the_route_and_the_body_arrives_whole() {
    let echo = async |body: String| body;
    let gold =
        upstream(Router::new().fallback(any(async move |body| format!("gold {}", echo(body).await)))).await;
    let rest = upstream(Router::new().fallback(any(echo))).await;
    let config = format!(
        "upstream = [{{ name = 'gold', url = 'http://{gold}' }}, {{ name = 'rest', url = 'http://{rest}' }}]
         [[route]]
         path = '/'
         upstream = 'rest'
         [[route]]
         path = '/orders'
         json = {{ '/customer/plan' = 'gold' }}
         upstream = 'gold'
         [[route]]
         path = '/refunds'
         json_has = ['/reason']
         upstream = 'gold'"
    );
    let gateway = Gateway::with("json", &config).await;
    let client = Client::new();

    for (path, body, expected) in [
        ("/orders", r#"{"customer":{"plan":"gold"}}"#, "gold "),
        ("/orders", r#"{"customer":{"plan":"basic"}}"#, ""),
        ("/orders", "no JSON at all", ""),
        ("/refunds/7", r#"{"reason":null}"#, "gold "),
        ("/refunds/7", "{}", ""),
        ("/elsewhere", "", ""),
    ] {
        let request = client.post(gateway.url(path)).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap().text().await.unwrap();

        assert_eq!(answer, format!("{expected}{body}"), "{path}");
    }
}

#[tokio::test]
async fn redirects_and_fixed_answers_need_no_upstream() {
    let gateway = routed(
        "redirects",
        "[[route]]
         template = '/people/{id}'
         redirect = { to = '/users/{id}' }
         [[route]]
         path = '/old'
         redirect = { to = 'https://new.example/', status = 302, drop_query = true }
         [[route]]
         path = '/'
         host = 'plain.example'
         redirect = { https = 'secure.example' }
         [[route]]
         template = '/robots.txt'
         respond = { body = 'Disallow: /', headers = { cache-control = 'max-age=60' } }
         [[route]]
         path = '/closed'
         respond = { status = 410, content_type = 'application/json', body = '{}' }",
    )
    .await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();

    for (host, path, status, location) in [
        ("it", "/people/7?full=1", 308, "/users/7?full=1"),
        ("it", "/old/x?y=1", 302, "https://new.example/"),
        ("plain.example", "/a/b?c=d", 308, "https://secure.example/a/b?c=d"),
    ] {
        let answer = client.get(gateway.url(path)).header("host", host).send().await.unwrap();

        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["location"], location, "{path}");
    }
    let robots = client.get(gateway.url("/robots.txt")).send().await.unwrap();
    assert_eq!(robots.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(robots.headers()["cache-control"], "max-age=60");
    assert_eq!(robots.text().await.unwrap(), "Disallow: /");
    let closed = client.get(gateway.url("/closed/for/good")).send().await.unwrap();
    assert_eq!(
        (closed.status().as_u16(), closed.headers()["content-type"].to_str().unwrap()),
        (410, "application/json")
    );
}

#[tokio::test]
async fn where_only_the_method_is_wrong_the_answer_names_those_that_are_right() {
    let gateway =
        routed("methods", "[[route]]\ntemplate = '/users/{id}'\nmethods = ['GET', 'PUT']\nupstream = 'one'")
            .await;

    let answer = Client::new().delete(gateway.url("/users/7")).send().await.unwrap();

    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "GET, HEAD, PUT");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_prefix_takes_itself_and_all_below_it() {
    let gateway = routed(
        "prefix",
        "[[route]]\npath = '/a'\nupstream = 'one'\n[[route]]\npath = '/a/b'\nupstream = 'two'",
    )
    .await;

    for (path, expected) in [
        ("/a", "one GET /a"),
        ("/a/", "one GET /a/"),
        ("/a/x/y/", "one GET /a/x/y/"),
        ("/a/b", "two GET /a/b"),
        ("/a/b/", "two GET /a/b/"),
        ("/a/bc", "one GET /a/bc"),
    ] {
        assert_eq!(reqwest::get(gateway.url(path)).await.unwrap().text().await.unwrap(), expected);
    }
    assert_eq!(reqwest::get(gateway.url("/ab")).await.unwrap().status(), 404);
}
