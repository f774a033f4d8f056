//! What probes are told.

#![cfg(feature = "http")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress_core::Clock;
use buttress_health::{Dependency, HealthEndpoints, Readiness};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt};

type Answer = Response<Full<Bytes>>;

fn readiness() -> Readiness {
    Readiness::new().clock(Clock::tokio())
}

async fn ask(endpoints: &HealthEndpoints, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    endpoints.clone().oneshot(request).await.unwrap()
}

async fn get(readiness: &Readiness, path: &str) -> Answer {
    ask(&HealthEndpoints::new(readiness), Method::GET, path).await
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn json(answer: Answer) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}

fn ok() -> Dependency {
    Dependency::critical("database", || async { Ok::<_, &str>(()) })
}

fn failing() -> Dependency {
    Dependency::critical("database", || async { Err::<(), _>("user root at db.internal") })
}

#[tokio::test(start_paused = true)]
async fn each_page_says_what_its_phase_means() {
    const PATHS: [&str; 5] = ["/livez", "/health", "/startupz", "/readyz", "/ready"];
    let readiness = Readiness::starting().clock(Clock::tokio());
    let all = async || {
        let mut codes = Vec::new();
        for path in PATHS {
            codes.push(get(&readiness, path).await.status().as_u16());
        }
        codes
    };

    assert_eq!(all().await, [200, 200, 503, 503, 503]);
    readiness.started();
    assert_eq!(all().await, [200, 200, 200, 200, 200]);
    readiness.stop();
    assert_eq!(all().await, [200, 200, 200, 503, 503]);
    // There is no way back.
    readiness.started();
    assert_eq!(all().await, [200, 200, 200, 503, 503]);
}

#[tokio::test(start_paused = true)]
async fn only_readiness_looks_at_dependencies() {
    let looked = Arc::new(AtomicUsize::new(0));
    let counted = looked.clone();
    let readiness = readiness().depends_on(Dependency::critical("database", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err::<(), _>("gone") }
    }));

    for path in ["/livez", "/health", "/startupz"] {
        assert_eq!(get(&readiness, path).await.status(), 200);
    }
    assert_eq!(looked.load(Ordering::SeqCst), 0);

    assert_eq!(get(&readiness, "/readyz").await.status(), 503);
    assert_eq!(looked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_body_is_json_with_the_state_of_each_check() {
    let readiness = readiness()
        .depends_on(ok())
        .depends_on(Dependency::optional("search", || async { Err("slow \"disk\"") }));

    let answer = get(&readiness, "/readyz").await;

    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let expected = json!({
        "status": "degraded",
        "phase": "running",
        "checks": {
            "database": { "state": "passing", "critical": true, "age_ms": 0, "took_ms": 0 },
            "search": { "state": "failing", "critical": false, "age_ms": 0, "took_ms": 0 },
        },
    });
    assert_eq!(json(answer).await, expected);
    let alive = json!({ "status": "alive", "phase": "running" });
    assert_eq!(json(get(&readiness, "/livez").await).await, alive);
    let started = json!({ "status": "started", "phase": "running" });
    assert_eq!(json(get(&readiness, "/startupz").await).await, started);
}

#[tokio::test(start_paused = true)]
async fn what_an_error_says_is_told_only_where_that_is_asked_for() {
    let readiness = readiness().depends_on(failing());
    let endpoints = HealthEndpoints::new(&readiness);

    for path in ["/readyz", "/readyz?verbose"] {
        assert!(!text(ask(&endpoints, Method::GET, path).await).await.contains("db.internal"));
        let open = endpoints.clone().with_errors();
        assert!(text(ask(&open, Method::GET, path).await).await.contains("db.internal"));
    }
}

#[tokio::test(start_paused = true)]
async fn verbose_is_a_line_for_each_check() {
    let readiness =
        readiness().depends_on(ok()).depends_on(Dependency::optional("search", || async { Err("slow") }));

    let answer = get(&readiness, "/readyz?verbose").await;

    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        text(answer).await,
        "[+]database ok\n[-]search (optional) failed: reason withheld\n[+]phase ok\nreadyz check passed\n"
    );
    readiness.stop();
    let stopped = text(get(&readiness, "/readyz?pretty&verbose=1").await).await;
    assert!(stopped.ends_with("[-]phase failed: stopping\nreadyz check failed\n"), "{stopped}");
    assert_eq!(text(get(&readiness, "/livez?verbose").await).await, "[+]phase ok\nlivez check passed\n");
}

