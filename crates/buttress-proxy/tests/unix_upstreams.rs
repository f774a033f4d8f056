//! Upstreams behind UNIX sockets.
#![cfg(unix)]

mod support;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress_proxy::{ErrorKind, Proxy};
use support::{TestBody, get, settle, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tower::ServiceExt;

/// A path that is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("buttress-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Answers each request with its head; how many connections were made.
fn echoing(at: &Path) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(at).unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut head).await {
                    if head.ends_with(b"\r\n\r\n") {
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        stream.write_all(&head).await.unwrap();
                        head.clear();
                    }
                }
            });
        }
    });
    accepted
}

#[tokio::test]
async fn each_form_of_the_address_reaches_the_socket_and_connections_are_used_again() {
    let place = Place::new("forms");
    let accepted = echoing(place.path());
    let path = place.path().display();

    for (connections, form) in
        [format!("unix:{path}"), format!("unix://{path}"), format!("http://unix:{path}")]
            .into_iter()
            .enumerate()
    {
        let proxy = Proxy::<TestBody>::to(&form).unwrap();
        for _ in 0..3 {
            let echo = text(proxy.clone().oneshot(get("/a")).await.unwrap()).await;
            assert!(echo.starts_with("GET /a HTTP/1.1\r\nhost: shop.example\r\n"), "{echo}");
            settle().await;
        }
        assert_eq!(accepted.load(Ordering::SeqCst), connections + 1);
        assert_eq!(proxy.upstream().to_string(), format!("unix:{path}"));
    }
}

#[tokio::test]
async fn its_own_name_is_localhost() {
    let place = Place::new("host");
    echoing(place.path());
    let proxy =
        Proxy::<TestBody>::to(format!("unix:{}", place.path().display())).unwrap().preserve_host(false);

    let echo = text(proxy.oneshot(get("/")).await.unwrap()).await;

    assert!(echo.contains("host: localhost\r\n"), "{echo}");
}

#[tokio::test]
async fn where_nobody_listens_it_is_a_connect_error_and_nothing_was_sent() {
    let place = Place::new("nobody");
    let proxy = Proxy::<TestBody>::to(format!("unix:{}", place.path().display())).unwrap();

    let error = proxy.clone().oneshot(get("/")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.nothing_sent());
    let cause = error.source().unwrap().source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(proxy.connections().open, 0);
}

#[test]
fn a_path_that_cannot_be_one_is_refused_with_the_rule() {
    let long = format!("unix:/{}", "x".repeat(107));
    for address in ["unix:", "unix:run/users.sock", "http://unix:", "unix:/a\0b", &long] {
        let error = Proxy::<TestBody>::to(address).unwrap_err();
        assert_eq!(error.value(), address);
        assert_eq!(error.rule(), "a UNIX socket is `unix:` and an absolute path of at most 107 bytes");
    }
}
