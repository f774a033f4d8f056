//! Routes that lead nowhere, upstreams that are down, slow, or talk nonsense.

use axum::{Router, routing::get};
use reqwest::Response;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpSocket};

use crate::support::{Gateway, head_of, raw_upstream, upstream};

async fn problem(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem)
}

#[tokio::test]
async fn no_route_is_a_404_problem() {
    let gateway = Gateway::demo().await;

    for path in ["/", "/nowhere", "/usersfoo", "/Users"] {
        let (status, problem) = problem(reqwest::get(gateway.url(path)).await.unwrap()).await;

        assert_eq!(status, 404, "{path}");
        assert_eq!(problem["detail"], "no route takes this", "{problem}");
    }
}

#[tokio::test]
async fn the_longest_prefix_in_whole_segments_picks_the_upstream() {
    let one = upstream(Router::new().fallback(get(|| async { "one" }))).await;
    let two = upstream(Router::new().fallback(get(|| async { "two" }))).await;
    let config = format!(
        "upstream = [{{ name = 'one', url = 'http://{one}' }}, {{ name = 'two', url = 'http://{two}' }}]
         route = [{{ path = '/', upstream = 'one' }}, {{ path = '/a/b', upstream = 'two' }}]"
    );
    let gateway = Gateway::with("prefixes", &config).await;

    for (path, expected) in
        [("/", "one"), ("/a", "one"), ("/a/bc", "one"), ("/a/b", "two"), ("/a/b/c?x=1", "two")]
    {
        let answer = reqwest::get(gateway.url(path)).await.unwrap().text().await.unwrap();
        assert_eq!(answer, expected, "{path}");
    }
}

#[tokio::test]
async fn a_dead_upstream_is_a_502_problem() {
    let dead = TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gateway = Gateway::in_front_of("dead", dead.local_addr().unwrap(), "").await;

    let (status, _) = problem(reqwest::get(gateway.url("/")).await.unwrap()).await;

    assert_eq!(status, 502);
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense_or_hangs_up_is_a_502_problem() {
    for (name, says) in [("nonsense", "SMTP ready\r\n\r\n"), ("silent", "")] {
        let upstream = raw_upstream(move |mut stream| async move {
            head_of(&mut stream).await;
            let _ = stream.write_all(says.as_bytes()).await;
        })
        .await;
        let gateway = Gateway::in_front_of(name, upstream, "").await;

        let (status, _) = problem(reqwest::get(gateway.url("/")).await.unwrap()).await;

        assert_eq!(status, 502, "{name}");
    }
}

#[tokio::test]
async fn an_upstream_slower_than_its_route_allows_is_a_504_problem() {
    for (name, timeout) in [("slow-head", "head = '100ms'"), ("slow-total", "total = '100ms'")] {
        let never = upstream(Router::new().fallback(get(std::future::pending::<&str>))).await;
        let gateway = Gateway::in_front_of(name, never, &format!("timeout = {{ {timeout} }}")).await;

        let (status, _) = problem(reqwest::get(gateway.url("/")).await.unwrap()).await;

        assert_eq!(status, 504, "{name}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_past_the_idle_time_ends_in_an_error_not_in_a_short_answer() {
    let upstream = raw_upstream(|mut stream| async move {
        head_of(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = Gateway::in_front_of("stall", upstream, "timeout = { idle = '100ms' }").await;

    let answer = reqwest::get(gateway.url("/")).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err());
}

#[tokio::test]
async fn each_fault_of_an_upstream_is_a_line_for_the_operator_with_route_upstream_and_cause() {
    let dead = TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = dead.local_addr().unwrap();
    let never = upstream(Router::new().fallback(get(std::future::pending::<&str>))).await;
    let fine = upstream(Router::new().fallback(get(|| async { "ok" }))).await;
    let config = format!(
        "upstream = [
             {{ name = 'dead', url = 'http://{dead}' }},
             {{ name = 'slow', url = 'http://{never}' }},
             {{ name = 'fine', url = 'http://{fine}' }},
         ]
         route = [
             {{ path = '/d', upstream = 'dead' }},
             {{ path = '/s', upstream = 'slow', timeout = {{ head = '100ms' }} }},
             {{ path = '/f', upstream = 'fine', rate_limit = {{ rate = '1/h' }} }},
         ]"
    );
    let gateway = Gateway::with("log", &config).await;
    for (path, status) in [("/d", 502), ("/s", 504), ("/f", 200), ("/f", 429), ("/none", 404)] {
        assert_eq!(reqwest::get(gateway.url(path)).await.unwrap().status(), status, "{path}");
    }

    gateway.signal("INT");
    let (_, log) = gateway.ended().await;

    let lines: Vec<_> = log.lines().filter(|line| line.starts_with('/')).collect();
    let [of_dead, of_slow] = lines[..] else { panic!("two faults: {log}") };
    assert!(
        of_dead.starts_with(&format!("/d -> dead: 502: cannot connect to the upstream ({dead}): ")),
        "{log}"
    );
    assert!(of_dead.contains("refused"), "{log}");
    assert!(of_slow.starts_with("/s -> slow: timed out"), "{log}");
}
