//! The server over real sockets: what it speaks, what its requests carry, how it bounds slow clients.
#![cfg(feature = "server")]

mod server_support;

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_http::Peer;
use buttress_proxy::server::{Body, Listener, Workers};
use buttress_proxy::{Draining, Scheme};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use server_support::{
    Client, Log, answering, hello, http2, http2_get, local, start, text, while_time_passes, whole,
};

#[tokio::test]
async fn one_port_speaks_http1_and_http2_by_prior_knowledge() {
    let server = start(local().await, answering(|request| text(format!("{:?}", request.version()))));

    let answer = Client::connect(server.address()).await.get("/").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("HTTP/1.1"), "{answer}");
    let (mut client, _connection) = http2(server.address()).await;
    let answer = whole(client.send_request(http2_get("/")).await.unwrap()).await;
    assert_eq!(answer, (200, Bytes::from("HTTP/2.0")));
}

#[tokio::test]
async fn each_connection_that_was_opened_is_told_when_it_is_closed() {
    let log = Log::default();
    let server = start(log.on(local().await), answering(|_| text("hello")));

    let mut client = Client::connect(server.address()).await;
    client.get("/").await.unwrap();
    assert!(log.has("Opened") && !log.has("Closed"), "it is open");
    drop(client);

    log.until("Closed").await;
}

#[tokio::test]
async fn requests_say_who_sent_them_by_which_scheme_and_whether_the_server_drains() {
    let server = start(
        local().await,
        answering(|request| {
            let peer = Peer::of(&request).unwrap().0;
            let draining = request.extensions().get::<Draining>().unwrap().has_begun();
            text(format!("{peer} {} {draining}", Scheme::of(request.extensions()).as_str()))
        }),
    );

    let mut client = Client::connect(server.address()).await;
    let own = client.io.local_addr().unwrap();
    let answer = client.get("/").await.unwrap();

    assert!(answer.ends_with(&format!("\r\n\r\n{own} http false")), "{answer}");
}

#[tokio::test]
async fn a_connection_serves_request_after_request_those_sent_ahead_too() {
    let server = start(local().await, answering(|request| text(request.uri().path().to_owned())));
    let mut client = Client::connect(server.address()).await;

    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;

    assert!(client.answer().await.unwrap().ends_with("/1"));
    assert!(client.answer().await.unwrap().ends_with("/2"));
    assert!(client.get("/3").await.unwrap().ends_with("/3"));
}

#[tokio::test]
async fn several_listeners_share_one_service() {
    let other = Listener::bind("127.0.0.1:0").await.unwrap();
    let server = start(local().await.and(other), hello());

    for address in &server.addresses {
        assert!(Client::connect(*address).await.get("/").await.unwrap().ends_with("hello"));
    }
    assert_ne!(server.addresses[0], server.addresses[1]);
}

#[tokio::test]
async fn threads_of_their_own_serve_with_one_queue_or_a_queue_each_and_end_with_the_server() {
    for listener in [Listener::bind("127.0.0.1:0").await, Listener::bind_reuse_port("127.0.0.1:0").await] {
        let server = buttress_proxy::server::Server::on(listener.unwrap()).workers(Workers::Threads(2));
        let mut server =
            start(server, answering(|_| text(std::thread::current().name().unwrap_or_default().to_owned())));

        for _ in 0..20 {
            let answer = Client::connect(server.address()).await.get("/").await.unwrap();
            assert!(answer.ends_with("buttress-0") || answer.ends_with("buttress-1"), "{answer}");
        }
        let address = server.address();
        server.drain();
        assert_eq!(server.ended().await.cut, 0);
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go_after_the_head_timeout() {
    let time = ManualClock::new();
    let log = Log::default();
    let server = log.on(local().await).clock(time.clock()).head_timeout(Duration::from_secs(7));
    let server = start(server, hello());

    let mut silent = Client::connect(server.address()).await;
    let ((), took) = while_time_passes(&time, silent.closed()).await;
    // A part of HTTP/2's preface is neither protocol.
    let mut slow = Client::connect(server.address()).await;
    slow.send("PRI * HT").await;
    while_time_passes(&time, slow.closed()).await;

    assert!(took >= Duration::from_secs(7), "{took:?}");
    assert!(log.has("no request within the time for its head"));
}

#[tokio::test]
async fn an_idle_connection_is_let_go_after_the_keep_alive_time() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).keep_alive(Duration::from_secs(60));
    let server = start(server, hello());

    let mut client = Client::connect(server.address()).await;
    client.get("/").await.unwrap();
    let ((), took) = while_time_passes(&time, client.closed()).await;

    assert!(took >= Duration::from_secs(60), "{took:?}");
}

