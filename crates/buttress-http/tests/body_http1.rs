//! What the guard is told when hyper serves, and reads, HTTP/1.

mod support;

use std::net::Ipv4Addr;
use std::sync::Mutex;

use buttress_http::body::Tracked;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{Record, Scripted, Step, Told, body, finish, recorder, trailers};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Serves one request on `io` with `response`, followed to its end.
fn serve_on<B>(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    response: Response<B>,
) -> (Record, JoinHandle<hyper::Result<()>>)
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (guard, record) = recorder();
    let once = Mutex::new(Some((response, guard)));
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (response, guard) = once.lock().unwrap().take().expect("one request");
        let response = finish(request.method(), response, guard);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    (record, tokio::spawn(server))
}

/// One request to a server with this response; gives the client's end.
async fn request<B>(
    method: &str,
    response: Response<B>,
) -> (DuplexStream, Record, JoinHandle<hyper::Result<()>>)
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (mut client, server) = duplex(1024);
    let (record, server) = serve_on(server, response);
    client.write_all(asking(method).as_bytes()).await.unwrap();
    (client, record, server)
}

fn asking(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\nte: trailers\r\n\r\n")
}

/// Reads to the end: what came after the head.
async fn read_body(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    all.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

/// Reads until the answer so far ends with this.
async fn read_until(client: &mut (impl AsyncRead + Unpin), end: &str) {
    let mut all = String::new();
    while !all.ends_with(end) {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        all.push(byte[0].into());
    }
}

fn with_length(length: u64, body: Scripted) -> Response<Scripted> {
    Response::builder().header("content-length", length).body(body).unwrap()
}

#[tokio::test]
async fn a_chunked_body_is_complete() {
    let response = Response::new(body([Step::Data("ab"), Step::Data("c")]));
    let (mut client, record, _) = request("GET", response).await;

    assert_eq!(read_body(&mut client).await, "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");

    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn a_stream_with_a_declared_length_is_complete_though_hyper_never_polls_its_end() {
    // A further poll would end the connection with an error.
    let response = with_length(3, body([Step::Data("ab"), Step::Data("c"), Step::Fail]));
    let (mut client, record, server) = request("GET", response).await;

    assert_eq!(read_body(&mut client).await, "abc");

    assert_eq!(record.all().await, [Told::Complete]);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_knows_its_length_is_complete_though_hyper_never_polls_its_end() {
    let response = Response::new(body([Step::Data("ab"), Step::Data("c"), Step::Fail]).exact(3));
    let (mut client, record, server) = request("GET", response).await;

    assert_eq!(read_body(&mut client).await, "abc");

    assert_eq!(record.all().await, [Told::Complete]);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn full_is_complete() {
    let (mut client, record, _) =
        request("GET", Response::new(Full::new(Bytes::from_static(b"hello")))).await;

    assert_eq!(read_body(&mut client).await, "hello");

    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn the_answer_to_head_is_over_at_the_head_whatever_its_body() {
    for response in [
        Response::new(body([Step::Fail])),
        Response::new(body([Step::Data("abc"), Step::Fail]).exact(3)),
        with_length(3, body([Step::Data("abc"), Step::Fail])),
    ] {
        let (mut client, record, server) = request("HEAD", response).await;

        assert_eq!(read_body(&mut client).await, "");

        assert_eq!(record.all().await, [Told::Head]);
        server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn answers_without_content_are_complete() {
    for status in [204, 304] {
        let response = Response::builder().status(status).body(body([Step::Fail])).unwrap();
        let (mut client, record, _) = request("GET", response).await;

        assert_eq!(read_body(&mut client).await, "");

        assert_eq!(record.all().await, [Told::Complete], "{status}");
    }
}

#[tokio::test]
async fn trailers_are_told() {
    let response = Response::builder().header("trailer", "x-end");
    let response = response.body(body([Step::Data("a"), Step::Trailers("done")])).unwrap();
    let (mut client, record, _) = request("GET", response).await;

    assert_eq!(read_body(&mut client).await, "1\r\na\r\n0\r\nx-end: done\r\n\r\n");

    assert_eq!(record.all().await, [Told::Trailers(trailers("done"))]);
}

#[tokio::test]
async fn a_client_that_goes_away_aborts() {
    for response in [
        Response::new(body([Step::Data("a"), Step::Stall])),
        with_length(2, body([Step::Data("a"), Step::Stall])),
    ] {
        let (mut client, mut record, _) = request("GET", response).await;
        let mut head = [0; 16];
        client.read_exact(&mut head).await.unwrap();
        assert!(record.is_held());

        drop(client);

        assert_eq!(record.all().await, [Told::Aborted]);
    }
}

#[tokio::test]
async fn an_error_in_the_middle_fails() {
    let response = with_length(9, body([Step::Data("abc"), Step::Fail]));
    let (client, record, server) = request("GET", response).await;

    assert_eq!(record.all().await, [Told::Failed]);

    assert!(server.await.unwrap().is_err());
    drop(client);
}

#[tokio::test]
async fn a_panic_in_the_body_fails() {
    let response = with_length(9, body([Step::Data("abc"), Step::Panic]));
    let (client, record, server) = request("GET", response).await;

    assert_eq!(record.all().await, [Told::Failed]);

    assert!(server.await.unwrap_err().is_panic());
    drop(client);
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_the_guard_once_all_was_handed_out() {
    let response = Response::new(Full::new(Bytes::from(vec![b'x'; 64 << 10])));
    let (mut client, record, _) = request("GET", response).await;

    assert_eq!(record.all().await, [Told::Complete], "before the client has read a byte");

    assert_eq!(read_body(&mut client).await.len(), 64 << 10);
}

/// Speaks to a raw server that sends this answer and then closes; gives the answer, followed to its end.
async fn answered(
    answer: &'static str,
    method: Method,
) -> (Response<Tracked<hyper::body::Incoming, support::Recorder>>, Record) {
    let (client, mut server) = duplex(1024);
    tokio::spawn(async move {
        read_until(&mut server, "\r\n\r\n").await;
        server.write_all(answer.as_bytes()).await.unwrap();
    });
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(&method).uri("/").body(Full::<Bytes>::default()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let (guard, record) = recorder();
    (finish(&method, response, guard), record)
}

#[tokio::test]
async fn a_client_sees_an_upstream_with_a_length_complete_with_the_last_byte() {
    let (response, mut record) =
        answered("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", Method::GET).await;
    let mut body = response.into_body();
    assert!(record.is_held());

    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");

    assert_eq!(record.so_far(), Some(vec![Told::Complete]));
}

#[tokio::test]
async fn a_client_sees_a_chunked_upstream_complete_with_its_trailers() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n1\r\na\r\n0\r\nx-end: done\r\n\r\n";
    let (response, record) = answered(answer, Method::GET).await;

    let collected = response.into_body().collect().await.unwrap();

    assert_eq!(collected.trailers(), Some(&trailers("done")));
    assert_eq!(record.all().await, [Told::Trailers(trailers("done"))]);
}

#[tokio::test]
async fn a_client_sees_the_answer_to_head_over_at_the_head() {
    let (_response, record) = answered("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Method::HEAD).await;

    assert_eq!(record.all().await, [Told::Head]);
}

#[tokio::test]
async fn a_client_sees_an_upstream_that_breaks_off_fail() {
    let (response, record) = answered("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", Method::GET).await;

    assert!(response.into_body().collect().await.is_err());

    assert_eq!(record.all().await, [Told::Failed]);
}

#[tokio::test]
async fn a_client_that_stops_reading_its_upstream_aborts() {
    let (response, record) = answered("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", Method::GET).await;

    drop(response);

    assert_eq!(record.all().await, [Told::Aborted]);
}

/// The same over a real socket.
async fn over_tcp(response: Response<Scripted>) -> (TcpStream, Record) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(asking("GET").as_bytes()).await.unwrap();
    let (record, _) = serve_on(listener.accept().await.unwrap().0, response);
    (client, record)
}

#[tokio::test]
async fn over_tcp_a_chunked_body_and_one_with_a_length_are_complete() {
    for response in
        [Response::new(body([Step::Data("abc")])), with_length(3, body([Step::Data("abc"), Step::Fail]))]
    {
        let (mut client, record) = over_tcp(response).await;

        assert!(read_body(&mut client).await.contains("abc"));

        assert_eq!(record.all().await, [Told::Complete]);
    }
}

#[tokio::test]
async fn over_tcp_a_client_that_goes_away_aborts() {
    let (mut client, mut record) = over_tcp(Response::new(body([Step::Data("abc"), Step::Stall]))).await;
    read_until(&mut client, "abc\r\n").await;
    assert!(record.is_held());

    drop(client);

    assert_eq!(record.all().await, [Told::Aborted]);
}
