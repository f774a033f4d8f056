//! Paths that could be read in two ways.

use axum::{Router, http::Uri, routing::any};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::support::{Gateway, have, soon, upstream};

/// "/" and "/payments/flaky" without a limit, "/payments" with one; the upstream says the path it got.
async fn routes(name: &str) -> Gateway {
    let service = Router::new().fallback(any(|uri: Uri| async move { uri.path().to_owned() }));
    let upstream = upstream(service).await;
    let config = format!(
        "upstream = [{{ name = 'it', url = 'http://{upstream}' }}]
         route = [
             {{ path = '/', upstream = 'it' }},
             {{ path = '/payments', upstream = 'it', rate_limit = {{ rate = '1/h' }} }},
             {{ path = '/payments/flaky', upstream = 'it' }},
             {{ path = '/caf%C3%A9', upstream = 'it', rate_limit = {{ rate = '1/h' }} }},
         ]"
    );
    Gateway::with(name, &config).await
}

/// The whole answer to a request for `path`, byte by byte as it stands here.
async fn raw(gateway: &Gateway, path: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_path_that_an_upstream_could_read_as_another_is_refused() {
    let gateway = routes("two-readings").await;

    for path in [
        "/payments/flaky/../../payments",
        "/payments/flaky/../",
        "/payments/flaky/..",
        "/./payments",
        "/.",
        "/payments/flaky/%2e%2e",
        "/payments/flaky/.%2E/x",
        "/payments/flaky/%2e%2e%2f%2e%2e%2fpayments",
        "/payments/flaky/..;/..;x=1/payments",
        "/payments/flaky/..%3b/payments",
        "/payments/flaky/..%2Fpayments",
        "/payments/flaky/..%5c..%5Cpayments",
        "/payments/flaky\\..\\..\\payments",
        "//payments",
        "/payments//flaky",
        "/x%2Fpayments",
        "http://it/payments/flaky/../../payments",
    ] {
        let answer = raw(&gateway, path).await;

        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        assert!(
            answer.contains("application/problem+json") && answer.contains("the path has"),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn what_only_looks_like_it_passes_as_it_came() {
    let gateway = routes("one-reading").await;

    for path in
        ["/...", "/.well-known/x", "/a..b/c.", "/..x", "/a%20b", "/100%", "/a;b", "/%zz", "/x?y=../..//%2f"]
    {
        let answer = raw(&gateway, path).await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.ends_with(path.split('?').next().unwrap()), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_encoded_letter_takes_the_route_of_the_letter() {
    let gateway = routes("encoded").await;

    for (path, status) in [
        ("/payments", 200),
        ("/%70ayments", 429),
        ("/payment%73/x", 429),
        ("/payments/%66laky", 200),
        ("/%63af%c3%a9", 200),
        ("/caf%C3%A9/x", 429),
    ] {
        let answer = raw(&gateway, path).await;

        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn curl_with_its_path_as_it_is_gets_the_same_400() {
    if !have("curl") {
        return;
    }
    let gateway = routes("as-is").await;

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = Command::new("curl");
        curl.args(["-si", "--path-as-is", version, &gateway.url("/payments/flaky/../../payments")]);
        let output = soon("curl", curl.kill_on_drop(true).output()).await.unwrap();

        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.lines().next().unwrap().contains(" 400"), "{version}: {text}");
        assert!(text.contains("application/problem+json"), "{version}: {text}");
    }
}
