//! Does the program do what it says? The built binary, and sockets.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

#[tokio::test]
async fn connections_reach_the_upstream_that_listens_and_each_is_told_when_it_ends() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = upstream.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
                let _ = writes.shutdown().await;
            });
        }
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_tcp-proxy"))
        .args(["127.0.0.1:0".to_owned(), nobody.to_string(), address.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary was built for this test");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let front = first.strip_prefix("forwarding what comes to ").expect("an address").to_owned();

    for _ in 0..4 {
        let mut client = TcpStream::connect(&front).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");

        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.contains(&format!(" to {address}: 5 bytes up, 5 down, ")), "{line}");
        assert!(line.ends_with("Closed"), "{line}");
    }
}
