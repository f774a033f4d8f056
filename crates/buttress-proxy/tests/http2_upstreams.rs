//! Upstreams of HTTP/2 with prior knowledge: what is shared, what is counted, and what an upstream may do to us.
#![cfg(feature = "http2")]

mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{ManualClock, RejectionKind};
use buttress_proxy::{Body, Error, ErrorKind, Proxy};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use support::{TestBody, Wire, body, get, post, settle, text};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tower::{Service, ServiceExt};

type Http2 = Connection<TcpStream, Bytes>;

/// An upstream of HTTP/2 that does on each connection what a test tells it to.
struct Upstream {
    address: std::net::SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(count.fetch_add(1, Ordering::SeqCst) + 1, socket));
            }
        });
        Self { address, accepted }
    }

    /// Each request goes to `answer` in a task of its own.
    async fn answering<F>(
        builder: h2::server::Builder,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let builder = Arc::new(builder);
        Self::start(move |_, socket| {
            let (builder, answer) = (builder.clone(), answer.clone());
            async move {
                let mut connection: Http2 = builder.handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            }
        })
        .await
    }

    async fn ok() -> Self {
        Self::answering(h2::server::Builder::new(), |_, respond| async { ok(respond) }).await
    }

    fn proxy(&self) -> Proxy<TestBody> {
        Proxy::to(self.address).unwrap().http2()
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn ok(mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("content-length", "2").body(()).unwrap();
    // Whoever has asked may be gone.
    if let Ok(mut stream) = respond.send_response(head, false) {
        let _ = stream.send_data(Bytes::from_static(b"ok"), true);
    }
}

async fn send(proxy: &Proxy<TestBody>, request: Request<TestBody>) -> Result<Response<Body>, Error> {
    proxy.clone().oneshot(request).await
}

/// A body that a test feeds frame by frame.
fn fed() -> (Sender<Bytes, std::io::Error>, TestBody) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed_unsync())
}

async fn is_ok(proxy: &Proxy<TestBody>) {
    assert_eq!(text(send(proxy, get("/")).await.unwrap()).await, "ok");
}

/// Waits for what the other tasks bring about.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        settle().await;
    }
}

#[tokio::test]
async fn many_requests_at_a_time_share_one_connection_and_wait_for_it_together() {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let upstream = Upstream::answering(h2::server::Builder::new(), move |_, respond| {
        let told = told.clone();
        async move {
            told.notified().await;
            ok(respond);
        }
    })
    .await;
    let proxy = upstream.proxy();

    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(proxy.clone().oneshot(get("/")))).collect();
    until(|| proxy.connections().streams == 50).await;
    assert_eq!((upstream.accepted(), proxy.connections().open, proxy.connections().idle), (1, 1, 0));
    settle().await;
    go.notify_waiters();
    for call in calls {
        assert_eq!(text(call.await.unwrap().unwrap()).await, "ok");
    }

    let connections = proxy.connections();
    assert_eq!((connections.streams, connections.open, connections.idle), (0, 1, 1));
    is_ok_later(&proxy, &go).await;
    assert_eq!(upstream.accepted(), 1);
}

