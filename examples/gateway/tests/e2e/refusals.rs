//! What each refusal looks like: the table in the README, row by row.

use std::collections::BTreeMap;

use axum::{Router, http::StatusCode, routing::any};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{Gateway, head_of, pause, raw_upstream, soon, upstream};

/// A row of the table: status, type, detail and fields.
type Row = (u16, String, String, Vec<String>);

/// Types of problems are known by these (RFC 9457 and its registry).
const REGISTRY: &str = "https://iana.org/assignments/http-problem-types#";

/// The rows of the table in the README, by what they are about.
fn documented() -> BTreeMap<String, Row> {
    let readme = include_str!("../../README.md");
    let table = readme.split("| what is refused |").nth(1).expect("the table is there");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, status, of, detail, fields] = cells[..] else { panic!("five cells: {row}") };
        let fields = fields.split(", ").filter(|name| !name.is_empty());
        let fields = fields.map(|name| name.trim_matches('`').to_ascii_lowercase()).collect();
        (
            what.to_owned(),
            (status.parse().expect("a status"), of.trim_matches('`').to_owned(), detail.to_owned(), fields),
        )
    })
    .collect()
}

/// The answer to these bytes, up to the end of the connection.
async fn answer(gateway: &Gateway, request: &str) -> Row {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    soon("the answer", stream.read_to_end(&mut text)).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let usual = ["content-type", "content-length", "cache-control", "connection", "date"];
    let mut fields: Vec<_> = lines
        .map(|line| line.split(':').next().unwrap().to_ascii_lowercase())
        .filter(|name| !usual.contains(&name.as_str()))
        .collect();
    fields.sort_unstable();
    assert!(head.contains("application/problem+json"), "{text}");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("a problem: {text}"));
    assert_eq!(body["status"], status, "{text}");
    let of = body["type"].as_str().unwrap_or_default();
    (
        status,
        of.strip_prefix(REGISTRY).unwrap_or(of).to_owned(),
        body["detail"].as_str().unwrap_or_default().to_owned(),
        fields,
    )
}

fn row(what: &str, (status, of, detail, fields): &Row) -> String {
    let fields: Vec<_> = fields.iter().map(|name| format!("`{name}`")).collect();
    format!("| {what} | {status} | `{of}` | {detail} | {} |\n", fields.join(", "))
}

#[tokio::test]
async fn each_refusal_looks_as_the_readme_says() {
    let ok = upstream(Router::new().fallback(any(async || "it"))).await;
    let failing = upstream(Router::new().fallback(any(async || StatusCode::SERVICE_UNAVAILABLE))).await;
    let nothing = TcpSocket::new_v4().unwrap();
    nothing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let down = nothing.local_addr().unwrap();
    let silent = raw_upstream(async |mut stream| {
        head_of(&mut stream).await;
        pause(std::time::Duration::from_secs(60)).await;
    })
    .await;
    let babbling = raw_upstream(async |mut stream| {
        head_of(&mut stream).await;
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
    })
    .await;
    let hasty = raw_upstream(async |mut stream| {
        head_of(&mut stream).await;
    })
    .await;
    let config = format!(
        "header_timeout = '300ms'
         [[upstream]]
         name = 'ok'
         url = 'http://{ok}'
         [[upstream]]
         name = 'down'
         url = 'http://{down}'
         [[upstream]]
         name = 'silent'
         url = 'http://{silent}'
         balance = {{ max_in_flight = 1, fail_fast = '50ms' }}
         [[upstream]]
         name = 'babbling'
         url = 'http://{babbling}'
         [[upstream]]
         name = 'hasty'
         url = 'http://{hasty}'
         [[upstream]]
         name = 'failing'
         url = 'http://{failing}'
         circuit_breaker = {{ consecutive_failures = 1, open = '1h' }}
         [[route]]
         template = '/ok'
         methods = ['GET', 'POST']
         max_body = 4
         upstream = 'ok'
         [[route]]
         path = '/limited'
         rate_limit = {{ rate = '1/h', missing_key = 'deny', key = 'header:x-api-key' }}
         upstream = 'ok'
         [[route]]
         path = '/down'
         upstream = 'down'
         [[route]]
         path = '/silent'
         timeout = {{ head = '100ms' }}
         upstream = 'silent'
         [[route]]
         path = '/busy'
         upstream = 'silent'
         [[route]]
         path = '/upload'
         timeout = {{ idle = '100ms' }}
         upstream = 'silent'
         [[route]]
         path = '/total'
         timeout = {{ total = '100ms' }}
         upstream = 'silent'
         [[route]]
         path = '/babbling'
         upstream = 'babbling'
         [[route]]
         path = '/hasty'
         upstream = 'hasty'
         [[route]]
         path = '/failing'
         upstream = 'failing'
         "
    );
    let gateway = Gateway::with("refusals", &config).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
    let keyed =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: it\r\nx-api-key: k\r\nconnection: close\r\n\r\n");
    let post =
        |path: &str, body: &str| format!("POST {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n{body}");
    for first in [keyed("/limited"), get("/failing")] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        soon("an answer", stream.read_to_end(&mut Vec::new())).await.unwrap();
    }

    let mut rows = documented();
    let mut wrong = String::new();
    for (what, request) in [
        ("no `Host`, or a head that breaks another rule of HTTP", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (
            "a head that is too long",
            format!("GET / HTTP/1.1\r\nhost: it\r\nx: {}\r\n\r\n", "x".repeat(20_000)),
        ),
        ("a head that does not come in time", "GET / HTTP/1.1\r\n".to_owned()),
        ("a path that can be read in two ways", get("/a/../b")),
        ("no route", get("/nowhere")),
        ("no route for the method", get("/ok").replace("GET", "DELETE")),
        ("a body beyond `max_body`, by its length", post("/ok", "content-length: 5\r\n\r\n12345")),
        (
            "a body beyond `max_body`, as it comes",
            post("/ok", "transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"),
        ),
        ("a limit is spent", keyed("/limited")),
        ("a limit's key is missing, with `missing_key = \"deny\"`", get("/limited")),
        ("the circuit breaker is open", get("/failing")),
        ("no connection to the upstream", get("/down")),
        ("the upstream does not speak HTTP", get("/babbling")),
        ("the upstream closes without an answer", get("/hasty")),
        ("`head`: the upstream does not answer in time", get("/silent")),
        ("`total`: the call takes too long", get("/total")),
        ("`idle`: the upload stands still", post("/upload", "content-length: 5\r\n\r\n1")),
    ] {
        let is = answer(&gateway, &request).await;
        let row = row(what, &is);
        if rows.remove(what) != Some(is) {
            wrong += &row;
        }
    }
    let what = "no endpoint can take the call within `fail_fast`";
    let is = soon("room for no other", async {
        let mut held = Vec::new();
        loop {
            // One call is held, and there is room for no other.
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            stream.write_all(get("/busy").as_bytes()).await.unwrap();
            held.push(stream);
            let is = answer(&gateway, &get("/silent")).await;
            if is.0 == 503 {
                break is;
            }
        }
    })
    .await;
    let row = row(what, &is);
    if rows.remove(what) != Some(is) {
        wrong += &row;
    }

    assert!(wrong.is_empty(), "the README says otherwise of\n{wrong}");
    assert!(rows.is_empty(), "not looked at: {:?}", rows.keys());
}
