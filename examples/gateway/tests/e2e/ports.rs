//! Ports that come, stay and go while the gateway serves.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{Router, routing::any};
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
};

use crate::support::{Gateway, config_file, gateway, head_of, soon, until, upstream};

/// Addresses that are free, as far as one can know.
fn free<const N: usize>() -> [SocketAddr; N] {
    let sockets = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap())
}

/// A gateway that listens where the file says.
async fn listening(name: &str, config: &str) -> (Gateway, PathBuf) {
    let path = config_file(name, config);
    (Gateway::start(gateway(["--config".as_ref(), path.as_os_str()])).await, path)
}

async fn reload(gateway: &mut Gateway, path: &std::path::Path, config: &str) {
    std::fs::write(path, config).unwrap();
    gateway.forget();
    gateway.signal("HUP");
    gateway.says("in force").await;
}

fn config(top: &str, ports: &[SocketAddr], upstream: SocketAddr) -> String {
    let ports: String = ports.iter().map(|port| format!("[[listener]]\naddress = '{port}'\n")).collect();
    format!(
        "{top}\n{ports}[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n[[route]]\npath = '/'\nupstream = 'it'\n"
    )
}

async fn ask(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    let head = soon("the head", head_of(connection)).await;
    connection.read_exact(&mut [0; 2]).await.unwrap();
    head
}

#[tokio::test]
async fn ports_that_stay_keep_their_connections_new_ones_open_and_gone_ones_drain() {
    let (arrived, mut has_arrived) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let service = Router::new().route(
        "/held",
        any(async move || {
            arrived.send(()).unwrap();
            held.notified().await;
            "finished"
        }),
    );
    let it = upstream(service.fallback(any(async || "it"))).await;
    let [stays, goes, comes] = free();
    let (mut gateway, path) = listening("ports", &config("", &[stays, goes], it)).await;
    for address in [stays, goes] {
        assert!(gateway.welcome.contains(&format!("listening on http://{address}")), "{}", gateway.welcome);
    }
    let mut kept = TcpStream::connect(stays).await.unwrap();
    ask(&mut kept).await;
    let in_flight = tokio::spawn(Client::new().get(format!("http://{goes}/held")).send());
    soon("the request at the upstream", has_arrived.recv()).await.unwrap();

    reload(&mut gateway, &path, &config("", &[comes, stays], it)).await;

    let answer = ask(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("close"), "{answer}");
    assert_eq!(reqwest::get(format!("http://{comes}/")).await.unwrap().text().await.unwrap(), "it");
    until("the port that is gone", async || TcpStream::connect(goes).await.is_err()).await;
    release.notify_one();
    let answer = soon("the answer", in_flight).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "finished");
}

#[tokio::test]
async fn a_port_that_cannot_be_had_leaves_everything_as_it_was() {
    let it = upstream(Router::new().fallback(any(async || "it"))).await;
    let [here] = free();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let (mut gateway, path) = listening("ports-taken", &config("", &[here], it)).await;

    std::fs::write(&path, config("", &[taken.1], it).replace("path = '/'", "path = '/other'")).unwrap();
    gateway.signal("HUP");

    let notes = gateway.says("the configuration stays as it was").await;
    assert!(notes.contains(&format!("cannot listen on {}", taken.1)), "{notes}");
    let answer = reqwest::get(format!("http://{here}/x")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn settings_that_change_take_over_the_socket_and_refuse_nobody() {
    let it = upstream(Router::new().fallback(any(async || "it"))).await;
    let [here] = free();
    let (mut gateway, path) = listening("ports-settings", &config("", &[here], it)).await;
    let (done, _) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let is_done = done.subscribe();
            tokio::spawn(async move {
                let mut answers = 0;
                while !*is_done.borrow() {
                    let mut connection = TcpStream::connect(here).await.unwrap();
                    assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200"));
                    answers += 1;
                }
                answers
            })
        })
        .collect();

    for turn in 1..=5 {
        reload(&mut gateway, &path, &config(&format!("header_timeout = '{turn}s'"), &[here], it)).await;
        let mut connection = TcpStream::connect(here).await.unwrap();
        ask(&mut connection).await;
    }
    done.send_replace(true);

    for client in clients {
        assert!(soon("a client", client).await.unwrap() > 0);
    }
}
