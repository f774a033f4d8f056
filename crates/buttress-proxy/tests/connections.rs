//! The pool, and what happens when an upstream does not behave.

mod support;

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use buttress_core::{Cause, ManualClock, NothingSent, Outcome, RejectionKind};
use buttress_http::LiftBodiesLayer;
use buttress_http::answer::AnswerErrorsLayer;
use buttress_proxy::{Body, Error, ErrorKind, Proxy, ResponseFuture};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use support::{OK, TestBody, Upstream, get, post, settle, text};
use tokio::net::{TcpListener, TcpSocket};
use tower::{Service, ServiceBuilder, ServiceExt};

async fn send(proxy: &Proxy<TestBody>, request: Request<TestBody>) -> Result<Response<Body>, Error> {
    proxy.clone().oneshot(request).await
}

async fn ok(proxy: &Proxy<TestBody>) {
    assert_eq!(text(send(proxy, get("/")).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy();

    for _ in 0..10 {
        ok(&proxy).await;
    }

    assert_eq!(upstream.accepted(), 1);
    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_many_threads_connections_are_used_again() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy();

    let clients: Vec<_> = (0..8)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    ok(&proxy).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }

    // One that was just given back may not be ready yet, and then one more is opened; that is rare.
    assert!(upstream.accepted() <= 100, "{}", upstream.accepted());
    assert!(proxy.connections().open <= upstream.accepted());
}

#[tokio::test]
async fn each_runtime_has_connections_of_its_own_and_none_ends_with_another() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy();
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let call = || {
        let proxy = proxy.clone();
        async move {
            ok(&proxy).await;
            // The connection has to see that it is free.
            settle().await;
        }
    };

    for _ in 0..2 {
        elsewhere.spawn(call()).await.unwrap();
        call().await;
    }
    assert_eq!(upstream.accepted(), 2);

    elsewhere.shutdown_background();
    for _ in 0..10 {
        call().await;
    }
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_at_any_point_disturb_no_other_and_leave_nothing_behind() {
    let upstream = Upstream::echoing_heads().await;
    let proxy = upstream.proxy().without_via();

    let clients: Vec<_> = (0..8_usize)
        .map(|client| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for number in 0..120 {
                    let target = format!("/{client}/{number}");
                    let expected = format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
                    let mut answer = Box::pin(proxy.clone().call(get(&target)));
                    if number % 3 == 0 {
                        // Leaves before the head, after so many looks.
                        for _ in 0..(number + client) % 7 {
                            let looked = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
                            if looked.is_ready() {
                                break;
                            }
                            tokio::task::yield_now().await;
                        }
                        continue;
                    }
                    let response = answer.await.unwrap();
                    if number % 3 == 1 {
                        // Reads the body to its end: it must be the answer to this request.
                        assert_eq!(text(response).await, expected);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(proxy.connections().open, proxy.connections().idle);
}

#[tokio::test]
async fn a_connection_is_free_when_its_last_byte_was_read_without_a_look_at_the_end() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy();

    let mut response = send(&proxy, get("/")).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    settle().await;

    assert_eq!(proxy.connections().idle, 1);
    drop(response);
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn requests_at_the_same_time_have_a_connection_each_and_the_spare_ones_grow_old() {
    let time = ManualClock::new();
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(10));

    let (first, second) = tokio::join!(send(&proxy, get("/")), send(&proxy, get("/")));
    drop((text(first.unwrap()).await, text(second.unwrap()).await));
    settle().await;
    assert_eq!((proxy.connections().open, proxy.connections().idle), (2, 2));

    // The one used last is used again, so the other one alone grows old.
    for _ in 0..3 {
        time.advance(Duration::from_secs(4));
        ok(&proxy).await;
    }
    settle().await;
    assert_eq!(upstream.accepted(), 2);
    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 1));

    time.advance(Duration::from_secs(10));
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 3);

    time.set(buttress_core::Timestamp::ZERO);
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 3, "a clock that went back makes no connection old");
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time_though_no_request_comes() {
    let time = ManualClock::new();
    let (upstream, mut closed) = keeping().await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(10));
    ok(&proxy).await;
    settle().await;
    // Used again in between: its time counts from the last request.
    time.advance(Duration::from_secs(6));
    ok(&proxy).await;
    settle().await;

    for second in 1..10 {
        time.advance(Duration::from_secs(1));
        settle().await;
        assert_eq!(proxy.connections().idle, 1, "{second} s after the last request");
    }
    time.advance(Duration::from_secs(1));
    settle().await;

    assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0));
    closed.recv().await.unwrap();
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_connection_in_use_is_never_too_old() {
    let time = ManualClock::new();
    let (upstream, mut closed) = keeping().await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(10));
    ok(&proxy).await;
    settle().await;

    let answer = send(&proxy, get("/")).await.unwrap();
    for _ in 0..5 {
        time.advance(Duration::from_secs(10));
        settle().await;
    }

    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 0));
    assert_eq!(text(answer).await, "ok");
    assert!(closed.try_recv().is_err());
    settle().await;
    assert_eq!(proxy.connections().idle, 1);
}

