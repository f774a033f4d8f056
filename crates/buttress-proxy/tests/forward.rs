//! The forward proxy behind the server, asked by `curl -x` and byte by byte.

#![cfg(all(feature = "forward", feature = "server"))]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_http::answer::AnswerErrorsLayer;
use buttress_proxy::forward::Forward;
use buttress_proxy::server::{Body, Server};
use buttress_proxy::{Error, ErrorKind};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::{Layer, ServiceExt};

const LOCAL: [&str; 1] = ["127.0.0.0/8"];

/// A proxy that serves.
struct Front {
    address: SocketAddr,
    forward: Forward<Body>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn start(forward: Forward<Body>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::bind("127.0.0.1:0").await.unwrap().shutdown(async move {
            if stopped.await.is_err() {
                std::future::pending().await
            }
        });
        let address = server.addresses().next().unwrap();
        let service = AnswerErrorsLayer::new().describe(Error::problem).layer(forward.clone());
        let task = tokio::spawn(async move { drop(server.serve(service).await) });
        Self { address, forward, stop: Some(stop), task }
    }

    /// What `curl` prints, its exit code among it; `None` where there is no curl.
    async fn curl(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--noproxy", "", "--max-time", "20", "--proxy"]);
        command.arg(format!("http://{}", self.address)).args(arguments);
        let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        match ran {
            Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                assert!(std::env::var_os("BUTTRESS_REQUIRE_SERVICES").is_none(), "curl is not installed");
                eprintln!("skipped: curl is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The head of what the proxy answers to these bytes, and the connection.
    async fn ask(&self, head: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(answer).unwrap(), stream)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy that may reach this machine, at any port.
fn local<B>() -> Forward<B> {
    Forward::new().any_port().allow_networks(LOCAL)
}

/// A server that answers each request with its own head.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(reflect(stream));
        }
    });
    address
}

async fn reflect(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(&std::mem::take(&mut head)).await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

/// A server that sends back what comes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
                let _ = writes.shutdown().await;
            });
        }
    });
    address
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_an_http_target_in_origin_form_and_keeps_what_is_its_own_connections() {
    let (front, target) = (Front::start(local()).await, mirror().await);

    let url = format!("http://{target}/a/../b?c");
    let arguments =
        ["--path-as-is", "--header", "Proxy-Authorization: Basic eDp5", "--write-out", "%{http_code}", &url];
    let Some(said) = front.curl(&arguments).await else { return };

    assert!(said.starts_with("GET /a/../b?c HTTP/1.1\r\n"), "{said}");
    assert!(said.ends_with("\r\n\r\n200"), "{said}");
    let fields = said.to_ascii_lowercase();
    assert!(fields.contains(&format!("\r\nhost: {target}\r\n")), "{said}");
    assert!(fields.contains("\r\nvia: 1.1 buttress\r\n"), "{said}");
    assert!(!fields.contains("\r\nproxy-"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_an_https_target_through_connect_with_the_targets_own_certificate() {
    let front = Front::start(local()).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = std::env::temp_dir().join(format!("buttress-forward-{}.pem", std::process::id()));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(reflect(stream));
            }
        }
    });

    let url = format!("https://localhost:{}/secret", target.port());
    let trust = certificate.to_str().unwrap();
    let arguments = ["--cacert", trust, "--write-out", "%{http_connect} %{http_code}", &url];
    let said = front.curl(&arguments).await;
    std::fs::remove_file(&certificate).unwrap();
    let Some(said) = said else { return };

    assert!(said.starts_with("GET /secret HTTP/1.1\r\n"), "{said}");
    assert!(said.ends_with("200 200"), "{said}");
    assert!(!said.to_ascii_lowercase().contains("\r\nvia:"), "nobody reads what is in the tunnel: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_asked_who_it_is_and_served_when_it_says_so() {
    let front = Front::start(local().credentials([("ada", "lovelace"), ("grace", "a:b")])).await;
    let target = mirror().await;
    let url = format!("http://{target}/");
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];

    for (user, answer) in [
        (&[][..], "407"),
        (&["--proxy-user", "ada:lovelace"], "200"),
        (&["--proxy-user", "grace:a:b"], "200"),
        (&["--proxy-user", "ada:Lovelace"], "407"),
        (&["--proxy-user", "ada:lovelac"], "407"),
        (&["--header", "Proxy-Authorization: Bearer YWRhOmxvdmVsYWNl"], "407"),
    ] {
        let arguments = [&code[..], user, &[&url]].concat();
        let Some(said) = front.curl(&arguments).await else { return };
        assert_eq!(said, answer, "{user:?}");
    }
    let refused = ["--output", "/dev/null", "--write-out", "%{http_connect}", "https://127.0.0.1:1/"];
    assert_eq!(front.curl(&refused).await.unwrap(), "407");
    let shown = front.curl(&["--proxy-user", "ada:lovelace", &url]).await.unwrap();
    assert!(!shown.to_ascii_lowercase().contains("proxy-authorization"), "{shown}");
}

