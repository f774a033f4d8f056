//! Does the program do what it prints? The built binary, and sockets.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// The program on a free port, ended when dropped; and its address.
async fn start(arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forward-proxy"))
        .arg("127.0.0.1:0")
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary was built for this test");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next_line().await.expect("readable").expect("it says what to try");
    let address = first.strip_prefix("curl -x http://").and_then(|rest| rest.split(' ').next());
    let address = address.expect("an address").to_owned();
    // Its other lines must find a reader too.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

/// The status of what it answers to `CONNECT target`, and the connection.
async fn connect(proxy: &str, target: &str, field: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{field}\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), stream)
}

#[tokio::test]
async fn as_it_is_it_reaches_nothing_of_this_machine() {
    let (_child, proxy) = start(&[]).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

    assert_eq!(connect(&proxy, &target.to_string(), "").await.0, "403");
    assert_eq!(connect(&proxy, "127.0.0.1:443", "").await.0, "403");
}

#[tokio::test]
async fn its_arguments_say_who_may_reach_what() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap().to_string();
    let arguments =
        ["--any-port", "--network", "127.0.0.0/8", "--host", "127.0.0.1", "--user", "ada:lovelace"];
    let (_child, proxy) = start(&arguments).await;
    let known = "Proxy-Authorization: Basic YWRhOmxvdmVsYWNl\r\n";

    assert_eq!(connect(&proxy, &address, "").await.0, "407");
    assert_eq!(connect(&proxy, "localhost:1", known).await.0, "403");
    let (status, mut tunnel) = connect(&proxy, &address, known).await;
    assert_eq!(status, "200");
    let (mut reached, _) = target.accept().await.unwrap();
    reached.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
}