#[tokio::test]
async fn one_that_the_upstream_closed_while_idle_leaves_the_pool_at_its_time_too() {
    let time = ManualClock::new();
    let close = Arc::new(tokio::sync::Notify::new());
    let told = close.clone();
    let upstream = Upstream::start(move |_, mut wire| {
        let told = told.clone();
        async move {
            wire.head().await;
            wire.send(OK).await;
            told.notified().await;
        }
    })
    .await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(10));
    ok(&proxy).await;
    settle().await;
    close.notify_one();
    settle().await;
    assert_eq!(proxy.connections().idle, 1);

    time.advance(Duration::from_secs(10));
    settle().await;

    assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0));
}

#[tokio::test]
async fn with_an_idle_timeout_of_zero_no_connection_is_kept() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy().idle_timeout(Duration::ZERO);

    ok(&proxy).await;
    settle().await;

    assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0));
}

#[tokio::test]
async fn no_more_connections_are_kept_idle_than_allowed() {
    let upstream = Upstream::answering(OK).await;
    for max in [0, 1] {
        let proxy = upstream.proxy().max_idle(max);

        let (first, second) = tokio::join!(send(&proxy, get("/")), send(&proxy, get("/")));
        drop((text(first.unwrap()).await, text(second.unwrap()).await));
        settle().await;

        assert_eq!((proxy.connections().open, proxy.connections().idle), (max, max));
    }
}