#[tokio::test]
async fn a_407_says_what_is_asked_for_and_two_answers_are_none() {
    let front = Front::start(local().credentials([("ada", "lovelace")])).await;
    let target = mirror().await;

    let (head, _) = front.ask(&format!("GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 407 "), "{head}");
    assert!(head.contains("\r\nproxy-authenticate: Basic realm=\"proxy\"\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");

    let field = "Proxy-Authorization: Basic YWRhOmxvdmVsYWNl\r\n";
    let twice = format!("GET http://{target}/ HTTP/1.1\r\nHost: x\r\n{field}{field}\r\n");
    assert!(front.ask(&twice).await.0.starts_with("HTTP/1.1 407 "));
    let lower = format!(
        "GET http://{target}/ HTTP/1.1\r\nHost: x\r\nproxy-authorization: basic  YWRhOmxvdmVsYWNl\r\n\r\n"
    );
    assert!(front.ask(&lower).await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_closure_may_say_who_is_served() {
    let allow = |field: Option<&http::HeaderValue>| field.is_some_and(|value| value == "Bearer sesame");
    let front = Front::start(local().authorize(allow).challenge("Bearer")).await;
    let target = mirror().await;

    let (head, _) = front.ask(&format!("GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(head.contains("\r\nproxy-authenticate: Bearer\r\n"), "{head}");
    let known =
        format!("GET http://{target}/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer sesame\r\n\r\n");
    assert!(front.ask(&known).await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_refused_what_is_not_public_with_a_problem_that_says_so() {
    let front = Front::start(Forward::new().any_port()).await;
    let target = mirror().await;

    for host in ["127.0.0.1", "localhost", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/", target.port());
        let Some(said) = front.curl(&["--write-out", " %{http_code} %{content_type}", &url]).await else {
            return;
        };
        assert!(said.contains("the target's address is not allowed"), "{host}: {said}");
        assert!(said.ends_with(" 403 application/problem+json"), "{host}: {said}");

        let url = format!("https://{host}:{}/", target.port());
        let said = front.curl(&["--write-out", "%{http_connect}", &url]).await.unwrap();
        assert_eq!(said, "403", "{host}");
    }
    let metadata =
        front.curl(&["--write-out", " %{http_code}", "http://169.254.169.254/latest/"]).await.unwrap();
    assert!(metadata.ends_with(" 403"), "{metadata}");
}

#[tokio::test]
async fn hosts_and_ports_are_refused_before_anything_is_looked_up() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let forward = Forward::new()
        .allow_networks(LOCAL)
        .allow_hosts(["good.example", "*.good.example"])
        .deny_hosts(["bad.good.example"])
        .look_up(move |host| {
            seen.lock().unwrap().push(host);
            async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) }
        });
    let front = Front::start(forward).await;
    let status = async |target: &str| {
        let (head, _) = front.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };

    for target in [
        "good.example:25",
        "good.example:444",
        "other.example:443",
        "notgood.example:443",
        "good.example.evil:443",
        "bad.good.example:443",
        "BAD.good.example.:443",
        "127.0.0.1:443",
    ] {
        assert_eq!(status(target).await, "403", "{target}");
    }
    // A resolver would find it by the name with one dot less.
    assert_eq!(status("bad.good.example..:443").await, "400");
    assert!(asked.lock().unwrap().is_empty());
    // Nobody listens there, but it was dialled.
    for target in ["good.example:443", "Good.Example.:443", "a.good.example:443"] {
        assert_eq!(status(target).await, "502", "{target}");
    }
    assert_eq!(*asked.lock().unwrap(), ["good.example", "good.example", "a.good.example"]);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_checked_is_what_is_dialled() {
    let (inner, target) = (mirror().await, mirror().await);
    assert_ne!(inner.port(), target.port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let forward = Forward::new().any_port().allow_networks(["127.0.0.2/32"]).look_up(move |_| {
        // The name of somebody who rebinds it: an address that may be reached for the check, another one after it.
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(vec![if number == 0 { [127, 0, 0, 2].into() } else { IpAddr::from([127, 0, 0, 1]) }]) }
    });
    let front = Front::start(forward).await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ask = format!("CONNECT rebound.example:{port} HTTP/1.1\r\nHost: rebound.example\r\n\r\n");

    let (head, _tunnel) = front.ask(&ask).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (reached, _) = listener.accept().await.unwrap();
    assert_eq!(reached.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 2]));
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let (head, _) = front.ask(&ask).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[tokio::test]
async fn of_several_addresses_those_that_are_not_allowed_are_never_dialled() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let good = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let forward = Forward::new()
        .any_port()
        .allow_networks(LOCAL)
        .deny_networks(["127.0.0.1/32"])
        .look_up(|_| async { Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])]) });
    let front = Front::start(forward).await;

    let (head, _tunnel) =
        front.ask(&format!("CONNECT mixed.example:{port} HTTP/1.1\r\nHost: mixed.example\r\n\r\n")).await;

    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    good.accept().await.unwrap();
    let mut nobody = std::pin::pin!(trap.accept());
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(nobody.as_mut().poll(cx).is_pending())).await);
}

