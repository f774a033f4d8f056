//! The configuration changes while the gateway serves.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use axum::{Router, http::StatusCode, routing::any};
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
};

use crate::support::{Gateway, config_file, gateway, head_of, raw_upstream, soon, until, upstream};

/// An upstream that says `answer`.
async fn says(answer: &'static str) -> SocketAddr {
    upstream(Router::new().fallback(any(async move || answer))).await
}

fn upstreams(address: SocketAddr, more: &str) -> String {
    format!("[[upstream]]\nname = 'it'\nurl = 'http://{address}'\n{more}\n")
}

fn route(path: &str, more: &str) -> String {
    format!("[[route]]\npath = '{path}'\nupstream = 'it'\n{more}\n")
}

async fn status(client: &Client, gateway: &Gateway, path: &str) -> u16 {
    client.get(gateway.url(path)).send().await.unwrap().status().as_u16()
}

/// Writes the file anew, and waits until it is in force.
async fn reload(gateway: &mut Gateway, name: &str, config: &str) {
    config_file(name, config);
    hang_up(gateway).await;
}

async fn hang_up(gateway: &mut Gateway) {
    gateway.forget();
    gateway.signal("HUP");
    gateway.says("in force").await;
}

#[tokio::test]
async fn a_new_route_is_in_force_on_the_connections_that_are_there() {
    let it = says("it").await;
    let before = upstreams(it, "") + &route("/a", "");
    let mut gateway = Gateway::with("reload-route", &before).await;
    let mut connection = TcpStream::connect(gateway.address).await.unwrap();
    let ask = async |connection: &mut TcpStream| {
        connection.write_all(b"GET /b HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
        let head = soon("the head", head_of(connection)).await;
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        connection.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
        head
    };

    let then = ask(&mut connection).await;
    reload(&mut gateway, "reload-route", &(before + &route("/b", ""))).await;
    let now = ask(&mut connection).await;

    assert!(then.starts_with("HTTP/1.1 404"), "{then}");
    assert!(now.starts_with("HTTP/1.1 200"), "{now}");
}

fn start_at(path: &Path) -> tokio::process::Command {
    gateway(["--listen".as_ref(), "127.0.0.1:0".as_ref(), "--config".as_ref(), path.as_os_str()])
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn a_file_that_is_written_or_renamed_into_place_is_taken_without_a_signal() {
    let it = says("it").await;
    let folder = folder("reload-renamed");
    let path = folder.join("gateway.toml");
    let config = |name: &str| upstreams(it, "") + &route(name, "");
    std::fs::write(&path, config("/a")).unwrap();
    let gateway = Gateway::start(start_at(&path)).await;
    let client = Client::new();

    std::fs::write(&path, config("/written")).unwrap();
    until("the written file", async || status(&client, &gateway, "/written").await == 200).await;
    std::fs::write(folder.join("new"), config("/renamed")).unwrap();
    std::fs::rename(folder.join("new"), &path).unwrap();
    until("the renamed file", async || status(&client, &gateway, "/renamed").await == 200).await;

    assert_eq!(status(&client, &gateway, "/written").await, 404);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_turned_to_another_folder_is_taken_as_kubernetes_does_it() {
    use std::os::unix::fs::symlink;

    let it = says("it").await;
    let folder = folder("reload-linked");
    for (version, name) in [("one", "/one"), ("two", "/two")] {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("gateway.toml"), upstreams(it, "") + &route(name, ""))
            .unwrap();
    }
    symlink("one", folder.join("..data")).unwrap();
    symlink("..data/gateway.toml", folder.join("gateway.toml")).unwrap();
    let gateway = Gateway::start(start_at(&folder.join("gateway.toml"))).await;
    let client = Client::new();
    assert_eq!(status(&client, &gateway, "/one").await, 200);

    symlink("two", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();

    until("the other folder", async || status(&client, &gateway, "/two").await == 200).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why_with_its_line() {
    let it = says("it").await;
    let good = upstreams(it, "") + &route("/a", "");
    let mut gateway = Gateway::with("reload-bad", &good).await;
    let client = Client::new();

    for (bad, line) in [
        (format!("{good}{}", route("/b", "timeout = { head = '1 parsec' }")), ":12:"),
        (format!("{good}{}", route("/a", "")), ":9:"),
        ("[[route".to_owned(), ":1:"),
    ] {
        gateway.forget();
        config_file("reload-bad", &bad);
        gateway.signal("HUP");

        let notes = gateway.says("the configuration stays as it was").await;

        assert!(notes.contains("error: ") && notes.contains(line), "{notes}");
        assert_eq!(status(&client, &gateway, "/a").await, 200);
        assert_eq!(status(&client, &gateway, "/b").await, 404);
    }
    reload(&mut gateway, "reload-bad", &(good + &route("/b", ""))).await;
    assert_eq!(status(&client, &gateway, "/b").await, 200);
}

#[tokio::test]
async fn a_file_that_is_gone_changes_nothing() {
    let it = says("it").await;
    let mut gateway = Gateway::with("reload-gone", &(upstreams(it, "") + &route("/a", ""))).await;

    std::fs::remove_file(config_file("reload-gone", "")).unwrap();
    gateway.signal("HUP");

    gateway.says("the configuration stays as it was").await;
    assert_eq!(status(&Client::new(), &gateway, "/a").await, 200);
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_configuration_that_it_began_with() {
    let (arrived, mut has_arrived) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let slow = upstream(Router::new().fallback(any(async move || {
        arrived.send(()).unwrap();
        held.notified().await;
        "finished"
    })))
    .await;
    let other = says("other").await;
    let mut gateway = Gateway::with("reload-in-flight", &(upstreams(slow, "") + &route("/", ""))).await;
    let request = tokio::spawn(Client::new().get(gateway.url("/")).send());
    soon("the request at the upstream", has_arrived.recv()).await.unwrap();

    reload(&mut gateway, "reload-in-flight", &(upstreams(other, "") + &route("/", ""))).await;
    let next = reqwest::get(gateway.url("/")).await.unwrap().text().await.unwrap();
    release.notify_one();

    assert_eq!(next, "other");
    let answer = soon("the answer", request).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "finished");
}

#[tokio::test]
async fn a_limit_keeps_what_is_spent_until_its_own_settings_change() {
    let it = says("it").await;
    let config = |limit: &str, more: &str| {
        upstreams(it, "") + &route("/a", &format!("rate_limit = {{ {limit} }}")) + more
    };
    let mut gateway = Gateway::with("reload-limit", &config("rate = '2/h'", "")).await;
    let client = Client::new();
    let mut seen = Vec::new();

    for config in [
        config("rate = '2/h'", &route("/other", "")),
        // The limit now stands elsewhere in the file, and says the same.
        format!("# A comment.\n{}", config("rate = \"2/h\"", "")),
        config("rate = '1/h'", ""),
    ] {
        seen.push(status(&client, &gateway, "/a").await);
        reload(&mut gateway, "reload-limit", &config).await;
    }
    seen.push(status(&client, &gateway, "/a").await);
    seen.push(status(&client, &gateway, "/a").await);

    assert_eq!(seen, [200, 200, 429, 200, 429]);
}

#[tokio::test]
async fn an_open_breaker_stays_open_and_one_with_other_settings_begins_anew() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let down = upstream(Router::new().fallback(any(async move || {
        count.fetch_add(1, Relaxed);
        StatusCode::SERVICE_UNAVAILABLE
    })))
    .await;
    let config = |open: &str, more: &str| {
        upstreams(down, &format!("circuit_breaker = {{ consecutive_failures = 2, open = '{open}' }}"))
            + &route("/", "")
            + more
    };
    let mut gateway = Gateway::with("reload-breaker", &config("1h", "")).await;
    let client = Client::new();
    for _ in 0..3 {
        status(&client, &gateway, "/").await;
    }
    assert_eq!(calls.load(Relaxed), 2, "it is open");

    reload(&mut gateway, "reload-breaker", &config("1h", &route("/other", ""))).await;
    status(&client, &gateway, "/other").await;
    assert_eq!(calls.load(Relaxed), 2, "it is still open");

    reload(&mut gateway, "reload-breaker", &config("2h", "")).await;
    status(&client, &gateway, "/").await;
    assert_eq!(calls.load(Relaxed), 3, "it is another one");
}

/// An upstream that counts its connections.
async fn counting(connections: &Arc<AtomicUsize>) -> SocketAddr {
    let connections = Arc::clone(connections);
    raw_upstream(move |mut stream| {
        connections.fetch_add(1, Relaxed);
        async move {
            while !head_of(&mut stream).await.is_empty() {
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                    break;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn connections_to_an_endpoint_that_stays_are_kept_whatever_comes_and_goes_beside_it() {
    let (one, other) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_one, at_other) = (counting(&one).await, counting(&other).await);
    let config = |addresses: &[SocketAddr], more: &str| {
        let endpoints: Vec<_> = addresses.iter().map(|it| format!("{{ url = 'http://{it}' }}")).collect();
        let endpoints = endpoints.join(", ");
        format!(
            "upstream = [{{ name = 'it', balance = {{ policy = 'round_robin' }}, endpoint = [{endpoints}] }}]\n"
        ) + &route("/", more)
    };
    let mut gateway = Gateway::with("reload-endpoints", &config(&[at_one, at_other], "")).await;
    let client = Client::new();
    let ask = async |gateway: &Gateway| {
        for _ in 0..4 {
            assert_eq!(status(&client, gateway, "/").await, 200);
        }
    };

    ask(&gateway).await;
    assert_eq!((one.load(Relaxed), other.load(Relaxed)), (1, 1));
    // A route that changes leaves the upstream alone.
    reload(&mut gateway, "reload-endpoints", &config(&[at_one, at_other], "timeout = { head = '9s' }")).await;
    ask(&gateway).await;
    assert_eq!((one.load(Relaxed), other.load(Relaxed)), (1, 1));
    reload(&mut gateway, "reload-endpoints", &config(&[at_other, at_one], "")).await;
    ask(&gateway).await;

    assert_eq!((one.load(Relaxed), other.load(Relaxed)), (1, 1));
}

#[tokio::test]
async fn the_endpoints_of_the_new_file_get_the_calls_and_those_that_left_get_none() {
    let (a, b, c) = (says("a").await, says("b").await, says("c").await);
    let config = |addresses: &[SocketAddr]| {
        let endpoints: Vec<_> = addresses.iter().map(|it| format!("{{ url = 'http://{it}' }}")).collect();
        let balance = "balance = { policy = 'round_robin', slow_start = '1ms' }";
        format!("upstream = [{{ name = 'it', {balance}, endpoint = [{}] }}]\n", endpoints.join(", "))
            + &route("/", "")
    };
    let mut gateway = Gateway::with("reload-members", &config(&[a, b, c])).await;
    let client = Client::new();
    let ask = async |gateway: &Gateway| {
        let mut answers = Vec::new();
        for _ in 0..60 {
            answers.push(client.get(gateway.url("/")).send().await.unwrap().text().await.unwrap());
        }
        answers.sort_unstable();
        answers.dedup();
        answers.concat()
    };
    assert_eq!(ask(&gateway).await, "abc");

    reload(&mut gateway, "reload-members", &config(&[a, c])).await;
    assert_eq!(ask(&gateway).await, "ac");
    reload(&mut gateway, "reload-members", &config(&[b, a, c])).await;
    until("all of them", async || ask(&gateway).await == "abc").await;
}

#[tokio::test]
async fn no_request_fails_while_the_configuration_changes_again_and_again() {
    let it = says("it").await;
    let config = |path: &str, budget: &str| {
        upstreams(it, "") + &route("/", &format!("retry = {{ budget = {budget} }}")) + &route(path, "")
    };
    let mut gateway = Gateway::with("reload-storm", &config("/0", "0.2")).await;
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let url = gateway.url("/");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, asked, url) = (Arc::clone(&done), Arc::clone(&asked), url.clone());
            tokio::spawn(async move {
                let client = Client::new();
                while !done.load(Relaxed) {
                    let answer = client.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert_eq!(answer.text().await.unwrap(), "it");
                    asked.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();

    for turn in 1..=20 {
        let before = asked.load(Relaxed);
        let budget = if turn % 2 == 0 { "0.2" } else { "0.3" };
        reload(&mut gateway, "reload-storm", &config(&format!("/{turn}"), budget)).await;
        until("requests in between", async || asked.load(Relaxed) > before + 8).await;
    }
    done.store(true, Relaxed);
    for client in clients {
        soon("a client", client).await.unwrap();
    }

    assert_eq!(status(&Client::new(), &gateway, "/20").await, 200);
}