#[tokio::test]
async fn a_request_beyond_the_allowed_connections_is_refused_and_takes_no_place() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy().max_connections(1);
    let first = send(&proxy, get("/")).await.unwrap();

    let error = send(&proxy, get("/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let rejection = error.rejection().unwrap();
    assert!(rejection.kind == RejectionKind::Overloaded && rejection.elsewhere);
    assert!(error.nothing_sent());
    assert_eq!(error.to_string(), "overloaded by `connections`");
    let error = error.maybe_sent();
    assert!(!error.nothing_sent() && !Outcome::of_error(&error).unprocessed);

    assert_eq!(text(first).await, "ok");
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let upstream = Upstream::answering_once(OK).await;
    let proxy = upstream.proxy();

    for _ in 0..3 {
        ok(&proxy).await;
        settle().await;
    }

    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn a_connection_on_which_the_upstream_spoke_unasked_is_not_used() {
    let upstream = Upstream::answering_once(format!("{OK}HTTP/1.1 408 Request Timeout\r\n\r\n")).await;
    let proxy = upstream.proxy();

    for _ in 0..3 {
        ok(&proxy).await;
    }

    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn what_follows_an_answer_ends_its_connection() {
    for more in ["garbage", "\r\n", "\0"] {
        let upstream = Upstream::answering(format!("{OK}{more}")).await;
        let proxy = upstream.proxy();

        for number in 1..4 {
            ok(&proxy).await;
            settle().await;
            assert_eq!(upstream.accepted(), number, "{more:?}");
            // A request that would take it for the begin of its answer gets another connection.
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_too_old_serves_no_request_more() {
    let time = ManualClock::new();
    let (upstream, mut closed) = keeping().await;
    let proxy =
        upstream.proxy().clock(time.clock()).max_age(Duration::from_secs(100)).idle_timeout(Duration::MAX);
    let held = send(&proxy, get("/")).await.unwrap();
    ok(&proxy).await;
    settle().await;
    time.advance(Duration::from_secs(89));
    settle().await;
    assert_eq!((proxy.connections().open, proxy.connections().idle), (2, 1), "none ends before nine tenths");

    // The idle one ends by itself, the other when its answer has been read.
    time.advance(Duration::from_secs(11));
    closed.recv().await.unwrap();
    assert_eq!((proxy.connections().open, proxy.connections().idle), (1, 0));
    assert_eq!(text(held).await, "ok");
    closed.recv().await.unwrap();

    assert_eq!((proxy.connections().open, upstream.accepted()), (0, 2));
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn connections_that_were_opened_together_do_not_end_together() {
    let time = ManualClock::new();
    let upstream = Upstream::answering(OK).await;
    let proxy =
        upstream.proxy().clock(time.clock()).max_age(Duration::from_secs(100)).idle_timeout(Duration::MAX);
    let mut answers = Vec::new();
    for _ in 0..16 {
        answers.push(send(&proxy, get("/")).await.unwrap());
    }
    for answer in answers {
        assert_eq!(text(answer).await, "ok");
    }
    settle().await;

    let mut open = Vec::new();
    for _ in 0..10 {
        time.advance(Duration::from_secs(if open.is_empty() { 91 } else { 1 }));
        settle().await;
        open.push(proxy.connections().open);
    }

    assert_eq!(open.last(), Some(&0));
    assert!(open.iter().any(|open| (1..16).contains(open)), "{open:?}");
}

#[tokio::test]
async fn connections_are_opened_ahead_and_each_that_is_taken_or_ends_is_made_good() {
    let time = ManualClock::new();
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy().clock(time.clock()).preconnect(3).idle_timeout(Duration::from_secs(10));
    settle().await;
    assert_eq!(upstream.accepted(), 0, "nothing is opened before it is used or told to");

    proxy.warm_up().await.unwrap();
    assert_eq!((proxy.connections().open, proxy.connections().idle), (3, 3));

    let held = send(&proxy, get("/")).await.unwrap();
    settle().await;
    time.advance(Duration::from_millis(100));
    settle().await;
    assert_eq!((proxy.connections().open, proxy.connections().idle), (4, 3));
    assert_eq!(text(held).await, "ok");
    settle().await;

    // Too old, all of them: others take their place.
    time.advance(Duration::from_secs(10));
    settle().await;
    time.advance(Duration::from_millis(100));
    settle().await;
    assert_eq!((proxy.connections().open, proxy.connections().idle), (3, 3));
    assert_eq!(upstream.accepted(), 7);
    ok(&proxy).await;
    assert_eq!(upstream.accepted(), 7, "it went over one that was there");
}

#[tokio::test]
async fn the_first_request_begins_the_opening_ahead_and_the_last_clone_ends_it() {
    let (upstream, mut closed) = keeping().await;
    let proxy = upstream.proxy().preconnect(2);

    ok(&proxy).await;
    settle().await;
    while proxy.connections().idle < 3 {
        settle().await;
    }
    drop(proxy);

    for _ in 0..3 {
        closed.recv().await.unwrap();
    }
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn opening_ahead_goes_on_where_the_runtime_has_ended_that_it_began_on() {
    let (upstream, _closed) = keeping().await;
    let proxy = upstream.proxy().preconnect(2);
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = proxy.clone();
    elsewhere.spawn(async move { ok(&first).await }).await.unwrap();
    // Its tasks are gone when this is over.
    std::thread::spawn(move || drop(elsewhere)).join().unwrap();

    // The request's own, and two that nobody has used.
    for _ in 0..500 {
        ok(&proxy).await;
        settle().await;
        if proxy.connections().idle >= 3 {
            return;
        }
    }
    panic!("{:?}", proxy.connections());
}

#[tokio::test]
async fn opening_ahead_goes_on_when_an_upstream_is_back_and_takes_no_place_that_a_request_needs() {
    let time = ManualClock::new();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = Proxy::<TestBody>::to(address).unwrap().clock(time.clock()).preconnect(5).max_connections(2);

    let error = proxy.warm_up().await.unwrap_err();
    assert_eq!((error.kind(), error.upstream()), (ErrorKind::Connect, Some(proxy.upstream())));
    settle().await;

    let _listener = socket.listen(10).unwrap();
    for _ in 0..4 {
        settle().await;
        time.advance(Duration::from_secs(1));
    }
    settle().await;
    assert_eq!(
        (proxy.connections().open, proxy.connections().idle),
        (2, 2),
        "there may be two, so five are too many"
    );
    let error = proxy.warm_up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
}

/// An upstream on a thread of its own: it answers one request on each connection, and then waits to be told to close it.
fn thread_upstream() -> (std::net::SocketAddr, mpsc::Sender<()>, mpsc::Receiver<()>, JoinHandle<Vec<Vec<u8>>>)
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = mpsc::channel();
    let (confirm, confirmed) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        while closed.recv().is_ok() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 1024];
            let mut length = 0;
            while !request[..length].ends_with(b"hello") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            request.truncate(length);
            requests.push(request);
            stream.write_all(OK.as_bytes()).unwrap();
            if closed.recv().is_err() {
                break;
            }
            drop(stream);
            confirm.send(()).unwrap();
        }
        requests
    });
    (address, close, confirmed, thread)
}

#[tokio::test]
async fn a_request_that_a_dead_connection_never_took_is_sent_once_more_on_a_fresh_one() {
    let (address, upstream, confirmed, thread) = thread_upstream();
    let proxy = Proxy::<TestBody>::to(address).unwrap();
    upstream.send(()).unwrap();
    assert_eq!(text(send(&proxy, post("hello")).await.unwrap()).await, "ok");
    settle().await;
    assert_eq!(proxy.connections().idle, 1);

    // The runtime looks at its sockets while this task yields. Then the task has its turn before the connection's own,
    // which would note the end.
    upstream.send(()).unwrap();
    confirmed.recv().unwrap();
    tokio::task::yield_now().await;
    let answer = proxy.clone().call(post("hello"));
    assert!(format!("{answer:?}").contains("waiting"), "the dead connection was taken: {answer:?}");
    upstream.send(()).unwrap();

    assert_eq!(text(answer.await.unwrap()).await, "ok");
    drop(upstream);
    let requests = thread.join().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
}

#[tokio::test]
async fn answers_that_end_the_connection_leave_none_behind() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let upstream = Upstream::answering(answer).await;
        let proxy = upstream.proxy();

        ok(&proxy).await;
        settle().await;

        assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_is_read_to_its_end() {
    let upstream = Upstream::answering_once("HTTP/1.1 200 OK\r\n\r\nok").await;
    let proxy = upstream.proxy();

    for _ in 0..2 {
        ok(&proxy).await;
        assert_eq!(proxy.connections().idle, 0);
    }
}

/// An upstream that says how each connection ended once `answer` was sent.
async fn watched(answer: &'static str) -> (Upstream, tokio::sync::mpsc::UnboundedReceiver<usize>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            wire.send(answer).await;
            let (read, _) = wire.rest().await;
            tell.send(read).unwrap();
        }
    })
    .await;
    (upstream, told)
}

