//! A shutdown in order over real connections: axum, and an accept loop over hyper. The times are the test's: each step is
//! taken by hand on a manual clock, and nothing waits for the system's.

#![cfg(feature = "http")]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use buttress_core::ManualClock;
use buttress_health::{Aborted, Ended, HealthEndpoints, HealthLayer, Readiness, Shutdown, reject};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

type Client = SendRequest<Empty<bytes::Bytes>>;

async fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(client: &mut Client, path: &str) -> Response<Incoming> {
    client.ready().await.unwrap();
    let request = Request::get(path).header("host", "test").body(Empty::new()).unwrap();
    client.send_request(request).await.unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What a test of a server has in hand.
struct Rig {
    manual: ManualClock,
    shutdown: Shutdown,
    /// Told when a slow request has come; tells it to go on.
    came: Arc<Notify>,
    go: Arc<Notify>,
    address: SocketAddr,
    /// How often it fails to accept a connection, as when too many files are open.
    failures: Arc<AtomicUsize>,
}

impl Rig {
    async fn new() -> (Self, TcpListener) {
        let manual = ManualClock::new();
        let shutdown = Shutdown::new(&Readiness::new().clock(manual.clock()));
        let (came, go) = (Arc::default(), Arc::default());
        let (listener, address) = listener().await;
        (Self { manual, shutdown, came, go, address, failures: Arc::default() }, listener)
    }

    /// Asks for what takes until `go`.
    async fn ask_slowly(&self) -> JoinHandle<Response<Incoming>> {
        let mut client = connect(self.address).await;
        let asked = tokio::spawn(async move { ask(&mut client, "/slow").await });
        self.came.notified().await;
        asked
    }

    fn axum(&self, listener: TcpListener) -> JoinHandle<Result<(), Aborted>> {
        let (came, go) = (self.came.clone(), self.go.clone());
        let slow = move || async move {
            came.notify_one();
            go.notified().await;
            "done"
        };
        let readiness = self.shutdown.readiness();
        let app = Router::new()
            .route("/slow", get(slow))
            .route("/", get(|| async { "hello" }))
            .layer(
                HealthLayer::new(readiness)
                    .classify(buttress_health::classify::status())
                    .on_reject(reject::respond()),
            )
            .fallback_service(HealthEndpoints::new(readiness));
        let shutdown = self.shutdown.clone();
        let serve = axum::serve(listener, app).with_graceful_shutdown(shutdown.stopping());
        tokio::spawn(async move { shutdown.run(serve.into_future()).await.map(|served| served.unwrap()) })
    }

    fn hyper(&self, listener: TcpListener) -> JoinHandle<Ended> {
        let (came, go) = (self.came.clone(), self.go.clone());
        let (shutdown, failures) = (self.shutdown.clone(), self.failures.clone());
        tokio::spawn(async move {
            let accept = async || {
                let left = failures.load(Ordering::SeqCst);
                if left > 0 {
                    failures.store(left - 1, Ordering::SeqCst);
                    return Err(io::Error::from_raw_os_error(24));
                }
                listener.accept().await
            };
            let mut stopping = shutdown.stopping();
            loop {
                let stream = tokio::select! {
                    () = &mut stopping => break,
                    accepted = accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => {
                            tokio::task::yield_now().await;
                            continue;
                        }
                    },
                };
                let (came, go) = (came.clone(), go.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (came, go) = (came.clone(), go.clone());
                    async move {
                        if request.uri().path() == "/slow" {
                            came.notify_one();
                            go.notified().await;
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("done"))))
                    }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(shutdown.guard().serve(connection, |connection| connection.graceful_shutdown()));
            }
            drop(listener);
            shutdown.finished().await
        })
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Until the server no longer listens.
async fn refused(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn axum_serves_through_the_pre_drain_ends_what_is_under_way_and_is_alive_throughout() {
    let (rig, listener) = Rig::new().await;
    let server = rig.axum(listener);
    let mut prober = connect(rig.address).await;
    assert_eq!(ask(&mut prober, "/readyz").await.status(), 200);

    rig.shutdown.begin();
    // Balancers that have not heard yet send calls on connections old and new.
    assert_eq!(ask(&mut prober, "/readyz").await.status(), 503);
    assert_eq!(ask(&mut prober, "/livez").await.status(), 200);
    assert_eq!(ask(&mut prober, "/").await.status(), 200);
    assert_eq!(ask(&mut connect(rig.address).await, "/").await.status(), 200);
    let slow = rig.ask_slowly().await;

    rig.manual.advance(seconds(5));
    refused(rig.address).await;
    assert!(!server.is_finished(), "a request is under way");
    rig.go.notify_one();

    assert_eq!(slow.await.unwrap().status(), 200);
    assert_eq!(server.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn axum_is_given_up_when_the_grace_is_over() {
    let (rig, listener) = Rig::new().await;
    let server = rig.axum(listener);
    let _slow = rig.ask_slowly().await;

    rig.shutdown.begin();
    rig.manual.advance(seconds(5));
    refused(rig.address).await;
    rig.manual.advance(seconds(30));

    assert_eq!(server.await.unwrap(), Err(Aborted));
}

#[tokio::test]
async fn axum_is_given_up_at_the_second_signal() {
    let (rig, listener) = Rig::new().await;
    let server = rig.axum(listener);
    let _slow = rig.ask_slowly().await;

    rig.shutdown.signal();
    rig.shutdown.signal();

    assert_eq!(server.await.unwrap(), Err(Aborted));
}

#[tokio::test]
async fn an_accept_loop_over_hyper_drains_its_connections() {
    let (rig, listener) = Rig::new().await;
    let server = rig.hyper(listener);
    let mut idle = connect(rig.address).await;
    assert_eq!(ask(&mut idle, "/").await.status(), 200);
    let slow = rig.ask_slowly().await;
    assert_eq!(rig.shutdown.guards(), 2);

    rig.shutdown.begin();
    assert_eq!(ask(&mut idle, "/").await.status(), 200);
    rig.manual.advance(seconds(5));
    refused(rig.address).await;
    while rig.shutdown.guards() > 1 {
        tokio::task::yield_now().await;
    }
    // An idle connection is closed.
    while !idle.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    rig.go.notify_one();

    let answer = slow.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["connection"]), (200, &"close".parse().unwrap()));
    assert_eq!(server.await.unwrap(), Ended::Drained);
    assert_eq!(rig.shutdown.guards(), 0);
}

#[tokio::test]
async fn an_accept_loop_over_hyper_goes_on_when_it_fails_to_accept() {
    let (rig, listener) = Rig::new().await;
    rig.failures.store(3, Ordering::SeqCst);
    let server = rig.hyper(listener);

    let mut client = connect(rig.address).await;
    assert_eq!(ask(&mut client, "/").await.status(), 200);
    assert_eq!(rig.failures.load(Ordering::SeqCst), 0);

    rig.shutdown.begin();
    rig.manual.advance(seconds(5));
    assert_eq!(server.await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn an_accept_loop_over_hyper_cuts_off_what_is_left_after_the_grace() {
    let (rig, listener) = Rig::new().await;
    let server = rig.hyper(listener);
    let slow = rig.ask_slowly().await;

    rig.shutdown.begin();
    rig.manual.advance(seconds(5));
    refused(rig.address).await;
    rig.manual.advance(seconds(30));

    assert_eq!(server.await.unwrap(), Ended::Aborted);
    assert!(slow.await.is_err(), "the connection broke off");
}

#[tokio::test]
async fn over_http2_a_connection_ends_with_what_is_under_way() {
    let (rig, listener) = Rig::new().await;
    let (came, go) = (rig.came.clone(), rig.go.clone());
    let service = service_fn(move |_: Request<Incoming>| {
        let (came, go) = (came.clone(), go.clone());
        async move {
            came.notify_one();
            go.notified().await;
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("done"))))
        }
    });
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let accepted = listener.accept().await.unwrap().0;
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(accepted), service);
    let guarded = rig.shutdown.guard().serve(connection, |connection| connection.graceful_shutdown());
    let server = tokio::spawn(guarded);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://test/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let slow = tokio::spawn(client.send_request(request));
    rig.came.notified().await;

    rig.shutdown.begin();
    rig.manual.advance(seconds(5));
    rig.go.notify_one();

    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    // The client would keep it open for ever.
    assert!(server.await.unwrap().unwrap().is_ok());
    drop(client);
}
