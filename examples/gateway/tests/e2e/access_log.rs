//! The access log: what a line tells, and that nobody waits for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, config_file, gateway, soon, until, upstream};

/// A file of the test's own, that is not there yet.
fn log_file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A gateway that writes into `file`, in front of `upstream`; `log` and `route` add to these tables.
async fn logging(file: &std::path::Path, upstream: SocketAddr, log: &str, route: &str) -> Gateway {
    let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
    let file = file.display();
    let config = format!(
        "[access_log]\nto = '{file}'\n{log}\n[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n\
         [[route]]\npath = '/it'\nupstream = 'it'\n{route}"
    );
    Gateway::with(&name, &config).await
}

/// The lines, once there are so many.
async fn lines(file: &std::path::Path, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    until("the lines of the log", async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        lines = text.lines().map(str::to_owned).collect();
        text.ends_with('\n') && lines.len() >= count
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

async fn json(file: &std::path::Path, count: usize) -> Vec<Value> {
    lines(file, count).await.iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Sends `request` as it is, and reads the answer to the end of the connection.
async fn raw(gateway: &Gateway, request: &[u8]) -> String {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", client.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_line_tells_what_was_asked_and_what_became_of_it() {
    let service = Router::new().route("/it/{*rest}", post(async |_: Bytes| "hello"));
    let upstream = upstream(service).await;
    let file = log_file("log-line");
    let gateway = logging(&file, upstream, "", "").await;

    let answer = reqwest::Client::new()
        .post(gateway.url("/it/users?token=secret"))
        .header("x-request-id", "not the upstream's")
        .body("12345678")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");

    let line = &json(&file, 1).await[0];
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", &gateway.address.to_string()),
        ("path", "/it/users"),
        ("protocol", "HTTP/1.1"),
        ("route", "/it"),
        ("end", "complete"),
        ("upstream", &upstream.to_string()),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    for (field, value) in [("status", 200), ("bytes_in", 8), ("bytes_out", 5), ("attempts", 1)] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok(), "{line}");
    let (head, total) = (line["head_ms"].as_f64().unwrap(), line["total_ms"].as_f64().unwrap());
    assert!(0.0 < head && head <= total && total < 30_000.0, "{line}");
    assert!(line.get("refused").is_none(), "{line}");
}

#[tokio::test]
async fn a_refusal_says_why_and_a_retry_how_often() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = Router::new().fallback(async move || {
        if calls.fetch_add(1, SeqCst) == 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    });
    let file = log_file("log-refusals");
    let more = "retry = { attempts = 3, backoff = '1ms' }\nrate_limit = { rate = '1/h' }";
    let gateway = logging(&file, upstream(service).await, "", more).await;

    for status in [200, 429] {
        assert_eq!(reqwest::get(gateway.url("/it")).await.unwrap().status(), status);
    }
    assert_eq!(reqwest::get(gateway.url("/nowhere")).await.unwrap().status(), 404);

    let lines = json(&file, 3).await;
    assert_eq!((&lines[0]["status"], &lines[0]["attempts"]), (&200.into(), &2.into()), "{}", lines[0]);
    assert_eq!(lines[1]["refused"], "rate_limited", "{}", lines[1]);
    assert_eq!(lines[1]["attempts"], 0, "{}", lines[1]);
    assert!(lines[2].get("route").is_none(), "{}", lines[2]);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_reason_too() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let file = log_file("log-nobody");
    let gateway = logging(&file, nobody, "", "").await;

    assert_eq!(reqwest::get(gateway.url("/it")).await.unwrap().status(), 502);

    let line = &json(&file, 1).await[0];
    assert_eq!((&line["status"], &line["refused"]), (&502.into(), &"connect".into()), "{line}");
    assert_eq!(line["upstream"], nobody.to_string(), "{line}");
}

/// What a client would have to send to write lines of its own, to end a field, or to steer the terminal that shows them.
const HOSTILE: &str = "/it/x\"}\u{9b}2J,{\"status\":200%0d%0a{\u{202e}=n' status=200";

#[tokio::test]
async fn what_a_client_sends_stays_in_its_field() {
    let service = || async { ([("x-request-id", "1 status=200 \"x\"=\\")], "ok").into_response() };
    for format in ["json", "logfmt"] {
        let file = log_file(&format!("log-hostile-{format}"));
        let format_is = format!("format = '{format}'\nquery = true");
        let gateway = logging(&file, upstream(Router::new().fallback(service)).await, &format_is, "").await;

        let path = HOSTILE.replace(' ', "%20");
        let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
        let answer = raw(&gateway, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let line = lines(&file, 1).await.remove(0);
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        let (sent, id) = if format == "json" {
            let line: Value = serde_json::from_str(&line).expect(&line);
            assert_eq!(line["status"], 200);
            (line["path"].as_str().unwrap().to_owned(), line["request_id"].as_str().unwrap().to_owned())
        } else {
            // The fields as every reader of logfmt finds them: `name=value`, with values in quotes as JSON has them.
            let field = |name: &str| {
                let (_, value) = line.split_once(&format!(" {name}=")).expect(name);
                let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
                values.next().expect("a value").expect(value)
            };
            assert_eq!(line.matches(" status=200 ").count(), 1 + 1, "one is in the id, in quotes: {line}");
            (field("path"), field("request_id"))
        };
        assert_eq!(sent, path, "{line}");
        assert_eq!(id, "1 status=200 \"x\"=\\", "{line}");
    }
}

#[tokio::test]
async fn what_is_refused_before_it_is_a_request_has_a_line_without_a_path() {
    let file = log_file("log-door");
    let gateway = logging(&file, upstream(Router::new()).await, "", "").await;

    let answer = raw(&gateway, b"GET /it HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");

    let line = &json(&file, 1).await[0];
    assert_eq!((&line["status"], &line["client"]), (&400.into(), &"127.0.0.1".into()), "{line}");
    assert!(line["refused"].is_string() && line.get("path").is_none(), "{line}");
}

#[tokio::test]
async fn a_client_that_goes_away_has_a_line_too() {
    let endless = || async {
        Body::from_stream(futures_util::stream::repeat(Ok::<_, Infallible>(Bytes::from_static(&[0; 1024]))))
    };
    let file = log_file("log-aborted");
    let gateway = logging(&file, upstream(Router::new().fallback(get(endless))).await, "", "").await;
    let mut answer = reqwest::get(gateway.url("/it")).await.unwrap();
    answer.chunk().await.unwrap().unwrap();

    drop(answer);

    let line = &json(&file, 1).await[0];
    assert_eq!((&line["status"], &line["end"]), (&200.into(), &"aborted".into()), "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() >= 1024, "{line}");
}

#[tokio::test]
async fn what_is_in_the_queue_when_the_gateway_ends_is_written() {
    let file = log_file("log-end");
    let gateway = logging(&file, upstream(Router::new().fallback(|| async { "ok" })).await, "", "").await;
    for _ in 0..20 {
        assert_eq!(reqwest::get(gateway.url("/it")).await.unwrap().status(), 200);
    }

    gateway.signal("TERM");

    assert_eq!(gateway.ended().await.0.code(), Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 20, "{text}");
}

#[tokio::test]
async fn a_reader_that_has_stopped_holds_no_request_up_and_what_is_lost_is_counted() {
    let upstream = upstream(Router::new().fallback(|| async { "ok" })).await;
    let config = format!(
        "admin = {{ listen = '127.0.0.1:0' }}\naccess_log = {{ to = 'stdout', queue = 16 }}\n\
         [[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n[[route]]\npath = '/'\nupstream = 'it'\n"
    );
    // Nobody reads its standard output after the welcome: the pipe fills up, and the writer stands still.
    let gateway = Gateway::with("log-deaf", &config).await;
    let client = reqwest::Client::new();
    let long = format!("/{}", "x".repeat(2_000));

    for _ in 0..400 {
        let answer = soon("an answer", client.get(gateway.url(&long)).send()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ok");
    }

    let page = client.get(gateway.admin_url("/metrics")).send().await.unwrap().text().await.unwrap();
    let lost = page.lines().find_map(|line| line.strip_prefix("gateway_access_log_lost_total "));
    assert!(lost.expect(&page).parse::<u64>().unwrap() > 0, "{page}");
}

/// What follows `gateway_`.
async fn metric(gateway: &Gateway, series: &str) -> String {
    let page = reqwest::get(gateway.admin_url("/metrics")).await.unwrap().text().await.unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("gateway_{series} ")));
    value.unwrap_or_else(|| panic!("{series} in {page}")).to_owned()
}

#[tokio::test]
async fn after_a_hang_up_a_file_that_was_moved_away_gets_no_more_lines() {
    let file = log_file("log-rotated");
    let mut gateway = logging(&file, upstream(Router::new().fallback(|| async { "ok" })).await, "", "").await;
    reqwest::get(gateway.url("/it/old")).await.unwrap();
    assert_eq!(json(&file, 1).await[0]["path"], "/it/old");

    let old = file.with_extension("old");
    std::fs::rename(&file, &old).unwrap();
    reqwest::get(gateway.url("/it/between")).await.unwrap();
    gateway.signal("HUP");
    gateway.says("in force").await;
    until("the new file", async || file.exists()).await;
    reqwest::get(gateway.url("/it/new")).await.unwrap();

    assert_eq!(json(&file, 1).await[0]["path"], "/it/new");
    assert_eq!(json(&old, 2).await[1]["path"], "/it/between");
}

#[tokio::test]
async fn a_reload_begins_a_log_and_one_that_cannot_be_written_changes_nothing() {
    let (name, file) = ("log-reload", log_file("log-reload"));
    let upstream = upstream(Router::new().fallback(|| async { "ok" })).await;
    let config = format!(
        "admin = {{ listen = '127.0.0.1:0' }}\n[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n\
         [[route]]\npath = '/'\nupstream = 'it'\n"
    );
    let log = |file: &std::path::Path| format!("[access_log]\nto = '{}'\n", file.display());
    let mut gateway = Gateway::with(name, &config).await;
    reqwest::get(gateway.url("/before")).await.unwrap();

    config_file(name, &(config.clone() + &log(&file)));
    gateway.signal("HUP");
    gateway.says("in force").await;
    reqwest::get(gateway.url("/logged")).await.unwrap();
    assert_eq!(json(&file, 1).await[0]["path"], "/logged");
    gateway.forget();
    let nowhere = file.with_extension("nowhere").join("log");
    config_file(name, &(config.clone() + &log(&nowhere)));
    gateway.signal("HUP");

    gateway.says(&format!("cannot open {}", nowhere.display())).await;
    gateway.says("the configuration stays as it was").await;
    reqwest::get(gateway.url("/logged/on")).await.unwrap();
    assert_eq!(json(&file, 2).await[1]["path"], "/logged/on");
    assert_eq!(metric(&gateway, "config_reloads_total{result=\"taken\"}").await, "1");
    assert_eq!(metric(&gateway, "config_reloads_total{result=\"refused\"}").await, "1");
    assert_eq!(metric(&gateway, "config_last_reload_successful").await, "0");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_the_start() {
    let nowhere = log_file("log-nowhere").join("log");
    let config = format!(
        "access_log = {{ to = '{}' }}\nroute = [{{ path = '/', respond = {{}} }}]",
        nowhere.display()
    );
    let path = config_file("log-nowhere", &config);

    let output = soon("the end", gateway(["--config".as_ref(), path.as_os_str()]).output()).await.unwrap();

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("access log: cannot open ") && errors.contains("log-nowhere"), "{errors}");
}