/// An upstream that answers request after request, and says when a connection has ended.
async fn keeping() -> (Upstream, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            while wire.head().await.is_some() {
                wire.send(OK).await;
            }
            tell.send(()).unwrap();
        }
    })
    .await;
    (upstream, told)
}

#[tokio::test]
async fn a_future_that_is_dropped_closes_the_connection_at_once() {
    let (upstream, mut told) = watched("").await;
    let proxy = upstream.proxy();
    {
        let mut answer = pin!(send(&proxy, get("/")));
        while upstream.accepted() == 0 {
            assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await.is_pending());
            settle().await;
        }
    }

    told.recv().await.unwrap();
    settle().await;
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn a_future_that_is_never_polled_gives_everything_back() {
    let upstream = Upstream::answering(OK).await;
    let proxy = upstream.proxy();

    drop(proxy.clone().call(get("/")));
    assert_eq!(proxy.connections().open, 0);

    ok(&proxy).await;
    settle().await;
    drop(proxy.clone().call(get("/")));
    settle().await;
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn a_body_that_is_dropped_before_its_end_closes_the_connection_at_once() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (upstream, mut told) = watched(answer).await;
        let proxy = upstream.proxy();
        let response = send(&proxy, get("/")).await.unwrap();

        // The upstream has nothing to say for now: the end must not wait for its next byte.
        settle().await;
        drop(response);

        told.recv().await.unwrap();
        assert_eq!(proxy.connections().open, 0);
    }
}