#[tokio::test(start_paused = true)]
async fn head_gets_the_head_that_get_would_get() {
    let readiness = readiness().depends_on(failing());
    let endpoints = HealthEndpoints::new(&readiness);

    for path in ["/livez", "/readyz", "/startupz"] {
        // Once so that the ages are the same.
        let _ = ask(&endpoints, Method::GET, path).await;
        let of_get = ask(&endpoints, Method::GET, path).await;
        let of_head = ask(&endpoints, Method::HEAD, path).await;

        assert_eq!(of_head.status(), of_get.status());
        assert_eq!(of_head.headers(), of_get.headers());
        let length = text(of_get).await.len();
        assert_eq!(of_head.headers()["content-length"], *length.to_string());
        assert_eq!(text(of_head).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn other_methods_and_other_paths_are_told_so() {
    let endpoints = HealthEndpoints::new(&readiness());

    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
        let answer = ask(&endpoints, method, "/readyz").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
    }
    for path in ["/", "/livez/", "/livezz", "//livez", "/LIVEZ", "/other"] {
        assert_eq!(ask(&endpoints, Method::GET, path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_paths_are_settable() {
    let endpoints = HealthEndpoints::new(&readiness())
        .live_at(["/up"])
        .ready_at(["/internal/ready", "/lb"])
        .startup_at([""; 0]);

    for (path, status) in [
        ("/up", 200),
        ("/lb", 200),
        ("/internal/ready", 200),
        ("/livez", 404),
        ("/readyz", 404),
        ("/startupz", 404),
    ] {
        assert_eq!(ask(&endpoints, Method::GET, path).await.status().as_u16(), status, "{path}");
    }
}

#[test]
#[should_panic(expected = "path `livez`: it must begin with `/`")]
fn what_is_no_path_is_refused() {
    let _ = HealthEndpoints::new(&Readiness::new()).live_at(["livez"]);
}

#[test]
#[should_panic(expected = "path `/readyz` is that of another page")]
fn a_path_of_two_pages_is_refused() {
    let _ = HealthEndpoints::new(&Readiness::new()).live_at(["/readyz"]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_up_leaves_its_check_to_the_next() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let readiness = readiness().depends_on(Dependency::critical("database", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            Clock::tokio().sleep(std::time::Duration::from_millis(500)).await;
            Ok::<_, &str>(())
        }
    }));
    let mut endpoints = HealthEndpoints::new(&readiness);

    for _ in 0..20 {
        drop(endpoints.call(Request::get("/readyz").body(()).unwrap()));
    }

    assert_eq!(get(&readiness, "/readyz").await.status(), 200);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn as_a_layer_it_passes_everything_else_on() {
    let readiness = readiness().depends_on(failing());
    let mut app = ServiceBuilder::new().layer(HealthEndpoints::new(&readiness).layer()).service_fn(
        |request: Request<()>| async move {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(request.uri().path().to_owned())))
        },
    );
    let mut call = async |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        app.ready().await.unwrap().call(request).await.unwrap()
    };

    assert_eq!(call(Method::GET, "/readyz").await.status(), 503);
    assert_eq!(call(Method::GET, "/livez").await.status(), 200);
    assert_eq!(call(Method::POST, "/livez").await.status(), 405);
    assert_eq!(text(call(Method::GET, "/orders").await).await, "/orders");
    assert_eq!(text(call(Method::POST, "/livez/not").await).await, "/livez/not");
}

mod in_axum {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::{any_service, get};

    use super::*;

    async fn codes<const N: usize>(app: &Router, paths: [&str; N]) -> [u16; N] {
        let mut codes = [0; N];
        for (code, path) in codes.iter_mut().zip(paths) {
            let request = Request::get(path).body(Body::empty()).unwrap();
            *code = app.clone().oneshot(request).await.unwrap().status().as_u16();
        }
        codes
    }

    fn app() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_a_fallback() {
        let app = app().fallback_service(HealthEndpoints::new(&readiness()));

        assert_eq!(codes(&app, ["/", "/livez", "/readyz", "/other"]).await, [200, 200, 200, 404]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_nested() {
        let readiness = readiness().depends_on(failing());
        let app = app().nest_service("/internal", HealthEndpoints::new(&readiness));

        let paths = ["/", "/internal/livez", "/internal/readyz", "/internal/other", "/livez"];
        assert_eq!(codes(&app, paths).await, [200, 200, 503, 404, 404]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_merged() {
        let endpoints = HealthEndpoints::new(&readiness());
        let health =
            Router::new().route("/livez", any_service(endpoints.clone())).route_service("/readyz", endpoints);

        assert_eq!(
            codes(&app().merge(health), ["/", "/livez", "/readyz", "/ready"]).await,
            [200, 200, 200, 404]
        );
        let health = Router::new().fallback_service(HealthEndpoints::new(&readiness()));
        assert_eq!(codes(&app().merge(health), ["/", "/livez", "/other"]).await, [200, 200, 404]);
    }
}