async fn is_ok_later(proxy: &Proxy<TestBody>, go: &Notify) {
    let call = tokio::spawn(proxy.clone().oneshot(get("/")));
    until(|| proxy.connections().streams == 1).await;
    settle().await;
    go.notify_waiters();
    assert_eq!(text(call.await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn when_the_streams_of_a_connection_are_used_up_another_is_opened() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let upstream = Upstream::answering(builder, move |_, respond| {
        let told = told.clone();
        async move {
            told.notified().await;
            ok(respond);
        }
    })
    .await;
    for (proxy, connections) in [(upstream.proxy(), 3), (upstream.proxy().max_streams(1), 5)] {
        let before = upstream.accepted();

        let calls: Vec<_> = (0..5).map(|_| tokio::spawn(proxy.clone().oneshot(get("/")))).collect();
        until(|| proxy.connections().streams == 5).await;
        settle().await;

        assert_eq!(upstream.accepted() - before, connections);
        assert_eq!(proxy.connections().open, connections);
        go.notify_waiters();
        for call in calls {
            assert_eq!(text(call.await.unwrap().unwrap()).await, "ok");
        }
    }
}

#[tokio::test]
async fn beyond_the_allowed_connections_a_request_is_refused() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let upstream = Upstream::answering(builder, |_, respond| async move {
        let _respond = respond;
        std::future::pending().await
    })
    .await;
    let proxy = upstream.proxy().max_connections(1);
    let first = tokio::spawn(proxy.clone().oneshot(get("/")));
    until(|| proxy.connections().streams == 1).await;

    let error = send(&proxy, get("/")).await.unwrap_err();

    use buttress_core::Cause;
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(error.rejection().unwrap().kind, RejectionKind::Overloaded);
    assert!(error.nothing_sent());
    first.abort();
}

#[tokio::test]
async fn the_head_is_made_for_http2_and_names_the_host_in_its_authority() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, mut respond| async move {
        let head = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(head.into(), true).unwrap();
    })
    .await;
    let proxy = upstream.proxy().without_via();
    let mut request = get("/a?b=c");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request.headers_mut().insert("connection", "keep-alive, x-hop".parse().unwrap());
    request.headers_mut().insert("x-hop", "1".parse().unwrap());

    let seen = text(send(&proxy, request).await.unwrap()).await;
    assert_eq!(seen, r#"GET http://shop.example/a?b=c {"te": "trailers"}"#);

    let (sender, body) = fed();
    drop(sender);
    let request = Request::post("/").header("host", "shop.example").body(body).unwrap();
    let seen = text(send(&proxy, request).await.unwrap()).await;
    assert_eq!(seen, "POST http://shop.example/ {}", "a body without a length is not chunked");

    let own = proxy.clone().preserve_host(false);
    let seen = text(send(&own, get("/")).await.unwrap()).await;
    assert_eq!(seen, format!("GET http://{}/ {{}}", upstream.address));

    let mut request = get("/");
    request.headers_mut().insert("host", "no host".parse().unwrap());
    let error = send(&proxy, request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.nothing_sent());
    is_fine(&proxy).await;
}

async fn is_fine(proxy: &Proxy<TestBody>) {
    send(proxy, get("/")).await.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_stream_of_messages_goes_both_ways_with_trailers_at_both_ends() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, mut respond| async move {
        let mut incoming = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(message) = incoming.data().await {
            let message = message.unwrap();
            incoming.flow_control().release_capacity(message.len()).unwrap();
            stream.send_data(message, false).unwrap();
        }
        let mut trailers = incoming.trailers().await.unwrap().unwrap();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let proxy = upstream.proxy();
    let (mut sender, body) = fed();
    let request = Request::post("/").header("host", "shop.example").header("te", "trailers");

    // The head of the answer comes while the request is still being sent.
    let mut answer = send(&proxy, request.body(body).unwrap()).await.unwrap();
    for message in ["one", "two", "three"] {
        sender.send_data(Bytes::from(message)).await.unwrap();
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("11"));
    sender.send(Frame::trailers(trailers)).await.unwrap();
    drop(sender);

    let trailers = answer.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        (&trailers["x-sum"], &trailers["grpc-status"]),
        (&"11".parse().unwrap(), &"0".parse().unwrap())
    );
    assert!(answer.body_mut().frame().await.is_none());
    settle().await;
    assert_eq!((proxy.connections().streams, proxy.connections().open), (0, 1));
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways_and_lengths_are_told() {
    const SIZE: usize = 4 * 1024 * 1024;
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, mut respond| async move {
        assert_eq!(request.headers()["content-length"], SIZE.to_string());
        let body = received(request.into_body()).await;
        let head = Response::builder().header("content-length", body.len()).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(body, true).unwrap();
    })
    .await;
    let sent: Bytes = (0..SIZE).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();

    let response = send(&upstream.proxy(), post(sent.clone())).await.unwrap();

    assert_eq!(response.body().size_hint().exact(), Some(SIZE as u64));
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
}

/// All that comes of a request's body.
async fn received(mut body: RecvStream) -> Bytes {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all.into()
}