#[tokio::test]
async fn an_answer_before_the_request_was_sent_closes_the_connection() {
    let (upstream, mut told) = watched("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nok").await;
    let proxy = upstream.proxy();
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("/").body(body.boxed_unsync()).unwrap();
    let answer = tokio::spawn(proxy.clone().oneshot(request));
    sender.send_data(Bytes::from_static(b"hello")).await.unwrap();

    let response = answer.await.unwrap().unwrap();

    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "ok");
    told.recv().await.unwrap();
    assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0));
    assert!(sender.send_data(Bytes::from_static(b"more")).await.is_err(), "the client's body is let go");
}

#[tokio::test]
async fn the_idle_connections_go_with_the_last_clone() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let upstream = Upstream::start(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            wire.send(OK).await;
            let (_, ended) = wire.rest().await;
            ended.unwrap();
            tell.lock().unwrap().take().unwrap().send(()).unwrap();
        }
    })
    .await;
    let proxy = upstream.proxy();
    ok(&proxy).await;

    drop(proxy);

    told.await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_and_nothing_was_sent() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::<TestBody>::to(nobody).unwrap();

    let error = send(&proxy, post("hello")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.nothing_sent());
    assert!(error.source().unwrap().is::<NothingSent>());
    let cause = error.source().unwrap().source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(error.upstream().unwrap().to_string(), nobody.to_string());
    assert!(!error.to_string().contains("127.0.0.1"), "the text may be shown to a client: {error}");
    let unsure = error.maybe_sent();
    assert!(!unsure.nothing_sent(), "another attempt may have been carried out");
    assert_eq!((unsure.kind(), unsure.upstream()), (ErrorKind::Connect, Some(proxy.upstream())));
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_accept_is_a_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // With its queue full, the kernel leaves the next connection unanswered.
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    let time = ManualClock::new();
    let proxy =
        Proxy::<TestBody>::to(address).unwrap().clock(time.clock()).connect_timeout(Duration::from_secs(3));
    let mut answer = pin!(send(&proxy, get("/")));
    assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await.is_pending());

    time.advance(Duration::from_secs(3));
    let error = answer.await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
    assert!(error.nothing_sent());
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_of_its_kind_and_the_connection_is_not_used_again() {
    let huge = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: 1\r\n".repeat(200));
    for (answer, kind) in [
        ("garbage\r\n\r\n", ErrorKind::BadResponse),
        ("HTTP/1.1 abc OK\r\n\r\n", ErrorKind::BadResponse),
        ("HTTP/1.1 200 OK\r\nname\r\n\r\n", ErrorKind::BadResponse),
        ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", ErrorKind::BadResponse),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", ErrorKind::BadResponse),
        ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", ErrorKind::BadResponse),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrorKind::BadResponse),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            ErrorKind::BadResponse,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ErrorKind::BadResponse),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", ErrorKind::BadResponse),
        (&huge, ErrorKind::BadResponse),
        (&many, ErrorKind::BadResponse),
        ("", ErrorKind::Closed),
        ("HTTP/1.1 200 OK\r\nContent-Le", ErrorKind::Closed),
        ("HTTP/1.1 100 Continue\r\n\r\n", ErrorKind::Closed),
    ] {
        let upstream = Upstream::answering_once(answer.to_owned()).await;
        let proxy = upstream.proxy();

        let error = send(&proxy, get("/")).await.unwrap_err();

        let about = answer.get(..40).unwrap_or(answer);
        assert_eq!(error.kind(), kind, "{about}: {error:?}");
        assert!(!error.nothing_sent(), "{about}");
        assert_eq!(error.upstream(), Some(proxy.upstream()), "{about}");
        settle().await;
        assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0), "{about}");
    }
}

