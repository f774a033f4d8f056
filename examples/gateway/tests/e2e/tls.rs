//! TLS at the ports and to upstreams.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use axum::{Router, extract::Request, routing::any};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::process::Command;

use crate::support::{Gateway, gateway, have, soon, until, upstream};

/// An authority, and a folder for what it signs.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Its own certificate is `ca.pem`.
    fn new(name: &str) -> Self {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else it has the name of what it signs, which then looks as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// Writes `file.pem` and `file.key` for this host.
    fn sign(&self, file: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn gateway(&self, config: &str) -> Gateway {
        std::fs::write(self.file("gateway.toml"), config).unwrap();
        Gateway::start(self.command()).await
    }

    fn command(&self) -> Command {
        gateway(["--config".as_ref(), self.file("gateway.toml").as_os_str()])
    }
}

/// Says how it was asked.
async fn echo() -> SocketAddr {
    let service = any(async |request: Request| {
        let field = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        format!("{:?} {} {}", request.version(), field("x-forwarded-proto"), field("client-cert"))
    });
    upstream(Router::new().fallback(service)).await
}

fn config(port: &str, upstream: &str) -> String {
    format!("{port}\n[[upstream]]\nname = 'it'\n{upstream}\n[[route]]\npath = '/'\nupstream = 'it'\n")
}

fn port(certificates: &[&str], more: &str) -> String {
    let pairs: Vec<_> = certificates
        .iter()
        .map(|name| format!("{{ certificate = '{name}.pem', key = '{name}.key' }}"))
        .collect();
    format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\ncertificates = [{}]\n{more}",
        pairs.join(", ")
    )
}