#[tokio::test]
async fn an_answer_to_head_has_its_length_and_no_body() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |_, mut respond| async move {
        let head = Response::builder().header("content-length", "1000").body(()).unwrap();
        respond.send_response(head, true).unwrap();
    })
    .await;
    let mut request = get("/");
    *request.method_mut() = http::Method::HEAD;

    let response = send(&upstream.proxy(), request).await.unwrap();

    assert_eq!(response.headers()["content-length"], "1000");
    assert!(response.body().is_end_stream());
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_stream_and_no_other() {
    const CHUNK: usize = 16 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let upstream = Upstream::answering(h2::server::Builder::new(), move |request, mut respond| {
        let count = count.clone();
        async move {
            if request.uri().path() == "/small" {
                return ok(respond);
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            loop {
                stream.reserve_capacity(CHUNK);
                while stream.capacity() == 0 {
                    let Some(Ok(_)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                }
                let room = stream.capacity().min(CHUNK);
                stream.send_data(Bytes::from(vec![0; room]), false).unwrap();
                count.fetch_add(room, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = upstream.proxy().stream_window(64 * 1024).max_streams(10);

    let mut slow = Vec::new();
    for _ in 0..9 {
        slow.push(send(&proxy, get("/large")).await.unwrap());
    }
    until(|| written.load(Ordering::SeqCst) >= 9 * 64 * 1024).await;
    settle().await;
    assert_eq!(written.load(Ordering::SeqCst), 9 * 64 * 1024, "a window for each, and no more");
    assert_eq!(text(send(&proxy, get("/small")).await.unwrap()).await, "ok");

    let mut read = 0;
    while read < 1024 * 1024 {
        read += slow[0].body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    settle().await;
    assert!(written.load(Ordering::SeqCst) <= 9 * 64 * 1024 + read);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_client_is_not_read_faster_than_the_upstream_reads() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, respond| async move {
        let _held = (request, respond);
        std::future::pending().await
    })
    .await;
    let (mut sender, body) = fed();
    let request = Request::post("/").header("host", "a").body(body).unwrap();
    let _answer = tokio::spawn(upstream.proxy().oneshot(request));
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while sender.send_data(Bytes::from_static(&[0; 16 * 1024])).await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });

    until(|| taken.load(Ordering::SeqCst) >= 4).await;
    settle().await;

    // The window is 64 KiB; one frame waits in the pump and one in the channel.
    assert!(taken.load(Ordering::SeqCst) <= 7, "{taken:?}");
}

/// An upstream that never answers, and tells for what reason each stream was reset.
async fn silent() -> (Upstream, mpsc::UnboundedReceiver<Reason>) {
    let (tell, told) = mpsc::unbounded_channel();
    let upstream = Upstream::answering(h2::server::Builder::new(), move |request, mut respond| {
        let tell = tell.clone();
        async move {
            if request.uri().path() == "/ok" {
                return ok(respond);
            }
            let mut stream = (request.uri().path() == "/body")
                .then(|| respond.send_response(Response::new(()), false).unwrap());
            let reason = match &mut stream {
                Some(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
                None => poll_fn(|cx| respond.poll_reset(cx)).await,
            };
            let _ = tell.send(reason.unwrap());
        }
    })
    .await;
    (upstream, told)
}

#[tokio::test]
async fn a_call_that_is_given_up_resets_its_own_stream_only() {
    let (upstream, mut told) = silent().await;
    let proxy = upstream.proxy();
    let other = send(&proxy, get("/body")).await.unwrap();

    {
        let mut answer = pin!(send(&proxy, get("/")));
        assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await.is_pending());
        assert_eq!(proxy.connections().streams, 2);
        settle().await;
    }
    assert_eq!(told.recv().await.unwrap(), Reason::CANCEL);
    assert_eq!(proxy.connections().streams, 1);

    let half = send(&proxy, get("/body")).await.unwrap();
    drop(half);
    assert_eq!(told.recv().await.unwrap(), Reason::CANCEL);
    assert_eq!(text(send(&proxy, get("/ok")).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 1);
    assert!(told.try_recv().is_err());

    // One with a body under way is no other.
    let (mut sender, body) = fed();
    let request = Request::post("/body").header("host", "a").body(body).unwrap();
    let answer = send(&proxy, request).await.unwrap();
    drop(answer);
    assert_eq!(told.recv().await.unwrap(), Reason::CANCEL);
    while sender.send_data(Bytes::from_static(b"more")).await.is_ok() {
        settle().await;
    }
    drop(other);
}

#[tokio::test]
async fn a_call_that_is_never_polled_gives_its_place_back() {
    let upstream = Upstream::ok().await;
    let proxy = upstream.proxy();
    drop(proxy.clone().call(get("/")));
    is_ok(&proxy).await;

    drop(proxy.clone().call(get("/")));

    assert_eq!(proxy.connections().streams, 0);
    is_ok(&proxy).await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn when_all_who_wait_for_a_connection_leave_it_is_not_opened() {
    // It accepts and says nothing.
    let upstream = support::Upstream::start(|_, wire| async move {
        let _wire = wire;
        std::future::pending().await
    })
    .await;
    let proxy = upstream.proxy().http2();
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(proxy.clone().oneshot(get("/")))).collect();
    until(|| upstream.accepted() == 1).await;
    calls[0].abort();
    settle().await;
    assert_eq!(proxy.connections().open, 1, "two still wait");

    calls.iter().for_each(|call| call.abort());
    until(|| proxy.connections().open == 0).await;
}

#[tokio::test]
async fn a_refused_stream_was_not_processed_whatever_was_sent() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, mut respond| async move {
        if request.method() == "POST" {
            // Its body was on its way, and still nobody has looked at it.
            let _ = request.into_body().data().await;
        }
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = upstream.proxy();

    for request in [get("/"), post("hello")] {
        let error = send(&proxy, request).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
        assert!(error.nothing_sent());
        assert_eq!(error.upstream(), Some(proxy.upstream()));
    }
    assert_eq!(upstream.accepted(), 1, "an upstream that refuses is not asked again at once");
}

#[tokio::test]
async fn any_other_reset_may_have_been_processed() {
    for reason in
        [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::HTTP_1_1_REQUIRED]
    {
        let upstream = Upstream::answering(h2::server::Builder::new(), move |_, mut respond| async move {
            respond.send_reset(reason);
        })
        .await;
        let proxy = upstream.proxy();

        let error = send(&proxy, get("/")).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Reset, "{error:?}");
        assert!(!error.nothing_sent());
        assert_eq!(proxy.connections().open, 1, "the connection is as good as before");
    }
}

/// On each connection answers `/ok`, answers `/late` when told to, and leaves with a GOAWAY at the first request to
/// `/leave`, saying that the one before it was the last.
async fn leaving() -> (Upstream, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let upstream = Upstream::start(move |number, socket| {
        let told = told.clone();
        async move {
            let mut wire = frames::Server::accept(socket).await;
            let mut last = 0;
            let mut late = None;
            loop {
                tokio::select! {
                    request = wire.request() => {
                        let Some((stream, first)) = request else { return };
                        match first {
                            frames::First::Get if late.is_none() && number == 1 => {
                                (late, last) = (Some(stream), stream);
                            }
                            _ if number == 1 => wire.go_away(last).await,
                            _ => wire.ok(stream).await,
                        }
                    }
                    () = told.notified(), if late.is_some() => wire.ok(late.unwrap()).await,
                }
            }
        }
    })
    .await;
    (upstream, go)
}

/// Just so much of HTTP/2 as a test needs to do what no server would.
mod frames {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    pub(super) enum First {
        Get,
        Post,
    }

    pub(super) struct Server(TcpStream, Vec<u8>);

    impl Server {
        pub(super) async fn accept(mut socket: TcpStream) -> Self {
            let mut preface = [0; 24];
            socket.read_exact(&mut preface).await.unwrap();
            assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            let mut server = Self(socket, Vec::new());
            server.send(4, 0, 0, &[]).await;
            server
        }

        pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
            frame.extend([kind, flags]);
            frame.extend(stream.to_be_bytes());
            frame.extend(payload);
            let _ = self.0.write_all(&frame).await;
        }

        /// The next frame: its kind, flags and stream. Nothing is lost when it is not waited for.
        async fn frame(&mut self) -> Option<(u8, u8, u32)> {
            loop {
                if self.1.len() >= 9 {
                    let length = u32::from_be_bytes([0, self.1[0], self.1[1], self.1[2]]) as usize;
                    if self.1.len() >= 9 + length {
                        let head: Vec<u8> = self.1.drain(..9 + length).take(9).collect();
                        return Some((head[3], head[4], u32::from_be_bytes(head[5..9].try_into().unwrap())));
                    }
                }
                if self.0.read_buf(&mut self.1).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        }

        /// The next request: one without a body is a GET. Answers settings and pings in between.
        pub(super) async fn request(&mut self) -> Option<(u32, First)> {
            loop {
                let (kind, flags, stream) = self.frame().await?;
                match kind {
                    1 if flags & 1 != 0 => return Some((stream, First::Get)),
                    1 => return Some((stream, First::Post)),
                    4 if flags & 1 == 0 => self.send(4, 1, 0, &[]).await,
                    _ => {}
                }
            }
        }

        pub(super) async fn ok(&mut self, stream: u32) {
            // `:status: 200` is entry 8 of the static table.
            self.send(1, 4, stream, &[0x88]).await;
            self.send(0, 1, stream, b"ok").await;
        }

        pub(super) async fn go_away(&mut self, last: u32) {
            let mut payload = last.to_be_bytes().to_vec();
            payload.extend([0; 4]);
            self.send(7, 0, 0, &payload).await;
        }
    }
}

#[tokio::test]
async fn above_the_last_stream_of_a_goaway_nothing_was_processed_and_those_below_go_on() {
    let (upstream, go) = leaving().await;
    let proxy = upstream.proxy();
    let late = tokio::spawn(proxy.clone().oneshot(get("/late")));
    until(|| proxy.connections().streams == 1).await;
    settle().await;

    // It has a body, of which some was taken: whether to send it again is not ours to say.
    let error = send(&proxy, post("hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    assert!(error.nothing_sent());

    // The next one goes to another connection, while the first still has its call.
    is_ok(&proxy).await;
    assert_eq!((upstream.accepted(), proxy.connections().open), (2, 2));
    go.notify_one();
    assert_eq!(text(late.await.unwrap().unwrap()).await, "ok");
    settle().await;
    assert_eq!((upstream.accepted(), proxy.connections().open), (2, 1));
}

#[tokio::test]
async fn a_request_without_a_body_that_met_a_goaway_is_sent_once_more_on_a_fresh_connection() {
    let (upstream, go) = leaving().await;
    let proxy = upstream.proxy();
    let late = tokio::spawn(proxy.clone().oneshot(get("/late")));
    until(|| proxy.connections().streams == 1).await;
    settle().await;

    is_ok(&proxy).await;

    assert_eq!(upstream.accepted(), 2);
    go.notify_one();
    assert_eq!(text(late.await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let upstream = Upstream::start(|_, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        let (stream, _) = wire.request().await.unwrap();
        wire.ok(stream).await;
    })
    .await;
    let proxy = upstream.proxy();

    for number in 1..4 {
        is_ok(&proxy).await;
        settle().await;
        assert_eq!(upstream.accepted(), number);
    }
}

/// An upstream on a thread of its own: it answers one request on each connection, and then waits to be told to close it.
fn thread_upstream() -> (std::net::SocketAddr, std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = std::sync::mpsc::channel();
    let (confirm, confirmed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while closed.recv().is_ok() {
            let (mut stream, _) = listener.accept().unwrap();
            // Settings, and the acknowledgement of the client's.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).unwrap();
            let mut frames = vec![0; 24];
            stream.read_exact(&mut frames).unwrap();
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).unwrap();
                let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                stream.read_exact(&mut payload).unwrap();
                if head[3] == 1 {
                    break;
                }
            }
            // `:status: 200`, and the body, on the first stream.
            stream
                .write_all(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88, 0, 0, 2, 0, 1, 0, 0, 0, 1, b'o', b'k'])
                .unwrap();
            if closed.recv().is_err() {
                break;
            }
            drop(stream);
            confirm.send(()).unwrap();
        }
    });
    (address, close, confirmed)
}

#[tokio::test]
async fn a_request_that_was_not_written_when_the_connection_was_found_dead_goes_to_a_fresh_one() {
    let (address, upstream, confirmed) = thread_upstream();
    let proxy = Proxy::<TestBody>::to(address).unwrap().http2();
    upstream.send(()).unwrap();
    is_ok(&proxy).await;
    settle().await;

    // The end has arrived, and the task of the connection has not had its turn yet.
    upstream.send(()).unwrap();
    confirmed.recv().unwrap();
    tokio::task::yield_now().await;
    let answer = proxy.clone().call(get("/"));
    assert!(format!("{answer:?}").contains("waiting"), "the dead connection was taken: {answer:?}");
    upstream.send(()).unwrap();

    assert_eq!(text(answer.await.unwrap()).await, "ok");
}

#[tokio::test]
async fn with_a_body_it_fails_and_nothing_was_sent() {
    let (address, upstream, confirmed) = thread_upstream();
    let proxy = Proxy::<TestBody>::to(address).unwrap().http2();
    upstream.send(()).unwrap();
    is_ok(&proxy).await;
    settle().await;

    upstream.send(()).unwrap();
    confirmed.recv().unwrap();
    tokio::task::yield_now().await;
    let error = send(&proxy, post("hello")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    assert!(error.nothing_sent());
}

#[tokio::test]
async fn a_connection_that_ends_under_a_request_may_have_carried_it() {
    for reset in [false, true] {
        let upstream = Upstream::start(move |_, socket| async move {
            if reset {
                socket.set_zero_linger().unwrap();
            }
            let mut wire = frames::Server::accept(socket).await;
            wire.request().await;
        })
        .await;
        let proxy = upstream.proxy();

        let error = send(&proxy, get("/")).await.unwrap_err();

        let kind = if reset { ErrorKind::Reset } else { ErrorKind::Closed };
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(!error.nothing_sent());
        assert_eq!(proxy.connections().streams, 0);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_body() {
    for (end, kind) in [
        (Some(Reason::INTERNAL_ERROR), ErrorKind::Reset),
        // Half of what was promised is no whole answer, whatever the reset says.
        (Some(Reason::NO_ERROR), ErrorKind::Reset),
        (None, ErrorKind::Incomplete),
    ] {
        let upstream = Upstream::start(move |_, socket| async move {
            let mut wire = frames::Server::accept(socket).await;
            let (stream, _) = wire.request().await.unwrap();
            // `content-length: 9`, its name from the static table.
            wire.send(1, 4, stream, &[0x88, 0x0f, 0x0d, 1, b'9']).await;
            wire.send(0, 0, stream, b"ok").await;
            settle().await;
            if let Some(reason) = end {
                wire.send(3, 0, stream, &u32::from(reason).to_be_bytes()).await;
                wire.request().await;
            }
        })
        .await;
        let proxy = upstream.proxy();

        let response = send(&proxy, get("/")).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();

        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(!error.nothing_sent());
        assert_eq!(error.upstream(), Some(proxy.upstream()));
    }
}

#[tokio::test]
async fn an_answer_of_unknown_length_that_is_reset_is_not_whole_whatever_the_reset_says() {
    let upstream = Upstream::start(|_, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        let (stream, _) = wire.request().await.unwrap();
        wire.send(1, 4, stream, &[0x88]).await;
        wire.send(0, 0, stream, b"half").await;
        wire.send(3, 0, stream, &[0; 4]).await;
        wire.request().await;
    })
    .await;

    let response = send(&upstream.proxy(), get("/")).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Reset, "{error:?}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_whole_when_the_upstream_wants_no_more() {
    let upstream = Upstream::start(|_, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        let (stream, _) = wire.request().await.unwrap();
        // `:status: 413`, its name from the static table.
        wire.send(1, 4, stream, &[0x08, 3, b'4', b'1', b'3']).await;
        wire.send(0, 1, stream, b"too much").await;
        wire.send(3, 0, stream, &[0; 4]).await;
        wire.request().await;
    })
    .await;
    let proxy = upstream.proxy();
    let (mut sender, body) = fed();
    let request = Request::post("/").header("host", "a").body(body).unwrap();

    let response = send(&proxy, request).await.unwrap();

    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "too much");
    while sender.send_data(Bytes::from_static(b"more")).await.is_ok() {
        settle().await;
    }
    assert_eq!((proxy.connections().streams, proxy.connections().open), (0, 1));
}

#[tokio::test]
async fn a_clients_body_that_fails_or_is_not_as_long_as_it_said_resets_its_stream() {
    for (length, data, abort) in
        [(None, "hello", true), (Some("10"), "hello", false), (Some("3"), "hello", false)]
    {
        let (upstream, mut told) = silent().await;
        let proxy = upstream.proxy();
        let (mut sender, body) = fed();
        let mut request = Request::post("/").header("host", "a").body(body).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let answer = tokio::spawn(proxy.clone().oneshot(request));
        sender.send_data(Bytes::from(data)).await.unwrap();
        if abort {
            sender.abort(std::io::Error::other("the client is gone"));
        } else {
            drop(sender);
        }

        let error = answer.await.unwrap().unwrap_err();

        assert_eq!(error.kind(), ErrorKind::RequestBody, "{error:?}");
        assert_eq!(told.recv().await.unwrap(), Reason::CANCEL);
        assert_eq!((proxy.connections().streams, proxy.connections().open), (0, 1));
    }
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let upstream = Upstream::start(|_, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        while let Some((stream, _)) = wire.request().await {
            // `:status: 103`, its name from the static table.
            wire.send(1, 4, stream, &[0x08, 3, b'1', b'0', b'3']).await;
            wire.ok(stream).await;
        }
    })
    .await;

    is_ok(&upstream.proxy()).await;
}

#[tokio::test]
async fn what_does_not_speak_http2_is_an_error_before_anything_is_sent() {
    let http1 = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for (greeting, kind) in [
        (http1, ErrorKind::BadResponse),
        ("garbage that is longer than a frame has a head", ErrorKind::BadResponse),
        ("", ErrorKind::Connect),
    ] {
        let upstream = support::Upstream::start(move |_, mut wire: Wire| async move {
            wire.bytes(24).await;
            wire.send(greeting).await;
        })
        .await;
        let proxy = upstream.proxy().http2();

        let error = send(&proxy, post("secret")).await.unwrap_err();

        assert_eq!(error.kind(), kind, "{greeting}: {error:?}");
        assert!(error.nothing_sent());
        assert_eq!(error.upstream(), Some(proxy.upstream()));
        settle().await;
        assert_eq!(proxy.connections().open, 0);
    }
}

#[tokio::test]
async fn an_upstream_that_sends_no_settings_is_a_connect_timeout_for_all_who_wait() {
    let upstream = support::Upstream::start(|_, wire| async move {
        let _wire = wire;
        std::future::pending().await
    })
    .await;
    let time = ManualClock::new();
    let proxy = upstream.proxy().http2().clock(time.clock());
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(proxy.clone().oneshot(get("/")))).collect();
    until(|| upstream.accepted() == 1).await;
    settle().await;

    time.advance(Duration::from_secs(1));

    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
        assert!(error.nothing_sent());
    }
    until(|| proxy.connections().open == 0).await;
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_for_all_who_wait() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::<TestBody>::to(nobody).unwrap().http2();

    let (one, other) = tokio::join!(send(&proxy, get("/")), send(&proxy, get("/")));

    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.nothing_sent());
        assert!(!error.to_string().contains("127.0.0.1"), "the text may be shown to a client: {error}");
    }
    assert_eq!(proxy.connections().open, 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_no_answer() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |_, mut respond| async move {
        let head =
            Response::builder().header("x-huge", "x".repeat(60_000)).header("x-more", "x".repeat(60_000));
        let _ = respond.send_response(head.body(()).unwrap(), true);
    })
    .await;
    let proxy = upstream.proxy();

    let error = send(&proxy, get("/")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::BadResponse, "{error:?}");
    assert!(!error.nothing_sent());
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_no_answer_and_its_connection_is_left() {
    let upstream = Upstream::start(|number, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        while let Some((stream, _)) = wire.request().await {
            if number == 1 {
                // DATA before HEADERS.
                wire.send(0, 1, stream, b"ok").await;
            } else {
                wire.ok(stream).await;
            }
        }
    })
    .await;
    let proxy = upstream.proxy();

    let error = send(&proxy, get("/")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::BadResponse, "{error:?}");
    assert!(!error.nothing_sent());
    settle().await;
    is_ok(&proxy).await;
}