#[tokio::test]
async fn a_second_head_is_never_taken_for_the_next_answer() {
    let secret = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
    for first in
        [OK, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"]
    {
        let upstream = Upstream::answering(format!("{first}{secret}")).await;
        let proxy = upstream.proxy();

        for _ in 0..3 {
            let response = send(&proxy, get("/")).await.unwrap();
            assert_ne!(text(response).await, "secret");
            settle().await;
        }

        assert_eq!(upstream.accepted(), 3);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_body() {
    for (answer, kind) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ErrorKind::Incomplete),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", ErrorKind::Incomplete),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ErrorKind::Incomplete),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ErrorKind::BadResponse),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            ErrorKind::BadResponse,
        ),
    ] {
        let upstream = Upstream::answering_once(answer).await;
        let proxy = upstream.proxy();

        let response = send(&proxy, get("/")).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();

        assert_eq!(error.kind(), kind, "{answer}: {error:?}");
        assert!(!error.nothing_sent());
        assert_eq!(error.upstream(), Some(proxy.upstream()));
        settle().await;
        assert_eq!((proxy.connections().open, proxy.connections().idle), (0, 0));
    }
}

#[tokio::test]
async fn a_reset_is_told_from_an_end() {
    let before = Upstream::start(|_, mut wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let error = send(&before.proxy(), get("/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset, "{error:?}");

    let during = Upstream::start(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
        settle().await;
        wire.reset();
    })
    .await;
    let response = send(&during.proxy(), get("/")).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset, "{error:?}");
}

#[tokio::test]
async fn a_client_whose_body_fails_or_ends_short_is_told_from_a_failing_upstream() {
    for length in [None, Some("10")] {
        let (upstream, mut told) = watched("").await;
        let proxy = upstream.proxy();
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        let mut request = Request::post("/").body(body.boxed_unsync()).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let answer = tokio::spawn(proxy.clone().oneshot(request));
        sender.send_data(Bytes::from_static(b"hello")).await.unwrap();
        if length.is_some() {
            drop(sender);
        } else {
            sender.abort(std::io::Error::other("the client is gone"));
        }

        let error = answer.await.unwrap().unwrap_err();

        assert_eq!(error.kind(), ErrorKind::RequestBody, "{error:?}");
        let read = told.recv().await.unwrap();
        assert!(read <= "5\r\nhello\r\n".len(), "the upstream must not take it for a whole request");
        assert_eq!(proxy.connections().open, 0);
    }
}

#[tokio::test]
async fn a_client_body_that_panics_fails_its_own_request_only() {
    struct Panics;
    impl http_body::Body for Panics {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::convert::Infallible>>> {
            panic!("a body that panics")
        }
    }
    let upstream = Upstream::answering(OK).await;
    let proxy = Proxy::to(upstream.address).unwrap();

    let error = proxy.clone().oneshot(Request::post("/").body(Panics).unwrap()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Closed);
    settle().await;
    assert_eq!(proxy.connections().open, 0);
}

#[test]
#[should_panic(expected = "via must be a token")]
fn a_via_that_is_no_token_is_refused_when_it_is_set() {
    let _ = Proxy::<TestBody>::to("127.0.0.1:1").unwrap().via("a b");
}

#[test]
fn the_types_can_be_sent_and_shared() {
    fn all<T: Send + Sync + Clone + Unpin + 'static>() {}
    fn future<T: Send + Unpin + 'static>() {}
    fn body<T: Send + Sync + Unpin + 'static>() {}

    all::<Proxy<TestBody>>();
    all::<Proxy>();
    future::<ResponseFuture<TestBody>>();
    body::<Body>();
    body::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}

#[tokio::test]
async fn answered_at_the_top_of_a_stack_each_error_says_what_it_is() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let garbage = Upstream::answering_once("garbage\r\n\r\n").await;
    let mut two_hosts = get("/");
    two_hosts.headers_mut().append("host", "b.example".parse().unwrap());
    for (address, request, status, detail) in [
        (nobody, get("/"), 502, "cannot connect to the upstream"),
        (garbage.address, get("/"), 502, "the upstream's answer is not valid HTTP"),
        (nobody, two_hosts, 400, "the request cannot be sent on"),
    ] {
        let stack = ServiceBuilder::new()
            .layer(AnswerErrorsLayer::new().describe(Error::problem))
            .layer(LiftBodiesLayer::new())
            .service(Proxy::<TestBody>::to(address).unwrap());

        let response = stack.oneshot(request).await.unwrap();

        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&body).unwrap().contains(detail), "{body:?}");
    }
}
