//! Upstreams that are killed under load, with the gateway between them and their clients.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::support::{Gateway, Process, pause, until};

const KILLS: usize = 10;
const CLIENTS: usize = 16;
const REQUESTS: usize = 100_000;

/// A file for one test, empty.
fn log(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.log", std::process::id()));
    std::fs::write(&path, "").expect("the target's own folder is writable");
    path
}

async fn processes(name: &str) -> (Vec<Process>, PathBuf) {
    let log = log(name);
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(Process::start(&log).await);
    }
    (processes, log)
}

fn config(processes: &[Process], balance: &str, route: &str) -> String {
    let endpoints: Vec<_> =
        processes.iter().map(|process| format!("{{ url = 'http://{}' }}", process.address)).collect();
    format!(
        "[[upstream]]\nname = 'it'\nendpoint = [{}]\nbalance = {{ {balance} }}\n\
         outlier = {{ consecutive_5xx = 3, base_ejection_time = '1s', max_ejection_percent = 50 }}\n\
         [[route]]\npath = '/'\nupstream = 'it'\n{route}",
        endpoints.join(", ")
    )
}

/// The same, whose endpoints are asked whether they are ready.
fn checked(processes: &[Process], balance: &str, route: &str) -> String {
    let health =
        "health = { path = '/readyz', interval = '100ms', timeout = '100ms', unhealthy_threshold = 1 }\n";
    config(processes, balance, route).replace("outlier = ", &format!("{health}outlier = "))
}

/// A connection of a client to the gateway.
struct Client(http1::SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(gateway: &Gateway) -> Self {
        Self::to(gateway.address).await
    }

    async fn to(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a fresh connection");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&mut self, method: Method, path: &str, user: Option<usize>) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path).header("host", "it");
        if let Some(user) = user {
            request = request.header("x-user", user);
        }
        let request = request.body(Empty::new()).expect("it is well formed");
        self.0.ready().await.expect("the gateway keeps its connections");
        let answer = self.0.send_request(request).await.expect("the gateway answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_that_upstreams_are_killed_while_a_request_can_be_repeated() {
    let (mut processes, log) = processes("kills").await;
    let route = "retry = { attempts = 4, min_per_second = 1000 }\n";
    let gateway = Gateway::with("kills", &config(&processes, "policy = 'round_robin'", route)).await;
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let failed = Arc::new(AtomicUsize::new(0));

    let readers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, sent, stop) = (gateway.address, Arc::clone(&sent), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = Client::to(address).await;
                let mut wrong = Vec::new();
                while !stop.load(SeqCst) {
                    sent.fetch_add(1, SeqCst);
                    let (status, body) = client.send(Method::GET, "/read", None).await;
                    if status != StatusCode::OK {
                        wrong.push(format!("{status}: {body}"));
                    }
                }
                wrong
            })
        })
        .collect();
    // What cannot be repeated, each with a name of its own.
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (address, stop, failed) = (gateway.address, Arc::clone(&stop), Arc::clone(&failed));
            tokio::spawn(async move {
                let mut client = Client::to(address).await;
                let mut done = Vec::new();
                for number in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let path = format!("/write/{writer}/{number}");
                    match client.send(Method::POST, &path, None).await {
                        (StatusCode::OK, _) => done.push(path),
                        _ => _ = failed.fetch_add(1, SeqCst),
                    }
                }
                done
            })
        })
        .collect();

    let mut kills = 0;
    while kills < KILLS || sent.load(SeqCst) < REQUESTS {
        let next = sent.load(SeqCst) + REQUESTS / (KILLS + 2);
        until("enough requests between two kills", async || sent.load(SeqCst) >= next).await;
        if kills < KILLS {
            let process = &mut processes[kills % 3];
            process.kill().await;
            kills += 1;
            pause(Duration::from_millis(200)).await;
            process.revive().await;
        }
    }
    stop.store(true, SeqCst);

    let mut wrong = Vec::new();
    for reader in readers {
        wrong.extend(reader.await.expect("a client does not panic"));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} failed: {:?}",
        wrong.len(),
        sent.load(SeqCst),
        &wrong[..wrong.len().min(5)]
    );
    let mut done = HashSet::new();
    for writer in writers {
        done.extend(writer.await.expect("a client does not panic"));
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for line in std::fs::read_to_string(log).expect("it was written").lines() {
        *times.entry(line.to_owned()).or_default() += 1;
    }
    assert!(times.values().all(|&times| times == 1), "none was carried out twice");
    assert!(done.iter().all(|path| times.contains_key(path)), "what was answered was carried out");
    let failed = failed.load(SeqCst);
    assert!(
        failed <= kills * 2,
        "each connection lost one call at most by each kill: {failed} of {kills} kills"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_moves_only_the_keys_of_the_one_that_was_killed() {
    let (mut processes, _) = processes("owners").await;
    let balance = "policy = 'ring', key = 'header:x-user', slow_start = '1ms'";
    let gateway =
        Gateway::with("owners", &config(&processes, balance, "retry = { min_per_second = 1000 }\n")).await;
    let mut client = Client::connect(&gateway).await;
    let owners = async |client: &mut Client| {
        let mut owners = BTreeMap::new();
        for user in 0..300 {
            let (status, owner) = client.send(Method::GET, "/", Some(user)).await;
            assert_eq!(status, StatusCode::OK, "{owner}");
            owners.insert(user, owner);
        }
        owners
    };
    let before = owners(&mut client).await;
    assert_eq!(before, owners(&mut client).await);

    let dead = processes[1].address.to_string();
    processes[1].kill().await;
    let without = owners(&mut client).await;
    for (user, owner) in &before {
        assert!(without[user] != dead && (without[user] == *owner || *owner == dead), "{user}");
    }

    processes[1].revive().await;
    until("all keys back", async || owners(&mut client).await == before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_that_all_upstreams_are_restarted_one_after_the_other() {
    let (mut processes, _) = processes("restart").await;
    let gateway = Gateway::with("restart", &checked(&processes, "slow_start = '100ms'", "")).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Some of it cannot be repeated, and nothing is: there are no retries.
    let clients: Vec<_> = [Method::GET, Method::POST, Method::GET, Method::POST]
        .into_iter()
        .map(|method| {
            let (address, stop) = (gateway.address, Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = Client::to(address).await;
                let (mut calls, mut wrong) = (0, Vec::new());
                while !stop.load(SeqCst) {
                    calls += 1;
                    let (status, body) = client.send(method.clone(), "/", None).await;
                    if status != StatusCode::OK {
                        wrong.push(format!("{method}: {status}: {body}"));
                    }
                }
                (calls, wrong)
            })
        })
        .collect();

    let mut watch = Client::connect(&gateway).await;
    let mut serves = async |process: &Process| {
        let who = process.address.to_string();
        until("an endpoint that serves again", async || watch.send(Method::GET, "/", None).await.1 == who)
            .await;
    };
    for process in &mut processes {
        serves(process).await;
        process.end().await;
        process.revive().await;
        serves(process).await;
    }
    stop.store(true, SeqCst);

    for client in clients {
        let (calls, wrong) = client.await.expect("a client does not panic");
        assert!(wrong.is_empty() && calls > 10, "{} of {calls} failed: {:?}", wrong.len(), wrong.first());
    }
}
