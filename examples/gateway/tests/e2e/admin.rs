//! The port for operators.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use axum::{Router, http::StatusCode, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
};

use crate::support::{Gateway, config_file, soon, until, upstream};

/// A gateway with an admin port and one route to `upstream`; `at_upstream` and `at_route` add to these tables.
async fn with_admin(name: &str, upstream: SocketAddr, at_upstream: &str, at_route: &str) -> Gateway {
    let config = format!(
        "admin = {{ listen = '127.0.0.1:0' }}\n[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n{at_upstream}\n\
         [[route]]\npath = '/it'\nupstream = 'it'\n{at_route}"
    );
    Gateway::with(name, &config).await
}

async fn page(gateway: &Gateway) -> String {
    let answer = soon("the page", reqwest::get(gateway.admin_url("/metrics"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    answer.text().await.unwrap()
}

/// All values of the page by their series.
async fn series(gateway: &Gateway) -> HashMap<String, f64> {
    let page = page(gateway).await;
    assert!(page.ends_with("# EOF\n"), "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect(line);
            (series.to_owned(), value.parse().expect(line))
        })
        .collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_class_and_never_by_path() {
    let service = Router::new().fallback(async |request: axum::extract::Request| {
        if request.uri().path().ends_with("lost") { StatusCode::GONE } else { StatusCode::OK }
    });
    let gateway = with_admin("metrics", upstream(service).await, "", "").await;
    reqwest::get(gateway.url("/it/first")).await.unwrap();
    let before = series(&gateway).await.len();

    for number in 0..20 {
        assert_eq!(reqwest::get(gateway.url(&format!("/it/{number}"))).await.unwrap().status(), 200);
        assert_eq!(reqwest::get(gateway.url(&format!("/{number}"))).await.unwrap().status(), 404);
    }
    assert_eq!(reqwest::get(gateway.url("/it/lost")).await.unwrap().status(), 410);

    let series = series(&gateway).await;
    for (name, value) in [
        ("gateway_requests_total{route=\"/it\",status=\"2xx\"}", 21.0),
        ("gateway_requests_total{route=\"/it\",status=\"4xx\"}", 1.0),
        ("gateway_requests_total{route=\"\",status=\"4xx\"}", 20.0),
        ("gateway_requests_in_flight{route=\"/it\"}", 0.0),
        ("gateway_request_duration_seconds_count{route=\"/it\"}", 22.0),
        ("gateway_request_duration_seconds_bucket{le=\"+Inf\",route=\"/it\"}", 22.0),
        ("gateway_head_seconds_count{route=\"/it\"}", 22.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in {series:#?}");
    }
    assert_eq!(series.len(), before, "no series more, whatever clients ask for");
}

#[tokio::test]
async fn what_layers_do_is_there_too() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let service = Router::new().fallback(async move || {
        if failing.load(SeqCst) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
    });
    let address = upstream(service).await;
    let breaker = "circuit_breaker = { consecutive_failures = 3, minimum_calls = 1000, open = '1m' }";
    let more = "retry = { attempts = 2, backoff = '1ms', min_per_second = 1, budget = 0.01 }\nrate_limit = { rate = '6/h' }";
    let gateway = with_admin("metrics-layers", address, breaker, more).await;

    let mut statuses = Vec::new();
    for number in 0..8 {
        fails.store(number > 0, SeqCst);
        statuses.push(reqwest::get(gateway.url("/it")).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 500, 503, 503, 503, 503, 429, 429], "what the numbers below are of");

    let series = series(&gateway).await;
    let of = |name: &str, labels: &str| {
        let labels = labels.replace("AT", &format!("endpoint=\"{address}\""));
        *series.get(&format!("gateway_{name}{{{labels}}}")).unwrap_or_else(|| panic!("{name} in {series:#?}"))
    };
    assert_eq!(of("rate_limit_calls_total", "route=\"/it\",decision=\"allowed\""), 6.0);
    assert_eq!(of("rate_limit_calls_total", "route=\"/it\",decision=\"refused\""), 2.0);
    assert_eq!(of("refusals_total", "route=\"/it\",reason=\"rate_limited\""), 2.0);
    assert_eq!(of("refusals_total", "route=\"/it\",reason=\"circuit_open\""), 4.0);
    assert!(of("retries_total", "route=\"/it\"") >= 1.0);
    assert!(of("retry_budget_left", "route=\"/it\"") >= 0.0);
    assert_eq!(of("breaker_state", "upstream=\"it\",AT,state=\"open\""), 1.0);
    assert_eq!(of("breaker_state", "upstream=\"it\",AT,state=\"closed\""), 0.0);
    assert_eq!(of("breaker_transitions_total", "upstream=\"it\",AT,from=\"closed\",to=\"open\""), 1.0);
    assert!(of("breaker_refused_total", "upstream=\"it\",AT") >= 3.0);
    assert_eq!(of("endpoint_in_flight", "upstream=\"it\",AT"), 0.0);
    assert_eq!(of("endpoint_usable", "upstream=\"it\",AT"), 1.0);
    assert_eq!(of("endpoint_health", "upstream=\"it\",AT,health=\"unknown\""), 1.0);
}

#[tokio::test]
async fn an_ejected_endpoint_shows() {
    let service = Router::new().fallback(|| async { StatusCode::INTERNAL_SERVER_ERROR });
    let (bad, good) = (upstream(service).await, upstream(Router::new().fallback(|| async { "ok" })).await);
    let config = format!(
        "admin = {{ listen = '127.0.0.1:0' }}\n[[upstream]]\nname = 'it'\nendpoint = [{{ url = 'http://{bad}' }}, {{ url = 'http://{good}' }}]\n\
         balance = {{ policy = 'round_robin' }}\noutlier = {{ consecutive_5xx = 2, base_ejection_time = '1h' }}\n\
         [[route]]\npath = '/'\nupstream = 'it'\n"
    );
    let gateway = Gateway::with("metrics-ejected", &config).await;

    for _ in 0..10 {
        reqwest::get(gateway.url("/")).await.unwrap();
    }

    let series = series(&gateway).await;
    let of = |name: &str, at| series[&format!("gateway_{name}{{upstream=\"it\",endpoint=\"{at}\"}}")];
    assert_eq!((of("endpoint_ejected", bad), of("endpoint_usable", bad)), (1.0, 0.0));
    assert_eq!((of("endpoint_ejected", good), of("endpoint_usable", good)), (0.0, 1.0));
    assert_eq!(of("endpoint_ejections_total", bad), 1.0);
}

#[tokio::test]
async fn a_request_under_way_is_in_flight_and_the_drain_makes_it_not_ready() {
    let (arrived, mut has_arrived) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let service = Router::new().fallback(get(async move || {
        arrived.send(()).expect("the test waits");
        held.notified().await;
        "finished"
    }));
    let gateway = with_admin("readiness", upstream(service).await, "", "").await;
    let status = async |path: &str| reqwest::get(gateway.admin_url(path)).await.unwrap().status().as_u16();
    assert_eq!([status("/livez").await, status("/readyz").await, status("/startupz").await], [200; 3]);

    let request = tokio::spawn(reqwest::get(gateway.url("/it")));
    soon("the request at the upstream", has_arrived.recv()).await.unwrap();
    let in_flight = series(&gateway).await["gateway_requests_in_flight{route=\"/it\"}"];
    assert_eq!(in_flight, 1.0);
    gateway.signal("TERM");

    until("not ready", async || status("/readyz").await == 503).await;
    assert_eq!([status("/livez").await, status("/startupz").await], [200; 2], "it lives, and has started");
    assert!(page(&gateway).await.contains("gateway_requests_in_flight{route=\"/it\"} 1\n"));
    release.notify_one();
    assert_eq!(soon("the answer", request).await.unwrap().unwrap().text().await.unwrap(), "finished");
    assert_eq!(gateway.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn connections_and_what_is_refused_at_the_door_are_counted() {
    let gateway = with_admin("metrics-door", upstream(Router::new()).await, "", "").await;
    let one = TcpStream::connect(gateway.address).await.unwrap();
    let mut other = TcpStream::connect(gateway.address).await.unwrap();
    until("two open", async || series(&gateway).await["gateway_connections"] == 2.0).await;

    other.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the refusal", other.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    drop((one, other));

    until("none open", async || series(&gateway).await["gateway_connections"] == 0.0).await;
    let series = series(&gateway).await;
    assert_eq!(series["gateway_connections_opened_total"], 2.0);
    let refused = series.iter().filter(|(name, _)| name.starts_with("gateway_bad_requests_total{rule="));
    assert_eq!(refused.map(|(_, count)| count).sum::<f64>(), 1.0, "{series:#?}");
}

#[tokio::test]
async fn clients_cannot_reach_it_and_other_pages_and_methods_are_refused() {
    let gateway = with_admin("admin-only", upstream(Router::new()).await, "", "").await;
    let client = reqwest::Client::new();

    for path in ["/metrics", "/readyz", "/livez"] {
        assert_eq!(reqwest::get(gateway.url(path)).await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(reqwest::get(gateway.admin_url("/it")).await.unwrap().status(), 404);
    let posted = client.post(gateway.admin_url("/metrics")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), &posted.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    let head = client.head(gateway.admin_url("/metrics")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.bytes().await.unwrap(), "");
}

#[tokio::test]
async fn what_a_reload_takes_away_is_counted_no_more() {
    let name = "metrics-of-what-is-gone";
    let upstream = upstream(Router::new()).await;
    let config = format!(
        "admin = {{ listen = '127.0.0.1:0' }}\n[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n\
         [[route]]\npath = '/it'\nupstream = 'it'\n"
    );
    let limited = format!("{config}rate_limit = {{ rate = '100/s' }}\nretry = {{ attempts = 2 }}\n");
    let mut gateway = Gateway::with(name, &limited).await;
    let kinds = ["gateway_rate_limit_keys{", "gateway_retries_total{"];
    let has = async |gateway: &Gateway| {
        let series = series(gateway).await;
        kinds.map(|kind| series.keys().any(|name| name.starts_with(kind)))
    };
    assert_eq!(has(&gateway).await, [true, true]);

    config_file(name, &config);
    gateway.signal("HUP");
    gateway.says("in force").await;

    assert_eq!(has(&gateway).await, [false, false]);
}