#[tokio::test]
async fn a_connection_opened_ahead_is_there_for_the_first_request_and_counts_while_it_has_room() {
    let upstream = Upstream::ok().await;
    let time = ManualClock::new();
    let proxy = upstream.proxy().clock(time.clock()).preconnect(1).idle_timeout(Duration::from_secs(10));

    proxy.warm_up().await.unwrap();
    assert_eq!((upstream.accepted(), proxy.connections().idle), (1, 1));
    is_ok(&proxy).await;
    settle().await;
    time.advance(Duration::from_millis(100));
    settle().await;
    assert_eq!(upstream.accepted(), 1);

    time.advance(Duration::from_secs(10));
    settle().await;
    time.advance(Duration::from_millis(100));
    until(|| upstream.accepted() == 2).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time_and_one_in_use_is_not() {
    let time = ManualClock::new();
    let (upstream, _told) = silent().await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(10));
    let held = send(&proxy, get("/body")).await.unwrap();
    for _ in 0..5 {
        time.advance(Duration::from_secs(10));
        settle().await;
    }
    assert_eq!((proxy.connections().open, proxy.connections().streams), (1, 1));
    drop(held);
    settle().await;

    for second in 1..10 {
        time.advance(Duration::from_secs(1));
        settle().await;
        assert_eq!(proxy.connections().idle, 1, "{second} s after the last request");
    }
    time.advance(Duration::from_secs(1));
    until(|| proxy.connections().open == 0).await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_more_requests_and_ends_with_its_last() {
    let time = ManualClock::new();
    let (upstream, _told) = silent().await;
    let proxy = upstream.proxy().clock(time.clock()).max_age(Duration::from_secs(100));
    let held = send(&proxy, get("/body")).await.unwrap();
    time.advance(Duration::from_secs(80));
    settle().await;
    assert_eq!(text(send(&proxy, get("/ok")).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 1);

    time.advance(Duration::from_secs(20));
    settle().await;
    assert_eq!(text(send(&proxy, get("/ok")).await.unwrap()).await, "ok");

    assert_eq!((upstream.accepted(), proxy.connections().open), (2, 2));
    drop(held);
    until(|| proxy.connections().open == 1).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_more_gets_no_more_calls() {
    let time = ManualClock::new();
    let upstream = Upstream::start(|number, socket| async move {
        let mut wire = frames::Server::accept(socket).await;
        let mut answered = 0;
        while let Some((stream, _)) = wire.request().await {
            answered += 1;
            // The first connection dies after one answer, and nobody notices.
            if number == 2 || answered == 1 {
                wire.ok(stream).await;
            }
        }
    })
    .await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(1000));
    is_ok(&proxy).await;

    let given_up = tokio::spawn(proxy.clone().oneshot(get("/")));
    until(|| proxy.connections().streams == 1).await;
    settle().await;
    given_up.abort();
    until(|| proxy.connections().streams == 0).await;
    time.advance(Duration::from_millis(999));
    let waiting = tokio::spawn(proxy.clone().oneshot(get("/")));
    until(|| proxy.connections().streams == 1).await;
    assert_eq!(upstream.accepted(), 1, "there was not enough time for a sign of life");

    time.advance(Duration::from_millis(1));
    is_ok(&proxy).await;

    assert_eq!(upstream.accepted(), 2);
    waiting.abort();
}

#[tokio::test]
async fn a_connection_that_gives_a_sign_of_life_is_kept_though_calls_on_it_are_given_up() {
    let time = ManualClock::new();
    let (upstream, mut told) = silent().await;
    let proxy = upstream.proxy().clock(time.clock()).idle_timeout(Duration::from_secs(1000));

    for _ in 0..3 {
        let given_up = tokio::spawn(proxy.clone().oneshot(get("/")));
        until(|| proxy.connections().streams == 1).await;
        settle().await;
        given_up.abort();
        // The reset and the ping go out; `h2` answers the ping.
        told.recv().await.unwrap();
        settle().await;
        time.advance(Duration::from_secs(2));
    }

    assert_eq!(text(send(&proxy, get("/ok")).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_at_any_point_disturb_no_other_and_leave_nothing_behind() {
    let upstream = Upstream::answering(h2::server::Builder::new(), |request, mut respond| async move {
        let path = request.uri().path().to_owned();
        if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
            let _ = stream.send_data(path.into(), true);
        }
    })
    .await;
    let proxy = upstream.proxy();

    let clients: Vec<_> = (0..8_usize)
        .map(|client| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for number in 0..120 {
                    let target = format!("/{client}/{number}");
                    let request = if number % 2 == 0 { get(&target) } else { put(&target) };
                    let mut answer = Box::pin(proxy.clone().call(request));
                    if number % 3 == 0 {
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
                        assert_eq!(text(response).await, target);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(proxy.connections().streams, 0);
    assert_eq!(upstream.accepted(), 1);
}

fn put(target: &str) -> Request<TestBody> {
    Request::put(target).header("host", "shop.example").body(body("hello")).unwrap()
}
