//! How a server ends: in order, within its time, and without losing what has arrived.
#![cfg(feature = "server")]

mod server_support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_proxy::Draining;
use buttress_proxy::server::{Body, Listener, Server, Workers};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use server_support::{
    Client, Log, answering, hello, http2, http2_get, local, start, text, while_time_passes, whole,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Answers when there is a permit; says when a request has come.
fn held(permits: &Arc<Semaphore>, came: &Arc<Semaphore>) -> impl server_support::AnyHandler {
    let (permits, came) = (Arc::clone(permits), Arc::clone(came));
    tower::service_fn(move |_: Request<Body>| {
        let (permits, came) = (Arc::clone(&permits), Arc::clone(&came));
        async move {
            came.add_permits(1);
            permits.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(text("held"))
        }
    })
}

async fn take(came: &Semaphore) {
    came.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_told_that_the_connection_closes() {
    let (permits, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut server = start(local().await, held(&permits, &came));
    let mut client = Client::connect(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    take(&came).await;

    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    permits.add_permits(1);

    let answer = client.answer().await.unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("held"), "{answer}");
    client.closed().await;
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn http2_streams_in_flight_are_finished_after_a_goaway() {
    let (permits, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut server = start(local().await, held(&permits, &came));
    let (mut client, connection) = http2(server.address()).await;
    let answer = tokio::spawn(client.send_request(http2_get("/")));
    take(&came).await;

    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    permits.add_permits(1);

    // The server ends the connection: its client is still there.
    assert_eq!(whole(answer.await.unwrap().unwrap()).await, (200, Bytes::from("held")));
    connection.await.unwrap().unwrap();
    assert_eq!(server.ended().await.cut, 0);
    assert!(client.ready().await.is_err());
}

#[tokio::test]
async fn an_idle_connection_gets_a_last_answer_and_is_closed_when_it_asks_no_more() {
    let time = ManualClock::new();
    let mut server = start(local().await.clock(time.clock()), hello());
    let mut busy = Client::connect(server.address()).await;
    let mut idle = Client::connect(server.address()).await;
    let mut silent = Client::connect(server.address()).await;
    busy.get("/").await.unwrap();
    idle.get("/").await.unwrap();

    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let last = busy.get("/").await.unwrap();
    assert!(last.contains("\r\nconnection: close\r\n"), "{last}");
    busy.closed().await;
    let ((), took) = while_time_passes(&time, async {
        tokio::join!(idle.closed(), silent.closed());
    })
    .await;

    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn a_connection_that_the_kernel_has_taken_is_served_though_the_drain_has_begun() {
    // One thread runs both, so nothing is accepted before this task waits.
    let mut server = start(local().await, hello());
    let mut clients = Vec::new();
    for _ in 0..50 {
        let client = std::net::TcpStream::connect(server.address()).unwrap();
        client.set_nonblocking(true).unwrap();
        clients.push(Client::over(TcpStream::from_std(client).unwrap()));
    }

    server.drain();

    for client in &mut clients {
        let answer = client.get("/").await.expect("an answer");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn what_takes_longer_than_the_drain_is_cut_off() {
    for workers in [Workers::Here, Workers::Threads(1)] {
        let (permits, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let time = ManualClock::new();
        let log = Log::default();
        let server = log.on(local().await).clock(time.clock()).workers(workers).drain(Duration::from_secs(5));
        let mut server = start(server, held(&permits, &came));
        let mut client = Client::connect(server.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        take(&came).await;

        server.drain();
        log.until("DrainBegins { connections: 1 }").await;
        let (ended, took) = while_time_passes(&time, server.ended()).await;

        assert_eq!(ended.cut, 1);
        assert!(took >= Duration::from_secs(5), "{took:?}");
        assert!(log.has("Cut { connections: 1 }"));
        assert_eq!(client.answer().await, None);
    }
}

#[tokio::test]
async fn an_abort_cuts_off_without_a_drain() {
    let (permits, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (abort, aborted) = tokio::sync::oneshot::channel::<()>();
    let server = local().await.abort(async { aborted.await.unwrap() });
    let server = start(server, held(&permits, &came));
    let (mut client, _connection) = http2(server.address()).await;
    let answer = tokio::spawn(client.send_request(http2_get("/")));
    take(&came).await;

    abort.send(()).unwrap();

    assert_eq!(server.ended().await.cut, 1);
    assert!(answer.await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_connections_along() {
    let server = start(local().await, hello());
    let mut client = Client::connect(server.address()).await;
    client.get("/").await.unwrap();

    server.kill().await;

    client.closed().await;
}

/// Switches protocols; the tunnel says nothing, and ends when the client does, or a drain begins.
fn tunnel(follow_drain: bool) -> impl server_support::AnyHandler {
    tower::service_fn(move |mut request: Request<Body>| async move {
        let mut draining = request.extensions().get::<Draining>().unwrap().clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut upgraded = TokioIo::new(upgrade.await.unwrap());
            let mut byte = [0];
            tokio::select! {
                _ = upgraded.read(&mut byte) => {}
                () = draining.begun(), if follow_drain => {}
            }
        });
        let answer =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "test");
        Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
    })
}

async fn upgraded(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n").await;
    assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 101"));
    client
}

#[tokio::test]
async fn a_drain_waits_for_tunnels() {
    let mut server = start(local().await, tunnel(false));
    let client = upgraded(server.address()).await;

    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    drop(client);

    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn a_tunnel_can_follow_the_drain_and_is_cut_off_where_it_does_not() {
    let mut server = start(local().await, tunnel(true));
    let mut client = upgraded(server.address()).await;
    server.drain();
    client.closed().await;
    assert_eq!(server.ended().await.cut, 0);

    let time = ManualClock::new();
    let mut server = start(local().await.clock(time.clock()), tunnel(false));
    let mut client = upgraded(server.address()).await;
    server.drain();
    let (ended, _) = while_time_passes(&time, server.ended()).await;
    assert_eq!(ended.cut, 1);
    client.closed().await;
}

#[tokio::test]
async fn requests_see_that_the_server_drains() {
    let mut server = start(
        local().await,
        answering(|request| text(format!("{}", request.extensions().get::<Draining>().unwrap().has_begun()))),
    );
    let mut client = Client::connect(server.address()).await;
    assert!(client.get("/").await.unwrap().ends_with("false"));

    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }

    assert!(client.get("/").await.unwrap().ends_with("true"));
}

#[tokio::test]
async fn a_client_that_has_sent_more_than_is_answered_is_not_reset() {
    let (permits, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut server = start(local().await, held(&permits, &came));
    let mut client = Client::connect(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    take(&came).await;
    server.drain();
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }

    // More than is read ahead: what the kernel holds at the end would make a reset of it.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4000)).await;
    // The runtime asks the system for news every 61 turns.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    permits.add_permits(1);

    let answer = client.answer().await.unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("held"), "{answer}");
    assert_eq!(client.io.read(&mut [0; 1]).await.unwrap(), 0);
    for _ in 0..20 {
        tokio::task::yield_now().await;
        client.send("GET").await;
    }
    drop(client);
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn servers_that_follow_each_other_at_one_socket_answer_every_new_connection() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let serve = || {
        let listener = Listener::try_from(socket.try_clone().unwrap()).unwrap();
        start(Server::on(listener).workers(Workers::Threads(2)), hello())
    };
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [(); 4].map(|()| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut answers = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = Client::connect(address).await.get("/").await.expect("an answer");
                assert!(answer.ends_with("hello"), "{answer}");
                answers += 1;
            }
            answers
        })
    });

    let mut present = serve();
    for _ in 0..20 {
        let next = serve();
        present.drain();
        assert_eq!(std::mem::replace(&mut present, next).ended().await.cut, 0);
        Client::connect(address).await.get("/").await.expect("an answer");
    }
    stop.store(true, Ordering::Relaxed);

    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}
