//! A process takes the port of another over while clients ask without a pause: each of them gets its answer.
#![cfg(all(feature = "server", target_os = "linux"))]

mod server_support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use buttress_proxy::server::{Listener, Server, Takeover, Workers};
use server_support::{Client, hello, start};

/// A directory of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("buttress-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("takeover.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How the program below is told what to do.
const PATH: &str = "BUTTRESS_TAKEOVER_PATH";
const ADDRESS: &str = "BUTTRESS_TAKEOVER_ADDRESS";
const THREADS: &str = "BUTTRESS_TAKEOVER_THREADS";

/// The server of the tests below, as a process of its own. It says its address, and ends when it is followed.
#[test]
#[ignore = "the other tests run it as a process"]
fn program() {
    let said = |name| std::env::var(name).expect("the other tests run this");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let mut takeover = Takeover::at(said(PATH)).await.unwrap();
        let address: SocketAddr = said(ADDRESS).parse().unwrap();
        let threads: usize = said(THREADS).parse().unwrap();
        let listener = if threads > 1 && !takeover.is_taking_over() {
            Listener::bind_reuse_port(address).await.unwrap()
        } else {
            takeover.listen(address).await.unwrap()
        };
        println!("\naddress {}", listener.address());
        std::io::stdout().flush().unwrap();
        let server = Server::on(listener).takeover(takeover).max_per_client(None);
        server.workers(Workers::Threads(threads)).serve(hello()).await.unwrap()
    });
    assert_eq!(ended.cut, 0);
}

/// The program, killed where a test does not wait for it.
struct Process(Child);

impl Process {
    fn start(path: &Path, address: SocketAddr, threads: usize) -> (Self, SocketAddr) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["program", "--exact", "--ignored", "--nocapture"])
            .env(PATH, path)
            .env(ADDRESS, address.to_string())
            .env(THREADS, threads.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("address ")?.parse().ok()).expect("an address");
        // What it says at its end must not fail it.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), address)
    }

    fn ended_well(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until it is told to stop: each connection for as many requests as it may, at most `each`.
async fn ask(address: SocketAddr, own: Ipv4Addr, each: usize, asked: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::from(own.into(), address).await;
        for _ in 0..each {
            let answer = client.get("/").await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
            asked.fetch_add(1, Ordering::Relaxed);
            if answer.contains("\r\nconnection: close\r\n") || stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Lets five processes follow each other while at least `requests` are asked.
async fn follow_each_other(name: &str, threads: usize, requests: u64) {
    let folder = Folder::new(name);
    let (mut serving, address) = Process::start(&folder.socket(), (Ipv4Addr::LOCALHOST, 0).into(), threads);
    let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..16_u8)
        .map(|number| {
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            // A quarter of them asks once on each connection.
            let each = if number % 4 == 0 { 1 } else { usize::MAX };
            let own = Ipv4Addr::new(127, 0, 1, number + 1);
            tokio::spawn(async move { ask(address, own, each, &asked, &stop).await })
        })
        .collect();

    for generation in 1..=5 {
        while asked.load(Ordering::Relaxed) < requests * generation / 6 {
            assert!(clients.iter().all(|client| !client.is_finished()), "a client has failed");
            tokio::task::yield_now().await;
        }
        let socket = folder.socket();
        let (next, same) =
            tokio::task::spawn_blocking(move || Process::start(&socket, address, threads)).await.unwrap();
        assert_eq!(same, address);
        let old = std::mem::replace(&mut serving, next);
        assert!(tokio::task::spawn_blocking(|| old.ended_well()).await.unwrap(), "generation {generation}");
    }
    while asked.load(Ordering::Relaxed) < requests {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) >= requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn none_of_a_hundred_thousand_requests_fails_while_processes_follow_each_other() {
    follow_each_other("takeover", 1, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_queue_for_each_worker_changes_hands_too() {
    follow_each_other("takeover-queues", 2, 20_000).await;
}

#[tokio::test]
async fn who_is_first_opens_the_port_and_one_that_fails_before_it_serves_changes_nothing() {
    let folder = Folder::new("takeover-fails");
    let mut first = Takeover::at(folder.socket()).await.unwrap();
    assert!(!first.is_taking_over());
    let listener = first.listen("127.0.0.1:0").await.unwrap();
    let server = start(Server::on(listener).takeover(first), hello());
    Client::connect(server.address()).await.get("/").await.unwrap();

    let mut failing = Takeover::at(folder.socket()).await.unwrap();
    assert!(failing.is_taking_over());
    let mode = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let listener = failing.listen(server.address()).await.unwrap();
    assert_eq!(listener.address(), server.address());
    drop((failing, listener));

    assert!(Client::connect(server.address()).await.get("/").await.is_some());
    // The next one is served like the first.
    let mut next = Takeover::at(folder.socket()).await.unwrap();
    let listener = next.listen(server.address()).await.unwrap();
    let follower = start(Server::on(listener).takeover(next), hello());
    assert_eq!(server.ended().await.cut, 0);
    assert!(Client::connect(follower.address()).await.get("/").await.is_some());
}

#[tokio::test]
async fn a_listener_that_the_old_process_has_not_is_opened_and_one_that_is_not_wanted_is_closed() {
    let folder = Folder::new("takeover-other");
    let mut first = Takeover::at(folder.socket()).await.unwrap();
    let (kept, given_up) =
        (first.listen("127.0.0.1:0").await.unwrap(), first.listen("127.0.0.1:0").await.unwrap());
    let old = start(Server::on(kept).and(given_up).takeover(first), hello());
    let (kept, given_up) = (old.addresses[0], old.addresses[1]);
    Client::connect(kept).await.get("/").await.unwrap();

    let mut next = Takeover::at(folder.socket()).await.unwrap();
    let (kept, added) = (next.listen(kept).await.unwrap(), next.listen("127.0.0.1:0").await.unwrap());
    let new = start(Server::on(kept).and(added).takeover(next), hello());
    old.ended().await;

    for address in &new.addresses {
        assert!(Client::connect(*address).await.get("/").await.is_some());
    }
    assert!(tokio::net::TcpStream::connect(given_up).await.is_err());
}

#[tokio::test]
async fn somebody_else_at_the_path_is_an_error() {
    let folder = Folder::new("takeover-stranger");
    let stranger = tokio::net::UnixListener::bind(folder.socket()).unwrap();
    tokio::spawn(async move {
        let (mut client, _) = stranger.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"220 mail.example\r\n").await.unwrap();
    });

    let error = Takeover::at(folder.socket()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}