/// curl to this host at the gateway, trusting `ca`.
async fn curl(gateway: &Gateway, host: &str, ca: &Path, more: &[&str]) -> Output {
    let port = gateway.address.port();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--resolve", &format!("{host}:{port}:127.0.0.1"), "--cacert"]).arg(ca).args(more);
    curl.arg(format!("https://{host}:{port}/")).kill_on_drop(true);
    soon("curl", curl.output()).await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn each_host_gets_its_certificate_and_the_upstream_is_told_of_tls() {
    if !have("curl") {
        return;
    }
    let authority = Authority::new("tls-sni");
    authority.sign("a", "a.example");
    authority.sign("b", "b.example");
    let url = format!("url = 'http://{}'", echo().await);
    let gateway = authority.gateway(&config(&port(&["a", "b"], ""), &url)).await;
    let ca = authority.file("ca.pem");

    for (host, version) in [("a.example", "--http1.1"), ("b.example", "--http2")] {
        let output = curl(&gateway, host, &ca, &[version, "-w", " %{http_version}"]).await;

        let answer = text(&output);
        assert!(answer.starts_with("HTTP/1.1 https -"), "{host}: {output:?}");
        assert!(answer.ends_with(&format!(" {}", version.trim_start_matches("--http"))), "{host}: {answer}");
    }
    assert_eq!(
        curl(&gateway, "c.example", &ca, &[]).await.status.code(),
        Some(60),
        "no certificate has this name"
    );
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_from_the_next_handshake_on() {
    if !have("curl") {
        return;
    }
    let (before, after) = (Authority::new("tls-renewed"), Authority::new("tls-renewed-after"));
    before.sign("a", "a.example");
    after.sign("a", "a.example");
    let url = format!("url = 'http://{}'", echo().await);
    let mut gateway = before.gateway(&config(&port(&["a"], ""), &url)).await;
    let (old, new) = (before.file("ca.pem"), after.file("ca.pem"));
    assert!(curl(&gateway, "a.example", &old, &[]).await.status.success());
    assert!(!curl(&gateway, "a.example", &new, &[]).await.status.success());

    // A key alone does not fit: nothing changes.
    std::fs::copy(after.file("a.key"), before.file("a.key")).unwrap();
    let notes = gateway.says("the configuration stays as it was").await;
    assert!(notes.contains("gateway.toml:4:") && notes.contains("a.pem"), "{notes}");
    assert!(curl(&gateway, "a.example", &old, &[]).await.status.success());
    std::fs::copy(after.file("a.pem"), before.file("a.pem")).unwrap();

    until("the new certificate", async || curl(&gateway, "a.example", &new, &[]).await.status.success())
        .await;
}

#[tokio::test]
async fn clients_are_asked_for_their_certificate_and_the_upstream_is_told_which() {
    if !have("curl") {
        return;
    }
    let authority = Authority::new("tls-clients");
    authority.sign("a", "a.example");
    authority.sign("me", "me.example");
    let url = format!("url = 'http://{}'", echo().await);
    let (pem, key) = (authority.file("me.pem"), authority.file("me.key"));
    let mine = ["--cert", pem.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let ca = authority.file("ca.pem");

    for (clients, without) in [("require", false), ("ask", true)] {
        let more = format!("client_roots = 'ca.pem'\nclients = '{clients}'");
        let gateway = authority.gateway(&config(&port(&["a"], &more), &url)).await;

        let shown = curl(&gateway, "a.example", &ca, &mine).await;
        let hidden = curl(&gateway, "a.example", &ca, &["-H", "client-cert: :aGVsbG8=:"]).await;

        assert!(text(&shown).contains(" :MI"), "{clients}: {shown:?}");
        assert_eq!(hidden.status.success(), without, "{clients}: {hidden:?}");
        if without {
            assert!(text(&hidden).ends_with(" -"), "what a client made up is gone: {hidden:?}");
        }
    }
}

#[tokio::test]
async fn an_upstream_is_spoken_to_over_tls_and_by_http_2_where_it_agrees() {
    let authority = Authority::new("tls-upstream");
    authority.sign("a", "a.example");
    let inner =
        authority.gateway(&config(&port(&["a"], ""), &format!("url = 'http://{}'", echo().await))).await;
    let url = |tls: &str| format!("url = 'https://{}'\ntls = {{ {tls} }}", inner.address);

    for (name, tls, status) in [
        ("trusted", "roots = 'ca.pem', server_name = 'a.example'", 200),
        ("another-name", "roots = 'ca.pem', server_name = 'b.example'", 502),
        ("nobody-trusts-it", "server_name = 'a.example'", 502),
    ] {
        let port = format!("# {name}\nlisten = '127.0.0.1:0'");
        let outer = authority.gateway(&config(&port, &url(tls))).await;

        let answer = reqwest::get(outer.url("/")).await.unwrap();

        assert_eq!(answer.status(), status, "{name}");
        if status == 200 {
            assert_eq!(answer.text().await.unwrap(), "HTTP/1.1 https -");
        }
    }
}

#[tokio::test]
async fn a_tcp_port_leads_by_the_name_that_tls_asks_for_and_opens_nothing() {
    if !have("curl") {
        return;
    }
    let authority = Authority::new("tls-passed");
    authority.sign("a", "a.example");
    authority.sign("b", "b.example");
    let url = format!("url = 'http://{}'", echo().await);
    let a = authority.gateway(&config(&port(&["a"], ""), &url)).await;
    let b = authority.gateway(&config(&port(&["b"], ""), &url)).await;
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outer = format!(
        "listen = '127.0.0.1:0'
         upstream = [{{ name = 'a', url = 'http://{}' }}, {{ name = 'b', url = 'http://{}' }}]
         tcp = [{{ address = '{here}', upstream = 'a', server_names = {{ 'b.example' = 'b' }} }}]",
        a.address, b.address
    );
    let mut outer = authority.gateway(&outer).await;
    outer.address = here;
    let ca = authority.file("ca.pem");

    for host in ["a.example", "b.example"] {
        let output = curl(&outer, host, &ca, &[]).await;
        assert!(output.status.success(), "{host}: {output:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_told_with_its_line() {
    let authority = Authority::new("tls-mistakes");
    authority.sign("a", "a.example");
    authority.sign("b", "b.example");
    std::fs::write(authority.file("none.pem"), "nothing").unwrap();
    let pair = |certificate: &str, key: &str| {
        format!(
            "[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\ncertificates = [{{ certificate = '{certificate}', key = '{key}' }}]"
        )
    };
    let plain = "listen = '127.0.0.1:0'";
    let http = "url = 'http://127.0.0.1:1'";
    for (what, config, line, part) in [
        ("another key", config(&pair("a.pem", "b.key"), http), 4, "a.pem"),
        ("no such file", config(&pair("c.pem", "a.key"), http), 4, "c.pem cannot be read"),
        ("no certificate", config(&pair("none.pem", "a.key"), http), 4, "none.pem"),
        ("none at all", config(&port(&[], ""), http), 3, "certificates has none"),
        ("no roots", config(&port(&["a"], "client_roots = 'none.pem'"), http), 5, "none.pem"),
        (
            "half a pair",
            config(plain, &format!("{http}\ntls = {{ certificate = 'a.pem' }}")),
            5,
            "go together",
        ),
        ("nobody to expect", config(plain, "url = 'unix:/x'\ntls = {}"), 5, "server_name"),
        (
            "health over TLS",
            config(plain, "url = 'https://127.0.0.1:1'\nhealth = { path = '/' }"),
            5,
            "health",
        ),
    ] {
        std::fs::write(authority.file("gateway.toml"), &config).unwrap();
        let output = soon("the end", authority.command().output()).await.unwrap();

        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{what}: {errors}");
        assert!(
            errors.contains(&format!("gateway.toml:{line}:")) && errors.contains(part),
            "{what}: {errors}"
        );
    }
}
