//! What the guard is told when hyper serves, and reads, HTTP/2.

mod support;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Gate, Record, Recorder, Scripted, Step, Told, body, finish, recorder, trailers};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional, duplex};
use tokio::net::{TcpListener, TcpStream};

type Client = SendRequest<Empty<Bytes>>;
type Reply = Response<Either<Full<Bytes>, Scripted>>;

/// A server on one end that gives `response`, followed to its end by `guard`; a client on the other.
async fn connect<Io>((client, server): (Io, Io), response: Reply, guard: Option<Recorder>) -> Client
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let once = Arc::new(Mutex::new(Some((response, guard))));
    let service = service_fn(move |request: Request<Incoming>| {
        let (response, guard) = once.lock().unwrap().take().expect("one request");
        let response = match guard {
            Some(guard) => finish(request.method(), response, guard).map(Either::Left),
            None => response.map(Either::Right),
        };
        async move { Ok::<_, Infallible>(response) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1_000);
    let (client, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// One request to a server that follows this response to its end.
async fn request(method: Method, response: Reply) -> (Response<Incoming>, Record, Client) {
    let (guard, record) = recorder();
    let mut client = connect(duplex(1024), response, Some(guard)).await;
    let response = client.send_request(asking(method)).await.unwrap();
    (response, record, client)
}

fn asking(method: Method) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri("http://a.example/").body(Empty::new()).unwrap()
}

fn streaming<const N: usize>(steps: [Step; N]) -> Reply {
    Response::new(Either::Right(body(steps)))
}

#[tokio::test]
async fn a_stream_is_complete() {
    let (response, record, _client) =
        request(Method::GET, streaming([Step::Data("ab"), Step::Data("c")])).await;

    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");

    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn full_is_complete() {
    let response = Response::new(Either::Left(Full::new(Bytes::from_static(b"hello"))));
    let (response, record, _client) = request(Method::GET, response).await;

    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");

    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn a_stream_with_a_declared_length_is_complete_though_the_client_has_no_window_left() {
    const LARGE: &str = match std::str::from_utf8(&[b'x'; 100_000]) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    };
    let mut response = streaming([Step::Data(LARGE)]);
    response.headers_mut().insert("content-length", LARGE.len().into());

    let (response, record, _client) = request(Method::GET, response).await;

    assert_eq!(record.all().await, [Told::Complete], "the client has read nothing");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), LARGE.len());
}

#[tokio::test]
async fn the_answer_to_head_is_over_at_the_head() {
    let response = Response::new(Either::Left(Full::new(Bytes::from_static(b"hello"))));

    let (_response, record, _client) = request(Method::HEAD, response).await;

    assert_eq!(record.all().await, [Told::Head]);
}

#[tokio::test]
async fn trailers_are_told() {
    let (response, record, _client) =
        request(Method::GET, streaming([Step::Data("a"), Step::Trailers("done")])).await;

    assert_eq!(response.into_body().collect().await.unwrap().trailers(), Some(&trailers("done")));

    assert_eq!(record.all().await, [Told::Trailers(trailers("done"))]);
}

#[tokio::test]
async fn the_trailers_of_grpc_are_told_even_behind_a_length() {
    let mut response = streaming([Step::Data("a"), Step::Trailers("done")]);
    response.headers_mut().insert("content-length", 1.into());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());

    let (response, record, _client) = request(Method::POST, response).await;
    response.into_body().collect().await.unwrap();

    assert_eq!(record.all().await, [Told::Trailers(trailers("done"))]);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_aborted() {
    let (response, mut record, _client) =
        request(Method::GET, streaming([Step::Data("a"), Step::Stall])).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    assert!(record.is_held());

    drop(body); // RST_STREAM(CANCEL)

    assert_eq!(record.all().await, [Told::Aborted]);
}

#[tokio::test]
async fn a_stream_whose_connection_is_lost_is_aborted() {
    let (guard, mut record) = recorder();
    let ((client, mut near), (mut far, server)) = (duplex(1024), duplex(1024));
    let wire = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
    let mut client = connect((client, server), streaming([Step::Data("a"), Step::Stall]), Some(guard)).await;
    let _response = client.send_request(asking(Method::GET)).await.unwrap();
    assert!(record.is_held());

    wire.abort();

    assert_eq!(record.all().await, [Told::Aborted]);
}

#[tokio::test]
async fn an_error_in_the_middle_fails() {
    let gate = Gate::default();
    let steps = [Step::Data("a"), Step::Gate(gate.clone()), Step::Fail];
    let (response, record, _client) = request(Method::GET, streaming(steps)).await;

    gate.open();

    assert_eq!(record.all().await, [Told::Failed]);
    assert!(response.into_body().collect().await.is_err());
}

/// The other side: a client follows what a plain server answers.
async fn answered(
    response: Reply,
) -> (Response<buttress_http::body::Tracked<Incoming, Recorder>>, Record, Client) {
    let (guard, record) = recorder();
    let mut client = connect(duplex(1024), response, None).await;
    let response = client.send_request(asking(Method::GET)).await.unwrap();
    (finish(&Method::GET, response, guard), record, client)
}

#[tokio::test]
async fn a_client_sees_an_upstream_complete() {
    let (response, record, _client) = answered(streaming([Step::Data("ab"), Step::Data("c")])).await;

    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");

    assert_eq!(record.all().await, [Told::Complete]);
}

#[tokio::test]
async fn a_client_sees_the_trailers_of_its_upstream() {
    let (response, record, _client) = answered(streaming([Step::Data("a"), Step::Trailers("done")])).await;

    response.into_body().collect().await.unwrap();

    assert_eq!(record.all().await, [Told::Trailers(trailers("done"))]);
}

#[tokio::test]
async fn a_client_sees_an_upstream_that_resets_fail() {
    let gate = Gate::default();
    let steps = [Step::Data("a"), Step::Gate(gate.clone()), Step::Fail];
    let (response, record, _client) = answered(streaming(steps)).await;

    gate.open();

    assert!(response.into_body().collect().await.is_err());

    assert_eq!(record.all().await, [Told::Failed]);
}

#[tokio::test]
async fn over_tcp_a_stream_is_complete_and_a_reset_one_aborted() {
    for (steps, told) in [
        ([Step::Data("a"), Step::Data("b")], Told::Complete),
        ([Step::Data("a"), Step::Stall], Told::Aborted),
    ] {
        let (guard, record) = recorder();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let mut client = connect((client, server), streaming(steps), Some(guard)).await;
        let mut body = client.send_request(asking(Method::GET)).await.unwrap().into_body();

        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        if told == Told::Aborted {
            drop(body);
        } else {
            body.collect().await.unwrap();
        }

        assert_eq!(record.all().await, [told]);
    }
}
