//! Connections that are forwarded as they are.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Gateway, config_file, gateway, raw_upstream, soon, until};

/// An address that is free, as far as one can know.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Says its name first, then sends back what it gets, until that ends.
async fn speaks(name: &'static str) -> SocketAddr {
    raw_upstream(move |mut stream| async move {
        let _ = stream.write_all(name.as_bytes()).await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.write_all(b", bye").await;
    })
    .await
}

fn config(port: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|it| format!("{{ url = 'http://{it}' }}")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "listen = '127.0.0.1:0'
         tcp = [{{ address = '{port}', upstream = 'it' {more} }}]
         upstream = [{{ name = 'it', endpoint = [{endpoints}], balance = {{ policy = 'round_robin' }} }}]"
    )
}

async fn started(name: &str, config: &str) -> (Gateway, PathBuf) {
    let path = config_file(name, config);
    (Gateway::start(gateway(["--config".as_ref(), path.as_os_str()])).await, path)
}

async fn connect(port: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(port).await.unwrap();
    let mut name = [0; 3];
    soon("a name", stream.read_exact(&mut name)).await.unwrap();
    (stream, String::from_utf8_lossy(&name).into_owned())
}

/// Sends a word on a connection, ends its side, and gives what comes until the other side has ended too.
async fn finish(mut stream: TcpStream) -> String {
    stream.write_all(b"word").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    soon("the end", stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let port = free();
    let (_gateway, _) = started("tcp", &config(port, &[speaks("one").await], "")).await;

    let (stream, name) = connect(port).await;

    assert_eq!(name, "one");
    assert_eq!(finish(stream).await, "word, bye");
}

#[tokio::test]
async fn a_connection_outlives_its_endpoint_in_the_file_and_new_ones_go_by_the_new_list() {
    let (port, moved) = (free(), free());
    let (one, two) = (speaks("one").await, speaks("two").await);
    let (mut gateway, path) = started("tcp-reload", &config(port, &[one], "")).await;
    let (stream, name) = connect(port).await;
    assert_eq!(name, "one");

    for (config, at) in [
        (config(port, &[two], ""), port),
        (config(port, &[two], ", idle_timeout = '1h'"), port),
        (config(moved, &[two], ""), moved),
    ] {
        std::fs::write(&path, config).unwrap();
        gateway.forget();
        gateway.signal("HUP");
        gateway.says("in force").await;

        assert_eq!(connect(at).await.1, "two");
    }

    until("the port that is gone", async || TcpStream::connect(port).await.is_err()).await;
    assert_eq!(finish(stream).await, "word, bye");
}

#[tokio::test]
async fn who_the_client_is_is_told_by_the_proxy_protocol() {
    let port = free();
    let upstream = raw_upstream(|mut stream| async move {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await.unwrap_or(b'\n'));
        }
        let _ = stream.write_all(&line).await;
    })
    .await;
    let (_gateway, _) =
        started("tcp-proxied", &config(port, &[upstream], ", send_proxy_protocol = 'v1'")).await;

    let mut stream = TcpStream::connect(port).await.unwrap();
    let mut text = String::new();
    soon("the end", stream.read_to_string(&mut text)).await.unwrap();

    let client = stream.local_addr().unwrap();
    assert_eq!(text, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", client.port(), port.port()));
}

#[tokio::test]
async fn a_drain_ends_connections_that_rest() {
    let port = free();
    let config = config(port, &[speaks("one").await], "");
    let (gateway, _) = started("tcp-drain", &format!("drain = '200ms'\n{config}")).await;
    let (mut stream, _) = connect(port).await;

    gateway.signal("TERM");

    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    assert_eq!(gateway.ended().await.0.code(), Some(0));
}