#[tokio::test]
async fn a_denied_network_is_denied_behind_nat64_and_6to4_too() {
    let forward = Forward::new().deny_networks(["9.9.9.0/24"]);
    for host in ["9.9.9.9", "[64:ff9b::9.9.9.9]", "[2002:909:909::1]", "[::ffff:9.9.9.9]"] {
        let request = Request::get(format!("http://{host}/")).body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = forward.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{host}");
    }
}

#[tokio::test]
async fn what_was_sent_ahead_goes_into_the_tunnel_and_each_side_ends_for_itself() {
    let (front, target) = (Front::start(local()).await, echo().await);

    let (head, mut tunnel) =
        front.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nahead ")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("content-length"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(front.forward.tunnels(), 1);
    tunnel.write_all(b"and after").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut said = String::new();
    tunnel.read_to_string(&mut said).await.unwrap();

    assert_eq!(said, "ahead and after");
    while front.forward.tunnels() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_its_place_is_free_again() {
    let time = ManualClock::new();
    let forward = local().clock(time.clock()).idle_timeout(Duration::from_secs(60)).max_tunnels(1);
    let (front, target) = (Front::start(forward).await, echo().await);
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let (_, mut tunnel) = front.ask(&ask).await;
    tunnel.write_all(b"x").await.unwrap();
    tunnel.read_u8().await.unwrap();

    let (full, _) = front.ask(&ask).await;
    assert!(full.starts_with("HTTP/1.1 503 "), "{full}");
    settle().await;
    time.advance(Duration::from_secs(60));
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);

    while front.forward.tunnels() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(front.ask(&ask).await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_tunnel_outlives_the_beginning_of_a_drain_by_the_grace() {
    let time = ManualClock::new();
    let forward = local().clock(time.clock()).grace(Duration::from_secs(5));
    let (mut front, target) = (Front::start(forward).await, echo().await);
    let (_, mut tunnel) = front.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;

    front.stop.take().unwrap().send(()).unwrap();
    while TcpStream::connect(front.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    tunnel.write_all(b"still here").await.unwrap();
    let mut said = [0; 10];
    tunnel.read_exact(&mut said).await.unwrap();
    settle().await;
    time.advance(Duration::from_secs(5));

    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_or_found_is_an_error_of_which_nothing_was_sent() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let unknown = local().look_up(|_| async { Ok(Vec::new()) });
    for (forward, target) in [(local(), nobody.to_string()), (unknown, "unknown.example:443".to_owned())] {
        for request in [Request::get(format!("http://{target}/")), Request::connect(&target)] {
            let mut request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            let upgrade = hyper::upgrade::on(&mut request);
            request.extensions_mut().insert(upgrade);
            let error = forward.clone().oneshot(request).await.unwrap_err();
            assert_eq!((error.kind(), error.nothing_sent()), (ErrorKind::Connect, true), "{target}");
        }
    }
}

#[tokio::test]
async fn loops_end() {
    let front = Front::start(local()).await;
    let target = mirror().await;

    // A proxy that is asked for itself finds no target in what it sends on.
    let (head, _) = front.ask(&format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", front.address)).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");

    let via = "Via: 1.1 buttress\r\n".repeat(8);
    for ask in [format!("GET http://{target}/"), format!("CONNECT {target}")] {
        let (head, _) = front.ask(&format!("{ask} HTTP/1.1\r\nHost: x\r\n{via}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 508 "), "{ask}: {head}");
    }
}

#[tokio::test]
async fn what_names_no_target_is_a_400_that_says_what_to_write() {
    let front = Front::start(local()).await;
    for ask in ["GET / HTTP/1.1", "GET https://shop.example/ HTTP/1.1"] {
        let (head, mut stream) =
            front.ask(&format!("{ask}\r\nHost: shop.example\r\nConnection: close\r\n\r\n")).await;
        let mut body = String::new();
        stream.read_to_string(&mut body).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(body.contains("http://host/"), "{body}");
    }
}

#[tokio::test]
async fn connections_to_a_target_are_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let forward = Forward::new().any_port().allow_networks(LOCAL);
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(reflect(stream));
        }
    });

    for _ in 0..3 {
        let request = Request::get(format!("http://{target}/")).body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = forward.clone().oneshot(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
    }

    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn an_http2_client_gets_its_tunnel_on_a_stream() {
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let (front, target) = (Front::start(local()).await, echo().await);
    let stream = TcpStream::connect(front.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::connect(target.to_string()).body(Empty::<bytes::Bytes>::new()).unwrap();

    let mut answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    tunnel.write_all(b"over a stream").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut said = String::new();
    tunnel.read_to_string(&mut said).await.unwrap();

    assert_eq!(said, "over a stream");
}

#[test]
fn what_cannot_work_is_refused_when_it_is_built() {
    let message = |build: fn() -> Forward<Body>| {
        let panic = std::panic::catch_unwind(build).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    assert_eq!(
        message(|| Forward::new().allow_hosts(["a b"])),
        "allow_hosts: `a b` must be a host name, `*.` and a host name, or an address"
    );
    assert!(message(|| Forward::new().deny_networks(["10.0.0.0/33"])).starts_with("deny_networks: "));
    assert_eq!(
        message(|| Forward::new().credentials([("a:b", "c")])),
        "credentials: the user name `a:b` must not have a colon in it"
    );
}