#[tokio::test]
async fn an_idle_http2_connection_is_let_go_after_the_keep_alive_time() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).keep_alive(Duration::from_secs(20));
    let server = start(server, hello());

    let (mut client, connection) = http2(server.address()).await;
    whole(client.send_request(http2_get("/")).await.unwrap()).await;
    let (_, took) = while_time_passes(&time, connection).await;

    // The time is looked at four times: it began in the middle of the first quarter.
    assert!(took >= Duration::from_secs(20), "{took:?}");
    assert!(client.send_request(http2_get("/")).await.is_err());
}

#[tokio::test]
async fn a_client_that_stops_sending_a_body_ends_it_with_an_error() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).body_timeout(Duration::from_secs(5));
    let server = start(
        server,
        tower::service_fn(async |request: Request<Body>| {
            let error = request.into_body().collect().await.unwrap_err();
            Ok::<_, Infallible>(text(format!("{} {error}", error.is_timeout())))
        }),
    );

    let mut client = Client::connect(server.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").await;
    let (answer, took) = while_time_passes(&time, client.answer()).await;

    assert!(answer.unwrap().ends_with("true the client has sent nothing of the body for too long"));
    assert!(took >= Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_stream_whose_client_stops_sending_a_body_ends_it_with_an_error() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).body_timeout(Duration::from_secs(5));
    let server = start(
        server,
        tower::service_fn(async |request: Request<Body>| {
            let error = request.into_body().collect().await.unwrap_err();
            Ok::<_, Infallible>(text(format!("{} {error}", error.is_timeout())))
        }),
    );

    let socket = TokioIo::new(tokio::net::TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    let request = Request::post("http://a.example/").body(body).unwrap();
    sender.send_data(Bytes::from_static(b"12345")).await.unwrap();
    let (answer, took) = while_time_passes(&time, client.send_request(request)).await;

    let (_, said) = whole(answer.unwrap()).await;
    assert_eq!(said, "true the client has sent nothing of the body for too long");
    assert!(took >= Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn half_a_body_whose_stream_is_reset_without_an_error_is_not_whole() {
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
    let server = start(
        local().await,
        tower::service_fn(move |request: Request<Body>| {
            let say = say.clone();
            // Hyper drops the call with its stream; whoever else reads the body goes by what the body says.
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    let is_last = frame.is_err();
                    say.send(Some(frame.map(|frame| frame.into_data().unwrap()))).unwrap();
                    if is_last {
                        return;
                    }
                }
                say.send(None).unwrap();
            });
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }),
    );

    let socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    for whole in [true, false] {
        let request = Request::post("http://a.example/").body(()).unwrap();
        let mut client = client.clone().ready().await.unwrap();
        let (_answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), whole).unwrap();
        assert_eq!(said.recv().await.unwrap().unwrap().unwrap(), "half");
        if whole {
            assert!(said.recv().await.unwrap().is_none());
            continue;
        }

        stream.send_reset(h2::Reason::NO_ERROR);

        let error = said.recv().await.unwrap().expect("the body is not at its end").unwrap_err();
        assert!(!error.is_timeout() && error.violation().is_none(), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_a_body_ends_it_with_another_error() {
    let (said, heard) = tokio::sync::oneshot::channel();
    let said = std::sync::Arc::new(std::sync::Mutex::new(Some(said)));
    let server = start(
        local().await,
        tower::service_fn(move |request: Request<Body>| {
            let said = said.lock().unwrap().take().unwrap();
            async move {
                said.send(request.into_body().collect().await.unwrap_err()).unwrap();
                Ok::<_, Infallible>(text(""))
            }
        }),
    );

    let mut client = Client::connect(server.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").await;
    drop(client);

    let error = heard.await.unwrap();
    assert!(!error.is_timeout(), "{error}");
}

/// More than any socket takes, and whether it was dropped.
fn flood() -> (impl server_support::AnyHandler, tokio::sync::watch::Receiver<usize>) {
    let (held, dropped) = tokio::sync::watch::channel(0);
    let held = std::sync::Arc::new(held);
    let service = tower::service_fn(move |_: Request<Body>| {
        let held = std::sync::Arc::clone(&held);
        async move {
            struct Drops(std::sync::Arc<tokio::sync::watch::Sender<usize>>);
            impl Drop for Drops {
                fn drop(&mut self) {
                    self.0.send_modify(|drops| *drops += 1);
                }
            }
            let drops = Drops(held);
            let pieces = futures_util::stream::repeat_with(move || {
                let _ = &drops;
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(pieces)))
        }
    });
    (service, dropped)
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go_after_the_send_timeout() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).send_timeout(Duration::from_secs(3));
    let (service, mut dropped) = flood();
    let server = start(server, service);

    let mut client = Client::connect(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, took) = while_time_passes(&time, dropped.wait_for(|drops| *drops == 1)).await;

    assert!(took >= Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_is_reset_and_its_connection_lives_on() {
    let time = ManualClock::new();
    let server = local().await.clock(time.clock()).send_timeout(Duration::from_secs(3));
    let (service, mut dropped) = flood();
    let server = start(server, service);

    let (mut client, _connection) = http2(server.address()).await;
    // Its body is not read, so its window closes, while the socket is read.
    let stuck = client.send_request(http2_get("/")).await.unwrap();
    while_time_passes(&time, dropped.wait_for(|drops| *drops == 1)).await.0.unwrap();

    let mut next = client.send_request(http2_get("/")).await.unwrap();
    assert!(next.frame().await.unwrap().is_ok());
    assert!(stuck.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_http2_request_without_a_clear_host_is_refused() {
    let server = start(local().await, hello());
    let (mut client, _connection) = http2(server.address()).await;

    let mut request = http2_get("/");
    request.headers_mut().insert("host", "b.example".parse().unwrap());
    let (status, problem) = whole(client.send_request(request).await.unwrap()).await;

    assert_eq!(status, 400);
    assert!(
        problem.starts_with(b"{")
            && String::from_utf8_lossy(&problem).contains("the authority and Host differ")
    );
    assert_eq!(whole(client.send_request(http2_get("/")).await.unwrap()).await.0, 200);
}

#[tokio::test]
async fn paths_are_as_they_came_and_have_one_spelling_by_option() {
    let echo = || answering(|request| text(request.uri().to_string()));
    let plain = start(local().await, echo());
    let normal = start(local().await.normalize_paths(), echo());

    let mut client = Client::connect(plain.address()).await;
    assert!(client.get("/a/../%7eb//?%7e").await.unwrap().ends_with("\r\n/a/../%7eb//?%7e"));
    let mut client = Client::connect(normal.address()).await;
    assert!(client.get("/a/../%7eb/?%7e").await.unwrap().ends_with("\r\n/~b/?%7e"));
    let refused = client.get("/a/%2fb").await.unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("the path has an escaped slash"),
        "{refused}"
    );
    assert!(client.get("/").await.unwrap().ends_with("\r\n/"));
}

/// Ready only at the second time of asking, and called only when it has said so.
#[derive(Clone, Default)]
struct SlowToBeReady {
    asked: u32,
}

impl tower::Service<Request<Body>> for SlowToBeReady {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked += 1;
        if self.asked == 2 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert_eq!(std::mem::take(&mut self.asked), 2, "it was not ready");
        std::future::ready(Ok(text("ready")))
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for() {
    let server = start(local().await, SlowToBeReady::default());
    let mut client = Client::connect(server.address()).await;

    for _ in 0..3 {
        assert!(client.get("/").await.unwrap().ends_with("ready"));
    }
}

#[tokio::test]
async fn a_service_that_fails_ends_the_http1_connection_and_the_http2_stream() {
    let server = start(
        local().await,
        tower::service_fn(async |request: Request<Body>| match request.uri().path() {
            "/fails" => Err("no answer"),
            _ => Ok(text("hello")),
        }),
    );

    let mut client = Client::connect(server.address()).await;
    assert_eq!(client.get("/fails").await, None);
    let (mut client, _connection) = http2(server.address()).await;
    assert!(client.send_request(http2_get("/fails")).await.is_err());
    assert_eq!(whole(client.send_request(http2_get("/")).await.unwrap()).await.0, 200);
}
