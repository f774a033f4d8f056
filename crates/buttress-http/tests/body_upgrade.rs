//! After a 101, and after a CONNECT that opened a tunnel, the guard lives as long as the tunnel.

mod support;

use std::convert::Infallible;

use buttress_http::body::{Tracked, UntilUpgradeEnds};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Record, Recorder, Told, finish, recorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};

type Followed = Response<Tracked<Full<Bytes>, Recorder>>;

/// Sends back what comes, until it ends.
async fn echo(upgraded: Upgraded) {
    let (mut from, mut to) = split(TokioIo::new(upgraded));
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// Answers as a layer does: followed to its end.
fn follow(request: &Request<Incoming>, status: u16, guard: Recorder) -> Followed {
    let mut response = Response::builder().status(status);
    if status == 101 {
        response = response.header("connection", "upgrade").header("upgrade", "echo");
    }
    finish(request.method(), response.body(Full::default()).unwrap(), guard)
}

/// The one above the layers: takes the upgraded connection, and what the layers left.
fn tunnel_above(mut request: Request<Incoming>, response: &Followed) {
    let held = response.extensions().get::<UntilUpgradeEnds>().cloned();
    assert!(held.is_some(), "the layer leaves it");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        echo(upgrade.await.unwrap()).await;
        drop(held);
    });
}

/// Serves one HTTP/1 connection; gives the client's end.
fn serve(handle: impl FnOnce(Request<Incoming>) -> Followed + Send + 'static) -> DuplexStream {
    let (client, server) = duplex(1024);
    let once = std::sync::Mutex::new(Some(handle));
    let service = service_fn(move |request| {
        let handle = once.lock().unwrap().take().expect("one request");
        let response = handle(request);
        async move { Ok::<_, Infallible>(response) }
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(server.with_upgrades());
    client
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECT: &str = "CONNECT a.example:80 HTTP/1.1\r\nhost: a.example:80\r\n\r\n";

/// Opens the tunnel and sees that it answers.
async fn open(client: &mut DuplexStream, request: &str) {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(client.read_u8().await.unwrap().into());
    }
    client.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"ping");
}

async fn close(mut client: DuplexStream, record: Record) {
    client.shutdown().await.unwrap();
    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn the_guard_of_a_101_lives_until_its_tunnel_ends() {
    let (guard, mut record) = recorder();
    let mut client = serve(move |request| {
        let response = follow(&request, 101, guard);
        tunnel_above(request, &response);
        response
    });

    open(&mut client, UPGRADE).await;
    assert!(record.is_held(), "the tunnel is open");

    close(client, record).await;
}

#[tokio::test]
async fn the_guard_of_a_connect_lives_until_its_tunnel_ends() {
    let (guard, mut record) = recorder();
    let mut client = serve(move |request| {
        let response = follow(&request, 200, guard);
        tunnel_above(request, &response);
        response
    });

    open(&mut client, CONNECT).await;
    assert!(record.is_held(), "the tunnel is open");

    close(client, record).await;
}

#[tokio::test]
async fn the_guard_of_a_connect_over_http2_lives_until_its_tunnel_ends() {
    let (guard, mut record) = recorder();
    let (client, server) = duplex(1024);
    let once = std::sync::Mutex::new(Some(guard));
    let service = service_fn(move |request| {
        let response = follow(&request, 200, once.lock().unwrap().take().expect("one request"));
        tunnel_above(request, &response);
        async move { Ok::<_, Infallible>(response) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);

    let request = Request::builder().method(Method::CONNECT).uri("a.example:80");
    let response = client.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tunnel.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    tunnel.read_exact(&mut pong).await.unwrap();
    assert!(record.is_held(), "the tunnel is open");

    tunnel.shutdown().await.unwrap();
    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn a_tunnel_below_the_layers_holds_the_guards_that_come_later() {
    let ((inner, mut of_inner), (outer, mut of_outer)) = (recorder(), recorder());
    let mut client = serve(move |mut request| {
        // The leaf (a proxy) takes the connection before any layer has seen the response.
        let held = UntilUpgradeEnds::new();
        let upgrade = hyper::upgrade::on(&mut request);
        let mut response =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
        response.extensions_mut().unwrap().insert(held.clone());
        tokio::spawn(async move {
            echo(upgrade.await.unwrap()).await;
            drop(held);
        });

        let inner = finish(request.method(), response.body(Full::<Bytes>::default()).unwrap(), inner);
        finish(request.method(), inner, outer).map(|_| Tracked::untracked(Full::default()))
    });

    open(&mut client, UPGRADE).await;
    assert!(of_inner.is_held() && of_outer.is_held(), "the tunnel is open");

    client.shutdown().await.unwrap();
    assert_eq!(of_inner.all().await, [Told::Complete]);
    assert_eq!(of_outer.all().await, [Told::Complete]);
}

#[tokio::test]
async fn the_guards_of_two_layers_live_in_one_tunnel() {
    let ((inner, mut of_inner), (outer, mut of_outer)) = (recorder(), recorder());
    let response = Response::builder().status(101).body(Full::<Bytes>::default()).unwrap();
    let response = finish(&Method::GET, finish(&Method::GET, response, inner), outer);

    let held = response.extensions().get::<UntilUpgradeEnds>().cloned();
    drop(response);
    assert!(of_inner.is_held() && of_outer.is_held());

    drop(held);
    assert_eq!(of_inner.so_far(), Some(vec![Told::Complete]));
    assert_eq!(of_outer.so_far(), Some(vec![Told::Complete]));
}

#[tokio::test]
async fn a_guard_that_no_one_holds_ends_with_the_response() {
    let (guard, record) = recorder();
    let mut client = serve(move |mut request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { echo(upgrade.await.unwrap()).await });
        follow(&request, 101, guard)
    });

    open(&mut client, UPGRADE).await;

    assert_eq!(record.all().await, [Told::Complete], "though the tunnel is open");
}

#[tokio::test]
async fn a_guard_that_panics_does_not_keep_the_others() {
    struct Panics;
    impl buttress_core::Guard for Panics {
        fn end(&mut self, _: &buttress_core::End<'_>) {
            panic!("in a guard")
        }
    }
    let (guard, mut record) = recorder();
    let held = UntilUpgradeEnds::new();
    held.hold(Panics);
    held.hold(guard);

    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(held))).is_err());

    assert_eq!(record.so_far(), Some(vec![Told::Dropped]), "dropped untold is aborted");
}
