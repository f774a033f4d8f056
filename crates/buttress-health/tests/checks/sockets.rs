//! Probes of each kind over loopback. Where silence is the subject, a timeout of a few milliseconds is waited for.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::{Endpoint, Endpoints, Health};
use buttress_health::{CheckHandle, Checker, Failure, Finding, HealthCheck, HealthEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::{ms, secs};

/// A server that hands each connection, and its number, to `serve`.
struct Served {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Served {
    async fn by<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number));
            }
        });
        Self { address, connections, task }
    }

    /// Answers each request for a head with `answer`.
    async fn http(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::by(move |mut stream, _| {
            let answer = answer.clone();
            async move { while head(&mut stream).await.is_some() && stream.write_all(&answer).await.is_ok() {} }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads up to the end of a request's head.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// A check at work, and what it finds.
struct Found {
    endpoints: Endpoints,
    handle: CheckHandle,
    findings: UnboundedReceiver<Finding>,
    _guard: buttress_health::CheckGuard,
}

impl Found {
    #[expect(clippy::needless_pass_by_value, reason = "it is an address or a text, where it is made")]
    fn by<P>(check: HealthCheck<P>, address: impl ToString) -> Self {
        let (tell, findings) = unbounded_channel();
        let check = check.initial_jitter(Duration::ZERO).observe(move |event| {
            if let HealthEvent::Probed { finding, .. } = event {
                let _ = tell.send(*finding);
            }
        });
        let endpoints = Endpoints::new([Endpoint::new("a").with_address(address.to_string())]).unwrap();
        let checker: Checker = check.run(&endpoints).unwrap();
        let handle = checker.handle();
        Self { endpoints, handle, findings, _guard: checker.spawn() }
    }

    async fn next(&mut self) -> Finding {
        self.findings.recv().await.expect("the checker runs")
    }

    fn health(&self) -> Health {
        self.endpoints.list()[0].condition().health()
    }
}

/// What one probe finds.
async fn finds<P>(check: HealthCheck<P>, address: impl ToString) -> Finding {
    Found::by(check, address).next().await
}

/// Often, for tests that wait for more than one probe.
fn often<P>(check: HealthCheck<P>) -> HealthCheck<P> {
    check.interval(ms(250)).timeout(ms(250)).fast_interval(ms(1)).down_interval(ms(1), ms(1))
}

/// In a short time, for answers that never come.
fn soon<P>(check: HealthCheck<P>) -> HealthCheck<P> {
    check.timeout(ms(50))
}

const fn fail(failure: Failure) -> Finding {
    Finding::Fail(failure)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn no_more_connections_are_kept_than_probes_may_run_at_a_time() {
    let server = Served::http(OK).await;
    let endpoint = |n| Endpoint::new(format!("n{n}")).with_address(server.address.to_string());
    let list = Endpoints::new((0..8).map(endpoint)).unwrap();
    let check = often(HealthCheck::http("/")).initial_jitter(Duration::ZERO).max_concurrent_probes(2);
    let guard = check.run(&list).unwrap().spawn();

    // Three probes of each.
    while guard.handle().counts().passed < 24 {
        tokio::task::yield_now().await;
    }

    assert!(server.connections() > 16, "two of eight are kept, not all: {}", server.connections());
    assert!(server.connections() < 24, "some are kept: {}", server.connections());
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_host_is_looked_up() {
    let server = Served::http(OK).await;
    let at = |host: &str| format!("{host}:{}", server.address.port());

    assert_eq!(finds(HealthCheck::http("/"), at("localhost")).await, Finding::Pass);
    assert!(matches!(finds(HealthCheck::tcp(), at("nobody.invalid")).await, Finding::Fail(_)));
}

#[tokio::test]
async fn a_page_with_an_expected_status_is_a_pass() {
    let server = Served::http(OK).await;
    assert_eq!(finds(HealthCheck::http("/healthz"), server.address).await, Finding::Pass);

    let teapot = Served::http("HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(finds(HealthCheck::http("/"), teapot.address).await, fail(Failure::Status(418)));
    assert_eq!(finds(HealthCheck::http("/").expected(400..=418), teapot.address).await, Finding::Pass);
    let both = || HealthCheck::http("/").expected(200..=200).expected(418..=418);
    assert_eq!(finds(both(), teapot.address).await, Finding::Pass);
    assert_eq!(finds(both(), server.address).await, Finding::Pass);
}

#[tokio::test]
async fn the_request_is_as_it_was_configured() {
    let (tell, mut told) = unbounded_channel();
    let server = Served::by(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(head(&mut stream).await);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;

    let check =
        HealthCheck::http("/healthz?deep=1").expected(204..=204).head().host("users").header("x-probe", "1");
    assert_eq!(finds(check, server.address).await, Finding::Pass);

    let request = told.recv().await.unwrap().unwrap();
    assert!(request.starts_with("HEAD /healthz?deep=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: users\r\n"), "{request}");
    assert!(request.contains("\r\nx-probe: 1\r\n"), "{request}");
}

#[tokio::test]
async fn an_unexpected_status_decides_at_once_and_a_retriable_one_counts() {
    let server = Served::by(|mut stream, number| async move {
        let answer = if number == 0 { OK } else { "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n" };
        if head(&mut stream).await.is_some() {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;

    let check = || often(HealthCheck::http("/")).reuse_connection(false);
    let mut counts = Found::by(check().retriable(500..=599), server.address);
    while counts.next().await != fail(Failure::Status(503)) {}
    assert_eq!(counts.next().await, fail(Failure::Status(503)));
    assert!(matches!(counts.health(), Health::Healthy | Health::Unhealthy));
    while counts.health() != Health::Unhealthy {
        counts.next().await;
    }
    assert!(counts.handle.get("a").unwrap().failed >= 3);
    drop(counts);

    server.connections.store(0, Ordering::SeqCst);
    let mut at_once = Found::by(check(), server.address);
    assert_eq!(at_once.next().await, Finding::Pass);
    assert_eq!(at_once.next().await, fail(Failure::Status(503)));
    assert_eq!(at_once.health(), Health::Unhealthy);
}

#[tokio::test]
async fn fields_of_the_answer_say_more_than_its_status() {
    let server = Served::http("HTTP/1.1 200 OK\r\nx-envoy-degraded: true\r\ncontent-length: 0\r\n\r\n").await;
    let mut degraded = Found::by(HealthCheck::http("/"), server.address);
    assert_eq!(degraded.next().await, Finding::Degraded);
    assert_eq!(degraded.health(), Health::Degraded);

    let server = Served::http(
        "HTTP/1.1 200 OK\r\nx-envoy-immediate-health-check-fail: true\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::AsksToFail));

    let server = Served::http(
        "HTTP/1.1 200 OK\r\nx-envoy-upstream-healthchecked-cluster: orders-v2\r\nx-app: users\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let named = |name: &str| HealthCheck::http("/").service_name(name);
    assert_eq!(finds(named("orders"), server.address).await, Finding::Pass);
    assert_eq!(finds(named("users"), server.address).await, fail(Failure::WrongService));
    let elsewhere = HealthCheck::http("/").service_name_in("x-app", "users");
    assert_eq!(finds(elsewhere, server.address).await, Finding::Pass);
    let absent = HealthCheck::http("/").service_name_in("x-nothing", "users");
    assert_eq!(finds(absent, server.address).await, fail(Failure::WrongService));
}

#[tokio::test]
async fn a_connection_is_kept_from_one_probe_to_the_next_unless_it_is_not_wanted() {
    let server = Served::http(OK).await;
    let mut kept = Found::by(often(HealthCheck::http("/")), server.address);
    for _ in 0..5 {
        assert_eq!(kept.next().await, Finding::Pass);
    }
    assert_eq!(server.connections(), 1);
    drop(kept);

    let mut fresh = Found::by(often(HealthCheck::http("/")).reuse_connection(false), server.address);
    for _ in 0..5 {
        assert_eq!(fresh.next().await, Finding::Pass);
    }
    assert!(server.connections() > 5, "{}", server.connections());
}

#[tokio::test]
async fn a_kept_connection_that_the_endpoint_has_closed_is_no_failure() {
    // It says that it keeps the connection, and closes it: at once, or when the next request comes.
    for late in [false, true] {
        let server = Served::by(move |mut stream, _| async move {
            head(&mut stream).await;
            let _ = stream.write_all(OK.as_bytes()).await;
            if late {
                head(&mut stream).await;
            }
        })
        .await;

        let mut found = Found::by(often(HealthCheck::http("/")), server.address);
        for _ in 0..5 {
            assert_eq!(found.next().await, Finding::Pass, "late: {late}");
        }
        assert!(server.connections() >= 5);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_found_down_and_found_again() {
    let address = nobody().await;
    let mut found = Found::by(often(HealthCheck::http("/")), address);
    assert_eq!(found.next().await, fail(Failure::Io(std::io::ErrorKind::ConnectionRefused)));
    assert_eq!(found.health(), Health::Unhealthy);

    let listener = TcpListener::bind(address).await.unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while head(&mut stream).await.is_some() && stream.write_all(OK.as_bytes()).await.is_ok() {}
            });
        }
    });
    while found.health() != Health::Healthy {
        found.next().await;
    }
    server.abort();
}

#[tokio::test]
async fn an_address_that_is_none_fails() {
    for address in ["", "no port:", "127.0.0.1:0", "a/b"] {
        assert_eq!(finds(HealthCheck::http("/"), address).await, fail(Failure::Address), "{address}");
        assert_eq!(finds(HealthCheck::tcp(), address).await, fail(Failure::Address), "{address}");
        assert_eq!(finds(HealthCheck::grpc(""), address).await, fail(Failure::Address), "{address}");
    }
}

#[tokio::test]
async fn garbage_fails_every_probe_that_reads() {
    let server = Served::by(|mut stream, _| async move {
        let _ = stream.write_all(b"\x00\x01 what is this?\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;

    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::Garbage));
    assert_eq!(finds(HealthCheck::agent(), server.address).await, fail(Failure::Garbage));
    // It may still come.
    assert_eq!(finds(soon(HealthCheck::tcp().expect("+PONG")), server.address).await, fail(Failure::Timeout));
    assert!(matches!(finds(HealthCheck::grpc(""), server.address).await, Finding::Fail(_)));
}

#[tokio::test]
async fn silence_ends_at_the_timeout() {
    let server = Served::by(|mut stream, _| async move {
        // Reads all, and says nothing.
        while stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {}
    })
    .await;

    assert_eq!(finds(soon(HealthCheck::http("/")), server.address).await, fail(Failure::Timeout));
    assert_eq!(finds(soon(HealthCheck::agent()), server.address).await, fail(Failure::Timeout));
    assert_eq!(finds(soon(HealthCheck::tcp().expect("x")), server.address).await, fail(Failure::Timeout));
    assert_eq!(finds(soon(HealthCheck::grpc("")), server.address).await, fail(Failure::Timeout));
    assert_eq!(finds(soon(HealthCheck::grpc("").watch()), server.address).await, fail(Failure::Timeout));
    assert_eq!(finds(HealthCheck::tcp(), server.address).await, Finding::Pass, "it does listen");
}

#[tokio::test]
async fn one_that_sends_for_ever_is_read_no_further_than_the_bound() {
    async fn endless(first: &'static [u8], part: &'static [u8]) -> (Served, Arc<AtomicUsize>) {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let server = Served::by(move |mut stream, _| {
            let count = count.clone();
            async move {
                let _ = stream.write_all(first).await;
                while stream.write_all(part).await.is_ok() {
                    count.fetch_add(part.len(), Ordering::SeqCst);
                }
            }
        })
        .await;
        (server, sent)
    }

    // A head without an end.
    let (server, _) = endless(b"HTTP/1.1 200 OK\r\n", &[b'x'; 4_096]).await;
    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::Garbage));
    let (server, _) = endless(b"HTTP/1.1 200 OK\r\n", b"field: value\r\n").await;
    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::Garbage));

    // A body without an end: its head is an answer, and no more than the bound is read.
    let (server, sent) = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4_096]).await;
    let mut found = Found::by(often(HealthCheck::http("/")), server.address);
    for _ in 0..3 {
        assert_eq!(found.next().await, Finding::Pass);
    }
    drop(found);
    // Up to the system's buffers, which take some megabytes each.
    assert!(sent.load(Ordering::SeqCst) < 3 * 16 * 1024 * 1024);

    let (server, _) = endless(b"", &[b'x'; 4_096]).await;
    assert_eq!(finds(HealthCheck::tcp().expect("y"), server.address).await, fail(Failure::Unexpected));
    assert_eq!(finds(HealthCheck::agent(), server.address).await, fail(Failure::Garbage));
}

#[tokio::test]
async fn a_body_that_stops_ends_at_the_timeout_unless_the_head_has_failed() {
    let server = Served::http("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    assert_eq!(finds(soon(HealthCheck::http("/")), server.address).await, fail(Failure::Timeout));

    let server = Served::http("HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nhalf").await;
    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::Status(500)));
}

#[tokio::test]
async fn a_connection_that_is_closed_before_the_answer_fails() {
    let server = Served::by(|mut stream, _| async move { drop(head(&mut stream).await) }).await;

    assert_eq!(finds(HealthCheck::http("/"), server.address).await, fail(Failure::Closed));

    let server = Served::by(|stream, _| async move { drop(stream) }).await;
    assert_eq!(finds(HealthCheck::agent(), server.address).await, fail(Failure::Closed));
    assert_eq!(finds(HealthCheck::tcp().expect("x"), server.address).await, fail(Failure::Closed));
}

#[tokio::test]
async fn bytes_are_sent_and_expected() {
    let server = Served::by(|mut stream, _| async move {
        let mut said = [0; 6];
        let _ = stream.read_exact(&mut said).await;
        if &said == b"PING\r\n" {
            // In two parts, with what is expected in both of them.
            let _ = stream.write_all(b"...+PO").await;
            let _ = stream.flush().await;
            tokio::task::yield_now().await;
            let _ = stream.write_all(b"NG\r\n").await;
        }
    })
    .await;

    let redis = || HealthCheck::tcp().send("PING\r\n");
    assert_eq!(finds(redis().expect("+PONG"), server.address).await, Finding::Pass);
    assert_eq!(finds(redis().expect("+PANG"), server.address).await, fail(Failure::Unexpected));
}

#[tokio::test]
async fn a_probe_may_go_to_another_port() {
    let server = Served::http(OK).await;
    let port = NonZeroU16::new(server.address.port()).unwrap();

    assert_eq!(finds(HealthCheck::http("/").port(port), nobody().await).await, Finding::Pass);
    assert_eq!(finds(HealthCheck::tcp().port(port), "127.0.0.1").await, Finding::Pass);
}

#[cfg(unix)]
#[tokio::test]
async fn a_probe_may_go_to_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("buttress-health-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(OK.as_bytes()).await;
    });

    let address = format!("unix:{}", path.display());
    assert_eq!(finds(HealthCheck::http("/"), address).await, Finding::Pass);
    let _ = std::fs::remove_file(&path);
}

#[tokio::test]
async fn an_agent_steers_its_endpoint() {
    let server = Served::by(|mut stream, number| async move {
        let line = ["75%\n", "drain\n", "ready 100%\n", "down#disk full\n"][number.min(3)];
        let _ = stream.write_all(line.as_bytes()).await;
    })
    .await;
    let mut found = Found::by(often(HealthCheck::agent()), server.address);
    let condition = |found: &Found| found.endpoints.list()[0].condition();

    assert_eq!(found.next().await, Finding::Pass);
    assert_eq!(condition(&found).weight_percent(), 75);
    assert_eq!(found.next().await, Finding::Pass);
    assert!(condition(&found).is_draining());
    assert_eq!(found.next().await, Finding::Pass);
    assert!(condition(&found).is_usable());
    assert_eq!(condition(&found).weight_percent(), 100);
    assert_eq!(found.next().await, fail(Failure::Down));
    assert_eq!(condition(&found).health(), Health::Unhealthy);
}

mod grpc {
    use tonic::transport::server::TcpIncoming;
    use tonic_health::ServingStatus;
    use tonic_health::server::HealthReporter;

    use super::*;

    /// A tonic server with its health service.
    async fn tonic_server() -> (SocketAddr, HealthReporter, JoinHandle<()>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(service);
        let task =
            tokio::spawn(
                async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() },
            );
        (address, reporter, task)
    }

    #[tokio::test]
    async fn what_a_server_says_of_a_service_is_asked_for() {
        let (address, reporter, task) = tonic_server().await;
        reporter.set_service_status("orders", ServingStatus::Serving).await;
        reporter.set_service_status("users", ServingStatus::NotServing).await;

        assert_eq!(finds(HealthCheck::grpc(""), address).await, Finding::Pass);
        assert_eq!(finds(HealthCheck::grpc("orders"), address).await, Finding::Pass);
        assert_eq!(finds(HealthCheck::grpc("users"), address).await, fail(Failure::NotServing));
        assert_eq!(finds(HealthCheck::grpc("nobody"), address).await, fail(Failure::Grpc(5)));
        assert_eq!(finds(HealthCheck::grpc("n".repeat(300)), address).await, fail(Failure::Grpc(5)));
        task.abort();
    }

    #[tokio::test]
    async fn a_change_is_found_by_the_next_checks() {
        let (address, reporter, task) = tonic_server().await;
        let mut found = Found::by(often(HealthCheck::grpc("orders")), address);
        reporter.set_service_status("orders", ServingStatus::Serving).await;
        while found.health() != Health::Healthy {
            found.next().await;
        }
        reporter.set_service_status("orders", ServingStatus::NotServing).await;
        while found.health() != Health::Unhealthy {
            found.next().await;
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_watched_server_tells_of_a_change_at_once_and_is_not_probed() {
        let (address, reporter, task) = tonic_server().await;
        reporter.set_service_status("orders", ServingStatus::Serving).await;
        let mut found = Found::by(HealthCheck::grpc("orders").watch().interval(secs(3_600)), address);
        assert_eq!(found.next().await, Finding::Pass);
        assert!(found.handle.get("a").unwrap().watched);

        reporter.set_service_status("orders", ServingStatus::NotServing).await;
        assert_eq!(found.next().await, fail(Failure::NotServing));
        assert_eq!(found.health(), Health::Unhealthy);

        reporter.set_service_status("orders", ServingStatus::Serving).await;
        assert_eq!(found.next().await, Finding::Pass);
        assert_eq!(found.health(), Health::Healthy);
        assert_eq!(found.handle.counts().probes, 1);
        task.abort();
    }

    #[tokio::test]
    async fn a_watched_server_that_lives_is_seen_to_at_each_interval() {
        let (address, _reporter, task) = tonic_server().await;
        let mut found = Found::by(HealthCheck::grpc("").watch().interval(ms(250)).timeout(ms(250)), address);

        for _ in 0..4 {
            assert_eq!(found.next().await, Finding::Pass);
        }

        assert_eq!(found.handle.counts().probes, 1);
        task.abort();
    }

    /// An HTTP/2 server that answers each call as `answer` has it, and then does as it is told.
    async fn h2_server(status: Option<&'static str>, message: &'static [u8], hangs: bool) -> Served {
        Served::by(move |stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut bodies = Vec::new();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut head = http::Response::builder().header("content-type", "application/grpc");
                if let Some(status) = status {
                    head = head.header("grpc-status", status);
                }
                let mut body = respond.send_response(head.body(()).unwrap(), status.is_some()).unwrap();
                if status.is_none() {
                    body.send_data(bytes::Bytes::from_static(message), false).unwrap();
                    bodies.push(body);
                }
                if hangs {
                    // What was written goes out, and nothing is read any more, pings among it.
                    std::future::poll_fn(|cx| {
                        let _ = connection.poll_closed(cx);
                        std::task::Poll::Ready(())
                    })
                    .await;
                    std::future::pending::<()>().await;
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn checks_take_one_connection_unless_it_is_not_wanted() {
        let server = h2_server(None, &[0, 0, 0, 0, 2, 8, 1], false).await;
        let mut kept = Found::by(often(HealthCheck::grpc("")), server.address);
        for _ in 0..5 {
            assert_eq!(kept.next().await, Finding::Pass);
        }
        assert_eq!(server.connections(), 1);
        drop(kept);

        let mut fresh = Found::by(often(HealthCheck::grpc("")).reuse_connection(false), server.address);
        for _ in 0..5 {
            assert_eq!(fresh.next().await, Finding::Pass);
        }
        assert!(server.connections() > 5);
    }

    #[tokio::test]
    async fn a_watched_server_that_hangs_is_found_by_its_silence() {
        let server = h2_server(None, &[0, 0, 0, 0, 2, 8, 1], true).await;
        let check = HealthCheck::grpc("").watch().interval(ms(250)).timeout(ms(250));

        let mut found = Found::by(check, server.address);

        assert_eq!(found.next().await, Finding::Pass);
        assert_eq!(found.next().await, fail(Failure::Timeout));
        assert_eq!(found.next().await, Finding::Pass, "it is asked again, and answers so far");
        assert_eq!(found.handle.counts().probes, 2);
    }

    #[tokio::test]
    async fn a_watched_server_that_ends_is_asked_again() {
        let server = Served::by(|stream, number| async move {
            if number > 0 {
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false).unwrap();
            // Once the answer is written it ends, and says nothing of that.
            std::future::poll_fn(|cx| {
                let _ = connection.poll_closed(cx);
                std::task::Poll::Ready(())
            })
            .await;
        })
        .await;
        let mut found = Found::by(often(HealthCheck::grpc("").watch()), server.address);
        assert_eq!(found.next().await, Finding::Pass);

        while found.health() != Health::Unhealthy {
            assert!(matches!(found.next().await, Finding::Fail(_)));
        }
        assert!(found.handle.counts().probes > 1);
    }

    #[tokio::test]
    async fn where_the_protocol_is_not_implemented_nothing_is_asked_and_the_endpoint_is_healthy() {
        for watches in [false, true] {
            let server = h2_server(Some("12"), &[], false).await;
            let check = often(HealthCheck::grpc("orders"));
            let mut found = Found::by(if watches { check.watch() } else { check }, server.address);

            assert_eq!(found.next().await, Finding::Pass);
            assert_eq!(found.health(), Health::Healthy);
            let view = found.handle.get("a").unwrap();
            assert!(view.left && !view.watched);
            assert_eq!((found.handle.counts().probes, found.handle.counts().running), (1, 0));

            // Until its configuration changes.
            let clock = buttress_core::Clock::default();
            found.endpoints.insert(
                Endpoint::new("a").with_address(server.address.to_string()).with_weight(2),
                clock.now(),
            );
            assert_eq!(found.next().await, Finding::Pass);
            assert_eq!(found.handle.counts().probes, 2);
        }
    }

    #[tokio::test]
    async fn where_the_protocol_is_not_implemented_one_that_flapped_is_asked_until_it_is_healthy() {
        const SERVING: usize = 0;
        const UNAVAILABLE: usize = 14;
        const UNIMPLEMENTED: usize = 12;
        let says = Arc::new(AtomicUsize::new(SERVING));
        let said = says.clone();
        let server = Served::by(move |stream, _| {
            let said = said.clone();
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let code = said.load(Ordering::SeqCst);
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    if code == SERVING {
                        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                        body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), true).unwrap();
                    } else {
                        let head = head.header("grpc-status", code).body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                    }
                }
            }
        })
        .await;
        let mut found = Found::by(often(HealthCheck::grpc("")), server.address);
        for _ in 0..2 {
            for (code, health) in [(SERVING, Health::Healthy), (UNAVAILABLE, Health::Unhealthy)] {
                says.store(code, Ordering::SeqCst);
                while found.health() != health {
                    found.next().await;
                }
            }
        }

        says.store(UNIMPLEMENTED, Ordering::SeqCst);
        while found.health() != Health::Healthy {
            assert!(!found.handle.get("a").unwrap().left, "it is held back, and has to be asked again");
            found.next().await;
        }

        assert!(found.handle.get("a").unwrap().left);
    }

    /// What a watched server tells that serves, so many times over.
    fn serving(times: usize) -> Vec<u8> {
        [0, 0, 0, 0, 2, 8, 1].repeat(times)
    }

    #[tokio::test]
    async fn a_watched_server_that_tells_without_end_leaves_others_their_turn() {
        let server = h2_server(None, serving(2_000).leak(), false).await;
        let list = Endpoints::new([Endpoint::new("a").with_address(server.address.to_string())]).unwrap();
        let check = HealthCheck::grpc("").watch().initial_jitter(Duration::ZERO);
        let mut checker = std::pin::pin!(check.run(&list).unwrap());
        let handle = checker.handle();

        let mut most = 0;
        std::future::poll_fn(|cx| {
            let before = handle.counts().passed;
            assert!(checker.as_mut().poll(cx).is_pending());
            let passed = handle.counts().passed;
            most = most.max(passed - before);
            if passed < 2_000 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;

        assert!(most <= 65, "{most} at a time");
    }

    #[tokio::test]
    async fn a_watched_server_may_tell_of_more_changes_than_fit_into_its_window() {
        let changes = [serving(10_000), vec![0, 0, 0, 0, 2, 8, 2]].concat();
        let server = h2_server(None, changes.leak(), false).await;
        let mut found = Found::by(HealthCheck::grpc("").watch().interval(secs(3_600)), server.address);
        let clock = buttress_core::Clock::default();

        for _ in 0..10_000 {
            tokio::select! {
                finding = found.next() => assert_eq!(finding, Finding::Pass),
                () = clock.sleep(secs(30)) => panic!("it has stalled"),
            }
        }

        assert_eq!(found.next().await, fail(Failure::NotServing));
    }

    #[tokio::test]
    async fn messages_that_are_none_fail() {
        for message in [&[0, 0xff, 0xff, 0xff, 0xff, 8, 1][..], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 8]] {
            let server = h2_server(None, message, false).await;
            assert_eq!(
                finds(HealthCheck::grpc(""), server.address).await,
                fail(Failure::Garbage),
                "{message:?}"
            );
        }
        let server = h2_server(Some("fine"), &[], false).await;
        assert_eq!(finds(HealthCheck::grpc(""), server.address).await, fail(Failure::Grpc(2)));
    }

    #[tokio::test]
    async fn half_a_message_ends_at_the_timeout() {
        let server = h2_server(None, &[0, 0, 0, 0, 9, 8], false).await;

        assert_eq!(finds(soon(HealthCheck::grpc("")), server.address).await, fail(Failure::Timeout));
    }
}

#[cfg(feature = "probe-tls")]
mod tls {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
    use tokio_rustls::rustls::version::TLS13;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

    use super::*;

    fn client(knows_the_authority: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        if knows_the_authority {
            roots.add(CertificateDer::from(&include_bytes!("tls/ca.der")[..])).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        config.with_root_certificates(roots).with_no_client_auth()
    }

    /// A server of one answer that speaks `protocol` alone.
    async fn server(protocol: &'static str) -> Served {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let chain = vec![CertificateDer::from(&include_bytes!("tls/server.der")[..])];
        let key = PrivatePkcs8KeyDer::from(&include_bytes!("tls/server.key.der")[..]);
        let mut config = config.with_no_client_auth().with_single_cert(chain, key.into()).unwrap();
        config.alpn_protocols = vec![protocol.into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Served::by(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
                if protocol == "h2" {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        assert_eq!(request.uri().scheme_str(), Some("https"));
                        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                        body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), true).unwrap();
                    }
                } else {
                    let _ = stream.read(&mut [0; 1_024]).await;
                    let _ = stream.write_all(OK.as_bytes()).await;
                    let _ = stream.flush().await;
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_probe_over_tls_believes_whom_its_configuration_does() {
        let server = server("http/1.1").await;
        let check = || HealthCheck::http("/");

        assert_eq!(finds(check().tls(client(true)), server.address).await, Finding::Pass);
        assert_eq!(finds(check().tls(client(false)), server.address).await, fail(Failure::Tls));
        let named = |name: &'static str| {
            check().tls(client(true)).tls_server_name(ServerName::try_from(name).unwrap())
        };
        assert_eq!(finds(named("users.test"), server.address).await, Finding::Pass);
        assert_eq!(finds(named("orders.test"), server.address).await, fail(Failure::Tls));
        let other = format!("localhost:{}", server.address.port());
        assert_eq!(finds(check().tls(client(true)), other).await, fail(Failure::Tls), "another host");
        assert_eq!(finds(HealthCheck::tcp().tls(client(true)), server.address).await, Finding::Pass);
    }

    #[tokio::test]
    async fn grpc_is_asked_for_over_tls() {
        let server = server("h2").await;

        assert_eq!(finds(HealthCheck::grpc("").tls(client(true)), server.address).await, Finding::Pass);
        assert_eq!(finds(HealthCheck::grpc("").tls(client(false)), server.address).await, fail(Failure::Tls));
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_fails() {
        let plain = Served::http(OK).await;
        assert_eq!(
            finds(soon(HealthCheck::http("/")).tls(client(true)), plain.address).await,
            fail(Failure::Timeout)
        );

        let eager =
            Served::by(|mut stream, _| async move { drop(stream.write_all(OK.as_bytes()).await) }).await;
        assert_eq!(finds(HealthCheck::http("/").tls(client(true)), eager.address).await, fail(Failure::Tls));
    }
}
